/* SPDX-License-Identifier: MIT */
/* bind_jid.c - couplet.core.jid: addresses, and the preparation of their parts.
 *
 *   split(jid)                  -> local|nil, domain, resource|nil; nothing prepared. nil: no address
 *   prepped_split(jid, strict)  the same, prepared
 *   bare(jid) node(jid) host(jid) resource(jid)          nil if there is none
 *   join(local, domain, resource)
 *   prep(jid, strict)           -> prepared jid | nil
 *   compare(jid, pattern)       whether every part that pattern has is that of jid
 *   escape(text) unescape(text) XEP-0106
 *   nodeprep(text, strict) nameprep resourceprep saslprep    -> text | nil
 *   to_ascii(domain) to_unicode(domain)                      -> domain | nil
 *   utf8_valid(text)            utf8_length(text)            -> characters | nil
 *
 * What is no string is no address. strict: also refuses characters that Unicode 3.2 does not know.
 */
#include <lauxlib.h>
#include <lua.h>

#include "bind/bind.h"
#include "xmpp/jid.h"
#include "xmpp/prep.h"

static bool text_arg(lua_State *L, int arg, struct str *out)
{
	if (lua_type(L, arg) != LUA_TSTRING)
		return false;
	out->p = lua_tolstring(L, arg, &out->n);
	return true;
}

static int nothing(lua_State *L)
{
	lua_pushnil(L);
	return 1;
}

static void push(lua_State *L, struct str s)
{
	if (s.p)
		lua_pushlstring(L, s.p, s.n);
	else
		lua_pushnil(L);
}

/* lua_pushlstring may raise: what C made waits on the stack, where nothing is lost. */
struct small {
	char bytes[3 * PREP_MAX + 8];
};

static bool split_arg(lua_State *L, int arg, struct jid *out)
{
	struct str text;
	return text_arg(L, arg, &text) && jid_split(text, out) == ST_OK;
}

/* Prepares into room of the caller, so that nothing is lost if Lua raises afterwards. */
static bool prep_arg(lua_State *L, struct small *room, struct str *whole, struct jid *parts)
{
	struct str text;
	struct jid jid;
	if (!text_arg(L, 1, &text) || jid_split(text, &jid) != ST_OK)
		return false;
	if (jid_is_clean(&jid)) {
		*whole = text;
		*parts = jid;
		return true;
	}
	struct buf out = { 0 };
	if (jid_prep(text, lua_toboolean(L, 2), &out, parts) != ST_OK) {
		buf_free(&out);
		return false;
	}
	memcpy(room->bytes, buf_data(&out), out.len);
	*whole = (struct str){ room->bytes, out.len };
	ptrdiff_t moved = room->bytes - buf_data(&out);
	struct str *part[] = { &parts->local, &parts->domain, &parts->resource };
	for (int i = 0; i < 3; i++)
		if (part[i]->p)
			part[i]->p += moved;
	buf_free(&out);
	return true;
}

static int jid_lua_split(lua_State *L)
{
	struct jid jid;
	if (!split_arg(L, 1, &jid))
		return nothing(L);
	push(L, jid.local);
	push(L, jid.domain);
	push(L, jid.resource);
	return 3;
}

static int jid_lua_prepped_split(lua_State *L)
{
	struct small room;
	struct str whole;
	struct jid jid;
	if (!prep_arg(L, &room, &whole, &jid))
		return nothing(L);
	push(L, jid.local);
	push(L, jid.domain);
	push(L, jid.resource);
	return 3;
}

static int jid_lua_prep(lua_State *L)
{
	struct small room;
	struct str whole;
	struct jid jid;
	if (!prep_arg(L, &room, &whole, &jid))
		return nothing(L);
	if (whole.p == room.bytes)
		push(L, whole);
	else
		lua_settop(L, 1);
	return 1;
}

static int jid_lua_bare(lua_State *L)
{
	struct jid jid;
	if (!split_arg(L, 1, &jid))
		return nothing(L);
	if (!jid.resource.p) {
		lua_settop(L, 1);
		return 1;
	}
	const char *from = jid.local.p ? jid.local.p : jid.domain.p;
	push(L, (struct str){ from, (size_t)(jid.domain.p + jid.domain.n - from) });
	return 1;
}

static int jid_lua_node(lua_State *L)
{
	struct jid jid;
	if (!split_arg(L, 1, &jid))
		return nothing(L);
	push(L, jid.local);
	return 1;
}

static int jid_lua_host(lua_State *L)
{
	struct jid jid;
	if (!split_arg(L, 1, &jid))
		return nothing(L);
	push(L, jid.domain);
	return 1;
}

static int jid_lua_resource(lua_State *L)
{
	struct jid jid;
	if (!split_arg(L, 1, &jid))
		return nothing(L);
	push(L, jid.resource);
	return 1;
}

static int jid_lua_join(lua_State *L)
{
	lua_settop(L, 3);
	if (!lua_toboolean(L, 2))
		return nothing(L);
	bool local = lua_toboolean(L, 1), resource = lua_toboolean(L, 3);
	luaL_Buffer b;
	luaL_checkstring(L, 2);
	if (local)
		luaL_checkstring(L, 1);
	if (resource)
		luaL_checkstring(L, 3);
	luaL_buffinit(L, &b);
	if (local) {
		lua_pushvalue(L, 1);
		luaL_addvalue(&b);
		luaL_addchar(&b, '@');
	}
	lua_pushvalue(L, 2);
	luaL_addvalue(&b);
	if (resource) {
		luaL_addchar(&b, '/');
		lua_pushvalue(L, 3);
		luaL_addvalue(&b);
	}
	luaL_pushresult(&b);
	return 1;
}

static bool covers(struct str pattern, struct str part)
{
	return !pattern.p || (part.p && str_eq(pattern, part));
}

static int jid_lua_compare(lua_State *L)
{
	struct jid jid, pattern;
	lua_pushboolean(L, split_arg(L, 1, &jid) && split_arg(L, 2, &pattern) && covers(pattern.local, jid.local)
		&& covers(pattern.domain, jid.domain) && covers(pattern.resource, jid.resource));
	return 1;
}

/* --- texts: the result fits the stack, or is refused --- */

static int give(lua_State *L, enum status st, struct buf *made)
{
	char room[2 * PREP_MAX];
	size_t n = made->len;
	if (st == ST_OK)
		memcpy(room, buf_data(made), n);
	buf_free(made);
	if (st)
		return nothing(L);
	lua_pushlstring(L, room, n);
	return 1;
}

static int profile(lua_State *L, enum prep_profile p)
{
	struct str text;
	struct buf out = { 0 };
	if (!text_arg(L, 1, &text))
		return nothing(L);
	if (prep_is_clean(p, text)) {
		lua_settop(L, 1);
		return 1;
	}
	enum status st = prep_text(p, text, lua_toboolean(L, 2), &out);
	return give(L, st, &out);
}

static int jid_lua_nodeprep(lua_State *L) { return profile(L, PREP_NODE); }
static int jid_lua_nameprep(lua_State *L) { return profile(L, PREP_NAME); }
static int jid_lua_resourceprep(lua_State *L) { return profile(L, PREP_RESOURCE); }
static int jid_lua_saslprep(lua_State *L) { return profile(L, PREP_SASL); }

static int jid_lua_to_ascii(lua_State *L)
{
	struct str text;
	struct buf out = { 0 };
	if (!text_arg(L, 1, &text))
		return nothing(L);
	enum status st = prep_to_ascii(text, &out);
	return give(L, st, &out);
}

static int jid_lua_to_unicode(lua_State *L)
{
	struct str text;
	struct buf out = { 0 };
	if (!text_arg(L, 1, &text))
		return nothing(L);
	enum status st = prep_to_unicode(text, &out);
	return give(L, st, &out);
}

static int escaping(lua_State *L, void (*change)(struct str, struct buf *), int growth)
{
	struct str text;
	if (!text_arg(L, 1, &text))
		return nothing(L);
	/* The room is Lua's, so nothing is lost if it raises. */
	struct buf out = { .base = lua_newuserdatauv(L, text.n * (size_t)growth + 1, 0), .cap = text.n * (size_t)growth + 1 };
	change(text, &out);
	lua_pushlstring(L, out.base, out.len);
	return 1;
}

static int jid_lua_escape(lua_State *L) { return escaping(L, jid_escape, 3); }
static int jid_lua_unescape(lua_State *L) { return escaping(L, jid_unescape, 1); }

static int jid_lua_utf8_valid(lua_State *L)
{
	struct str text;
	lua_pushboolean(L, text_arg(L, 1, &text) && prep_utf8_length(text) >= 0);
	return 1;
}

static int jid_lua_utf8_length(lua_State *L)
{
	struct str text;
	long n = text_arg(L, 1, &text) ? prep_utf8_length(text) : -1;
	if (n < 0)
		return nothing(L);
	lua_pushinteger(L, n);
	return 1;
}

int bind_jid_open(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "split", jid_lua_split }, { "prepped_split", jid_lua_prepped_split }, { "prep", jid_lua_prep },
		{ "bare", jid_lua_bare }, { "node", jid_lua_node }, { "host", jid_lua_host }, { "resource", jid_lua_resource },
		{ "join", jid_lua_join }, { "compare", jid_lua_compare },
		{ "escape", jid_lua_escape }, { "unescape", jid_lua_unescape },
		{ "nodeprep", jid_lua_nodeprep }, { "nameprep", jid_lua_nameprep },
		{ "resourceprep", jid_lua_resourceprep }, { "saslprep", jid_lua_saslprep },
		{ "to_ascii", jid_lua_to_ascii }, { "to_unicode", jid_lua_to_unicode },
		{ "utf8_valid", jid_lua_utf8_valid }, { "utf8_length", jid_lua_utf8_length },
		{ NULL, NULL },
	};
	luaL_newlib(L, functions);
	return 1;
}
