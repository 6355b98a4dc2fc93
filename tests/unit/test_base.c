/* SPDX-License-Identifier: MIT */
/* test_base.c - buffers, base64, constant-time comparison. */
#include "base/base64.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/rand.h"
#include "base/status.h"
#include "check.h"

static void buf_keeps_order(void)
{
	struct buf b = { 0 };
	unsigned wrote = 0, read = 0;
	for (int round = 0; round < 2000; round++) {
		for (int i = 0; i < round % 37; i++) {
			unsigned char c = (unsigned char)wrote++;
			buf_add(&b, &c, 1);
		}
		size_t eat = (size_t)(round % 31) < b.len ? (size_t)(round % 31) : b.len;
		for (size_t i = 0; i < eat; i++)
			CHECK((unsigned char)buf_data(&b)[i] == (unsigned char)read++);
		buf_eat(&b, eat);
	}
	CHECK(b.len == wrote - read);
	buf_free(&b);
	CHECK(b.base == NULL && b.len == 0);
}

/* No handful comes twice, whatever their sizes, and none is left as it was. */
static void rand_differs(void)
{
	enum { TAKES = 2000 };
	static unsigned char seen[TAKES][8];
	unsigned char bytes[400];
	for (size_t i = 0; i < TAKES; i++) {
		size_t n = 8 + i % 90;
		memset(bytes, 0, sizeof bytes);
		rand_bytes(bytes, n);
		memcpy(seen[i], bytes, 8);
		unsigned sum = 0;
		for (size_t k = 0; k < n; k++)
			sum |= bytes[k];
		CHECK(sum && !bytes[n]);
		for (size_t k = 0; k < i; k++)
			CHECK(memcmp(seen[k], seen[i], 8) != 0);
	}
	rand_bytes(bytes, 0);
}

static void base64_rows(void)
{
	static const struct { const char *plain, *coded; } rows[] = {    /* RFC 4648 §10 */
		{ "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" }, { "foob", "Zm9vYg==" }, { "foobar", "Zm9vYmFy" },
	};
	for (int i = 0; i < COUNT(rows); i++) {
		struct buf out = { 0 }, back = { 0 };
		base64_encode(str_of(rows[i].plain), &out);
		CHECK_ROW(i, str_eq(buf_str(&out), str_of(rows[i].coded)));
		CHECK_ROW(i, base64_decode(str_of(rows[i].coded), &back) == ST_OK);
		CHECK_ROW(i, str_eq(buf_str(&back), str_of(rows[i].plain)));
		buf_free(&out);
		buf_free(&back);
	}
	static const char *const bad[] = { "Z", "Zg", "Zg=", "Zh==", "Zm9=", "====", "Zg==Zg==", "Zm9v\n", "Z g=", "Zm-_" };
	for (int i = 0; i < COUNT(bad); i++) {
		struct buf out = { 0 };
		CHECK_ROW(i, base64_decode(str_of(bad[i]), &out) == ST_INVALID && out.len == 0);
		buf_free(&out);
	}
}

static void equal_is_exact(void)
{
	CHECK(mem_equal("abc", "abc", 3));
	CHECK(!mem_equal("abc", "abd", 3));
	CHECK(mem_equal("", "", 0));
}

int main(void)
{
	RUN(buf_keeps_order);
	RUN(rand_differs);
	RUN(base64_rows);
	RUN(equal_is_exact);
	return check_done();
}
