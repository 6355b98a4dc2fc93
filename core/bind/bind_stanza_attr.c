/* SPDX-License-Identifier: MIT */
/* bind_stanza_attr.c - attributes of stanzas and elements: s.attr, and quicker ways to them.
 *
 * s.attr of a built element is its table. Of a parsed (or sealed) one it is a view, a userdata that reads and writes the block; it goes on
 * working when the attributes move into a table.
 *
 *   attr(s, name) -> string | nil              set_attr(s, name, value | nil)
 *   route(s) -> name, to, from, type, id, xmlns
 */
#include <lauxlib.h>
#include <lua.h>

#include "bind/bind.h"
#include "bind/bind_handle.h"

enum { MORE_SLACK = 512 };

static const char VIEW_META;    /* key in the registry */

struct view {
	struct handle *h;       /* user value 1 keeps it */
};

/* --- reading ------------------------------------------------------------------------------------------------------------- */

/* Pushes the attribute table of an element that has its own, or nil while there is none. */
static int own_attrs(lua_State *L, int idx)
{
	lua_getiuservalue(L, idx, UV_BODY);
	int type = lua_getfield(L, -1, "attr");
	lua_remove(L, -2);
	return type;
}

struct str handle_attr(lua_State *L, int idx, struct handle *h, struct str name)
{
	if (!(h->flags & HANDLE_OWN))
		return str_is(name, "xmlns") ? handle_ns(L, idx, h) : element_attr(h->e, handle_node(h), name);
	struct str value = { NULL, 0 };
	if (own_attrs(L, idx) == LUA_TTABLE) {
		lua_pushlstring(L, name.p, name.n);
		if (lua_rawget(L, -2) == LUA_TSTRING)           /* the table keeps it */
			value.p = lua_tolstring(L, -1, &value.n);
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	return value;
}

struct str handle_ns(lua_State *L, int idx, struct handle *h)
{
	if (h->flags & HANDLE_OWN)
		return handle_attr(L, idx, h, STR("xmlns"));
	const struct el_node *n = handle_node(h);
	return n->ns.off ? el_str(h->e, n->ns) : (struct str){ NULL, 0 };
}

static void push(lua_State *L, struct str s)
{
	if (s.p)
		lua_pushlstring(L, s.p, s.n);
	else
		lua_pushnil(L);
}

void handle_attr_push(lua_State *L, int idx, struct handle *h, struct str name)
{
	if (!(h->flags & HANDLE_OWN)) {
		push(L, handle_attr(L, idx, h, name));
		return;
	}
	if (own_attrs(L, idx) == LUA_TTABLE) {
		lua_pushlstring(L, name.p, name.n);
		lua_rawget(L, -2);
		lua_remove(L, -2);
	}
}

void handle_attrs_copy(lua_State *L, int idx, struct handle *h)
{
	if (!(h->flags & HANDLE_OWN)) {
		const struct el_node *n = handle_node(h);
		lua_createtable(L, 0, (int)(n->n_attrs + (n->ns.off != 0)));
		for (uint32_t i = 0; i < n->n_attrs; i++) {
			const struct el_attr *a = &el_attrs(h->e, n)[i];
			push(L, el_str(h->e, a->name));
			push(L, el_str(h->e, a->value));
			lua_rawset(L, -3);
		}
		if (n->ns.off) {
			push(L, el_str(h->e, n->ns));
			lua_setfield(L, -2, "xmlns");
		}
		return;
	}
	lua_newtable(L);
	if (own_attrs(L, idx) == LUA_TTABLE) {
		lua_pushnil(L);
		while (lua_next(L, -2)) {
			lua_pushvalue(L, -2);
			lua_insert(L, -2);
			lua_rawset(L, -5);
		}
	}
	lua_pop(L, 1);
}

void handle_attrs(lua_State *L, int idx, struct handle *h)
{
	if ((h->flags & (HANDLE_OWN | HANDLE_SEALED)) == HANDLE_OWN) {
		if (own_attrs(L, idx) != LUA_TNIL)
			return;
		lua_pop(L, 1);
		lua_newtable(L);
		lua_getiuservalue(L, idx, UV_BODY);
		lua_pushvalue(L, -2);
		lua_setfield(L, -2, "attr");
		lua_pop(L, 1);
		return;
	}
	if (lua_getiuservalue(L, idx, UV_ATTR) == LUA_TUSERDATA)
		return;
	lua_pop(L, 1);
	struct view *v = lua_newuserdatauv(L, sizeof *v, 1);
	v->h = h;
	lua_pushvalue(L, idx);
	lua_setiuservalue(L, -2, 1);
	lua_rawgetp(L, LUA_REGISTRYINDEX, &VIEW_META);
	lua_setmetatable(L, -2);
	lua_pushvalue(L, -1);
	lua_setiuservalue(L, idx, UV_ATTR);
}

/* --- writing ------------------------------------------------------------------------------------------------------------- */

static struct el_str put(struct element *e, struct str s)
{
	if (!s.n)
		return (struct el_str){ 0, 0 };
	memcpy((char *)e + e->size, s.p, s.n);
	e->size += (uint32_t)s.n;
	return (struct el_str){ e->size - (uint32_t)s.n, (uint32_t)s.n };
}

/* Changes the block itself if nobody else looks at it and there is room; returns whether it did. */
static int set_in_place(struct handle *h, struct str name, struct str value)
{
	struct element *e = h->e;
	struct el_node *n = handle_node(h);
	size_t room = e->cap - e->size;
	if (e->shared || name.n > ELEMENT_MAX || value.n > ELEMENT_MAX)
		return 0;
	if (str_is(name, "xmlns")) {
		if (value.n > room)
			return 0;
		n->ns = value.n || !value.p ? put(e, value) : (struct el_str){ n->name.off, 0 };        /* "": none, and not inherited */
		return 1;
	}
	struct el_attr *a = (struct el_attr *)(void *)((char *)e + n->attrs);
	uint32_t i = 0;
	while (i < n->n_attrs && !str_eq(el_str(e, a[i].name), name))
		i++;
	if (!value.p) {
		if (i < n->n_attrs) {
			memmove(a + i, a + i + 1, (n->n_attrs - i - 1) * sizeof *a);
			n->n_attrs--;
		}
		return 1;
	}
	if (i < n->n_attrs) {
		if (value.n > room)
			return 0;
		a[i].value = put(e, value);
		return 1;
	}
	size_t array = ((size_t)n->n_attrs + 1) * sizeof *a, align = _Alignof(struct el_attr);
	if (name.n + value.n + array + align > room)
		return 0;
	struct el_attr added = { put(e, name), put(e, value) };
	uint32_t at = (e->size + (uint32_t)align - 1) & ~((uint32_t)align - 1);
	struct el_attr *moved = (struct el_attr *)(void *)((char *)e + at);
	memcpy(moved, a, n->n_attrs * sizeof *a);
	moved[n->n_attrs] = added;
	e->size = at + (uint32_t)array;
	n->attrs = at;
	n->n_attrs++;
	return 1;
}

/* Gives an element a block of its own, with more room. Elements below it that are known already stay on the old one, which must not change
 * any more: a change of theirs makes this one live. */
static void move_block(lua_State *L, int idx, struct handle *h, size_t wanted)
{
	struct element *old = h->e;
	size_t cap = old->size + wanted + MORE_SLACK;
	struct element *e = lua_newuserdatauv(L, cap, 0);
	memcpy(e, old, old->size);
	e->cap = (uint32_t)cap;
	e->shared = 0;
	lua_setiuservalue(L, idx, UV_BLOCK);
	old->shared = 1;
	h->e = e;
}

void handle_attr_set(lua_State *L, int idx, struct handle *h, struct str name, struct str value)
{
	handle_check_name(L, name, "attribute");
	if (value.p)
		handle_check_text(L, value, "attribute");
	if (!(h->flags & HANDLE_OWN)) {
		if (set_in_place(h, name, value))
			return;
		lua_getiuservalue(L, idx, UV_PARENT);
		struct handle *parent = lua_touserdata(L, -1);
		lua_pop(L, 1);
		int free_to_move = !parent || parent->flags & HANDLE_LIVE;
		if (free_to_move && name.n + value.n < ELEMENT_MAX / 2 && h->e->size < ELEMENT_MAX / 2) {
			move_block(L, idx, h, name.n + value.n + (handle_node(h)->n_attrs + 1) * sizeof(struct el_attr));
			if (set_in_place(h, name, value))
				return;
		}
		handle_own(L, idx, h);
	}
	if (own_attrs(L, idx) != LUA_TTABLE) {
		lua_pop(L, 1);
		handle_attrs(L, idx, h);
	}
	lua_pushlstring(L, name.p, name.n);
	push(L, value);
	lua_rawset(L, -3);
	lua_pop(L, 1);
}

/* --- the view ------------------------------------------------------------------------------------------------------------ */

static struct view *view_test(lua_State *L, int idx)
{
	struct view *v = lua_touserdata(L, idx);
	if (!v || !lua_getmetatable(L, idx))
		return NULL;
	lua_rawgetp(L, LUA_REGISTRYINDEX, &VIEW_META);
	int same = lua_rawequal(L, -1, -2);
	lua_pop(L, 2);
	return same ? v : NULL;
}

int handle_attrs_plain(lua_State *L, int idx)
{
	struct view *v = view_test(L, idx);
	if (!v)
		return 0;
	lua_getiuservalue(L, idx, 1);
	handle_attrs_copy(L, lua_gettop(L), v->h);
	lua_remove(L, -2);
	return 1;
}

static struct view *view_check(lua_State *L)
{
	struct view *v = view_test(L, 1);
	if (!v)
		luaL_typeerror(L, 1, "attributes");
	return v;
}

static int view_index(lua_State *L)
{
	struct view *v = lua_touserdata(L, 1);
	if (lua_type(L, 2) != LUA_TSTRING)
		return 0;
	struct str name = bind_check_str(L, 2);
	if (!(v->h->flags & HANDLE_OWN)) {
		push(L, handle_attr(L, 0, v->h, name));
		return 1;
	}
	lua_getiuservalue(L, 1, 1);
	handle_attr_push(L, lua_gettop(L), v->h, name);
	return 1;
}

static struct str check_value(lua_State *L, int arg)
{
	return lua_isnoneornil(L, arg) ? (struct str){ NULL, 0 } : bind_check_str(L, arg);
}

static int view_newindex(lua_State *L)
{
	struct view *v = view_check(L);
	struct str name = bind_check_str(L, 2), value = check_value(L, 3);
	lua_getiuservalue(L, 1, 1);
	handle_writable(L, lua_gettop(L));
	handle_attr_set(L, lua_gettop(L), v->h, name, value);
	return 0;
}

static int view_pairs(lua_State *L)
{
	view_check(L);
	lua_getglobal(L, "next");
	handle_attrs_plain(L, 1);       /* a copy: fields may be cleared while it is walked */
	lua_pushnil(L);
	return 3;
}

/* --- functions ----------------------------------------------------------------------------------------------------------- */

static int attr(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	handle_attr_push(L, 1, h, bind_check_str(L, 2));
	return 1;
}

static int set_attr(lua_State *L)
{
	struct handle *h = handle_writable(L, 1);
	handle_attr_set(L, 1, h, bind_check_str(L, 2), check_value(L, 3));
	return 0;
}

static void push_ns(lua_State *L, struct handle *h)
{
	struct str ns = handle_ns(L, 1, h);
	push(L, ns.n ? ns : (struct str){ NULL, 0 });
}

struct handle_route handle_route(lua_State *L, int idx, struct handle *h)
{
	struct handle_route r = { { NULL, 0 }, { NULL, 0 }, { NULL, 0 }, { NULL, 0 } };
	if (h->flags & HANDLE_OWN) {
		r.to = handle_attr(L, idx, h, STR("to"));
		r.from = handle_attr(L, idx, h, STR("from"));
		r.type = handle_attr(L, idx, h, STR("type"));
		r.id = handle_attr(L, idx, h, STR("id"));
		return r;
	}
	const struct el_node *n = handle_node(h);
	const struct el_attr *a = el_attrs(h->e, n);
	for (uint32_t i = 0; i < n->n_attrs; i++) {
		struct str name = el_str(h->e, a[i].name), value = el_str(h->e, a[i].value);
		if (name.n == 2 && name.p[0] == 't' && name.p[1] == 'o')
			r.to = value;
		else if (name.n == 2 && name.p[0] == 'i' && name.p[1] == 'd')
			r.id = value;
		else if (name.n == 4 && memcmp(name.p, "from", 4) == 0)
			r.from = value;
		else if (name.n == 4 && memcmp(name.p, "type", 4) == 0)
			r.type = value;
	}
	return r;
}

/* Words that stand in every other stanza: Lua finds a string by the address of a constant quicker than by its bytes. */
static void push_word(lua_State *L, struct str s)
{
	static const char *const words[] = { "iq", "message", "presence", "get", "set", "result", "error", "chat", "groupchat", "unavailable" };
	for (size_t i = 0; s.p && i < sizeof words / sizeof *words; i++)
		if (*words[i] == *s.p && str_is(s, words[i])) {
			lua_pushstring(L, words[i]);
			return;
		}
	push(L, s);
}

static int route(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	struct handle_route r = handle_route(L, 1, h);
	push_word(L, handle_name(L, 1, h));
	push(L, r.to);
	push(L, r.from);
	push_word(L, r.type);
	push(L, r.id);
	push_ns(L, h);
	return 6;
}

/* type(), to which a stanza and its attributes are tables: for plugins that ask. */
static int type_of(lua_State *L)
{
	luaL_checkany(L, 1);
	if (lua_type(L, 1) == LUA_TUSERDATA && (handle_test(L, 1) || view_test(L, 1)))
		lua_pushliteral(L, "table");
	else
		lua_pushstring(L, luaL_typename(L, 1));
	return 1;
}

void bind_stanza_attr_open(lua_State *L)
{
	static const luaL_Reg meta[] = {
		{ "__index", view_index }, { "__newindex", view_newindex }, { "__pairs", view_pairs }, { NULL, NULL },
	};
	static const luaL_Reg functions[] = {
		{ "attr", attr }, { "set_attr", set_attr }, { "route", route }, { "type", type_of }, { NULL, NULL },
	};
	luaL_newlib(L, meta);
	lua_pushliteral(L, "attributes");
	lua_setfield(L, -2, "__name");
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "__metatable");
	lua_rawsetp(L, LUA_REGISTRYINDEX, &VIEW_META);
	luaL_setfuncs(L, functions, 0);
}
