/* SPDX-License-Identifier: MIT */
/* postgres_value.c - parameters and cells in PostgreSQL's binary format. */
#include "store/postgres_value.h"

#include <stdio.h>
#include <string.h>

/* --- text --------------------------------------------------------------------------------------------------------------- */

/* Length of the character at p as PostgreSQL takes it: no NUL, no backslash, well-formed UTF-8; 0: it must be escaped. */
static size_t plain(const unsigned char *p, const unsigned char *end)
{
	if (*p < 0x80)
		return *p != 0 && *p != '\\';
	size_t n = *p >= 0xf0 ? 4 : *p >= 0xe0 ? 3 : 2;
	if (*p < 0xc2 || *p > 0xf4 || (size_t)(end - p) < n)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

static void add_text(struct buf *out, struct str s)
{
	const unsigned char *p = (const unsigned char *)s.p, *end = p + s.n, *done = p;
	while (p < end) {
		size_t n = plain(p, end);
		if (n) {
			p += n;
			continue;
		}
		buf_add(out, done, (size_t)(p - done));
		char hex[4];
		snprintf(hex, sizeof hex, "\\%02x", *p);
		buf_add(out, hex, 3);
		done = ++p;
	}
	buf_add(out, done, (size_t)(p - done));
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum status read_text(const char *p, size_t n, struct buf *out)
{
	if (!memchr(p, '\\', n)) {
		value_add_string(out, (struct str){ p, n });
		return ST_OK;
	}
	struct buf plain_text = { 0 };
	const char *end = p + n;
	while (p < end) {
		if (*p != '\\') {
			buf_add_char(&plain_text, *p++);
			continue;
		}
		int high = end - p >= 3 ? digit(p[1]) : -1, low = end - p >= 3 ? digit(p[2]) : -1;
		if (high < 0 || low < 0) {
			buf_free(&plain_text);
			return ST_INVALID;
		}
		buf_add_char(&plain_text, (char)(high << 4 | low));
		p += 3;
	}
	value_add_string(out, buf_str(&plain_text));
	buf_free(&plain_text);
	return ST_OK;
}

/* --- parameters --------------------------------------------------------------------------------------------------------- */

static void put(char *to, uint64_t n, int bytes)
{
	for (int i = bytes - 1; i >= 0; i--, n >>= 8)
		to[i] = (char)(n & 0xff);
}

static uint64_t get(const char *from, int bytes)
{
	uint64_t n = 0;
	for (int i = 0; i < bytes; i++)
		n = n << 8 | (unsigned char)from[i];
	return n;
}

static void add_number(struct buf *out, uint64_t n, int bytes)
{
	put(buf_room(out, (size_t)bytes), n, bytes);
	buf_added(out, (size_t)bytes);
}

unsigned postgres_element_of(unsigned array)
{
	switch (array) {
	case PG_BYTEA_ARRAY: return PG_BYTEA;
	case PG_TEXT_ARRAY: return PG_TEXT;
	case PG_INT8_ARRAY: return PG_INT8;
	default: return 0;
	}
}

enum status postgres_param(struct value_reader *from, unsigned type, struct buf *out, bool *null)
{
	struct value_reader start = *from;
	struct value v;
	struct str all;
	char text[32];
	if (value_read(from, &v))
		return ST_INVALID;
	*null = v.tag == VALUE_NIL;
	if (*null)
		return ST_OK;
	switch (type) {
	case PG_INT8:
		if (v.tag == VALUE_FLOAT && v.d >= -9223372036854775808.0 && v.d < 9223372036854775808.0 && v.d == (double)(int64_t)v.d)
			v = (struct value){ .tag = VALUE_INT, .i = (int64_t)v.d };
		if (v.tag != VALUE_INT)
			return ST_INVALID;
		add_number(out, (uint64_t)v.i, 8);
		return ST_OK;
	case PG_FLOAT8:
		if (v.tag == VALUE_INT)
			v.d = (double)v.i;
		else if (v.tag != VALUE_FLOAT)
			return ST_INVALID;
		uint64_t bits;
		memcpy(&bits, &v.d, sizeof bits);
		add_number(out, bits, 8);
		return ST_OK;
	case PG_TEXT:
		if (v.tag == VALUE_INT)
			v.s = (struct str){ text, (size_t)snprintf(text, sizeof text, "%lld", (long long)v.i) };
		else if (v.tag != VALUE_STRING)
			return ST_INVALID;
		add_text(out, v.s);
		return ST_OK;
	case PG_BYTEA:
		*from = start;
		if (value_skip(from, &all))
			return ST_INVALID;
		buf_add_str(out, all);
		return ST_OK;
	default:
		return ST_INVALID;
	}
}


void postgres_array_begin(struct postgres_array *a, unsigned element, struct buf *out)
{
	*a = (struct postgres_array){ .at = out->len };
	add_number(out, 1, 4);
	add_number(out, 0, 4);
	add_number(out, element, 4);
	add_number(out, 0, 4);
	add_number(out, 1, 4);
}

enum status postgres_array_add(struct postgres_array *a, struct value_reader *from, unsigned element, struct buf *out)
{
	bool null = false;
	size_t at = out->len;
	add_number(out, 0, 4);
	enum status st = postgres_param(from, element, out, &null);
	if (st)
		return st;
	put(buf_data(out) + at, null ? UINT32_MAX : out->len - at - 4, 4);
	a->n++;
	a->nulls += null;
	return ST_OK;
}

void postgres_array_end(struct postgres_array *a, struct buf *out)
{
	char *head = buf_data(out) + a->at;
	put(head + 4, a->nulls > 0, 4);
	put(head + 12, a->n, 4);
}

/* --- cells -------------------------------------------------------------------------------------------------------------- */

enum status postgres_cell(unsigned type, const char *p, size_t n, struct buf *out)
{
	if (!p) {
		value_add_tag(out, VALUE_NIL);
		return ST_OK;
	}
	switch (type) {
	case PG_INT8:
	case PG_INT4:
		if (n != (type == PG_INT8 ? 8u : 4u))
			return ST_INVALID;
		value_add_int(out, type == PG_INT8 ? (int64_t)get(p, 8) : (int32_t)get(p, 4));
		return ST_OK;
	case PG_BOOL:
		if (n != 1)
			return ST_INVALID;
		value_add_tag(out, *p ? VALUE_TRUE : VALUE_FALSE);
		return ST_OK;
	case PG_FLOAT8:
		if (n != 8)
			return ST_INVALID;
		uint64_t bits = get(p, 8);
		double d;
		memcpy(&d, &bits, sizeof d);
		value_add_float(out, d);
		return ST_OK;
	case PG_TEXT:
		return read_text(p, n, out);
	case PG_BYTEA: {
		struct value_reader r = value_reader((struct str){ p, n });
		struct str all;
		if (value_skip(&r, &all) || r.p != r.end)
			return ST_INVALID;
		buf_add_str(out, all);
		return ST_OK;
	}
	default:
		return ST_INVALID;
	}
}
