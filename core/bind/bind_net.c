/* SPDX-License-Identifier: MIT */
/* bind_net.c - couplet.core.net */
#include <lua.h>

#include "bind/bind.h"

int bind_net_open(lua_State *L)
{
	lua_newtable(L);
	return 1;
}
