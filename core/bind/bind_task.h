/* SPDX-License-Identifier: MIT */
/* bind_task.h - what the core keeps about a coroutine, in its Lua extra space. Logic thread. */
#ifndef COUPLET_BIND_TASK_H
#define COUPLET_BIND_TASK_H

#include <lua.h>
#include <stdint.h>

struct task_extra {
	uint16_t nesting;       /* events being fired inside events (bind_events.c) */
	uint16_t serves;        /* it waits, and a queue waits for it (bind_task.c) */
	uint32_t context;       /* on whose behalf it runs, in Lua's own numbers; 0: nobody's (bind_task.c) */
};

_Static_assert(sizeof(struct task_extra) <= LUA_EXTRASPACE, "extra space of a Lua thread");

static inline struct task_extra *task_extra(lua_State *co)
{
	return (struct task_extra *)lua_getextraspace(co);
}

#endif
