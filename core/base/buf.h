/* SPDX-License-Identifier: MIT */
/* buf.h - a growing run of bytes, appended at the end and eaten from the front.
 *
 * A plain value: `struct buf b = { 0 };` is an empty one, buf_free() gives its memory back and leaves an empty one.
 * Any thread, one at a time.
 */
#ifndef COUPLET_BUF_H
#define COUPLET_BUF_H

#include "base/str.h"

struct buf {
	char *base;    /* the allocation; NULL while empty */
	size_t head;   /* bytes already eaten */
	size_t len;    /* bytes present, from base + head */
	size_t cap;
};

static inline char *buf_data(const struct buf *b) { return b->base ? b->base + b->head : NULL; }
static inline struct str buf_str(const struct buf *b) { return (struct str){ buf_data(b), b->len }; }

/* Room for at least `room` more bytes; returns where they go. Call buf_added() once they are there. */
char *buf_room(struct buf *b, size_t room);
static inline void buf_added(struct buf *b, size_t n) { b->len += n; }

void buf_add(struct buf *b, const void *p, size_t n);
static inline void buf_add_str(struct buf *b, struct str s) { buf_add(b, s.p, s.n); }
static inline void buf_add_text(struct buf *b, const char *text) { buf_add(b, text, strlen(text)); }
static inline void buf_add_char(struct buf *b, char c) { *buf_room(b, 1) = c; b->len++; }

void buf_eat(struct buf *b, size_t n);      /* n <= len; the memory stays, for the next bytes */
void buf_free(struct buf *b);
void buf_wipe(struct buf *b);               /* buf_free() for secrets */

#endif
