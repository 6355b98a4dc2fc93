/* SPDX-License-Identifier: MIT */
/* test_bind_task.c - tasks, queues and events when memory runs out: no leak, no crash, and the same result at last. */
#include <string.h>

#include "base/status.h"
#include "bind/bind.h"
#include "check.h"
#include "starve.h"

static const char prelude[] =
	"ready = {}"
	" task.setup {"
	"   failed = function(co, err) last = tostring(err) coroutine.close(co) end,"
	"   put_off = function(...) ready[#ready + 1] = table.pack(...) task.pending() end,"
	"   ready = function() while ready[1] do local r = table.remove(ready, 1) task.start(table.unpack(r, 1, r.n)) end end }"
	" function wait() return coroutine.yield(task.WAIT) end";

static lua_State *new_state(void)
{
	lua_State *L = starve_new();
	bind_task_open(L);
	lua_setglobal(L, "task");
	bind_events_open(L);
	lua_setglobal(L, "events");
	CHECK(luaL_dostring(L, prelude) == LUA_OK);
	lua_settop(L, 0);
	return L;
}

static void memory_runs_out(void)
{
	static const struct { const char *code, *want; } rows[] = {
		{ "local got task.start(function(a, b) got = a .. b end, 'x', 'y') return got", "xy" },
		{ "local got local co = task.start(function() got = wait() end) task.continue(co, 'v') return got", "v" },
		{ "local log = '' local q = task.queue(function(a, b) log = log .. a .. b end)"
		  " q:push('a', 1) q:push('b', 2) return log .. q:count()", "a1b20" },
		{ "local log, co = '' local q = task.queue(function(a) if a == 1 then wait() end log = log .. a end)"
		  " local before = coroutine.running() task.start(function() q:push(1) q:push(2) q:push(3) end)"
		  " return log .. q:count()", "3" },
		{ "last = nil task.start(function() error('boom', 0) end) return last", "boom" },
		{ "last = nil task.start(function() coroutine.yield(1) end) return last", "attempt to yield outside of a coroutine of its own" },
		{ "local function nest(i) if i < 100 then task.start(nest, i + 1) else done = i end end task.start(nest, 1) return tostring(done)", "100" },
		{ "local ok, v = task.inner(coroutine.create(function(x) return x .. 'y' end), 'x') return v", "xy" },
		{ "local text local fire = events.bus({ e = { [0] = false, function() error('one', 0) end, function(d) return d end } },"
		  " function(list, i, name, t) text = i .. name .. t:match('^%a+') end) return fire('e', 'r') .. text", "r1eone" },
		{ "local fire = events.bus({ e = { [0] = { function(d) return d == 1 end, false }, function() return 'first' end,"
		  " function() return 'second' end } }, print) return fire('e', 1) .. fire('e', 2)", "firstsecond" },
		{ "local fire fire = events.bus({ e = { [0] = false, function(d) if d > 0 then return fire('e', d - 1) end return 'deep' end } },"
		  " print) return fire('e', 20)", "deep" },
		{ "local fire = events.bus({ e = { [0] = false, function() return wait() end } }, print) local got"
		  " local co = task.start(function() got = fire('e') end) task.continue(co, 'late') return got", "late" },
	};
	for (int i = 0; i < COUNT(rows); i++) {
		lua_State *L = new_state();
		int status = LUA_ERRMEM;
		const char *got = NULL;
		for (long n = 0; n < STARVE_MAX; n++) {
			lua_settop(L, 0);
			if (luaL_loadstring(L, rows[i].code))
				break;
			int all;                        /* it had memory to the end */
			status = starve_call(L, n, 0, 1, &all);
			luaL_dostring(L, "ready = {}");
			got = status == LUA_OK ? lua_tostring(L, 1) : NULL;
			if (all)
				break;
		}
		CHECK_ROW(i, status == LUA_OK && got && !strcmp(got, rows[i].want));
		if (!got || strcmp(got, rows[i].want))
			printf("row %d: %s\n", i, got ? got : lua_tostring(L, 1));
		lua_close(L);
	}
}

int main(void)
{
	RUN(memory_runs_out);
	return check_done();
}
