/* SPDX-License-Identifier: MIT */
/* bind_sasl.c - couplet.core.sasl */
#include <lua.h>

#include "bind/bind.h"

int bind_sasl_open(lua_State *L)
{
	lua_newtable(L);
	return 1;
}
