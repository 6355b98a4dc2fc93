/* SPDX-License-Identifier: MIT */
/* starve.h - Lua states that run out of memory where a test wants it: whatever allocates is run with no allocation granted,
 * with one, with two …, until it comes through.
 */
#ifndef COUPLET_STARVE_H
#define COUPLET_STARVE_H

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>

enum { STARVE_MAX = 10000 };              /* nothing we test needs more allocations */

static long starve_left = -1;             /* how many more may succeed; -1: all */

static inline void *starve_alloc(void *ud, void *p, size_t had, size_t want)
{
	if (!want) {
		free(p);
		return NULL;
	}
	if (starve_left >= 0 && (!p || want > had)) {
		if (starve_left == 0)
			return NULL;
		starve_left--;
	}
	return realloc(p, want);
}

/* With the standard libraries; lua_close() it. */
static inline lua_State *starve_new(void)
{
	lua_State *L = lua_newstate(starve_alloc, NULL);
	luaL_openlibs(L);
	/* Lua's own metatable of large buffers does not survive an allocation failing while it is made. */
	if (luaL_dostring(L, "return ('x'):rep(5000)"))
		printf("%s\n", lua_tostring(L, -1));
	lua_settop(L, 0);
	return L;
}

/* lua_pcall() with n allocations. *spare, unless NULL: whether some were left. */
static inline int starve_call(lua_State *L, long n, int args, int results, int *spare)
{
	starve_left = n;
	int status = lua_pcall(L, args, results, 0);
	if (spare)
		*spare = starve_left > 0;
	starve_left = -1;
	return status;
}

/* Runs code with ever more allocations until it comes through or fails for another reason. Its result, or the error, is on
 * top of the stack. */
static inline int starve_run(lua_State *L, const char *code)
{
	int status = LUA_ERRMEM;
	for (long n = 0; status == LUA_ERRMEM && n < STARVE_MAX; n++) {
		lua_settop(L, 0);
		status = luaL_loadstring(L, code);
		if (!status)
			status = starve_call(L, n, 0, 1, NULL);
	}
	return status;
}

#endif
