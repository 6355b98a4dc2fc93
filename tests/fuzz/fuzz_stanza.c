/* SPDX-License-Identifier: MIT */
/* fuzz_stanza.c - bytes choose operations on stanzas; fuzz_stanza.lua does the same to plain tables and compares. */
#include <lauxlib.h>
#include <lualib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "bind/bind.h"
#include "bind/bind_stanza.h"
#include "xml/reader.h"
#include "xmpp/stream.h"

/* fresh(text): a stanza parsed from text, once for each text: most inputs start with the same ones. */
static int fresh(lua_State *L)
{
	static const struct stream_limits limits = {
		.stanza_bytes = 1 << 20, .depth = 100, .attributes = 100, .children = 1000, .parser_bytes = 1 << 24,
	};
	static struct { char *text; struct element *e; } known[16];
	const char *text = luaL_checkstring(L, 1), *message;
	int i = 0;
	while (known[i].text && strcmp(known[i].text, text))
		i++;
	if (!known[i].text) {
		known[i].text = strdup(text);
		if (reader_parse(str_of(text), &limits, &known[i].e, &message))
			abort();
	}
	bind_stanza_push(L, known[i].e);
	return 1;
}

static int open_core(lua_State *L)
{
	static const struct { const char *name; lua_CFunction open; } parts[] = {
		{ "stanza", bind_stanza_open }, { "stream", bind_stream_open },
	};
	lua_newtable(L);
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		lua_pushcfunction(L, parts[i].open);
		lua_call(L, 0, 1);
		lua_setfield(L, -2, parts[i].name);
	}
	lua_pushcfunction(L, fresh);
	lua_setfield(L, -2, "fresh");
	return 1;
}

static lua_State *start(void)
{
	int root = (int)(sizeof __FILE__ - sizeof "tests/fuzz/fuzz_stanza.c");
	lua_State *L = luaL_newstate();
	luaL_openlibs(L);
	luaL_requiref(L, "couplet.core", open_core, 0);
	char text[8192];
	snprintf(text, sizeof text, "package.path = '%.*slua/?.lua' return dofile('%.*stests/fuzz/fuzz_stanza.lua')", root, __FILE__, root, __FILE__);
	if (luaL_dostring(L, text)) {
		fprintf(stderr, "%s\n", lua_tostring(L, -1));
		abort();
	}
	return L;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
