/* SPDX-License-Identifier: MIT */
/* test_scram.c - SCRAM by itself: the grammar row by row and byte by byte, the examples of RFC 5802, RFC 7677 and XEP-0474, and
 * what a proof must be. With client libraries: test_sasl. */
#include <stdio.h>
#include <stdlib.h>

#include "base/base64.h"
#include "base/mem.h"
#include "check.h"
#include "sasl/mech_scram.h"
#include "sasl/scram_message.h"

/* --- the grammar --- */

#define LONG(c) c c c c c c c c c c c c c c c c
#define LONG256 LONG("0123456789abcdef")

static void first_messages(void)
{
	static const struct { struct str message; const char *name, *authzid, *binding; } rows[] = {
		{ STR("n,,n=user,r=fyko"), "user", NULL, NULL },
		{ STR("y,,n=user,r=fyko"), "user", NULL, NULL },
		{ STR("p=tls-exporter,,n=user,r=fyko"), "user", NULL, "tls-exporter" },
		{ STR("p=A.b-9,,n=user,r=fyko"), "user", NULL, "A.b-9" },
		{ STR("n,a=romeo,n=user,r=fyko"), "user", "romeo", NULL },
		{ STR("n,a=ro=2Cm=3D,n==2C=3Du=3D=2C,r=fyko"), ",=u=,", "ro,m=", NULL },
		{ STR("n,,n=\xc3\xa9lise,r=!+-~=<"), "\xc3\xa9lise", NULL, NULL },
		{ STR("n,,n=user,r=fyko,x=y"), "user", NULL, NULL },              /* §5.1: passed over */
		{ STR("n,,n=user,r=fyko,z=a=b,X=\xe2\x82\xac"), "user", NULL, NULL },
		{ STR("n,,n=\x01 \x7f,r=x"), "\x01 \x7f", NULL, NULL },           /* value-safe-char; nodeprep has its own opinion */
		{ STR("n,,n=user,r=" LONG256 LONG256), "user", NULL, NULL },
	};
	for (int i = 0; i < COUNT(rows); i++) {
		struct scram_first m;
		char name[64];
		size_t n;
		CHECK_ROW(i, scram_read_first(rows[i].message, &m) == ST_OK);
		CHECK_ROW(i, m.flag == rows[i].message.p[0]);
		CHECK_ROW(i, !scram_name(m.name, name, sizeof name, &n) && str_eq((struct str){ name, n }, str_of(rows[i].name)));
		CHECK_ROW(i, str_is(m.binding, rows[i].binding));
		if (rows[i].authzid)
			CHECK_ROW(i, !scram_name(m.authzid, name, sizeof name, &n) && str_eq((struct str){ name, n }, str_of(rows[i].authzid)));
		else
			CHECK_ROW(i, !m.authzid.p);
		CHECK_ROW(i, m.gs2.p == rows[i].message.p && m.gs2.n + m.bare.n == rows[i].message.n && m.bare.p[0] == 'n');
		CHECK_ROW(i, m.gs2.p[m.gs2.n - 1] == ',' && m.bare.p == m.gs2.p + m.gs2.n);
	}
}

static void wrong_first_messages(void)
{
	static const struct str rows[] = {
		STR(""), STR("n"), STR("n,"), STR("n,,"), STR("n,,n"), STR("n,,n="), STR("n,,n=user"), STR("n,,n=user,"), STR("n,,n=user,r"),
		STR("n,,n=user,r="), STR(",,n=user,r=x"), STR("x,,n=user,r=x"), STR("N,,n=user,r=x"), STR("nn,,n=user,r=x"),
		STR("F,n,,n=user,r=x"),                                            /* gs2-nonstd-flag: not for SCRAM (§4) */
		STR("n=,,n=user,r=x"), STR("y=x,,n=user,r=x"),
		STR("p,,n=user,r=x"), STR("p=,,n=user,r=x"), STR("p=tls_x,,n=user,r=x"), STR("p=a b,,n=user,r=x"), STR("p=\xc3\xa9,,n=user,r=x"),
		STR("p=" LONG("abcd") "e,,n=user,r=x"),                            /* a name of 65 bytes */
		STR("n,b=x,n=user,r=x"), STR("n,a=,n=user,r=x"), STR("n,a,n=user,r=x"), STR("n,A=x,n=user,r=x"), STR("n,x,n=user,r=x"),
		STR("n,a=x,a=x,n=user,r=x"), STR("n,n=user,r=x"),
		STR("n,,m=x,n=user,r=x"), STR("n,,n=user,m=x,r=x"), STR("n,,n=user,r=x,m=x"), STR("n,,n=user,r=x,y=1,m=x"),     /* §5.1 */
		STR("n,,r=x,n=user"), STR("n,,N=user,r=x"), STR("n,,n=user,R=x"), STR("n,,x=1,n=user,r=x"),                 /* the order is fixed */
		STR("n,,n=user,r=x,"), STR("n,,n=user,r=x,,"), STR("n,,n=user,r=x,y"), STR("n,,n=user,r=x,y="), STR("n,,n=user,r=x,=y"),
		STR("n,,n=user,r=x,1=y"), STR("n,,n=user,r=x,yy=y"), STR("n,,n=user,r=x,,y=1"),
		STR("n,,n=user,r=x,r=y"), STR("n,,n=user,r=x,n=y"), STR("n,,n=user,r=x,p=y"), STR("n,,n=user,r=x,a=y"), STR("n,,n=user,r=x,c=y"),
		STR("n,,n=user,r=a b"), STR("n,,n=user,r=\x7f"), STR("n,,n=user,r=\xc3\xa9"), STR("n,,n=user,r=\t"),
		STR("n,,n=user,r=x" LONG256 LONG256),                              /* one byte too long */
		STR("n,,n=us\0er,r=x"), STR("n,,n=user,r=x\0"), STR("n,,n=user,r=x,y=\0"), STR("\0n,,n=user,r=x"),
		STR("n,,n=\xff,r=x"), STR("n,,n=\xc0\x80,r=x"), STR("n,,n=\xed\xa0\x80,r=x"), STR("n,,n=user,r=x,y=\xc3"),
		STR(" n,,n=user,r=x"), STR("n,,n=user,r=x "), STR("n, ,n=user,r=x"),
	};
	for (int i = 0; i < COUNT(rows); i++) {
		struct scram_first m;
		CHECK_ROW(i, scram_read_first(rows[i], &m) == ST_INVALID);
	}
}

static void names(void)
{
	static const struct { const char *text; size_t room; const char *want; } rows[] = {
		{ "user", 4, "user" },   { "user", 3, NULL },     { "=2C", 1, "," },       { "=3D", 1, "=" },
		{ "a=2Cb", 3, "a,b" },   { "=3D2C", 8, "=2C" },   { "=2c", 8, NULL },      { "=3d", 8, NULL },
		{ "=", 8, NULL },        { "=2", 8, NULL },       { "=3", 8, NULL },       { "==", 8, NULL },
		{ "a=", 8, NULL },       { "=41", 8, NULL },      { "=2D", 8, NULL },      { "", 8, NULL },
		{ "=2C=2C", 1, NULL },
	};
	for (int i = 0; i < COUNT(rows); i++) {
		char *out = mem_alloc(rows[i].room);               /* exactly: one byte too many shows */
		size_t n = 0;
		enum status st = scram_name(str_of(rows[i].text), out, rows[i].room, &n);
		CHECK_ROW(i, st == (rows[i].want ? ST_OK : ST_INVALID));
		if (!st)
			CHECK_ROW(i, str_eq((struct str){ out, n }, str_of(rows[i].want)));
		free(out);
	}
}

static void final_messages(void)
{
	static const struct { struct str message; const char *cbind, *nonce, *proof, *without; } rows[] = {
		{ STR("c=biws,r=ab,p=eA=="), "biws", "ab", "eA==", "c=biws,r=ab" },
		{ STR("c=biws,r=ab,x=y,p=eA=="), "biws", "ab", "eA==", "c=biws,r=ab,x=y" },
		{ STR("c=biws,r=ab,x=p=y,z=\xc3\xa9,p=?"), "biws", "ab", "?", "c=biws,r=ab,x=p=y,z=\xc3\xa9" },
	};
	static const struct str wrong[] = {
		STR(""), STR("c"), STR("c="), STR("c=x"), STR("c=x,"), STR("c=x,r"), STR("c=x,r="), STR("c=x,r=y"), STR("c=x,r=y,"), STR("c=x,r=y,p"),
		STR("c=x,r=y,p="), STR("c=x,r=y,p=z,"), STR("c=x,r=y,p=z,x=y"), STR("c=x,r=y,p=z,p=z"), STR("c=x,p=z"), STR("c=x,p=z,r=y"),
		STR("r=y,c=x,p=z"), STR("c=,r=y,p=z"), STR("C=x,r=y,p=z"), STR("c=x,R=y,p=z"), STR("c=x,r=y,P=z"), STR("x=y,c=x,r=y,p=z"),
		STR("c=x,x=y,r=y,p=z"), STR("c=x,r=y,m=1,p=z"), STR("m=1,c=x,r=y,p=z"), STR("c=x,r=y,r=y,p=z"), STR("c=x,r=y,c=x,p=z"),
		STR("c=x,r=y,,p=z"), STR("c=x,r=y,x,p=z"), STR("c=x,r=y,x=,p=z"), STR("c=x,r=y z,p=z"), STR("c=x,r=\xc3\xa9,p=z"),
		STR("c=x,r=y,p=z\0"), STR("c=x,r=y,z=\0,p=z"), STR("c=x,r=y,z=\xff,p=z"), STR(" c=x,r=y,p=z"), STR("n,,n=user,r=x"),
	};
	for (int i = 0; i < COUNT(rows); i++) {
		struct scram_final m;
		CHECK_ROW(i, scram_read_final(rows[i].message, &m) == ST_OK);
		CHECK_ROW(i, str_is(m.cbind, rows[i].cbind) && str_is(m.nonce, rows[i].nonce) && str_is(m.proof, rows[i].proof));
		CHECK_ROW(i, str_is(m.without_proof, rows[i].without));
	}
	for (int i = 0; i < COUNT(wrong); i++) {
		struct scram_final m;
		CHECK_ROW(i, scram_read_final(wrong[i], &m) == ST_INVALID);
	}
}

/* --- exchanges --- */

static const struct example {
	const char *digest, *salt;              /* in base64 */
	struct scram_channel channel;
	const char *first, *nonce, *challenge, *final, *success;
} examples[] = {
	{ "sha1", "QSXCR+Q6sek8bf92", { 0 },                                        /* RFC 5802 §5 */
		"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL", "3rfcNHYJY1ZVvWVs7j",
		"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
		"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
		"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=" },
	{ "sha256", "W22ZaJ0SNY7soEsUEjb6gQ==", { 0 },                              /* RFC 7677 §3 */
		"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
		"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
		"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
		"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=" },
	{ "sha1", "QSXCR+Q6sek8bf92",                                               /* XEP-0474 §5.3: bound, with an extension each way */
		{ .plus = true, .offered = true, .type = STR("tls-exporter"), .data = STR("THIS IS FAKE CB DATA"),
			.advertised = STR("SCRAM-SHA-1\x1eSCRAM-SHA-1-PLUS\x1ftls-exporter\x1etls-server-end-point") },
		"p=tls-exporter,,n=user,r=12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6", "a09117a6-ac50-4f2f-93f1-93799c2bddf6",
		"r=12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6a09117a6-ac50-4f2f-93f1-93799c2bddf6,s=QSXCR+Q6sek8bf92,i=4096,"
		"h=G6k/rBLDqgOhRRaCuuatSDFkJ08=",
		"c=cD10bHMtZXhwb3J0ZXIsLFRISVMgSVMgRkFLRSBDQiBEQVRB,r=12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6a09117a6-ac50-4f2f-93f1-93799c2bddf6,"
		"x=19C6532F-1CF4-4A27-A18D-DC9CEA41BBB3,p=M/SIDjT+dfcxUh89jZEypRvFxB4=",
		"v=MQrMPvv7yv4x4Cq4W4Ih25EqS2c=" },
};

static void key_of(const struct example *e, struct scram_key *key)
{
	struct buf salt = { 0 };
	if (base64_decode(str_of(e->salt), &salt) ||
			scram_derive(digest_find(str_of(e->digest)), STR("pencil"), buf_str(&salt), 4096, key))
		abort();
	buf_free(&salt);
}

static int challenge(const struct example *e, const struct scram_key *key, struct scram *s)
{
	return scram_challenge(s, str_of(e->first), &e->channel, key, str_of(e->nonce));
}

static void the_examples(void)
{
	for (int i = 0; i < COUNT(examples); i++) {
		const struct example *e = &examples[i];
		struct scram s = { 0 };
		struct scram_key key;
		key_of(e, &key);
		CHECK_ROW(i, challenge(e, &key, &s) == SASL_CONTINUE && str_is(buf_str(&s.answer), e->challenge));
		CHECK_ROW(i, scram_verify(&s, str_of(e->final), &key) == SASL_OK && str_is(buf_str(&s.answer), e->success));
		scram_wipe(&s);
	}
}

/* Every byte of the last message counts: changed in any way, cut anywhere, nobody gets in, and nothing is said. */
static void damaged_final(void)
{
	for (int i = 0; i < COUNT(examples); i++) {
		const struct example *e = &examples[i];
		size_t n = strlen(e->final);
		struct scram_key key;
		key_of(e, &key);
		for (size_t at = 0; at < n; at++)
			for (int change = 0; change < 5; change++) {
				struct scram s = { 0 };
				size_t len = change == 0 ? at : n;
				char *exact = mem_alloc(len ? len : 1);
				memcpy(exact, e->final, len);
				if (change)
					exact[at] = change == 1 ? 0 : change == 2 ? (char)(exact[at] ^ 1) : change == 3 ? ',' : (char)(exact[at] ^ 32);
				bool as_it_was = change && exact[at] == e->final[at];
				CHECK_ROW(i, challenge(e, &key, &s) == SASL_CONTINUE);
				int code = scram_verify(&s, (struct str){ exact, len }, &key);
				CHECK_ROW((int)at, (code == SASL_OK) == as_it_was);
				CHECK_ROW((int)at, as_it_was || !s.answer.len);
				scram_wipe(&s);
				free(exact);
			}
	}
}

static void verdicts(void)
{
	static const struct { const char *final; int want; } rows[] = {
		{ "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", SASL_OK },
		{ "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=w0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", SASL_BADAUTH },
		{ "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=AAAAAAAAAAAAAAAAAAAAAAAAAAA=", SASL_BADAUTH },
		{ "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,x=y,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", SASL_BADAUTH },     /* sealed too */
		{ "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Tt=", SASL_BADPROT },         /* stray bits */
		{ "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts", SASL_BADPROT },
		{ "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI", SASL_BADPROT },             /* too short */
		{ "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4TsA", SASL_BADPROT },
		{ "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p= v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", SASL_BADPROT },
		{ "c=biws,r=fyko+d2lbbFgONRv9qkxdawL,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", SASL_BADPROT },                         /* the client's nonce alone */
		{ "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7jx,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", SASL_BADPROT },
		{ "c=eSws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", SASL_BADBINDING },      /* "y,," */
		{ "c=biwsAA==,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", SASL_BADBINDING },  /* data, without 'p' */
		{ "c=biw,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=", SASL_BADBINDING },
	};
	struct scram_key key;
	key_of(&examples[0], &key);
	for (int i = 0; i < COUNT(rows); i++) {
		struct scram s = { 0 };
		CHECK_ROW(i, challenge(&examples[0], &key, &s) == SASL_CONTINUE);
		CHECK_ROW(i, scram_verify(&s, str_of(rows[i].final), &key) == rows[i].want);
		CHECK_ROW(i, (s.answer.len > 0) == (rows[i].want == SASL_OK));
		scram_wipe(&s);
	}
}

/* A client's last message for the password "pencil", over what it has sent and been told. */
static void final_for(const struct scram_key *key, struct str header, struct str bare, struct str first, struct buf *out)
{
	unsigned char salted[DIGEST_MAX], client[DIGEST_MAX], signature[DIGEST_MAX];
	size_t n = digest_size(key->digest), nonce = (size_t)((const char *)memchr(first.p, ',', first.n) - first.p);
	struct buf auth = { 0 };
	struct str salt = { (const char *)key->salt, key->salt_len };
	CHECK(!digest_pbkdf2(key->digest, STR("pencil"), salt, key->iterations, salted, n));
	digest_hmac(key->digest, (struct str){ (char *)salted, n }, STR("Client Key"), client);
	buf_add_text(out, "c=");
	base64_encode(header, out);
	buf_add_char(out, ',');
	buf_add(out, first.p, nonce);
	buf_add_str(&auth, bare);
	buf_add_char(&auth, ',');
	buf_add_str(&auth, first);
	buf_add_char(&auth, ',');
	buf_add_str(&auth, buf_str(out));
	digest_hmac(key->digest, (struct str){ (const char *)key->stored, n }, buf_str(&auth), signature);
	for (size_t i = 0; i < n; i++)
		client[i] ^= signature[i];
	buf_add_text(out, ",p=");
	base64_encode((struct str){ (char *)client, n }, out);
	buf_free(&auth);
}

/* What was right once is wrong everywhere else: with another nonce of ours, with another header, for another account. */
static void other_exchanges(void)
{
	static const struct { const char *first, *nonce, *salt; bool own_nonce; int want; } rows[] = {
		{ "n,a=user,n=user,r=abcd", "efgh", "salt", false, SASL_OK },
		{ "n,a=user,n=user,r=abcd", "efgi", "salt", false, SASL_BADPROT },          /* replayed */
		{ "n,a=user,n=user,r=abcd", "efgi", "salt", true, SASL_BADAUTH },           /* and made to fit */
		{ "n,a=user,n=user,r=abce", "efgh", "salt", true, SASL_BADAUTH },
		{ "n,,n=user,r=abcd", "efgh", "salt", false, SASL_BADBINDING },
		{ "n,a=User,n=user,r=abcd", "efgh", "salt", false, SASL_BADBINDING },
		{ "y,a=user,n=user,r=abcd", "efgh", "salt", false, SASL_BADBINDING },
		{ "n,a=user,n=User,r=abcd", "efgh", "salt", false, SASL_BADAUTH },
		{ "n,a=user,n=user,r=abcd,x=y", "efgh", "salt", false, SASL_BADAUTH },
		{ "n,a=user,n=user,r=abcd", "efgh", "SALT", false, SASL_BADAUTH },          /* the password was set anew, or of another */
	};
	struct scram_channel channel = { 0 };
	for (int i = 0; i < COUNT(rows); i++) {
		struct scram s = { 0 }, own = { 0 };
		struct scram_key key, own_key;
		struct buf final = { 0 };
		CHECK(!scram_derive(digest_find(STR("sha256")), STR("pencil"), STR("salt"), 64, &own_key));
		CHECK(!scram_derive(digest_find(STR("sha256")), STR("pencil"), str_of(rows[i].salt), 64, &key));
		CHECK(scram_challenge(&own, str_of(rows[0].first), &channel, &own_key, str_of(rows[0].nonce)) == SASL_CONTINUE);
		CHECK_ROW(i, scram_challenge(&s, str_of(rows[i].first), &channel, &key, str_of(rows[i].nonce)) == SASL_CONTINUE);
		final_for(&own_key, STR("n,a=user,"), STR("n=user,r=abcd"), buf_str(&own.server_first), &final);
		if (rows[i].own_nonce) {                /* both nonces are as long as each other */
			char *at = memchr(buf_data(&final), ',', final.len);
			memcpy(at + 3, buf_data(&s.nonce), s.nonce.len);
		}
		CHECK_ROW(i, scram_verify(&s, buf_str(&final), &key) == rows[i].want);
		CHECK_ROW(i, (s.answer.len > 0) == (rows[i].want == SASL_OK));
		buf_free(&final);
		scram_wipe(&own);
		scram_wipe(&s);
	}
}

/* RFC 5802 §6. */
static void channels(void)
{
	static const struct { const char *flag; struct scram_channel channel; int want; } rows[] = {
		{ "n", { 0 }, SASL_CONTINUE },
		{ "n", { .offered = true, .type = STR("t"), .data = STR("x") }, SASL_CONTINUE },       /* the client cannot */
		{ "y", { 0 }, SASL_CONTINUE },
		{ "y", { .offered = true }, SASL_BADPROT },                                         /* it was told that we can */
		{ "y", { .plus = true, .offered = true, .type = STR("t"), .data = STR("x") }, SASL_BADPROT },
		{ "n", { .plus = true, .offered = true, .type = STR("t"), .data = STR("x") }, SASL_BADPROT },
		{ "p=t", { .plus = true, .offered = true, .type = STR("t"), .data = STR("x") }, SASL_CONTINUE },
		{ "p=t", { .offered = true, .type = STR("t"), .data = STR("x") }, SASL_BADPROT },      /* without -PLUS */
		{ "p=t", { .plus = true, .offered = true, .type = STR("u"), .data = STR("x") }, SASL_BADPROT },
		{ "p=t", { .plus = true, .offered = true, .type = STR("t") }, SASL_BADPROT },
		{ "p=t", { .plus = true, .offered = true }, SASL_BADPROT },
	};
	struct scram_key key;
	key_of(&examples[0], &key);
	for (int i = 0; i < COUNT(rows); i++) {
		struct scram s = { 0 };
		char message[64];
		snprintf(message, sizeof message, "%s,,n=user,r=abcd", rows[i].flag);
		CHECK_ROW(i, scram_challenge(&s, str_of(message), &rows[i].channel, &key, STR("efgh")) == rows[i].want);
		CHECK_ROW(i, (rows[i].want == SASL_CONTINUE) == (s.answer.len > 0) && (rows[i].want == SASL_CONTINUE) == !s.text.p);
		scram_wipe(&s);
	}
}

/* Somebody else's attributes behind ours are sealed as ours are; nothing of ours can be changed. */
static void amended(void)
{
	const struct example *e = &examples[0];
	struct scram s = { 0 };
	struct scram_key key;
	char text[128];
	key_of(e, &key);
	CHECK(scram_amend(&s, STR("x")) == ST_INVALID);                 /* nothing was said yet */
	CHECK(challenge(e, &key, &s) == SASL_CONTINUE);
	CHECK(scram_amend(&s, str_of(e->challenge)) == ST_INVALID);
	CHECK(scram_amend(&s, STR("")) == ST_INVALID);
	snprintf(text, sizeof text, "%s0", e->challenge);               /* ten times the iterations */
	CHECK(scram_amend(&s, str_of(text)) == ST_INVALID);
	snprintf(text, sizeof text, "%s,d=x", e->challenge);
	text[3] ^= 1;
	CHECK(scram_amend(&s, str_of(text)) == ST_INVALID);
	text[3] ^= 1;
	CHECK(scram_amend(&s, str_of(text)) == ST_OK);
	CHECK(scram_verify(&s, str_of(e->final), &key) == SASL_BADAUTH);        /* a proof for what was not sent */
	scram_wipe(&s);
}

int main(void)
{
	RUN(first_messages);
	RUN(wrong_first_messages);
	RUN(names);
	RUN(final_messages);
	RUN(the_examples);
	RUN(damaged_final);
	RUN(verdicts);
	RUN(other_exchanges);
	RUN(channels);
	RUN(amended);
	return check_done();
}
