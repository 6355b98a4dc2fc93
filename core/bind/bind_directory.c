/* SPDX-License-Identifier: MIT */
/* bind_directory.c - couplet.core.directory
 *
 *   shard(key, count) -> 1..count     which of `count` tables holds this string; anything but a string is in the first
 *
 * One Lua table with 100 000 sessions is one collector step of milliseconds, and growing it another; so the directory
 * (lua/couplet/directory.lua) spreads its keys over many small tables. */
#include <lauxlib.h>
#include <lua.h>
#include <stdint.h>

#include "bind/bind.h"

static int shard(lua_State *L)
{
	lua_Integer count = luaL_checkinteger(L, 2);
	luaL_argcheck(L, count > 0, 2, "count must be positive");
	uint32_t hash = 2166136261u;                /* FNV-1a: addresses are short and no secret is at stake within one shard */
	if (lua_type(L, 1) == LUA_TSTRING) {
		struct str key = bind_check_str(L, 1);
		for (size_t i = 0; i < key.n; i++)
			hash = (hash ^ (unsigned char)key.p[i]) * 16777619u;
	} else {
		hash = 0;
	}
	lua_pushinteger(L, (lua_Integer)(hash % (uint64_t)count) + 1);
	return 1;
}

int bind_directory_open(lua_State *L)
{
	static const luaL_Reg functions[] = { { "shard", shard }, { NULL, NULL } };
	luaL_newlib(L, functions);
	return 1;
}
