/* SPDX-License-Identifier: MIT */
/* bind_sasl.c - couplet.core.sasl: the server's side of SASL exchanges.
 *
 *   mechanisms() -> { "SCRAM-SHA-512", … }      what Cyrus has here, without -PLUS
 *   peek(mech, message) -> { name=, authzid=, password=, flag=, binding= } | nil, condition | false: it names no account
 *     flag, binding: SCRAM's channel binding flag and the type asked for ("p")
 *   new{ mech=, host= } -> exchange | nil, message
 *   exchange:bind(type, data, offered)          before SCRAM's first message: the binding asked for, or any one offered
 *   exchange:burns(credentials) -> boolean      does the step cost milliseconds?
 *   exchange:step(message | nil, credentials | nil, done)     a job; done("challenge" | "success", data | nil, name)
 *                                                             or done("failure", condition, text | nil)
 *   exchange:step_now(message, credentials) -> the same, at once: for steps that do not burn (some microseconds)
 *   exchange:close()
 *   derive(hash, password, salt, iterations, done)  a job; done(stored_key, server_key) or done(nil, message, code)
 *
 * credentials: { username=, state = "enabled" | "disabled" | "expired" | nil (no such account), hash = "sha1" …, stored_key=,
 *   server_key=, salt=, iterations=, verdict = boolean | nil, password=, ha1=, secret= }. Without a key of the exchange's hash
 *   an invented one is used; iterations, hash and secret then say how it looks. core/sasl/exchange.h tells the rest.
 */
#include <lauxlib.h>
#include <stdlib.h>

#include "base/mem.h"
#include "bind/bind.h"
#include "bind/bind_crypto.h"
#include "job.h"
#include "logic.h"
#include "sasl/cyrus.h"
#include "sasl/exchange.h"

#define EXCHANGE "couplet.sasl"

struct box {
	struct exchange *x;
	bool busy;                              /* a job has it */
};

enum { SECRET_MAX = 64 };

struct step {
	struct job job;
	struct exchange *x;
	bool has_message, has_credentials;
	struct str message;                     /* in bytes */
	struct credentials credentials;
	char password[SASL_NAME_MAX], secret[SECRET_MAX];
	enum exchange_result result;
	struct exchange_answer answer;
	int box, done;                          /* registry references */
	char bytes[];
};

/* --- credentials --- */

/* Copies the string field to `to`; raises if it is longer than size. Returns its length, 0 if it is absent. */
static size_t copy_field(lua_State *L, int table, const char *field, void *to, size_t size)
{
	size_t n = 0;
	if (lua_getfield(L, table, field) != LUA_TNIL) {
		const char *p = lua_tolstring(L, -1, &n);
		if (!p || n > size)
			luaL_error(L, "credentials: bad %s", field);
		memcpy(to, p, n);
	}
	lua_pop(L, 1);
	return n;
}

static void read_key(lua_State *L, int table, struct credentials *c)
{
	lua_getfield(L, table, "hash");
	if (!lua_isnil(L, -1))
		c->digest = bind_check_digest(L, -1);
	lua_getfield(L, table, "iterations");
	lua_Integer iterations = luaL_optinteger(L, -1, 0);
	lua_pop(L, 2);
	if (iterations < 0 || iterations > SCRAM_ITERATIONS_MAX)
		luaL_error(L, "credentials: bad iterations");
	c->iterations = (int)iterations;
	struct scram_key *key = &c->key;
	size_t stored = copy_field(L, table, "stored_key", key->stored, sizeof key->stored);
	size_t server = copy_field(L, table, "server_key", key->server, sizeof key->server);
	key->salt_len = copy_field(L, table, "salt", key->salt, sizeof key->salt);
	key->iterations = c->iterations;
	if (c->digest && stored == digest_size(c->digest) && server == stored && key->salt_len && key->iterations)
		key->digest = c->digest;
}

/* Raises if they are no credentials; so only into memory that Lua or nobody owns. */
static void read_credentials(lua_State *L, int table, struct step *s)
{
	static const char *const states[] = { "enabled", "disabled", "expired", "unknown", NULL };
	struct credentials *c = &s->credentials;
	luaL_checktype(L, table, LUA_TTABLE);
	size_t n = copy_field(L, table, "username", c->name, SASL_NAME_MAX);
	luaL_argcheck(L, n && !memchr(c->name, 0, n), table, "credentials: bad username");
	lua_getfield(L, table, "state");
	c->account = (enum account)luaL_checkoption(L, lua_gettop(L), "unknown", states);
	lua_getfield(L, table, "verdict");
	c->verdict = lua_isnil(L, -1) ? -1 : lua_toboolean(L, -1);
	lua_pop(L, 2);
	c->digest = digest_find(STR("sha256"));
	read_key(L, table, c);
	c->has_ha1 = copy_field(L, table, "ha1", c->ha1, sizeof c->ha1) == sizeof c->ha1;
	c->password = (struct str){ s->password, copy_field(L, table, "password", s->password, sizeof s->password) };
	c->secret = (struct str){ s->secret, copy_field(L, table, "secret", s->secret, sizeof s->secret) };
	s->has_credentials = true;
}

/* --- steps --- */

static struct box *check_box(lua_State *L)
{
	struct box *box = luaL_checkudata(L, 1, EXCHANGE);
	luaL_argcheck(L, box->x, 1, "exchange is closed");
	luaL_argcheck(L, !box->busy, 1, "exchange is in a step");
	return box;
}

static int push_answer(lua_State *L, struct step *s)
{
	static const char *const names[] = { "challenge", "success", "failure" };
	lua_pushstring(L, names[s->result]);
	if (s->result == EXCHANGE_FAILURE) {
		lua_pushstring(L, exchange_condition(s->answer.condition));
		lua_pushstring(L, s->answer.text);      /* NULL: nil */
		return 3;
	}
	if (s->answer.has_data)
		lua_pushlstring(L, s->answer.data.len ? buf_data(&s->answer.data) : "", s->answer.data.len);
	else
		lua_pushnil(L);
	if (s->result == EXCHANGE_SUCCESS)
		lua_pushstring(L, exchange_name(s->x));
	else
		lua_pushnil(L);
	return 3;
}

static void step_run(struct step *s)
{
	struct str message = s->has_message ? s->message : (struct str){ NULL, 0 };
	s->result = exchange_step(s->x, message, s->has_credentials ? &s->credentials : NULL, &s->answer);
}

static void step_work(struct job *job)
{
	step_run((struct step *)job);
}

static void step_wipe(struct step *s)
{
	buf_wipe(&s->answer.data);
	mem_wipe(&s->credentials, sizeof s->credentials);
	mem_wipe(s->password, sizeof s->password);
	mem_wipe(s->bytes, s->message.n);
}

static int step_answer(lua_State *L)
{
	struct step *s = lua_touserdata(L, 1);
	lua_rawgeti(L, LUA_REGISTRYINDEX, s->done);
	lua_call(L, push_answer(L, s), 0);
	return 0;
}

static void step_done(struct job *job)
{
	struct step *s = (struct step *)job;
	lua_State *L = logic_lua();
	luaL_checkstack(L, 8, NULL);
	lua_rawgeti(L, LUA_REGISTRYINDEX, s->box);
	((struct box *)lua_touserdata(L, -1))->busy = false;
	lua_pushcfunction(L, step_answer);
	lua_pushlightuserdata(L, s);
	bind_call(L, 1, 0, "sasl step");
	lua_pop(L, 1);
	luaL_unref(L, LUA_REGISTRYINDEX, s->box);
	luaL_unref(L, LUA_REGISTRYINDEX, s->done);
	step_wipe(s);
	free(s);
}

/* (exchange, message, credentials, …): makes the step in a userdata on top of the stack, so that raising leaks nothing. */
static struct step *step_read(lua_State *L, struct box *box)
{
	struct str message = { NULL, 0 };
	bool has = !lua_isnoneornil(L, 2);
	if (has)
		message = bind_check_str(L, 2);
	luaL_argcheck(L, message.n <= 1 << 20, 2, "message too long");
	struct step *s = lua_newuserdatauv(L, sizeof *s + message.n, 0);
	memset(s, 0, sizeof *s);
	s->x = box->x;
	s->has_message = has;
	if (has)
		memcpy(s->bytes, message.p, message.n);
	s->message = (struct str){ s->bytes, message.n };
	if (!lua_isnoneornil(L, 3))
		read_credentials(L, 3, s);
	return s;
}

static int exchange_step_job(lua_State *L)
{
	struct box *box = check_box(L);
	luaL_checktype(L, 4, LUA_TFUNCTION);
	lua_settop(L, 4);
	struct step *read = step_read(L, box);
	lua_pushvalue(L, 1);
	int self = luaL_ref(L, LUA_REGISTRYINDEX);
	lua_pushvalue(L, 4);
	int done = luaL_ref(L, LUA_REGISTRYINDEX);
	size_t size = sizeof *read + read->message.n;
	struct step *s = mem_alloc(size);               /* the job's own: Lua's may be collected before it ends */
	memcpy(s, read, size);
	s->message.p = s->bytes;
	s->credentials.password.p = s->password;
	s->credentials.secret.p = s->secret;
	step_wipe(read);
	s->job.work = step_work;
	s->job.done = step_done;
	s->box = self;
	s->done = done;
	box->busy = true;
	if (job_run(JOB_SASL, &s->job)) {
		box->busy = false;
		step_wipe(s);
		free(s);
		luaL_unref(L, LUA_REGISTRYINDEX, self);
		luaL_unref(L, LUA_REGISTRYINDEX, done);
		lua_pushvalue(L, 4);
		lua_pushliteral(L, "failure");
		lua_pushliteral(L, "temporary-auth-failure");
		lua_pushliteral(L, "too many logins are waiting");
		lua_call(L, 3, 0);
	}
	return 0;
}

static int exchange_step_now(lua_State *L)
{
	struct box *box = check_box(L);
	lua_settop(L, 3);
	struct step *s = step_read(L, box);
	step_run(s);
	int n = push_answer(L, s);
	step_wipe(s);
	return n;
}

static int exchange_burns_(lua_State *L)
{
	struct box *box = check_box(L);
	struct credentials c = { .verdict = -1 };
	if (lua_istable(L, 2)) {
		lua_getfield(L, 2, "verdict");
		c.verdict = lua_isnil(L, -1) ? -1 : 0;
	}
	lua_pushboolean(L, exchange_burns(box->x, &c));
	return 1;
}

static int exchange_bind_(lua_State *L)
{
	struct box *box = check_box(L);
	struct str type = { NULL, 0 }, data = { NULL, 0 };
	type.p = luaL_optlstring(L, 2, "", &type.n);
	data.p = luaL_optlstring(L, 3, "", &data.n);
	exchange_bind(box->x, type, data, lua_toboolean(L, 4));
	return 0;
}

static int exchange_close(lua_State *L)          /* __gc and __close: twice is fine */
{
	struct box *box = luaL_checkudata(L, 1, EXCHANGE);
	if (!box->busy)                          /* else the job still needs it; only at exit can that be */
		exchange_free(&box->x);
	return 0;
}

/* --- functions --- */

static int sasl_new(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_getfield(L, 1, "mech");
	lua_getfield(L, 1, "host");
	struct str mech = bind_check_str(L, -2), host = bind_check_str(L, -1);
	struct box *box = lua_newuserdatauv(L, sizeof *box, 0);
	*box = (struct box){ NULL, false };
	luaL_setmetatable(L, EXCHANGE);
	if (cyrus_open() || exchange_new(mech, host, &box->x)) {
		lua_pushnil(L);
		lua_pushliteral(L, "no such mechanism");
		lua_pushliteral(L, "invalid-mechanism");
		return 3;
	}
	return 1;
}

static int sasl_mechanisms(lua_State *L)
{
	const char *name;
	lua_newtable(L);
	if (!cyrus_open())
		for (int i = 0; (name = cyrus_mechanism(i)); i++) {
			lua_pushstring(L, name);
			lua_rawseti(L, -2, i + 1);
		}
	return 1;
}

static void set_str(lua_State *L, const char *field, struct str s)
{
	lua_pushlstring(L, s.n ? s.p : "", s.n);
	lua_setfield(L, -2, field);
}

static int sasl_peek_(lua_State *L)
{
	struct str mech = bind_check_str(L, 1), message = bind_check_str(L, 2);
	struct sasl_peek peek;
	switch (sasl_peek(mech, message, &peek)) {
	case ST_OK: break;
	case ST_MISSING:
		lua_pushboolean(L, 0);
		return 1;
	default:
		lua_pushnil(L);
		lua_pushliteral(L, "malformed-request");
		return 2;
	}
	lua_createtable(L, 0, 5);
	set_str(L, "name", (struct str){ peek.name, peek.name_len });
	if (peek.authzid_len)
		set_str(L, "authzid", (struct str){ peek.authzid, peek.authzid_len });
	if (peek.password.p)
		set_str(L, "password", peek.password);
	if (peek.flag)
		set_str(L, "flag", (struct str){ &peek.flag, 1 });
	if (peek.binding.p)
		set_str(L, "binding", peek.binding);
	return 1;
}

struct derivation {
	struct job job;
	const struct digest *digest;
	struct str password, salt;
	int iterations, done;
	struct scram_key key;
	bool ok;
	char bytes[];
};

static void derive_work(struct job *job)
{
	struct derivation *d = (struct derivation *)job;
	d->ok = !scram_derive(d->digest, d->password, d->salt, d->iterations, &d->key);
}

static int derive_answer(lua_State *L)
{
	struct derivation *d = lua_touserdata(L, 1);
	lua_rawgeti(L, LUA_REGISTRYINDEX, d->done);
	if (d->ok) {
		lua_pushlstring(L, (char *)d->key.stored, digest_size(d->digest));
		lua_pushlstring(L, (char *)d->key.server, digest_size(d->digest));
		lua_call(L, 2, 0);
	} else {
		lua_pushnil(L);
		lua_pushliteral(L, "salt or iterations out of range");
		lua_pushliteral(L, "invalid");
		lua_call(L, 3, 0);
	}
	return 0;
}

static void derive_free(struct derivation *d)
{
	mem_wipe(&d->key, sizeof d->key);
	mem_wipe(d->bytes, d->password.n);
	free(d);
}

static void derive_done(struct job *job)
{
	struct derivation *d = (struct derivation *)job;
	lua_State *L = logic_lua();
	luaL_checkstack(L, 8, NULL);
	lua_pushcfunction(L, derive_answer);
	lua_pushlightuserdata(L, d);
	bind_call(L, 1, 0, "sasl derive");
	luaL_unref(L, LUA_REGISTRYINDEX, d->done);
	derive_free(d);
}

static int sasl_derive(lua_State *L)
{
	const struct digest *digest = bind_check_digest(L, 1);
	struct str password = bind_check_str(L, 2), salt = bind_check_str(L, 3);
	lua_Integer iterations = luaL_checkinteger(L, 4);
	luaL_argcheck(L, iterations >= 1 && iterations <= SCRAM_ITERATIONS_MAX, 4, "iterations out of range");
	luaL_checktype(L, 5, LUA_TFUNCTION);
	lua_settop(L, 5);
	lua_pushvalue(L, 5);
	int done = luaL_ref(L, LUA_REGISTRYINDEX);      /* the last call here that may raise */
	struct derivation *d = mem_zero(sizeof *d + password.n + salt.n);
	d->job.work = derive_work;
	d->job.done = derive_done;
	d->digest = digest;
	d->iterations = (int)iterations;
	d->done = done;
	memcpy(d->bytes, password.p, password.n);
	memcpy(d->bytes + password.n, salt.p, salt.n);
	d->password = (struct str){ d->bytes, password.n };
	d->salt = (struct str){ d->bytes + password.n, salt.n };
	if (job_run(JOB_SASL, &d->job)) {
		derive_free(d);
		luaL_unref(L, LUA_REGISTRYINDEX, done);
		lua_pushnil(L);
		lua_pushliteral(L, "too many jobs are waiting");
		lua_pushliteral(L, "resource-constraint");
		lua_call(L, 3, 0);
	}
	return 0;
}

int bind_sasl_open(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "step", exchange_step_job }, { "step_now", exchange_step_now }, { "burns", exchange_burns_ },
		{ "bind", exchange_bind_ },    { "close", exchange_close },       { NULL, NULL },
	};
	static const luaL_Reg sasl[] = {
		{ "new", sasl_new }, { "mechanisms", sasl_mechanisms }, { "peek", sasl_peek_ }, { "derive", sasl_derive }, { NULL, NULL },
	};
	luaL_newmetatable(L, EXCHANGE);
	lua_pushcfunction(L, exchange_close);
	lua_setfield(L, -2, "__gc");
	lua_pushcfunction(L, exchange_close);
	lua_setfield(L, -2, "__close");
	lua_newtable(L);
	luaL_setfuncs(L, methods, 0);
	lua_setfield(L, -2, "__index");
	lua_pop(L, 1);
	luaL_newlib(L, sasl);
	return 1;
}
