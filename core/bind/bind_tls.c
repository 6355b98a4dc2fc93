/* SPDX-License-Identifier: MIT */
/* bind_tls.c - TLS contexts in Lua.
 *
 *   net.tls_context{ certificate =, key =, password = (PEM text or file names), min_version =, max_version = "TLSv1.2", ciphers =,
 *     ciphersuites =, curves =, dh =, ca_file =, ca_path =, ca_system = false, crl_file =,
 *     verify = "none" | "request" | "require", alpn = "name" | {...},
 *     trust = context (its authorities and lists are shared, not read again), tickets = false,
 *     hosts = { ["name"] = context } } -> context | nil, message
 *   context:host(name, other | nil)    clients that ask for name ("a.example", "*.a.example") get the other's certificate
 *   context:dane{ rdata, … } -> context    for clients of a host with these TLSA records; conn:tls().dane is the usage (0 to 3) of
 *     the one that made the certificate good, nil if none did
 *
 * Without a certificate a context serves clients only. With "request" and "require" whatever is wrong with a peer's certificate
 * is reported (conn:tls().verify_errors), never refused: that is for Lua to decide.
 */
#include <lauxlib.h>
#include <string.h>

#include "bind/bind.h"
#include "bind/bind_net.h"
#include "tls/tls.h"

struct box {
	struct tls_ctx *ctx;
};

struct tls_ctx *bind_tls_check(lua_State *L, int index)
{
	struct box *box = luaL_checkudata(L, index, BIND_TLS);
	luaL_argcheck(L, box->ctx, index, "closed context");
	return box->ctx;
}

struct tls_ctx *bind_tls_field(lua_State *L, int index, const char *key)
{
	struct tls_ctx *ctx = NULL;
	if (lua_getfield(L, index, key) != LUA_TNIL) {
		struct box *box = luaL_testudata(L, -1, BIND_TLS);
		if (box)
			ctx = box->ctx;
		else
			luaL_error(L, "%s: TLS context expected, got %s", key, luaL_typename(L, -1));
	}
	lua_pop(L, 1);                         /* the table keeps it */
	return ctx;
}

/* Borrowed: the string stays in the table. */
static const char *text(lua_State *L, const char *key)
{
	const char *s = NULL;
	if (lua_getfield(L, 1, key) == LUA_TSTRING)
		s = lua_tostring(L, -1);
	else if (!lua_isnil(L, -1))
		luaL_error(L, "%s: string expected, got %s", key, luaL_typename(L, -1));
	lua_pop(L, 1);
	return s;
}

static enum tls_verify verify_of(lua_State *L)
{
	static const char *const names[] = { "none", "request", "require", NULL };
	int i = 0;
	lua_getfield(L, 1, "verify");
	if (lua_isboolean(L, -1))
		i = lua_toboolean(L, -1);
	else if (!lua_isnil(L, -1))
		i = luaL_checkoption(L, -1, NULL, names);
	lua_pop(L, 1);
	return (enum tls_verify)i;
}

static int add_host(lua_State *L, struct tls_ctx *ctx, int name, int other)
{
	struct str host = bind_check_str(L, name);
	luaL_argcheck(L, host.n > 0 && host.n < 255 && !memchr(host.p, '\0', host.n), name, "not a host name");
	tls_ctx_host(ctx, host, lua_isnoneornil(L, other) ? NULL : bind_tls_check(L, other));
	return 0;
}

static int context_host(lua_State *L)
{
	return add_host(L, bind_tls_check(L, 1), 2, 3);
}

static int net_tls_context(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	struct tls_options o = {
		.certificate = text(L, "certificate"), .key = text(L, "key"), .password = text(L, "password"),
		.min_version = text(L, "min_version"), .max_version = text(L, "max_version"), .ciphers = text(L, "ciphers"),
		.ciphersuites = text(L, "ciphersuites"), .curves = text(L, "curves"), .dh = text(L, "dh"),
		.ca_file = text(L, "ca_file"), .ca_path = text(L, "ca_path"),
		.crl_file = text(L, "crl_file"), .trust = bind_tls_field(L, 1, "trust"),
		.verify = verify_of(L),
	};
	lua_getfield(L, 1, "ca_system");
	o.ca_system = lua_toboolean(L, -1);
	lua_getfield(L, 1, "tickets");
	o.no_tickets = lua_isboolean(L, -1) && !lua_toboolean(L, -1);
	struct box *box = lua_newuserdatauv(L, sizeof *box, 0);
	box->ctx = NULL;
	luaL_setmetatable(L, BIND_TLS);
	lua_getfield(L, 1, "alpn");
	struct block *alpn = bind_alpn(L, -1);
	if (alpn)
		o.alpn = (struct str){ alpn->bytes, alpn->len };
	lua_pop(L, 1);
	char message[256];
	enum status st = tls_ctx_new(&o, &box->ctx, message, sizeof message);
	block_unref(&alpn);
	if (st) {
		lua_pushnil(L);
		lua_pushstring(L, message);
		return 2;
	}
	if (lua_getfield(L, 1, "hosts") == LUA_TTABLE) {
		lua_pushnil(L);
		while (lua_next(L, -2)) {
			add_host(L, box->ctx, lua_gettop(L) - 1, lua_gettop(L));
			lua_pop(L, 1);
		}
	}
	lua_pop(L, 1);
	return 1;
}

static int context_dane(lua_State *L)
{
	struct tls_ctx *ctx = bind_tls_check(L, 1);
	luaL_checktype(L, 2, LUA_TTABLE);
	luaL_Buffer records;
	lua_Integer count = luaL_len(L, 2);
	lua_settop(L, 2);
	for (lua_Integer i = 1; i <= count; i++) {      /* all is text before a buffer is on the stack */
		lua_geti(L, 2, i);
		luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING && lua_rawlen(L, -1) <= UINT16_MAX, 2, "TLSA records expected");
		lua_pop(L, 1);
	}
	struct box *box = lua_newuserdatauv(L, sizeof *box, 0);
	box->ctx = NULL;
	luaL_setmetatable(L, BIND_TLS);
	luaL_buffinit(L, &records);
	for (lua_Integer i = 1; i <= count; i++) {
		lua_geti(L, 2, i);
		uint16_t n = (uint16_t)lua_rawlen(L, -1);
		lua_pushlstring(L, (const char *)&n, sizeof n);
		lua_insert(L, -2);
		lua_concat(L, 2);
		luaL_addvalue(&records);
	}
	luaL_pushresult(&records);
	box->ctx = tls_ctx_dane(ctx, bind_check_str(L, -1));
	lua_pushvalue(L, 3);
	return 1;
}

static int context_gc(lua_State *L)
{
	struct box *box = luaL_checkudata(L, 1, BIND_TLS);
	tls_ctx_unref(&box->ctx);
	return 0;
}

void bind_tls_push_info(lua_State *L, struct str records)
{
	static const char *const names[] = { [TLS_VERSION] = "version", [TLS_CIPHER] = "cipher", [TLS_ALPN] = "alpn", [TLS_SNI] = "sni",
		[TLS_PEER_CERT] = "peer_cert", [TLS_PEER_CHAIN] = "peer_chain", [TLS_VERIFY_ERROR] = "verify_errors",
		[TLS_BITS] = "bits", [TLS_DANE] = "dane",
		[TLS_UNIQUE] = "tls-unique", [TLS_END_POINT] = "tls-server-end-point" };
	lua_createtable(L, 0, 10);
	lua_createtable(L, 0, 0);
	lua_setfield(L, -2, "peer_chain");
	lua_createtable(L, 0, 0);
	lua_setfield(L, -2, "verify_errors");
	lua_createtable(L, 0, 2);
	lua_setfield(L, -2, "bindings");
	lua_pushboolean(L, 0);
	lua_setfield(L, -2, "resumed");
	while (records.n >= 2 * sizeof(uint32_t)) {
		uint32_t head[2], bits;
		memcpy(head, records.p, sizeof head);
		const char *value = records.p + sizeof head;
		switch (head[0]) {
		case TLS_BITS:
		case TLS_DANE:
			memcpy(&bits, value, sizeof bits);
			lua_pushinteger(L, bits);
			lua_setfield(L, -2, names[head[0]]);
			break;
		case TLS_RESUMED:
			lua_pushboolean(L, 1);
			lua_setfield(L, -2, "resumed");
			break;
		case TLS_PEER_CHAIN:
		case TLS_VERIFY_ERROR:
			lua_getfield(L, -1, names[head[0]]);
			lua_pushlstring(L, value, head[1]);
			lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
			lua_pop(L, 1);
			break;
		case TLS_UNIQUE:
		case TLS_END_POINT:
			lua_getfield(L, -1, "bindings");
			lua_pushlstring(L, value, head[1]);
			lua_setfield(L, -2, names[head[0]]);
			lua_pop(L, 1);
			break;
		default:
			lua_pushlstring(L, value, head[1]);
			lua_setfield(L, -2, names[head[0]]);
		}
		records.p = value + head[1];
		records.n -= sizeof head + head[1];
	}
}

void bind_tls_open(lua_State *L, int net)
{
	static const luaL_Reg methods[] = { { "host", context_host }, { "dane", context_dane }, { NULL, NULL } };
	net = lua_absindex(L, net);
	luaL_newmetatable(L, BIND_TLS);
	lua_newtable(L);
	luaL_setfuncs(L, methods, 0);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, context_gc);
	lua_setfield(L, -2, "__gc");
	lua_pop(L, 1);
	lua_pushcfunction(L, net_tls_context);
	lua_setfield(L, net, "tls_context");
}
