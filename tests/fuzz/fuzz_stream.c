/* SPDX-License-Identifier: MIT */
/* fuzz_stream.c - streams: fed whole or in pieces, with pauses, restarts and idle parsers, the same comes out; each element written
 * and read again is the same. The first two bytes choose pieces and limits. */
#include <stdio.h>
#include <stdlib.h>

#include "unit/xml_text.h"
#include "xml/writer.h"

static void must(int truth, const char *what)
{
	if (!truth) {
		fprintf(stderr, "broken: %s\n", what);
		abort();
	}
}

struct talk {
	struct stream *s;
	struct buf seen;
	struct buf default_ns;
	bool pauses, restart, round_trip;
	unsigned seed;
};

static unsigned roll(struct talk *t)
{
	t->seed = t->seed * 1103515245 + 12345;
	return t->seed >> 16;
}

static void reparse(struct talk *t, const struct element *e);

static void event(struct talk *t, char kind, struct element **e)
{
	buf_add_char(&t->seen, kind);
	if (e) {
		const struct el_node *root = el_node(*e, (*e)->root);
		xml_text(&t->seen, *e, root);
		if (kind == 'H') {
			buf_free(&t->default_ns);
			buf_add_str(&t->default_ns, element_attr(*e, root, STR("xmlns")));
		} else {
			if (t->round_trip)
				reparse(t, *e);
			t->restart = str_is(el_str(*e, root->name), "r");
		}
		element_free(e);
	}
	buf_add_char(&t->seen, '\n');
	if (t->restart || (t->pauses && roll(t) % 2))
		stream_pause(t->s);
}

static void on_header(void *arg, struct element **e) { event(arg, 'H', e); }
static void on_element(void *arg, struct element **e) { event(arg, 'E', e); }
static void on_end(void *arg) { event(arg, 'Z', NULL); }

static const struct stream_events events = { on_header, on_element, on_end };

static const struct stream_limits widest = {
	.stanza_bytes = 8 * 1024 * 1024, .depth = 512, .attributes = 10000, .children = 100000, .parser_bytes = 64 * 1024 * 1024,
};

static void reparse(struct talk *t, const struct element *e)
{
	struct talk inner = { 0 };
	struct buf text = { 0 }, want = { 0 };
	struct str ns = buf_str(&t->default_ns);
	buf_add_text(&text, "<s:stream xmlns:s='http://etherx.jabber.org/streams'");
	if (ns.n)
		writer_attr(&text, STR("xmlns"), ns, NULL);
	buf_add_char(&text, '>');
	inner.s = stream_new(&widest, &events, &inner);
	must(stream_feed(inner.s, buf_str(&text)) == ST_OK, "the header can be read");
	buf_free(&text);
	buf_free(&inner.seen);
	writer_element(&text, e, el_node(e, e->root), ns);
	enum status st = stream_feed(inner.s, buf_str(&text));
	must(st == ST_OK || st == ST_AGAIN, "what was written can be read");
	buf_add_char(&want, 'E');
	xml_text(&want, e, el_node(e, e->root));
	buf_add_char(&want, '\n');
	must(str_eq(buf_str(&want), buf_str(&inner.seen)), "what was written reads the same");
	stream_free(&inner.s);
	buf_free(&inner.seen);
	buf_free(&inner.default_ns);
	buf_free(&text);
	buf_free(&want);
}

static void talk(struct talk *t, const struct stream_limits *limits, struct str text, bool pieces)
{
	t->s = stream_new(limits, &events, t);
	enum status st = ST_OK;
	for (size_t at = 0; at < text.n && !st; ) {
		size_t n = pieces ? 1 + roll(t) % (roll(t) % 4 ? 8 : 200) : text.n;
		if (n > text.n - at)
			n = text.n - at;
		st = stream_feed(t->s, (struct str){ text.p + at, n });
		at += n;
		while (st == ST_AGAIN) {
			if (t->restart)
				stream_restart(t->s, false);
			t->restart = false;
			if (pieces && roll(t) % 4 == 0)
				stream_idle(t->s);
			st = stream_resume(t->s);
		}
		if (pieces && !st && roll(t) % 4 == 0)
			stream_idle(t->s);
	}
	buf_add_text(&t->seen, status_text(st));
	if (st == ST_INVALID || st == ST_LIMIT)
		buf_add_text(&t->seen, stream_error_name(stream_error(t->s, NULL)));
	must(st == ST_OK || st == ST_CLOSED || stream_error(t->s, NULL) != SE_NONE, "an error has a condition");
	stream_free(&t->s);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static const struct stream_limits tight = {
		.stanza_bytes = 200, .depth = 4, .attributes = 5, .children = 6, .parser_bytes = 1024 * 1024,
	};
	if (size < 2 || size > 65536)
		return 0;
	const struct stream_limits *limits = data[1] & 1 ? &tight : &wide;
	struct str text = { (const char *)data + 2, size - 2 };
	struct talk a = { .round_trip = true }, b = { .seed = data[0], .pauses = data[1] & 2 };
	talk(&a, limits, text, false);
	talk(&b, limits, text, true);
	if (!str_eq(buf_str(&a.seen), buf_str(&b.seen)))
		fprintf(stderr, "whole:\n%.*s\npieces:\n%.*s\n", (int)a.seen.len, buf_data(&a.seen), (int)b.seen.len, buf_data(&b.seen));
	must(str_eq(buf_str(&a.seen), buf_str(&b.seen)), "cutting changes nothing");
	buf_free(&a.seen);
	buf_free(&b.seen);
	buf_free(&a.default_ns);
	buf_free(&b.default_ns);
	return 0;
}
