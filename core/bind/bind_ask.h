/* SPDX-License-Identifier: MIT */
/* bind_ask.h - work on bytes whose answer goes to a Lua function: done(value…) or done(nil, message, code), once.
 *
 * Logic thread; only job.work runs on a worker. The bytes are wiped afterwards: they may be secrets.
 */
#ifndef COUPLET_BIND_ASK_H
#define COUPLET_BIND_ASK_H

#include <lua.h>

#include "base/buf.h"
#include "job.h"

/* First member of what work() needs besides. */
struct ask {
	struct job job;
	struct str a, b;                      /* copies of what was asked about */
	struct buf out;                       /* the answer, unless push says another one */
	int (*push)(lua_State *L, struct ask *q);       /* pushes the answer, returns how many values; NULL: out */
	const char *error, *code;             /* static texts, set by work(): the answer is nil, error, code */
	int done;                             /* registry reference */
	size_t size;
};

/* A zeroed struct of `size` bytes that begins with a struct ask, and copies of a and b. Its answer goes to the function at
 * index `done`, which becomes the top of the stack. Raises before it holds anything, not after. */
void *bind_ask_new(lua_State *L, int done, size_t size, struct str a, struct str b);

/* Moved. If the class has its bound of jobs the answer, resource-constraint, comes at once. Returns 0, for Lua. */
int bind_ask_run(struct ask *q, enum job_class class, void (*work)(struct job *));

#endif
