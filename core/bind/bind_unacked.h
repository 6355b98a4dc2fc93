/* SPDX-License-Identifier: MIT */
/* bind_unacked.h - what a connection does with the queue of stream management that is on it. Logic thread. */
#ifndef COUPLET_BIND_UNACKED_H
#define COUPLET_BIND_UNACKED_H

#include <lua.h>

#include "bus/unacked.h"

struct tracker;

struct tracker *bind_tracker_test(lua_State *L, int index);       /* NULL: something else */

/* The block is to leave on a connection that t is on. If it is a stanza it is kept until the peer has acknowledged it; to: the
 * value for its hole, p == NULL: none. False: it is only kept, do not send it. */
bool bind_tracker_take(struct tracker *t, struct block *b, struct str to);

/* To be called then: asks for acknowledgement on connection id, if it is time (0: there is none). Pushes nothing. */
void bind_tracker_taken(lua_State *L, struct tracker *t, int conn, uint64_t id);

void bind_tracker_hold(struct tracker *t, bool hold);

#endif
