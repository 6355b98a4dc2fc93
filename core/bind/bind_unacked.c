/* SPDX-License-Identifier: MIT */
/* bind_unacked.c - couplet.core.unacked: queues of stanzas that a peer has not acknowledged (XEP-0198).
 *
 * A queue that is put on a connection (conn:track) keeps every stanza that leaves there, whoever sends it: the very bytes,
 * shared. It asks by itself for acknowledgement when more than `ask` stanzas have gone since it asked last.
 *
 *   new(owner [, request]) -> queue      owner: what due() gives; request: the bytes that ask ("<r …/>")
 *     #queue  queue:bytes()              what waits
 *     queue:sent()  queue:acked()        how many ever, mod 2^32
 *     queue:start(acked)                 an empty queue goes on from that number
 *     queue:ask(n)                       at most so many stanzas leave without a question; at first 0
 *     queue:limits(stanzas, bytes)       queue:full() -> bool: more than that waits
 *     queue:add(x [, when [, xmlns]])    -> true; false: no stanza, so not kept. Without a connection
 *     queue:ack(h)                       -> number of stanzas that newly are; nil: more than was sent
 *     queue:get(i)                       -> bytes, when (seconds since 1970); 1 is the oldest
 *     queue:asked()                      somebody has asked by hand
 *     queue:requested()                  -> seconds since the question that is not answered yet; nil: there is none
 *     queue:watch()                      see due(), from now on
 *     queue:clear()
 *   due(seconds)                         -> list of the owners whose queues have not been empty for so long; they are not told
 *                                        again before the next acknowledgement, or queue:watch()
 *   total()                              -> bytes that wait in all queues; what several hold counts for each
 */
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "bind/bind.h"
#include "bind/bind_net.h"
#include "bind/bind_unacked.h"
#include "xml/writer.h"

#define TYPE "couplet.unacked"

struct tracker {
	struct unacked u;
	struct block *request;          /* NULL: it never asks */
	uint32_t ask, unasked;
	uint32_t max_n;
	size_t max_bytes;
	uint64_t asked;                 /* ms; 0: no question is open */
	bool held;
	int ref;                        /* registry, while it is in the list: keeps it alive */
	uint64_t since;                 /* ms, in the list */
	struct tracker *prev, *next;
};

/* Queues that are not empty, those that have waited longest first. */
static struct tracker *oldest, *newest;

static void unlist(lua_State *L, struct tracker *t)
{
	if (t->ref == LUA_NOREF)
		return;
	*(t->prev ? &t->prev->next : &oldest) = t->next;
	*(t->next ? &t->next->prev : &newest) = t->prev;
	t->prev = t->next = NULL;
	luaL_unref(L, LUA_REGISTRYINDEX, t->ref);
	t->ref = LUA_NOREF;
}

static void list(lua_State *L, int queue, struct tracker *t)
{
	if (t->ref != LUA_NOREF || !t->u.n)
		return;
	lua_pushvalue(L, queue);
	t->ref = luaL_ref(L, LUA_REGISTRYINDEX);
	t->since = clock_mono_ms();
	t->prev = newest;
	t->next = NULL;
	*(newest ? &newest->next : &oldest) = t;
	newest = t;
}

struct tracker *bind_tracker_test(lua_State *L, int index)
{
	return luaL_testudata(L, index, TYPE);
}

static struct tracker *check(lua_State *L)
{
	return luaL_checkudata(L, 1, TYPE);
}

static void add(struct tracker *t, struct block *b, struct str to, uint64_t when)
{
	struct block *hole = NULL;
	if (to.p && b->hole) {
		struct buf text = { 0 };
		int prefixes = 0;
		writer_attr(&text, STR("to"), to, &prefixes);
		hole = block_new(buf_str(&text), 0);
		buf_free(&text);
	}
	unacked_add(&t->u, block_ref(b), hole, when);
	t->unasked++;
}

bool bind_tracker_take(struct tracker *t, struct block *b, struct str to)
{
	if (!unacked_counts((struct str){ b->bytes, b->len }))
		return true;
	add(t, b, to, clock_wall_ms());
	return !t->held;
}

static void ask(struct tracker *t, uint64_t id)
{
	if (!t->request || !id)
		return;
	struct block *b = block_ref(t->request);
	bind_conn_sent(id, b);
	conn_send(id, &b, false);
	t->asked = clock_mono_ms();
	t->unasked = 0;
}

void bind_tracker_taken(lua_State *L, struct tracker *t, int conn, uint64_t id)
{
	if (t->unasked > t->ask && !t->asked && !t->held)
		ask(t, id);
	if (t->ref == LUA_NOREF && t->u.n) {
		bind_conn_push_queue(L, conn);
		list(L, lua_gettop(L), t);
		lua_pop(L, 1);
	}
}

void bind_tracker_hold(struct tracker *t, bool hold)
{
	t->held = hold;
	t->asked = 0;
}

/* --- for Lua --- */

static int unacked_new(lua_State *L)
{
	luaL_checkany(L, 1);
	struct str request = { NULL, 0 };
	if (!lua_isnoneornil(L, 2))
		request = bind_check_str(L, 2);
	struct tracker *t = lua_newuserdatauv(L, sizeof *t, 1);
	*t = (struct tracker){ .ref = LUA_NOREF, .max_n = UINT32_MAX, .max_bytes = SIZE_MAX };
	luaL_setmetatable(L, TYPE);
	if (request.n)
		t->request = block_new(request, 0);
	lua_pushvalue(L, 1);
	lua_setiuservalue(L, -2, 1);
	return 1;
}

static int unacked_gc(lua_State *L)
{
	struct tracker *t = check(L);
	unlist(L, t);
	unacked_clear(&t->u);
	block_unref(&t->request);
	return 0;
}

static int unacked_len(lua_State *L)
{
	lua_pushinteger(L, check(L)->u.n);
	return 1;
}

static int unacked_bytes(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)check(L)->u.bytes);
	return 1;
}

static int unacked_sent(lua_State *L)
{
	lua_pushinteger(L, (uint32_t)check(L)->u.sent);
	return 1;
}

static int unacked_acked(lua_State *L)
{
	struct tracker *t = check(L);
	lua_pushinteger(L, (uint32_t)(t->u.sent - t->u.n));
	return 1;
}

static int unacked_start(lua_State *L)
{
	struct tracker *t = check(L);
	luaL_argcheck(L, !t->u.n, 1, "not empty");
	t->u.sent = (uint32_t)luaL_checkinteger(L, 2);
	return 0;
}

static int unacked_set_ask(lua_State *L)
{
	struct tracker *t = check(L);
	lua_Integer n = luaL_checkinteger(L, 2);
	luaL_argcheck(L, n >= 0 && n <= INT32_MAX, 2, "out of range");
	t->ask = (uint32_t)n;
	return 0;
}

static int unacked_limits(lua_State *L)
{
	struct tracker *t = check(L);
	lua_Integer n = luaL_checkinteger(L, 2), bytes = luaL_checkinteger(L, 3);
	luaL_argcheck(L, n >= 0 && n <= INT32_MAX, 2, "out of range");
	luaL_argcheck(L, bytes >= 0, 3, "out of range");
	t->max_n = (uint32_t)n;
	t->max_bytes = (size_t)bytes;
	return 0;
}

static int unacked_full(lua_State *L)
{
	struct tracker *t = check(L);
	lua_pushboolean(L, t->u.n > t->max_n || t->u.bytes > t->max_bytes);
	return 1;
}

static int unacked_add_lua(lua_State *L)
{
	struct tracker *t = check(L);
	uint64_t when = lua_isnoneornil(L, 3) ? clock_wall_ms() : (uint64_t)(luaL_checknumber(L, 3) * 1000);
	struct block *b = bind_block_of(L, 2, luaL_optstring(L, 4, "jabber:client"));
	bool counts = unacked_counts((struct str){ b->bytes, b->len });
	if (counts)
		add(t, b, (struct str){ NULL, 0 }, when);
	block_unref(&b);
	list(L, 1, t);
	lua_pushboolean(L, counts);
	return 1;
}

static int unacked_ack_lua(lua_State *L)
{
	struct tracker *t = check(L);
	uint32_t gone;
	if (unacked_ack(&t->u, (uint32_t)luaL_checkinteger(L, 2), &gone)) {
		lua_pushnil(L);
		return 1;
	}
	t->asked = 0;
	if (t->unasked > t->u.n)
		t->unasked = t->u.n;
	unlist(L, t);
	list(L, 1, t);
	lua_pushinteger(L, gone);
	return 1;
}

static int unacked_get(lua_State *L)
{
	struct tracker *t = check(L);
	lua_Integer i = luaL_checkinteger(L, 2);
	if (i < 1 || i > t->u.n)
		return 0;
	const struct unacked_item *item = unacked_at(&t->u, (uint32_t)i - 1);
	luaL_Buffer text;
	luaL_buffinit(L, &text);
	if (item->to) {
		luaL_addlstring(&text, item->b->bytes, item->b->hole);
		luaL_addlstring(&text, item->to->bytes, item->to->len);
		luaL_addlstring(&text, item->b->bytes + item->b->hole, item->b->len - item->b->hole);
	} else {
		luaL_addlstring(&text, item->b->bytes, item->b->len);
	}
	luaL_pushresult(&text);
	lua_pushnumber(L, (lua_Number)item->when / 1000);
	return 2;
}

static int unacked_asked(lua_State *L)
{
	struct tracker *t = check(L);
	t->asked = clock_mono_ms();
	t->unasked = 0;
	return 0;
}

static int unacked_requested(lua_State *L)
{
	struct tracker *t = check(L);
	if (!t->asked) {
		lua_pushnil(L);
		return 1;
	}
	lua_pushnumber(L, (lua_Number)(clock_mono_ms() - t->asked) / 1000);
	return 1;
}

static int unacked_watch(lua_State *L)
{
	struct tracker *t = check(L);
	unlist(L, t);
	list(L, 1, t);
	return 0;
}

static int unacked_clear_lua(lua_State *L)
{
	struct tracker *t = check(L);
	unlist(L, t);
	unacked_clear(&t->u);
	return 0;
}

static int unacked_due(lua_State *L)
{
	uint64_t age = (uint64_t)(luaL_checknumber(L, 1) * 1000), now = clock_mono_ms();
	lua_newtable(L);
	for (lua_Integer i = 1; oldest && now - oldest->since >= age; i++) {
		lua_rawgeti(L, LUA_REGISTRYINDEX, oldest->ref);
		lua_getiuservalue(L, -1, 1);
		lua_rawseti(L, 2, i);
		unlist(L, oldest);
		lua_pop(L, 1);
	}
	return 1;
}

static int unacked_total_lua(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)unacked_total());
	return 1;
}

int bind_unacked_open(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "bytes", unacked_bytes },       { "sent", unacked_sent },     { "acked", unacked_acked },
		{ "start", unacked_start },       { "ask", unacked_set_ask },   { "limits", unacked_limits },
		{ "full", unacked_full },         { "add", unacked_add_lua },   { "ack", unacked_ack_lua },
		{ "get", unacked_get },           { "asked", unacked_asked },
		{ "requested", unacked_requested }, { "watch", unacked_watch }, { "clear", unacked_clear_lua },
		{ NULL, NULL },
	};
	static const luaL_Reg meta[] = { { "__gc", unacked_gc }, { "__len", unacked_len }, { NULL, NULL } };
	static const luaL_Reg functions[] = { { "new", unacked_new }, { "due", unacked_due },
		{ "total", unacked_total_lua }, { NULL, NULL } };
	luaL_newmetatable(L, TYPE);
	luaL_setfuncs(L, meta, 0);
	luaL_newlib(L, methods);
	lua_setfield(L, -2, "__index");
	lua_pop(L, 1);
	luaL_newlib(L, functions);
	return 1;
}
