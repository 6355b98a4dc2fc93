/* SPDX-License-Identifier: MIT */
/* logic.h - the logic thread: the one that called core.loop.run() from Lua. It has the default libev loop, the one
 * lua_State, and the lane through which I/O threads and jobs reach it. */
#ifndef COUPLET_LOGIC_H
#define COUPLET_LOGIC_H

#include <lua.h>

struct ev_loop;
struct lane;

/* Makes the calling thread the logic thread of this process; further calls do nothing. L is the main state. */
void logic_open(lua_State *L);

struct lane *logic_lane(void);          /* any thread, once open */
struct ev_loop *logic_loop(void);       /* logic thread */
lua_State *logic_lua(void);             /* logic thread: the main state, for entering Lua from a message or watcher */

/* Called at the end of every loop iteration of the logic thread, after messages were delivered. With io_threads = 0 the
 * I/O code flushes its connections here. One function; NULL takes it away. */
void logic_set_after(void (*after)(void *arg), void *arg);

#endif
