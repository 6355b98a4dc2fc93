/* SPDX-License-Identifier: MIT */
/* value.h - typed values as bytes: what travels between Lua and a database, and what is stored for a table.
 *
 * One tag byte, then: 'n' 't' 'f' nothing; 'i' a zigzag varint; 'd' 8 bytes, little-endian IEEE 754; 's' a varint length and
 * the bytes; 'm' a varint count and so many pairs of values, each key neither nil nor NaN. Exact: integers stay integers,
 * strings keep any bytes. Any thread.
 */
#ifndef COUPLET_VALUE_H
#define COUPLET_VALUE_H

#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"

enum value_tag {
	VALUE_NIL = 'n', VALUE_TRUE = 't', VALUE_FALSE = 'f', VALUE_INT = 'i', VALUE_FLOAT = 'd', VALUE_STRING = 's', VALUE_TABLE = 'm'
};

enum { VALUE_DEPTH_MAX = 100 };         /* tables within tables */

void value_add_tag(struct buf *b, enum value_tag tag);          /* nil, true, false */
void value_add_int(struct buf *b, int64_t i);
void value_add_float(struct buf *b, double d);
void value_add_string(struct buf *b, struct str s);
void value_add_count(struct buf *b, uint64_t n);                /* a bare varint: a table is VALUE_TABLE, count, pairs */

struct value {
	enum value_tag tag;
	int64_t i;
	double d;
	struct str s;                   /* borrowed from the bytes that are read */
	uint64_t pairs;                 /* VALUE_TABLE: what follows; never more than the bytes left could hold */
};

struct value_reader {
	const char *p, *end;
};

static inline struct value_reader value_reader(struct str s)
{
	return (struct value_reader){ s.p, s.p + s.n };
}

/* ST_INVALID: not what value_add_* wrote. */
MUST_CHECK enum status value_read_count(struct value_reader *r, uint64_t *out);
/* Reads one scalar, or the head of a table. */
MUST_CHECK enum status value_read(struct value_reader *r, struct value *out);
/* Reads one value whole; *out, if wanted, is its bytes, which any later reader may trust. */
MUST_CHECK enum status value_skip(struct value_reader *r, struct str *out);

#endif
