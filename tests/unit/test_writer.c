/* SPDX-License-Identifier: MIT */
/* test_writer.c - element blocks to bytes, and back. */
#include "xml/writer.h"

#include "check.h"
#include "xml/reader.h"
#include "xml_text.h"

static void escaping(void)
{
	static const struct { const char *text, *want; } rows[] = {
		{ "", "" }, { "plain", "plain" }, { "<>&'\"", "&lt;&gt;&amp;&apos;&quot;" }, { "a\tb\nc\rd", "a\tb\nc&#13;d" },
		{ "x&", "x&amp;" }, { "&x", "&amp;x" }, { "\xc3\xa9\xf0\x9f\x98\x80", "\xc3\xa9\xf0\x9f\x98\x80" }, { "]]>", "]]&gt;" },
		{ "a long clean run of text that is copied at once & then some", "a long clean run of text that is copied at once &amp; then some" },
	};
	for (int i = 0; i < COUNT(rows); i++) {
		struct buf out = { 0 };
		writer_escape(&out, str_of(rows[i].text));
		CHECK_ROW(i, str_eq(buf_str(&out), str_of(rows[i].want)));
		buf_free(&out);
	}
	for (int at = 0; at < 40; at++)                 /* a special byte at every place of a run */
		for (int c = 1; c < 128; c++) {
			char text[40];
			memset(text, 'x', sizeof text);
			text[at] = (char)c;
			struct buf out = { 0 };
			writer_escape(&out, (struct str){ text, sizeof text });
			bool special = strchr("<>&'\"\r", c);
			CHECK_ROW(c, (out.len == sizeof text) == !special && (special || !memcmp(buf_data(&out), text, sizeof text)));
			buf_free(&out);
		}
}

static void attributes(void)
{
	static const struct { const char *name, *value, *want; } rows[] = {
		{ "a", "b", " a='b'" }, { "a", "", " a=''" }, { "xml:lang", "de", " xml:lang='de'" },
		{ "a", "\t\n\r'\"<&>", " a='&#9;&#10;&#13;&apos;&quot;&lt;&amp;&gt;'" },
		{ "u\1a", "b", " xmlns:ns5='u' ns5:a='b'" }, { "u&'\1a", "b", " xmlns:ns6='u&amp;&apos;' ns6:a='b'" },
	};
	int prefixes = 5;
	for (int i = 0; i < COUNT(rows); i++) {
		struct buf out = { 0 };
		writer_attr(&out, str_of(rows[i].name), str_of(rows[i].value), &prefixes);
		CHECK_ROW(i, str_is(buf_str(&out), rows[i].want));
		buf_free(&out);
	}
}

static void elements(void)
{
	static const struct { const char *text, *parent_ns, *want; } rows[] = {
		{ "<a/>", "", "<a/>" },
		{ "<a></a>", "jabber:client", "<a/>" },
		{ "<a xmlns='u'/>", "", "<a xmlns='u'/>" },
		{ "<a xmlns='u'/>", "u", "<a/>" },
		{ "<p:a xmlns:p='u'><p:b/><c xmlns='v'><p:d/></c></p:a>", "", "<a xmlns='u'><b/><c xmlns='v'><d xmlns='u'/></c></a>" },
		{ "<a><b xmlns='u'><c xmlns=''/></b></a>", "", "<a><b xmlns='u'><c xmlns=''/></b></a>" },
		{ "<a xmlns:p='u' xmlns:q='v' p:x='1' q:x='2'><b p:y='3'/></a>", "",
		  "<a xmlns:ns0='u' ns0:x='1' xmlns:ns1='v' ns1:x='2'><b xmlns:ns0='u' ns0:y='3'/></a>" },
		{ "<a b='&#10;'>x&amp;<c/>y&#13;</a>", "", "<a b='&#10;'>x&amp;<c/>y&#13;</a>" },
	};
	for (int i = 0; i < COUNT(rows); i++) {
		struct element *e = NULL;
		const char *message;
		struct buf out = { 0 };
		CHECK_ROW(i, reader_parse(str_of(rows[i].text), &wide, &e, &message) == ST_OK);
		writer_element(&out, e, el_node(e, e->root), str_of(rows[i].parent_ns));
		CHECK_ROW(i, str_is(buf_str(&out), rows[i].want));
		if (!*rows[i].parent_ns) {
			struct element *again = NULL;
			struct buf was = { 0 }, is = { 0 };
			CHECK_ROW(i, reader_parse(buf_str(&out), &wide, &again, &message) == ST_OK);
			xml_text(&was, e, el_node(e, e->root));
			xml_text(&is, again, el_node(again, again->root));
			CHECK_ROW(i, str_eq(buf_str(&was), buf_str(&is)));
			buf_free(&was);
			buf_free(&is);
			element_free(&again);
		}
		buf_free(&out);
		element_free(&e);
	}
}

int main(void)
{
	RUN(escaping);
	RUN(attributes);
	RUN(elements);
	return check_done();
}
