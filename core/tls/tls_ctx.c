/* SPDX-License-Identifier: MIT */
/* tls_ctx.c - certificates and policy. */
#include "tls/tls_ctx.h"

#include <openssl/core_names.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <assert.h>
#include <ctype.h>
#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rand.h"

struct tls_host {
	char *name;
	struct tls_ctx *ctx;          /* NULL: the context that holds this table */
};

struct tls_ctx {
	atomic_uint refs;
	SSL_CTX *ssl;
	struct str alpn, tlsa;        /* owned */
	int verify;
	pthread_rwlock_t lock;        /* of the hosts: the logic thread changes them, handshakes look one up */
	struct tls_host *hosts;       /* sorted by name */
	size_t n_hosts, cap_hosts;
};

/* --- tickets: a key encrypts for KEY_LIFE and decrypts for as long again --- */

enum { KEY_LIFE_MS = 12 * 3600 * 1000 };

struct ticket_key {
	unsigned char name[16], aes[32], hmac[32];
	uint64_t born;                /* 0: none */
};

static struct ticket_key keys[2];         /* the present one and the one before */
static pthread_mutex_t keys_lock = PTHREAD_MUTEX_INITIALIZER;    /* handshakes of all I/O threads share them */

static void rotate(uint64_t now)
{
	if (keys[0].born && now - keys[0].born < KEY_LIFE_MS)
		return;
	if (keys[0].born && now - keys[0].born < 2 * (uint64_t)KEY_LIFE_MS)
		keys[1] = keys[0];
	else
		mem_wipe(&keys[1], sizeof keys[1]);
	rand_bytes(&keys[0], sizeof keys[0]);
	keys[0].born = now;
}

/* A copy; 0: unknown name, 1: the present key, 2: an old one. */
static int ticket_key(const unsigned char *name, struct ticket_key *out)
{
	int found = 0;
	pthread_mutex_lock(&keys_lock);
	rotate(clock_mono_ms() + 1);
	for (int i = 0; i < 2 && !found; i++)
		if (keys[i].born && (!name || !memcmp(keys[i].name, name, sizeof keys[i].name))) {
			*out = keys[i];
			found = i + 1;
		}
	pthread_mutex_unlock(&keys_lock);
	return found;
}

static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int encrypt)
{
	(void)ssl;
	struct ticket_key key;
	int which = ticket_key(encrypt ? NULL : name, &key);
	if (!which)
		return 0;
	int ok = 1;
	if (encrypt) {
		memcpy(name, key.name, sizeof key.name);
		rand_bytes(iv, 16);
	}
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key.hmac, sizeof key.hmac),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){ "SHA256" }, 0),
		OSSL_PARAM_construct_end(),
	};
	if (EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.aes, iv, encrypt) != 1 || EVP_MAC_CTX_set_params(mac, params) != 1)
		ok = -1;
	mem_wipe(&key, sizeof key);
	if (ok < 0 || encrypt)
		return ok;
	/* 2: fine, and make a fresh one. TLS 1.3 tickets are for one use, so always. */
	return which == 2 || SSL_version(ssl) >= TLS1_3_VERSION ? 2 : 1;
}

/* --- making one --- */

struct maker {                        /* what a failure message says */
	char *message;
	size_t room;
};

static enum status bad(struct maker *m, const char *what)
{
	unsigned long code = ERR_peek_last_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;
	if (code && ERR_SYSTEM_ERROR(code))
		reason = strerror(ERR_GET_REASON(code));
	snprintf(m->message, m->room, reason ? "%s: %s" : "%s", what, reason);
	ERR_clear_error();
	return ST_INVALID;
}

static BIO *pem_open(const char *text)
{
	if (strstr(text, "-----BEGIN "))
		return BIO_new_mem_buf(text, -1);
	return BIO_new_file(text, "r");
}

static int on_password(char *out, int room, int rwflag, void *arg)
{
	(void)rwflag;
	const char *password = arg;       /* NULL: fail instead of asking the terminal */
	size_t n = password ? strlen(password) : 0;
	if (!n || n > (size_t)room)
		return -1;
	memcpy(out, password, n);
	return (int)n;
}

/* --- tls-server-end-point: hashed once for each of our certificates, and not for each handshake --- */

static int end_point_index;
static pthread_once_t end_point_once = PTHREAD_ONCE_INIT;

static void end_point_free(void *x, void *p, CRYPTO_EX_DATA *data, int index, long number, void *arg)
{
	(void)x;
	(void)data;
	(void)index;
	(void)number;
	(void)arg;
	free(p);
}

static void end_point_prepare(void)
{
	end_point_index = X509_get_ex_new_index(0, NULL, NULL, NULL, end_point_free);
	assert(end_point_index >= 0);
}

/* The certificate hashed by the hash of its own signature, SHA-256 in place of MD5 and SHA-1. Where the signature has no hash of
 * its own (Ed25519) the RFC says nothing; SHA-256 is what the field does. */
static bool end_point_of(const X509 *x, struct tls_end_point *out)
{
	int md = NID_undef;
	X509_get_signature_info((X509 *)x, &md, NULL, NULL, NULL);
	const EVP_MD *digest = md == NID_undef || md == NID_md5 || md == NID_sha1 || md == NID_md5_sha1 ? NULL : EVP_get_digestbynid(md);
	return X509_digest(x, digest ? digest : EVP_sha256(), out->bytes, &out->n) == 1;
}

bool tls_end_point(const X509 *x, struct tls_end_point *out)
{
	pthread_once(&end_point_once, end_point_prepare);
	const struct tls_end_point *kept = X509_get_ex_data(x, end_point_index);
	if (!kept)
		return end_point_of(x, out);
	*out = *kept;
	return true;
}

static void keep_end_point(X509 *x)
{
	struct tls_end_point *kept = mem_zero(sizeof *kept);
	pthread_once(&end_point_once, end_point_prepare);
	if (!end_point_of(x, kept) || X509_set_ex_data(x, end_point_index, kept) != 1)
		free(kept);
}

static enum status load_chain(struct maker *m, SSL_CTX *ssl, const char *text)
{
	BIO *bio = pem_open(text);
	if (!bio)
		return bad(m, "certificate");
	enum status st = ST_OK;
	X509 *x = PEM_read_bio_X509_AUX(bio, NULL, on_password, NULL);
	if (!x || SSL_CTX_use_certificate(ssl, x) != 1)
		st = bad(m, "certificate");
	else
		keep_end_point(x);
	X509_free(x);
	SSL_CTX_clear_chain_certs(ssl);
	while (!st && (x = PEM_read_bio_X509(bio, NULL, on_password, NULL)))
		if (SSL_CTX_add0_chain_cert(ssl, x) != 1) {
			X509_free(x);
			st = bad(m, "certificate chain");
		}
	ERR_clear_error();                /* the end of the file is an error to PEM_read_bio */
	BIO_free(bio);
	return st;
}

static enum status load_key(struct maker *m, SSL_CTX *ssl, const char *text, const char *password)
{
	BIO *bio = pem_open(text);
	if (!bio)
		return bad(m, "key");
	EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, on_password, (void *)password);
	BIO_free(bio);
	if (!key)
		return bad(m, "key");
	enum status st = ST_OK;
	if (SSL_CTX_use_PrivateKey(ssl, key) != 1 || SSL_CTX_check_private_key(ssl) != 1)
		st = bad(m, "key does not fit the certificate");
	EVP_PKEY_free(key);
	return st;
}

static enum status load_dh(struct maker *m, SSL_CTX *ssl, const char *text)
{
	BIO *bio = pem_open(text);
	if (!bio)
		return bad(m, "dh");
	EVP_PKEY *params = NULL;
	OSSL_DECODER_CTX *d = OSSL_DECODER_CTX_new_for_pkey(&params, "PEM", NULL, "DH", OSSL_KEYMGMT_SELECT_DOMAIN_PARAMETERS,
		NULL, NULL);
	int ok = d && OSSL_DECODER_from_bio(d, bio) == 1 && params;
	OSSL_DECODER_CTX_free(d);
	BIO_free(bio);
	if (!ok)
		return bad(m, "dh");
	if (SSL_CTX_set0_tmp_dh_pkey(ssl, params) != 1) {
		EVP_PKEY_free(params);
		return bad(m, "dh");
	}
	return ST_OK;
}

static int version_of(const char *text)
{
	static const struct { const char *name; int version; } rows[] = {
		{ "TLSv1", TLS1_VERSION }, { "TLSv1.0", TLS1_VERSION }, { "TLSv1.1", TLS1_1_VERSION },
		{ "TLSv1.2", TLS1_2_VERSION }, { "TLSv1.3", TLS1_3_VERSION },
	};
	for (int i = 0; i < COUNT(rows); i++)
		if (!strcmp(rows[i].name, text))
			return rows[i].version;
	return -1;
}

static int verify_mode(enum tls_verify verify)
{
	return verify == TLS_VERIFY_NONE ? SSL_VERIFY_NONE : verify == TLS_VERIFY_REQUEST ? SSL_VERIFY_PEER
		: SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
}

/* Has the directory names of certificates by hash (c_rehash)? */
static bool has_hashes(const char *path)
{
	DIR *dir = path ? opendir(path) : NULL;
	bool found = false;
	struct dirent *entry;
	while (dir && !found && (entry = readdir(dir))) {
		int i = 0;
		while (isxdigit((unsigned char)entry->d_name[i]))
			i++;
		found = i == 8 && entry->d_name[8] == '.' && isdigit((unsigned char)entry->d_name[9]);
	}
	if (dir)
		closedir(dir);
	return found;
}

/* A directory is looked into when a chain needs it; a file of all authorities costs 50 ms and some megabytes at once. */
static void system_authorities(SSL_CTX *ssl)
{
	const char *dir = getenv(X509_get_default_cert_dir_env()), *file = getenv(X509_get_default_cert_file_env());
	bool by_dir = dir || !file;
	if (by_dir && has_hashes(dir ? dir : X509_get_default_cert_dir()))
		SSL_CTX_set_default_verify_dir(ssl);
	else
		SSL_CTX_set_default_verify_paths(ssl);
}

static enum status authorities(struct maker *m, SSL_CTX *ssl, const struct tls_options *o)
{
	if (o->trust)
		SSL_CTX_set1_cert_store(ssl, SSL_CTX_get_cert_store(o->trust->ssl));
	else if (o->ca_file && SSL_CTX_load_verify_file(ssl, o->ca_file) != 1)
		return bad(m, "ca_file");
	else if (o->ca_path && SSL_CTX_load_verify_dir(ssl, o->ca_path) != 1)
		return bad(m, "ca_path");
	else if (!o->ca_path && (o->ca_system || !o->ca_file))
		system_authorities(ssl);
	if (o->crl_file && !o->trust) {
		X509_STORE *store = SSL_CTX_get_cert_store(ssl);
		X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
		if (!lookup || X509_load_crl_file(lookup, o->crl_file, X509_FILETYPE_PEM) < 1)
			return bad(m, "crl_file");
		X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
	}
	ERR_clear_error();
	return ST_OK;
}

static enum status policy(struct maker *m, SSL_CTX *ssl, const struct tls_options *o)
{
	int min = o->min_version ? version_of(o->min_version) : TLS1_2_VERSION;
	int max = o->max_version ? version_of(o->max_version) : 0;
	if (min < 0 || SSL_CTX_set_min_proto_version(ssl, min) != 1)
		return bad(m, "min_version");
	if (max < 0 || SSL_CTX_set_max_proto_version(ssl, max) != 1 || (max && max < min))
		return bad(m, "max_version");
	if (SSL_CTX_set_cipher_list(ssl, o->ciphers ? o->ciphers
		: "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:DHE+AESGCM:DHE+CHACHA20:!aNULL:!eNULL:!SHA1:!MD5:!3DES") != 1)
		return bad(m, "ciphers");
	if (o->ciphersuites && SSL_CTX_set_ciphersuites(ssl, o->ciphersuites) != 1)
		return bad(m, "ciphersuites");
	if (o->curves && SSL_CTX_set1_groups_list(ssl, o->curves) != 1)
		return bad(m, "curves");
	uint64_t options = SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_SINGLE_DH_USE | SSL_OP_SINGLE_ECDH_USE
		| SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA;
	if (o->no_tickets)
		options |= SSL_OP_NO_TICKET;
	SSL_CTX_set_options(ssl, options);
	SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(ssl, o->no_tickets ? 0 : 1);
	SSL_CTX_set_tlsext_ticket_key_evp_cb(ssl, on_ticket);
	SSL_CTX_set_session_id_context(ssl, (const unsigned char *)"couplet", 7);
	SSL_CTX_set_timeout(ssl, KEY_LIFE_MS / 1000);
	SSL_CTX_set_default_passwd_cb(ssl, on_password);
	if (o->verify != TLS_VERIFY_NONE) {
		enum status st = authorities(m, ssl, o);
		if (st)
			return st;
		if (SSL_CTX_dane_enable(ssl) != 1)
			return bad(m, "DANE");
	}
	tls_ctx_hooks(ssl);
	if (o->dh)
		return load_dh(m, ssl, o->dh);
	SSL_CTX_set_dh_auto(ssl, 1);
	return ST_OK;
}

/* Takes the reference to ssl. */
static struct tls_ctx *make(SSL_CTX *ssl, int verify, struct str alpn)
{
	struct tls_ctx *ctx = mem_zero(sizeof *ctx);
	atomic_init(&ctx->refs, 1);
	pthread_rwlock_init(&ctx->lock, NULL);
	ctx->ssl = ssl;
	ctx->verify = verify;
	if (alpn.n)
		ctx->alpn = (struct str){ mem_copy(alpn.p, alpn.n), alpn.n };
	return ctx;
}

enum status tls_ctx_new(const struct tls_options *o, struct tls_ctx **out, char *message, size_t room)
{
	struct maker m = { message, room };
	ERR_clear_error();
	SSL_CTX *ssl = SSL_CTX_new(TLS_method());
	if (!ssl)
		return bad(&m, "TLS");
	enum status st = policy(&m, ssl, o);
	if (!st && o->certificate) {
		st = load_chain(&m, ssl, o->certificate);
		if (!st)
			st = load_key(&m, ssl, o->key ? o->key : o->certificate, o->password);
	}
	if (st) {
		SSL_CTX_free(ssl);
		return st;
	}
	*out = make(ssl, verify_mode(o->verify), o->alpn);
	return ST_OK;
}

struct tls_ctx *tls_ctx_dane(const struct tls_ctx *ctx, struct str records)
{
	SSL_CTX_up_ref(ctx->ssl);
	struct tls_ctx *fresh = make(ctx->ssl, ctx->verify, ctx->alpn);
	if (records.n)
		fresh->tlsa = (struct str){ mem_copy(records.p, records.n), records.n };
	return fresh;
}

struct tls_ctx *tls_ctx_ref(struct tls_ctx *ctx)
{
	atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
	return ctx;
}

void tls_ctx_unref(struct tls_ctx **ref)
{
	struct tls_ctx *ctx = *ref;
	*ref = NULL;
	if (!ctx || atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel) != 1)
		return;
	for (size_t i = 0; i < ctx->n_hosts; i++) {
		free(ctx->hosts[i].name);
		tls_ctx_unref(&ctx->hosts[i].ctx);
	}
	free(ctx->hosts);
	free((char *)ctx->alpn.p);
	free((char *)ctx->tlsa.p);
	pthread_rwlock_destroy(&ctx->lock);
	SSL_CTX_free(ctx->ssl);
	free(ctx);
}

/* --- hosts --- */

/* The place of name, or where it belongs. */
static size_t place_of(const struct tls_ctx *ctx, const char *name, bool *found)
{
	size_t low = 0, high = ctx->n_hosts;
	while (low < high) {
		size_t middle = (low + high) / 2;
		int order = strcasecmp(ctx->hosts[middle].name, name);
		if (!order) {
			*found = true;
			return middle;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*found = false;
	return low;
}

void tls_ctx_host(struct tls_ctx *ctx, struct str name, struct tls_ctx *host)
{
	char *text = mem_copy(name.p, name.n);
	struct tls_ctx *old = NULL;
	bool found;
	pthread_rwlock_wrlock(&ctx->lock);
	size_t at = place_of(ctx, text, &found);
	if (!host) {
		if (found) {
			old = ctx->hosts[at].ctx;
			free(ctx->hosts[at].name);
			memmove(&ctx->hosts[at], &ctx->hosts[at + 1], (--ctx->n_hosts - at) * sizeof *ctx->hosts);
		}
	} else {
		if (!found) {
			if (ctx->n_hosts == ctx->cap_hosts) {
				ctx->cap_hosts = ctx->cap_hosts ? ctx->cap_hosts * 2 : 8;
				ctx->hosts = mem_resize(ctx->hosts, ctx->cap_hosts * sizeof *ctx->hosts);
			}
			memmove(&ctx->hosts[at + 1], &ctx->hosts[at], (ctx->n_hosts++ - at) * sizeof *ctx->hosts);
			ctx->hosts[at] = (struct tls_host){ text, NULL };
			text = NULL;
		}
		old = ctx->hosts[at].ctx;
		ctx->hosts[at].ctx = host == ctx ? NULL : tls_ctx_ref(host);      /* a reference to itself would never end */
	}
	pthread_rwlock_unlock(&ctx->lock);
	tls_ctx_unref(&old);
	free(text);
}

struct tls_ctx *tls_ctx_find(struct tls_ctx *ctx, const char *name)
{
	struct tls_ctx *result = NULL;
	char pattern[256];
	const char *dot = strchr(name, '.');
	bool found;
	pthread_rwlock_rdlock(&ctx->lock);
	size_t at = place_of(ctx, name, &found);
	if (!found && dot && strlen(dot) < sizeof pattern - 1) {
		pattern[0] = '*';
		strcpy(pattern + 1, dot);
		at = place_of(ctx, pattern, &found);
	}
	if (found && ctx->hosts[at].ctx)
		result = tls_ctx_ref(ctx->hosts[at].ctx);
	pthread_rwlock_unlock(&ctx->lock);
	return result;
}

SSL_CTX *tls_ctx_ssl(const struct tls_ctx *ctx)
{
	return ctx->ssl;
}

struct str tls_ctx_alpn(const struct tls_ctx *ctx)
{
	return ctx->alpn;
}

struct str tls_ctx_tlsa(const struct tls_ctx *ctx)
{
	return ctx->tlsa;
}

int tls_ctx_verify(const struct tls_ctx *ctx)
{
	return ctx->verify;
}
