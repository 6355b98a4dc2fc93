/* SPDX-License-Identifier: MIT */
/* digest.c - hashes by name. OpenSSL failing here means out of memory or a broken installation: we end. */
#define OPENSSL_SUPPRESS_DEPRECATED     /* SHA*_CTX */
#include "base/digest.h"

#include <assert.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <string.h>

#include "base/mem.h"

struct digest {
	const char *name, *ossl;
	size_t size;
	EVP_MD *md;
	EVP_MAC_CTX *hmac;              /* keyless; copied for each use */
};

static struct digest digests[] = {
	{ "md5", "MD5", 16, NULL, NULL },             { "sha1", "SHA1", 20, NULL, NULL },
	{ "sha224", "SHA224", 28, NULL, NULL },       { "sha256", "SHA256", 32, NULL, NULL },
	{ "sha384", "SHA384", 48, NULL, NULL },       { "sha512", "SHA512", 64, NULL, NULL },
	{ "sha3_256", "SHA3-256", 32, NULL, NULL },   { "sha3_512", "SHA3-512", 64, NULL, NULL },
	{ "blake2s256", "BLAKE2S-256", 32, NULL, NULL }, { "blake2b512", "BLAKE2B-512", 64, NULL, NULL },
};
static EVP_KDF *pbkdf2, *hkdf;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fetch(void)
{
	EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	assert(hmac);
	for (int i = 0; i < COUNT(digests); i++) {
		struct digest *d = &digests[i];
		d->md = EVP_MD_fetch(NULL, d->ossl, NULL);
		assert(d->md && (size_t)EVP_MD_get_size(d->md) == d->size);
		d->hmac = EVP_MAC_CTX_new(hmac);
		assert(d->hmac);
		OSSL_PARAM params[] = {
			OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)d->ossl, 0), OSSL_PARAM_construct_end() };
		int ok = EVP_MAC_CTX_set_params(d->hmac, params);
		assert(ok);
	}
	EVP_MAC_free(hmac);
	pbkdf2 = EVP_KDF_fetch(NULL, "PBKDF2", NULL);
	hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	assert(pbkdf2 && hkdf);
}

const struct digest *digest_at(int index)
{
	pthread_once(&once, fetch);
	return index < COUNT(digests) ? &digests[index] : NULL;
}

const struct digest *digest_find(struct str name)
{
	pthread_once(&once, fetch);
	for (int i = 0; i < COUNT(digests); i++)
		if (str_is(name, digests[i].name))
			return &digests[i];
	return NULL;
}

const char *digest_name(const struct digest *d)
{
	return d->name;
}

size_t digest_size(const struct digest *d)
{
	return d->size;
}

const EVP_MD *digest_md(const struct digest *d)
{
	return d->md;
}

void digest_sum(const struct digest *d, struct str data, unsigned char *out)
{
	int ok = EVP_Digest(data.n ? data.p : "", data.n, out, NULL, d->md, NULL);
	assert(ok);
}

void digest_hmac(const struct digest *d, struct str key, struct str data, unsigned char *out)
{
	size_t n;
	EVP_MAC_CTX *ctx = EVP_MAC_CTX_dup(d->hmac);
	/* an empty key is a key: a NULL pointer would mean "the one set before" */
	int ok = ctx && EVP_MAC_init(ctx, (const unsigned char *)(key.n ? key.p : ""), key.n, NULL) &&
		EVP_MAC_update(ctx, (const unsigned char *)(data.n ? data.p : ""), data.n) && EVP_MAC_final(ctx, out, &n, d->size);
	EVP_MAC_CTX_free(ctx);
	assert(ok);
}

static OSSL_PARAM octets(const char *name, struct str s)
{
	return OSSL_PARAM_construct_octet_string(name, (char *)(s.n ? s.p : ""), s.n);
}

static void derive(EVP_KDF *kdf, const OSSL_PARAM *params, unsigned char *out, size_t n)
{
	EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
	int ok = ctx && EVP_KDF_derive(ctx, out, n, params) > 0;
	EVP_KDF_CTX_free(ctx);
	assert(ok);
}

/* --- PBKDF2 by hand: OpenSSL 3 makes and copies three contexts for each of the thousands of iterations, and spends two thirds of the
 * time on that. Here a context is a struct that is assigned. --- */

#define PBKDF2(name, CTX, INIT, UPDATE, FINAL, BLOCK, SIZE) \
	static void name(struct str password, struct str salt, int iterations, uint32_t number, unsigned char *out) \
	{ \
		CTX inner, outer, c; \
		unsigned char pad[BLOCK] = { 0 }, u[SIZE]; \
		if (password.n > BLOCK) { \
			INIT(&c); \
			UPDATE(&c, password.p, password.n); \
			FINAL(pad, &c); \
		} else if (password.n) { \
			memcpy(pad, password.p, password.n); \
		} \
		for (int i = 0; i < BLOCK; i++) \
			pad[i] ^= 0x36; \
		INIT(&inner); \
		UPDATE(&inner, pad, BLOCK); \
		for (int i = 0; i < BLOCK; i++) \
			pad[i] ^= 0x36 ^ 0x5c; \
		INIT(&outer); \
		UPDATE(&outer, pad, BLOCK); \
		const unsigned char index[4] = { (unsigned char)(number >> 24), (unsigned char)(number >> 16), \
			(unsigned char)(number >> 8), (unsigned char)number }; \
		for (int i = 0; i < iterations; i++) { \
			c = inner; \
			if (i) { \
				UPDATE(&c, u, SIZE); \
			} else { \
				UPDATE(&c, salt.n ? salt.p : "", salt.n); \
				UPDATE(&c, index, 4); \
			} \
			FINAL(u, &c); \
			c = outer; \
			UPDATE(&c, u, SIZE); \
			FINAL(u, &c); \
			for (int k = 0; k < SIZE; k++) \
				out[k] = (unsigned char)(i ? out[k] ^ u[k] : u[k]); \
		} \
		mem_wipe(&inner, sizeof inner); \
		mem_wipe(&outer, sizeof outer); \
		mem_wipe(&c, sizeof c); \
		mem_wipe(pad, sizeof pad); \
		mem_wipe(u, sizeof u); \
	}

PBKDF2(pbkdf2_sha1, SHA_CTX, SHA1_Init, SHA1_Update, SHA1_Final, 64, 20)
PBKDF2(pbkdf2_sha256, SHA256_CTX, SHA256_Init, SHA256_Update, SHA256_Final, 64, 32)
PBKDF2(pbkdf2_sha512, SHA512_CTX, SHA512_Init, SHA512_Update, SHA512_Final, 128, 64)

static bool derive_by_hand(const struct digest *d, struct str password, struct str salt, int iterations, unsigned char *out, size_t n)
{
	void (*block)(struct str, struct str, int, uint32_t, unsigned char *) = !strcmp(d->name, "sha1") ? pbkdf2_sha1
		: !strcmp(d->name, "sha256") ? pbkdf2_sha256 : !strcmp(d->name, "sha512") ? pbkdf2_sha512 : NULL;
	unsigned char t[DIGEST_MAX];
	if (!block)
		return false;
	for (uint32_t number = 1; n; number++) {
		size_t part = n < d->size ? n : d->size;
		block(password, salt, iterations, number, t);
		memcpy(out, t, part);
		out += part;
		n -= part;
	}
	mem_wipe(t, sizeof t);
	return true;
}

enum status digest_pbkdf2(const struct digest *d, struct str password, struct str salt, int iterations,
	unsigned char *out, size_t n)
{
	if (iterations < 1 || n == 0)
		return ST_LIMIT;
	if (derive_by_hand(d, password, salt, iterations, out, n))
		return ST_OK;
	int relaxed = 1;                       /* RFC 5802 allows what SP 800-132 would refuse: short salts, 1 iteration */
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)d->ossl, 0),
		OSSL_PARAM_construct_int(OSSL_KDF_PARAM_ITER, &iterations),
		OSSL_PARAM_construct_int(OSSL_KDF_PARAM_PKCS5, &relaxed),
		octets(OSSL_KDF_PARAM_PASSWORD, password),
		octets(OSSL_KDF_PARAM_SALT, salt),
		OSSL_PARAM_construct_end(),
	};
	derive(pbkdf2, params, out, n);
	return ST_OK;
}

enum status digest_hkdf(const struct digest *d, struct str key, struct str salt, struct str info, unsigned char *out, size_t n)
{
	if (n == 0 || n > 255 * d->size)
		return ST_LIMIT;
	static const char zeros[DIGEST_MAX];
	if (!salt.n)
		salt = (struct str){ zeros, d->size };      /* RFC 5869 §2.2 */
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)d->ossl, 0),
		octets(OSSL_KDF_PARAM_KEY, key),
		octets(OSSL_KDF_PARAM_SALT, salt),
		octets(OSSL_KDF_PARAM_INFO, info),
		OSSL_PARAM_construct_end(),
	};
	derive(hkdf, params, out, n);
	return ST_OK;
}
