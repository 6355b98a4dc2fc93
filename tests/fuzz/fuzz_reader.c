/* SPDX-License-Identifier: MIT */
/* fuzz_reader.c - whole documents: cut or not, the same comes out; written and read again, the same comes back. */
#include <stdio.h>
#include <stdlib.h>

#include "unit/xml_text.h"
#include "xml/reader.h"
#include "xml/writer.h"

static void keep(void *arg, struct element **el)
{
	struct element **out = arg;
	*out = *el;
	*el = NULL;
}

static void must(int truth, const char *what)
{
	if (!truth) {
		fprintf(stderr, "broken: %s\n", what);
		abort();
	}
}

static struct buf text_of(const struct element *e)
{
	struct buf out = { 0 };
	xml_text(&out, e, el_node(e, e->root));
	return out;
}

/* Feeds in pieces of 1 to 16 bytes that seed chooses. */
static enum status parse_cut(struct str text, unsigned seed, struct element **out, enum stream_condition *condition)
{
	static const struct reader_events events = { .element = keep };
	struct reader *r = reader_new(&wide, &events, out);
	enum status st = ST_OK;
	for (size_t at = 0; at <= text.n && !st; ) {
		seed = seed * 1103515245 + 12345;
		size_t n = 1 + (seed >> 16) % 16;
		if (n > text.n - at)
			n = text.n - at;
		st = reader_feed(r, (struct str){ text.p + at, n }, at + n == text.n);
		at += n;
		if (at == text.n)
			break;
	}
	*condition = reader_error(r, NULL);
	reader_free(&r);
	return st;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	if (size < 1 || size > wide.stanza_bytes)
		return 0;
	struct str text = { (const char *)data + 1, size - 1 };
	struct element *e = NULL, *again = NULL;
	const char *message = NULL;
	enum status st = reader_parse(text, &wide, &e, &message);
	must(st || e, "an element comes with success");
	must(!st || message, "a message comes with failure");

	enum stream_condition condition;
	enum status cut = parse_cut(text, data[0], &again, &condition);
	must(cut == st, "cutting changes nothing");
	must((cut == ST_OK) == (condition == SE_NONE), "a condition comes with failure");
	if (!st) {
		struct buf a = text_of(e), b = text_of(again), written = { 0 };
		must(str_eq(buf_str(&a), buf_str(&b)), "cutting does not change the element");
		element_free(&again);
		buf_free(&b);

		struct stream_limits wider = wide;
		wider.stanza_bytes *= 64;
		writer_element(&written, e, el_node(e, e->root), STR(""));
		must(reader_parse(buf_str(&written), &wider, &again, &message) == ST_OK, "what was written can be read");
		b = text_of(again);
		must(str_eq(buf_str(&a), buf_str(&b)), "what was written reads the same");
		buf_free(&a);
		buf_free(&b);
		buf_free(&written);
	}
	element_free(&again);
	element_free(&e);
	return 0;
}
