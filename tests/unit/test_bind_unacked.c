/* SPDX-License-Identifier: MIT */
/* test_bind_unacked.c - queues of what is not acknowledged when memory runs out: no leak, no crash, and the same result at last. */
#include <string.h>

#include "bind/bind.h"
#include "bus/unacked.h"
#include "check.h"
#include "starve.h"

static lua_State *new_state(void)
{
	lua_State *L = starve_new();
	bind_net_open(L);
	lua_setglobal(L, "net");
	bind_stanza_open(L);
	lua_setglobal(L, "stanza");
	bind_unacked_open(L);
	lua_setglobal(L, "unacked");
	lua_settop(L, 0);
	return L;
}

static void memory_runs_out(void)
{
	static const struct { const char *code, *want; } rows[] = {
		{ "local q = unacked.new('me', '<r/>') return #q .. q:bytes() .. q:sent() .. q:acked()", "0000" },
		{ "local q = unacked.new('me') q:add('<iq/>', 5) q:add('<r/>') local xml, at = q:get(1) return xml .. at .. #q", "<iq/>5.01" },
		{ "local q = unacked.new('me') for i = 1, 100 do q:add('<iq id=\"' .. i .. '\"/>') end local n = q:ack(99)"
		  " return n .. q:get(1) .. #q", "99<iq id=\"100\"/>1" },
		{ "local q = unacked.new('me') q:start(0xffffffff) q:add('<iq/>') q:add('<iq/>') return q:sent() .. ' ' .. tostring(q:ack(2))"
		  " .. ' ' .. q:ack(0)", "1 nil 1" },
		{ "local q = unacked.new('me') q:limits(1, 100) q:add('<iq/>') local a = q:full() q:add('<iq/>') local b = q:full() q:clear()"
		  " return tostring(a) .. tostring(b) .. tostring(q:full())", "falsetruefalse" },
		{ "unacked.due(0) local q = unacked.new('me') q:add('<iq/>') local a = unacked.due(0)[1] local b = unacked.due(0)[1]"
		  " q:watch() return a .. tostring(b) .. unacked.due(0)[1]", "menilme" },
		{ "local q = unacked.new('me') q:add('<presence/>') q:asked() local a = q:requested() >= 0 q:ack(1)"
		  " return tostring(a) .. tostring(q:requested())", "truenil" },
	};
	for (int i = 0; i < COUNT(rows); i++) {
		lua_State *L = new_state();
		int status = starve_run(L, rows[i].code);
		const char *got = lua_tostring(L, -1);
		CHECK_ROW(i, status == LUA_OK && got && !strcmp(got, rows[i].want));
		if (!got || strcmp(got, rows[i].want))
			printf("row %d: %s\n", i, got ? got : "not a string");
		lua_close(L);
		CHECK_ROW(i, unacked_total() == 0);
	}
}

int main(void)
{
	RUN(memory_runs_out);
	return check_done();
}
