/* SPDX-License-Identifier: MIT */
/* bind_jid.c - couplet.core.jid */
#include <lua.h>

#include "bind/bind.h"

int bind_jid_open(lua_State *L)
{
	lua_newtable(L);
	return 1;
}
