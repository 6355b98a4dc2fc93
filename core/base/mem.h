/* SPDX-License-Identifier: MIT */
/* mem.h - allocation that does not fail: out of memory ends the process with a message.
 *
 * Sizes a peer can choose meet a limit before they come here. Any thread. Owned by the caller, given back by free().
 */
#ifndef COUPLET_MEM_H
#define COUPLET_MEM_H

#include <stddef.h>
#include <stdint.h>

void *mem_alloc(size_t size) __attribute__((malloc, returns_nonnull));
void *mem_zero(size_t size) __attribute__((malloc, returns_nonnull));      /* filled with 0 */
void *mem_resize(void *p, size_t size) __attribute__((returns_nonnull));
char *mem_copy(const void *p, size_t size) __attribute__((malloc, returns_nonnull)); /* a NUL is put behind it */

/* Fills with 0 in a way the compiler keeps: for secrets, before they are freed. */
void mem_wipe(void *p, size_t size);

/* Fetches what will be wanted soon into the cache; p may be anything. */
static inline void mem_prefetch(const void *p, size_t size)
{
	for (size_t at = 0; at < size; at += 64)
		__builtin_prefetch((const void *)((uintptr_t)p + at), 1);
}

/* Compares in a time that depends on size alone. 1: equal. */
int mem_equal(const void *a, const void *b, size_t size);

#endif
