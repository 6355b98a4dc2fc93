/* SPDX-License-Identifier: MIT */
/* test_bind_stanza.c - stanzas in Lua when memory runs out, and what C sees of them. */
#include "bind/bind_stanza.h"

#include <lauxlib.h>

#include "base/status.h"
#include "bind/bind.h"
#include "check.h"
#include "starve.h"
#include "xml/reader.h"
#include "xmpp/stream.h"

static const struct stream_limits limits = {
	.stanza_bytes = 1 << 20, .depth = 300, .attributes = 100, .children = 10000, .parser_bytes = 1 << 24,
};

static const char sample[] =
	"<message to='a@b/c' from='d@e' id='1' type='chat'><body>hi</body>text<x xmlns='urn:x' k='v'><i n='1'/><i n='2'>two</i></x>"
	"<a/><b/><c/><d/><e/><f/><g/></message>";

static struct element *parse(struct str text)
{
	struct element *e = NULL;
	const char *message = NULL;
	return reader_parse(text, &limits, &e, &message) ? NULL : e;
}

static int open_core(lua_State *L)
{
	lua_newtable(L);
	bind_stanza_open(L);
	lua_setfield(L, -2, "stanza");
	return 1;
}

static lua_State *new_state(void)
{
	lua_State *L = starve_new();
	luaL_requiref(L, "couplet.core", open_core, 0);
	char path[4096];
	snprintf(path, sizeof path, "%.*slua/couplet/stanza.lua", (int)(sizeof __FILE__ - sizeof "tests/unit/test_bind_stanza.c"), __FILE__);
	if (luaL_loadfile(L, path) || lua_pcall(L, 0, 1, 0))
		printf("%s\n", lua_tostring(L, -1));
	lua_setglobal(L, "st");
	lua_settop(L, 0);
	return L;
}

static int push(lua_State *L)
{
	bind_stanza_push(L, lua_touserdata(L, 1));
	return 1;
}

static const char *const operations[] = {
	"",
	"s.attr.to = 'x@y'",
	"for i = 1, 30 do s.attr['n' .. i] = ('v'):rep(i) end",
	"s.attr.to = nil",
	"local c = st.clone(s) s.attr.from = ('f'):rep(400) c.attr.from = 'g'",
	"local _ = s.tags, s[1], s[3], s[3][2]",
	"s:text('more')",
	"s:tag('x'):tag('y', { k = 'v' }):text('z'):up():up():text_tag('t', 'u')",
	"s[3][2]:text('deep')",
	"s[3][2].attr.n = ('9'):rep(900)",
	"local x = s[3] local _ = st.clone(s) x.attr.k = 'w' x[1].attr.n = '5'",
	"s:remove_children('x', 'urn:x')",
	"s:maptags(function(t) if t.name ~= 'body' then return t end end)",
	"s.name = 'presence' s.attr = { to = 'q' } s.tags = nil",
	"s[1] = st.stanza('first') s[#s + 1] = 'last' s[#s] = nil",
	"table.insert(s, 1, 'front') table.remove(s, 2)",
	"s.mine = {} s.yours = 's'",
	"for c in s:childtags() do c:text('x') end",
	"for c in s:children() do if st.is_stanza(c) then c.attr.seen = 'yes' end end",
	"for _ in pairs(s) do end for _ in pairs(s.attr) do end for _ in ipairs(s) do end",
	"local _ = s:get_child('x', 'urn:x'), s:get_child_text('body'), s:find('{urn:x}x/i@n'), s:find('{urn:x}x/i#'), s:has('body')",
	"local _ = st.reply(s), st.error_reply(s, 'cancel', 'gone', 'text'), s:get_error()",
	"s:add_error('wait', 'resource-constraint')",
	"local _ = st.deserialize(st.preserialize(s)), s:indent(), s:top_tag(), s:size()",
	"s:tag('a') local c = st.clone(s) c:tag('b') c[1]:text('c')",
	"local c = st.clone(s, true) c:add_child(s)",
	"s:freeze() local _ = s.tags, s.attr.to pcall(s.text, s, 'x')",
	"for i = 1, 20 do s.attr['a' .. i] = 'x' s[3].attr['b' .. i] = 'y' end",
	"st.set_attr(s, 'id', ('i'):rep(2000)) local _ = st.route(s), st.payload(s)",
};

/* The stanza must be whole, whatever was interrupted. */
static const char invariants[] =
	"local children, tags = 0, 0\n"
	"for i, c in ipairs(s) do children = i if st.is_stanza(c) then tags = tags + 1 assert(s[i] == c) end end\n"
	"assert(children == #s)\n"
	"for i, t in ipairs(s.tags) do assert(st.is_stanza(t) and t.name and tostring(t)) end\n"
	"assert(s.attr.id ~= '' and tostring(st.clone(s)) == tostring(st.clone(s)))\n"
	"for k, v in pairs(s.attr) do assert(s.attr[k] == v) end\n"
	"return tostring(s)\n";

/* Runs text; -1: an error that is not about memory. */
static int run(lua_State *L, const char *text, int results)
{
	if (luaL_loadstring(L, text))
		return LUA_ERRMEM;
	return lua_pcall(L, 0, results, 0);
}

static void operation(lua_State *L, struct element *e, int row)
{
	for (int start = 0; start < 3; start++) {         /* as parsed, live, shared with a clone */
		int st = LUA_ERRMEM;
		for (long n = 0; st != LUA_OK; n++) {
			CHECK_ROW(row, n < 5000);
			if (n >= 5000)
				return;
			lua_settop(L, 0);
			lua_pushcfunction(L, push);
			lua_pushlightuserdata(L, e);
			lua_call(L, 1, 1);
			lua_setglobal(L, "s");
			if (start == 1)
				run(L, "s:text('live') s[#s] = nil", 0);
			else if (start == 2)
				run(L, "c = st.clone(s) before = tostring(c)", 0);
			if (luaL_loadstring(L, operations[row])) {
				CHECK_ROW(row, !"loads");
				return;
			}
			st = starve_call(L, n, 0, 0, NULL);
			if (st != LUA_OK && st != LUA_ERRMEM) {
				printf("%s: %s\n", operations[row], lua_tostring(L, -1));
				CHECK_ROW(row, !"only memory");
				return;
			}
			if (run(L, invariants, 1)) {
				printf("%s, allocation %ld: %s\n", operations[row], n, lua_tostring(L, -1));
				CHECK_ROW(row, !"invariants");
				return;
			}
			struct str text;
			text.p = lua_tolstring(L, -1, &text.n);
			struct element *back = parse(text);
			CHECK_ROW(row, back);
			element_free(&back);
			if (start == 2 && run(L, "assert(tostring(c) == before)", 0)) {
				CHECK_ROW(row, !"the clone is as before");
				return;
			}
		}
	}
}

static void memory_runs_out(void)
{
	struct element *e = parse(str_of(sample));
	for (int i = 0; i < COUNT(operations); i++) {
		lua_State *L = new_state();
		operation(L, e, i);
		lua_close(L);
	}
	element_free(&e);
}

static void memory_runs_out_while_pushing(void)
{
	struct element *e = parse(str_of(sample));
	lua_State *L = new_state();
	int st = LUA_ERRMEM;
	for (long n = 0; st != LUA_OK && n < 100; n++) {
		lua_pushcfunction(L, push);
		lua_pushlightuserdata(L, e);
		st = starve_call(L, n, 1, 1, NULL);
	}
	CHECK(st == LUA_OK && bind_stanza_is(L, -1));
	lua_close(L);
	element_free(&e);
}

static int write_to(lua_State *L)
{
	bind_stanza_write(L, 1, STR("jabber:client"), lua_touserdata(L, 2), lua_touserdata(L, 3));
	return 0;
}

static void seen_from_c(void)
{
	static const struct { const char *make, *with, *without; } rows[] = {
		{ "", "<message to='R' from='d@e' id='1' type='chat'><body>hi</body>", NULL },
		{ "s = st.clone(s) s:text('x')", "<message to='R' from='d@e' id='1' type='chat'><body>hi</body>", "a@b/c" },
		{ "s.attr.to = nil", "<message to='R' from='d@e'", "a@b/c" },
		{ "s.attr.xmlns = 'jabber:client'", "<message to='R' from='d@e'", "jabber:client" },
		{ "s.attr.xmlns = 'jabber:server'", "<message to='R' xmlns='jabber:server' from='d@e'", NULL },
		{ "s = st.message({ from = 'd@e' })", "<message to='R' from='d@e'/>", NULL },
		{ "s = st.message({ to = 'a@b/c' }, 'x')", "<message to='R'><body>x</body></message>", "a@b/c" },
		{ "s = st.clone(s[3])", "<x to='R' xmlns='urn:x' k='v'><i n='1'/>", NULL },
	};
	struct element *e = parse(str_of(sample));
	lua_State *L = new_state();
	for (int i = 0; i < COUNT(rows); i++) {
		lua_settop(L, 0);
		bind_stanza_push(L, e);
		lua_setglobal(L, "s");
		CHECK_ROW(i, run(L, rows[i].make, 0) == LUA_OK);
		struct buf out = { 0 }, patched = { 0 };
		uint32_t hole = 0;
		buf_add_text(&out, "before");
		lua_pushcfunction(L, write_to);
		lua_getglobal(L, "s");
		lua_pushlightuserdata(L, &out);
		lua_pushlightuserdata(L, &hole);
		CHECK_ROW(i, lua_pcall(L, 3, 0, 0) == LUA_OK);
		buf_add(&patched, buf_data(&out), hole);
		buf_add_text(&patched, " to='R'");
		buf_add(&patched, buf_data(&out) + hole, out.len - hole);
		buf_add_char(&patched, '\0');
		CHECK_ROW(i, strncmp(buf_data(&patched), "before", 6) == 0);
		CHECK_ROW(i, strncmp(buf_data(&patched) + 6, rows[i].with, strlen(rows[i].with)) == 0);
		CHECK_ROW(i, !rows[i].without || !strstr(buf_data(&patched), rows[i].without));
		struct element *back = parse((struct str){ buf_data(&patched) + 6, patched.len - 7 });
		CHECK_ROW(i, back);
		element_free(&back);
		buf_free(&out);
		buf_free(&patched);
	}
	bind_stanza_push(L, e);
	CHECK(str_is(bind_stanza_name(L, -1), "message"));
	CHECK(!bind_stanza_ns(L, -1).n);
	CHECK(str_is(bind_stanza_attr(L, -1, "from"), "d@e"));
	CHECK(!bind_stanza_attr(L, -1, "no").p);
	CHECK(str_eq(bind_stanza_text(L, -1, STR(""), NULL), str_of(sample)));
	lua_pushlightuserdata(L, e);
	CHECK(!bind_stanza_is(L, -1));
	lua_pushliteral(L, "x");
	CHECK(!bind_stanza_is(L, -1));
	lua_close(L);
	element_free(&e);
}

int main(void)
{
	RUN(seen_from_c);
	RUN(memory_runs_out_while_pushing);
	RUN(memory_runs_out);
	return check_done();
}
