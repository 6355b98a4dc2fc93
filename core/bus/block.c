/* SPDX-License-Identifier: MIT */
/* block.c - serialised output, shared. */
#include "bus/block.h"

#include <stdlib.h>

#include "base/mem.h"

struct block *block_new(struct str bytes, uint32_t hole)
{
	struct block *b = mem_alloc(sizeof *b + bytes.n);
	atomic_init(&b->refs, 1);
	b->len = (uint32_t)bytes.n;
	b->hole = hole;
	memcpy(b->bytes, bytes.p, bytes.n);
	return b;
}

struct block *block_ref(struct block *b)
{
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
	return b;
}

void block_unref(struct block **b)
{
	if (*b && atomic_fetch_sub_explicit(&(*b)->refs, 1, memory_order_acq_rel) == 1)
		free(*b);
	*b = NULL;
}
