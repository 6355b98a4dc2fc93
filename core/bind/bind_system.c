/* SPDX-License-Identifier: MIT */
/* bind_system.c - couplet.core.system: the process and the machine around it. */
#include <lua.h>

#include "bind/bind.h"

int bind_system_open(lua_State *L)
{
	lua_newtable(L);
	return 1;
}
