/* SPDX-License-Identifier: MIT */
/* bind.c - the road from C into Lua. */
#include "bind/bind.h"

#include <lauxlib.h>

#include "base/log.h"

static int traceback(lua_State *L)
{
	const char *text = luaL_tolstring(L, 1, NULL);
	luaL_traceback(L, L, text, 1);
	return 1;
}

int bind_call(lua_State *L, int args, int results, const char *what)
{
	int base = lua_gettop(L) - args;
	lua_pushcfunction(L, traceback);
	lua_insert(L, base);
	int ok = lua_pcall(L, args, results, base) == LUA_OK;
	lua_remove(L, base);
	if (!ok) {
		log_error("lua", "%s: %s", what, lua_tostring(L, -1));
		lua_pop(L, 1);
		for (int i = 0; i < results; i++)
			lua_pushnil(L);
	}
	return ok;
}

struct str bind_check_str(lua_State *L, int arg)
{
	struct str s;
	s.p = luaL_checklstring(L, arg, &s.n);
	return s;
}
