/* SPDX-License-Identifier: MIT */
/* resolver.c - require "couplet.resolver": DNS look-ups by libunbound, DNSSEC validated where an anchor is given.
 *
 * A shared object of its own, never linked together with libev: Debian's libev exports libevent's names, and libunbound
 * would call them (docs/architecture.md).
 *
 * Logic thread. libunbound does its work in a thread of its own and makes a descriptor readable when answers wait; the
 * caller watches it (core.loop.watch) and calls resolver:process().
 *
 *   new{ servers = {"127.0.0.1@5353"}, anchor_file =, options = {["local-zone:"] = "test. static"} } -> resolver | nil, message
 *     servers: forward to these; none: those of /etc/resolv.conf, or iterate from the root if that names none
 *   resolver:fd()                       readable: call process()
 *   resolver:process()                  runs the callbacks of what has been answered
 *   resolver:lookup(name, type, done)   -> id. type: a number (33 = SRV). done(answer) with
 *        answer = { [i] = rdata bytes, name =, canonical =, type =, rcode =, ttl =, secure =, bogus =, why_bogus =, nxdomain = }
 *        or done(nil, message)
 *   resolver:cancel(id)                 done is never called
 *   resolver:close()
 *
 * libunbound has no time-out worth the name when the network is away: the caller sets its own and cancels.
 */
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>
#include <unbound.h>

#define TYPE "couplet.resolver"

enum { PENDING_MAX = 10000 };

struct resolver {
	struct ub_ctx *ctx;
	lua_State *L;           /* the state inside process(), where callbacks run */
	int pending;
	int callbacks;          /* registry reference: table id -> done */
	struct query *first;    /* not yet answered: libunbound forgets their argument when its context goes */
};

/* What a running look-up knows; libunbound hands it back once, or never after a cancel. */
struct query {
	struct resolver *r;
	struct query *next, **link;
	int id;
};

static void query_free(struct query *q)
{
	*q->link = q->next;
	if (q->next)
		q->next->link = q->link;
	free(q);
}

static struct resolver *check(lua_State *L)
{
	struct resolver *r = luaL_checkudata(L, 1, TYPE);
	luaL_argcheck(L, r->ctx, 1, "resolver is closed");
	return r;
}

static void push_answer(lua_State *L, const struct ub_result *res)
{
	lua_newtable(L);
	for (int i = 0; res->data && res->data[i]; i++) {
		lua_pushlstring(L, res->data[i], (size_t)res->len[i]);
		lua_rawseti(L, -2, i + 1);
	}
	lua_pushstring(L, res->qname);
	lua_setfield(L, -2, "name");
	lua_pushstring(L, res->canonname ? res->canonname : res->qname);
	lua_setfield(L, -2, "canonical");
	lua_pushinteger(L, res->qtype);
	lua_setfield(L, -2, "type");
	lua_pushinteger(L, res->rcode);
	lua_setfield(L, -2, "rcode");
	lua_pushinteger(L, res->ttl);
	lua_setfield(L, -2, "ttl");
	lua_pushboolean(L, res->secure);
	lua_setfield(L, -2, "secure");
	lua_pushboolean(L, res->bogus);
	lua_setfield(L, -2, "bogus");
	lua_pushstring(L, res->why_bogus);
	lua_setfield(L, -2, "why_bogus");
	lua_pushboolean(L, res->nxdomain);
	lua_setfield(L, -2, "nxdomain");
}

struct answered {
	struct query *q;
	int err;
	struct ub_result *res;
};

/* Protected: may raise anywhere; what it was given is freed by its caller. */
static int run_done(lua_State *L)
{
	struct answered *a = lua_touserdata(L, 1);
	lua_rawgeti(L, LUA_REGISTRYINDEX, a->q->r->callbacks);
	lua_rawgeti(L, -1, a->q->id);
	lua_pushnil(L);
	lua_rawseti(L, -3, a->q->id);
	if (lua_isnil(L, -1))
		return 0;
	if (a->err) {
		lua_pushnil(L);
		lua_pushstring(L, ub_strerror(a->err));
		lua_call(L, 2, 0);
	} else {
		push_answer(L, a->res);
		lua_call(L, 1, 0);
	}
	return 0;
}

static void on_answer(void *arg, int err, struct ub_result *res)
{
	struct query *q = arg;
	struct resolver *r = q->r;
	struct answered a = { q, err, res };
	r->pending--;
	lua_pushcfunction(r->L, run_done);
	lua_pushlightuserdata(r->L, &a);
	if (lua_pcall(r->L, 1, 0, 0) != LUA_OK) {
		/* The first failure is raised by process() once libunbound has let go of its lock. */
		if (lua_isnil(r->L, 2))
			lua_replace(r->L, 2);
		else
			lua_pop(r->L, 1);
	}
	if (res)
		ub_resolve_free(res);
	query_free(q);
}

static int resolver_process(lua_State *L)
{
	struct resolver *r = check(L);
	lua_settop(L, 1);
	lua_pushnil(L);                         /* 2: the first error of a callback */
	lua_State *outer = r->L;
	r->L = L;
	int err = ub_process(r->ctx);
	r->L = outer;
	if (!lua_isnil(L, 2)) {
		lua_settop(L, 2);
		return lua_error(L);
	}
	if (err) {
		lua_pushnil(L);
		lua_pushstring(L, ub_strerror(err));
		return 2;
	}
	lua_pushboolean(L, 1);
	return 1;
}

static int resolver_fd(lua_State *L)
{
	lua_pushinteger(L, ub_fd(check(L)->ctx));
	return 1;
}

static int resolver_lookup(lua_State *L)
{
	struct resolver *r = check(L);
	const char *name = luaL_checkstring(L, 2);
	int type = (int)luaL_checkinteger(L, 3);
	luaL_checktype(L, 4, LUA_TFUNCTION);
	if (r->pending >= PENDING_MAX) {
		lua_pushnil(L);
		lua_pushliteral(L, "too many look-ups at once");
		return 2;
	}
	struct query *q = malloc(sizeof *q);
	if (!q)
		return luaL_error(L, "out of memory");
	*q = (struct query){ .r = r, .next = r->first, .link = &r->first };
	if (q->next)
		q->next->link = &q->next;
	r->first = q;
	int id = 0, err = ub_resolve_async(r->ctx, name, type, 1, q, on_answer, &id);
	if (err) {
		query_free(q);
		lua_pushnil(L);
		lua_pushstring(L, ub_strerror(err));
		return 2;
	}
	q->id = id;                             /* answers only come inside process(), so this is in time */
	r->pending++;
	lua_rawgeti(L, LUA_REGISTRYINDEX, r->callbacks);
	lua_pushvalue(L, 4);
	lua_rawseti(L, -2, id);
	lua_pushinteger(L, id);
	return 1;
}

static int resolver_cancel(lua_State *L)
{
	struct resolver *r = check(L);
	int id = (int)luaL_checkinteger(L, 2);
	/* The look-up itself goes on and is dropped when it ends: its memory then comes back the ordinary way. */
	lua_rawgeti(L, LUA_REGISTRYINDEX, r->callbacks);
	lua_pushnil(L);
	lua_rawseti(L, -2, id);
	return 0;
}

static int resolver_close(lua_State *L)
{
	struct resolver *r = luaL_checkudata(L, 1, TYPE);
	if (r->ctx) {
		ub_ctx_delete(r->ctx);          /* stops its thread; queries not yet answered are dropped with it */
		r->ctx = NULL;
		while (r->first)
			query_free(r->first);
		luaL_unref(L, LUA_REGISTRYINDEX, r->callbacks);
	}
	return 0;
}

static int set_options(lua_State *L, struct resolver *r)
{
	int err = 0;
	if (lua_getfield(L, 1, "options") == LUA_TTABLE) {
		lua_pushnil(L);
		while (!err && lua_next(L, -2)) {
			err = ub_ctx_set_option(r->ctx, luaL_checkstring(L, -2), luaL_checkstring(L, -1));
			lua_pop(L, 1);
		}
	}
	lua_settop(L, 2);
	if (!err && lua_getfield(L, 1, "servers") == LUA_TTABLE && lua_rawlen(L, -1)) {
		int n = (int)lua_rawlen(L, -1);
		for (int i = 1; i <= n && !err; i++) {
			lua_rawgeti(L, -1, i);
			err = ub_ctx_set_fwd(r->ctx, luaL_checkstring(L, -1));
			lua_pop(L, 1);
		}
	} else if (!err) {
		ub_ctx_resolvconf(r->ctx, NULL);        /* none readable: iterate */
		ub_ctx_hosts(r->ctx, NULL);
	}
	lua_settop(L, 2);
	if (!err && lua_getfield(L, 1, "anchor_file") == LUA_TSTRING)
		err = ub_ctx_add_ta_file(r->ctx, lua_tostring(L, -1));
	lua_settop(L, 2);
	return err ? err : ub_ctx_async(r->ctx, 1);
}

static int resolver_new(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	struct resolver *r = lua_newuserdatauv(L, sizeof *r, 0);
	*r = (struct resolver){ .callbacks = LUA_NOREF };
	luaL_setmetatable(L, TYPE);
	r->ctx = ub_ctx_create();
	if (!r->ctx)
		return luaL_error(L, "out of memory");
	lua_newtable(L);
	r->callbacks = luaL_ref(L, LUA_REGISTRYINDEX);
	int err = set_options(L, r);
	if (err) {
		lua_pushnil(L);
		lua_pushstring(L, ub_strerror(err));
		return 2;
	}
	return 1;
}

__attribute__((visibility("default"))) int luaopen_couplet_resolver(lua_State *L);

int luaopen_couplet_resolver(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "fd", resolver_fd }, { "process", resolver_process }, { "lookup", resolver_lookup },
		{ "cancel", resolver_cancel }, { "close", resolver_close }, { NULL, NULL },
	};
	luaL_newmetatable(L, TYPE);
	lua_newtable(L);
	luaL_setfuncs(L, methods, 0);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, resolver_close);
	lua_setfield(L, -2, "__gc");
	lua_pushcfunction(L, resolver_close);
	lua_setfield(L, -2, "__close");
	lua_newtable(L);
	lua_pushcfunction(L, resolver_new);
	lua_setfield(L, -2, "new");
	return 1;
}
