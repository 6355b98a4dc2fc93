/* SPDX-License-Identifier: MIT */
/* Parameters and cells of PostgreSQL: what goes out as text, bytea, int8 comes back the same; anything damaged is refused. */
#include "check.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "store/postgres_value.h"

#define BYTES(literal) { literal, sizeof(literal) - 1 }

/* What text can hold as it stands, and what it must escape. */
static void text(void)
{
	static const struct { struct str in, out; } rows[] = {
		{ BYTES(""), BYTES("") },
		{ BYTES("romeo"), BYTES("romeo") },
		{ BYTES("a\\20b"), BYTES("a\\5c20b") },
		{ BYTES("ro\0meo"), BYTES("ro\\00meo") },
		{ BYTES("\xff\xfe"), BYTES("\\ff\\fe") },
		{ BYTES("\xc3\xa9\xe6\x9d\xb1\xf0\x9f\x98\x80"), BYTES("\xc3\xa9\xe6\x9d\xb1\xf0\x9f\x98\x80") },
		{ BYTES("\xc3"), BYTES("\\c3") },                      /* cut */
		{ BYTES("\xe6\x9d" "x"), BYTES("\\e6\\9dx") },
		{ BYTES("\xc0\x80"), BYTES("\\c0\\80") },              /* overlong */
		{ BYTES("\xe0\x9f\xbf"), BYTES("\\e0\\9f\\bf") },
		{ BYTES("\xed\xa0\x80"), BYTES("\\ed\\a0\\80") },      /* a surrogate */
		{ BYTES("\xf4\x90\x80\x80"), BYTES("\\f4\\90\\80\\80") },
		{ BYTES("\xed\x9f\xbf\xf4\x8f\xbf\xbf"), BYTES("\xed\x9f\xbf\xf4\x8f\xbf\xbf") },
	};
	for (int i = 0; i < COUNT(rows); i++) {
		struct buf in = { 0 }, out = { 0 }, back = { 0 };
		bool null = true;
		value_add_string(&in, rows[i].in);
		struct value_reader r = value_reader(buf_str(&in));
		CHECK_ROW(i, postgres_param(&r, PG_TEXT, &out, &null) == ST_OK && !null && str_eq(buf_str(&out), rows[i].out));
		CHECK_ROW(i, postgres_cell(PG_TEXT, out.len ? buf_data(&out) : "", out.len, &back) == ST_OK);
		CHECK_ROW(i, str_eq(buf_str(&back), buf_str(&in)));
		buf_free(&in);
		buf_free(&out);
		buf_free(&back);
	}
}

static void damaged_text(void)
{
	static const char *const rows[] = { "\\", "\\0", "\\g0", "\\0G", "a\\", "\\0\\", "\\AA" };
	for (int i = 0; i < COUNT(rows); i++) {
		struct buf back = { 0 };
		CHECK_ROW(i, postgres_cell(PG_TEXT, rows[i], strlen(rows[i]), &back) == ST_INVALID && back.len == 0);
		buf_free(&back);
	}
}

static void add(struct buf *b, int i)
{
	switch (i) {
	case 0: value_add_tag(b, VALUE_NIL); break;
	case 1: value_add_tag(b, VALUE_TRUE); break;
	case 2: value_add_tag(b, VALUE_FALSE); break;
	case 3: value_add_int(b, INT64_MIN); break;
	case 4: value_add_float(b, -0.0); break;
	case 5: value_add_float(b, NAN); break;
	case 6: value_add_string(b, STR("\0\xff\\ text")); break;
	case 7: value_add_string(b, STR("")); break;
	case 8: value_add_tag(b, VALUE_TABLE), value_add_count(b, 1), value_add_int(b, 1), value_add_tag(b, VALUE_TRUE); break;
	default: value_add_int(b, 5000000000); break;
	}
}

/* A bytea keeps every value, type included. */
static void bytea(void)
{
	for (int i = 0; i < 10; i++) {
		struct buf in = { 0 }, out = { 0 }, back = { 0 };
		bool null = false;
		add(&in, i);
		struct value_reader r = value_reader(buf_str(&in));
		CHECK_ROW(i, postgres_param(&r, PG_BYTEA, &out, &null) == ST_OK && null == (i == 0) && r.p == r.end);
		CHECK_ROW(i, postgres_cell(PG_BYTEA, null ? NULL : buf_data(&out), out.len, &back) == ST_OK);
		CHECK_ROW(i, str_eq(buf_str(&back), buf_str(&in)));
		for (size_t n = 0; n < out.len; n++) {
			struct buf cut = { 0 };
			CHECK_ROW(i, postgres_cell(PG_BYTEA, buf_data(&out), n, &cut) == ST_INVALID);
			buf_free(&cut);
		}
		buf_free(&in);
		buf_free(&out);
		buf_free(&back);
	}
}

static void numbers(void)
{
	static const struct { double d; enum status want; int64_t is; } rows[] = {
		{ 50.0, ST_OK, 50 }, { -1.0, ST_OK, -1 }, { 0.5, ST_INVALID, 0 }, { 1e300, ST_INVALID, 0 }, { NAN, ST_INVALID, 0 },
		{ 9223372036854775808.0, ST_INVALID, 0 }, { -9223372036854775808.0, ST_OK, INT64_MIN },
	};
	for (int i = 0; i < COUNT(rows); i++) {
		struct buf in = { 0 }, out = { 0 }, back = { 0 }, want = { 0 };
		bool null = false;
		value_add_float(&in, rows[i].d);
		value_add_int(&want, rows[i].is);
		struct value_reader r = value_reader(buf_str(&in));
		CHECK_ROW(i, postgres_param(&r, PG_INT8, &out, &null) == rows[i].want);
		if (!rows[i].want) {
			CHECK_ROW(i, out.len == 8 && postgres_cell(PG_INT8, buf_data(&out), 8, &back) == ST_OK);
			CHECK_ROW(i, str_eq(buf_str(&back), buf_str(&want)));
		}
		buf_free(&in);
		buf_free(&out);
		buf_free(&back);
		buf_free(&want);
	}
}

/* What no type holds, and cells of wrong sizes or of types we do not read. */
static void refused(void)
{
	for (int i = 0; i < 10; i++) {
		struct buf in = { 0 }, out = { 0 };
		bool null = false;
		add(&in, i);
		struct value_reader r = value_reader(buf_str(&in));
		CHECK_ROW(i, postgres_param(&r, PG_INT8, &out, &null) == (i == 0 || i == 3 || i == 9 || i == 4 ? ST_OK : ST_INVALID));
		r = value_reader(buf_str(&in));
		CHECK_ROW(i, postgres_param(&r, PG_TEXT, &out, &null) == (i == 0 || i == 3 || i == 6 || i == 7 || i == 9 ? ST_OK : ST_INVALID));
		r = value_reader(buf_str(&in));
		CHECK_ROW(i, postgres_param(&r, 1114, &out, &null) == (i == 0 ? ST_OK : ST_INVALID));
		buf_free(&in);
		buf_free(&out);
	}
	static const struct { unsigned type; size_t n; } rows[] = { { PG_INT8, 4 }, { PG_INT4, 8 }, { PG_FLOAT8, 7 }, { PG_BOOL, 0 },
		{ PG_BYTEA, 0 }, { 1114, 8 }, { PG_TEXT_ARRAY, 8 } };
	for (int i = 0; i < COUNT(rows); i++) {
		struct buf out = { 0 };
		CHECK_ROW(i, postgres_cell(rows[i].type, "\0\0\0\0\0\0\0\0", rows[i].n, &out) == ST_INVALID);
		buf_free(&out);
	}
}

/* PostgreSQL's array_recv(): dimensions, has NULLs, type, length, first index, then length and bytes of each element. */
static void arrays(void)
{
	static const unsigned char want[] = {
		0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, PG_TEXT, 0, 0, 0, 3, 0, 0, 0, 1,
		0, 0, 0, 1, 'a', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0 };
	struct buf in = { 0 }, out = { 0 };
	buf_add_text(&out, "before");
	value_add_string(&in, STR("a"));
	value_add_tag(&in, VALUE_NIL);
	value_add_string(&in, STR(""));
	struct value_reader r = value_reader(buf_str(&in));
	struct postgres_array a;
	postgres_array_begin(&a, PG_TEXT, &out);
	for (int i = 0; i < 3; i++)
		CHECK_ROW(i, postgres_array_add(&a, &r, PG_TEXT, &out) == ST_OK);
	postgres_array_end(&a, &out);
	CHECK(out.len == 6 + sizeof want && memcmp(buf_data(&out) + 6, want, sizeof want) == 0);
	buf_free(&in);
	buf_free(&out);
	CHECK(postgres_element_of(PG_BYTEA_ARRAY) == PG_BYTEA && postgres_element_of(PG_INT8_ARRAY) == PG_INT8);
	CHECK(postgres_element_of(PG_TEXT) == 0);
}

int main(void)
{
	RUN(text);
	RUN(damaged_text);
	RUN(bytea);
	RUN(numbers);
	RUN(refused);
	RUN(arrays);
	return check_done();
}
