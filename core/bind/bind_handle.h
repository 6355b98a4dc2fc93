/* SPDX-License-Identifier: MIT */
/* bind_handle.h - what the files bind_stanza*.c share: the handle behind every stanza and element in Lua. Logic thread.
 *
 * A handle is a userdata without finaliser. What it shows lies in two places:
 *
 *   the block   e and node: the element as it was parsed, in the handle's own userdata (a stanza from the wire) or in the one
 *               that UV_BLOCK holds. Reading from it builds nothing but the strings asked for.
 *   the body    UV_BODY: a table { name =, attr =, tags =, [1 … n] = children, … } as plugins imagine a stanza. A child in it is an
 *               element's handle, a string, or an integer: the offset of a node in the block that nobody has looked at yet.
 *
 * Which of the two holds is told by flags, for the head (name and attributes) and the children apart. Children's handles are made when asked
 * for, and kept in the body, so that they are always the same. An element without LIVE and OWN is "as parsed", all below it too: whoever sets
 * either makes the ancestors live first, so that the change is seen from the top.
 * Attributes change in the block itself while nobody else looks at it (e->shared) and the slack behind it lasts: stamping
 * `from` on a stanza costs no table.
 *
 * Indices (idx) are absolute. Functions may raise; they need a few free stack slots and say what they push.
 */
#ifndef COUPLET_BIND_HANDLE_H
#define COUPLET_BIND_HANDLE_H

#include <lua.h>

#include "xml/element.h"

struct handle {
	struct element *e;      /* NULL: built */
	uint32_t node;          /* offset of the element in e */
	uint32_t flags;
};

enum {
	HANDLE_LISTED = 1,      /* the body has all children */
	HANDLE_LIVE = 2,        /* and they may differ from the block's */
	HANDLE_OWN = 4,         /* name and attributes are those in the body, not the block's */
	HANDLE_TAGS = 8,        /* the body has tags: plugins may have changed it, methods read it */
	HANDLE_EXTRA = 16,      /* the body has keys besides name, attr, tags and children */
	HANDLE_SEALED = 32,     /* freeze() was called: writes raise */
};

enum { UV_BLOCK = 1, UV_BODY, UV_PARENT, UV_ATTR, UV_COUNT = UV_ATTR };

enum { HANDLE_DEPTH_MAX = 512 };    /* deeper is taken for a cycle */

static inline struct el_node *handle_node(const struct handle *h)
{
	return (struct el_node *)(void *)((char *)h->e + h->node);
}

static inline bool handle_as_parsed(const struct handle *h)
{
	return !(h->flags & (HANDLE_LIVE | HANDLE_OWN));
}

/* Are the children those of the block, and has nobody a table of them that he may have changed? */
static inline bool handle_through_nodes(const struct handle *h)
{
	return !(h->flags & HANDLE_LIVE) && (h->flags & (HANDLE_TAGS | HANDLE_SEALED)) != HANDLE_TAGS;
}

extern const char HANDLE_META, HANDLE_METHODS;      /* keys in the registry */

/* NULL if the value is no stanza. */
struct handle *handle_test(lua_State *L, int idx);
struct handle *handle_check(lua_State *L, int arg);             /* raises for anything else */
struct handle *handle_writable(lua_State *L, int arg);          /* and for sealed ones */

/* Pushes a handle with `room` bytes behind it, live and without a body yet. */
struct handle *handle_new(lua_State *L, size_t room);

/* Pushes the body, making it if need be. */
void handle_body(lua_State *L, int idx);
/* Makes the children (thaw) or the head (own) changeable: the body's, and the ancestors' children so. */
void handle_thaw(lua_State *L, int idx, struct handle *h);
void handle_own(lua_State *L, int idx, struct handle *h);
/* Pushes the block's owner: what keeps e alive. */
void handle_owner(lua_State *L, int idx);

lua_Integer handle_count(lua_State *L, int idx, struct handle *h);
/* Pushes child i (from 1), or nil. */
void handle_child(lua_State *L, int idx, struct handle *h, lua_Integer i);
/* Pushes the body with all children listed. */
void handle_list(lua_State *L, int idx, struct handle *h);
/* Pushes the table of child elements. */
void handle_tags(lua_State *L, int idx, struct handle *h);

/* Borrowed until the element changes. */
struct str handle_name(lua_State *L, int idx, struct handle *h);
struct str handle_ns(lua_State *L, int idx, struct handle *h);
struct str handle_attr(lua_State *L, int idx, struct handle *h, struct str name);

/* What stanzas are routed by; p == NULL if absent. */
struct handle_route { struct str to, from, type, id; };
struct handle_route handle_route(lua_State *L, int idx, struct handle *h);

/* Pushes the attribute, or nil. */
void handle_attr_push(lua_State *L, int idx, struct handle *h, struct str name);
/* Sets it; value.p == NULL removes it. `name` and `value` are checked. */
void handle_attr_set(lua_State *L, int idx, struct handle *h, struct str name, struct str value);
/* Pushes s.attr. */
void handle_attrs(lua_State *L, int idx, struct handle *h);
/* Pushes a new plain table of the attributes. */
void handle_attrs_copy(lua_State *L, int idx, struct handle *h);
/* If the value at idx is a view of an element's attributes: pushes a plain copy and returns 1. */
int handle_attrs_plain(lua_State *L, int idx);

/* Raise if it may not stand in XML. `what` for the message: "tag", "attribute", "text". */
void handle_check_name(lua_State *L, struct str name, const char *what);
void handle_check_text(lua_State *L, struct str text, const char *what);

/* Appends value `child` (element, string or number; checked) to the element at idx. */
void handle_append(lua_State *L, int idx, struct handle *h, int child);

/* Each adds its functions to the module's table (on top of the stack) and its methods to the table below it. */
void bind_stanza_attr_open(lua_State *L);
void bind_stanza_read_open(lua_State *L);
void bind_stanza_edit_open(lua_State *L);
void bind_stanza_write_open(lua_State *L);
void bind_stanza_mark_open(lua_State *L);

#endif
