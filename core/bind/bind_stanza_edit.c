/* SPDX-License-Identifier: MIT */
/* bind_stanza_edit.c - building and changing stanzas.
 *
 *   stanza(name, attr?, namespaces?)     clone(s, only_top?)     reply(s)     replace(s, children)
 */
#include <lauxlib.h>
#include <lua.h>

#include "bind/bind.h"
#include "bind/bind_handle.h"

/* --- elements -------------------------------------------------------------------------------------------------------------- */

/* Turns the argument `attr` into a plain, checked table or nil. */
static void check_attrs(lua_State *L, int attr)
{
	if (lua_isnoneornil(L, attr))
		return;
	if (handle_attrs_plain(L, attr)) {
		lua_replace(L, attr);
		return;
	}
	luaL_checktype(L, attr, LUA_TTABLE);
	lua_pushnil(L);
	while (lua_next(L, attr)) {
		struct str s;
		if (lua_type(L, -2) != LUA_TSTRING)
			luaL_error(L, "invalid attribute name: a string expected, got %s", luaL_typename(L, -2));
		s.p = lua_tolstring(L, -2, &s.n);
		handle_check_name(L, s, "attribute");
		if (lua_type(L, -1) != LUA_TSTRING)
			luaL_error(L, "invalid value of attribute '%s': a string expected, got %s", s.p, luaL_typename(L, -1));
		s.p = lua_tolstring(L, -1, &s.n);
		handle_check_text(L, s, "attribute");
		lua_pop(L, 1);
	}
}

/* Pushes a built element; name and attributes are good. children, keys: room for so many of either, to be expected. */
static struct handle *build(lua_State *L, int name, int attr, int children, int keys)
{
	struct handle *h = handle_new(L, 0);
	lua_createtable(L, children, keys);
	lua_pushvalue(L, name);
	lua_setfield(L, -2, "name");
	if (attr && !lua_isnoneornil(L, attr)) {
		lua_pushvalue(L, attr);
		lua_setfield(L, -2, "attr");
	}
	lua_setiuservalue(L, -2, UV_BODY);
	h->flags = HANDLE_LISTED | HANDLE_LIVE | HANDLE_OWN;
	return h;
}

static struct handle *build_checked(lua_State *L, int name, int attr, int children, int keys)
{
	handle_check_name(L, bind_check_str(L, name), "tag");
	check_attrs(L, attr);
	return build(L, name, attr, children, keys);
}

static void set_namespaces(lua_State *L, int idx, struct handle *h, int namespaces)
{
	if (lua_isnoneornil(L, namespaces))
		return;
	luaL_checktype(L, namespaces, LUA_TTABLE);
	handle_body(L, idx);
	lua_pushvalue(L, namespaces);
	lua_setfield(L, -2, "namespaces");
	lua_pop(L, 1);
	h->flags |= HANDLE_EXTRA;
}

static int new_stanza(lua_State *L)
{
	lua_settop(L, 3);
	struct handle *h = build_checked(L, 1, 2, 2, 3);      /* with last_add */
	set_namespaces(L, 4, h, 3);
	return 1;
}

/* --- adding ---------------------------------------------------------------------------------------------------------------- */

void handle_append(lua_State *L, int idx, struct handle *h, int child)
{
	if (h->flags & HANDLE_SEALED)
		handle_writable(L, idx);
	int element = handle_test(L, child) != NULL;
	if (!element) {
		if (lua_type(L, child) != LUA_TSTRING && lua_type(L, child) != LUA_TNUMBER)
			luaL_error(L, "a child of a stanza is an element or a string, not a %s", luaL_typename(L, child));
		struct str text;
		text.p = lua_tolstring(L, child, &text.n);
		handle_check_text(L, text, "text");
	}
	handle_thaw(L, idx, h);
	if (element && h->flags & HANDLE_TAGS) {
		handle_tags(L, idx, h);
		lua_pushvalue(L, child);
		lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
		lua_pop(L, 1);
	}
	lua_getiuservalue(L, idx, UV_BODY);
	lua_pushvalue(L, child);
	lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
	lua_pop(L, 1);
}

/* Pushes last_add, the path of elements entered by tag(); pushes nil if there is none. */
static int push_path(lua_State *L, struct handle *h)
{
	if (!(h->flags & HANDLE_EXTRA)) {
		lua_pushnil(L);
		return LUA_TNIL;
	}
	lua_getiuservalue(L, 1, UV_BODY);
	int type = lua_getfield(L, -1, "last_add");
	lua_remove(L, -2);
	return type;
}

static void set_path(lua_State *L, struct handle *h)
{
	handle_body(L, 1);
	lua_insert(L, -2);
	lua_setfield(L, -2, "last_add");
	lua_pop(L, 1);
	h->flags |= HANDLE_EXTRA;
}

/* Pushes the element at the cursor. */
static struct handle *push_cursor(lua_State *L, struct handle *h)
{
	if (push_path(L, h) == LUA_TTABLE) {
		lua_rawgeti(L, -1, (lua_Integer)lua_rawlen(L, -1));
		lua_remove(L, -2);
		struct handle *at = handle_test(L, -1);
		if (at)
			return at;
	}
	lua_pop(L, 1);
	lua_pushvalue(L, 1);
	return h;
}

static int tag(lua_State *L)
{
	struct handle *h = handle_writable(L, 1);
	lua_settop(L, 4);
	struct handle *child = build_checked(L, 2, 3, 1, 2);
	set_namespaces(L, 5, child, 4);
	struct handle *at = push_cursor(L, h);
	handle_append(L, 6, at, 5);
	if (push_path(L, h) != LUA_TTABLE) {
		lua_createtable(L, 2, 0);
		lua_pushvalue(L, -1);
		set_path(L, h);
	}
	lua_pushvalue(L, 5);
	lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
	lua_settop(L, 1);
	return 1;
}

static int up(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	lua_Integer n;
	if (push_path(L, h) == LUA_TTABLE && (n = (lua_Integer)lua_rawlen(L, -1)) > 0) {
		lua_pushnil(L);
		lua_rawseti(L, -2, n);
	}
	lua_settop(L, 1);
	return 1;
}

static int reset(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	if (h->flags & HANDLE_EXTRA) {
		lua_pushnil(L);
		set_path(L, h);
	}
	lua_settop(L, 1);
	return 1;
}

static int at_top(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	lua_pushboolean(L, push_path(L, h) != LUA_TTABLE || lua_rawlen(L, -1) == 0);
	return 1;
}

static int text(lua_State *L)
{
	struct handle *h = handle_writable(L, 1);
	lua_settop(L, 2);
	if (lua_isnil(L, 2))
		return lua_settop(L, 1), 1;
	if (bind_check_str(L, 2).n) {
		struct handle *at = push_cursor(L, h);
		handle_append(L, 3, at, 2);
	}
	lua_settop(L, 1);
	return 1;
}

/* text_tag(name, text?, attr?, namespaces?) */
static int text_tag(lua_State *L)
{
	struct handle *h = handle_writable(L, 1);
	lua_settop(L, 5);
	struct handle *child = build_checked(L, 2, 4, 1, 2);
	set_namespaces(L, 6, child, 5);
	if (!lua_isnil(L, 3) && bind_check_str(L, 3).n)
		handle_append(L, 6, child, 3);
	struct handle *at = push_cursor(L, h);
	handle_append(L, 7, at, 6);
	lua_settop(L, 1);
	return 1;
}

static int add_child(lua_State *L)
{
	struct handle *h = handle_writable(L, 1);
	luaL_checkany(L, 2);
	lua_settop(L, 2);
	struct handle *at = push_cursor(L, h);
	handle_append(L, 3, at, 2);
	lua_settop(L, 1);
	return 1;
}

static int add_direct_child(lua_State *L)
{
	struct handle *h = handle_writable(L, 1);
	luaL_checkany(L, 2);
	lua_settop(L, 2);
	handle_append(L, 1, h, 2);
	return 0;
}

/* replace(s, children): the children are from now on those in the table, and so are the tags. */
static int replace(lua_State *L)
{
	struct handle *h = handle_writable(L, 1);
	luaL_checktype(L, 2, LUA_TTABLE);
	lua_settop(L, 2);
	lua_Integer n = (lua_Integer)lua_rawlen(L, 2);
	for (lua_Integer i = 1; i <= n; i++) {
		if (lua_rawgeti(L, 2, i) == LUA_TNUMBER) {
			lua_tostring(L, -1);
			lua_pushvalue(L, -1);
			lua_rawseti(L, 2, i);
		}
		if (lua_type(L, -1) == LUA_TSTRING)
			handle_check_text(L, bind_check_str(L, -1), "text");
		else if (!handle_test(L, -1))
			luaL_error(L, "a child of a stanza is an element or a string, not a %s", luaL_typename(L, -1));
		lua_pop(L, 1);
	}
	handle_thaw(L, 1, h);
	if (h->flags & HANDLE_TAGS) {
		/* In place: somebody may be holding the table. */
		handle_tags(L, 1, h);
		lua_Integer had = (lua_Integer)lua_rawlen(L, 3), tags = 0;
		for (lua_Integer i = 1; i <= n; i++)
			if (lua_rawgeti(L, 2, i) == LUA_TUSERDATA)
				lua_rawseti(L, 3, ++tags);
			else
				lua_pop(L, 1);
		for (; had > tags; had--) {
			lua_pushnil(L);
			lua_rawseti(L, 3, had);
		}
		lua_settop(L, 2);
	}
	lua_getiuservalue(L, 1, UV_BODY);
	lua_Integer had = (lua_Integer)lua_rawlen(L, 3);
	for (lua_Integer i = 1; i <= n; i++) {
		lua_rawgeti(L, 2, i);
		lua_rawseti(L, 3, i);
	}
	for (; had > n; had--) {
		lua_pushnil(L);
		lua_rawseti(L, 3, had);
	}
	lua_settop(L, 1);
	return 1;
}

/* --- copies ---------------------------------------------------------------------------------------------------------------- */

/* Pushes a clone of the element at idx. What is as parsed is shared with it. */
static void clone(lua_State *L, int idx, struct handle *h, int only_top, int depth)
{
	luaL_checkstack(L, 10, "element too deep");
	if (depth > HANDLE_DEPTH_MAX)
		luaL_error(L, "element too deep, or inside itself");
	struct handle *copy = handle_new(L, 0);
	int at = lua_gettop(L);
	if (h->e) {
		handle_owner(L, idx);
		lua_setiuservalue(L, at, UV_BLOCK);
		h->e->shared = 1;
		copy->e = h->e;
		copy->node = h->node;
		if (handle_as_parsed(h) && !only_top)
			return;
	}
	handle_body(L, at);
	lua_getiuservalue(L, idx, UV_BODY);
	if (h->flags & HANDLE_OWN) {
		lua_getfield(L, at + 2, "name");
		lua_setfield(L, at + 1, "name");
		handle_attrs_copy(L, idx, h);
		lua_setfield(L, at + 1, "attr");
		copy->flags |= HANDLE_OWN;
	}
	if (h->flags & HANDLE_EXTRA) {
		lua_getfield(L, at + 2, "namespaces");
		set_namespaces(L, at, copy, at + 3);
	}
	lua_settop(L, at + 2);
	if (h->flags & HANDLE_LIVE && !only_top) {
		lua_Integer n = (lua_Integer)lua_rawlen(L, at + 2);
		for (lua_Integer i = 1; i <= n; i++) {
			if (lua_rawgeti(L, at + 2, i) == LUA_TUSERDATA) {
				clone(L, at + 3, lua_touserdata(L, at + 3), 0, depth + 1);
				lua_remove(L, at + 3);
			}
			lua_rawseti(L, at + 1, i);
		}
	}
	if (h->flags & HANDLE_LIVE || only_top)
		copy->flags |= HANDLE_LISTED | HANDLE_LIVE;
	lua_settop(L, at);
}

static int clone_stanza(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	clone(L, 1, h, lua_toboolean(L, 2), 0);
	return 1;
}

static void set_field(lua_State *L, int table, const char *name, struct str value)
{
	if (!value.p)
		return;
	lua_pushlstring(L, value.p, value.n);
	lua_setfield(L, table, name);
}

static struct el_str lay(struct element *e, struct str s)
{
	memcpy((char *)e + e->size, s.p, s.n);
	e->size += (uint32_t)s.n;
	return (struct el_str){ e->size - (uint32_t)s.n, (uint32_t)s.n };
}

/* The answer to what was parsed is laid out as if parsed: no table, and nothing in it has to be checked. */
static void reply_block(lua_State *L, struct str name, const struct handle_route *r)
{
	enum { SLACK = 128 };
	const struct { struct str name, value; } attrs[] = {
		{ STR("from"), r->to }, { STR("id"), r->id }, { STR("to"), r->from }, { STR("type"), r->type },
	};
	const size_t n_attrs = sizeof attrs / sizeof *attrs;
	size_t size = sizeof(struct element) + sizeof(struct el_node) + n_attrs * sizeof(struct el_attr) + name.n;
	for (size_t i = 0; i < n_attrs; i++)
		size += attrs[i].name.n + attrs[i].value.n;
	struct handle *h = handle_new(L, size + SLACK);
	struct element *e = h->e = (struct element *)(void *)(h + 1);
	struct el_node *n = (struct el_node *)(void *)(e + 1);
	struct el_attr *a = (struct el_attr *)(void *)(n + 1);
	*e = (struct element){ .size = sizeof *e + sizeof *n + (uint32_t)(n_attrs * sizeof *a), .cap = (uint32_t)(size + SLACK),
		.root = sizeof *e };
	h->node = e->root;
	*n = (struct el_node){ .kind = EL_ELEMENT, .name = lay(e, name), .attrs = (uint32_t)((char *)a - (char *)e) };
	for (size_t i = 0; i < n_attrs; i++)
		if (attrs[i].value.p)
			a[n->n_attrs++] = (struct el_attr){ lay(e, attrs[i].name), lay(e, attrs[i].value) };
}

static int reply(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	struct str name = handle_name(L, 1, h);
	struct handle_route r = handle_route(L, 1, h);
	lua_settop(L, 1);
	if (!(h->flags & HANDLE_OWN)) {
		if (str_is(name, "iq"))
			r.type = STR("result");
		reply_block(L, name, &r);
		return 1;
	}
	lua_pushlstring(L, name.p, name.n);
	lua_createtable(L, 0, 4);
	set_field(L, 3, "to", r.from);
	set_field(L, 3, "from", r.to);
	set_field(L, 3, "id", r.id);
	set_field(L, 3, "type", str_is(name, "iq") ? STR("result") : r.type);
	build(L, 2, 3, 1, 3);
	return 1;
}

static void seal(lua_State *L, int idx, struct handle *h)
{
	if (h->flags & HANDLE_SEALED)
		return;
	luaL_checkstack(L, 6, "element too deep");
	h->flags |= HANDLE_SEALED;
	lua_getiuservalue(L, idx, UV_BODY);
	int body = lua_gettop(L);
	if (lua_istable(L, body)) {
		/* The known children of a frozen element lie anywhere in its body, so walk all of it. */
		lua_pushnil(L);
		while (lua_next(L, body)) {
			struct handle *child = lua_isinteger(L, -2) ? handle_test(L, -1) : NULL;
			if (child)
				seal(L, lua_gettop(L), child);
			lua_pop(L, 1);
		}
		/* Whoever holds the tags may go on writing there; nobody reads it. */
		lua_pushnil(L);
		lua_setfield(L, body, "tags");
		h->flags &= ~(uint32_t)HANDLE_TAGS;
	}
	lua_settop(L, body - 1);
}

static int freeze(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	seal(L, 1, h);
	lua_settop(L, 1);
	return 1;
}

void bind_stanza_edit_open(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "stanza", new_stanza }, { "clone", clone_stanza }, { "reply", reply }, { "replace", replace }, { NULL, NULL },
	};
	static const luaL_Reg methods[] = {
		{ "tag", tag }, { "up", up }, { "reset", reset }, { "at_top", at_top }, { "text", text }, { "text_tag", text_tag },
		{ "add_child", add_child }, { "add_direct_child", add_direct_child }, { "freeze", freeze }, { NULL, NULL },
	};
	luaL_setfuncs(L, functions, 0);
	lua_pushvalue(L, -2);
	luaL_setfuncs(L, methods, 0);
	lua_pop(L, 1);
}
