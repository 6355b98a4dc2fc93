/* SPDX-License-Identifier: MIT */
/* bind_stanza.c - couplet.core.stanza: the handle behind stanzas and elements, and how it behaves like a table.
 *
 * Read bind_handle.h first. Reading is in bind_stanza_read.c, attributes in bind_stanza_attr.c, building and changing in
 * bind_stanza_edit.c, serialising in bind_stanza_write.c. What is not hot is Lua: lua/couplet/stanza.lua.
 */
#include "bind/bind_stanza.h"

#include <lauxlib.h>

#include "bind/bind.h"
#include "bind/bind_handle.h"
#include "xml/chars.h"

enum { SLACK = 256 };   /* room behind the block for stamped attributes */

const char HANDLE_META, HANDLE_METHODS;

struct handle *handle_test(lua_State *L, int idx)
{
	struct handle *h = lua_touserdata(L, idx);
	if (!h || !lua_getmetatable(L, idx))
		return NULL;
	lua_rawgetp(L, LUA_REGISTRYINDEX, &HANDLE_META);
	int same = lua_rawequal(L, -1, -2);
	lua_pop(L, 2);
	return same ? h : NULL;
}

struct handle *handle_check(lua_State *L, int arg)
{
	struct handle *h = handle_test(L, arg);
	if (!h)
		luaL_typeerror(L, arg, "stanza");
	return h;
}

struct handle *handle_writable(lua_State *L, int arg)
{
	struct handle *h = handle_check(L, arg);
	if (h->flags & HANDLE_SEALED)
		luaL_error(L, "this stanza is frozen: clone it to change it");
	return h;
}

struct handle *handle_new(lua_State *L, size_t room)
{
	struct handle *h = lua_newuserdatauv(L, sizeof *h + room, UV_COUNT);
	*h = (struct handle){ 0 };
	lua_rawgetp(L, LUA_REGISTRYINDEX, &HANDLE_META);
	lua_setmetatable(L, -2);
	return h;
}

void bind_stanza_push(lua_State *L, const struct element *e)
{
	struct handle *h = handle_new(L, (size_t)e->size + SLACK);
	h->e = (struct element *)(void *)(h + 1);
	memcpy(h->e, e, e->size);
	h->e->cap = e->size + SLACK;
	h->e->shared = 0;
	h->node = e->root;
}

bool bind_stanza_is(lua_State *L, int index)
{
	return handle_test(L, index) != NULL;
}

struct str bind_stanza_name(lua_State *L, int index)
{
	index = lua_absindex(L, index);
	return handle_name(L, index, handle_check(L, index));
}

struct str bind_stanza_ns(lua_State *L, int index)
{
	index = lua_absindex(L, index);
	return handle_ns(L, index, handle_check(L, index));
}

struct str bind_stanza_attr(lua_State *L, int index, const char *name)
{
	index = lua_absindex(L, index);
	return handle_attr(L, index, handle_check(L, index), str_of(name));
}

/* --- checks ---------------------------------------------------------------------------------------------------------- */

void handle_check_name(lua_State *L, struct str name, const char *what)
{
	/* "NS\1local" is the name of an attribute in a namespace. */
	const char *cut = name.n ? memchr(name.p, 1, name.n) : NULL;
	if (cut && *what == 'a') {
		handle_check_text(L, (struct str){ name.p, (size_t)(cut - name.p) }, "namespace");
		name = (struct str){ cut + 1, (size_t)(name.p + name.n - cut - 1) };
	}
	if (chars_name(name))
		return;
	luaL_error(L, !name.n ? "invalid %s name: empty" : !chars_text(name) ?
		"invalid %s name: control characters or bad UTF-8" : "invalid %s name: '%s'", what, name.p);
}

void handle_check_text(lua_State *L, struct str text, const char *what)
{
	if (!chars_text(text))
		luaL_error(L, "invalid %s value: control characters or bad UTF-8", what);
}

/* --- body and children ------------------------------------------------------------------------------------------------- */

static void body(lua_State *L, int idx, int slots)
{
	if (lua_getiuservalue(L, idx, UV_BODY) == LUA_TTABLE)
		return;
	lua_pop(L, 1);
	lua_createtable(L, slots, 0);
	lua_pushvalue(L, -1);
	lua_setiuservalue(L, idx, UV_BODY);
}

void handle_body(lua_State *L, int idx)
{
	body(L, idx, 0);
}

void handle_owner(lua_State *L, int idx)
{
	if (lua_getiuservalue(L, idx, UV_BLOCK) != LUA_TUSERDATA) {
		lua_pop(L, 1);
		lua_pushvalue(L, idx);
	}
}

void handle_list(lua_State *L, int idx, struct handle *h)
{
	if (h->flags & HANDLE_LISTED) {
		lua_getiuservalue(L, idx, UV_BODY);
		return;
	}
	body(L, idx, (int)handle_node(h)->n_children);
	lua_Integer i = 0;
	for (uint32_t off = handle_node(h)->first; off; off = el_node(h->e, off)->next) {
		lua_pushinteger(L, off);
		lua_rawseti(L, -2, ++i);
	}
	h->flags |= HANDLE_LISTED;
}

/* Pushes entry i of the listed body at `list`, made an element or a string if it was an offset. */
static int entry(lua_State *L, int idx, struct handle *h, int list, lua_Integer i)
{
	int type = lua_rawgeti(L, list, i);
	if (type != LUA_TNUMBER)
		return type;
	uint32_t off = (uint32_t)lua_tointeger(L, -1);
	const struct el_node *n = el_node(h->e, off);
	lua_pop(L, 1);
	if (n->kind == EL_TEXT) {
		lua_pushlstring(L, (const char *)h->e + n->name.off, n->name.len);
	} else {
		struct handle *child = handle_new(L, 0);
		handle_owner(L, idx);
		lua_setiuservalue(L, -2, UV_BLOCK);
		if (!(h->flags & HANDLE_LIVE)) {
			lua_pushvalue(L, idx);
			lua_setiuservalue(L, -2, UV_PARENT);
		}
		child->e = h->e;
		child->node = off;
		child->flags = h->flags & HANDLE_SEALED;
	}
	lua_pushvalue(L, -1);
	lua_rawseti(L, list, i);
	return lua_type(L, -1);
}

lua_Integer handle_count(lua_State *L, int idx, struct handle *h)
{
	if (!(h->flags & HANDLE_LIVE))
		return handle_node(h)->n_children;
	lua_getiuservalue(L, idx, UV_BODY);
	lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
	lua_pop(L, 1);
	return n;
}

void handle_child(lua_State *L, int idx, struct handle *h, lua_Integer i)
{
	handle_list(L, idx, h);
	entry(L, idx, h, lua_gettop(L), i);
	lua_remove(L, -2);
}

void handle_tags(lua_State *L, int idx, struct handle *h)
{
	handle_list(L, idx, h);
	int list = lua_gettop(L);
	if (h->flags & HANDLE_TAGS) {
		lua_getfield(L, list, "tags");
		lua_remove(L, list);
		return;
	}
	lua_Integer n = (lua_Integer)lua_rawlen(L, list), count = 0;
	lua_createtable(L, n < 64 ? (int)n : 64, 0);
	for (lua_Integer i = 1; i <= n; i++)
		if (entry(L, idx, h, list, i) == LUA_TUSERDATA)
			lua_rawseti(L, -2, ++count);
		else
			lua_pop(L, 1);
	lua_pushvalue(L, -1);
	lua_setfield(L, list, "tags");
	h->flags |= HANDLE_TAGS;
	lua_remove(L, list);
}

/* Makes the parent's children changeable. */
static void thaw_parent(lua_State *L, int idx)
{
	luaL_checkstack(L, 16, "element too deep");
	if (lua_getiuservalue(L, idx, UV_PARENT) == LUA_TUSERDATA) {
		handle_thaw(L, lua_gettop(L), lua_touserdata(L, -1));
		lua_pushnil(L);
		lua_setiuservalue(L, idx, UV_PARENT);   /* it holds this handle now, and has no more to learn */
	}
	lua_pop(L, 1);
}

void handle_thaw(lua_State *L, int idx, struct handle *h)
{
	if (h->flags & HANDLE_LIVE)
		return;
	thaw_parent(L, idx);
	handle_list(L, idx, h);
	lua_pop(L, 1);
	h->flags |= HANDLE_LIVE;
}

void handle_own(lua_State *L, int idx, struct handle *h)
{
	if (h->flags & HANDLE_OWN)
		return;
	thaw_parent(L, idx);
	handle_body(L, idx);
	struct str name = handle_name(L, idx, h);
	lua_pushlstring(L, name.p, name.n);
	lua_setfield(L, -2, "name");
	handle_attrs_copy(L, idx, h);
	lua_setfield(L, -2, "attr");
	lua_pop(L, 1);
	h->flags |= HANDLE_OWN;
}

struct str handle_name(lua_State *L, int idx, struct handle *h)
{
	if (!(h->flags & HANDLE_OWN))
		return el_str(h->e, handle_node(h)->name);
	struct str name;
	lua_getiuservalue(L, idx, UV_BODY);
	lua_getfield(L, -1, "name");
	name.p = lua_tolstring(L, -1, &name.n);
	lua_pop(L, 2);
	return name;
}

/* --- like a table ------------------------------------------------------------------------------------------------------ */

static int is_key(const char *key, size_t len, const char *what)
{
	return len == strlen(what) && memcmp(key, what, len) == 0;
}

static int on_index(lua_State *L)
{
	struct handle *h = lua_touserdata(L, 1);        /* Lua calls metamethods with nothing else */
	if (lua_type(L, 2) == LUA_TSTRING) {
		size_t len;
		const char *key = lua_tolstring(L, 2, &len);
		if (len == 4 && memcmp(key, "attr", 4) == 0) {
			handle_attrs(L, 1, h);
			return 1;
		}
		if (len == 4 && memcmp(key, "name", 4) == 0) {
			struct str name = handle_name(L, 1, h);
			lua_pushlstring(L, name.p, name.n);
			return 1;
		}
		if (len == 4 && memcmp(key, "tags", 4) == 0) {
			handle_tags(L, 1, h);
			return 1;
		}
		if (h->flags & HANDLE_EXTRA) {
			lua_getiuservalue(L, 1, UV_BODY);
			lua_pushvalue(L, 2);
			if (lua_rawget(L, -2) != LUA_TNIL)
				return 1;
		}
		lua_pushvalue(L, 2);
		lua_rawget(L, lua_upvalueindex(1));
		return 1;
	}
	int isint;
	lua_Integer i = lua_tointegerx(L, 2, &isint);
	if (isint) {
		handle_child(L, 1, h, i);
		return 1;
	}
	if (h->flags & HANDLE_EXTRA && !lua_isnil(L, 2)) {
		lua_getiuservalue(L, 1, UV_BODY);
		lua_pushvalue(L, 2);
		lua_rawget(L, -2);
		return 1;
	}
	lua_pushnil(L);
	return 1;
}

static void set_child(lua_State *L, struct handle *h, lua_Integer i)
{
	if (lua_type(L, 3) == LUA_TNUMBER)
		lua_tostring(L, 3);
	if (lua_type(L, 3) == LUA_TSTRING)
		handle_check_text(L, bind_check_str(L, 3), "text");
	else if (!lua_isnil(L, 3) && !handle_test(L, 3))
		luaL_error(L, "a child of a stanza is an element or a string, not a %s", luaL_typename(L, 3));
	handle_thaw(L, 1, h);
	handle_tags(L, 1, h);   /* as they are before the write: what is written here is not put into tags */
	lua_getiuservalue(L, 1, UV_BODY);
	lua_pushvalue(L, 3);
	lua_rawseti(L, -2, i);
}

static int on_newindex(lua_State *L)
{
	struct handle *h = handle_writable(L, 1);
	int isint = 0;
	lua_Integer i = lua_type(L, 2) == LUA_TNUMBER ? lua_tointegerx(L, 2, &isint) : 0;
	if (isint) {
		set_child(L, h, i);
		return 0;
	}
	size_t len = 0;
	const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tolstring(L, 2, &len) : "";
	if (is_key(key, len, "name")) {
		handle_check_name(L, bind_check_str(L, 3), "tag");
		handle_own(L, 1, h);
	} else if (is_key(key, len, "attr")) {
		if (!handle_attrs_plain(L, 3))
			luaL_checktype(L, 3, LUA_TTABLE);
		else
			lua_replace(L, 3);
		handle_own(L, 1, h);
	} else if (is_key(key, len, "tags")) {
		if (!lua_isnil(L, 3))
			luaL_checktype(L, 3, LUA_TTABLE);
		h->flags = lua_isnil(L, 3) ? h->flags & ~(uint32_t)HANDLE_TAGS : h->flags | HANDLE_TAGS;
	} else {
		h->flags |= HANDLE_EXTRA;
	}
	handle_body(L, 1);
	lua_insert(L, 2);
	lua_rawset(L, 2);
	return 0;
}

static int on_len(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	lua_pushinteger(L, handle_count(L, 1, h));
	return 1;
}

/* name, attr, tags, children and whatever plugins keep there: a copy, so that the body itself is nobody's. */
static int on_pairs(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	lua_getglobal(L, "next");
	lua_newtable(L);
	handle_list(L, 1, h);
	int list = lua_gettop(L);
	for (lua_Integer i = 1; entry(L, 1, h, list, i) != LUA_TNIL; i++)
		lua_pop(L, 1);
	while (lua_next(L, list)) {
		lua_pushvalue(L, -2);
		lua_insert(L, -2);
		lua_rawset(L, list - 1);
	}
	lua_pop(L, 1);
	struct str name = handle_name(L, 1, h);
	lua_pushlstring(L, name.p, name.n);
	lua_setfield(L, -2, "name");
	handle_attrs(L, 1, h);
	lua_setfield(L, -2, "attr");
	handle_tags(L, 1, h);
	lua_setfield(L, -2, "tags");
	lua_pushnil(L);
	return 3;
}

/* --- module -------------------------------------------------------------------------------------------------------------- */

static int is_stanza(lua_State *L)
{
	lua_pushboolean(L, handle_test(L, 1) != NULL);
	return 1;
}

int bind_stanza_open(lua_State *L)
{
	static const luaL_Reg meta[] = {
		{ "__newindex", on_newindex }, { "__len", on_len }, { "__pairs", on_pairs }, { NULL, NULL },
	};
	static const luaL_Reg functions[] = { { "is_stanza", is_stanza }, { NULL, NULL } };
	lua_newtable(L);                                /* methods = stanza_mt as plugins see it */
	lua_pushvalue(L, -1);
	lua_setfield(L, -2, "__index");
	lua_pushvalue(L, -1);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &HANDLE_METHODS);

	luaL_newlib(L, meta);                           /* the real one */
	lua_pushvalue(L, -2);
	lua_pushcclosure(L, on_index, 1);
	lua_setfield(L, -2, "__index");
	lua_pushliteral(L, "stanza");
	lua_setfield(L, -2, "__name");
	lua_pushvalue(L, -2);
	lua_setfield(L, -2, "__metatable");
	lua_rawsetp(L, LUA_REGISTRYINDEX, &HANDLE_META);

	lua_newtable(L);                                /* the module */
	lua_pushvalue(L, -2);
	lua_setfield(L, -2, "stanza_mt");
	luaL_setfuncs(L, functions, 0);
	bind_stanza_attr_open(L);
	bind_stanza_read_open(L);
	bind_stanza_edit_open(L);
	bind_stanza_write_open(L);
	bind_stanza_mark_open(L);
	return 1;
}
