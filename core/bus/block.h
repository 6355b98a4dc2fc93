/* SPDX-License-Identifier: MIT */
/* block.h - serialised output: an immutable, counted run of bytes that any number of connections may hold.
 *
 * Fan-out serialises once; what differs per recipient is patched in at `hole`, the place of the top element's `to` value.
 * Any thread: the count is atomic, the bytes never change after block_new().
 */
#ifndef COUPLET_BLOCK_H
#define COUPLET_BLOCK_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/str.h"

struct block {
	atomic_uint refs;
	uint32_t len;
	uint32_t hole;          /* offset where a recipient's `to` attribute may be written; 0: none */
	char bytes[];
};

struct block *block_new(struct str bytes, uint32_t hole);   /* one reference, the caller's; bytes are copied */
struct block *block_ref(struct block *b);
void block_unref(struct block **b);                         /* sets *b to NULL; NULL is fine */

#endif
