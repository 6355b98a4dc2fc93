/* SPDX-License-Identifier: MIT */
/* digest.c - hashes by name. OpenSSL failing here means out of memory or a broken installation: we end. */
#include "base/digest.h"

#include <assert.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <pthread.h>

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

enum status digest_pbkdf2(const struct digest *d, struct str password, struct str salt, int iterations,
	unsigned char *out, size_t n)
{
	if (iterations < 1 || n == 0)
		return ST_LIMIT;
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
