/* SPDX-License-Identifier: MIT */
/* fuzz_federation.c - what servers say before they have proved anything, and what DNS says about them: the first byte chooses
 * dialback elements, a certificate, names of a certificate, or DNS answers; fuzz_federation.lua feeds the real code and checks
 * what must be true whatever came. */
#include <lauxlib.h>
#include <lualib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int luaopen_couplet_core(lua_State *L);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static lua_State *start(void)
{
	int root = (int)(sizeof __FILE__ - sizeof "tests/fuzz/fuzz_federation.c");
	lua_State *L = luaL_newstate();
	luaL_openlibs(L);
	luaL_requiref(L, "couplet.core", luaopen_couplet_core, 0);
	char text[8192];
	snprintf(text, sizeof text, "%.*splugins", root, __FILE__);
	setenv("COUPLET_PLUGINS", text, 1);
	snprintf(text, sizeof text, "package.path = '%.*slua/?.lua;%.*stests/?.lua' return dofile('%.*stests/fuzz/fuzz_federation.lua')",
		 root, __FILE__, root, __FILE__, root, __FILE__);
	if (luaL_dostring(L, text)) {
		fprintf(stderr, "%s\n", lua_tostring(L, -1));
		abort();
	}
	return L;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static lua_State *L;
	if (!L)
		L = start();
	lua_pushvalue(L, -1);
	lua_pushlstring(L, (const char *)data, size);
	if (lua_pcall(L, 1, 0, 0)) {
		fprintf(stderr, "%s\n", lua_tostring(L, -1));
		abort();
	}
	return 0;
}
