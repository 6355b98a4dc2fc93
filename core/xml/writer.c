/* SPDX-License-Identifier: MIT */
/* writer.c - element blocks to bytes. */
#include "xml/writer.h"

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

static void escape(struct buf *out, struct str text, int attribute)
{
	const char *p = text.p, *end = text.n ? p + text.n : p;
	while (p < end) {
		const char *run = p;
		while (p < end && (!special[(unsigned char)*p] || special[(unsigned char)*p] > 1 + attribute))
			p++;
		buf_add(out, run, (size_t)(p - run));
		if (p < end)
			buf_add_str(out, entity(*p++));
	}
}

void writer_escape(struct buf *out, struct str text)
{
	escape(out, text, 0);
}

void writer_attr(struct buf *out, struct str name, struct str value, int *prefixes)
{
	const char *split = memchr(name.p, '\1', name.n);
	buf_add_char(out, ' ');
	if (split) {
		char prefix[24];
		size_t n = (size_t)snprintf(prefix, sizeof prefix, "ns%d", (*prefixes)++);
		struct str uri = { name.p, (size_t)(split - name.p) };
		buf_add(out, "xmlns:", 6);
		buf_add(out, prefix, n);
		buf_add(out, "='", 2);
		escape(out, uri, 1);
		buf_add(out, "' ", 2);
		buf_add(out, prefix, n);
		buf_add_char(out, ':');
		name = (struct str){ split + 1, name.n - uri.n - 1 };
	}
	buf_add_str(out, name);
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
	buf_add_char(out, '<');
	buf_add_str(out, name);
	if (node->ns.off) {
		ns = el_str(e, node->ns);
		if (!str_eq(ns, parent_ns)) {
			buf_add(out, " xmlns='", 8);
			escape(out, ns, 1);
			buf_add_char(out, '\'');
		}
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
	buf_add(out, "</", 2);
	buf_add_str(out, name);
	buf_add_char(out, '>');
}
