/* SPDX-License-Identifier: MIT */
/* fuzz_value.c - what value_skip() accepts can be decoded into Lua, and encodes to something that decodes the same. Any bytes, as
 * a string, go through PostgreSQL's text and come back; as one of its cells they are read or refused. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bind/bind.h"
#include "store/postgres_value.h"

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

static void postgres(struct str bytes)
{
	static const unsigned types[] = { PG_BOOL, PG_BYTEA, PG_INT8, PG_INT4, PG_TEXT, PG_FLOAT8, PG_TEXT_ARRAY };
	struct buf in = { 0 }, out = { 0 }, back = { 0 };
	bool null = false;
	value_add_string(&in, bytes);
	struct value_reader r = value_reader(buf_str(&in));
	if (postgres_param(&r, PG_TEXT, &out, &null) || null || (out.len && memchr(buf_data(&out), 0, out.len))
		|| postgres_cell(PG_TEXT, out.len ? buf_data(&out) : "", out.len, &back) || !str_eq(buf_str(&back), buf_str(&in))) {
		fprintf(stderr, "text is not what it was\n");
		abort();
	}
	for (int i = 0; i < COUNT(types); i++) {
		back.len = 0;
		if (postgres_cell(types[i], bytes.p, bytes.n, &back))
			continue;
		r = value_reader(buf_str(&back));
		if (value_skip(&r, NULL) || r.p != r.end) {
			fprintf(stderr, "a cell became no value\n");
			abort();
		}
	}
	buf_free(&in);
	buf_free(&out);
	buf_free(&back);
}

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
	postgres(bytes);
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
