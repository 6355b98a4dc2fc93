/* SPDX-License-Identifier: MIT */
/* postgres_value.h - our values as PostgreSQL's binary parameters and cells, by the type the server names.
 *
 * int8, float8: themselves. bytea: an encoded value (value.h), so that every Lua value keeps its type. text: strings, in which
 * what PostgreSQL's text cannot hold (NUL, what is no UTF-8) and the backslash are written as \xx, two hexadecimal digits.
 * Any thread.
 */
#ifndef COUPLET_POSTGRES_VALUE_H
#define COUPLET_POSTGRES_VALUE_H

#include "store/value.h"

/* The numbers PostgreSQL gives its types; they never change. */
enum { PG_BOOL = 16, PG_BYTEA = 17, PG_INT8 = 20, PG_INT4 = 23, PG_TEXT = 25, PG_FLOAT8 = 701,
	PG_BYTEA_ARRAY = 1001, PG_TEXT_ARRAY = 1009, PG_INT8_ARRAY = 1016 };

unsigned postgres_element_of(unsigned array);           /* type of an array's elements; 0: none that we know */

/* Appends the value's bytes as a parameter of that type; *null: it is NULL, and nothing was appended.
 * ST_INVALID: the type cannot hold it, or the reader is at no value. */
MUST_CHECK enum status postgres_param(struct value_reader *from, unsigned type, struct buf *out, bool *null);

/* An array is begun, gets its elements and is ended, which writes what was not known at its start. */
struct postgres_array {
	size_t at;                      /* of its head in the buffer */
	unsigned n, nulls;
};
void postgres_array_begin(struct postgres_array *a, unsigned element, struct buf *out);
MUST_CHECK enum status postgres_array_add(struct postgres_array *a, struct value_reader *from, unsigned element, struct buf *out);
void postgres_array_end(struct postgres_array *a, struct buf *out);

/* Appends a cell (p NULL: it is NULL) as a value. ST_INVALID: damaged, or of a type we do not read. */
MUST_CHECK enum status postgres_cell(unsigned type, const char *p, size_t n, struct buf *out);

#endif
