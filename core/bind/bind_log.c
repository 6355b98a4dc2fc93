/* SPDX-License-Identifier: MIT */
/* bind_log.c - couplet.core.log: C's log lines reach the Lua sinks.
 *
 *   sink(fn)      fn(level, source, text) gets every line written by C from now on, on the logic thread, in order per
 *                 thread; nil: standard error again
 *   level(name)   lines below "debug", "info", "warn", "error" are not formatted at all
 *   write(level, source, text)   as C would
 */
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "bind/bind.h"
#include "bus/lane.h"
#include "logic.h"

static int sink_ref = LUA_NOREF;

struct line {
	struct msg msg;
	enum log_level level;
	char source[24];
	char text[];
};

static void deliver(struct msg *msg)
{
	struct line *line = (struct line *)msg;
	lua_State *L = logic_lua();
	static int busy;
	if (sink_ref == LUA_NOREF || busy || !lua_checkstack(L, 8)) {
		fprintf(stderr, "%s %s: %s\n", log_level_name(line->level), line->source, line->text);
	} else {
		busy = 1;                       /* a failing sink must not call itself */
		lua_rawgeti(L, LUA_REGISTRYINDEX, sink_ref);
		lua_pushstring(L, log_level_name(line->level));
		lua_pushstring(L, line->source);
		lua_pushstring(L, line->text);
		bind_call(L, 3, 0, "log sink");
		busy = 0;
	}
	free(line);
}

static void to_logic(enum log_level level, const char *source, const char *text)
{
	size_t n = strlen(text) + 1;
	struct line *line = mem_alloc(sizeof *line + n);
	line->msg.deliver = deliver;
	line->level = level;
	snprintf(line->source, sizeof line->source, "%s", source);
	memcpy(line->text, text, n);
	lane_post(logic_lane(), &line->msg);
}

static enum log_level level_arg(lua_State *L, int arg)
{
	static const char *const names[] = { "debug", "info", "warn", "error", NULL };
	return (enum log_level)luaL_checkoption(L, arg, NULL, names);
}

static int log_sink(lua_State *L)
{
	luaL_unref(L, LUA_REGISTRYINDEX, sink_ref);
	sink_ref = LUA_NOREF;
	if (lua_isnoneornil(L, 1)) {
		log_set_sink(NULL);
		return 0;
	}
	luaL_checktype(L, 1, LUA_TFUNCTION);
	lua_pushvalue(L, 1);
	sink_ref = luaL_ref(L, LUA_REGISTRYINDEX);
	log_set_sink(to_logic);
	return 0;
}

static int log_level_(lua_State *L)
{
	log_set_level(level_arg(L, 1));
	return 0;
}

static int log_write_(lua_State *L)
{
	log_write(level_arg(L, 1), luaL_checkstring(L, 2), "%s", luaL_checkstring(L, 3));
	return 0;
}

int bind_log_open(lua_State *L)
{
	static const luaL_Reg log[] = { { "sink", log_sink }, { "level", log_level_ }, { "write", log_write_ }, { NULL, NULL } };
	luaL_newlib(L, log);
	return 1;
}
