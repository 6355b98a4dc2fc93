/* SPDX-License-Identifier: MIT */
/* element.h - one XML element with everything below it, in one contiguous block.
 *
 * All links are offsets from the block's start, so a block can be copied with memcpy (into a Lua userdata, for example)
 * and be valid there. A finished block is read-only. Offset 0 means "none": the header lives there.
 *
 * Namespaces follow what the field's plugins expect: an element in the stream's default namespace (jabber:client,
 * jabber:server, jabber:component:accept) that is not inside a foreign element has no `ns` (off is 0); every other element
 * carries its own, children included: a foreign element without a namespace has one of length 0 (off is not 0). Names of attributes: "local", or "NS\1local" for namespaced ones, or "xml:lang" and the like.
 *
 * Any thread, one at a time while it is built.
 */
#ifndef COUPLET_ELEMENT_H
#define COUPLET_ELEMENT_H

#include <stdint.h>

#include "base/str.h"

struct el_str {                 /* text inside the block */
	uint32_t off, len;
};

enum el_kind { EL_ELEMENT = 1, EL_TEXT = 2 };

struct el_attr {
	struct el_str name, value;
};

struct el_node {
	uint32_t kind;
	uint32_t next;          /* next sibling */
	struct el_str name;     /* EL_ELEMENT: local name; EL_TEXT: the text */
	struct el_str ns;
	uint32_t attrs;         /* offset of struct el_attr[n_attrs] */
	uint32_t n_attrs;
	uint32_t first;         /* first child */
	uint32_t n_children;    /* elements and texts; adjacent texts are one */
};

struct element {                /* the block's header */
	uint32_t size;          /* bytes in use, header included */
	uint32_t cap;           /* bytes allocated */
	uint32_t root;          /* the top element */
	uint32_t shared;        /* not 0: seen from several places, so not even its owner may change it (core/bind) */
};

static inline const struct el_node *el_node(const struct element *e, uint32_t off)
{
	return off ? (const struct el_node *)(const void *)((const char *)e + off) : NULL;
}
static inline struct str el_str(const struct element *e, struct el_str s)
{
	return (struct str){ (const char *)e + s.off, s.len };
}
static inline const struct el_attr *el_attrs(const struct element *e, const struct el_node *n)
{
	return (const struct el_attr *)(const void *)((const char *)e + n->attrs);
}

/* The value of an attribute; p == NULL if absent. */
struct str element_attr(const struct element *e, const struct el_node *n, struct str name);

/* --- building ---------------------------------------------------------------------------------------------------------
 * The builder owns the block until element_builder_take(). Strings are copied. Sizes must have met their limit before:
 * a block never exceeds ELEMENT_MAX bytes. */
enum { ELEMENT_MAX = 256 * 1024 * 1024, ELEMENT_DEPTH_MAX = 512 };

struct element_builder {
	struct element *e;
	uint32_t open[ELEMENT_DEPTH_MAX];   /* open elements, outermost first */
	uint32_t last[ELEMENT_DEPTH_MAX];   /* their last child so far */
	int depth;
};

/* ns.p == NULL: none, as above. */
void element_builder_start(struct element_builder *b, struct str name, struct str ns, uint32_t n_attrs);
void element_builder_attr(struct element_builder *b, uint32_t index, struct str name, struct str value);
void element_builder_text(struct element_builder *b, struct str text);     /* joins the text before it */
void element_builder_end(struct element_builder *b);
/* The finished block (depth is 0 again); moved to the caller, element_free() gives it back. */
struct element *element_builder_take(struct element_builder *b);
void element_builder_drop(struct element_builder *b);

void element_free(struct element **e);                                     /* sets *e to NULL; NULL is fine */

#endif
