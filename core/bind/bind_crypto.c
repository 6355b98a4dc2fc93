/* SPDX-License-Identifier: MIT */
/* bind_crypto.c - couplet.core.crypto */
#include <lua.h>

#include "bind/bind.h"

int bind_crypto_open(lua_State *L)
{
	lua_newtable(L);
	return 1;
}
