/* SPDX-License-Identifier: MIT */
/* bind_ask.c - work on bytes whose answer goes to a Lua function. */
#include "bind/bind_ask.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "bind/bind.h"
#include "logic.h"

static int answer(lua_State *L)                 /* protected */
{
	struct ask *q = lua_touserdata(L, 1);
	int values = 1;
	lua_rawgeti(L, LUA_REGISTRYINDEX, q->done);
	if (q->error) {
		lua_pushnil(L);
		lua_pushstring(L, q->error);
		lua_pushstring(L, q->code);
		values = 3;
	} else if (q->push) {
		values = q->push(L, q);
	} else {
		lua_pushlstring(L, q->out.len ? buf_data(&q->out) : "", q->out.len);
	}
	lua_call(L, values, 0);
	return 0;
}

static void ask_done(struct job *job)
{
	struct ask *q = (struct ask *)job;
	lua_State *L = logic_lua();
	luaL_checkstack(L, 8, NULL);
	lua_pushcfunction(L, answer);
	lua_pushlightuserdata(L, q);
	bind_call(L, 1, 0, "job");
	luaL_unref(L, LUA_REGISTRYINDEX, q->done);
	buf_wipe(&q->out);
	mem_wipe(q, q->size);
	free(q);
}

void *bind_ask_new(lua_State *L, int done, size_t size, struct str a, struct str b)
{
	luaL_checktype(L, done, LUA_TFUNCTION);
	lua_settop(L, done);
	lua_pushvalue(L, done);
	int ref = luaL_ref(L, LUA_REGISTRYINDEX);       /* the last call here that may raise */
	struct ask *q = mem_zero(size + a.n + b.n);
	char *bytes = (char *)q + size;
	q->done = ref;
	q->size = size + a.n + b.n;
	if (a.n)
		memcpy(bytes, a.p, a.n);
	if (b.n)
		memcpy(bytes + a.n, b.p, b.n);
	q->a = (struct str){ bytes, a.n };
	q->b = (struct str){ bytes + a.n, b.n };
	return q;
}

int bind_ask_run(struct ask *q, enum job_class class, void (*work)(struct job *))
{
	q->job.work = work;
	q->job.done = ask_done;
	if (job_run(class, &q->job)) {
		q->error = "too many jobs are waiting";
		q->code = "resource-constraint";
		ask_done(&q->job);
	}
	return 0;
}
