/* SPDX-License-Identifier: MIT */
/* test_sasl.c - the server's side of SASL against two client libraries (Cyrus' own and libgsasl), messages written by hand,
 * and eight threads at once. */
#include <gsasl.h>
#include <pthread.h>
#include <sasl/sasl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/digest.h"
#include "base/mem.h"
#include "check.h"
#include "sasl/cyrus.h"
#include "sasl/exchange.h"
#include "sasl/sasl_peek.h"

#define HOST "capulet.example"
#define PASSWORD "O Romeo, Romeo!"

/* --- the server: a store with one good, one disabled account, and what a session does with an exchange --- */

struct server {
	struct exchange *x;
	struct str mech;
	const char *type, *data;                /* the channel binding of this connection */
	const char *advertised;                 /* what the client was told, for the hash; or NULL */
	bool offered, external;
	bool had_credentials;
	struct exchange_answer answer;
};

static const struct str secret = { "a secret of this server", 23 };

static void look_up(struct server *s, struct str name, struct credentials *c)
{
	memset(c, 0, sizeof *c);
	memcpy(c->name, name.p, name.n);
	c->account = str_is(name, "juliet") ? ACCOUNT_ENABLED : str_is(name, "tybalt") ? ACCOUNT_DISABLED : ACCOUNT_UNKNOWN;
	c->secret = secret;
	c->iterations = 16;
	if (c->account == ACCOUNT_UNKNOWN)
		return;
	const struct digest *d = scram_digest(s->mech);
	if (d && scram_derive(d, STR(PASSWORD), STR("some salt"), 16, &c->key))
		abort();
	char text[200];
	int n = snprintf(text, sizeof text, "%s:%s:%s", c->name, HOST, PASSWORD);
	digest_sum(digest_find(STR("md5")), (struct str){ text, (size_t)n }, c->ha1);
	c->has_ha1 = true;
}

static void server_start(struct server *s, const char *mech)
{
	s->mech = str_of(mech);
	s->had_credentials = false;
	if (exchange_new(s->mech, STR(HOST), &s->x))
		abort();
	if (!scram_digest(s->mech))
		return;
	exchange_bind(s->x, str_of(s->type), str_of(s->data));
	exchange_offer(s->x, s->offered, str_of(s->advertised));
}

static enum exchange_result server_step(struct server *s, struct str message)
{
	struct credentials c;
	struct sasl_peek peek;
	bool have = false;
	if (message.p && !s->had_credentials) {
		enum status st = sasl_peek(s->mech, message, &peek);
		if (st == ST_OK)
			look_up(s, (struct str){ peek.name, peek.name_len }, &c);
		else if (st == ST_MISSING)
			look_up(s, STR("juliet"), &c);
		if (st != ST_INVALID) {
			c.right = str_is(peek.password, PASSWORD);
			have = s->had_credentials = true;
		}
	}
	buf_wipe(&s->answer.data);
	return exchange_step(s->x, message, have ? &c : NULL, &s->answer);
}

static void server_end(struct server *s)
{
	buf_wipe(&s->answer.data);
	exchange_free(&s->x);
}

/* "success", or the condition of the failure */
static const char *outcome(const struct server *s, enum exchange_result r)
{
	return r == EXCHANGE_SUCCESS ? "success" : r == EXCHANGE_FAILURE ? exchange_condition(s->answer.condition) : "endless";
}

/* --- clients --- */

struct client {
	const char *name, *password, *authzid;
	const char *type, *data;                /* channel binding */
	bool late;                              /* sends no initial response */
	bool complete;                          /* believes that it has talked to the right server */
};

static Gsasl *gsasl;

static int gsasl_answer(Gsasl *ctx, Gsasl_session *session, Gsasl_property property)
{
	return GSASL_NO_CALLBACK;
}

static const char *with_gsasl(struct server *s, const char *mech, struct client *c)
{
	Gsasl_session *session;
	if (gsasl_client_start(gsasl, mech, &session) != GSASL_OK)
		return "no such client mechanism";
	gsasl_property_set(session, GSASL_AUTHID, c->name);
	gsasl_property_set(session, GSASL_PASSWORD, c->password);
	gsasl_property_set(session, GSASL_SERVICE, "xmpp");
	gsasl_property_set(session, GSASL_HOSTNAME, HOST);
	gsasl_property_set(session, GSASL_ANONYMOUS_TOKEN, "somebody");
	if (c->authzid)
		gsasl_property_set(session, GSASL_AUTHZID, c->authzid);
	if (c->type) {
		struct buf coded = { 0 };
		base64_encode(str_of(c->data), &coded);
		buf_add_char(&coded, 0);
		gsasl_property_set(session, strcmp(c->type, "tls-unique") ? GSASL_CB_TLS_EXPORTER : GSASL_CB_TLS_UNIQUE, buf_data(&coded));
		buf_free(&coded);
	}
	server_start(s, mech);
	enum exchange_result r = EXCHANGE_CHALLENGE;
	struct str message = { NULL, 0 };
	bool first_from_server = !strcmp(mech, "DIGEST-MD5") || c->late;
	char *out = NULL;
	size_t n;
	int code = GSASL_NEEDS_MORE;
	for (int i = 0; i < 8 && r == EXCHANGE_CHALLENGE; i++) {
		if (i > 0 || !first_from_server) {
			struct str in = buf_str(&s->answer.data);
			free(out);
			out = NULL;
			code = gsasl_step(session, in.n ? in.p : NULL, in.n, &out, &n);
			if (code != GSASL_OK && code != GSASL_NEEDS_MORE)
				break;
			message = (struct str){ out ? out : "", n };
		}
		r = server_step(s, message);
	}
	const char *said = outcome(s, r);
	if (r == EXCHANGE_SUCCESS && code == GSASL_NEEDS_MORE && s->answer.has_data) {
		free(out);
		out = NULL;
		code = gsasl_step(session, buf_data(&s->answer.data), s->answer.data.len, &out, &n);
	}
	c->complete = r == EXCHANGE_SUCCESS && code == GSASL_OK;
	free(out);
	gsasl_finish(session);
	return said;
}

static int client_get(void *context, int id, const char **result, unsigned *len)
{
	const struct client *c = context;
	*result = id == SASL_CB_USER ? c->authzid ? c->authzid : "" : c->name;
	if (len)
		*len = (unsigned)strlen(*result);
	return SASL_OK;
}

static int client_secret(sasl_conn_t *conn, void *context, int id, sasl_secret_t **out)
{
	static _Thread_local union { sasl_secret_t s; char room[200]; } box;
	const struct client *c = context;
	box.s.len = strlen(c->password);
	memcpy(box.s.data, c->password, box.s.len + 1);
	*out = &box.s;
	return SASL_OK;
}

static int client_plugin(void *context, const char *file, sasl_verify_type_t type)
{
	return type == SASL_VRFY_PLUGIN && (strstr(file, "libscram") || strstr(file, "libplain") || strstr(file, "libdigest") ||
		strstr(file, "libanonymous")) ? SASL_OK : SASL_CONTINUE;
}

typedef void (*any)(void);
typedef int (*callback)(void);

/* Cyrus' client asks DNS for the machine's full name, each time, unless the name has a dot: in place of libc's. */
__attribute__((visibility("default"))) int gethostname(char *name, size_t size)
{
	snprintf(name, size, "client.example");
	return 0;
}

static const char *with_cyrus(struct server *s, const char *mech, struct client *c)
{
	sasl_callback_t callbacks[] = {
		{ SASL_CB_USER, (callback)(any)client_get, c }, { SASL_CB_AUTHNAME, (callback)(any)client_get, c },
		{ SASL_CB_PASS, (callback)(any)client_secret, c }, { SASL_CB_LIST_END, NULL, NULL },
	};
	sasl_conn_t *conn;
	if (sasl_client_new("xmpp", HOST, NULL, NULL, callbacks, SASL_SUCCESS_DATA, &conn) != SASL_OK)
		return "no client";
	sasl_security_properties_t none = { .max_ssf = 0 };
	sasl_setprop(conn, SASL_SEC_PROPS, &none);
	sasl_setprop(conn, SASL_AUTH_EXTERNAL, c->name);
	sasl_channel_binding_t cb = { c->type, 1, c->data ? strlen(c->data) : 0, (const unsigned char *)c->data };
	if (c->type)
		sasl_setprop(conn, SASL_CHANNEL_BINDING, &cb);
	const char *out = NULL, *chosen, *said = "client gave up";
	unsigned n = 0;
	int code = sasl_client_start(conn, mech, NULL, c->late ? NULL : &out, &n, &chosen);
	enum exchange_result r = EXCHANGE_CHALLENGE;
	server_start(s, mech);
	for (int i = 0; i < 8 && r == EXCHANGE_CHALLENGE && (code == SASL_OK || code == SASL_CONTINUE); i++) {
		bool none_yet = i == 0 && (!out || !strcmp(mech, "DIGEST-MD5"));
		r = server_step(s, none_yet ? (struct str){ NULL, 0 } : (struct str){ out ? out : "", n });
		said = outcome(s, r);
		if (r == EXCHANGE_CHALLENGE || (r == EXCHANGE_SUCCESS && s->answer.has_data)) {
			struct str in = buf_str(&s->answer.data);
			code = sasl_client_step(conn, in.p ? in.p : "", (unsigned)in.n, NULL, &out, &n);
		}
	}
	c->complete = r == EXCHANGE_SUCCESS && code == SASL_OK;
	sasl_dispose(&conn);
	return said;
}

/* --- the rules --- */

enum { CYRUS = 1, GSASL = 2 };

static void mechanisms(void)
{
	static const struct { const char *mech; int clients; bool exact_state; } mechs[] = {
		{ "SCRAM-SHA-1", CYRUS | GSASL, true },  { "SCRAM-SHA-256", CYRUS | GSASL, true }, { "SCRAM-SHA-512", CYRUS, true },
		{ "DIGEST-MD5", CYRUS | GSASL, true },   { "PLAIN", CYRUS | GSASL, true },
	};
	static const struct { const char *name, *password, *authzid, *want; } rows[] = {
		{ "juliet", PASSWORD, NULL, "success" },
		{ "juliet", PASSWORD, "juliet@" HOST, "success" },          /* RFC 6120 §6.3.8: one's own bare JID */
		{ "juliet", PASSWORD, "romeo@" HOST, "invalid-authzid" },
		{ "juliet", "wrong", NULL, "not-authorized" },
		{ "nobody", PASSWORD, NULL, "not-authorized" },
		{ "tybalt", "wrong", NULL, "not-authorized" },              /* the state is for those who know the password */
		{ "tybalt", PASSWORD, NULL, "account-disabled" },
	};
	for (int m = 0; m < COUNT(mechs); m++)
		for (int i = 0; i < COUNT(rows); i++)
			for (int who = CYRUS; who <= GSASL; who *= 2)
				for (int late = 0; late < 2; late++) {
					struct server s = { 0 };
					struct client c = { .name = rows[i].name, .password = rows[i].password, .authzid = rows[i].authzid, .late = late };
					if (!(mechs[m].clients & who))
						continue;
					const char *got = who == CYRUS ? with_cyrus(&s, mechs[m].mech, &c) : with_gsasl(&s, mechs[m].mech, &c);
					CHECK_ROW(m * 100 + i * 10 + who, !strcmp(got, rows[i].want));
					if (strcmp(got, rows[i].want) != 0)
						printf("  %s, %s, late %d: got %s, want %s\n", mechs[m].mech, who == CYRUS ? "cyrus" : "gsasl", late, got, rows[i].want);
					CHECK_ROW(m * 100 + i * 10 + who, c.complete == !strcmp(got, "success"));
					if (!strcmp(got, "success"))
						CHECK_ROW(m, !strcmp(exchange_name(s.x), "juliet"));
					server_end(&s);
				}
}

static void channel_binding(void)
{
	static const struct { const char *mech, *type, *data, *client_type, *client_data; int clients; const char *want; } rows[] = {
		{ "SCRAM-SHA-1-PLUS", "tls-exporter", "0123", "tls-exporter", "0123", CYRUS | GSASL, "success" },
		{ "SCRAM-SHA-256-PLUS", "tls-exporter", "0123", "tls-exporter", "0123", CYRUS | GSASL, "success" },
		{ "SCRAM-SHA-512-PLUS", "tls-exporter", "0123", "tls-exporter", "0123", CYRUS, "success" },
		{ "SCRAM-SHA-1-PLUS", "tls-unique", "abcd", "tls-unique", "abcd", CYRUS | GSASL, "success" },
		{ "SCRAM-SHA-256-PLUS", "tls-server-end-point", "abcd", "tls-server-end-point", "abcd", CYRUS, "success" },
		{ "SCRAM-SHA-256-PLUS", "tls-exporter", "0123", "tls-exporter", "0124", CYRUS | GSASL, "not-authorized" },
		{ "SCRAM-SHA-1-PLUS", "tls-exporter", "0123", "tls-exporter", "01234", CYRUS | GSASL, "not-authorized" },
		{ "SCRAM-SHA-1-PLUS", "tls-exporter", "0123", "tls-unique", "0123", CYRUS, "malformed-request" },
	};
	for (int i = 0; i < COUNT(rows); i++)
		for (int who = CYRUS; who <= GSASL; who *= 2) {
			if (!(rows[i].clients & who))
				continue;
			struct server s = { .type = rows[i].type, .data = rows[i].data, .offered = true };
			struct client c = { .name = "juliet", .password = PASSWORD, .type = rows[i].client_type, .data = rows[i].client_data };
			const char *got = who == CYRUS ? with_cyrus(&s, rows[i].mech, &c) : with_gsasl(&s, rows[i].mech, &c);
			CHECK_ROW(i * 10 + who, !strcmp(got, rows[i].want));
			if (strcmp(got, rows[i].want) != 0)
				printf("  got %s, want %s\n", got, rows[i].want);
			CHECK_ROW(i, c.complete == !strcmp(got, "success"));
			server_end(&s);
		}
}

static void first_messages(void)
{
	static const struct { const char *mech, *message; bool offered; const char *want; } rows[] = {
		{ "SCRAM-SHA-1", "n,,n=juliet,r=abcd", false, "endless" },
		{ "SCRAM-SHA-1", "n,,n=juliet,r=abcd", true, "endless" },           /* the client knows of no channel binding */
		{ "SCRAM-SHA-1", "y,,n=juliet,r=abcd", false, "endless" },
		{ "SCRAM-SHA-1", "y,,n=juliet,r=abcd", true, "malformed-request" }, /* RFC 5802 §6: a downgrade */
		{ "SCRAM-SHA-1", "p=tls-exporter,,n=juliet,r=abcd", true, "malformed-request" },
		{ "SCRAM-SHA-1-PLUS", "n,,n=juliet,r=abcd", true, "malformed-request" },
		{ "SCRAM-SHA-1-PLUS", "y,,n=juliet,r=abcd", true, "malformed-request" },
		{ "SCRAM-SHA-1-PLUS", "p=tls-exporter,,n=juliet,r=abcd", true, "endless" },
		{ "SCRAM-SHA-1-PLUS", "p=tls-foo,,n=juliet,r=abcd", true, "malformed-request" },
		{ "SCRAM-SHA-1-PLUS", "p=,,n=juliet,r=abcd", true, "malformed-request" },
		{ "SCRAM-SHA-1", "", false, "malformed-request" },
		{ "SCRAM-SHA-1", "n", false, "malformed-request" },
		{ "SCRAM-SHA-1", "n,,", false, "malformed-request" },
		{ "SCRAM-SHA-1", "n,,n=,r=abcd", false, "malformed-request" },
		{ "SCRAM-SHA-1", "n,,n=juliet", false, "malformed-request" },
		{ "SCRAM-SHA-1", "n,,n=juliet,r=", false, "malformed-request" },
		{ "SCRAM-SHA-1", "n,,n=ju=liet,r=abcd", false, "malformed-request" },
		{ "SCRAM-SHA-1", "n,,n=juliet,r=ab cd", false, "malformed-request" },
		{ "SCRAM-SHA-1", "n,,m=x,n=juliet,r=abcd", false, "malformed-request" },
		{ "SCRAM-SHA-1", "n,a=juliet,n=juliet,r=abcd", false, "endless" },
		{ "SCRAM-SHA-1", "n,a=romeo,n=juliet,r=abcd", false, "invalid-authzid" },
		{ "SCRAM-SHA-1", "n,a=juliet@elsewhere,n=juliet,r=abcd", false, "invalid-authzid" },
		{ "SCRAM-SHA-1", "n,,n=\xc3\x28,r=abcd", false, "malformed-request" },
		{ "SCRAM-SHA-1", "x,,n=juliet,r=abcd", false, "malformed-request" },
		{ "PLAIN", "juliet", false, "malformed-request" },
		{ "DIGEST-MD5", "username=\"juliet\"", false, "malformed-request" },    /* no initial response there */
	};
	for (int i = 0; i < COUNT(rows); i++) {
		struct server s = { .type = "tls-exporter", .data = "data", .offered = rows[i].offered };
		server_start(&s, rows[i].mech);
		const char *got = outcome(&s, server_step(&s, str_of(rows[i].message)));
		CHECK_ROW(i, !strcmp(got, rows[i].want));
		if (strcmp(got, rows[i].want) != 0)
			printf("  got %s, want %s\n", got, rows[i].want);
		if (strcmp(got, "endless") != 0)        /* and then it stays over */
			CHECK_ROW(i, server_step(&s, str_of(rows[i].message)) == EXCHANGE_FAILURE);
		server_end(&s);
	}
}

static void plain_messages(void)
{
	static const struct { struct str message; const char *want; } rows[] = {
		{ STR("\0juliet\0" PASSWORD), "success" },
		{ STR("juliet\0juliet\0" PASSWORD), "success" },
		{ STR("juliet@CAPULET.example\0juliet\0" PASSWORD), "success" },
		{ STR("romeo\0juliet\0" PASSWORD), "invalid-authzid" },
		{ STR("\0juliet\0"), "malformed-request" },
		{ STR("\0\0" PASSWORD), "malformed-request" },
		{ STR("\0juliet"), "malformed-request" },
		{ STR("juliet\0" PASSWORD), "malformed-request" },
		{ STR("\0juliet\0" PASSWORD "\0"), "malformed-request" },
		{ STR("\0juliet\0\xff"), "malformed-request" },
		{ STR("\0juliet\0x"), "not-authorized" },
		{ STR("\0nobody\0" PASSWORD), "not-authorized" },
	};
	for (int i = 0; i < COUNT(rows); i++) {
		struct server s = { 0 };
		server_start(&s, "PLAIN");
		const char *got = outcome(&s, server_step(&s, rows[i].message));
		CHECK_ROW(i, !strcmp(got, rows[i].want));
		server_end(&s);
	}
}

static void unknown_looks_known(void)
{
	struct exchange_answer first = { 0 };
	for (int i = 0; i < 3; i++) {                           /* the same salt again and again, another for another name */
		struct server s = { 0 };
		server_start(&s, "SCRAM-SHA-256");
		CHECK(server_step(&s, i < 2 ? STR("n,,n=nobody,r=abc") : STR("n,,n=somebody,r=abc")) == EXCHANGE_CHALLENGE);
		buf_add_char(&s.answer.data, 0);
		char *salt = strstr(buf_data(&s.answer.data), ",s=");
		CHECK(salt && strlen(salt) == 3 + 48 + 5 && strstr(salt, ",i=16"));       /* base64 of a UUID */
		if (i == 0)
			buf_add_text(&first.data, salt);
		else
			CHECK_ROW(i, (strncmp(salt, buf_data(&first.data), 27) == 0) == (i == 1));
		server_end(&s);
	}
	buf_free(&first.data);
}

static void external_and_anonymous(void)
{
	struct server s = { 0 };
	server_start(&s, "EXTERNAL");
	CHECK(server_step(&s, STR("")) == EXCHANGE_SUCCESS && !s.answer.has_data && !strcmp(exchange_name(s.x), "juliet"));
	server_end(&s);
	server_start(&s, "EXTERNAL");                   /* without initial response: asked for one first */
	CHECK(server_step(&s, (struct str){ NULL, 0 }) == EXCHANGE_CHALLENGE);
	CHECK(server_step(&s, STR("juliet@" HOST)) == EXCHANGE_SUCCESS);
	server_end(&s);
	server_start(&s, "EXTERNAL");                   /* nobody vouches for the client */
	CHECK(exchange_step(s.x, STR(""), NULL, &s.answer) == EXCHANGE_FAILURE && s.answer.condition == AUTH_NOT_AUTHORIZED);
	server_end(&s);
	struct client c = { .name = "juliet", .password = "" };
	CHECK(!strcmp(with_gsasl(&s, "ANONYMOUS", &c), "success") && c.complete);
	server_end(&s);
	c = (struct client){ .name = "juliet", .password = "" };
	CHECK(!strcmp(with_cyrus(&s, "ANONYMOUS", &c), "success") && c.complete);
	server_end(&s);
	struct exchange *x = NULL;
	static const char *const none[] = { "", "CRAM-MD5", "LOGIN", "SCRAM-SHA-1-PLUS-PLUS", "HT-SHA-256",
		"HT-SHA-256-NONE-PLUS", "HT-SHA-512-NONE", "scram-sha-1", "PLAIN-PLUS", "SCRAM-" };
	for (int i = 0; i < COUNT(none); i++)
		CHECK_ROW(i, exchange_new(str_of(none[i]), STR(HOST), &x) == ST_MISSING && !x);
}

/* A whole login cut or changed at every place must end in a failure, and never in a crash. */
static void damaged_messages(void)
{
	static const struct { const char *mech; struct str message; } rows[] = {
		{ "SCRAM-SHA-256-PLUS", STR("p=tls-exporter,a=juliet,n=juliet,r=fyko+d2lbbFgONRv9qkxdawL") },
		{ "SCRAM-SHA-1", STR("n,,n=ju=2Cli=3Det,r=fyko,x=y") },
		{ "PLAIN", STR("juliet\0juliet\0" PASSWORD) },
		{ "DIGEST-MD5", STR("charset=utf-8,username=\"ju\\\"liet\",realm=\"capulet.example\",nonce=\"x\",nc=00000001,cnonce=\"y\","
			"digest-uri=\"xmpp/capulet.example\",response=d388dad90d4bbd760a152321f2143af7,qop=auth") },
	};
	for (int i = 0; i < COUNT(rows); i++)
		for (size_t at = 0; at <= rows[i].message.n; at++)
			for (int change = 0; change < 4; change++) {
				struct server s = { .type = "tls-exporter", .data = "data", .offered = true };
				char *text = mem_copy(rows[i].message.p, rows[i].message.n);
				size_t n = rows[i].message.n;
				if (change == 0)
					n = at;
				else if (at < n)
					text[at] = change == 1 ? 0 : change == 2 ? ',' : (char)0xff;
				char *exact = mem_alloc(n ? n : 1);     /* so that reading one byte too many shows */
				memcpy(exact, text, n);
				server_start(&s, rows[i].mech);
				if (!strcmp(rows[i].mech, "DIGEST-MD5"))
					CHECK(server_step(&s, (struct str){ NULL, 0 }) == EXCHANGE_CHALLENGE);
				enum exchange_result r = server_step(&s, (struct str){ exact, n });
				if (r == EXCHANGE_CHALLENGE)
					r = server_step(&s, STR("c=biws,r=x,p=y"));
				CHECK_ROW(i, r == EXCHANGE_FAILURE || !strcmp(rows[i].mech, "PLAIN"));
				server_end(&s);
				free(exact);
				free(text);
			}
}

/* We and Cyrus must see the same pairs: of a name that is there twice Cyrus loses the memory of the first. */
static void digest_pairs(void)
{
	static const struct { const char *message; bool fine; } rows[] = {
		{ "username=\"juliet\",qop=auth", true }, { "qop=auth , username = juliet,", true }, { "username=\"ju\\\"l,i=et\"", true },
		{ "username=\"a\",username=\"b\"", false }, { "username=\"a\",Username=b", false }, { "username=\"a\",username/=\"b\"", false },
		{ "username=\"a\",qop=auth/username=\"b\"", false }, { "username=\"a\"xusername=\"b\"", false },
		{ "username=\"a\",qop=auth\"username=b", false }, { "username=\"a\"\"b\"", false }, { "username=\"a\",=b", false },
		{ "username=\"a\",q\xc3\xb6p=b", false }, { "username=\"a", false }, { "qop=auth", false },
	};
	struct sasl_peek peek;
	for (int i = 0; i < COUNT(rows); i++)
		CHECK_ROW(i, (sasl_peek(STR("DIGEST-MD5"), str_of(rows[i].message), &peek) == ST_OK) == rows[i].fine);
}

static void final_messages(void)
{
	static const struct { const char *message, *want; } rows[] = {
		{ "", "malformed-request" }, { "c=", "malformed-request" }, { "c=biws", "malformed-request" },
		{ "c=eSws,r=abcd,p=xx", "not-authorized" }, { "c=biws,r=abcd,p=", "malformed-request" }, { "c=biws,p=xx", "malformed-request" },
		{ "c=biws,r=abcd", "malformed-request" }, { "garbage", "malformed-request" },
	};
	for (int i = 0; i < COUNT(rows); i++) {
		struct server s = { 0 };
		server_start(&s, "SCRAM-SHA-1");
		CHECK_ROW(i, server_step(&s, STR("n,,n=juliet,r=abcd")) == EXCHANGE_CHALLENGE);
		const char *got = outcome(&s, server_step(&s, str_of(rows[i].message)));
		CHECK_ROW(i, !strcmp(got, rows[i].want));
		if (strcmp(got, rows[i].want) != 0)
			printf("  got %s, want %s\n", got, rows[i].want);
		server_end(&s);
	}
}

/* --- hashed tokens --- */

static void ht_message(const char *name, const char *token, const char *binding, struct buf *out)
{
	char data[64];
	unsigned char proof[HT_PROOF];
	int n = snprintf(data, sizeof data, "Initiator%s", binding);
	digest_hmac(digest_find(STR("sha256")), str_of(token), (struct str){ data, (size_t)n }, proof);
	buf_add(out, name, strlen(name) + 1);
	buf_add(out, proof, sizeof proof);
}

/* The first place has the token "new", the second "old", which may have expired; as the mechanism wants them. */
static void ht_tokens(const char *mech, bool expired, struct credentials *c)
{
	static const char *const texts[HT_TOKENS] = { "new", "old" };
	for (int i = 0; i < HT_TOKENS; i++) {
		struct ht_token *t = &c->tokens[i];
		t->kept = true;
		t->expired = i == 1 && expired;
		if (!*ht_binding(str_of(mech))) {
			ht_hash(str_of(texts[i]), t->initiator, t->responder);
		} else {
			t->len = 3;
			memcpy(t->text, texts[i], 3);
		}
	}
}

static enum exchange_result ht_login(struct server *s, const char *mech, struct str message, bool expired)
{
	struct sasl_peek peek;
	struct credentials c = { .account = ACCOUNT_UNKNOWN };
	server_start(s, mech);
	exchange_bind(s->x, str_of(s->type), str_of(s->data));
	if (sasl_peek(s->mech, message, &peek) == ST_OK) {
		look_up(s, (struct str){ peek.name, peek.name_len }, &c);
		if (c.account != ACCOUNT_UNKNOWN)
			ht_tokens(mech, expired, &c);
	}
	buf_wipe(&s->answer.data);
	return exchange_step(s->x, message, c.name[0] ? &c : NULL, &s->answer);
}

static void hashed_tokens(void)
{
	static const struct { const char *mech, *type, *name, *token, *binding; bool expired; const char *want; int place; } rows[] = {
		{ "HT-SHA-256-NONE", NULL, "juliet", "new", "", false, "success", 0 },
		{ "HT-SHA-256-NONE", NULL, "juliet", "old", "", false, "success", 1 },
		{ "HT-SHA-256-NONE", "tls-exporter", "juliet", "new", "", true, "success", 0 },
		{ "HT-SHA-256-NONE", NULL, "juliet", "old", "", true, "credentials-expired", 0 },
		{ "HT-SHA-256-NONE", NULL, "juliet", "older", "", false, "not-authorized", 0 },
		{ "HT-SHA-256-NONE", "tls-exporter", "juliet", "new", "data", false, "not-authorized", 0 },
		{ "HT-SHA-256-NONE", NULL, "nobody", "new", "", false, "not-authorized", 0 },
		{ "HT-SHA-256-NONE", NULL, "tybalt", "new", "", false, "account-disabled", 0 },
		{ "HT-SHA-256-NONE", NULL, "tybalt", "newer", "", false, "not-authorized", 0 },
		{ "HT-SHA-256-NONE", NULL, "ju\xc3\x28", "new", "", false, "malformed-request", 0 },
		{ "HT-SHA-256-EXPR", "tls-exporter", "juliet", "new", "data", false, "success", 0 },
		{ "HT-SHA-256-EXPR", "tls-exporter", "juliet", "old", "data", false, "success", 1 },
		{ "HT-SHA-256-EXPR", "tls-exporter", "juliet", "old", "data", true, "credentials-expired", 0 },
		{ "HT-SHA-256-EXPR", "tls-exporter", "juliet", "new", "date", false, "not-authorized", 0 },
		{ "HT-SHA-256-EXPR", "tls-exporter", "juliet", "new", "", false, "not-authorized", 0 },
		{ "HT-SHA-256-EXPR", "tls-exporter", "juliet", "", "data", false, "not-authorized", 0 },
		{ "HT-SHA-256-EXPR", "tls-exporter", "nobody", "", "data", false, "not-authorized", 0 },       /* nor an empty token */
		{ "HT-SHA-256-EXPR", "tls-unique", "juliet", "new", "data", false, "malformed-request", 0 },
		{ "HT-SHA-256-EXPR", NULL, "juliet", "new", "", false, "malformed-request", 0 },
		{ "HT-SHA-256-ENDP", "tls-server-end-point", "juliet", "new", "data", false, "success", 0 },
		{ "HT-SHA-256-UNIQ", "tls-unique", "juliet", "new", "data", false, "success", 0 },
	};
	for (int i = 0; i < COUNT(rows); i++) {
		struct server s = { .type = rows[i].type, .data = "data" };
		struct buf message = { 0 };
		ht_message(rows[i].name, rows[i].token, rows[i].binding, &message);
		const char *got = outcome(&s, ht_login(&s, rows[i].mech, buf_str(&message), rows[i].expired));
		CHECK_ROW(i, !strcmp(got, rows[i].want));
		if (strcmp(got, rows[i].want) != 0)
			printf("  got %s, want %s\n", got, rows[i].want);
		bool in = !strcmp(got, "success");
		CHECK_ROW(i, s.answer.has_data == in && s.answer.data.len == (in ? HT_PROOF : 0));
		if (in) {                               /* the server has proved that it knows the token */
			char text[64];
			unsigned char proof[HT_PROOF];
			int n = snprintf(text, sizeof text, "Responder%s", rows[i].binding);
			digest_hmac(digest_find(STR("sha256")), str_of(rows[i].token), (struct str){ text, (size_t)n }, proof);
			CHECK_ROW(i, !memcmp(proof, buf_data(&s.answer.data), HT_PROOF));
			CHECK_ROW(i, exchange_token(s.x) == rows[i].place && !strcmp(exchange_name(s.x), "juliet"));
		}
		buf_wipe(&s.answer.data);
		CHECK_ROW(i, exchange_step(s.x, buf_str(&message), NULL, &s.answer) == EXCHANGE_FAILURE);      /* once */
		buf_free(&message);
		server_end(&s);
	}
}

/* Cut at every place, with one byte more, and with every byte changed: the whole message alone gets in. */
static void damaged_tokens(void)
{
	static const char *const mechs[] = { "HT-SHA-256-NONE", "HT-SHA-256-EXPR" };
	for (int m = 0; m < COUNT(mechs); m++) {
		struct buf whole = { 0 };
		ht_message("juliet", "old", m ? "data" : "", &whole);
		for (size_t at = 0; at <= whole.len + 1; at++)
			for (int change = 0; change < 2; change++) {
				size_t n = change ? whole.len : at;
				char *exact = mem_zero(n ? n : 1);
				memcpy(exact, buf_data(&whole), n < whole.len ? n : whole.len);
				if (change && at < n)
					exact[at] ^= 1;
				struct server s = { .type = "tls-exporter", .data = "data" };
				bool in = ht_login(&s, mechs[m], (struct str){ exact, n }, false) == EXCHANGE_SUCCESS;
				CHECK_ROW(m * 1000 + (int)at, in == (change ? at >= n : at == whole.len));
				server_end(&s);
				free(exact);
			}
		buf_free(&whole);
	}
	struct server s = { 0 };                        /* asked for its message first */
	struct buf message = { 0 };
	struct credentials c;
	ht_message("juliet", "new", "", &message);
	server_start(&s, mechs[0]);
	CHECK(exchange_step(s.x, (struct str){ NULL, 0 }, NULL, &s.answer) == EXCHANGE_CHALLENGE && !s.answer.has_data);
	look_up(&s, STR("juliet"), &c);
	ht_tokens(mechs[0], false, &c);
	CHECK(exchange_step(s.x, buf_str(&message), &c, &s.answer) == EXCHANGE_SUCCESS);
	buf_free(&message);
	server_end(&s);
}

/* --- threads --- */

enum { THREADS = 8, ROUNDS = 200 };

static void *many_logins(void *arg)
{
	static const char *const mechs[] = { "SCRAM-SHA-1", "SCRAM-SHA-256", "PLAIN", "DIGEST-MD5", "SCRAM-SHA-256-PLUS" };
	long bad = 0;
	for (int i = 0; i < ROUNDS; i++) {
		const char *mech = mechs[i % COUNT(mechs)];
		bool plus = strstr(mech, "PLUS") != NULL, right = i % 3 != 0;
		struct server s = { .type = "tls-exporter", .data = "data", .offered = plus };
		struct client c = { .name = "juliet", .password = right ? PASSWORD : "wrong", .type = plus ? "tls-exporter" : NULL, .data = "data" };
		bad += strcmp(with_cyrus(&s, mech, &c), right ? "success" : "not-authorized") != 0;
		server_end(&s);
	}
	return (void *)bad;
}

static void threads(void)
{
	pthread_t ids[THREADS];
	for (int i = 0; i < THREADS; i++)
		pthread_create(&ids[i], NULL, many_logins, NULL);
	for (int i = 0; i < THREADS; i++) {
		void *bad;
		pthread_join(ids[i], &bad);
		CHECK_ROW(i, bad == NULL);
	}
}

int main(void)
{
	static const sasl_callback_t callbacks[] = {
		{ SASL_CB_VERIFYFILE, (callback)(any)client_plugin, NULL }, { SASL_CB_LIST_END, NULL, NULL },
	};
	if (cyrus_open() || sasl_client_init(callbacks) != SASL_OK || gsasl_init(&gsasl) != GSASL_OK)
		return 1;
	gsasl_callback_set(gsasl, gsasl_answer);
	RUN(mechanisms);
	RUN(channel_binding);
	RUN(first_messages);
	RUN(plain_messages);
	RUN(final_messages);
	RUN(unknown_looks_known);
	RUN(external_and_anonymous);
	RUN(damaged_messages);
	RUN(digest_pairs);
	RUN(hashed_tokens);
	RUN(damaged_tokens);
	RUN(threads);
	gsasl_done(gsasl);
	return check_done();
}
