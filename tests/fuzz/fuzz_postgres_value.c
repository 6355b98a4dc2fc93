/* SPDX-License-Identifier: MIT */
/* fuzz_postgres_value.c - any bytes as a string go through PostgreSQL's text and back; any bytes as a cell are read or refused. */
#include <stdio.h>
#include <stdlib.h>

#include "store/postgres_value.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static const unsigned types[] = { PG_BOOL, PG_BYTEA, PG_INT8, PG_INT4, PG_TEXT, PG_FLOAT8, PG_TEXT_ARRAY };
	struct str bytes = { (const char *)data, size };
	struct buf in = { 0 }, out = { 0 }, back = { 0 };
	bool null = false;
	value_add_string(&in, bytes);
	struct value_reader r = value_reader(buf_str(&in));
	if (postgres_param(&r, PG_TEXT, &out, &null) || null || memchr(out.len ? buf_data(&out) : "x", 0, out.len)
		|| postgres_cell(PG_TEXT, out.len ? buf_data(&out) : "", out.len, &back) || !str_eq(buf_str(&back), buf_str(&in))) {
		fprintf(stderr, "text is not what it was\n");
		abort();
	}
	for (int i = 0; i < COUNT(types); i++) {
		out.len = back.len = 0;
		if (postgres_cell(types[i], bytes.p, bytes.n, &back))
			continue;
		r = value_reader(buf_str(&back));
		if (value_skip(&r, NULL) || r.p != r.end) {
			fprintf(stderr, "a cell became no value\n");
			abort();
		}
	}
	buf_free(&in);
	buf_free(&out);
	buf_free(&back);
	return 0;
}
