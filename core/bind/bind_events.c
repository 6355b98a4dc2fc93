/* SPDX-License-Identifier: MIT */
/* bind_events.c - couplet.core.events: calling the handlers of an event. lua/couplet/events.lua keeps their lists.
 *
 *   bus(lists, report) -> fire, special
 *     fire(event, data)      lists[event] is an array of handlers in order (false: removed), [0] = array of conditions or false.
 *                            The first result that is not nil, else nil. A handler that raises: report(list, i, event, text
 *                            with traceback), and the next one goes on. Handlers may yield.
 *     special(fn | nil)      fn(event, data) is called in place of all that: wrappers, a debug hook
 *   run(list, event, data, report)        the loop alone
 *   SAMPLE
 *
 * One firing in SAMPLE is measured: report(list, i, event, nil, seconds) for each handler that did not wait, times SAMPLE.
 *
 * Nesting deeper than NESTED raises; how deep a coroutine is stands in its Lua extra space. Each level costs Lua one of its
 * 200 C calls, and what is left is for handlers and the log.
 */
#include <lauxlib.h>
#include <time.h>

#include "bind/bind.h"
#include "bind/bind_task.h"

#define NESTED 150
#define SAMPLE 256

/* stack while running */
enum { LIST = 1, EVENT, DATA, REPORT, EXPLAIN, TOP = EXPLAIN };

static int explain(lua_State *L)
{
	const char *text = luaL_tolstring(L, 1, NULL);
	luaL_traceback(L, L, text, 1);
	return 1;
}

static int step(lua_State *L, int status, lua_KContext i);

/* What handler i gave is on top: true if that ends it. */
static int took(lua_State *L, int status, lua_KContext i)
{
	if (status != LUA_OK && status != LUA_YIELD) {
		lua_pushvalue(L, REPORT);
		lua_insert(L, -2);
		lua_pushvalue(L, LIST);
		lua_insert(L, -2);
		lua_pushinteger(L, (lua_Integer)i);
		lua_insert(L, -2);
		lua_pushvalue(L, EVENT);
		lua_insert(L, -2);
		if (lua_pcall(L, 4, 0, 0) != LUA_OK)
			lua_pop(L, 1);
		return 0;
	}
	if (!lua_isnil(L, -1))
		return 1;
	lua_pop(L, 1);
	return 0;
}

/* False: its condition does not hold, or cannot be asked. */
static int wanted(lua_State *L, lua_KContext i)
{
	int yes = 1;
	if (lua_rawgeti(L, LIST, 0) == LUA_TTABLE) {
		if (lua_rawgeti(L, -1, (lua_Integer)i) == LUA_TFUNCTION) {
			lua_pushvalue(L, DATA);
			if (lua_pcall(L, 1, 1, EXPLAIN) == LUA_OK) {
				yes = lua_toboolean(L, -1);
			} else {
				took(L, LUA_ERRRUN, i);
				lua_pushnil(L);
				yes = 0;
			}
		}
		lua_pop(L, 1);
	}
	lua_pop(L, 1);
	return yes;
}

static double seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void account(lua_State *L, lua_KContext i, double took_seconds)
{
	lua_pushvalue(L, REPORT);
	lua_pushvalue(L, LIST);
	lua_pushinteger(L, (lua_Integer)i);
	lua_pushvalue(L, EVENT);
	lua_pushnil(L);
	lua_pushnumber(L, took_seconds * SAMPLE);
	if (lua_pcall(L, 5, 0, 0) != LUA_OK)
		lua_pop(L, 1);
}

static int loop(lua_State *L, lua_KContext i, int sampled)
{
	double began = 0;
	for (;; i++) {
		int type = lua_rawgeti(L, LIST, (lua_Integer)i);
		if (type == LUA_TNIL)
			break;                          /* it is the result as well */
		if (type == LUA_TBOOLEAN || !wanted(L, i)) {
			lua_pop(L, 1);
			continue;
		}
		lua_pushvalue(L, DATA);
		if (sampled)
			began = seconds();
		int status = lua_pcallk(L, 1, 1, EXPLAIN, i, step);
		if (sampled)
			account(L, i, seconds() - began);
		if (took(L, status, i))
			break;
	}
	--task_extra(L)->nesting;
	return 1;
}

static int step(lua_State *L, int status, lua_KContext i)
{
	if (took(L, status, i)) {
		--task_extra(L)->nesting;
		return 1;
	}
	return loop(L, i + 1, 0);
}

static int begin(lua_State *L)
{
	static unsigned fired;
	if (task_extra(L)->nesting >= NESTED)
		return luaL_error(L, "events fired inside events, more than %d deep", NESTED);
	luaL_checkstack(L, 8, NULL);
	lua_pushcfunction(L, explain);
	++task_extra(L)->nesting;
	return loop(L, 1, ++fired % SAMPLE == 0);
}

static int run(lua_State *L)
{
	luaL_checktype(L, LIST, LUA_TTABLE);
	lua_settop(L, REPORT);
	return begin(L);
}

static int finish_special(lua_State *L, int status, lua_KContext ctx)
{
	(void)status;
	(void)ctx;
	return 1;
}

/* upvalues: lists, report, special */
static int fire(lua_State *L)
{
	lua_settop(L, 2);
	if (!lua_isnil(L, lua_upvalueindex(3))) {
		lua_pushvalue(L, lua_upvalueindex(3));
		lua_insert(L, 1);
		lua_callk(L, 2, 1, 0, finish_special);
		return 1;
	}
	lua_pushvalue(L, 1);
	if (lua_rawget(L, lua_upvalueindex(1)) == LUA_TNIL)
		return 1;
	lua_insert(L, 1);                       /* list, event, data */
	lua_pushvalue(L, lua_upvalueindex(2));
	return begin(L);
}

/* upvalue: fire */
static int special(lua_State *L)
{
	lua_settop(L, 1);
	lua_setupvalue(L, lua_upvalueindex(1), 3);
	return 0;
}

static int bus(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	luaL_checktype(L, 2, LUA_TFUNCTION);
	lua_settop(L, 2);
	lua_pushnil(L);
	lua_pushcclosure(L, fire, 3);
	lua_pushvalue(L, -1);
	lua_pushcclosure(L, special, 1);
	return 2;
}

int bind_events_open(lua_State *L)
{
	static const luaL_Reg functions[] = { { "bus", bus }, { "run", run }, { NULL, NULL } };
	luaL_newlib(L, functions);
	lua_pushinteger(L, SAMPLE);
	lua_setfield(L, -2, "SAMPLE");
	return 1;
}
