/* SPDX-License-Identifier: MIT */
/* bind_stanza.c - couplet.core.stanza */
#include <lua.h>

#include "bind/bind.h"

int bind_stanza_open(lua_State *L)
{
	lua_newtable(L);
	return 1;
}
