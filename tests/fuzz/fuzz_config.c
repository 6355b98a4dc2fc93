/* SPDX-License-Identifier: MIT */
/* fuzz_config.c - any bytes as a configuration file: answered with a configuration or a message, never with a crash, an
 * error that escapes, or without end. The language's own words are all there; Lua's library is cut down to what cannot touch
 * the machine, and files are not read. */
#include <lauxlib.h>
#include <lualib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int luaopen_couplet_core(lua_State *L);

static lua_State *L;

static const char prepare[] =
	"local source = ...\n"
	"package.path = source .. '/lua/?.lua'\n"
	"local system = require 'couplet.core'.system\n"
	"system.read_file = function() return nil, 'no files here' end\n"
	"system.glob = function() return {} end\n"
	"local reader = require 'couplet.config_reader'\n"
	"reader.MAX_STEPS = 1\n"
	"local lua = { pairs = pairs, ipairs = ipairs, type = type, tostring = tostring, tonumber = tonumber, select = select,\n"
	"  error = error, next = next, math = math, table = { concat = table.concat, insert = table.insert, unpack = table.unpack } }\n"
	"string.rep = nil\n"
	"loadfile = function() return nil, 'no files here' end\n"
	"return function(text)\n"
	"  local cfg, err = reader.parse('/fuzz.lua', text, lua)\n"
	"  if cfg then\n"
	"    for host, options in pairs(cfg.options) do\n"
	"      for key in next, options do assert(reader.place(cfg, host, key) or true) end\n"
	"    end\n"
	"  else\n"
	"    assert(type(err) == 'string')\n"
	"  end\n"
	"end\n";

/* A file that asks for too much memory is an administrator's own business: refused here, so that it is no finding. */
static void *limited(void *ud, void *p, size_t before, size_t size)
{
	size_t *used = ud;
	if (!p)
		before = 0;
	if (!size) {
		free(p);
		*used -= before;
		return NULL;
	}
	if (*used - before + size > 512u << 20)
		return NULL;
	void *q = realloc(p, size);
	if (q)
		*used += size - before;
	return q;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static size_t used;
	const char *source = getenv("COUPLET_SOURCE");
	(void)argc;
	(void)argv;
	L = lua_newstate(limited, &used);
	luaL_openlibs(L);
	luaL_requiref(L, "couplet.core", luaopen_couplet_core, 0);
	lua_settop(L, 0);
	if (luaL_loadbuffer(L, prepare, sizeof prepare - 1, "=prepare") != LUA_OK)
		goto fail;
	lua_pushstring(L, source ? source : ".");
	if (lua_pcall(L, 1, 1, 0) != LUA_OK)
		goto fail;
	return 0;
fail:
	fprintf(stderr, "%s\n", lua_tostring(L, -1));
	abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	lua_pushvalue(L, -1);
	lua_pushlstring(L, (const char *)data, size);
	int st = lua_pcall(L, 1, 0, 0);
	if (st == LUA_ERRMEM) {
		lua_pop(L, 1);
		lua_gc(L, LUA_GCCOLLECT);
	} else if (st != LUA_OK) {
		fprintf(stderr, "escaped: %s\n", lua_tostring(L, -1));
		abort();
	}
	return 0;
}
