/* SPDX-License-Identifier: MIT */
/* element.c - one XML element in one block. */
#include "xml/element.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

enum { FIRST_CAP = 1024 };

struct str element_attr(const struct element *e, const struct el_node *n, struct str name)
{
	const struct el_attr *a = el_attrs(e, n);
	for (uint32_t i = 0; i < n->n_attrs; i++)
		if (str_eq(el_str(e, a[i].name), name))
			return el_str(e, a[i].value);
	return (struct str){ NULL, 0 };
}

/* Offsets stay valid when the block moves; pointers into it do not. */
static uint32_t take(struct element_builder *b, size_t size, size_t align)
{
	struct element *e = b->e;
	if (!e) {
		e = b->e = mem_alloc(FIRST_CAP);
		*e = (struct element){ .size = sizeof *e, .cap = FIRST_CAP };
	}
	size_t at = (e->size + align - 1) & ~(align - 1);
	assert(at + size <= ELEMENT_MAX);
	if (at + size > e->cap) {
		size_t cap = e->cap;
		while (cap < at + size)
			cap *= 2;
		e = b->e = mem_resize(e, cap);
		e->cap = (uint32_t)cap;
	}
	e->size = (uint32_t)(at + size);
	return (uint32_t)at;
}

static struct el_str put(struct element_builder *b, struct str s)
{
	if (!s.n)
		return (struct el_str){ 0, 0 };
	uint32_t at = take(b, s.n, 1);
	memcpy((char *)b->e + at, s.p, s.n);
	return (struct el_str){ at, (uint32_t)s.n };
}

static struct el_node *node_at(struct element_builder *b, uint32_t off)
{
	return (struct el_node *)(void *)((char *)b->e + off);
}

static uint32_t append(struct element_builder *b, struct el_node node)
{
	uint32_t at = take(b, sizeof node, _Alignof(struct el_node));
	*node_at(b, at) = node;
	if (b->depth) {
		uint32_t parent = b->open[b->depth - 1], last = b->last[b->depth - 1];
		if (last)
			node_at(b, last)->next = at;
		else
			node_at(b, parent)->first = at;
		node_at(b, parent)->n_children++;
		b->last[b->depth - 1] = at;
	} else {
		b->e->root = at;
	}
	return at;
}

void element_builder_start(struct element_builder *b, struct str name, struct str ns, uint32_t n_attrs)
{
	assert(b->depth < ELEMENT_DEPTH_MAX);
	struct el_node node = { .kind = EL_ELEMENT, .n_attrs = n_attrs };
	node.name = put(b, name);
	if (ns.p && b->depth && str_eq(ns, el_str(b->e, node_at(b, b->open[b->depth - 1])->ns)))
		node.ns = node_at(b, b->open[b->depth - 1])->ns;        /* one copy for the whole family */
	else
		node.ns = put(b, ns);
	if (ns.p && !node.ns.off)
		node.ns.off = node.name.off;                            /* no namespace, and not inherited either */
	if (n_attrs) {
		node.attrs = take(b, n_attrs * sizeof(struct el_attr), _Alignof(struct el_attr));
		memset((char *)b->e + node.attrs, 0, n_attrs * sizeof(struct el_attr));
	}
	uint32_t at = append(b, node);
	b->open[b->depth] = at;
	b->last[b->depth] = 0;
	b->depth++;
}

void element_builder_attr(struct element_builder *b, uint32_t index, struct str name, struct str value)
{
	struct el_attr attr = { put(b, name), put(b, value) };
	struct el_node *n = node_at(b, b->open[b->depth - 1]);
	assert(index < n->n_attrs);
	memcpy((char *)b->e + n->attrs + index * sizeof attr, &attr, sizeof attr);
}

void element_builder_text(struct element_builder *b, struct str text)
{
	assert(b->depth);
	if (!text.n)
		return;
	uint32_t last = b->last[b->depth - 1];
	if (last && node_at(b, last)->kind == EL_TEXT) {
		/* Text comes in pieces; the last piece ends where the block ends, so the next one simply follows it. */
		struct el_str *had = &node_at(b, last)->name;
		if (had->off + had->len == b->e->size) {
			put(b, text);
			had = &node_at(b, last)->name;
			had->len += (uint32_t)text.n;
			return;
		}
	}
	/* The node first, so that its text is last in the block. */
	uint32_t at = append(b, (struct el_node){ .kind = EL_TEXT });
	struct el_str s = put(b, text);
	node_at(b, at)->name = s;
}

void element_builder_end(struct element_builder *b)
{
	assert(b->depth);
	b->depth--;
}

struct element *element_builder_take(struct element_builder *b)
{
	assert(b->e && b->depth == 0);
	struct element *e = b->e;
	b->e = NULL;
	return e;
}

void element_builder_drop(struct element_builder *b)
{
	element_free(&b->e);
	b->depth = 0;
}

void element_free(struct element **e)
{
	free(*e);
	*e = NULL;
}
