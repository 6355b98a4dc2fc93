/* SPDX-License-Identifier: MIT */
/* bind_loop.c - couplet.core.loop: the logic thread's event loop in Lua.
 *
 *   run()                       until stop(); may be called again afterwards
 *   stop()
 *   once()                      one iteration, waiting for an event; for the rare wait that cannot yield
 *   poll()                      one iteration without waiting
 *   finish()                    at exit: waits for running jobs and delivers their answers
 *   mono(), wall()              seconds, with fractions: never going back; since 1970
 *   cpu()                       seconds the logic thread has worked; a system call
 *   timer(seconds, fn)          -> timer. fn(timer); a number it returns starts it again after so many seconds.
 *     timer:stop()  timer:start(seconds)  timer:active()  timer:left()
 *   signal("SIGHUP", fn)        -> watcher. fn(name)
 *   watch(fd, "r"|"w"|"rw", fn) -> watcher. fn(readable, writable); the descriptor stays the caller's, and must be open
 *     watcher:stop()  watcher:mode("r")
 *
 * A started watcher keeps itself and its function alive; a stopped one is ordinary garbage.
 */
#include <ev.h>
#include <lauxlib.h>
#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "bind/bind.h"
#include "bus/lane.h"
#include "job.h"
#include "logic.h"

#define TIMER "couplet.timer"
#define SIGNAL "couplet.signal"
#define WATCH "couplet.watch"

struct watcher {                /* the userdata; user value 1 is the function */
	union {
		ev_timer timer;
		ev_signal signal;
		ev_io io;
	} w;
	int self;               /* registry reference while started, or LUA_NOREF */
};

static void hold(lua_State *L, int index, struct watcher *w)
{
	if (w->self != LUA_NOREF)
		return;
	lua_pushvalue(L, index);
	w->self = luaL_ref(L, LUA_REGISTRYINDEX);
}

static void let_go(lua_State *L, struct watcher *w)
{
	luaL_unref(L, LUA_REGISTRYINDEX, w->self);
	w->self = LUA_NOREF;
}

static struct watcher *make(lua_State *L, const char *type, int fn)
{
	luaL_checktype(L, fn, LUA_TFUNCTION);
	struct watcher *w = lua_newuserdatauv(L, sizeof *w, 1);
	memset(w, 0, sizeof *w);
	w->self = LUA_NOREF;
	luaL_setmetatable(L, type);
	lua_pushvalue(L, fn);
	lua_setiuservalue(L, -2, 1);
	return w;
}

/* Pushes the function and the watcher itself. */
static lua_State *enter(struct watcher *w)
{
	lua_State *L = logic_lua();
	luaL_checkstack(L, 8, NULL);
	lua_rawgeti(L, LUA_REGISTRYINDEX, w->self);
	lua_getiuservalue(L, -1, 1);
	lua_insert(L, -2);
	return L;
}

/* --- timers --- */

static void timer_arm(struct watcher *w, lua_Number seconds)
{
	if (!(seconds > 0))                    /* NaN as well */
		seconds = 0;
	ev_now_update(logic_loop());
	ev_timer_set(&w->w.timer, seconds, 0.);
	ev_timer_start(logic_loop(), &w->w.timer);
}

static void on_timer(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)loop;
	(void)events;
	struct watcher *w = t->data;
	lua_State *L = enter(w);
	lua_pushvalue(L, -1);
	lua_insert(L, -3);                     /* keeps it while the function runs */
	bind_call(L, 1, 1, "timer");
	if (ev_is_active(t)) {                 /* started again from inside */
		lua_pop(L, 2);
		return;
	}
	if (lua_type(L, -1) == LUA_TNUMBER && w->self != LUA_NOREF)
		timer_arm(w, lua_tonumber(L, -1));
	else
		let_go(L, w);
	lua_pop(L, 2);
}

static int loop_timer(lua_State *L)
{
	lua_Number seconds = luaL_checknumber(L, 1);
	struct watcher *w = make(L, TIMER, 2);
	ev_timer_init(&w->w.timer, on_timer, 0., 0.);
	w->w.timer.data = w;
	hold(L, -1, w);
	timer_arm(w, seconds);
	return 1;
}

static int timer_stop(lua_State *L)
{
	struct watcher *w = luaL_checkudata(L, 1, TIMER);
	ev_timer_stop(logic_loop(), &w->w.timer);
	let_go(L, w);
	return 0;
}

static int timer_start(lua_State *L)
{
	struct watcher *w = luaL_checkudata(L, 1, TIMER);
	lua_Number seconds = luaL_checknumber(L, 2);
	ev_timer_stop(logic_loop(), &w->w.timer);
	hold(L, 1, w);
	timer_arm(w, seconds);
	return 0;
}

static int timer_active(lua_State *L)
{
	struct watcher *w = luaL_checkudata(L, 1, TIMER);
	lua_pushboolean(L, ev_is_active(&w->w.timer));
	return 1;
}

static int timer_left(lua_State *L)
{
	struct watcher *w = luaL_checkudata(L, 1, TIMER);
	lua_pushnumber(L, ev_is_active(&w->w.timer) ? ev_timer_remaining(logic_loop(), &w->w.timer) : 0);
	return 1;
}

/* --- signals --- */

static const struct { const char *name; int number; } signals[] = {
	{ "SIGHUP", SIGHUP },   { "SIGINT", SIGINT },   { "SIGTERM", SIGTERM }, { "SIGUSR1", SIGUSR1 },
	{ "SIGUSR2", SIGUSR2 }, { "SIGCHLD", SIGCHLD }, { "SIGQUIT", SIGQUIT },
};

static void on_signal(struct ev_loop *loop, ev_signal *s, int events)
{
	(void)loop;
	(void)events;
	lua_State *L = enter(s->data);
	lua_pop(L, 1);
	const char *name = "?";
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		if (signals[i].number == s->signum)
			name = signals[i].name;
	lua_pushstring(L, name);
	bind_call(L, 1, 0, "signal");
}

static int loop_signal(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);
	int number = 0;
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		if (!strcmp(signals[i].name, name))
			number = signals[i].number;
	luaL_argcheck(L, number, 1, "unknown signal");
	struct watcher *w = make(L, SIGNAL, 2);
	ev_signal_init(&w->w.signal, on_signal, number);
	w->w.signal.data = w;
	hold(L, -1, w);
	ev_signal_start(logic_loop(), &w->w.signal);
	ev_unref(logic_loop());
	return 1;
}

static int signal_stop(lua_State *L)
{
	struct watcher *w = luaL_checkudata(L, 1, SIGNAL);
	if (ev_is_active(&w->w.signal)) {
		ev_ref(logic_loop());
		ev_signal_stop(logic_loop(), &w->w.signal);
	}
	let_go(L, w);
	return 0;
}

/* --- descriptors --- */

static int events_of(lua_State *L, int arg)
{
	static const char *const names[] = { "r", "w", "rw", "", NULL };
	static const int values[] = { EV_READ, EV_WRITE, EV_READ | EV_WRITE, 0 };
	return values[luaL_checkoption(L, arg, NULL, names)];
}

static void on_io(struct ev_loop *loop, ev_io *io, int events)
{
	(void)loop;
	lua_State *L = enter(io->data);
	lua_pop(L, 1);
	lua_pushboolean(L, events & EV_READ);
	lua_pushboolean(L, events & EV_WRITE);
	bind_call(L, 2, 0, "descriptor");
}

static int loop_watch(lua_State *L)
{
	int fd = (int)luaL_checkinteger(L, 1), events = events_of(L, 2);
	luaL_argcheck(L, fd >= 0, 1, "not a descriptor");
	struct watcher *w = make(L, WATCH, 3);
	ev_io_init(&w->w.io, on_io, fd, events);
	w->w.io.data = w;
	hold(L, -1, w);
	ev_io_start(logic_loop(), &w->w.io);
	return 1;
}

static int watch_stop(lua_State *L)
{
	struct watcher *w = luaL_checkudata(L, 1, WATCH);
	ev_io_stop(logic_loop(), &w->w.io);
	let_go(L, w);
	return 0;
}

static int watch_mode(lua_State *L)
{
	struct watcher *w = luaL_checkudata(L, 1, WATCH);
	int events = events_of(L, 2);
	ev_io_stop(logic_loop(), &w->w.io);
	ev_io_set(&w->w.io, w->w.io.fd, events);
	hold(L, 1, w);
	ev_io_start(logic_loop(), &w->w.io);
	return 0;
}

/* --- the loop itself --- */

static int loop_run(lua_State *L)
{
	(void)L;
	ev_ref(logic_loop());                  /* goes on with nothing to watch, until stop() */
	ev_run(logic_loop(), 0);
	ev_unref(logic_loop());
	return 0;
}

static int loop_stop(lua_State *L)
{
	(void)L;
	ev_break(logic_loop(), EVBREAK_ALL);
	return 0;
}

static int loop_once(lua_State *L)
{
	(void)L;
	ev_ref(logic_loop());
	if (!lane_turn(logic_lane()))
		ev_run(logic_loop(), EVRUN_ONCE);
	lane_turn(logic_lane());               /* libev delivers at the start of an iteration; a nested wait wants it now */
	ev_unref(logic_loop());
	return 0;
}

static int loop_poll(lua_State *L)
{
	(void)L;
	ev_run(logic_loop(), EVRUN_NOWAIT);
	lane_turn(logic_lane());
	return 0;
}

static int loop_mono(lua_State *L)
{
	lua_pushnumber(L, (lua_Number)clock_mono_ms() / 1000);
	return 1;
}

static int loop_wall(lua_State *L)
{
	lua_pushnumber(L, (lua_Number)clock_wall_ms() / 1000);
	return 1;
}

static int loop_cpu(lua_State *L)
{
	lua_pushnumber(L, (lua_Number)clock_cpu_us() / 1e6);
	return 1;
}

static int loop_finish(lua_State *L)
{
	(void)L;
	job_stop();
	return 0;
}

static void type(lua_State *L, const char *name, const luaL_Reg *methods)
{
	luaL_newmetatable(L, name);
	lua_newtable(L);
	luaL_setfuncs(L, methods, 0);
	lua_setfield(L, -2, "__index");
	lua_pop(L, 1);
}

int bind_loop_open(lua_State *L)
{
	static const luaL_Reg timer[] = { { "stop", timer_stop }, { "start", timer_start }, { "active", timer_active },
		{ "left", timer_left }, { NULL, NULL } };
	static const luaL_Reg sig[] = { { "stop", signal_stop }, { NULL, NULL } };
	static const luaL_Reg watch[] = { { "stop", watch_stop }, { "mode", watch_mode }, { NULL, NULL } };
	static const luaL_Reg loop[] = {
		{ "run", loop_run },       { "stop", loop_stop },     { "once", loop_once }, { "poll", loop_poll },
		{ "mono", loop_mono },     { "wall", loop_wall },     { "cpu", loop_cpu },   { "timer", loop_timer },
		{ "signal", loop_signal }, { "watch", loop_watch },   { "finish", loop_finish },
		{ NULL, NULL },
	};
	type(L, TIMER, timer);
	type(L, SIGNAL, sig);
	type(L, WATCH, watch);
	luaL_newlib(L, loop);
	return 1;
}
