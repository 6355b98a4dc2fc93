/* SPDX-License-Identifier: MIT */
/* bind_job.c - couplet.core.job: work on bytes off the logic thread, for plugins (module:job). Each takes `done` last and
 * calls it once, later: done(result) or done(nil, message, code).
 *
 *   hash(name, data, done)                         the digest, bytes
 *   scrypt(password, salt, n, r, p, length, done)  RFC 7914; n a power of two; at most 64 MB
 *   deflate(format, data, level, done)             format "zlib", "gzip" or "raw"; level 0-9
 *   inflate(format, data, limit, done)             code "limit" when more than `limit` bytes would come out
 */
#include <lauxlib.h>
#include <openssl/evp.h>
#include <zlib.h>

#include "base/buf.h"
#include "base/digest.h"
#include "bind/bind.h"
#include "bind/bind_ask.h"
#include "bind/bind_crypto.h"

enum {
	SCRYPT_MEMORY = 64 << 20,
	LENGTH_MAX = 1024,
	INFLATE_MAX = 256 << 20,
};

struct work {
	struct ask ask;
	const struct digest *digest;
	uint64_t n, r, p;
	size_t length;                          /* of the key, or the limit */
	int window, level;
};

static void failed(struct work *w, const char *error, const char *code)
{
	w->ask.error = error;
	w->ask.code = code;
	buf_wipe(&w->ask.out);
}

/* --- on a worker --- */

static void work_hash(struct job *job)
{
	struct work *w = (struct work *)job;
	unsigned char out[DIGEST_MAX];
	digest_sum(w->digest, w->ask.a, out);
	buf_add(&w->ask.out, out, digest_size(w->digest));
}

static void work_scrypt(struct job *job)
{
	struct work *w = (struct work *)job;
	unsigned char *out = (unsigned char *)buf_room(&w->ask.out, w->length);
	if (EVP_PBE_scrypt(w->ask.a.p, w->ask.a.n, (const unsigned char *)w->ask.b.p, w->ask.b.n, w->n, w->r, w->p, SCRYPT_MEMORY, out, w->length) == 1)
		buf_added(&w->ask.out, w->length);
	else
		failed(w, "scrypt refuses these parameters", "bad-request");
}

static void work_deflate(struct job *job)
{
	struct work *w = (struct work *)job;
	z_stream z = { 0 };
	if (deflateInit2(&z, w->level, Z_DEFLATED, w->window, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
		failed(w, "zlib does not start", "internal-server-error");
		return;
	}
	size_t bound = deflateBound(&z, w->ask.a.n);
	z.next_in = (Bytef *)w->ask.a.p;
	z.avail_in = (uInt)w->ask.a.n;
	z.next_out = (Bytef *)buf_room(&w->ask.out, bound);
	z.avail_out = (uInt)bound;
	if (deflate(&z, Z_FINISH) == Z_STREAM_END)
		buf_added(&w->ask.out, z.total_out);
	else
		failed(w, "zlib failed", "internal-server-error");
	deflateEnd(&z);
}

static void work_inflate(struct job *job)
{
	struct work *w = (struct work *)job;
	z_stream z = { 0 };
	if (inflateInit2(&z, w->window) != Z_OK) {
		failed(w, "zlib does not start", "internal-server-error");
		return;
	}
	z.next_in = (Bytef *)w->ask.a.p;
	z.avail_in = (uInt)w->ask.a.n;
	int status;
	do {
		size_t step = 65536;
		z.next_out = (Bytef *)buf_room(&w->ask.out, step);
		z.avail_out = (uInt)step;
		status = inflate(&z, Z_NO_FLUSH);
		buf_added(&w->ask.out, step - z.avail_out);
	} while (status == Z_OK && w->ask.out.len <= w->length);
	inflateEnd(&z);
	if (w->ask.out.len > w->length)
		failed(w, "more data than allowed", "limit");
	else if (status != Z_STREAM_END)
		failed(w, "not valid compressed data", "bad-request");
}

/* --- on the logic thread --- */

static int job_hash(lua_State *L)
{
	const struct digest *digest = bind_check_digest(L, 1);
	struct work *w = bind_ask_new(L, 3, sizeof *w, bind_check_str(L, 2), (struct str){ 0 });
	w->digest = digest;
	return bind_ask_run(&w->ask, JOB_FILE, work_hash);
}

static int job_scrypt(lua_State *L)
{
	struct str password = bind_check_str(L, 1), salt = bind_check_str(L, 2);
	lua_Integer n = luaL_checkinteger(L, 3), r = luaL_checkinteger(L, 4), p = luaL_checkinteger(L, 5), length = luaL_checkinteger(L, 6);
	luaL_argcheck(L, n > 1 && (n & (n - 1)) == 0, 3, "a power of two");
	luaL_argcheck(L, r >= 1 && r <= 64, 4, "out of range");
	luaL_argcheck(L, p >= 1 && p <= 64, 5, "out of range");
	luaL_argcheck(L, length >= 1 && length <= LENGTH_MAX, 6, "out of range");
	struct work *w = bind_ask_new(L, 7, sizeof *w, password, salt);
	w->n = (uint64_t)n;
	w->r = (uint64_t)r;
	w->p = (uint64_t)p;
	w->length = (size_t)length;
	return bind_ask_run(&w->ask, JOB_FILE, work_scrypt);
}

static int window_of(lua_State *L)
{
	static const char *const names[] = { "zlib", "gzip", "raw", NULL };
	static const int windows[] = { 15, 15 + 16, -15 };
	return windows[luaL_checkoption(L, 1, NULL, names)];
}

static int job_deflate(lua_State *L)
{
	int window = window_of(L);
	struct str data = bind_check_str(L, 2);
	lua_Integer level = luaL_checkinteger(L, 3);
	luaL_argcheck(L, data.n <= INFLATE_MAX, 2, "too long");
	luaL_argcheck(L, level >= 0 && level <= 9, 3, "out of range");
	struct work *w = bind_ask_new(L, 4, sizeof *w, data, (struct str){ 0 });
	w->window = window;
	w->level = (int)level;
	return bind_ask_run(&w->ask, JOB_FILE, work_deflate);
}

static int job_inflate(lua_State *L)
{
	int window = window_of(L);
	struct str data = bind_check_str(L, 2);
	lua_Integer limit = luaL_checkinteger(L, 3);
	luaL_argcheck(L, data.n <= INFLATE_MAX, 2, "too long");
	luaL_argcheck(L, limit >= 0 && limit <= INFLATE_MAX, 3, "out of range");
	struct work *w = bind_ask_new(L, 4, sizeof *w, data, (struct str){ 0 });
	w->window = window;
	w->length = (size_t)limit;
	return bind_ask_run(&w->ask, JOB_FILE, work_inflate);
}

int bind_job_open(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "hash", job_hash }, { "scrypt", job_scrypt }, { "deflate", job_deflate }, { "inflate", job_inflate }, { NULL, NULL },
	};
	luaL_newlib(L, functions);
	return 1;
}
