/* SPDX-License-Identifier: MIT */
/* bind_files.h - the files and local sockets of couplet.core.system. Logic thread. */
#ifndef COUPLET_BIND_FILES_H
#define COUPLET_BIND_FILES_H

#include <lua.h>

/* Adds its functions to the table on top of the stack. */
void bind_files_add(lua_State *L);

#endif
