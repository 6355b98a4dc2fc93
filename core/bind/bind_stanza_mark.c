/* SPDX-License-Identifier: MIT */
/* bind_stanza_mark.c - what is asked of, and added to, every message on its way, without building a table of it.
 *
 *   flags(s, rules) -> integer       bits of its child elements: rules[xmlns][name], else rules[xmlns]["*"], or'ed; xmlns "" for
 *                                    the stanza's own namespace
 *   with_leaf(s, name, xmlns, attribute, value, …) -> stanza | nil
 *                                    a copy with one more child, an element without content, at its end; s stays as it is.
 *                                    nil: it has been changed since it was parsed, so clone and tag it
 */
#include <lauxlib.h>
#include <lua.h>
#include <string.h>

#include "bind/bind.h"
#include "bind/bind_handle.h"

enum { LEAF_ATTRS_MAX = 4, SLACK = 256 };

/* Or's what rules (at index 2) say of a child into *bits. */
static void look_up(lua_State *L, struct str name, struct str ns, lua_Integer *bits)
{
	lua_pushlstring(L, ns.n ? ns.p : "", ns.n);
	if (lua_rawget(L, 2) == LUA_TTABLE) {
		lua_pushlstring(L, name.p, name.n);
		if (lua_rawget(L, -2) == LUA_TNIL) {
			lua_pop(L, 1);
			lua_pushliteral(L, "*");
			lua_rawget(L, -2);
		}
		*bits |= lua_tointeger(L, -1);
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
}

static int flags(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	lua_Integer bits = 0;
	if (handle_through_nodes(h)) {
		for (const struct el_node *c = el_node(h->e, handle_node(h)->first); c; c = el_node(h->e, c->next))
			if (c->kind == EL_ELEMENT)
				look_up(L, el_str(h->e, c->name), c->ns.off ? el_str(h->e, c->ns) : STR(""), &bits);
	} else {
		struct str own = handle_ns(L, 1, h);
		handle_tags(L, 1, h);
		for (lua_Integer i = 1; lua_rawgeti(L, 3, i) != LUA_TNIL; i++) {
			struct handle *child = handle_test(L, 4);
			if (child) {
				struct str ns = handle_ns(L, 4, child);
				look_up(L, handle_name(L, 4, child), str_eq(ns, own) || str_is(ns, "jabber:client") ? STR("") : ns,
					&bits);
			}
			lua_settop(L, 3);
		}
	}
	lua_pushinteger(L, bits);
	return 1;
}

static uint32_t aligned(uint32_t at, size_t align)
{
	return (at + (uint32_t)align - 1) & ~((uint32_t)align - 1);
}

static struct el_str put(struct element *e, struct str s)
{
	if (s.n)
		memcpy((char *)e + e->size, s.p, s.n);
	e->size += (uint32_t)s.n;
	return (struct el_str){ e->size - (uint32_t)s.n, (uint32_t)s.n };
}

static int with_leaf(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	struct str words[2 + 2 * LEAF_ATTRS_MAX];
	int n = lua_gettop(L) - 1;
	luaL_argcheck(L, n >= 2 && n % 2 == 0 && n <= 2 + 2 * LEAF_ATTRS_MAX, 2, "name, namespace and attributes expected");
	size_t more = sizeof(struct el_node) + _Alignof(struct el_node) + (size_t)n * sizeof(struct el_attr);
	for (int i = 0; i < n; i++) {
		words[i] = bind_check_str(L, i + 2);
		more += words[i].n;
		if (i == 1 || (i >= 2 && i % 2))
			handle_check_text(L, words[i], "attribute");
		else
			handle_check_name(L, words[i], i ? "attribute" : "tag");
	}
	if (!handle_as_parsed(h) || h->flags & (HANDLE_TAGS | HANDLE_EXTRA) || h->node != h->e->root || h->e->size + more > ELEMENT_MAX) {
		lua_pushnil(L);
		return 1;
	}
	size_t cap = h->e->size + more + SLACK;
	struct handle *copy = handle_new(L, cap);
	struct element *e = copy->e = (struct element *)(void *)(copy + 1);
	memcpy(e, h->e, h->e->size);
	e->cap = (uint32_t)cap;
	e->shared = 0;
	copy->node = h->node;
	uint32_t at = aligned(e->size, _Alignof(struct el_node)), n_attrs = (uint32_t)n / 2 - 1;
	uint32_t attrs = aligned(at + (uint32_t)sizeof(struct el_node), _Alignof(struct el_attr));
	e->size = attrs + n_attrs * (uint32_t)sizeof(struct el_attr);
	struct el_node node = { .kind = EL_ELEMENT, .name = put(e, words[0]), .ns = put(e, words[1]), .attrs = attrs, .n_attrs = n_attrs };
	for (uint32_t i = 0; i < n_attrs; i++) {
		struct el_attr attr = { put(e, words[2 + 2 * i]), put(e, words[3 + 2 * i]) };
		memcpy((char *)e + attrs + i * sizeof attr, &attr, sizeof attr);
	}
	memcpy((char *)e + at, &node, sizeof node);
	struct el_node *root = handle_node(copy);
	root->n_children++;
	uint32_t *link = &root->first;
	while (*link)
		link = &((struct el_node *)(void *)((char *)e + *link))->next;
	*link = at;
	return 1;
}

void bind_stanza_mark_open(lua_State *L)
{
	static const luaL_Reg functions[] = { { "flags", flags }, { "with_leaf", with_leaf }, { NULL, NULL } };
	luaL_setfuncs(L, functions, 0);
}
