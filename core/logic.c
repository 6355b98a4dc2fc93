/* SPDX-License-Identifier: MIT */
/* logic.c - the logic thread. */
#include "logic.h"

#include <ev.h>
#include <lauxlib.h>

#include "base/thread.h"
#include "bus/lane.h"

static lua_State *state;
static struct ev_loop *loop;
static struct lane *lane;
static void (*after_set)(void *);
static void *after_arg;

static void after(void *unused)
{
	(void)unused;
	if (after_set)
		after_set(after_arg);
}

void logic_open(lua_State *L)
{
	if (state)
		return;
	lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
	state = lua_tothread(L, -1);
	lua_pop(L, 1);
	loop = ev_default_loop(EVFLAG_AUTO);
	thread_become(THREAD_LOGIC, NULL);
	lane = lane_new(loop, after, NULL);
}

struct lane *logic_lane(void)
{
	return lane;
}

struct ev_loop *logic_loop(void)
{
	return loop;
}

lua_State *logic_lua(void)
{
	return state;
}

void logic_set_after(void (*fn)(void *), void *arg)
{
	after_set = fn;
	after_arg = arg;
}
