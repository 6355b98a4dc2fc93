/* SPDX-License-Identifier: MIT */
/* tls_ctx.h - certificate, key and policy for TLS sessions, and the certificates of other hosts chosen by server name.
 *
 * Made on the logic thread, shared read-only with I/O threads; only the table of hosts may change later (under a lock, taken
 * once per handshake). Sessions keep the context they began with, so a reload is: make a new one, give it to the listener.
 * Source: RFC 7590; tickets: RFC 5077, RFC 8446 §4.6.1, keys made and rotated here, the same for all contexts.
 */
#ifndef COUPLET_TLS_CTX_H
#define COUPLET_TLS_CTX_H

#include <openssl/types.h>
#include <stdbool.h>

#include "base/status.h"
#include "base/str.h"

struct tls_ctx;

enum tls_verify {
	TLS_VERIFY_NONE,         /* ask for no certificate */
	TLS_VERIFY_REQUEST,      /* ask; what is wrong with it is recorded, never refused: Lua decides */
	TLS_VERIFY_REQUIRE,      /* no certificate, no connection; what is wrong with it is recorded */
};

struct tls_options {
	const char *certificate, *key;      /* PEM text or file name; chain in certificate; key NULL: in certificate too */
	const char *password;               /* of the key */
	const char *min_version, *max_version;     /* "TLSv1.2"; NULL: TLSv1.2 and the newest */
	const char *ciphers, *ciphersuites, *curves;
	const char *dh;                     /* parameters, PEM text or file name; NULL: chosen by the library */
	const char *ca_file, *ca_path;      /* both NULL: the system's, its directory rather than its file: that is read whole */
	bool ca_system;                     /* the system's beside ca_file; ca_path still replaces them */
	const char *crl_file;               /* PEM, any number of lists; NULL: nothing is known to be revoked */
	struct tls_ctx *trust;              /* borrowed: share its authorities and lists instead; NULL: read them */
	enum tls_verify verify;
	struct str alpn;                    /* protocols in wire form (length, name); NULL: none */
	bool no_tickets;
};

/* ST_INVALID: message (NUL-ended, cut to room) says what is wrong. */
MUST_CHECK enum status tls_ctx_new(const struct tls_options *o, struct tls_ctx **out, char *message, size_t room);
struct tls_ctx *tls_ctx_ref(struct tls_ctx *ctx);
void tls_ctx_unref(struct tls_ctx **ctx);

/* ctx for clients of one host, with its TLSA records (RFC 6698 §2.1; each as uint16 length, rdata). Owned by the caller; the
 * certificate, the policy and the authorities are those of ctx. */
struct tls_ctx *tls_ctx_dane(const struct tls_ctx *ctx, struct str records);

/* Clients that ask for name ("a.example", "*.a.example") get host's certificate and policy. NULL takes the name away. */
void tls_ctx_host(struct tls_ctx *ctx, struct str name, struct tls_ctx *host);

/* tls-server-end-point (RFC 5929 §4.1) of a certificate; those of contexts have it with them. */
struct tls_end_point {
	unsigned n;
	unsigned char bytes[64];
};
bool tls_end_point(const X509 *x, struct tls_end_point *out);

/* By tls.c: the callbacks of a context. */
void tls_ctx_hooks(SSL_CTX *ssl);

/* For tls.c. The context for a server name, with a reference, or NULL: the default is right. */
struct tls_ctx *tls_ctx_find(struct tls_ctx *ctx, const char *name);
SSL_CTX *tls_ctx_ssl(const struct tls_ctx *ctx);
struct str tls_ctx_alpn(const struct tls_ctx *ctx);
struct str tls_ctx_tlsa(const struct tls_ctx *ctx);      /* as given to tls_ctx_dane(); empty: none */
int tls_ctx_verify(const struct tls_ctx *ctx);           /* SSL_VERIFY_… */

#endif
