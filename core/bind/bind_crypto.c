/* SPDX-License-Identifier: MIT */
/* bind_crypto.c - couplet.core.crypto: hashes, key derivation, random bytes, codings. bind_crypto_key.c, _cipher.c and
 * _x509.c have the rest of the table.
 *
 *   md5 sha1 sha224 sha256 sha384 sha512 sha3_256 sha3_512 blake2s256 blake2b512 (data, hex?)     hmac_X(key, data, hex?)
 *   hash(name, data, hex?)  hmac(name, key, data, hex?)
 *   pbkdf2(name, password, salt, iterations, length, done)     a job; done(key) or done(nil, message, code)
 *   pbkdf2_sync(name, password, salt, iterations, length)      here and now: for a few iterations only
 *   hkdf(name, key, length, salt?, info?)
 *   equals(a, b)               in a time that depends on the length alone
 *   random_bytes(n)            unpredictable
 *   base64_encode(data)  base64_decode(text) -> data | nil    strict: no white space, padding and stray bits right
 *   base64_decode_lenient(text) -> data | nil                 white space skipped, padding may be missing
 *   base64url_encode(data)  base64url_decode(text) -> data | nil     RFC 4648 §5, without padding
 *   hex_encode(data)  hex_decode(text) -> data | nil          white space between bytes skipped
 */
#include "bind/bind_crypto.h"

#include <lauxlib.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/rand.h"
#include "bind/bind.h"
#include "bind/bind_ask.h"

enum {
	ITERATIONS_MAX = 10000000,      /* some seconds of a worker */
	LENGTH_MAX = 1024,              /* bytes of a derived key */
	RANDOM_MAX = 1 << 20,
};

const struct digest *bind_check_digest(lua_State *L, int arg)
{
	const struct digest *d = digest_find(bind_check_str(L, arg));
	luaL_argcheck(L, d, arg, "no such hash");
	return d;
}

int bind_crypto_error(lua_State *L, const char *text)
{
	char reason[160];
	unsigned long code = ERR_peek_last_error();
	if (code) {
		ERR_error_string_n(code, reason, sizeof reason);
		text = reason;
	}
	ERR_clear_error();
	lua_pushnil(L);
	lua_pushstring(L, text);
	lua_pushliteral(L, "crypto");
	return 3;
}

int bind_crypto_written(lua_State *L, luaL_Buffer *b, char *room, size_t size, BIO *out, int ok)
{
	char *p;
	long n = ok ? BIO_get_mem_data(out, &p) : 0;
	if (n > 0 && (size_t)n <= size)
		memcpy(room, p, (size_t)n);
	else
		n = 0;
	BIO_free(out);
	if (!n)
		return bind_crypto_error(L, "cannot write PEM");
	luaL_pushresultsize(b, (size_t)n);
	return 1;
}

static int push_digest(lua_State *L, const unsigned char *out, size_t n, int hex)
{
	static const char digits[] = "0123456789abcdef";
	if (!hex) {
		lua_pushlstring(L, (const char *)out, n);
		return 1;
	}
	char text[2 * DIGEST_MAX];
	for (size_t i = 0; i < n; i++) {
		text[2 * i] = digits[out[i] >> 4];
		text[2 * i + 1] = digits[out[i] & 15];
	}
	lua_pushlstring(L, text, 2 * n);
	return 1;
}

/* --- hashes; the named functions have their hash as upvalue --- */

static int sum(lua_State *L, const struct digest *d, int first)
{
	unsigned char out[DIGEST_MAX];
	digest_sum(d, bind_check_str(L, first), out);
	return push_digest(L, out, digest_size(d), lua_toboolean(L, first + 1));
}

static int mac(lua_State *L, const struct digest *d, int first)
{
	unsigned char out[DIGEST_MAX];
	digest_hmac(d, bind_check_str(L, first), bind_check_str(L, first + 1), out);
	return push_digest(L, out, digest_size(d), lua_toboolean(L, first + 2));
}

static int crypto_named_hash(lua_State *L)
{
	return sum(L, lua_touserdata(L, lua_upvalueindex(1)), 1);
}

static int crypto_named_hmac(lua_State *L)
{
	return mac(L, lua_touserdata(L, lua_upvalueindex(1)), 1);
}

static int crypto_hash(lua_State *L)
{
	return sum(L, bind_check_digest(L, 1), 2);
}

static int crypto_hmac(lua_State *L)
{
	return mac(L, bind_check_digest(L, 1), 2);
}

static int crypto_equals(lua_State *L)
{
	struct str a = bind_check_str(L, 1), b = bind_check_str(L, 2);
	lua_pushboolean(L, a.n == b.n && mem_equal(a.p, b.p, a.n));
	return 1;
}

/* --- key derivation --- */

struct derivation {
	struct ask ask;                         /* of password and salt */
	const struct digest *digest;
	int iterations;
	size_t length;
};

static int derivation_args(lua_State *L, int *iterations, size_t *length)
{
	lua_Integer i = luaL_checkinteger(L, 4), n = luaL_optinteger(L, 5, (lua_Integer)digest_size(bind_check_digest(L, 1)));
	luaL_argcheck(L, i >= 1 && i <= ITERATIONS_MAX, 4, "iterations out of range");
	luaL_argcheck(L, n >= 1 && n <= LENGTH_MAX, 5, "length out of range");
	*iterations = (int)i;
	*length = (size_t)n;
	return 0;
}

static void derivation_work(struct job *job)
{
	struct derivation *d = (struct derivation *)job;
	unsigned char *key = (unsigned char *)buf_room(&d->ask.out, d->length);
	if (digest_pbkdf2(d->digest, d->ask.a, d->ask.b, d->iterations, key, d->length))
		abort();                        /* the arguments were checked */
	buf_added(&d->ask.out, d->length);
}

static int crypto_pbkdf2(lua_State *L)
{
	const struct digest *digest = bind_check_digest(L, 1);
	struct str password = bind_check_str(L, 2), salt = bind_check_str(L, 3);
	int iterations;
	size_t length;
	derivation_args(L, &iterations, &length);
	struct derivation *d = bind_ask_new(L, 6, sizeof *d, password, salt);
	d->digest = digest;
	d->iterations = iterations;
	d->length = length;
	return bind_ask_run(&d->ask, JOB_SASL, derivation_work);
}

static int crypto_pbkdf2_sync(lua_State *L)
{
	const struct digest *digest = bind_check_digest(L, 1);
	struct str password = bind_check_str(L, 2), salt = bind_check_str(L, 3);
	int iterations;
	size_t length;
	unsigned char key[LENGTH_MAX];
	derivation_args(L, &iterations, &length);
	if (digest_pbkdf2(digest, password, salt, iterations, key, length))
		return luaL_error(L, "pbkdf2: bad arguments");
	lua_pushlstring(L, (const char *)key, length);
	mem_wipe(key, length);
	return 1;
}

static int crypto_hkdf(lua_State *L)
{
	const struct digest *digest = bind_check_digest(L, 1);
	struct str key = bind_check_str(L, 2), salt = { NULL, 0 }, info = { NULL, 0 };
	lua_Integer n = luaL_checkinteger(L, 3);
	salt.p = luaL_optlstring(L, 4, "", &salt.n);
	info.p = luaL_optlstring(L, 5, "", &info.n);
	unsigned char out[LENGTH_MAX];
	luaL_argcheck(L, n >= 1 && n <= LENGTH_MAX && !digest_hkdf(digest, key, salt, info, out, (size_t)n), 3,
		"length out of range");
	lua_pushlstring(L, (const char *)out, (size_t)n);
	mem_wipe(out, (size_t)n);
	return 1;
}

static int crypto_random_bytes(lua_State *L)
{
	lua_Integer n = luaL_checkinteger(L, 1);
	luaL_argcheck(L, n >= 0 && n <= RANDOM_MAX, 1, "length out of range");
	luaL_Buffer b;
	rand_bytes(luaL_buffinitsize(L, &b, (size_t)n), (size_t)n);
	luaL_pushresultsize(&b, (size_t)n);
	return 1;
}

/* --- codings --- */

/* A buf over memory of Lua's, with the room it will need: it never grows, so nothing is lost if Lua raises. */
static struct buf lent(lua_State *L, luaL_Buffer *b, size_t room)
{
	return (struct buf){ .base = luaL_buffinitsize(L, b, room + 1), .cap = room + 1 };
}

static int crypto_base64_encode(lua_State *L)
{
	struct str data = bind_check_str(L, 1);
	luaL_Buffer b;
	struct buf out = lent(L, &b, (data.n + 2) / 3 * 4);
	base64_encode(data, &out);
	luaL_pushresultsize(&b, out.len);
	return 1;
}

static int decode(lua_State *L, struct str text)
{
	luaL_Buffer b;
	struct buf out = lent(L, &b, text.n / 4 * 3);
	if (base64_decode(text, &out)) {
		lua_pushnil(L);
		return 1;
	}
	luaL_pushresultsize(&b, out.len);
	return 1;
}

static int crypto_base64_decode(lua_State *L)
{
	return decode(L, bind_check_str(L, 1));
}

/* Brings other spellings into the strict one: white space out, '-' '_' to '+' '/', padding on. */
static int decode_spelled(lua_State *L, int url)
{
	struct str text = bind_check_str(L, 1);
	luaL_Buffer b;
	char *o = luaL_buffinitsize(L, &b, text.n + 3);
	size_t n = 0;
	for (size_t i = 0; i < text.n; i++) {
		char c = text.p[i];
		if (!url && c && strchr(" \t\r\n", c))
			continue;
		o[n++] = !url ? c : c == '-' ? '+' : c == '_' ? '/' : strchr("+/", c) ? '!' : c;
	}
	while (n % 4 && n % 4 != 1)
		o[n++] = '=';
	luaL_pushresultsize(&b, n);
	return decode(L, bind_check_str(L, -1));
}

static int crypto_base64_decode_lenient(lua_State *L)
{
	return decode_spelled(L, 0);
}

static int crypto_base64url_decode(lua_State *L)
{
	return decode_spelled(L, 1);
}

static int crypto_base64url_encode(lua_State *L)
{
	struct str data = bind_check_str(L, 1);
	luaL_Buffer b;
	struct buf out = lent(L, &b, (data.n + 2) / 3 * 4);
	base64_encode(data, &out);
	char *p = buf_data(&out);
	while (out.len && p[out.len - 1] == '=')
		out.len--;
	for (size_t i = 0; i < out.len; i++)
		p[i] = p[i] == '+' ? '-' : p[i] == '/' ? '_' : p[i];
	luaL_pushresultsize(&b, out.len);
	return 1;
}

static int crypto_hex_encode(lua_State *L)
{
	static const char digits[] = "0123456789abcdef";
	struct str data = bind_check_str(L, 1);
	luaL_Buffer b;
	char *o = luaL_buffinitsize(L, &b, 2 * data.n);
	for (size_t i = 0; i < data.n; i++) {
		o[2 * i] = digits[(unsigned char)data.p[i] >> 4];
		o[2 * i + 1] = digits[data.p[i] & 15];
	}
	luaL_pushresultsize(&b, 2 * data.n);
	return 1;
}

static int nibble(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int crypto_hex_decode(lua_State *L)
{
	struct str text = bind_check_str(L, 1);
	luaL_Buffer b;
	char *o = luaL_buffinitsize(L, &b, text.n / 2 + 1);
	size_t n = 0;
	for (size_t i = 0; i < text.n;) {
		if (text.p[i] && strchr(" \t\r\n", text.p[i])) {
			i++;
			continue;
		}
		int high = nibble(text.p[i]), low = i + 1 < text.n ? nibble(text.p[i + 1]) : -1;
		if (high < 0 || low < 0) {
			lua_pushnil(L);
			return 1;
		}
		o[n++] = (char)(high << 4 | low);
		i += 2;
	}
	luaL_pushresultsize(&b, n);
	return 1;
}

int bind_crypto_open(lua_State *L)
{
	static const luaL_Reg crypto[] = {
		{ "hash", crypto_hash },
		{ "hmac", crypto_hmac },
		{ "pbkdf2", crypto_pbkdf2 },
		{ "pbkdf2_sync", crypto_pbkdf2_sync },
		{ "hkdf", crypto_hkdf },
		{ "equals", crypto_equals },
		{ "random_bytes", crypto_random_bytes },
		{ "base64_encode", crypto_base64_encode },
		{ "base64_decode", crypto_base64_decode },
		{ "base64_decode_lenient", crypto_base64_decode_lenient },
		{ "base64url_encode", crypto_base64url_encode },
		{ "base64url_decode", crypto_base64url_decode },
		{ "hex_encode", crypto_hex_encode },
		{ "hex_decode", crypto_hex_decode },
		{ NULL, NULL },
	};
	luaL_newlib(L, crypto);
	const struct digest *d;
	for (int i = 0; (d = digest_at(i)); i++) {
		lua_pushlightuserdata(L, (void *)d);
		lua_pushcclosure(L, crypto_named_hash, 1);
		lua_setfield(L, -2, digest_name(d));
		lua_pushfstring(L, "hmac_%s", digest_name(d));
		lua_pushlightuserdata(L, (void *)d);
		lua_pushcclosure(L, crypto_named_hmac, 1);
		lua_rawset(L, -3);
	}
	bind_crypto_cipher(L);
	bind_crypto_key(L);
	bind_crypto_x509(L);
	return 1;
}
