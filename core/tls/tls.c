/* SPDX-License-Identifier: MIT */
/* tls.c - one TLS session as a transformer of bytes.
 *
 * OpenSSL reads and writes through a BIO of our own, which looks at the caller's bytes during a call and holds nothing between
 * calls: one recv feeds many records, many records leave with one send, and an idle session owns no buffer.
 */
#include "tls/tls.h"

#include <assert.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/thread.h"

enum { VERIFY_ERRORS = 8, CHAIN = 8 };

struct verify_error {
	int16_t depth, code;
};

struct tls {
	SSL *ssl;
	struct tls_ctx *ctx;
	struct str *wire;             /* during a call */
	struct buf *out;              /* during a call */
	char *alpn;                   /* wire form; NULL: the context's */
	uint8_t alpn_len;
	bool alpn_strict, server, ready, over, goodbye;
	uint8_t n_errors;
	struct verify_error *errors;  /* [VERIFY_ERRORS] */
	const char *error;
};

/* --- the BIO --- */

static int wire_read(BIO *bio, char *data, size_t room, size_t *got)
{
	struct tls *t = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	size_t n = t->wire ? t->wire->n : 0;
	if (!n) {
		BIO_set_retry_read(bio);
		return 0;
	}
	if (n > room)
		n = room;
	memcpy(data, t->wire->p, n);
	t->wire->p += n;
	t->wire->n -= n;
	*got = n;
	return 1;
}

static int wire_write(BIO *bio, const char *data, size_t n, size_t *written)
{
	struct tls *t = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	if (!t->out)
		return 0;
	buf_add(t->out, data, n);
	*written = n;
	return 1;
}

static long wire_ctrl(BIO *bio, int command, long number, void *p)
{
	(void)bio;
	(void)number;
	(void)p;
	return command == BIO_CTRL_FLUSH || command == BIO_CTRL_DUP;
}

static BIO_METHOD *method;
static int ex_index;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void prepare(void)
{
	/* Other threads may still be at work when the process ends: let the kernel clean up. */
	OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT, NULL);
	method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "couplet");
	ex_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	if (!method || ex_index < 0)
		abort();
	BIO_meth_set_read_ex(method, wire_read);
	BIO_meth_set_write_ex(method, wire_write);
	BIO_meth_set_ctrl(method, wire_ctrl);
}

/* --- what OpenSSL asks --- */

static int on_verify(int ok, X509_STORE_CTX *store)
{
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls *t = SSL_get_ex_data(ssl, ex_index);
	if (!ok && X509_STORE_CTX_get_error(store) == X509_V_ERR_UNABLE_TO_GET_CRL) {
		/* Lists are there for some authorities; what others revoke nobody has told us. */
		X509_STORE_CTX_set_error(store, t->n_errors ? t->errors[t->n_errors - 1].code : X509_V_OK);
		return 1;
	}
	if (!ok && t->n_errors < VERIFY_ERRORS) {
		if (!t->errors)
			t->errors = mem_alloc(VERIFY_ERRORS * sizeof *t->errors);
		t->errors[t->n_errors++] = (struct verify_error){ (int16_t)X509_STORE_CTX_get_error_depth(store),
			(int16_t)X509_STORE_CTX_get_error(store) };
	}
	return 1;
}

static int on_server_name(SSL *ssl, int *alert, void *arg)
{
	(void)alert;
	(void)arg;
	struct tls *t = SSL_get_ex_data(ssl, ex_index);
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	if (!name || !t->server)
		return SSL_TLSEXT_ERR_NOACK;
	struct tls_ctx *host = tls_ctx_find(t->ctx, name);
	if (host) {
		/* The certificate and the key come with the context, the policy does not. */
		SSL_CTX *ctx = tls_ctx_ssl(host);
		SSL_set_SSL_CTX(ssl, ctx);
		SSL_set_verify(ssl, tls_ctx_verify(host), on_verify);
		SSL_clear_options(ssl, SSL_get_options(ssl) & ~SSL_CTX_get_options(ctx));
		SSL_set_options(ssl, SSL_CTX_get_options(ctx));
		tls_ctx_unref(&host);
	}
	return SSL_TLSEXT_ERR_OK;
}

static struct str alpn_of(const struct tls *t)
{
	return t->alpn ? (struct str){ t->alpn, t->alpn_len } : tls_ctx_alpn(t->ctx);
}

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned in_len, void *arg)
{
	(void)arg;
	struct tls *t = SSL_get_ex_data(ssl, ex_index);
	struct str own = alpn_of(t);
	unsigned char *chosen;
	if (!own.n)
		return SSL_TLSEXT_ERR_NOACK;
	if (SSL_select_next_proto(&chosen, out_len, (const unsigned char *)own.p, (unsigned)own.n, in, in_len)
		== OPENSSL_NPN_NEGOTIATED) {
		*out = chosen;
		return SSL_TLSEXT_ERR_OK;
	}
	return t->alpn_strict ? SSL_TLSEXT_ERR_ALERT_FATAL : SSL_TLSEXT_ERR_NOACK;
}

/* --- sessions --- */

/* Names are for Lua to compare: it knows which of them count. Records nobody understands are left out; when none is left, all
 * is as without (RFC 7671). */
static void use_tlsa(SSL *ssl, const char *server_name, struct str records)
{
	if (SSL_dane_enable(ssl, server_name) != 1)
		return;
	SSL_dane_set_flags(ssl, DANE_FLAG_NO_DANE_EE_NAMECHECKS);
	X509_VERIFY_PARAM_set1_host(SSL_get0_param(ssl), NULL, 0);
	while (records.n >= 2) {
		uint16_t n;
		memcpy(&n, records.p, sizeof n);
		const unsigned char *p = (const unsigned char *)records.p + sizeof n;
		assert(n <= records.n - sizeof n);
		if (n > 3)
			SSL_dane_tlsa_add(ssl, p[0], p[1], p[2], p + 3, n - 3u);
		records.p += sizeof n + n;
		records.n -= sizeof n + n;
	}
	ERR_clear_error();
}

struct tls *tls_new(struct tls_ctx *ctx, bool server, const char *server_name, struct str alpn, bool alpn_strict)
{
	pthread_once(&once, prepare);
	ERR_clear_error();
	struct tls *t = mem_zero(sizeof *t);
	SSL_CTX *ssl_ctx = tls_ctx_ssl(ctx);
	t->ctx = tls_ctx_ref(ctx);
	t->server = server;
	t->alpn_strict = alpn_strict;
	if (alpn.n && alpn.n <= UINT8_MAX) {
		t->alpn = mem_copy(alpn.p, alpn.n);
		t->alpn_len = (uint8_t)alpn.n;
	}
	t->ssl = SSL_new(ssl_ctx);
	BIO *bio = BIO_new(method);
	if (!t->ssl || !bio) {                /* these fail for want of memory only */
		ERR_print_errors_fp(stderr);
		abort();
	}
	BIO_set_data(bio, t);
	BIO_set_init(bio, 1);
	SSL_set_bio(t->ssl, bio, bio);
	SSL_set_ex_data(t->ssl, ex_index, t);
	SSL_set_verify(t->ssl, tls_ctx_verify(ctx), on_verify);
	if (server) {
		SSL_set_accept_state(t->ssl);
		SSL_set_purpose(t->ssl, X509_PURPOSE_ANY);        /* see put_purpose() */
	} else {
		struct str own = alpn_of(t);
		SSL_set_connect_state(t->ssl);
		if (server_name && *server_name)
			SSL_set_tlsext_host_name(t->ssl, server_name);
		if (server_name && *server_name && tls_ctx_tlsa(ctx).n)
			use_tlsa(t->ssl, server_name, tls_ctx_tlsa(ctx));
		if (own.n)
			SSL_set_alpn_protos(t->ssl, (const unsigned char *)own.p, (unsigned)own.n);
	}
	return t;
}

void tls_ctx_hooks(SSL_CTX *ssl)
{
	SSL_CTX_set_tlsext_servername_callback(ssl, on_server_name);
	SSL_CTX_set_alpn_select_cb(ssl, on_alpn, NULL);
}

void tls_free(struct tls **ref)
{
	struct tls *t = *ref;
	*ref = NULL;
	if (!t)
		return;
	SSL_free(t->ssl);
	ERR_clear_error();
	tls_ctx_unref(&t->ctx);
	free(t->errors);
	free(t->alpn);
	free(t);
}

/* SSL_get_error() wants no old error in the thread's queue. To clear an empty one costs a tenth of a short record. */
static void no_old_error(void)
{
	if (ERR_peek_error())
		ERR_clear_error();
}

static enum status failed(struct tls *t, int result)
{
	switch (SSL_get_error(t->ssl, result)) {
	case SSL_ERROR_WANT_READ:
		return ST_AGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return ST_CLOSED;
	default:
		break;
	}
	unsigned long code = ERR_peek_error();
	const char *reason = code ? ERR_reason_error_string(code) : NULL;
	t->error = reason ? reason : "protocol error";
	t->over = true;
	ERR_clear_error();
	return ST_INVALID;
}

enum status tls_read(struct tls *t, struct str *wire, char *plain, size_t room, size_t *got, struct buf *out)
{
	if (t->over)
		return ST_INVALID;
	no_old_error();
	t->wire = wire;
	t->out = out;
	size_t n = 0;
	int result = SSL_read_ex(t->ssl, plain, room, &n);
	enum status st = result == 1 ? ST_OK : failed(t, result);
	t->wire = NULL;
	t->out = NULL;
	t->ready = t->ready || SSL_is_init_finished(t->ssl);
	if (!st)
		*got = n;
	return st;
}

enum status tls_begin(struct tls *t, struct buf *out)
{
	ERR_clear_error();
	t->out = out;
	int result = SSL_do_handshake(t->ssl);
	enum status st = result == 1 ? ST_OK : failed(t, result);
	t->out = NULL;
	return st == ST_AGAIN ? ST_OK : st;
}

bool tls_ready(const struct tls *t)
{
	return t->ready;
}

bool tls_peer_may_wait(const struct tls *t)
{
	return t->server && SSL_version(t->ssl) >= TLS1_3_VERSION;
}

enum status tls_write(struct tls *t, struct str plain, struct buf *out)
{
	if (t->over)
		return ST_INVALID;
	no_old_error();
	t->out = out;
	enum status st = ST_OK;
	while (plain.n && !st) {
		size_t n = 0;
		int result = SSL_write_ex(t->ssl, plain.p, plain.n, &n);
		if (result == 1) {
			plain.p += n;
			plain.n -= n;
		} else {
			st = failed(t, result);
		}
	}
	t->out = NULL;
	return st;
}

void tls_prefetch(const struct tls *t)
{
	mem_prefetch(t, sizeof *t);
}

void tls_goodbye(struct tls *t, struct buf *out)
{
	if (t->over || t->goodbye || !t->ready)
		return;
	t->goodbye = true;
	ERR_clear_error();
	t->out = out;
	SSL_shutdown(t->ssl);
	ERR_clear_error();
	t->out = NULL;
}

const char *tls_error(const struct tls *t)
{
	return t->error ? t->error : "";
}

bool tls_resumed(const struct tls *t)
{
	return SSL_session_reused(t->ssl);
}

/* --- what Lua may know --- */

static void put(struct buf *out, enum tls_key key, const void *p, size_t n)
{
	uint32_t head[2] = { (uint32_t)key, (uint32_t)n };
	buf_add(out, head, sizeof head);
	buf_add(out, p, n);
}

static void put_text(struct buf *out, enum tls_key key, const char *text)
{
	if (text)
		put(out, key, text, strlen(text));
}

static void put_der(struct buf *out, enum tls_key key, const X509 *x)
{
	unsigned char *der = NULL;
	int n = i2d_X509(x, &der);
	if (n > 0)
		put(out, key, der, (size_t)n);
	OPENSSL_free(der);
}

static void put_bindings(struct tls *t, struct buf *out, const X509 *server)
{
	unsigned char bytes[64];
	struct tls_end_point hash;
	if (server && tls_end_point(server, &hash))
		put(out, TLS_END_POINT, hash.bytes, hash.n);
	if (SSL_version(t->ssl) < TLS1_3_VERSION && SSL_get_extms_support(t->ssl) == 1) {
		/* RFC 5929 §3.1: the first Finished; the client's, or the server's on a resumed session. Not without the extended
		 * master secret: two sessions could share it. */
		bool ours = t->server == (SSL_session_reused(t->ssl) == 1);
		size_t n = ours ? SSL_get_finished(t->ssl, bytes, sizeof bytes) : SSL_get_peer_finished(t->ssl, bytes, sizeof bytes);
		if (n && n <= sizeof bytes)
			put(out, TLS_UNIQUE, bytes, n);
	}
}

/* Servers call servers with the certificate they have, and public authorities make them for serverAuth alone; so that is as
 * good as clientAuth. Other uses are not. */
static void put_purpose(struct buf *out, X509 *peer)
{
	char text[128];
	if (X509_check_purpose(peer, X509_PURPOSE_SSL_CLIENT, 0) == 1 || X509_check_purpose(peer, X509_PURPOSE_SSL_SERVER, 0) == 1)
		return;
	snprintf(text, sizeof text, "0 %s", X509_verify_cert_error_string(X509_V_ERR_INVALID_PURPOSE));
	put_text(out, TLS_VERIFY_ERROR, text);
}

static void put_peer(struct tls *t, struct buf *out, X509 *peer)
{
	put_der(out, TLS_PEER_CERT, peer);
	STACK_OF(X509) *chain = SSL_get_peer_cert_chain(t->ssl);
	int from = t->server ? 0 : 1;         /* a client's view begins with the peer's own */
	for (int i = from; i < sk_X509_num(chain) && i < from + CHAIN; i++)
		put_der(out, TLS_PEER_CHAIN, sk_X509_value(chain, i));
	char text[128];
	for (int i = 0; i < t->n_errors; i++) {
		snprintf(text, sizeof text, "%d %s", t->errors[i].depth, X509_verify_cert_error_string(t->errors[i].code));
		put_text(out, TLS_VERIFY_ERROR, text);
	}
	long verdict = SSL_get_verify_result(t->ssl);
	if (!t->n_errors && verdict != X509_V_OK) {       /* a resumed session remembers it */
		snprintf(text, sizeof text, "0 %s", X509_verify_cert_error_string(verdict));
		put_text(out, TLS_VERIFY_ERROR, text);
	}
	if (t->server)
		put_purpose(out, peer);
	uint8_t usage;
	if (!t->n_errors && SSL_get0_dane_authority(t->ssl, NULL, NULL) >= 0
	    && SSL_get0_dane_tlsa(t->ssl, &usage, NULL, NULL, NULL, NULL) >= 0)
		put(out, TLS_DANE, &(uint32_t){ usage }, sizeof(uint32_t));
	free(t->errors);
	t->errors = NULL;
	t->n_errors = 0;
}

void tls_info(struct tls *t, struct buf *out)
{
	ERR_clear_error();
	const SSL_CIPHER *cipher = SSL_get_current_cipher(t->ssl);
	uint32_t bits = (uint32_t)SSL_CIPHER_get_bits(cipher, NULL);
	put_text(out, TLS_VERSION, SSL_get_version(t->ssl));
	put_text(out, TLS_CIPHER, SSL_CIPHER_get_name(cipher));
	put(out, TLS_BITS, &bits, sizeof bits);
	put_text(out, TLS_SNI, SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name));
	const unsigned char *alpn;
	unsigned n;
	SSL_get0_alpn_selected(t->ssl, &alpn, &n);
	if (n)
		put(out, TLS_ALPN, alpn, n);
	if (SSL_session_reused(t->ssl))
		put(out, TLS_RESUMED, "", 0);
	X509 *peer = SSL_get0_peer_certificate(t->ssl);
	put_bindings(t, out, t->server ? SSL_get_certificate(t->ssl) : peer);
	if (peer)
		put_peer(t, out, peer);
	ERR_clear_error();
}

enum status tls_export(struct tls *t, struct str label, struct str context, unsigned char *out, size_t n)
{
	ERR_clear_error();
	int ok = SSL_export_keying_material(t->ssl, out, n, label.p, label.n, (const unsigned char *)context.p, context.n,
		context.p != NULL);
	ERR_clear_error();
	return ok == 1 ? ST_OK : ST_INVALID;
}
