/* SPDX-License-Identifier: MIT */
/* bind_stanza_write.c - stanzas to XML.
 *
 * What is as parsed is written as it came; of built heads xmlns comes first, then the other attributes in the order of their names. What
 * plugins put into those tables was seen by nobody, so it is checked here: what leaves is well-formed, or an error is raised.
 *
 *   xml_escape(text) -> text
 */
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>

#include "bind/bind.h"
#include "bind/bind_handle.h"
#include "bind/bind_stanza.h"
#include "xml/writer.h"

struct pair {
	struct str name, value;
};

static int by_name(const void *a, const void *b)
{
	const struct pair *x = a, *y = b;
	int d = memcmp(x->name.p, y->name.p, x->name.n < y->name.n ? x->name.n : y->name.n);
	return d ? d : (x->name.n > y->name.n) - (x->name.n < y->name.n);
}

/* qsort() is slow to start, and there are four attributes as a rule. */
static void sort(struct pair *pairs, size_t n)
{
	for (size_t i = 1; i < n; i++)
		for (size_t j = i; j && by_name(&pairs[j], &pairs[j - 1]) < 0; j--) {
			struct pair swap = pairs[j];
			pairs[j] = pairs[j - 1];
			pairs[j - 1] = swap;
		}
}

/* Reads the attribute table at `attrs` into pairs, or only counts them. The strings belong to the table. */
static size_t read_attrs(lua_State *L, int attrs, struct pair *pairs, size_t room)
{
	size_t n = 0;
	lua_pushnil(L);
	while (lua_next(L, attrs)) {
		if (lua_type(L, -2) != LUA_TSTRING)
			luaL_error(L, "invalid attribute name: a string expected, got %s", luaL_typename(L, -2));
		if (lua_type(L, -1) == LUA_TNUMBER) {
			lua_tostring(L, -1);
			lua_pushvalue(L, -2);
			lua_pushvalue(L, -2);
			lua_rawset(L, attrs);
		} else if (lua_type(L, -1) != LUA_TSTRING) {
			luaL_error(L, "invalid value of attribute '%s': a string expected, got %s", lua_tostring(L, -2),
				luaL_typename(L, -1));
		}
		if (n < room) {
			struct pair *p = &pairs[n];
			p->name.p = lua_tolstring(L, -2, &p->name.n);
			p->value.p = lua_tolstring(L, -1, &p->value.n);
		}
		n++;
		lua_pop(L, 1);
	}
	return n;
}

/* Writes '<', the name and the attributes; returns the namespace now in force. */
static struct str open_own(lua_State *L, int idx, struct handle *h, struct str parent_ns, struct buf *out, uint32_t *to_hole)
{
	enum { FEW = 16 };
	struct pair few[FEW], *pairs = few;
	struct str name = handle_name(L, idx, h), ns = handle_ns(L, idx, h);
	int top = lua_gettop(L), prefixes = 0;
	handle_check_name(L, name, "tag");
	buf_add_char(out, '<');
	buf_add_str(out, name);
	if (to_hole)
		*to_hole = (uint32_t)out->len;
	if (ns.p && !str_eq(ns, parent_ns)) {
		handle_check_text(L, ns, "attribute");
		writer_attr(out, STR("xmlns"), ns, &prefixes);
	}
	lua_getiuservalue(L, idx, UV_BODY);
	if (lua_getfield(L, -1, "attr") == LUA_TTABLE) {
		size_t n = read_attrs(L, top + 2, few, FEW);
		if (n > FEW) {
			pairs = lua_newuserdatauv(L, n * sizeof *pairs, 0);
			read_attrs(L, top + 2, pairs, n);
			qsort(pairs, n, sizeof *pairs, by_name);
		} else {
			sort(pairs, n);
		}
		for (size_t i = 0; i < n; i++) {
			if (str_is(pairs[i].name, "xmlns") || (to_hole && str_is(pairs[i].name, "to")))
				continue;
			handle_check_name(L, pairs[i].name, "attribute");
			handle_check_text(L, pairs[i].value, "attribute");
			writer_attr(out, pairs[i].name, pairs[i].value, &prefixes);
		}
	}
	lua_settop(L, top);
	return ns.p ? ns : parent_ns;
}

static struct str open_parsed(struct handle *h, struct str parent_ns, struct buf *out, uint32_t *to_hole)
{
	const struct el_node *n = handle_node(h);
	const struct el_attr *a = el_attrs(h->e, n);
	struct str ns = el_str(h->e, n->ns);
	int prefixes = 0;
	buf_add_char(out, '<');
	buf_add_str(out, el_str(h->e, n->name));
	if (to_hole)
		*to_hole = (uint32_t)out->len;
	if (n->ns.off && !str_eq(ns, parent_ns))
		writer_attr(out, STR("xmlns"), ns, &prefixes);
	for (uint32_t i = 0; i < n->n_attrs; i++) {
		struct str name = el_str(h->e, a[i].name);
		if (!to_hole || !str_is(name, "to"))
			writer_attr(out, name, el_str(h->e, a[i].value), &prefixes);
	}
	return n->ns.off ? ns : parent_ns;
}

static void write(lua_State *L, int idx, struct handle *h, struct str parent_ns, struct buf *out, uint32_t *to_hole, int depth)
{
	if (handle_as_parsed(h) && !to_hole) {
		writer_element(out, h->e, handle_node(h), parent_ns);
		return;
	}
	luaL_checkstack(L, 12, "element too deep");
	if (depth > HANDLE_DEPTH_MAX)
		luaL_error(L, "element too deep, or inside itself");
	struct str ns = h->flags & HANDLE_OWN ? open_own(L, idx, h, parent_ns, out, to_hole)
		: open_parsed(h, parent_ns, out, to_hole);
	if (!handle_count(L, idx, h)) {
		buf_add(out, "/>", 2);
		return;
	}
	buf_add_char(out, '>');
	if (h->flags & HANDLE_LIVE) {
		lua_getiuservalue(L, idx, UV_BODY);
		int body = lua_gettop(L);
		lua_Integer n = (lua_Integer)lua_rawlen(L, body);
		for (lua_Integer i = 1; i <= n; i++) {
			int type = lua_rawgeti(L, body, i);
			if (type == LUA_TUSERDATA)
				write(L, body + 1, lua_touserdata(L, -1), ns, out, NULL, depth + 1);
			else if (type == LUA_TNUMBER)
				writer_element(out, h->e, el_node(h->e, (uint32_t)lua_tointeger(L, -1)), ns);
			else if (type == LUA_TSTRING)
				writer_escape(out, bind_check_str(L, -1));      /* checked when it was put there */
			else
				luaL_error(L, "stanza has a hole among its children");
			lua_pop(L, 1);
		}
		lua_pop(L, 1);
	} else {
		for (const struct el_node *c = el_node(h->e, handle_node(h)->first); c; c = el_node(h->e, c->next))
			writer_element(out, h->e, c, ns);
	}
	buf_add(out, "</", 2);
	buf_add_str(out, handle_name(L, idx, h));
	buf_add_char(out, '>');
}

void bind_stanza_write(lua_State *L, int index, struct str parent_ns, struct buf *out, uint32_t *to_hole)
{
	index = lua_absindex(L, index);
	write(L, index, handle_check(L, index), parent_ns, out, to_hole, 0);
}

/* Empty, and the logic thread's own. */
static struct buf *scratch_buf(void)
{
	enum { KEEP = 1 << 20 };
	static struct buf scratch;      /* writing never calls Lua code, so it is never wanted twice */
	if (scratch.cap > KEEP)
		buf_free(&scratch);
	scratch.head = scratch.len = 0;
	return &scratch;
}

struct str bind_stanza_text(lua_State *L, int index, struct str parent_ns, uint32_t *to_hole)
{
	struct buf *out = scratch_buf();
	bind_stanza_write(L, index, parent_ns, out, to_hole);
	return buf_str(out);
}

static int to_string(lua_State *L)
{
	handle_check(L, 1);
	struct str text = bind_stanza_text(L, 1, STR(""), NULL);
	lua_pushlstring(L, text.p, text.n);
	return 1;
}

/* Bytes of the XML. */
static int size(lua_State *L)
{
	handle_check(L, 1);
	lua_pushinteger(L, (lua_Integer)bind_stanza_text(L, 1, STR(""), NULL).n);
	return 1;
}

static int top_tag(lua_State *L)
{
	struct handle *h = handle_check(L, 1);
	struct buf *out = scratch_buf();
	if (h->flags & HANDLE_OWN)
		open_own(L, 1, h, STR(""), out, NULL);
	else
		open_parsed(h, STR(""), out, NULL);
	buf_add_char(out, '>');
	lua_pushlstring(L, buf_data(out), out->len);
	return 1;
}

static int xml_escape(lua_State *L)
{
	struct str text = bind_check_str(L, 1);
	struct buf *out = scratch_buf();
	writer_escape(out, text);
	lua_pushlstring(L, out->len ? buf_data(out) : "", out->len);
	return 1;
}

void bind_stanza_write_open(lua_State *L)
{
	static const luaL_Reg methods[] = { { "size", size }, { "top_tag", top_tag }, { NULL, NULL } };
	lua_pushcfunction(L, xml_escape);
	lua_setfield(L, -2, "xml_escape");
	lua_pushvalue(L, -2);
	luaL_setfuncs(L, methods, 0);
	lua_pushcfunction(L, to_string);
	lua_setfield(L, -2, "__tostring");      /* for plugins that call it by hand */
	lua_pop(L, 1);
	lua_rawgetp(L, LUA_REGISTRYINDEX, &HANDLE_META);
	lua_pushcfunction(L, to_string);
	lua_setfield(L, -2, "__tostring");
	lua_pop(L, 1);
}
