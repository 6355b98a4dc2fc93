/* SPDX-License-Identifier: MIT */
/* bind_handle.h - what the files bind_stanza*.c share: the handle behind every stanza and element in Lua. Logic thread.
 *
 * A handle is a userdata without finaliser. It is in one of two states:
 *
 *   frozen  e is the block it is a node of. Reading goes to the block and builds nothing but the strings asked for. The block lies in
 *           the handle's own userdata (a stanza from the wire) or in the one that UV_BLOCK holds. Handles of child elements are made when asked
 *           for and kept in the body of the parent, so that they are always the same.
 *   live    e is NULL. UV_BODY is a table { name =, attr =, tags =, [1 … n] = children } as plugins imagine a stanza.
 *
 * Elements are frozen until somebody changes more than attributes; the change makes the ancestors live first (thaw), so that it is seen from the
 * top. So everything below a frozen element is frozen. Attributes change in the block itself while nobody else looks at it (e->shared) and
 * the slack behind it lasts; stamping `from` on a stanza costs no table.
 *
 * The body exists in the frozen state too, once there are children's handles or a plugin's own keys to keep.
 *
 * Indices (idx) are absolute. Functions may raise; they need a few free stack slots and say what they push.
 */
#ifndef COUPLET_BIND_HANDLE_H
#define COUPLET_BIND_HANDLE_H

#include <lua.h>

#include "base/buf.h"
#include "xml/element.h"

struct handle {
	struct element *e;      /* NULL: live */
	uint32_t node;          /* frozen: offset of the element in e */
	uint32_t flags;
};

enum {
	HANDLE_SEALED = 1,      /* freeze() was called: writes raise */
	HANDLE_EXTRA = 2,       /* the body has keys besides name, attr, tags and children */
	HANDLE_TAGS = 4,        /* the body has tags: plugins may have changed it, methods read it */
	HANDLE_FULL = 8,        /* frozen, and the body has all children */
};

enum { UV_BLOCK = 1, UV_BODY, UV_PARENT, UV_ATTR, UV_COUNT = UV_ATTR };

enum { HANDLE_DEPTH_MAX = 512 };    /* deeper is taken for a cycle */

static inline struct el_node *handle_node(const struct handle *h)
{
	return (struct el_node *)(void *)((char *)h->e + h->node);
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
/* Makes the element and its ancestors live. */
void handle_thaw(lua_State *L, int idx, struct handle *h);
/* Pushes the block's owner: what keeps e alive. */
void handle_owner(lua_State *L, int idx);

lua_Integer handle_count(lua_State *L, int idx, struct handle *h);
/* Pushes child i (from 1), or nil. */
void handle_child(lua_State *L, int idx, struct handle *h, lua_Integer i);
/* Pushes the handle of child i, which is node `off`; h is frozen. */
struct handle *handle_child_at(lua_State *L, int idx, struct handle *h, lua_Integer i, uint32_t off);
/* Pushes the table of child elements. */
void handle_tags(lua_State *L, int idx, struct handle *h);

/* Borrowed until the element changes. */
struct str handle_name(lua_State *L, int idx, struct handle *h);
struct str handle_ns(lua_State *L, int idx, struct handle *h);
struct str handle_attr(lua_State *L, int idx, struct handle *h, struct str name);

/* Pushes the attribute, or nil. */
void handle_attr_push(lua_State *L, int idx, struct handle *h, struct str name);
/* Sets it; value.p == NULL removes it. `name` and `value` are checked. */
void handle_attr_set(lua_State *L, int idx, struct handle *h, struct str name, struct str value);
/* Pushes s.attr. */
void handle_attrs(lua_State *L, int idx, struct handle *h);
/* Pushes a new plain table of the attributes. */
void handle_attrs_copy(lua_State *L, int idx, struct handle *h);
/* If the value at idx is a frozen element's attr: pushes a plain copy and returns 1. */
int handle_attrs_plain(lua_State *L, int idx);

/* Raise if it may not stand in XML. `what` for the message: "tag", "attribute", "text". */
void handle_check_name(lua_State *L, struct str name, const char *what);
void handle_check_text(lua_State *L, struct str text, const char *what);

/* Appends value `child` (element, string or number; checked) to the element at idx, making it live. */
void handle_append(lua_State *L, int idx, struct handle *h, int child);

void handle_write(lua_State *L, int idx, struct handle *h, struct str parent_ns, struct buf *out, uint32_t *to_hole);
struct buf *handle_scratch(void);

/* Each adds its functions to the module's table (on top of the stack) and its methods to the table below it. */
void bind_stanza_attr_open(lua_State *L);
void bind_stanza_read_open(lua_State *L);
void bind_stanza_edit_open(lua_State *L);
void bind_stanza_write_open(lua_State *L);

#endif
