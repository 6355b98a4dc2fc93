/* SPDX-License-Identifier: MIT */
/* buf.c - a growing run of bytes. */
#include "base/buf.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

char *buf_room(struct buf *b, size_t room)
{
	if (b->cap - b->head - b->len >= room && b->base)
		return b->base + b->head + b->len;
	/* Move down only when at least half of the allocation is eaten: else small eats would cost a copy each. */
	if (b->base && b->cap - b->len >= room && b->head >= b->cap / 2) {
		memmove(b->base, b->base + b->head, b->len);
		b->head = 0;
		return b->base + b->len;
	}
	size_t cap = b->cap ? b->cap : 64;
	while (cap < b->len + room)
		cap *= 2;
	if (b->head) {
		char *base = mem_alloc(cap);
		memcpy(base, b->base + b->head, b->len);
		free(b->base);
		b->base = base;
		b->head = 0;
	} else {
		b->base = mem_resize(b->base, cap);
	}
	b->cap = cap;
	return b->base + b->len;
}

void buf_add(struct buf *b, const void *p, size_t n)
{
	if (!n)
		return;
	memcpy(buf_room(b, n), p, n);
	b->len += n;
}

void buf_eat(struct buf *b, size_t n)
{
	assert(n <= b->len);
	b->len -= n;
	b->head = b->len ? b->head + n : 0;
}

void buf_free(struct buf *b)
{
	free(b->base);
	*b = (struct buf){ 0 };
}

void buf_wipe(struct buf *b)
{
	mem_wipe(b->base, b->cap);
	buf_free(b);
}
