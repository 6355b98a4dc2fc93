/* SPDX-License-Identifier: MIT */
/* test_reader.c - whole documents, whole, byte by byte and cut at every place; and what strangers build to make a parser suffer. */
#include "xml/reader.h"

#include <stdlib.h>

#include "base/mem.h"
#include "check.h"
#include "xml_text.h"

static void keep(void *arg, struct element **el)
{
	struct element **out = arg;
	*out = *el;
	*el = NULL;
}

/* Parses text cut at `first`, then every `rest` bytes: the element as text, or the condition. */
static struct buf parse(struct str text, size_t first, size_t rest)
{
	static const struct reader_events events = { .element = keep };
	struct element *e = NULL;
	struct reader *r = reader_new(&wide, &events, &e);
	struct buf out = { 0 };
	enum status st = ST_OK;
	size_t at = 0, n = first < text.n ? first : text.n;
	do {
		st = reader_feed(r, (struct str){ text.p + at, n }, at + n == text.n);
		at += n;
		n = rest < text.n - at ? rest : text.n - at;
	} while (!st && n);
	if (st)
		buf_add_text(&out, stream_error_name(reader_error(r, NULL)));
	else
		xml_text(&out, e, el_node(e, e->root));
	reader_free(&r);
	element_free(&e);
	return out;
}

static void documents(void)
{
	static const struct { const char *text, *want; } rows[] = {
		{ "<a/>", "{~}a" },
		{ "<?xml version='1.0'?>\n<a></a>\n", "{~}a" },
		{ "<a xmlns='u'/>", "{u}a" },
		{ "<p:a xmlns:p='u'><p:b/><c/></p:a>", "{u}a({u}b{}c)" },
		{ "<a><b xmlns='u'><c xmlns=''><d/></c></b><e/></a>", "{~}a({u}b({}c({}d)){~}e)" },
		{ "<a xmlns:p='u' p:x='1' x='2' xml:lang='en'/>", "{~}a[u|x=1,x=2,xml:lang=en]" },
		{ "<a b='x&#9;y&#xA;z&#13;'/>", "{~}a[b=x\ty\nz\r]" },
		{ "<a b='x\ty\nz'/>", "{~}a[b=x y z]" },
		{ "<a b='1\r\n2'>\r\n\r</a>", "{~}a[b=1 2](\"\n\n\")" },
		{ "<a>&lt;&gt;&amp;&apos;&quot;</a>", "{~}a(\"<>&'\"\")" },
		{ "<a>a<![CDATA[b<c>&amp;]]>d</a>", "{~}a(\"ab<c>&amp;d\")" },
		{ "<a><![CDATA[]]></a>", "{~}a" },
		{ "<a>&#x10FFFF;&#xFFFD;&#x85;\x7f</a>", "{~}a(\"\xf4\x8f\xbf\xbf\xef\xbf\xbd\xc2\x85\x7f\")" },
		{ "<\xc3\xa9 \xc3\xa9='\xc3\xa9'>\xc3\xa9</\xc3\xa9>", "{~}\xc3\xa9[\xc3\xa9=\xc3\xa9](\"\xc3\xa9\")" },
		{ "<_:a xmlns:_='u'/>", "{u}a" },
		{ "", "not-well-formed" },
		{ " ", "not-well-formed" },
		{ "x", "not-well-formed" },
		{ "<a>", "not-well-formed" },
		{ "<a/><b/>", "not-well-formed" },
		{ "<a/>x", "not-well-formed" },
		{ "<a/></a>", "not-well-formed" },
		{ "<a></A>", "not-well-formed" },
		{ "<a b/>", "not-well-formed" },
		{ "<a b='1' b='1'/>", "not-well-formed" },
		{ "<a b='1'c='2'/>", "not-well-formed" },
		{ "<p:a/>", "not-well-formed" },
		{ "<a p:b=''/>", "not-well-formed" },
		{ "<a xmlns:p=''/>", "not-well-formed" },
		{ "<a xmlns:xmlns='u'/>", "not-well-formed" },
		{ "<a xmlns:p='http://www.w3.org/XML/1998/namespace'/>", "not-well-formed" },
		{ "<a:b:c xmlns:a='u'/>", "not-well-formed" },
		{ "<a>&#0;</a>", "not-well-formed" },
		{ "<a>&#x1;</a>", "not-well-formed" },
		{ "<a>&#xDFFF;</a>", "not-well-formed" },
		{ "<a>&#xFFFF;</a>", "not-well-formed" },
		{ "<a>&#x110000;</a>", "not-well-formed" },
		{ "<a>&#99999999999999999999;</a>", "not-well-formed" },
		{ "<a>& </a>", "not-well-formed" },
		{ "<a>]]></a>", "not-well-formed" },
		{ "<a>\xef\xbf\xbe</a>", "not-well-formed" },
		{ "<a>\x1f</a>", "not-well-formed" },
		{ "<?xml version='1.1'?><a/>", "not-well-formed" },
		{ "<?xml?><a/>", "not-well-formed" },
		{ " <?xml version='1.0'?><a/>", "restricted-xml" },
		{ "<a>&b;</a>", "restricted-xml" },
		{ "<a b='&c;'/>", "restricted-xml" },
		{ "<a><!-- --></a>", "restricted-xml" },
		{ "<a/><!-- -->", "restricted-xml" },
		{ "<?a?><a/>", "restricted-xml" },
		{ "<a><?b c?></a>", "restricted-xml" },
		{ "<!DOCTYPE a><a/>", "restricted-xml" },
		{ "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>", "restricted-xml" },
		{ "<!DOCTYPE l [<!ENTITY a 'lol'><!ENTITY b '&a;&a;&a;&a;'><!ENTITY c '&b;&b;&b;&b;'>]><l>&c;</l>", "restricted-xml" },
		{ "<a>\xc3\xa9\xe9</a>", "unsupported-encoding" },
		{ "<a>\xed\xbf\xbf</a>", "unsupported-encoding" },
		{ "<a>\xf4\x90\x80\x80</a>", "unsupported-encoding" },
		{ "<a b='\x80'/>", "unsupported-encoding" },
		{ "<?xml version='1.0' encoding='latin1'?><a/>", "unsupported-encoding" },
		{ "<?xml version='1.0' encoding='Utf-8'?><a/>", "{~}a" },
	};
	for (int i = 0; i < COUNT(rows); i++) {
		struct str text = str_of(rows[i].text);
		for (size_t first = text.n; first > 0 || text.n == 0; first--) {
			struct buf whole = parse(text, first, text.n), bytes = parse(text, first, 1);
			CHECK_ROW(i, str_eq(buf_str(&whole), str_of(rows[i].want)));
			CHECK_ROW(i, str_eq(buf_str(&bytes), str_of(rows[i].want)));
			buf_free(&whole);
			buf_free(&bytes);
			if (text.n == 0)
				break;
		}
		struct element *e = NULL;
		const char *message = NULL;
		enum status st = reader_parse(text, &wide, &e, &message);
		CHECK_ROW(i, (st == ST_OK) == (rows[i].want[0] == '{') && (st == ST_OK) == (e != NULL) && (st == ST_OK) == !message);
		element_free(&e);
	}
}

static enum status parse_big(const struct buf *text, const struct stream_limits *limits)
{
	struct element *e = NULL;
	const char *message;
	enum status st = reader_parse(buf_str(text), limits, &e, &message);
	element_free(&e);
	return st;
}

static void limits_hold(void)
{
	struct stream_limits limits = { .stanza_bytes = 16 * 1024 * 1024, .depth = 512, .attributes = 1000, .children = 1000,
		.parser_bytes = 32 * 1024 * 1024 };
	struct buf text = { 0 };
	char piece[64];

	/* a million attributes; and the most that is allowed */
	for (int n = 1000; n <= 1000000; n += 999000) {
		buf_add_text(&text, "<a");
		for (int i = 0; i < n; i++)
			buf_add(&text, piece, (size_t)snprintf(piece, sizeof piece, " a%d=''", i));
		buf_add_text(&text, "/>");
		CHECK_ROW(n, parse_big(&text, &limits) == (n == 1000 ? ST_OK : ST_LIMIT));
		buf_free(&text);
	}
	/* depth */
	for (int n = 512; n <= 100000; n = n == 512 ? 513 : n == 513 ? 100000 : n + 1) {
		for (int i = 0; i < n; i++)
			buf_add_text(&text, "<a>");
		for (int i = 0; i < n; i++)
			buf_add_text(&text, "</a>");
		CHECK_ROW(n, parse_big(&text, &limits) == (n == 512 ? ST_OK : ST_LIMIT));
		buf_free(&text);
	}
	/* children */
	for (int n = 1000; n <= 1001; n++) {
		buf_add_text(&text, "<a>");
		for (int i = 0; i < n; i++)
			buf_add_text(&text, "<b/>");
		buf_add_text(&text, "</a>");
		CHECK_ROW(n, parse_big(&text, &limits) == (n == 1000 ? ST_OK : ST_LIMIT));
		buf_free(&text);
	}
	limits.children = 10000000;
	/* bytes */
	limits.stanza_bytes = 3;
	buf_add_text(&text, "<a/>");
	CHECK(parse_big(&text, &limits) == ST_LIMIT);
	limits.stanza_bytes = 4;
	CHECK(parse_big(&text, &limits) == ST_OK);
	buf_free(&text);
	limits.stanza_bytes = 1024 * 1024;
	/* many names cost the parser memory */
	buf_add_text(&text, "<a>");
	for (int i = 0; i < 50000; i++)
		buf_add(&text, piece, (size_t)snprintf(piece, sizeof piece, "<b%d/>", i));
	buf_add_text(&text, "</a>");
	CHECK(parse_big(&text, &limits) == ST_OK);
	limits.parser_bytes = 1024 * 1024;
	CHECK(parse_big(&text, &limits) == ST_LIMIT);
	buf_free(&text);
	/* a long namespace, named shortly and often: elements share it only with their parents */
	limits.parser_bytes = 32 * 1024 * 1024;
	buf_add_text(&text, "<p:a xmlns:p='u' xmlns:q='");
	for (int i = 0; i < 10000; i++)
		buf_add_text(&text, "u");
	buf_add_text(&text, "'>");
	for (int i = 0; i < 50000; i++)
		buf_add_text(&text, "<q:b/>");
	buf_add_text(&text, "</p:a>");
	CHECK(parse_big(&text, &limits) == ST_LIMIT);
	buf_free(&text);
}

/* Text in very many pieces is one text, in time that grows with its length only. */
static void text_in_pieces(void)
{
	static const struct reader_events events = { .element = keep };
	struct stream_limits limits = wide;
	limits.stanza_bytes = 64 * 1024 * 1024;
	struct element *e = NULL;
	struct reader *r = reader_new(&limits, &events, &e);
	CHECK(reader_feed(r, STR("<a>"), false) == ST_OK);
	enum { PIECES = 1000000 };
	for (int i = 0; i < PIECES; i++)
		CHECK(reader_feed(r, STR("&lt;\nx"), false) == ST_OK);
	CHECK(reader_feed(r, STR("</a>"), true) == ST_OK);
	const struct el_node *root = el_node(e, e->root), *text = el_node(e, root->first);
	CHECK(root->n_children == 1 && text->kind == EL_TEXT && text->name.len == 3 * PIECES);
	CHECK(!memcmp(el_str(e, text->name).p, "<\nx<\nx", 6));
	element_free(&e);
	reader_free(&r);
}

int main(void)
{
	RUN(documents);
	RUN(limits_hold);
	RUN(text_in_pieces);
	return check_done();
}
