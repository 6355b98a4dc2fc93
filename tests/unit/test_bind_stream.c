/* SPDX-License-Identifier: MIT */
/* test_bind_stream.c - XML and addresses in Lua when memory runs out: no leak, no crash, and the same result at last. */
#include "base/status.h"
#include "bind/bind.h"
#include "check.h"
#include "starve.h"

static lua_State *new_state(void)
{
	lua_State *L = starve_new();
	bind_stanza_open(L);
	lua_setglobal(L, "stanza");
	bind_stream_open(L);
	lua_setglobal(L, "stream");
	bind_jid_open(L);
	lua_setglobal(L, "jid");
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
		int status = starve_run(L, rows[i].code);
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
