/* SPDX-License-Identifier: MIT */
/* bind_task.c - couplet.core.task: starting and resuming coroutines cheaply, queues of work in order, and the watch over
 * what keeps the logic thread. lua/couplet/task.lua makes scheduling out of it.
 *
 *   setup{ failed = fn(co, err), put_off = fn(fn, ...) -> true, ready = fn() }        once
 *   start(fn, ...)      runs fn in a pooled coroutine -> true (ended) | thread (it waits) | false (failed)
 *   continue(co, ...)   goes on with one that waits -> the same | true (put off)
 *   inner(co, ...)      coroutine.resume, known to the watch: generators
 *   current() -> thread | nil        the task that runs: its outermost coroutine
 *   swap(thread | nil) -> thread | nil        another current one: waits in place, which run the loop inside a task
 *   WAIT                what a task yields when it waits
 *   queue(handler) -> q     q:push(a, b) runs handler(a, b) as a task, or behind those before it;  q:count()
 *   context() -> n, context(n)       a number of the running task, which the tasks it starts begin with; 0 in a queue's handler
 *   pending()           something was put off: ready() is to be called when no task runs any more
 *   pool() -> idle, created, started
 *   watch(slow_ms, abort_ms, report)        report(ms, traceback, aborted); 0 = never; nil: no watch
 *
 * A function started is the coroutine's body itself: when it returns, the thread is used again. Tasks inside tasks are at
 * most DEPTH deep, the rest is put off: Lua ends at 200 C calls, of which each task takes three.
 *
 * The watch costs a running counter. A timer that is armed only while there is work sends this thread a signal; if it finds
 * the same entry running too long, it sets a hook, which Lua runs at its next instruction: with a traceback for the log, or
 * with an error. (A permanent count hook would make Lua call it for every instruction.)
 */
#include <lauxlib.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bind/bind.h"
#include "bind/bind_task.h"

#define QUEUE "couplet.queue"
#define DEPTH 25
#define MORE 10         /* for what runs inside a wait in place */
#define MOST 55
#define POOL 256
#define TICK_MS 20

static struct {
	int pool, failed, put_off, ready;       /* registry: idle threads 1..idle; callbacks */
	int serving;                    /* registry: waiting thread -> its queue */
	int idle, created;
	int pending, draining;
	uint64_t started;
	int depth, deepest;             /* tasks inside tasks, and the bound now in force */
	uint32_t context;               /* of what runs; tasks begin with it */
	lua_State *current;             /* the task that runs, or NULL */
	lua_State *volatile running;    /* the coroutine that runs: current, or a generator in it */
} t = { .pool = LUA_NOREF, .failed = LUA_NOREF, .put_off = LUA_NOREF, .ready = LUA_NOREF,
	.deepest = DEPTH };

static char wait_token;

/* --- the watch --- */

static struct {
	timer_t timer;
	int made, report;
	volatile sig_atomic_t armed, waiting, want;     /* want: 1 report, 2 abort */
	volatile unsigned entry;        /* grows with every entry from the loop */
	unsigned seen;
	volatile int ms;                /* how long entry `seen` has run */
	int64_t worked_us;              /* at the last tick, of this thread; and how often it had waited */
	long waits;
	int slow_ms, abort_ms, reported;
	unsigned hooked;                /* entry the hook was set for */
} w = { .report = LUA_NOREF };

static void arm(void)
{
	struct itimerspec in = { .it_value = { .tv_nsec = TICK_MS * 1000000L } };
	w.armed = 1;
	timer_settime(w.timer, 0, &in, NULL);
}

static void hook(lua_State *L, lua_Debug *ar)
{
	(void)ar;
	lua_sethook(L, NULL, 0, 0);
	if (w.hooked != w.entry || !w.want || w.report == LUA_NOREF)
		return;                         /* it ended before its next instruction */
	int aborted = w.want == 2, ms = w.ms;
	w.want = 0;
	lua_rawgeti(L, LUA_REGISTRYINDEX, w.report);
	lua_pushinteger(L, ms);
	luaL_traceback(L, L, NULL, 0);
	lua_pushboolean(L, aborted);
	if (lua_pcall(L, 3, 0, 0) != LUA_OK)
		lua_pop(L, 1);
	if (aborted) {
		w.ms = 0;                       /* whoever goes on has all of the time again */
		w.reported = 0;
		luaL_error(L, "aborted: kept the server for %d ms", ms);
	}
}

/* Milliseconds of the last tick that this thread is to blame for. */
static int blame(void)
{
	struct rusage u;
	getrusage(RUSAGE_THREAD, &u);
	int64_t us = (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * INT64_C(1000000) + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
	int64_t ms = (us - w.worked_us + 500) / 1000;
	if (u.ru_nvcsw != w.waits || ms > TICK_MS)
		ms = TICK_MS;
	w.worked_us = us;
	w.waits = u.ru_nvcsw;
	return (int)ms;
}

/* In the logic thread, between any two machine instructions: lua_sethook is made for that. */
static void on_tick(int signal)
{
	(void)signal;
	int ms = blame();
	if (t.depth == 0 && w.seen == w.entry) {
		w.armed = 0;                    /* idle: the next entry arms it again */
		return;
	}
	if (w.seen != w.entry || w.waiting || t.depth == 0) {
		w.seen = w.entry;
		w.ms = 0;
		w.reported = 0;
	} else {
		w.ms += ms;
		int want = w.abort_ms && w.ms >= w.abort_ms ? 2 : w.slow_ms && w.ms >= w.slow_ms && !w.reported ? 1 : 0;
		lua_State *L = t.running;
		if (want && L) {
			w.want = want;
			w.reported = 1;
			w.hooked = w.entry;
			lua_sethook(L, hook, LUA_MASKCOUNT, 1);
		}
	}
	arm();
}

static void entered(void)
{
	w.entry++;
	if (w.made && !w.armed)
		arm();
}

static int watch(lua_State *L)
{
	if (lua_isnoneornil(L, 1)) {
		if (w.made)
			timer_delete(w.timer);
		w.made = w.armed = 0;
		return 0;
	}
	w.slow_ms = (int)luaL_checkinteger(L, 1);
	w.abort_ms = (int)luaL_checkinteger(L, 2);
	luaL_checktype(L, 3, LUA_TFUNCTION);
	luaL_unref(L, LUA_REGISTRYINDEX, w.report);
	lua_pushvalue(L, 3);
	w.report = luaL_ref(L, LUA_REGISTRYINDEX);
	if (w.made)
		return 0;
	int signal = SIGRTMIN + 5;
	struct sigaction action = { .sa_handler = on_tick, .sa_flags = SA_RESTART };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = signal };
	event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	sigaction(signal, &action, NULL);
	if (timer_create(CLOCK_MONOTONIC, &event, &w.timer) != 0)
		return luaL_error(L, "no timer for the watch");
	w.made = 1;
	return 0;
}

/* --- tasks --- */

/* Pushes an idle thread. */
static lua_State *take(lua_State *L)
{
	if (t.idle > 0) {
		lua_rawgeti(L, LUA_REGISTRYINDEX, t.pool);
		lua_rawgeti(L, -1, t.idle);
		lua_remove(L, -2);
		t.idle--;
		lua_State *co = lua_tothread(L, -1);
		memset(task_extra(co), 0, sizeof(struct task_extra));
		return co;
	}
	lua_State *co = lua_newthread(L);
	t.created++;
	memset(lua_getextraspace(co), 0, LUA_EXTRASPACE);
	lua_sethook(co, NULL, 0, 0);            /* not its creator's */
	return co;
}

static void give(lua_State *L, lua_State *co, int index)
{
	lua_settop(co, 0);
	if (t.idle >= POOL)
		return;
	lua_rawgeti(L, LUA_REGISTRYINDEX, t.pool);
	lua_pushvalue(L, index);
	lua_rawseti(L, -2, t.idle + 1);
	t.idle++;                               /* nothing before this may have raised */
	lua_pop(L, 1);
}

enum outcome { ENDED, WAITS, FAILED };

/* The thread is at `index`. Runs it with `args` values on its stack (and the function, if it begins). */
static enum outcome run(lua_State *L, lua_State *co, int index, int args)
{
	lua_State *outer = t.current, *running = t.running;
	uint32_t context = t.context;
	int waiting = w.waiting;
	w.waiting = 0;
	t.context = task_extra(co)->context;
	if (!outer)
		entered();
	t.current = t.running = co;
	t.depth++;
	t.started++;
	int n, status = lua_resume(co, L, args, &n);
	t.depth--;
	t.current = outer;
	t.running = running;
	t.context = context;
	w.waiting = waiting;
	if (status == LUA_OK)
		return ENDED;
	if (status == LUA_YIELD && n == 1 && lua_touserdata(co, -1) == &wait_token) {
		lua_pop(co, 1);
		return WAITS;
	}
	lua_rawgeti(L, LUA_REGISTRYINDEX, t.failed);
	lua_pushvalue(L, index);
	if (status == LUA_YIELD) {
		lua_pop(co, n);
		lua_pushliteral(L, "attempt to yield outside of a coroutine of its own");
	} else {
		lua_xmove(co, L, 1);
	}
	if (lua_pcall(L, 2, 0, 0) != LUA_OK)
		lua_pop(L, 1);                  /* out of memory; there is nobody left to tell */
	return FAILED;
}

/* Once the outermost task is over or waits. */
static void run_ready(lua_State *L)
{
	if (t.current || !t.pending || t.draining)
		return;
	t.pending = 0;
	t.draining = 1;
	lua_rawgeti(L, LUA_REGISTRYINDEX, t.ready);
	int status = lua_pcall(L, 0, 0, 0);
	t.draining = 0;
	if (status != LUA_OK)
		lua_error(L);
}

static int put_off(lua_State *L, int n)
{
	lua_rawgeti(L, LUA_REGISTRYINDEX, t.put_off);
	lua_insert(L, -1 - n);
	lua_call(L, n, 0);
	lua_pushboolean(L, 1);
	return 1;
}

static int outcome(lua_State *L, enum outcome what, int thread)
{
	run_ready(L);
	if (what == WAITS)
		lua_pushvalue(L, thread);
	else
		lua_pushboolean(L, what == ENDED);
	return 1;
}

/* --- the collector's resting place --- */

/* When Lua begins to sweep, it frees without a pause all objects newer than the newest that lives. Nearly everything a stanza
 * makes is garbage, so that would be the garbage of a whole round: tens of milliseconds. Therefore every now and then something
 * is made that lives. */
static void anchor(lua_State *L)
{
	enum { OFTEN = 16 };
	static const char key;
	static unsigned n;
	if (++n % OFTEN)
		return;
	lua_newtable(L);
	lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
}

/* --- queues --- */

struct queue {                          /* user value 1: the handler; 2: nil, or what waits: a, b, a, b … from 2 * first */
	lua_Integer first, last;
	int busy;
};

/* Serves what is queued, until nothing is or a handler waits. The queue, busy, is at `q`; on top of the stack are the first
 * a and b if `given`. */
static void serve(lua_State *L, int q, int given)
{
	struct queue *queue = lua_touserdata(L, q);
	lua_State *co = NULL;
	int top = lua_gettop(L) - (given ? 2 : 0);      /* then: a, b; below them, once there is one, the thread */
	luaL_checkstack(L, 8, NULL);
	for (;;) {
		if (!given) {
			if (queue->first > queue->last)
				break;
			lua_Integer i = 2 * queue->first++;
			lua_getiuservalue(L, q, 2);
			for (int k = 0; k < 2; k++) {
				lua_rawgeti(L, -1 - k, i + k);
				lua_pushnil(L);
				lua_rawseti(L, -3 - k, i + k);
			}
			lua_remove(L, -3);
		}
		given = 0;
		if (!co) {
			co = take(L);
			lua_insert(L, top + 1);
		}
		task_extra(co)->context = 0;
		lua_getiuservalue(L, q, 1);
		lua_insert(L, -3);
		lua_xmove(L, co, 3);
		enum outcome what = run(L, co, top + 1, 2);
		if (what == WAITS) {
			task_extra(co)->serves = 1;
			lua_rawgeti(L, LUA_REGISTRYINDEX, t.serving);
			lua_pushvalue(L, top + 1);
			lua_pushvalue(L, q);
			lua_rawset(L, -3);
			lua_settop(L, top);
			return;
		}
		if (what == FAILED) {
			lua_settop(L, top);
			co = NULL;
		} else {
			lua_settop(co, 0);
		}
	}
	queue->busy = 0;
	if (co)
		give(L, co, top + 1);
	lua_settop(L, top);
}

static int queue_serve(lua_State *L)    /* put off */
{
	serve(L, 1, 0);
	return 0;
}

/* A thread that waited for a queue has ended: the queue goes on, but not inside the task that woke the thread. */
static void serve_on(lua_State *L, lua_State *co, int thread)
{
	task_extra(co)->serves = 0;
	lua_rawgeti(L, LUA_REGISTRYINDEX, t.serving);
	lua_pushvalue(L, thread);
	lua_rawget(L, -2);                      /* serving, queue */
	lua_pushvalue(L, thread);
	lua_pushnil(L);
	lua_rawset(L, -4);
	if (lua_touserdata(L, -1) && t.current) {
		lua_pushcfunction(L, queue_serve);
		lua_insert(L, -2);
		put_off(L, 2);
	} else if (lua_touserdata(L, -1)) {
		serve(L, lua_gettop(L), 0);
	}
	lua_pop(L, 2);
}

static int queue_push(lua_State *L)
{
	struct queue *queue = luaL_checkudata(L, 1, QUEUE);
	lua_settop(L, 3);
	anchor(L);
	if (!queue->busy && t.depth < t.deepest) {
		queue->busy = 1;
		serve(L, 1, 1);
		run_ready(L);
		return 0;
	}
	if (lua_getiuservalue(L, 1, 2) == LUA_TNIL) {
		lua_newtable(L);
		lua_pushvalue(L, -1);
		lua_setiuservalue(L, 1, 2);
	}
	lua_Integer i = 2 * (queue->last + 1);
	lua_pushvalue(L, 2);
	lua_rawseti(L, -2, i);
	lua_pushvalue(L, 3);
	lua_rawseti(L, -2, i + 1);
	queue->last++;
	if (!queue->busy) {                     /* too deep here: a task of its own serves it later */
		queue->busy = 1;
		lua_pushcfunction(L, queue_serve);
		lua_pushvalue(L, 1);
		put_off(L, 2);
	}
	return 0;
}

static int queue_count(lua_State *L)
{
	struct queue *queue = luaL_checkudata(L, 1, QUEUE);
	lua_pushinteger(L, queue->last - queue->first + 1 + (queue->busy ? 1 : 0));
	return 1;
}

static int queue_new(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TFUNCTION);
	struct queue *queue = lua_newuserdatauv(L, sizeof *queue, 2);
	*queue = (struct queue){ .first = 1 };
	lua_pushvalue(L, 1);
	lua_setiuservalue(L, -2, 1);
	luaL_setmetatable(L, QUEUE);
	return 1;
}

/* --- single tasks --- */

static int start(lua_State *L)
{
	int n = lua_gettop(L);
	luaL_checktype(L, 1, LUA_TFUNCTION);
	anchor(L);
	if (t.depth >= t.deepest)
		return put_off(L, n);
	lua_State *co = take(L);
	task_extra(co)->context = t.context;
	lua_insert(L, 1);
	if (!lua_checkstack(co, n))
		return luaL_error(L, "too many arguments");
	lua_xmove(L, co, n);
	enum outcome what = run(L, co, 1, n - 1);
	if (what == ENDED)
		give(L, co, 1);
	return outcome(L, what, 1);
}

static int continue_(lua_State *L)
{
	lua_State *co = lua_tothread(L, 1);
	luaL_argexpected(L, co, 1, "coroutine");
	int n = lua_gettop(L) - 1;
	if (lua_status(co) != LUA_YIELD)
		return luaL_error(L, "this task does not wait");
	if (t.depth >= t.deepest)
		return put_off(L, n + 1);
	if (!lua_checkstack(co, n))
		return luaL_error(L, "too many arguments");
	lua_xmove(L, co, n);
	enum outcome what = run(L, co, 1, n);
	if (what != WAITS && task_extra(co)->serves)
		serve_on(L, co, 1);
	if (what == ENDED)
		give(L, co, 1);
	return outcome(L, what, 1);
}

/* As coroutine.resume. */
static int inner(lua_State *L)
{
	lua_State *co = lua_tothread(L, 1);
	luaL_argexpected(L, co, 1, "coroutine");
	int n = lua_gettop(L) - 1, results;
	if (lua_status(co) == LUA_OK && lua_gettop(co) == 0) {
		lua_pushboolean(L, 0);
		lua_pushliteral(L, "cannot resume dead coroutine");
		return 2;
	}
	if (!lua_checkstack(co, n)) {
		lua_pushboolean(L, 0);
		lua_pushliteral(L, "too many arguments to resume");
		return 2;
	}
	lua_xmove(L, co, n);
	lua_State *outer = t.running;
	if (t.current)
		t.running = co;
	int status = lua_resume(co, L, n, &results);
	t.running = outer;
	if (status != LUA_OK && status != LUA_YIELD) {
		lua_pushboolean(L, 0);
		lua_xmove(co, L, 1);
		return 2;
	}
	if (!lua_checkstack(L, results + 1)) {
		lua_pop(co, results);
		lua_pushboolean(L, 0);
		lua_pushliteral(L, "too many results to resume");
		return 2;
	}
	lua_pushboolean(L, 1);
	lua_xmove(co, L, results);
	return results + 1;
}

static void push_thread(lua_State *L, lua_State *co)
{
	if (!co) {
		lua_pushnil(L);
	} else {
		luaL_checkstack(co, 1, NULL);
		lua_pushthread(co);
		lua_xmove(co, L, 1);
	}
}

static int current(lua_State *L)
{
	push_thread(L, t.current);
	return 1;
}

static int swap(lua_State *L)
{
	lua_State *new = lua_tothread(L, 1);
	if (!new && t.depth + MORE > MOST)
		return luaL_error(L, "waits in place inside waits in place, too deep");
	push_thread(L, t.current);
	t.current = new;
	t.context = new ? task_extra(new)->context : 0;
	t.deepest = new || t.depth + MORE < DEPTH ? DEPTH : t.depth + MORE;
	if (new && t.depth >= DEPTH)
		t.deepest = t.depth;            /* inside an outer wait in place */
	w.waiting = !new && t.depth > 0;
	w.entry++;
	return 1;
}

static int context(lua_State *L)
{
	if (lua_gettop(L) == 0) {
		lua_pushinteger(L, t.context);
		return 1;
	}
	t.context = (uint32_t)luaL_checkinteger(L, 1);
	if (t.current)
		task_extra(t.current)->context = t.context;
	return 0;
}

static int pending(lua_State *L)
{
	(void)L;
	t.pending = 1;
	return 0;
}

static int pool(lua_State *L)
{
	lua_pushinteger(L, t.idle);
	lua_pushinteger(L, t.created);
	lua_pushinteger(L, (lua_Integer)t.started);
	return 3;
}

static int setup(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	luaL_unref(L, LUA_REGISTRYINDEX, t.failed);
	luaL_unref(L, LUA_REGISTRYINDEX, t.put_off);
	luaL_unref(L, LUA_REGISTRYINDEX, t.ready);
	lua_getfield(L, 1, "failed");
	t.failed = luaL_ref(L, LUA_REGISTRYINDEX);
	lua_getfield(L, 1, "put_off");
	t.put_off = luaL_ref(L, LUA_REGISTRYINDEX);
	lua_getfield(L, 1, "ready");
	t.ready = luaL_ref(L, LUA_REGISTRYINDEX);
	return 0;
}

int bind_task_open(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "setup", setup }, { "start", start }, { "continue", continue_ }, { "inner", inner },     { "current", current },
		{ "swap", swap },   { "pool", pool },   { "pending", pending },    { "queue", queue_new }, { "watch", watch },
		{ "context", context }, { NULL, NULL },
	};
	static const luaL_Reg methods[] = { { "push", queue_push }, { "count", queue_count }, { NULL, NULL } };
	luaL_newmetatable(L, QUEUE);
	luaL_newlib(L, methods);
	lua_setfield(L, -2, "__index");
	lua_pop(L, 1);
	memset(task_extra(L), 0, LUA_EXTRASPACE);
	t.idle = t.created = t.depth = t.pending = t.draining = 0;
	t.context = 0;
	t.current = NULL;
	t.running = NULL;
	lua_newtable(L);
	t.pool = luaL_ref(L, LUA_REGISTRYINDEX);
	lua_newtable(L);
	t.serving = luaL_ref(L, LUA_REGISTRYINDEX);
	luaL_newlib(L, functions);
	lua_pushlightuserdata(L, &wait_token);
	lua_setfield(L, -2, "WAIT");
	return 1;
}
