/* SPDX-License-Identifier: MIT */
/* bind_sasl.c - couplet.core.sasl: the server's side of SASL exchanges.
 *
 *   mechanisms() -> { "SCRAM-SHA-512", … }      what Cyrus has here, without -PLUS
 *   peek(mech, message) -> { name=, authzid=, password=, flag=, binding= } | nil, condition | false: it names no account
 *     flag, binding: SCRAM's channel binding flag and the type asked for ("p")
 *   new(mech, host) -> exchange | nil, message, condition
 *   exchange:bind(type, data)                   before the first message of SCRAM, the binding asked for; of HT-*, its binding
 *   exchange:offer(plus, advertised | nil)      before SCRAM's first message: is -PLUS offered? and all that was, for the hash
 *   exchange:amend(challenge) -> true | nil, message    after SCRAM's challenge: somebody has put attributes behind it
 *   exchange:step(message | nil, credentials | nil) -> "challenge", data | nil
 *                                                    | "success", data | nil, username, place of HT-*'s token | nil
 *                                                    | "failure", condition, text | nil
 *     at once: a step costs some microseconds where it stands, and several times that as a job
 *   exchange:close()
 *   ht_binding(mech) -> type | "" | nil          channel binding of a mechanism of the HT family; nil: it is none
 *   ht_hash(token) -> initiator, responder      what is kept of a token for HT-*-NONE
 *   derive(hash, password, salt, iterations, done)  a job; done(stored_key, server_key) or done(nil, message, code)
 *
 * credentials: { username=, state = "enabled" | "disabled" | "expired" | nil (no such account), hash = "sha1" …, stored_key=,
 *   server_key=, salt=, iterations=, right = boolean (PLAIN), ha1=, secret=, tokens = { { text= | initiator=, responder=,
 *   expired = boolean }, … } (HT-*, two at most) }. Without a key of the exchange's hash an invented one is used; iterations
 *   and secret then say how it looks. core/sasl/exchange.h tells the rest.
 */
#include <lauxlib.h>
#include <stdlib.h>

#include "base/mem.h"
#include "bind/bind.h"
#include "bind/bind_ask.h"
#include "bind/bind_crypto.h"
#include "sasl/cyrus.h"
#include "sasl/exchange.h"

#define EXCHANGE "couplet.sasl"

struct box {
	struct exchange *x;                     /* NULL: closed */
	struct exchange_answer answer;          /* of the last step */
};

enum { SECRET_MAX = 64 };

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
	const struct digest *d = NULL;
	lua_getfield(L, table, "hash");
	if (!lua_isnil(L, -1))
		d = bind_check_digest(L, -1);
	lua_getfield(L, table, "iterations");
	lua_Integer iterations = luaL_optinteger(L, -1, 0);
	lua_pop(L, 2);
	if (iterations < 0 || iterations > SCRAM_ITERATIONS_MAX)
		luaL_error(L, "credentials: bad iterations");
	struct scram_key *key = &c->key;
	size_t stored = copy_field(L, table, "stored_key", key->stored, sizeof key->stored);
	size_t server = copy_field(L, table, "server_key", key->server, sizeof key->server);
	key->salt_len = copy_field(L, table, "salt", key->salt, sizeof key->salt);
	key->iterations = c->iterations = (int)iterations;
	if (d && stored == digest_size(d) && server == stored && key->salt_len && key->iterations)
		key->digest = d;
}

static bool is_true(lua_State *L, int table, const char *field)
{
	lua_getfield(L, table, field);
	bool yes = lua_toboolean(L, -1);
	lua_pop(L, 1);
	return yes;
}

static void read_tokens(lua_State *L, int table, struct credentials *c)
{
	if (lua_getfield(L, table, "tokens") != LUA_TTABLE) {
		lua_pop(L, 1);
		return;
	}
	int list = lua_gettop(L);
	for (int i = 0; i < HT_TOKENS && lua_rawgeti(L, list, i + 1) == LUA_TTABLE; i++) {
		struct ht_token *t = &c->tokens[i];
		int at = lua_gettop(L);
		t->len = copy_field(L, at, "text", t->text, sizeof t->text);
		size_t n = copy_field(L, at, "initiator", t->initiator, sizeof t->initiator);
		n += copy_field(L, at, "responder", t->responder, sizeof t->responder);
		luaL_argcheck(L, t->len ? n == 0 : n == 2 * (size_t)HT_PROOF, table, "credentials: bad token");
		t->expired = is_true(L, at, "expired");
		t->kept = true;
	}
	lua_settop(L, list - 1);
}

/* Raises if they are no credentials. */
static void read_credentials(lua_State *L, int table, struct credentials *c, char secret[SECRET_MAX])
{
	static const char *const states[] = { "enabled", "disabled", "expired", "unknown", NULL };
	luaL_checktype(L, table, LUA_TTABLE);
	size_t n = copy_field(L, table, "username", c->name, SASL_NAME_MAX);
	luaL_argcheck(L, n && !memchr(c->name, 0, n), table, "credentials: bad username");
	lua_getfield(L, table, "state");
	c->account = (enum account)luaL_checkoption(L, lua_gettop(L), "unknown", states);
	lua_pop(L, 1);
	read_key(L, table, c);
	c->right = is_true(L, table, "right");
	read_tokens(L, table, c);
	c->has_ha1 = copy_field(L, table, "ha1", c->ha1, sizeof c->ha1) == sizeof c->ha1;
	c->secret = (struct str){ secret, copy_field(L, table, "secret", secret, SECRET_MAX) };
}

/* --- steps --- */

static struct box *check_box(lua_State *L)
{
	struct box *box = luaL_checkudata(L, 1, EXCHANGE);
	luaL_argcheck(L, box->x, 1, "exchange is closed");
	return box;
}

static void push_data(lua_State *L, const struct exchange_answer *answer)
{
	if (answer->has_data)
		lua_pushlstring(L, answer->data.len ? buf_data(&answer->data) : "", answer->data.len);
	else
		lua_pushnil(L);
}

static int exchange_step_(lua_State *L)
{
	struct box *box = check_box(L);
	struct str message = { NULL, 0 };
	struct credentials c = { 0 };
	char secret[SECRET_MAX];
	bool has = !lua_isnoneornil(L, 3);
	if (!lua_isnoneornil(L, 2))
		message = bind_check_str(L, 2);
	if (has)
		read_credentials(L, 3, &c, secret);
	buf_wipe(&box->answer.data);
	enum exchange_result result = exchange_step(box->x, message, has ? &c : NULL, &box->answer);
	mem_wipe(&c, sizeof c);
	mem_wipe(secret, sizeof secret);
	switch (result) {
	case EXCHANGE_CHALLENGE:
		lua_pushliteral(L, "challenge");
		push_data(L, &box->answer);
		return 2;
	case EXCHANGE_SUCCESS:
		lua_pushliteral(L, "success");
		push_data(L, &box->answer);
		lua_pushstring(L, exchange_name(box->x));
		int token = exchange_token(box->x);
		if (token >= 0)
			lua_pushinteger(L, token + 1);
		else
			lua_pushnil(L);
		return 4;
	case EXCHANGE_FAILURE: break;
	}
	lua_pushliteral(L, "failure");
	lua_pushstring(L, exchange_condition(box->answer.condition));
	lua_pushstring(L, box->answer.text);         /* NULL: nil */
	return 3;
}

static int exchange_bind_(lua_State *L)
{
	struct box *box = check_box(L);
	struct str type = { NULL, 0 }, data = { NULL, 0 };
	type.p = luaL_optlstring(L, 2, "", &type.n);
	data.p = luaL_optlstring(L, 3, "", &data.n);
	exchange_bind(box->x, type, data);
	return 0;
}

static int exchange_offer_(lua_State *L)
{
	struct box *box = check_box(L);
	struct str advertised;
	luaL_checkany(L, 2);
	advertised.p = luaL_optlstring(L, 3, "", &advertised.n);
	exchange_offer(box->x, lua_toboolean(L, 2), advertised);
	return 0;
}

static int exchange_amend_(lua_State *L)
{
	struct box *box = check_box(L);
	if (!exchange_amend(box->x, bind_check_str(L, 2))) {
		lua_pushboolean(L, 1);
		return 1;
	}
	lua_pushnil(L);
	lua_pushliteral(L, "not the challenge with more behind it");
	return 2;
}

static int exchange_close(lua_State *L)          /* __gc and __close: twice is fine */
{
	struct box *box = luaL_checkudata(L, 1, EXCHANGE);
	exchange_free(&box->x);
	buf_wipe(&box->answer.data);
	return 0;
}

/* --- functions --- */

static int sasl_new(lua_State *L)
{
	struct str mech = bind_check_str(L, 1), host = bind_check_str(L, 2);
	struct box *box = lua_newuserdatauv(L, sizeof *box, 0);
	*box = (struct box){ 0 };
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

static int sasl_ht_binding(lua_State *L)
{
	lua_pushstring(L, ht_binding(bind_check_str(L, 1)));       /* NULL: nil */
	return 1;
}

static int sasl_ht_hash(lua_State *L)
{
	unsigned char initiator[HT_PROOF], responder[HT_PROOF];
	ht_hash(bind_check_str(L, 1), initiator, responder);
	lua_pushlstring(L, (char *)initiator, sizeof initiator);
	lua_pushlstring(L, (char *)responder, sizeof responder);
	return 2;
}

struct derivation {
	struct ask ask;                         /* of password and salt */
	const struct digest *digest;
	int iterations;
	struct scram_key key;
};

static void derive_work(struct job *job)
{
	struct derivation *d = (struct derivation *)job;
	if (scram_derive(d->digest, d->ask.a, d->ask.b, d->iterations, &d->key)) {
		d->ask.error = "salt or iterations out of range";
		d->ask.code = "invalid";
	}
}

static int derive_push(lua_State *L, struct ask *q)
{
	struct derivation *d = (struct derivation *)q;
	lua_pushlstring(L, (char *)d->key.stored, digest_size(d->digest));
	lua_pushlstring(L, (char *)d->key.server, digest_size(d->digest));
	return 2;
}

static int sasl_derive(lua_State *L)
{
	const struct digest *digest = bind_check_digest(L, 1);
	struct str password = bind_check_str(L, 2), salt = bind_check_str(L, 3);
	lua_Integer iterations = luaL_checkinteger(L, 4);
	luaL_argcheck(L, iterations >= 1 && iterations <= SCRAM_ITERATIONS_MAX, 4, "iterations out of range");
	struct derivation *d = bind_ask_new(L, 5, sizeof *d, password, salt);
	d->ask.push = derive_push;
	d->digest = digest;
	d->iterations = (int)iterations;
	return bind_ask_run(&d->ask, JOB_SASL, derive_work);
}

int bind_sasl_open(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "step", exchange_step_ }, { "bind", exchange_bind_ }, { "offer", exchange_offer_ },
		{ "amend", exchange_amend_ }, { "close", exchange_close }, { NULL, NULL },
	};
	static const luaL_Reg sasl[] = {
		{ "new", sasl_new }, { "mechanisms", sasl_mechanisms }, { "peek", sasl_peek_ }, { "derive", sasl_derive },
		{ "ht_binding", sasl_ht_binding }, { "ht_hash", sasl_ht_hash }, { NULL, NULL },
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
