/* SPDX-License-Identifier: MIT */
/* writer.c - element blocks to bytes. */
#include "xml/writer.h"

#include <stdint.h>
#include <stdio.h>

/* Bytes that cannot be written as they are: 1 everywhere, 2 in attributes only (a parser would make blanks of them). A carriage
 * return would come back as a newline even in text. */
static const unsigned char special[256] = {
	['&'] = 1, ['<'] = 1, ['>'] = 1, ['\''] = 1, ['"'] = 1, ['\r'] = 1, ['\n'] = 2, ['\t'] = 2,
};

static struct str entity(char c)
{
	switch (c) {
	case '&': return STR("&amp;");
	case '<': return STR("&lt;");
	case '>': return STR("&gt;");
	case '\'': return STR("&apos;");
	case '"': return STR("&quot;");
	case '\r': return STR("&#13;");
	case '\n': return STR("&#10;");
	default: return STR("&#9;");
	}
}

/* put() needs room for s; put_done() tells the buffer. */
static inline char *put(char *to, struct str s)
{
	memcpy(to, s.p, s.n);
	return to + s.n;
}

static inline void put_done(struct buf *out, const char *to)
{
	out->len = (size_t)(to - buf_data(out));
}

enum { LONGEST = 6 };            /* entity */

/* Whether one of eight bytes is special. May say so for a neighbour of one as well. */
static bool any_special(uint64_t w)
{
	const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
	uint64_t amp = (w | ones) ^ ones * '\'', angle = (w | ones * 2) ^ ones * '>', quote = w ^ ones * '"';
	return ((amp - ones) & ~amp & tops) | ((angle - ones) & ~angle & tops) | ((quote - ones) & ~quote & tops)
		| ((w - ones * ' ') & ~w & tops);
}

static void escape(struct buf *out, struct str text, int attribute)
{
	const char *p = text.p, *end = text.n ? p + text.n : p;
	char *to = buf_room(out, text.n + LONGEST);
	while (p < end) {
		uint64_t eight;
		while (end - p >= 8 && (memcpy(&eight, p, 8), !any_special(eight))) {
			memcpy(to, &eight, 8);
			p += 8;
			to += 8;
		}
		if (p == end)
			break;
		unsigned char c = (unsigned char)*p++;
		if (!special[c] || special[c] > 1 + attribute) {
			*to++ = (char)c;
			continue;
		}
		struct str e = entity((char)c);
		put_done(out, put(to, e));
		to = buf_room(out, (size_t)(end - p) + LONGEST);
	}
	put_done(out, to);
}

void writer_escape(struct buf *out, struct str text)
{
	escape(out, text, 0);
}

static void attr(struct buf *out, struct str name, struct str value)
{
	char *to = buf_room(out, name.n + 3);
	*to++ = ' ';
	to = put(to, name);
	*to++ = '=';
	*to++ = '\'';
	put_done(out, to);
	escape(out, value, 1);
	buf_add_char(out, '\'');
}

void writer_attr(struct buf *out, struct str name, struct str value, int *prefixes)
{
	const char *split = name.n ? memchr(name.p, '\1', name.n) : NULL;
	if (!split) {
		attr(out, name, value);
		return;
	}
	char declared[32];
	struct str uri = { name.p, (size_t)(split - name.p) }, local = { split + 1, name.n - uri.n - 1 };
	int n = snprintf(declared, sizeof declared, "xmlns:ns%d", (*prefixes)++);
	attr(out, (struct str){ declared, (size_t)n }, uri);
	buf_add_char(out, ' ');
	buf_add(out, declared + 6, (size_t)n - 6);
	buf_add_char(out, ':');
	buf_add_str(out, local);
	buf_add(out, "='", 2);
	escape(out, value, 1);
	buf_add_char(out, '\'');
}

void writer_element(struct buf *out, const struct element *e, const struct el_node *node, struct str parent_ns)
{
	if (node->kind == EL_TEXT) {
		escape(out, el_str(e, node->name), 0);
		return;
	}
	struct str name = el_str(e, node->name), ns = parent_ns;
	char *to = buf_room(out, name.n + 1);
	*to++ = '<';
	put_done(out, put(to, name));
	if (node->ns.off) {
		ns = el_str(e, node->ns);
		if (!str_eq(ns, parent_ns))
			attr(out, STR("xmlns"), ns);
	}
	const struct el_attr *attrs = el_attrs(e, node);
	int prefixes = 0;
	for (uint32_t i = 0; i < node->n_attrs; i++)
		writer_attr(out, el_str(e, attrs[i].name), el_str(e, attrs[i].value), &prefixes);
	if (!node->first) {
		buf_add(out, "/>", 2);
		return;
	}
	buf_add_char(out, '>');
	for (const struct el_node *c = el_node(e, node->first); c; c = el_node(e, c->next))
		writer_element(out, e, c, ns);
	to = buf_room(out, name.n + 3);
	*to++ = '<';
	*to++ = '/';
	to = put(to, name);
	*to++ = '>';
	put_done(out, to);
}
