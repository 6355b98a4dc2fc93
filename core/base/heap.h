/* SPDX-License-Identifier: MIT */
/* heap.h - memory for the many small objects of one Lua state, in runs of equal ones: no header per object, no search, and
 * a run that is empty again gives its pages back.
 *
 * One thread at a time. Blocks it did not make, and large ones, go to the function it was given: so it can take over a
 * state that already lives.
 */
#ifndef COUPLET_HEAP_H
#define COUPLET_HEAP_H

#include <stdbool.h>
#include <stddef.h>

struct heap;

typedef void *(*heap_other)(void *arg, void *p, size_t old_size, size_t size);      /* as lua_Alloc */

/* Owned by the caller. NULL if there is no address space for it. */
struct heap *heap_new(heap_other other, void *arg);

/* A lua_Alloc; arg is the heap. */
void *heap_alloc(void *arg, void *p, size_t old_size, size_t size);

/* Gives the pages of some empty runs back to the system, neighbours together. Returns their bytes; 0: there were none. */
size_t heap_trim(struct heap *h);

/* Bytes in runs, and of these in objects. */
void heap_count(const struct heap *h, size_t *held, size_t *used);

/* All of it: nothing made by it may be used any more. */
void heap_free(struct heap **h);

#endif
