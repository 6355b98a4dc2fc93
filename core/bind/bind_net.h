/* SPDX-License-Identifier: MIT */
/* bind_net.h - what bind_net.c, bind_conn.c and bind_tls.c share. Logic thread. */
#ifndef COUPLET_BIND_NET_H
#define COUPLET_BIND_NET_H

#include <lua.h>

#include "net/conn.h"

struct tracker;

#define BIND_CONN "couplet.conn"
#define BIND_BLOCK "couplet.block"
#define BIND_TLS "couplet.tls"

struct bind_class {                       /* conn_class.user */
	int handler[CONN_EVENTS];         /* registry references, or LUA_NOREF */
	char *ns;                         /* in force inside its streams */
};

/* bind_net.c */
struct conn_class *bind_class(lua_State *L, const char *name);            /* made if new */
/* Reads t[key] at index into *out; an error names the key. Absent: left alone. */
void bind_number(lua_State *L, int index, const char *key, double min, double max, double *out);
void bind_uint(lua_State *L, int index, const char *key, uint32_t *out);
void bind_limits(lua_State *L, int index, struct conn_limits *limits);    /* index: a table; fields of conn:limits{} */
struct block *bind_alpn(lua_State *L, int index);                         /* string or list -> wire form; NULL: nil or none */
/* The value at index (string, stanza, block) as a block, with a reference. May raise. */
struct block *bind_block_of(lua_State *L, int index, const char *ns);

/* bind_tls.c */
void bind_tls_open(lua_State *L, int net);                                /* net.tls_context */
struct tls_ctx *bind_tls_check(lua_State *L, int index);                  /* borrowed */
struct tls_ctx *bind_tls_field(lua_State *L, int index, const char *key); /* borrowed; NULL: absent */
void bind_tls_push_info(lua_State *L, struct str records);                /* tls_info() records -> table */

/* bind_conn.c */
void bind_conn_open(lua_State *L);
void bind_conn_deliver(struct msg *msg);                                  /* the sink */
void bind_conn_mute(void);                                                 /* events are freed, and nobody told */
void bind_conn_push_dialled(lua_State *L, struct conn_class *class, const struct conn_start *start, uint64_t token);
uint64_t bind_conn_id(lua_State *L, int index, const char **ns);          /* 0: gone; raises if it is no connection */
/* Both of the connection on top of the stack; the metatable of connections is at `meta`: for long lists. */
uint64_t bind_conn_of_list(lua_State *L, int meta, const char **ns, struct tracker **tracker);
struct tracker *bind_conn_tracker(lua_State *L, int index);               /* on that connection; NULL: none */
void bind_conn_sent(uint64_t id, const struct block *b);                  /* b is on its way there */
void bind_conn_push_queue(lua_State *L, int index);                       /* the queue the tracker is; nil: none */

#endif
