/* SPDX-License-Identifier: MIT */
/* bind_stream.c - couplet.core.stream: XML from Lua strings, for plugins that bring their own connections or documents.
 *
 *   parse(text, limits)         -> stanza | nil, message. A whole document: no DTD, processing instructions or comments
 *   new(options)                -> stream. options: stanza_bytes, depth, attributes, children, parser_bytes; any_root = true:
 *                               the root need not be a stream header; default_ns: then, what counts as the default namespace
 *     stream:feed(bytes)        bytes to be read by next()
 *     stream:next()             -> "header", stanza | "element", stanza | "end" | "more" | nil, condition, text
 *     stream:held()             bytes of a half-read element so far
 *     stream:restart()          a new stream begins; what was fed and not read belongs to it
 */
#include <lauxlib.h>
#include <lua.h>

#include "bind/bind.h"
#include "bind/bind_stanza.h"
#include "xml/reader.h"
#include "xmpp/stream.h"

#define STREAM "couplet.stream"

enum kind { NOTHING, HEADER, ELEMENT, END };

struct box {
	struct stream *s;               /* NULL: closed */
	struct stream_limits limits;
	char default_ns[256];
	struct buf fed;                 /* not given to the stream yet */
	struct element *el;             /* reported, not yet taken by next() */
	enum kind kind;
	bool paused;
	size_t since;                   /* bytes given since the last event */
};

static void take(struct box *box, enum kind kind, struct element **el)
{
	box->kind = kind;
	box->since = 0;
	if (el) {
		box->el = *el;
		*el = NULL;
	}
	stream_pause(box->s);
}

static void on_header(void *arg, struct element **el) { take(arg, HEADER, el); }
static void on_element(void *arg, struct element **el) { take(arg, ELEMENT, el); }
static void on_end(void *arg) { take(arg, END, NULL); }

static const struct stream_events events = { on_header, on_element, on_end };

static const struct stream_limits usual = {
	.stanza_bytes = 10 * 1024 * 1024, .depth = 200, .attributes = 1000, .children = 1000000, .parser_bytes = 64 * 1024 * 1024,
};

static void read_limit(lua_State *L, int table, const char *name, uint32_t *out)
{
	if (lua_getfield(L, table, name) != LUA_TNIL) {
		lua_Integer n = luaL_checkinteger(L, -1);
		if (n < 1)
			luaL_error(L, "%s must be positive", name);
		*out = n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
	}
	lua_pop(L, 1);
}

static struct stream_limits read_limits(lua_State *L, int arg)
{
	struct stream_limits limits = usual;
	if (lua_isnoneornil(L, arg))
		return limits;
	luaL_checktype(L, arg, LUA_TTABLE);
	read_limit(L, arg, "stanza_bytes", &limits.stanza_bytes);
	read_limit(L, arg, "depth", &limits.depth);
	read_limit(L, arg, "attributes", &limits.attributes);
	read_limit(L, arg, "children", &limits.children);
	read_limit(L, arg, "parser_bytes", &limits.parser_bytes);
	return limits;
}

static struct box *box_new(lua_State *L)
{
	struct box *box = lua_newuserdatauv(L, sizeof *box, 0);
	memset(box, 0, sizeof *box);
	luaL_setmetatable(L, STREAM);
	return box;
}

static int stream_lua_parse(lua_State *L)
{
	struct str text = bind_check_str(L, 1);
	struct stream_limits limits = read_limits(L, 2);
	struct box *box = box_new(L);           /* so that the element is not lost if Lua raises */
	const char *message;
	if (reader_parse(text, &limits, &box->el, &message)) {
		lua_pushnil(L);
		lua_pushstring(L, message);
		return 2;
	}
	bind_stanza_push(L, box->el);
	element_free(&box->el);
	return 1;
}

static int stream_lua_new(lua_State *L)
{
	struct stream_limits limits = read_limits(L, 1);
	struct box *box = box_new(L);
	box->limits = limits;
	box->s = stream_new(&box->limits, &events, box);
	if (lua_istable(L, 1)) {
		struct str ns = { NULL, 0 };
		if (lua_getfield(L, 1, "default_ns") != LUA_TNIL) {
			ns = bind_check_str(L, -1);
			luaL_argcheck(L, ns.n < sizeof box->default_ns, 1, "default_ns is too long");
			ns.p = memcpy(box->default_ns, ns.p, ns.n);
		}
		lua_getfield(L, 1, "any_root");
		if (lua_toboolean(L, -1))
			stream_any_root(box->s, ns);
		lua_pop(L, 2);
	}
	return 1;
}

static struct box *check_box(lua_State *L)
{
	struct box *box = luaL_checkudata(L, 1, STREAM);
	luaL_argcheck(L, box->s, 1, "the stream is closed");
	return box;
}

static int stream_lua_feed(lua_State *L)
{
	struct box *box = check_box(L);
	buf_add_str(&box->fed, bind_check_str(L, 2));
	return 0;
}

static int stream_lua_next(lua_State *L)
{
	static const char *const names[] = { "more", "header", "element", "end" };
	struct box *box = check_box(L);
	enum status st = ST_OK;
	if (box->kind == NOTHING) {
		if (box->paused) {
			box->paused = false;
			st = stream_resume(box->s);
		}
		if (st == ST_OK && box->fed.len) {
			size_t n = box->fed.len;
			box->since += n;
			st = stream_feed(box->s, buf_str(&box->fed));
			buf_free(&box->fed);
		}
		box->paused = st == ST_AGAIN;
	}
	if (st == ST_INVALID || st == ST_LIMIT) {
		const char *text;
		enum stream_condition condition = stream_error(box->s, &text);
		lua_pushnil(L);
		lua_pushstring(L, stream_error_name(condition));
		lua_pushstring(L, text);
		return 3;
	}
	lua_pushstring(L, names[box->kind]);
	if (box->el) {
		bind_stanza_push(L, box->el);
		element_free(&box->el);
		box->kind = NOTHING;
		return 2;
	}
	box->kind = NOTHING;
	return 1;
}

static int stream_lua_held(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)check_box(L)->since);
	return 1;
}

static int stream_lua_restart(lua_State *L)
{
	struct box *box = check_box(L);
	element_free(&box->el);
	box->kind = NOTHING;
	stream_restart(box->s, false);
	return 0;
}

static int stream_lua_close(lua_State *L)       /* __gc and __close */
{
	struct box *box = luaL_checkudata(L, 1, STREAM);
	stream_free(&box->s);
	element_free(&box->el);
	buf_free(&box->fed);
	return 0;
}

int bind_stream_open(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "feed", stream_lua_feed }, { "next", stream_lua_next }, { "held", stream_lua_held }, { "restart", stream_lua_restart },
		{ NULL, NULL },
	};
	static const luaL_Reg meta[] = { { "__gc", stream_lua_close }, { "__close", stream_lua_close }, { NULL, NULL } };
	static const luaL_Reg functions[] = { { "parse", stream_lua_parse }, { "new", stream_lua_new }, { NULL, NULL } };
	luaL_newmetatable(L, STREAM);
	luaL_setfuncs(L, meta, 0);
	luaL_newlib(L, methods);
	lua_setfield(L, -2, "__index");
	lua_pop(L, 1);
	luaL_newlib(L, functions);
	return 1;
}
