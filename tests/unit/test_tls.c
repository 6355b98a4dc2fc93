/* SPDX-License-Identifier: MIT */
/* TLS sessions without sockets: two halves that talk through buffers, whole, byte by byte, and cut anywhere. */
#include "tls/tls.h"

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>

#include "check.h"
#include "net/zip.h"
#include "tls/tls_make.h"

static struct buf certificate, key;

static struct tls_ctx *context(bool server, const char *max_version)
{
	struct tls_options o = { .max_version = max_version };
	char message[128] = "";
	if (server) {
		buf_add_char(&certificate, '\0');
		buf_add_char(&key, '\0');
		o.certificate = buf_data(&certificate);
		o.key = buf_data(&key);
	}
	struct tls_ctx *ctx = NULL;
	enum status st = tls_ctx_new(&o, &ctx, message, sizeof message);
	CHECK(st == ST_OK);
	if (st)
		printf("%s\n", message);
	if (server) {
		certificate.len--;
		key.len--;
	}
	return ctx;
}

/* Moves up to n bytes from one half's wire into the other, and what they decrypt to plain. */
static enum status move(struct tls *to, struct buf *wire, size_t n, struct buf *plain, struct buf *answer)
{
	static char room[16384];
	if (n > wire->len)
		n = wire->len;
	struct str bytes = { buf_data(wire), n };
	enum status st;
	size_t got;
	while ((st = tls_read(to, &bytes, room, sizeof room, &got, answer)) == ST_OK)
		buf_add(plain, room, got);
	if (st == ST_AGAIN)
		CHECK(bytes.n == 0);
	buf_eat(wire, n);
	return st;
}

/* Until neither has anything to say. row: of the caller's table. */
static void shake(int row, struct tls *c, struct tls *s, struct buf *plain)
{
	struct buf up = { 0 }, down = { 0 };
	CHECK_ROW(row, tls_begin(c, &up) == ST_OK);
	while (up.len || down.len) {
		if (up.len)
			CHECK_ROW(row, move(s, &up, SIZE_MAX, plain, &down) == ST_AGAIN);
		if (down.len)
			CHECK_ROW(row, move(c, &down, SIZE_MAX, plain, &up) == ST_AGAIN);
	}
	buf_free(&up);
	buf_free(&down);
}

static void talk(size_t step, const char *version)
{
	struct tls_ctx *sctx = context(true, version), *cctx = context(false, NULL);
	struct tls *s = tls_new(sctx, true, NULL, STR("\3abc"), true);
	struct tls *c = tls_new(cctx, false, "localhost", STR("\3xyz\3abc"), false);
	struct buf up = { 0 }, down = { 0 }, at_s = { 0 }, at_c = { 0 }, text = { 0 }, info = { 0 };
	CHECK(tls_begin(c, &up) == ST_OK);
	for (int i = 0; i < 200000 && (up.len || down.len); i++) {
		if (up.len)
			CHECK(move(s, &up, step, &at_s, &down) == ST_AGAIN);
		if (down.len)
			CHECK(move(c, &down, step, &at_c, &up) == ST_AGAIN);
	}
	CHECK(tls_ready(s) && tls_ready(c));
	for (int i = 0; i < 40000; i++)
		buf_add_char(&text, (char)i);
	CHECK(tls_write(c, buf_str(&text), &up) == ST_OK);
	while (up.len)
		CHECK(move(s, &up, step, &at_s, &down) == ST_AGAIN);
	CHECK(str_eq(buf_str(&at_s), buf_str(&text)));
	tls_info(s, &info);
	CHECK(info.len > 50);
	unsigned char a[32], b[32];
	CHECK(tls_export(s, STR("EXPERIMENTAL"), STR("x"), a, 32) == ST_OK && tls_export(c, STR("EXPERIMENTAL"), STR("x"), b, 32) == ST_OK);
	CHECK(!memcmp(a, b, 32));
	/* goodbye, and nothing can be read any more */
	tls_goodbye(c, &up);
	enum status st = ST_AGAIN;
	while (up.len && st == ST_AGAIN)
		st = move(s, &up, step, &at_s, &down);
	CHECK(st == ST_CLOSED);
	tls_free(&s);
	tls_free(&c);
	tls_ctx_unref(&sctx);
	tls_ctx_unref(&cctx);
	buf_free(&up), buf_free(&down), buf_free(&at_s), buf_free(&at_c), buf_free(&text), buf_free(&info);
}

static void whole(void)
{
	talk(SIZE_MAX, "TLSv1.3");
	talk(SIZE_MAX, "TLSv1.2");
}

static void byte_by_byte(void)
{
	talk(1, "TLSv1.3");
	talk(1, "TLSv1.2");
}

static void cut(void)
{
	static const size_t steps[] = { 2, 3, 5, 64, 1000, 16384, 17000 };
	for (int i = 0; i < COUNT(steps); i++)
		talk(steps[i], i % 2 ? "TLSv1.2" : "TLSv1.3");
}

/* What tls_info() says of it: how often, and the last value. */
static int said(const struct buf *info, enum tls_key what, struct str *value)
{
	int count = 0;
	for (struct str left = buf_str(info); left.n;) {
		uint32_t head[2];
		memcpy(head, left.p, sizeof head);
		if (head[0] == what) {
			count++;
			*value = (struct str){ left.p + sizeof head, head[1] };
		}
		left = (struct str){ left.p + sizeof head + head[1], left.n - sizeof head - head[1] };
	}
	return count;
}

static void add_record(struct buf *records, const char *numbers, struct str data)
{
	uint16_t n = (uint16_t)(3 + data.n);
	buf_add(records, &n, sizeof n);
	for (int i = 0; i < 3; i++)
		buf_add_char(records, (char)(numbers[i] - '0'));
	buf_add(records, data.p, data.n);
}

/* RFC 6698 §2.1: usage, selector, matching type; s: the self-made certificate of the server, which no authority vouches for. */
static void dane(void)
{
	BIO *bio = BIO_new_mem_buf(buf_data(&certificate), (int)certificate.len);
	X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	EVP_PKEY *public = X509_get0_pubkey(x);
	unsigned char *der = NULL, *spki = NULL, hash[EVP_MAX_MD_SIZE];
	int der_n = i2d_X509(x, &der), spki_n = i2d_PUBKEY(public, &spki);
	struct str cert = { (char *)der, (size_t)der_n }, key_info = { (char *)spki, (size_t)spki_n }, none = { NULL, 0 };
	struct { const char *numbers; struct str data; const char *hash; int usage; const char *error; } rows[] = {
		{ "311", key_info, "SHA256", 3, NULL },
		{ "301", cert, "SHA256", 3, NULL },
		{ "312", key_info, "SHA512", 3, NULL },
		{ "300", cert, NULL, 3, NULL },
		{ "310", key_info, NULL, 3, NULL },
		{ "311", cert, "SHA256", -1, "no matching DANE TLSA records" },
		{ "111", key_info, "SHA256", -1, "self-signed certificate" },      /* authorities are asked as well */
		{ "011", key_info, "SHA256", -1, "self-signed certificate" },
		{ "211", key_info, "SHA256", -1, "self-signed certificate" },      /* an authority is not the server itself */
		{ "911", key_info, "SHA256", -1, "self-signed certificate" },      /* unknown: as without records */
		{ "391", key_info, "SHA256", -1, "self-signed certificate" },
		{ "311", STR("short"), NULL, -1, "self-signed certificate" },
		{ "311", none, NULL, -1, "self-signed certificate" },
	};
	struct tls_ctx *sctx = context(true, NULL), *plain = NULL;
	struct tls_options o = { .verify = TLS_VERIFY_REQUEST };
	char message[128];
	CHECK(tls_ctx_new(&o, &plain, message, sizeof message) == ST_OK);
	for (int i = 0; i < COUNT(rows); i++) {
		struct buf records = { 0 }, rest = { 0 }, info = { 0 };
		struct str data = rows[i].data, value = { "", 0 };
		unsigned n;
		if (rows[i].hash) {
			EVP_Digest(data.p, data.n, hash, &n, EVP_get_digestbyname(rows[i].hash), NULL);
			data = (struct str){ (char *)hash, n };
		}
		add_record(&records, rows[i].numbers, data);
		struct tls_ctx *cctx = tls_ctx_dane(plain, buf_str(&records));
		struct tls *s = tls_new(sctx, true, NULL, none, false), *c = tls_new(cctx, false, "other.example", none, false);
		shake(i, c, s, &rest);
		CHECK_ROW(i, tls_ready(c));
		tls_info(c, &info);
		uint32_t usage = UINT32_MAX;
		if (said(&info, TLS_DANE, &value))
			memcpy(&usage, value.p, sizeof usage);
		CHECK_ROW(i, (int)usage == rows[i].usage);
		int errors = said(&info, TLS_VERIFY_ERROR, &value);
		CHECK_ROW(i, !errors == !rows[i].error);
		CHECK_ROW(i, !rows[i].error || (value.n > 2 && str_eq((struct str){ value.p + 2, value.n - 2 }, str_of(rows[i].error))));
		tls_free(&s), tls_free(&c);
		tls_ctx_unref(&cctx);
		buf_free(&records), buf_free(&rest), buf_free(&info);
	}
	tls_ctx_unref(&sctx), tls_ctx_unref(&plain);
	OPENSSL_free(der), OPENSSL_free(spki);
	X509_free(x);
	BIO_free(bio);
}

static void garbage(void)
{
	static const char *const rows[] = { "<stream:stream>", "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\xff\xff\x01", "\x80\x80\x01\x03\x01",
		"\x16\x03\x01\x00\x05\x01\xff\xff\xff\xff" };
	struct tls_ctx *ctx = context(true, NULL);
	for (int i = 0; i < COUNT(rows); i++) {
		struct tls *s = tls_new(ctx, true, NULL, (struct str){ NULL, 0 }, false);
		struct buf in = { 0 }, plain = { 0 }, out = { 0 };
		buf_add_text(&in, rows[i]);
		while (in.len < 40)
			buf_add_char(&in, 'x');
		enum status st = move(s, &in, SIZE_MAX, &plain, &out);
		CHECK_ROW(i, st == ST_INVALID || i == 2 || i == 3);    /* long records: wait for the rest */
		CHECK_ROW(i, !tls_ready(s));
		CHECK_ROW(i, st != ST_INVALID || *tls_error(s));
		tls_free(&s);
		buf_free(&in), buf_free(&plain), buf_free(&out);
	}
	tls_ctx_unref(&ctx);
}

static void compressed(void)
{
	struct zip *a = zip_new(), *b = zip_new();
	struct buf wire = { 0 }, back = { 0 }, text = { 0 };
	char room[512];
	for (int i = 0; i < 20; i++) {
		buf_free(&text);
		for (int j = 0; j < i * 300; j++)
			buf_add_char(&text, (char)(j * i));
		zip_deflate(a, buf_str(&text), &wire);
		buf_eat(&back, back.len);
		while (wire.len) {                                     /* byte by byte */
			struct str in = { buf_data(&wire), 1 };
			size_t got = sizeof room;
			while (in.n || got == sizeof room) {
				CHECK_ROW(i, zip_inflate(b, &in, room, sizeof room, &got) == ST_OK);
				buf_add(&back, room, got);
			}
			buf_eat(&wire, 1);
		}
		CHECK_ROW(i, str_eq(buf_str(&back), buf_str(&text)));
	}
	struct str in = STR("no zlib data at all");
	size_t got;
	struct zip *c = zip_new();
	CHECK(zip_inflate(c, &in, room, sizeof room, &got) == ST_INVALID);
	zip_free(&a), zip_free(&b), zip_free(&c);
	buf_free(&wire), buf_free(&back), buf_free(&text);
}

/* --- channel bindings --- */

static SSL_SESSION *kept;               /* what the client resumes, or keeps if there is none yet */

static void keep_session(const SSL *ssl, int where, int value)
{
	(void)value;
	if ((where & SSL_CB_HANDSHAKE_START) && kept)
		SSL_set_session((SSL *)ssl, kept);
	if ((where & SSL_CB_HANDSHAKE_DONE) && !kept)
		kept = SSL_SESSION_dup(SSL_get_session(ssl));    /* that one ends with its connection */
}

/* RFC 9266 §2, as login.lua asks for it. */
static bool exporter(struct tls *t, unsigned char *out)
{
	return tls_export(t, STR("EXPORTER-Channel-Binding"), (struct str){ "", 0 }, out, 32) == ST_OK;
}

/* RFC 5929 §3, §4; RFC 9266 §2; RFC 7677 §4: both sides have the same ones, and only where they are safe. */
static void bindings(void)
{
	static const struct { const char *version; uint64_t without; bool unique; } rows[] = {
		{ "TLSv1.3", 0, false },                                              /* RFC 9266: no tls-unique there */
		{ "TLSv1.2", 0, true },
		{ "TLSv1.2", SSL_OP_NO_EXTENDED_MASTER_SECRET, false },        /* RFC 7677 §4: two sessions could share it */
	};
	for (int i = 0; i < COUNT(rows); i++) {
		struct tls_ctx *sctx = context(true, rows[i].version), *cctx = context(false, NULL);
		unsigned char before[32] = { 0 }, one[32], two[32];
		SSL_CTX_set_options(tls_ctx_ssl(cctx), rows[i].without);
		SSL_CTX_set_info_callback(tls_ctx_ssl(cctx), keep_session);
		for (int resumed = 0; resumed < 2; resumed++) {
			struct tls *s = tls_new(sctx, true, NULL, STR(""), true), *c = tls_new(cctx, false, "localhost", STR(""), false);
			struct buf plain = { 0 }, at_s = { 0 }, at_c = { 0 };
			struct str ours = { 0 }, theirs = { 0 };
			shake(resumed, c, s, &plain);
			tls_info(s, &at_s);
			tls_info(c, &at_c);
			if (rows[i].unique)                             /* the session is there before the handshake is over */
				CHECK_ROW(i, said(&at_s, TLS_RESUMED, &ours) == resumed && tls_resumed(c) == resumed);
			CHECK_ROW(i, exporter(s, one) && exporter(c, two) && !memcmp(one, two, 32) && memcmp(one, before, 32) != 0);
			memcpy(before, one, 32);
			CHECK_ROW(i, said(&at_s, TLS_UNIQUE, &ours) == rows[i].unique && said(&at_c, TLS_UNIQUE, &theirs) == rows[i].unique);
			if (rows[i].unique)
				CHECK_ROW(i, ours.n == 12 && str_eq(ours, theirs));
			CHECK_ROW(i, said(&at_s, TLS_END_POINT, &ours) == 1 && said(&at_c, TLS_END_POINT, &theirs) == 1 && str_eq(ours, theirs));
			tls_free(&s), tls_free(&c);
			buf_free(&plain), buf_free(&at_s), buf_free(&at_c);
		}
		SSL_SESSION_free(kept);
		kept = NULL;
		tls_ctx_unref(&sctx), tls_ctx_unref(&cctx);
	}
}

/* RFC 5929 §4.1: which hash of the certificate tls-server-end-point is. */
static void end_points(void)
{
	static const struct { const char *curve, *digest, *want; } rows[] = {
		{ "P-256", "SHA256", "SHA256" }, { "P-256", "SHA384", "SHA384" }, { "P-256", "SHA512", "SHA512" },
		{ "P-256", "SHA1", "SHA256" },
		{ NULL, NULL, "SHA256" },                       /* Ed25519 has none of its own */
	};
	struct buf old_certificate = certificate, old_key = key;
	for (int i = 0; i < COUNT(rows); i++) {
		BIO *bio = BIO_new_mem_buf(buf_data(&old_certificate), (int)old_certificate.len);
		X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);
		EVP_PKEY *pair = rows[i].curve ? EVP_PKEY_Q_keygen(NULL, NULL, "EC", rows[i].curve) : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
		X509_set_pubkey(x, pair);
		CHECK_ROW(i, X509_sign(x, pair, rows[i].digest ? EVP_get_digestbyname(rows[i].digest) : NULL) > 0);
		BIO *cert_out = BIO_new(BIO_s_mem()), *key_out = BIO_new(BIO_s_mem());
		PEM_write_bio_X509(cert_out, x);
		PEM_write_bio_PrivateKey(key_out, pair, NULL, NULL, 0, NULL, NULL);
		char *p;
		long n = BIO_get_mem_data(cert_out, &p);
		certificate = key = (struct buf){ 0 };
		buf_add(&certificate, p, (size_t)n);
		n = BIO_get_mem_data(key_out, &p);
		buf_add(&key, p, (size_t)n);
		struct tls_ctx *sctx = context(true, NULL), *cctx = context(false, NULL);
		struct tls *s = tls_new(sctx, true, NULL, STR(""), true), *c = tls_new(cctx, false, "localhost", STR(""), false);
		struct buf plain = { 0 }, info = { 0 };
		struct str got = { 0 };
		unsigned char want[EVP_MAX_MD_SIZE];
		unsigned want_n = 0;
		shake(i, c, s, &plain);
		tls_info(s, &info);
		X509_digest(x, EVP_get_digestbyname(rows[i].want), want, &want_n);
		CHECK_ROW(i, said(&info, TLS_END_POINT, &got) == 1 && str_eq(got, (struct str){ (char *)want, want_n }));
		tls_free(&s), tls_free(&c), tls_ctx_unref(&sctx), tls_ctx_unref(&cctx);
		buf_free(&plain), buf_free(&info), buf_free(&certificate), buf_free(&key);
		BIO_free(bio), BIO_free(cert_out), BIO_free(key_out), X509_free(x), EVP_PKEY_free(pair);
	}
	certificate = old_certificate, key = old_key;
}

int main(void)
{
	static const char *const names[] = { "localhost" };
	struct str name = str_of(names[0]);
	CHECK(tls_make(&name, 1, 2, &certificate, &key) == ST_OK);
	RUN(whole);
	RUN(byte_by_byte);
	RUN(cut);
	RUN(dane);
	RUN(garbage);
	RUN(compressed);
	RUN(bindings);
	RUN(end_points);
	buf_free(&certificate);
	buf_free(&key);
	return check_done();
}
