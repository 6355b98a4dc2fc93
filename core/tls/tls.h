/* SPDX-License-Identifier: MIT */
/* tls.h - one TLS session as a transformer of bytes. It owns no socket and never waits.
 *
 * Thread: the I/O thread that owns the connection.
 * Source: RFC 6120 §5, RFC 7590; channel bindings RFC 5929, RFC 9266; DANE RFC 6698, RFC 7671.
 */
#ifndef COUPLET_TLS_H
#define COUPLET_TLS_H

#include <stdint.h>

#include "base/buf.h"
#include "tls/tls_ctx.h"

struct tls;

/* server_name: what a client asks for, NULL for none (servers: NULL). alpn: protocols in wire form; empty: the context's.
 * alpn_strict: a peer that offers only others is refused (direct TLS, RFC 7590 §3.1, XEP-0368).
 * Owned by the caller, tls_free() gives it back; keeps a reference to ctx. */
struct tls *tls_new(struct tls_ctx *ctx, bool server, const char *server_name, struct str alpn, bool alpn_strict);
void tls_free(struct tls **t);

/* Eats from the front of *wire (which moves on), writes what it decrypts to plain (room must be 16 KiB or more), appends what
 * must be sent to out, also on failure.
 * ST_OK: *got bytes of plain; call again while wire has bytes. ST_AGAIN: wants more wire. ST_CLOSED: the peer said goodbye.
 * ST_INVALID: over; tls_error() says why. */
MUST_CHECK enum status tls_read(struct tls *t, struct str *wire, char *plain, size_t room, size_t *got, struct buf *out);
/* Client role: begins the handshake. */
MUST_CHECK enum status tls_begin(struct tls *t, struct buf *out);
bool tls_ready(const struct tls *t);                  /* the handshake is done */
bool tls_peer_may_wait(const struct tls *t);          /* what ended the handshake wrote nothing but session tickets (RFC 8446 §4.6.1) */
/* Encrypts all of plain. Only when ready. */
MUST_CHECK enum status tls_write(struct tls *t, struct str plain, struct buf *out);
void tls_prefetch(const struct tls *t);               /* it will be written to soon */
void tls_goodbye(struct tls *t, struct buf *out);     /* close_notify */
const char *tls_error(const struct tls *t);           /* after ST_INVALID; static */

/* What Lua may know about a finished handshake, as records: uint32 key, uint32 length, bytes. */
enum tls_key {
	TLS_VERSION = 1, TLS_CIPHER, TLS_BITS /* uint32 */, TLS_ALPN, TLS_SNI, TLS_RESUMED /* empty */,
	TLS_PEER_CERT /* DER */, TLS_PEER_CHAIN /* DER, one each, without the peer's own */, TLS_VERIFY_ERROR /* text */,
	TLS_DANE /* uint32: usage of the TLSA record by which all is well */,
	TLS_UNIQUE, TLS_END_POINT
};
void tls_info(struct tls *t, struct buf *out);
bool tls_resumed(const struct tls *t);

/* RFC 5705. context.p == NULL: none. */
MUST_CHECK enum status tls_export(struct tls *t, struct str label, struct str context, unsigned char *out, size_t n);

#endif
