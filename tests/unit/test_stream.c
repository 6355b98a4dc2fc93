/* SPDX-License-Identifier: MIT */
/* test_stream.c - streams, whole, byte by byte and cut at every place; all three must agree. */
#include "xmpp/stream.h"

#include <malloc.h>
#include <stdlib.h>

#include "base/mem.h"
#include "check.h"
#include "xml_text.h"

#define HEADER "<stream:stream to='x' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
#define OPENED "H{http://etherx.jabber.org/streams}stream[to=x,version=1.0,xmlns=jabber:client,xmlns:stream=http://etherx.jabber.org/streams]\n"

struct talk {
	struct stream *s;
	struct buf seen;
	int pause;                      /* behind every so many events */
	int events;
	bool restart_after_success;
	bool restart;
};

static void event(struct talk *t, char kind, struct element **e)
{
	buf_add_char(&t->seen, kind);
	if (e) {
		const struct el_node *root = el_node(*e, (*e)->root);
		xml_text(&t->seen, *e, root);
		if (t->restart_after_success && str_is(el_str(*e, root->name), "success"))
			t->restart = true;
		element_free(e);
	}
	buf_add_char(&t->seen, '\n');
	if (t->restart || (t->pause && ++t->events % t->pause == 0))
		stream_pause(t->s);
}

static void on_header(void *arg, struct element **e) { event(arg, 'H', e); }
static void on_element(void *arg, struct element **e) { event(arg, 'E', e); }
static void on_end(void *arg) { event(arg, 'Z', NULL); }

static const struct stream_events events = { on_header, on_element, on_end };

static enum status settle(struct talk *t, enum status st)
{
	while (st == ST_AGAIN) {
		if (t->restart)
			stream_restart(t->s, false);
		t->restart = false;
		st = stream_resume(t->s);
	}
	return st;
}

/* Feeds text in pieces of the sizes first, then rest, and appends how it ended. */
static void talk(struct talk *t, const struct stream_limits *limits, struct str text, size_t first, size_t rest, bool idle)
{
	t->s = stream_new(limits, &events, t);
	enum status st = ST_OK;
	for (size_t at = 0, n = first; at < text.n && !st; at += n, n = rest) {
		if (n > text.n - at)
			n = text.n - at;
		st = settle(t, stream_feed(t->s, (struct str){ text.p + at, n }));
		if (idle && !st)
			stream_idle(t->s);
	}
	if (st == ST_INVALID || st == ST_LIMIT) {
		const char *why;
		buf_add_text(&t->seen, st == ST_LIMIT ? "limit " : "invalid ");
		buf_add_text(&t->seen, stream_error_name(stream_error(t->s, &why)));
	} else if (st == ST_CLOSED) {
		buf_add_text(&t->seen, "closed");
	}
	stream_free(&t->s);
}

static bool agrees(const struct stream_limits *limits, struct str text, struct str want, size_t first, size_t rest, int pause, bool idle)
{
	struct talk t = { .pause = pause };
	talk(&t, limits, text, first, rest, idle);
	bool same = str_eq(buf_str(&t.seen), want);
	if (!same)
		printf("first %zu, rest %zu, pause %d, idle %d\n  got  %.*s\n  want %.*s\n", first, rest, pause, idle, (int)t.seen.len,
			buf_data(&t.seen), (int)want.n, want.p);
	buf_free(&t.seen);
	return same;
}

static bool agrees_however_cut(const struct stream_limits *limits, struct str text, struct str want)
{
	bool same = agrees(limits, text, want, text.n, text.n, 0, false) && agrees(limits, text, want, 1, 1, 0, false)
		&& agrees(limits, text, want, 1, 1, 0, true) && agrees(limits, text, want, text.n, text.n, 1, true)
		&& agrees(limits, text, want, 7, 5, 2, true);
	for (size_t cut = 1; same && cut < text.n && cut < 2000; cut++)
		same = agrees(limits, text, want, cut, text.n, 0, false) && agrees(limits, text, want, cut, text.n, 1, true);
	return same;
}

static void conversations(void)
{
	static const struct { const char *text, *want; } rows[] = {
		{ HEADER, OPENED },
		{ "<?xml version='1.0'?>" HEADER, OPENED },
		{ "<?xml version='1.0' encoding='utf-8' standalone='yes'?>\n" HEADER, OPENED },
		{ " \r\n\t<?xml version=\"1.0\" encoding=\"UTF-8\"?>" HEADER, OPENED },
		{ "\xef\xbb\xbf" HEADER, OPENED },
		{ HEADER "</stream:stream>", OPENED "Z\nclosed" },
		{ HEADER "</stream:stream>rest <is> ignored &&", OPENED "Z\nclosed" },
		{ "<s:stream xmlns:s='http://etherx.jabber.org/streams'/>",
		  "H{http://etherx.jabber.org/streams}stream[xmlns:s=http://etherx.jabber.org/streams]\nZ\nclosed" },
		{ HEADER "<presence/>", OPENED "E{~}presence\n" },
		{ HEADER " <a/>\n\n<b/> \t</stream:stream>", OPENED "E{~}a\nE{~}b\nZ\nclosed" },
		{ HEADER "<message to='a@b'><body>x &lt; y</body></message>", OPENED "E{~}message[to=a@b]({~}body(\"x < y\"))\n" },
		/* any order, any prefix, the default namespace as found */
		{ "<s:stream version='1.0' xmlns:s='http://etherx.jabber.org/streams' to='x' xmlns='jabber:server'><s:features/></s:stream>",
		  "H{http://etherx.jabber.org/streams}stream[version=1.0,to=x,xmlns:s=http://etherx.jabber.org/streams,xmlns=jabber:server]\n"
		  "E{http://etherx.jabber.org/streams}features\nZ\nclosed" },
		{ "<stream xmlns='http://etherx.jabber.org/streams'><a/><b xmlns='jabber:client'/></stream>",
		  "H{http://etherx.jabber.org/streams}stream[xmlns=http://etherx.jabber.org/streams]\nE{~}a\nE{jabber:client}b\nZ\nclosed" },
		{ "<stream:stream xmlns:stream='http://etherx.jabber.org/streams' xml:lang='de'>",
		  "H{http://etherx.jabber.org/streams}stream[xml:lang=de,xmlns:stream=http://etherx.jabber.org/streams]\n" },
		{ "<stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='a&amp;&apos;b' xmlns:q='urn:q'><x/><q:y q:z='1'/>",
		  "H{http://etherx.jabber.org/streams}stream[xmlns:stream=http://etherx.jabber.org/streams,xmlns=a&'b,xmlns:q=urn:q]\n"
		  "E{~}x\nE{urn:q}y[urn:q|z=1]\n" },
		/* namespaces */
		{ HEADER "<iq><q xmlns='u'><i/><j xmlns='jabber:client'/><k xmlns=''/></q><r/></iq>",
		  OPENED "E{~}iq({u}q({u}i{jabber:client}j{}k){~}r)\n" },
		{ HEADER "<a xmlns:p='u' p:x='1' xml:lang='en' xml:space='preserve'><p:b p:x='2' y='3'/></a>",
		  OPENED "E{~}a[u|x=1,xml:lang=en,xml:space=preserve]({u}b[u|x=2,y=3])\n" },
		{ HEADER "<a xmlns:p='u'><b xmlns:p='v'><p:c/></b><p:d/></a>", OPENED "E{~}a({~}b({v}c){u}d)\n" },
		{ HEADER "<stream:error><x xmlns='y'/></stream:error>", OPENED "E{http://etherx.jabber.org/streams}error({y}x)\n" },
		{ HEADER "<c:a xmlns:c='jabber:client'><c:b/></c:a>", OPENED "E{~}a({~}b)\n" },
		/* text */
		{ HEADER "<a><![CDATA[<&]]]]><![CDATA[>]]></a>", OPENED "E{~}a(\"<&]]>\")\n" },
		{ HEADER "<a>&#x1F600;&#233;\xc3\xa9\xf0\x9f\x98\x80</a>", OPENED "E{~}a(\"\xf0\x9f\x98\x80\xc3\xa9\xc3\xa9\xf0\x9f\x98\x80\")\n" },
		{ HEADER "<a b='&#10;&quot;\n>' c=\"'/>\"/>", OPENED "E{~}a[b=\n\" >,c='/>]\n" },
		{ HEADER "<a>x\r\ny&#13;z]]</a >", OPENED "E{~}a(\"x\ny\rz]]\")\n" },
		{ HEADER "<a>1<b/>2<c/>3</a>", OPENED "E{~}a(\"1\"{~}b\"2\"{~}c\"3\")\n" },
		/* what is no XMPP */
		{ "<!DOCTYPE x [<!ENTITY a 'b'>]>" HEADER, "invalid restricted-xml" },
		{ "<?xml version='1.0'?><!DOCTYPE x>" HEADER, "invalid restricted-xml" },
		{ HEADER "<!-- c -->", OPENED "invalid restricted-xml" },
		{ "<!-- c -->" HEADER, "invalid restricted-xml" },
		{ HEADER "<?php x ?>", OPENED "invalid restricted-xml" },
		{ "<?php x ?>" HEADER, "invalid restricted-xml" },
		{ HEADER "<a><!--x--></a>", OPENED "invalid restricted-xml" },
		{ HEADER "<a>&foo;</a>", OPENED "invalid restricted-xml" },
		{ HEADER "<a b='&foo;'/>", OPENED "invalid restricted-xml" },
		{ HEADER "<?xml version='1.0'?><a/>", OPENED "invalid restricted-xml" },
		{ HEADER "<a></b>", OPENED "invalid not-well-formed" },
		{ HEADER "<a><b></a>", OPENED "invalid not-well-formed" },
		{ HEADER "<a b='1' b='2'/>", OPENED "invalid not-well-formed" },
		{ HEADER "<a xmlns:p='u' xmlns:q='u' p:b='1' q:b='2'/>", OPENED "invalid not-well-formed" },
		{ HEADER "<a b=c/>", OPENED "invalid not-well-formed" },
		{ HEADER "<a b='<'/>", OPENED "invalid not-well-formed" },
		{ HEADER "<p:a/>", OPENED "invalid not-well-formed" },
		{ HEADER "<a>]]></a>", OPENED "invalid not-well-formed" },
		{ HEADER "<a>&#0;</a>", OPENED "invalid not-well-formed" },
		{ HEADER "<a>&#xD800;</a>", OPENED "invalid not-well-formed" },
		{ HEADER "<a>&#xFFFE;</a>", OPENED "invalid not-well-formed" },
		{ HEADER "<a>\x01</a>", OPENED "invalid not-well-formed" },
		{ HEADER "<a>\xef\xbf\xbf</a>", OPENED "invalid not-well-formed" },
		{ HEADER "<!a>", OPENED "invalid not-well-formed" },
		{ HEADER "<>", OPENED "invalid not-well-formed" },
		{ HEADER "<a/ >", OPENED "invalid not-well-formed" },
		{ HEADER "</a>", OPENED "invalid not-well-formed" },
		{ HEADER "<a xmlns:p=''/>", OPENED "invalid not-well-formed" },
		{ HEADER "<a xmlns:xmlns='u'/>", OPENED "invalid not-well-formed" },
		{ HEADER "<a xmlns:xml='u'/>", OPENED "invalid not-well-formed" },
		{ "GET / HTTP/1.1\r\n\r\n", "invalid not-well-formed" },
		{ HEADER "<a>\xff</a>", OPENED "invalid unsupported-encoding" },
		{ HEADER "<a>\xed\xa0\x80</a>", OPENED "invalid unsupported-encoding" },
		{ HEADER "<a>\xc0\x80</a>", OPENED "invalid unsupported-encoding" },
		{ HEADER "<a>\xe2\x82</a>", OPENED "invalid unsupported-encoding" },
		{ HEADER "<a b='\xc3('/>", OPENED "invalid unsupported-encoding" },
		{ "<?xml version='1.0' encoding='ISO-8859-1'?>" HEADER, "invalid unsupported-encoding" },
		{ "<?xml version='1.0' encoding='UTF-16'?>" HEADER, "invalid unsupported-encoding" },
		{ "\xff\xfe<", "invalid unsupported-encoding" },
		{ "\xfe\xff", "invalid unsupported-encoding" },
		{ "<stream xmlns='jabber:client'>", "invalid invalid-namespace" },
		{ "<stream>", "invalid invalid-namespace" },
		{ "<s:stream xmlns:s='http://etherx.jabber.org/stream'>", "invalid invalid-namespace" },
		{ "<s:strom xmlns:s='http://etherx.jabber.org/streams'>", "invalid bad-format" },
		{ "<stream:stream xmlns='jabber:client'>", "invalid bad-namespace-prefix" },
		{ HEADER "x", OPENED "invalid bad-format" },
		{ HEADER "<a/> . <b/>", OPENED "E{~}a\ninvalid bad-format" },
		{ HEADER "&#32;<a/>", OPENED "invalid bad-format" },
		{ HEADER "<![CDATA[ ]]><a/>", OPENED "invalid bad-format" },
		{ HEADER " x]]>", OPENED "invalid bad-format" },
		{ "\xef\xbb<", "invalid not-well-formed" },
		{ "s\xc3\xa9", "invalid not-well-formed" },
		{ "<?xml version='1.0'?>x" HEADER, "invalid not-well-formed" },
	};
	for (int i = 0; i < COUNT(rows); i++)
		CHECK_ROW(i, agrees_however_cut(&wide, str_of(rows[i].text), str_of(rows[i].want)));
	static const char zero[] = "<\0s\0";
	CHECK(agrees_however_cut(&wide, (struct str){ zero, 4 }, STR("invalid unsupported-encoding")));
	static const char wide_s[] = "s\0<\0";
	CHECK(agrees_however_cut(&wide, (struct str){ wide_s, 4 }, STR("invalid not-well-formed")));
	static const char nul[] = HEADER "<a>\0</a>";
	CHECK(agrees_however_cut(&wide, (struct str){ nul, sizeof nul - 1 }, STR(OPENED "invalid not-well-formed")));
}

static void limits_hold(void)
{
	static const struct stream_limits tight = {
		.stanza_bytes = sizeof HEADER - 1, .depth = 3, .attributes = 4, .children = 3, .parser_bytes = 1024 * 1024,
	};
	char line[8192];
	static const struct { const char *text, *want; } rows[] = {
		{ HEADER, OPENED },
		{ " " HEADER, "limit policy-violation" },
		{ HEADER "<a><b><c/></b></a>", OPENED "E{~}a({~}b({~}c))\n" },
		{ HEADER "<a><b><c><d/></c></b></a>", OPENED "limit policy-violation" },
		{ HEADER "<a b='1' c='2' d='3' e='4'/>", OPENED "E{~}a[b=1,c=2,d=3,e=4]\n" },
		{ HEADER "<a b='1' c='2' d='3' e='4' f='5'/>", OPENED "limit policy-violation" },
		{ HEADER "<a><b/><b/><b/></a>", OPENED "E{~}a({~}b{~}b{~}b)\n" },
		{ HEADER "<a><b/><b/><b/><b/></a>", OPENED "limit policy-violation" },
		{ HEADER "<a/><a/><a/><a/><a/>", OPENED "E{~}a\nE{~}a\nE{~}a\nE{~}a\nE{~}a\n" },
	};
	for (int i = 0; i < COUNT(rows); i++)
		CHECK_ROW(i, agrees_however_cut(&tight, str_of(rows[i].text), str_of(rows[i].want)));
	/* A stanza of exactly the limit, one more byte, and white space that belongs to none. */
	for (int more = 0; more <= 1; more++) {
		int body = (int)tight.stanza_bytes - 7 + more;
		for (int kind = 0; kind < 3; kind++) {
			char pad[512];
			memset(pad, 'y', sizeof pad);
			if (kind == 0) {
				snprintf(line, sizeof line, HEADER "<b/>%400s<a>%.*s</a><c/>", "", body, pad);
			} else if (kind == 1) {
				snprintf(line, sizeof line, HEADER "<b/>%400s<a b='%.*s'/><c/>", "", body - 2, pad);
			} else {
				snprintf(line, sizeof line, HEADER "<b/><a><![CDATA[%.*s]]></a>\n<c/>", body - 12, pad);
			}
			struct talk t = { 0 };
			talk(&t, &tight, str_of(line), sizeof line, 1, false);
			bool refused = t.seen.len > 22 && !memcmp(buf_data(&t.seen) + t.seen.len - 22, "limit policy-violation", 22);
			CHECK_ROW(kind * 2 + more, refused == (more == 1));
			CHECK_ROW(kind * 2 + more, agrees_however_cut(&tight, str_of(line), buf_str(&t.seen)));
			buf_free(&t.seen);
		}
	}
}

/* A restart takes over exactly what follows the element, however it came. */
static void restarts(void)
{
	static const char text[] = HEADER "<auth/>" "<success/>" "\n<?xml version='1.0'?>" HEADER "<a/>" "<success x='1'/>" HEADER "<b/></stream:stream>";
	static const char want[] = OPENED "E{~}auth\nE{~}success\n" OPENED "E{~}a\nE{~}success[x=1]\n" OPENED "E{~}b\nZ\nclosed";
	for (size_t first = 1; first < sizeof text; first++)
		for (size_t rest = 1; rest < sizeof text; rest = rest * 3 + 1) {
			struct talk t = { .restart_after_success = true };
			talk(&t, &wide, (struct str){ text, sizeof text - 1 }, first, rest, rest & 1);
			CHECK_ROW(first, str_is(buf_str(&t.seen), want));
			buf_free(&t.seen);
		}
	/* dropping */
	struct talk t = { .pause = 2 };
	t.s = stream_new(&wide, &events, &t);
	CHECK(stream_feed(t.s, STR(HEADER "<starttls/><evil/><ev")) == ST_AGAIN);
	stream_restart(t.s, true);
	CHECK(stream_resume(t.s) == ST_OK);
	CHECK(stream_feed(t.s, STR(HEADER "<a/>")) == ST_AGAIN);
	CHECK(stream_resume(t.s) == ST_OK);
	CHECK(str_is(buf_str(&t.seen), OPENED "E{~}starttls\n" OPENED "E{~}a\n"));
	stream_free(&t.s);
	buf_free(&t.seen);
}

/* Bytes the process has from malloc; 0 under a sanitizer, which keeps its own books. */
static size_t in_use(void)
{
	return mallinfo2().uordblks;
}

static void drop_element(void *arg, struct element **e)
{
	(*(int *)arg)++;
	(void)e;
}
static void drop_end(void *arg) { (void)arg; }
static const struct stream_events dropping = { drop_element, drop_element, drop_end };

/* Feeds piece over and over, up to bytes in all. Fails if memory ever exceeds what was there by more than bound. */
static enum status flood(const struct stream_limits *limits, const char *start, struct str piece, size_t bytes, size_t bound)
{
	int events_seen = 0;
	size_t before = in_use();
	struct stream *s = stream_new(limits, &dropping, &events_seen);
	enum status st = stream_feed(s, str_of(start));
	for (size_t fed = 0; fed < bytes && !st; fed += piece.n) {
		st = stream_feed(s, piece);
		CHECK(in_use() < before + bound);
	}
	stream_free(&s);
	CHECK(in_use() < before + 64 * 1024);           /* malloc keeps some for itself */
	return st;
}

static void floods(void)
{
	static const struct stream_limits usual = {
		.stanza_bytes = 256 * 1024, .depth = 100, .attributes = 1000, .children = 10000, .parser_bytes = 1024 * 1024,
	};
	enum { MB = 1024 * 1024 };
	char *zeros = mem_alloc(65536);
	memset(zeros, 'x', 65536);
	struct str x = { zeros, 65536 };
	CHECK(flood(&usual, HEADER "<a b='", x, 100 * MB, MB) == ST_LIMIT);          /* an attribute that never ends */
	CHECK(flood(&usual, HEADER "<a>", x, 100 * MB, 3 * MB) == ST_LIMIT);         /* a text */
	CHECK(flood(&usual, HEADER "<a><![CDATA[", x, 100 * MB, 3 * MB) == ST_LIMIT);
	CHECK(flood(&usual, HEADER "<", x, 100 * MB, MB) == ST_LIMIT);               /* a name */
	CHECK(flood(&usual, HEADER "<a>&", x, 100 * MB, MB) == ST_LIMIT);            /* a reference */
	CHECK(flood(&usual, "<stream:stream to='", x, 100 * MB, MB) == ST_LIMIT);
	CHECK(flood(&usual, "<?xml ", x, 100 * MB, MB) == ST_LIMIT);
	CHECK(flood(&usual, HEADER, STR("<a>"), 100 * MB, MB) == ST_LIMIT);
	CHECK(flood(&usual, HEADER "<a>", STR("<b/>"), 100 * MB, 5 * MB) == ST_LIMIT);
	CHECK(flood(&usual, HEADER "<a", STR(" b=''"), 100 * MB, MB) == ST_LIMIT);
	memset(zeros, ' ', 65536);
	CHECK(flood(&usual, "", x, 100 * MB, MB) == ST_LIMIT);                       /* a header that never begins */
	CHECK(flood(&usual, HEADER, x, 10 * MB, MB) == ST_OK);                       /* keep-alives are no stanza */
	/* one byte at a time costs no more than its bytes */
	CHECK(flood(&usual, HEADER "<a b='", STR(">"), 300 * 1024, MB) == ST_LIMIT);
	CHECK(flood(&usual, HEADER "<a>", STR("&"), 300 * 1024, 2 * MB) != ST_OK);
	free(zeros);
}

/* Expat remembers every name it has met. */
static void names_are_forgotten(void)
{
	struct stream_limits limits = wide;
	limits.parser_bytes = 256 * 1024;
	int events_seen = 0;
	size_t before = in_use();
	struct stream *s = stream_new(&limits, &dropping, &events_seen);
	CHECK(stream_feed(s, STR(HEADER)) == ST_OK);
	for (int i = 0; i < 200000; i++) {
		char text[64];
		snprintf(text, sizeof text, "<a%d b%d='c'/>", i, i);
		CHECK(stream_feed(s, str_of(text)) == ST_OK);
		CHECK(in_use() < before + limits.parser_bytes);
	}
	CHECK(events_seen == 200001);
	/* within one stanza they are counted */
	struct buf big = { 0 };
	buf_add_text(&big, "<a>");
	for (int i = 0; i < 900; i++) {
		char text[96];
		snprintf(text, sizeof text, "<a%d b%d='c' c%d='d' d%d='e'/>", i, i, i, i);
		buf_add_text(&big, text);
	}
	buf_add_text(&big, "</a>");
	limits.parser_bytes = 128 * 1024;
	CHECK(stream_feed(s, buf_str(&big)) == ST_LIMIT);
	CHECK(stream_error(s, NULL) == SE_POLICY_VIOLATION);
	stream_free(&s);
	buf_free(&big);
}

/* An idle stream costs its struct and its start tag. */
static void idle_costs_little(void)
{
	struct stream *many[100];
	int events_seen = 0;
	size_t before = in_use();
	for (int i = 0; i < 100; i++) {
		many[i] = stream_new(&wide, &dropping, &events_seen);
		CHECK(stream_feed(many[i], STR(HEADER "<presence/>")) == ST_OK);
		CHECK(stream_idle(many[i]));
		CHECK(stream_idle(many[i]));
	}
	printf("# %zu bytes an idle stream\n", (in_use() - before) / 100);
	CHECK(in_use() < before + 100 * 512);
	for (int i = 0; i < 100; i++) {
		CHECK(stream_feed(many[i], STR("<message><bo")) == ST_OK);
		CHECK(!stream_idle(many[i]));
		CHECK(stream_feed(many[i], STR("dy/></message></stream:stream>")) == ST_CLOSED);
		stream_free(&many[i]);
	}
	CHECK(events_seen == 300);
}

int main(void)
{
	RUN(conversations);
	RUN(limits_hold);
	RUN(restarts);
	RUN(floods);
	RUN(names_are_forgotten);
	RUN(idle_costs_little);
	return check_done();
}
