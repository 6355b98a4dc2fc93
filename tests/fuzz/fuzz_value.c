/* SPDX-License-Identifier: MIT */
/* fuzz_value.c - what value_skip() accepts can be decoded into Lua, and encodes to something that decodes the same. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>

#include "bind/bind.h"
#include "store/value.h"

static const char script[] =
	"local store, bytes = ...\n"
	"local function same(a, b)\n"
	"  if a == b or (a ~= a and b ~= b) then return math.type(a) == math.type(b) end\n"
	"  if type(a) ~= 'table' or type(b) ~= 'table' then return false end\n"
	"  for k, v in pairs(a) do if not same(v, b[k]) then return false end end\n"
	"  for k in pairs(b) do if a[k] == nil then return false end end\n"
	"  return true\n"
	"end\n"
	"local value = store.decode(bytes)\n"
	"assert(same(value, (store.decode(store.encode(value)))))\n";

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static lua_State *L;
	if (!L) {
		L = luaL_newstate();
		luaL_openlibs(L);
		if (luaL_loadstring(L, script) != LUA_OK)
			abort();
		bind_store_open(L);
	}
	struct str bytes = { (const char *)data, size };
	struct value_reader r = value_reader(bytes);
	int fine = value_skip(&r, NULL) == ST_OK && r.p == r.end;
	lua_getfield(L, 2, "decode");
	lua_pushlstring(L, bytes.p, bytes.n);
	lua_call(L, 1, 2);
	int refused = lua_isnil(L, -2) && !lua_isnil(L, -1);
	lua_pop(L, 2);
	if (refused == fine) {
		fprintf(stderr, "decode and value_skip disagree\n");
		abort();
	}
	if (fine) {
		lua_pushvalue(L, 1);
		lua_pushvalue(L, 2);
		lua_pushlstring(L, bytes.p, bytes.n);
		if (lua_pcall(L, 2, 0, 0) != LUA_OK) {
			fprintf(stderr, "%s\n", lua_tostring(L, -1));
			abort();
		}
	}
	lua_settop(L, 2);
	return 0;
}
