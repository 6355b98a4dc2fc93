/* SPDX-License-Identifier: MIT */
/* value.c - typed values as bytes. */
#include "store/value.h"

#include <endian.h>

void value_add_tag(struct buf *b, enum value_tag tag)
{
	buf_add_char(b, (char)tag);
}

void value_add_count(struct buf *b, uint64_t n)
{
	unsigned char *p = (unsigned char *)buf_room(b, 10);
	size_t len = 0;
	for (; n >= 0x80; n >>= 7)
		p[len++] = (unsigned char)(n | 0x80);
	p[len++] = (unsigned char)n;
	buf_added(b, len);
}

void value_add_int(struct buf *b, int64_t i)
{
	buf_add_char(b, VALUE_INT);
	value_add_count(b, ((uint64_t)i << 1) ^ (i < 0 ? UINT64_MAX : 0));
}

void value_add_float(struct buf *b, double d)
{
	uint64_t bits;
	memcpy(&bits, &d, sizeof bits);
	bits = htole64(bits);
	buf_add_char(b, VALUE_FLOAT);
	buf_add(b, &bits, sizeof bits);
}

void value_add_string(struct buf *b, struct str s)
{
	buf_add_char(b, VALUE_STRING);
	value_add_count(b, s.n);
	buf_add_str(b, s);
}

enum status value_read_count(struct value_reader *r, uint64_t *out)
{
	uint64_t n = 0;
	for (int shift = 0; shift < 64 && r->p < r->end; shift += 7) {
		unsigned char c = (unsigned char)*r->p++;
		if (shift == 63 && c > 1)
			return ST_INVALID;
		n |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80)) {
			*out = n;
			return ST_OK;
		}
	}
	return ST_INVALID;
}

enum status value_read(struct value_reader *r, struct value *out)
{
	if (r->p >= r->end)
		return ST_INVALID;
	struct value v = { .tag = (enum value_tag)(unsigned char)*r->p++ };
	uint64_t n, left;
	switch (v.tag) {
	case VALUE_NIL:
	case VALUE_TRUE:
	case VALUE_FALSE:
		break;
	case VALUE_INT:
		if (value_read_count(r, &n))
			return ST_INVALID;
		v.i = (int64_t)(n >> 1) ^ -(int64_t)(n & 1);
		break;
	case VALUE_FLOAT:
		if ((size_t)(r->end - r->p) < sizeof n)
			return ST_INVALID;
		memcpy(&n, r->p, sizeof n);
		n = le64toh(n);
		memcpy(&v.d, &n, sizeof v.d);
		r->p += sizeof n;
		break;
	case VALUE_STRING:
		if (value_read_count(r, &n) || n > (size_t)(r->end - r->p))
			return ST_INVALID;
		v.s = (struct str){ r->p, n };
		r->p += n;
		break;
	case VALUE_TABLE:
		if (value_read_count(r, &n))
			return ST_INVALID;
		left = (uint64_t)(r->end - r->p);
		if (n > left / 2)
			return ST_INVALID;
		v.pairs = n;
		break;
	default:
		return ST_INVALID;
	}
	*out = v;
	return ST_OK;
}

static enum status skip(struct value_reader *r, int depth, bool key)
{
	struct value v;
	if (value_read(r, &v))
		return ST_INVALID;
	if (key && (v.tag == VALUE_NIL || v.tag == VALUE_TABLE || (v.tag == VALUE_FLOAT && v.d != v.d)))
		return ST_INVALID;
	if (v.tag != VALUE_TABLE)
		return ST_OK;
	if (depth >= VALUE_DEPTH_MAX)
		return ST_INVALID;
	for (uint64_t i = 0; i < v.pairs; i++)
		if (skip(r, depth + 1, true) || skip(r, depth + 1, false))
			return ST_INVALID;
	return ST_OK;
}

enum status value_skip(struct value_reader *r, struct str *out)
{
	struct value_reader start = *r;
	enum status st = skip(r, 0, false);
	if (!st && out)
		*out = (struct str){ start.p, (size_t)(r->p - start.p) };
	return st;
}
