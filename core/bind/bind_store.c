/* SPDX-License-Identifier: MIT */
/* bind_store.c - couplet.core.store */
#include <lua.h>

#include "bind/bind.h"

int bind_store_open(lua_State *L)
{
	lua_newtable(L);
	return 1;
}
