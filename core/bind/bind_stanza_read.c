/* SPDX-License-Identifier: MIT */
/* bind_stanza_read.c - looking into stanzas: children by name and namespace, text, paths.
 *
 *   payload(s) -> name, xmlns of the first child element;  elements(s) -> number of child elements
 *
 * Two elements are of one namespace if their attr.xmlns say so; a built child without xmlns is in that of its parent. Methods look through `tags` once
 * plugins have seen it, else through the children.
 */
#include <lauxlib.h>
#include <lua.h>

#include "bind/bind.h"
#include "bind/bind_handle.h"

struct match {
	struct str name;        /* p == NULL: any */
	struct str ns;          /* p == NULL: none */
	struct str parent_ns;
	bool any_ns;
};

static struct str optional(lua_State *L, int arg)
{
	return lua_isnoneornil(L, arg) ? (struct str){ NULL, 0 } : bind_check_str(L, arg);
}

static struct match match_of(lua_State *L, int idx, struct handle *h, struct str name, struct str ns)
{
	struct match m = { .name = name, .ns = ns, .parent_ns = handle_ns(L, idx, h) };
	if (!ns.p)
		m.ns = m.parent_ns;
	return m;
}

/* ns.p == NULL: the parent's. */
static bool fits(const struct match *m, struct str name, struct str ns)
{
	if (m->name.p && !str_eq(m->name, name))
		return false;
	if (m->any_ns || str_eq(m->ns, ns))
		return true;
	return !ns.p && str_eq(m->ns, m->parent_ns);
}

static bool node_fits(const struct match *m, const struct element *e, const struct el_node *n)
{
	return n->kind == EL_ELEMENT && fits(m, el_str(e, n->name), n->ns.off ? el_str(e, n->ns) : (struct str){ NULL, 0 });
}

/* The first fitting child from node off, the i-th, on; 0 if there is none. */
static uint32_t next_node(const struct handle *h, const struct match *m, uint32_t off, lua_Integer *i)
{
	for (; off; off = el_node(h->e, off)->next, ++*i) {
		if (node_fits(m, h->e, el_node(h->e, off)))
			return off;
	}
	return 0;
}

/* The same through tags, or else through the body; pushes the child. */
static struct handle *next_listed(lua_State *L, int idx, struct handle *h, int tags, const struct match *m, lua_Integer *i)
{
	if (tags)
		handle_tags(L, idx, h);
	else
		lua_getiuservalue(L, idx, UV_BODY);
	int list = lua_gettop(L), type;
	struct handle *child = NULL;
	for (; (type = lua_rawgeti(L, list, *i)) != LUA_TNIL; ++*i) {
		if (type == LUA_TNUMBER && !tags) {
			if (node_fits(m, h->e, el_node(h->e, (uint32_t)lua_tointeger(L, -1)))) {
				lua_settop(L, list - 1);
				handle_child(L, idx, h, *i);
				return lua_touserdata(L, -1);
			}
		} else if (type == LUA_TUSERDATA) {
			child = handle_test(L, -1);
			if (child && fits(m, handle_name(L, list + 1, child), handle_ns(L, list + 1, child))) {
				lua_replace(L, list);
				return child;
			}
		}
		lua_pop(L, 1);
	}
	lua_settop(L, list - 1);
	return NULL;
}

/* Pushes the first fitting child, or nothing. */
static struct handle *first_child(lua_State *L, int idx, struct handle *h, const struct match *m)
{
	lua_Integer i = 1;
	if (handle_through_nodes(h)) {
		if (!next_node(h, m, handle_node(h)->first, &i))
			return NULL;
		handle_child(L, idx, h, i);
		return lua_touserdata(L, -1);
	}
	return next_listed(L, idx, h, (h->flags & (HANDLE_TAGS | HANDLE_SEALED)) == HANDLE_TAGS, m, &i);
}

static int push_first(lua_State *L, struct handle *h, const struct match *m)
{
	if (!first_child(L, 1, h, m))
		lua_pushnil(L);
	return 1;
}

/* --- children ------------------------------------------------------------------------------------------------------------ */

static int get_child(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	struct match m = match_of(L, 1, h, optional(L, 2), optional(L, 3));
	return push_first(L, h, &m);
}

static int child_with_name(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	struct match m = { .name = optional(L, 2), .any_ns = true };
	return push_first(L, h, &m);
}

static int child_with_ns(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	struct match m = { .ns = optional(L, 2), .parent_ns = handle_ns(L, 1, h) };
	return push_first(L, h, &m);
}

static int payload(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	struct match m = { .any_ns = true };
	struct str name, ns;
	if (handle_through_nodes(h)) {
		lua_Integer i = 1;
		uint32_t off = next_node(h, &m, handle_node(h)->first, &i);
		if (!off)
			return 0;
		name = el_str(h->e, el_node(h->e, off)->name);
		ns = el_str(h->e, el_node(h->e, off)->ns);
	} else {
		struct handle *child = first_child(L, 1, h, &m);
		if (!child)
			return 0;
		name = handle_name(L, lua_gettop(L), child);
		ns = handle_ns(L, lua_gettop(L), child);
	}
	lua_pushlstring(L, name.p, name.n);
	if (!ns.n)
		return 1;
	lua_pushlstring(L, ns.p, ns.n);
	return 2;
}

/* How many child elements: asked of every request. */
static int elements(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	lua_Integer n = 0;
	if (handle_through_nodes(h)) {
		for (uint32_t off = handle_node(h)->first; off; off = el_node(h->e, off)->next)
			n += el_node(h->e, off)->kind == EL_ELEMENT;
	} else {
		handle_tags(L, 1, h);
		n = luaL_len(L, -1);
	}
	lua_pushinteger(L, n);
	return 1;
}

static int next_child(lua_State *L)
{
	lua_Integer i = lua_tointeger(L, lua_upvalueindex(1)) + 1;
	struct handle *h = handle_check(L, 1);
	lua_pushinteger(L, i);
	lua_replace(L, lua_upvalueindex(1));
	handle_child(L, 1, h, i);
	return 1;
}

static int children(lua_State *L)
{
	handle_check(L, 1);
	lua_pushinteger(L, 0);
	lua_pushcclosure(L, next_child, 1);
	lua_pushvalue(L, 1);
	return 2;
}

/* What childtags() iterates with: the loop may change the element, so each step looks at its state anew. */
enum { IT_ELEMENT = 1, IT_NAME, IT_NS, IT_LIST, IT_POSITION, IT_NODE, IT_BLOCK, IT_COUNT = IT_BLOCK };

static int next_tag(lua_State *L)
{
	lua_settop(L, 0);
	lua_pushvalue(L, lua_upvalueindex(IT_ELEMENT));
	struct handle *h = lua_touserdata(L, 1);
	struct match m = match_of(L, 1, h, optional(L, lua_upvalueindex(IT_NAME)), optional(L, lua_upvalueindex(IT_NS)));
	lua_Integer i = lua_tointeger(L, lua_upvalueindex(IT_POSITION)) + 1;
	int tags = lua_toboolean(L, lua_upvalueindex(IT_LIST));
	if (!tags && !(h->flags & HANDLE_LIVE)) {
		uint32_t off = (uint32_t)lua_tointeger(L, lua_upvalueindex(IT_NODE));
		lua_Integer at = 1;
		if (i == 1 || (uintptr_t)lua_tointeger(L, lua_upvalueindex(IT_BLOCK)) != (uintptr_t)h->e)
			for (off = handle_node(h)->first; off && at < i; at++)
				off = el_node(h->e, off)->next;
		off = next_node(h, &m, off, &i);
		lua_pushinteger(L, off ? el_node(h->e, off)->next : 0);
		lua_replace(L, lua_upvalueindex(IT_NODE));
		lua_pushinteger(L, (lua_Integer)(uintptr_t)h->e);
		lua_replace(L, lua_upvalueindex(IT_BLOCK));
		if (off)
			handle_child(L, 1, h, i);
		else
			lua_pushnil(L);
	} else if (!next_listed(L, 1, h, tags, &m, &i)) {
		lua_pushnil(L);
	}
	lua_pushinteger(L, i);
	lua_replace(L, lua_upvalueindex(IT_POSITION));
	return 1;
}

static int childtags(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	optional(L, 2);
	optional(L, 3);
	lua_settop(L, 3);
	lua_pushboolean(L, (h->flags & (HANDLE_TAGS | HANDLE_SEALED)) == HANDLE_TAGS);
	for (int i = IT_POSITION; i <= IT_COUNT; i++)
		lua_pushinteger(L, 0);
	lua_pushcclosure(L, next_tag, IT_COUNT);
	return 1;
}

/* --- text and paths -------------------------------------------------------------------------------------------------------- */

/* Pushes the text of a node without child elements, else nil. */
static void node_text(lua_State *L, const struct element *e, const struct el_node *n)
{
	const struct el_node *c = el_node(e, n->first);
	if (!c || (c->kind == EL_TEXT && !c->next)) {
		lua_pushlstring(L, c ? (const char *)e + c->name.off : "", c ? c->name.len : 0);
		return;
	}
	luaL_Buffer b;
	for (; c; c = el_node(e, c->next))
		if (c->kind == EL_ELEMENT) {
			lua_pushnil(L);
			return;
		}
	luaL_buffinit(L, &b);
	for (c = el_node(e, n->first); c; c = el_node(e, c->next))
		luaL_addlstring(&b, (const char *)e + c->name.off, c->name.len);
	luaL_pushresult(&b);
}

static void push_text(lua_State *L, int idx, struct handle *h)
{
	if (!(h->flags & HANDLE_LIVE)) {
		node_text(L, h->e, handle_node(h));
		return;
	}
	lua_getiuservalue(L, idx, UV_BODY);
	int body = lua_gettop(L);
	lua_Integer n = (lua_Integer)lua_rawlen(L, body);
	luaL_Buffer b;
	for (lua_Integer i = 1; i <= n; i++) {
		int type = lua_rawgeti(L, body, i);
		if (type == LUA_TUSERDATA ||
		    (type == LUA_TNUMBER && el_node(h->e, (uint32_t)lua_tointeger(L, -1))->kind == EL_ELEMENT)) {
			lua_settop(L, body - 1);
			lua_pushnil(L);
			return;
		}
		lua_pop(L, 1);
	}
	luaL_buffinit(L, &b);
	for (lua_Integer i = 1; i <= n; i++) {
		if (lua_rawgeti(L, body, i) == LUA_TNUMBER) {
			struct str s = el_str(h->e, el_node(h->e, (uint32_t)lua_tointeger(L, -1))->name);
			lua_pop(L, 1);
			luaL_addlstring(&b, s.p, s.n);
		} else {
			luaL_addvalue(&b);
		}
	}
	luaL_pushresult(&b);
	lua_remove(L, body);
}

static int get_text(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	push_text(L, 1, h);
	return 1;
}

/* Pushes the text of the first fitting child, or nil. */
static void child_text(lua_State *L, int idx, struct handle *h, const struct match *m)
{
	if (handle_through_nodes(h)) {
		lua_Integer i = 1;
		uint32_t off = next_node(h, m, handle_node(h)->first, &i);
		if (off)
			node_text(L, h->e, el_node(h->e, off));
		else
			lua_pushnil(L);
		return;
	}
	struct handle *child = first_child(L, idx, h, m);
	if (child) {
		push_text(L, lua_gettop(L), child);
		lua_remove(L, -2);
	} else {
		lua_pushnil(L);
	}
}

static int get_child_text(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	struct match m = match_of(L, 1, h, optional(L, 2), optional(L, 3));
	child_text(L, 1, h, &m);
	return 1;
}

static int get_child_attr(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	struct match m = match_of(L, 1, h, optional(L, 2), optional(L, 3));
	struct str name = bind_check_str(L, 4);
	struct handle *child = first_child(L, 1, h, &m);
	if (child)
		handle_attr_push(L, lua_gettop(L), child, name);
	else
		lua_pushnil(L);
	return 1;
}

/* Pushes attribute `name`, `{ns}name` or `prefix:name` of the element at idx. */
static void path_attr(lua_State *L, int idx, struct handle *h, struct str name)
{
	const char *cut;
	if (name.n && name.p[0] == '{' && (cut = memchr(name.p, '}', name.n))) {
		lua_pushlstring(L, name.p + 1, (size_t)(cut - name.p - 1));
		lua_pushlstring(L, cut + 1, (size_t)(name.p + name.n - cut - 1));
	} else if (h->flags & HANDLE_EXTRA && (cut = memchr(name.p, ':', name.n))) {
		handle_body(L, idx);
		if (lua_getfield(L, -1, "namespaces") == LUA_TTABLE) {
			lua_pushlstring(L, name.p, (size_t)(cut - name.p));
			lua_rawget(L, -2);
			lua_replace(L, -3);
		}
		lua_pop(L, 1);
		if (lua_type(L, -1) != LUA_TSTRING) {
			lua_pop(L, 1);
			handle_attr_push(L, idx, h, name);
			return;
		}
		lua_pushlstring(L, cut + 1, (size_t)(name.p + name.n - cut - 1));
	} else {
		handle_attr_push(L, idx, h, name);
		return;
	}
	lua_pushliteral(L, "\1");
	lua_insert(L, -2);
	lua_concat(L, 3);
	struct str key;
	key.p = lua_tolstring(L, -1, &key.n);
	handle_attr_push(L, idx, h, key);
	lua_remove(L, -2);
}

static int find(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	struct str path = bind_check_str(L, 2);
	const char *p = path.p, *end = path.p + path.n;
	lua_settop(L, 2);
	lua_pushvalue(L, 1);
	for (;;) {
		if (p < end && *p == '@') {
			path_attr(L, 3, h, (struct str){ p + 1, (size_t)(end - p - 1) });
			return 1;
		}
		struct str ns = { NULL, 0 }, name = { NULL, 0 };
		if (p < end && *p == '{') {
			const char *close = memchr(p, '}', (size_t)(end - p));
			if (!close)
				return luaL_argerror(L, 2, "'{' without '}'");
			ns = (struct str){ p + 1, (size_t)(close - p - 1) };
			p = close + 1;
		}
		const char *start = p;
		while (p < end && *p != '@' && *p != '/' && *p != '#')
			p++;
		if (p > start)
			name = (struct str){ start, (size_t)(p - start) };
		struct match m = match_of(L, 3, h, name, ns);
		if (p < end && *p == '#') {
			child_text(L, 3, h, &m);
			return 1;
		}
		if (!(h = first_child(L, 3, h, &m)))
			return 0;
		lua_replace(L, 3);
		if (p < end && *p == '/')
			p++;
		if (p == end)
			return 1;
	}
}

static int has(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	struct str path = bind_check_str(L, 2);
	const char *close = path.n && path.p[0] == '{' ? memchr(path.p, '}', path.n) : NULL;
	struct str ns = { NULL, 0 }, name = path;
	if (close) {
		ns = (struct str){ path.p + 1, (size_t)(close - path.p - 1) };
		name = (struct str){ close + 1, (size_t)(path.p + path.n - close - 1) };
	}
	bool simple = true;
	for (size_t i = 0; i < name.n; i++)
		if (name.p[i] == '/' || name.p[i] == '@' || name.p[i] == '#' || name.p[i] == '{')
			simple = false;
	if (!simple || !handle_through_nodes(h)) {
		int found = find(L);
		lua_pushboolean(L, found && !lua_isnil(L, -1));
		return 1;
	}
	struct match m = match_of(L, 1, h, name.n ? name : (struct str){ NULL, 0 }, ns);
	lua_Integer i = 1;
	lua_pushboolean(L, next_node(h, &m, handle_node(h)->first, &i) != 0);
	return 1;
}

void bind_stanza_read_open(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "get_child", get_child }, { "child_with_name", child_with_name }, { "child_with_ns", child_with_ns },
		{ "children", children }, { "childtags", childtags }, { "get_text", get_text },
		{ "get_child_text", get_child_text }, { "get_child_attr", get_child_attr }, { "find", find }, { "has", has },
		{ NULL, NULL },
	};
	lua_pushcfunction(L, payload);
	lua_setfield(L, -2, "payload");
	lua_pushcfunction(L, elements);
	lua_setfield(L, -2, "elements");
	lua_pushvalue(L, -2);
	luaL_setfuncs(L, methods, 0);
	lua_pop(L, 1);
}
