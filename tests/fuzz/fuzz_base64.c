/* SPDX-License-Identifier: MIT */
/* fuzz_base64.c - what can be decoded encodes to itself, and the other way round. */
#include <stdio.h>
#include <stdlib.h>

#include "base/base64.h"

static void must(int truth, const char *what)
{
	if (!truth) {
		fprintf(stderr, "broken: %s\n", what);
		abort();
	}
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	struct str text = { (const char *)data, size };
	struct buf a = { 0 }, b = { 0 };
	buf_add_char(&a, '!');
	if (base64_decode(text, &a) == ST_OK) {
		base64_encode((struct str){ buf_data(&a) + 1, a.len - 1 }, &b);
		must(str_eq(buf_str(&b), text), "decoding can be undone");
	} else {
		must(a.len == 1 && buf_data(&a)[0] == '!', "failure leaves out alone");
	}
	buf_free(&a);
	buf_free(&b);
	base64_encode(text, &a);
	must(base64_decode(buf_str(&a), &b) == ST_OK, "what was encoded can be decoded");
	must(str_eq(buf_str(&b), text), "encoding can be undone");
	buf_free(&a);
	buf_free(&b);
	return 0;
}
