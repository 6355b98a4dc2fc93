/* SPDX-License-Identifier: MIT */
/* couplet.c - luaopen_couplet_core: the native half of Couplet as a Lua module. */
#include <lauxlib.h>
#include <lua.h>

#include "bind/bind.h"
#include "logic.h"

#ifndef COUPLET_VERSION
#define COUPLET_VERSION "scm"
#endif

__attribute__((visibility("default"))) int luaopen_couplet_core(lua_State *L);

int luaopen_couplet_core(lua_State *L)
{
	static const struct { const char *name; lua_CFunction open; } parts[] = {
		{ "loop", bind_loop_open },     { "log", bind_log_open },       { "net", bind_net_open },
		{ "stanza", bind_stanza_open }, { "stream", bind_stream_open },
		{ "jid", bind_jid_open },       { "crypto", bind_crypto_open },
		{ "sasl", bind_sasl_open },     { "store", bind_store_open },   { "system", bind_system_open },
		{ "directory", bind_directory_open }, { "task", bind_task_open }, { "events", bind_events_open },
		{ "job", bind_job_open },       { "unacked", bind_unacked_open },
	};
	logic_open(L);
	lua_newtable(L);
	lua_pushliteral(L, COUPLET_VERSION);
	lua_setfield(L, -2, "version");
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		lua_pushcfunction(L, parts[i].open);
		lua_call(L, 0, 1);
		lua_setfield(L, -2, parts[i].name);
	}
	return 1;
}
