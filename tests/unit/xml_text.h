/* SPDX-License-Identifier: MIT */
/* xml_text.h - for tests: limits wide enough for most rows, and a block as readable text.
 *
 * {ns}name[attr=value,...](children), text in quotes; {~} is an inherited namespace.
 */
#ifndef COUPLET_XML_TEXT_H
#define COUPLET_XML_TEXT_H

#include "base/buf.h"
#include "xml/element.h"
#include "xmpp/stream.h"

static const struct stream_limits wide = {
	.stanza_bytes = 65536, .depth = 100, .attributes = 100, .children = 1000, .parser_bytes = 1024 * 1024,
};

static inline void xml_text(struct buf *out, const struct element *e, const struct el_node *n)
{
	if (n->kind == EL_TEXT) {
		buf_add_char(out, '"');
		buf_add_str(out, el_str(e, n->name));
		buf_add_char(out, '"');
		return;
	}
	buf_add_char(out, '{');
	if (n->ns.off)
		buf_add_str(out, el_str(e, n->ns));
	else
		buf_add_char(out, '~');
	buf_add_char(out, '}');
	buf_add_str(out, el_str(e, n->name));
	for (uint32_t i = 0; i < n->n_attrs; i++) {
		const struct el_attr *a = &el_attrs(e, n)[i];
		buf_add_text(out, i ? "," : "[");
		struct str name = el_str(e, a->name);
		for (size_t k = 0; k < name.n; k++)
			buf_add_char(out, name.p[k] == '\1' ? '|' : name.p[k]);
		buf_add_char(out, '=');
		buf_add_str(out, el_str(e, a->value));
	}
	if (n->n_attrs)
		buf_add_char(out, ']');
	if (!n->first)
		return;
	buf_add_char(out, '(');
	for (const struct el_node *c = el_node(e, n->first); c; c = el_node(e, c->next))
		xml_text(out, e, c);
	buf_add_char(out, ')');
}

#endif
