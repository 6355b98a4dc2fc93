/* SPDX-License-Identifier: MIT */
/* bind.h - the road from C into Lua, and the list of what require "couplet.core" offers. Logic thread.
 *
 * Each bind_X.c has one opener; it pushes one table, which becomes couplet.core.X. Failure goes to Lua as nil, message,
 * code; only a caller's mistake raises.
 */
#ifndef COUPLET_BIND_H
#define COUPLET_BIND_H

#include <lua.h>

#include "base/str.h"

/* Calls the function under `args` arguments, both taken from the stack, in protected mode. An error is logged with its
 * traceback under `what`. Pushes `results` values (nil if it failed); returns whether it succeeded. */
int bind_call(lua_State *L, int args, int results, const char *what);

/* luaL_checklstring as a struct str; borrowed from the Lua string. */
struct str bind_check_str(lua_State *L, int arg);

int bind_loop_open(lua_State *L);      /* timers, signals, descriptors, run and stop */
int bind_log_open(lua_State *L);       /* log sinks */
int bind_net_open(lua_State *L);       /* listeners, connections, TLS contexts */
int bind_stanza_open(lua_State *L);    /* stanzas over element blocks */
int bind_stream_open(lua_State *L);    /* XML from Lua strings */
int bind_jid_open(lua_State *L);       /* addresses and their preparation */
int bind_crypto_open(lua_State *L);    /* hashes, random bytes, base64, keys, ciphers */
int bind_sasl_open(lua_State *L);      /* SASL exchanges */
int bind_store_open(lua_State *L);     /* database drivers */
int bind_system_open(lua_State *L);    /* process, files, user, limits */
int bind_directory_open(lua_State *L); /* which table holds a key */
int bind_task_open(lua_State *L);      /* pooled coroutines, and the watch over them */
int bind_events_open(lua_State *L);    /* calling the handlers of an event */
int bind_unacked_open(lua_State *L);  /* what a peer has not acknowledged */
int bind_job_open(lua_State *L);       /* work on bytes off the logic thread */

#endif
