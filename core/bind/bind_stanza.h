/* SPDX-License-Identifier: MIT */
/* bind_stanza.h - stanzas in Lua (docs/plugins: util.stanza), as the rest of the core meets them. Logic thread.
 *
 * Whatever may raise leaves nothing behind but what Lua collects by itself: no stanza has a finaliser.
 */
#ifndef COUPLET_BIND_STANZA_H
#define COUPLET_BIND_STANZA_H

#include <lua.h>
#include <stdint.h>

#include "base/buf.h"
#include "xml/element.h"

/* Pushes a stanza that is a copy of e; e stays the caller's. May raise (memory). */
void bind_stanza_push(lua_State *L, const struct element *e);

bool bind_stanza_is(lua_State *L, int index);

/* Name, namespace ("" for the stream's own) and attributes of the stanza at index, borrowed until it changes; p == NULL if there is no such
 * attribute. The stanza must be one. */
struct str bind_stanza_name(lua_State *L, int index);
struct str bind_stanza_ns(lua_State *L, int index);
struct str bind_stanza_attr(lua_State *L, int index, const char *name);

/* Appends the stanza at index as XML; parent_ns is the namespace in force where it will stand, STR("") for none.
 * to_hole, unless NULL: the stanza's own `to` is left out, and *to_hole is the place in out (counted from buf_data) where
 * " to='…'" may be put in, whether the stanza had one or not.
 * Raises for what cannot be written (control characters, a name that is none, an element inside itself), with part of it in
 * out: out must not be known to the caller's C frame alone. */
void bind_stanza_write(lua_State *L, int index, struct str parent_ns, struct buf *out, uint32_t *to_hole);

/* The same into a buffer that is the logic thread's own: borrowed until the next call. */
struct str bind_stanza_text(lua_State *L, int index, struct str parent_ns, uint32_t *to_hole);

#endif
