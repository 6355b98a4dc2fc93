/* SPDX-License-Identifier: MIT */
/* Typed values as bytes: what is written is read back; anything cut, foreign or too deep is refused. */
#include "check.h"

#include <math.h>
#include <stdint.h>

#include "store/value.h"

static void integers(void)
{
	static const int64_t rows[] = { 0, 1, -1, 63, 64, -64, -65, 127, 128, 1 << 20, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN };
	for (int i = 0; i < COUNT(rows); i++) {
		struct buf b = { 0 };
		struct value v = { 0 };
		value_add_int(&b, rows[i]);
		struct value_reader r = value_reader(buf_str(&b));
		CHECK_ROW(i, value_read(&r, &v) == ST_OK && v.tag == VALUE_INT && v.i == rows[i] && r.p == r.end);
		buf_free(&b);
	}
}

static void floats(void)
{
	static const double rows[] = { 0.0, -0.0, 0.1, -1e300, 5e-324, INFINITY, -INFINITY };
	for (int i = 0; i < COUNT(rows); i++) {
		struct buf b = { 0 };
		struct value v = { 0 };
		value_add_float(&b, rows[i]);
		struct value_reader r = value_reader(buf_str(&b));
		CHECK_ROW(i, value_read(&r, &v) == ST_OK && v.tag == VALUE_FLOAT && memcmp(&v.d, &rows[i], sizeof v.d) == 0);
		buf_free(&b);
	}
}

/* { [1] = "one", a = { [true] = 1.5 } } */
static void sample(struct buf *b)
{
	value_add_tag(b, VALUE_TABLE);
	value_add_count(b, 2);
	value_add_int(b, 1);
	value_add_string(b, STR("one\0more"));
	value_add_string(b, STR("a"));
	value_add_tag(b, VALUE_TABLE);
	value_add_count(b, 1);
	value_add_tag(b, VALUE_TRUE);
	value_add_float(b, 1.5);
}

static void cut_everywhere(void)
{
	struct buf b = { 0 };
	struct str all = { 0 };
	sample(&b);
	struct value_reader r = value_reader(buf_str(&b));
	CHECK(value_skip(&r, &all) == ST_OK && r.p == r.end && str_eq(all, buf_str(&b)));
	for (size_t n = 0; n < b.len; n++) {
		r = value_reader((struct str){ buf_data(&b), n });
		CHECK_ROW(n, value_skip(&r, NULL) == ST_INVALID);
	}
	buf_free(&b);
}

static void refused(void)
{
	static const struct str rows[] = {
		STR(""), STR("x"), STR("i"), STR("i\x80"), STR("i\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"), STR("d1234567"),
		STR("s\x05text"), STR("s\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x"), STR("m\x02tt"), STR("m\x01nt"), STR("m\x01m\x00t"),
		STR("m\xff\xff\xff\xff\x0ftt"), STR("m\x01" "d\x00\x00\x00\x00\x00\x00\xf8\x7ft"),
	};
	for (int i = 0; i < COUNT(rows); i++) {
		struct value_reader r = value_reader(rows[i]);
		CHECK_ROW(i, value_skip(&r, NULL) == ST_INVALID);
	}
}

static void depth(void)
{
	for (int deep = 99; deep <= 102; deep++) {
		struct buf b = { 0 };
		for (int i = 0; i < deep; i++)
			buf_add(&b, "m\x01t", 3);
		buf_add_char(&b, 't');
		struct value_reader r = value_reader(buf_str(&b));
		CHECK_ROW(deep, (value_skip(&r, NULL) == ST_OK) == (deep <= VALUE_DEPTH_MAX));
		buf_free(&b);
	}
}

int main(void)
{
	RUN(integers);
	RUN(floats);
	RUN(cut_everywhere);
	RUN(refused);
	RUN(depth);
	return check_done();
}
