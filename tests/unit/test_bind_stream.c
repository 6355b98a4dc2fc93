/* SPDX-License-Identifier: MIT */
/* test_bind_stream.c - XML and addresses in Lua when memory runs out: no leak, no crash, and the same result at last. */
#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>

#include "base/status.h"
#include "bind/bind.h"
#include "check.h"

/* Every allocation from the left-th on fails. */
static long left = -1;

static void *alloc(void *ud, void *p, size_t had, size_t want)
{
	(void)ud;
	if (!want) {
		free(p);
		return NULL;
	}
	if (left >= 0 && (!p || want > had)) {
		if (left == 0)
			return NULL;
		left--;
	}
	return realloc(p, want);
}

static lua_State *new_state(void)
{
	lua_State *L = lua_newstate(alloc, NULL);
	luaL_openlibs(L);
	bind_stanza_open(L);
	lua_setglobal(L, "stanza");
	bind_stream_open(L);
	lua_setglobal(L, "stream");
	bind_jid_open(L);
	lua_setglobal(L, "jid");
	/* Lua's own metatable of large buffers does not survive an allocation failing while it is made. */
	if (luaL_dostring(L, "return ('x'):rep(5000)"))
		printf("%s\n", lua_tostring(L, -1));
	lua_settop(L, 0);
	return L;
}

static void memory_runs_out(void)
{
	static const struct { const char *code, *want; } rows[] = {
		{ "return stream.parse('<a><b/>text</a>').name", "a" },
		{ "return select(2, stream.parse('<a>'))", "no element found" },
		{ "local s = stream.new{ any_root = true, default_ns = 'u', depth = 3 } s:feed('<r xmlns=\"v\"><a/><b xmlns=\"u\"/></r>')"
		  " local t = {} repeat local k, e = s:next() t[#t + 1] = k .. (e and e.name or '') until k == 'more'"
		  " return table.concat(t, ' ')", "headerr elementa elementb end more" },
		{ "local s = stream.new() s:feed('<x/>') return select(2, s:next())", "invalid-namespace" },
		{ "return jid.prep('A\\xc3\\x89@B\\xc3\\x89.c/D')", "a\xc3\xa9@b\xc3\xa9.c/D" },
		{ "return table.concat({ jid.prepped_split('A@B/c') }, ' ')", "a b c" },
		{ "return jid.join(jid.split('a@b/c'))", "a@b/c" },
		{ "return jid.escape(('a b'):rep(3)) .. jid.unescape('\\\\20')", "a\\20ba\\20ba\\20b " },
		{ "return jid.nodeprep('\\xc3\\x89') .. jid.to_ascii('b\\xc3\\xa9') .. jid.to_unicode('xn--b-bga')", "\xc3\xa9xn--b-bga" "b\xc3\xa9" },
		{ "return jid.bare('a@b/c') .. tostring(jid.compare('a@b', 'b'))", "a@btrue" },
	};
	for (int i = 0; i < COUNT(rows); i++) {
		lua_State *L = new_state();
		int status = LUA_ERRMEM;
		for (long n = 0; status != LUA_OK && n < 10000; n++) {
			lua_settop(L, 0);
			if (luaL_loadstring(L, rows[i].code))
				break;
			left = n;
			status = lua_pcall(L, 0, 1, 0);
			left = -1;
			if (status != LUA_OK && status != LUA_ERRMEM) {
				printf("%s\n", lua_tostring(L, -1));
				break;
			}
		}
		CHECK_ROW(i, status == LUA_OK);
		const char *got = lua_tostring(L, -1);
		CHECK_ROW(i, got && !strcmp(got, rows[i].want));
		if (got && strcmp(got, rows[i].want))
			printf("got %s\n", got);
		lua_close(L);
	}
}

int main(void)
{
	RUN(memory_runs_out);
	return check_done();
}
