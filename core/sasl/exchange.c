/* SPDX-License-Identifier: MIT */
/* exchange.c - an exchange. What the RFCs ask of a server and Cyrus leaves to its caller is done here: a client acts for nobody
 * but itself, an unknown account looks like any other until its proof fails, a disabled one is told so only after a right
 * proof, and every result is one of XMPP's conditions. */
#include "sasl/exchange.h"

#include <stdlib.h>
#include <strings.h>

#include "base/mem.h"
#include "sasl/cyrus.h"
#include "sasl/scram_message.h"

enum { BINDING_MAX = 1024 };

enum kind { SCRAM, PLAIN, DIGEST_MD5, EXTERNAL, ANONYMOUS, HT };

struct exchange {
	enum kind kind;
	bool started, over;
	int messages;                           /* asked for one so far */
	char mech[32], host[256];
	const struct digest *digest;            /* SCRAM's hash */
	sasl_conn_t *conn;                      /* from the first message Cyrus sees until the result */
	sasl_callback_t callbacks[CYRUS_CALLBACKS];
	struct cyrus_context context;
	struct credentials credentials;
	bool known;                             /* credentials are there */
	/* channel binding */
	char type[SCRAM_BINDING_MAX + 1];
	unsigned char data[BINDING_MAX];
	size_t data_len;
	struct buf advertised;
};

static const char *const condition_names[] = {
	"aborted", "account-disabled", "credentials-expired", "encryption-required", "incorrect-encoding", "invalid-authzid",
	"invalid-mechanism", "malformed-request", "mechanism-too-weak", "not-authorized", "temporary-auth-failure",
};

const char *exchange_condition(enum condition c)
{
	return condition_names[c];
}

enum status exchange_new(struct str mech, struct str host, struct exchange **out)
{
	static const struct { const char *name; enum kind kind; } kinds[] = {
		{ "PLAIN", PLAIN }, { "DIGEST-MD5", DIGEST_MD5 }, { "EXTERNAL", EXTERNAL }, { "ANONYMOUS", ANONYMOUS },
	};
	int kind = scram_digest(mech) ? SCRAM : ht_binding(mech) ? HT : -1;
	for (int i = 0; kind < 0 && i < COUNT(kinds); i++)
		if (str_is(mech, kinds[i].name))
			kind = (int)kinds[i].kind;
	struct exchange *x;
	if (kind < 0 || mech.n >= sizeof x->mech || host.n >= sizeof x->host || memchr(host.p, 0, host.n))
		return ST_MISSING;
	x = mem_zero(sizeof *x);
	x->kind = (enum kind)kind;
	bool plus = kind == SCRAM && mech.n > 5 && !memcmp(mech.p + mech.n - 5, "-PLUS", 5);
	x->context.channel.plus = plus;
	x->digest = scram_digest(mech);
	memcpy(x->mech, mech.p, mech.n);
	memcpy(x->host, host.p, host.n);
	x->context.anonymous = kind == ANONYMOUS;
	x->context.token = -1;
	cyrus_callbacks(&x->context, x->callbacks);
	const char *name;
	for (int i = 0; (name = cyrus_mechanism(i)); i++)
		if (!strncmp(x->mech, name, strlen(name)) && (!x->mech[strlen(name)] || plus)) {
			*out = x;
			return ST_OK;
		}
	exchange_free(&x);
	return ST_MISSING;
}

static void drop_conn(struct exchange *x)
{
	if (!x->conn)
		return;
	struct propctx *props = sasl_auxprop_getctx(x->conn);
	if (props)
		prop_erase(props, "*cmusaslsecretDIGEST-MD5");
	sasl_dispose(&x->conn);
	x->conn = NULL;
}

void exchange_free(struct exchange **x)
{
	if (!*x)
		return;
	drop_conn(*x);
	buf_free(&(*x)->advertised);
	scram_wipe(&(*x)->context.scram);
	mem_wipe(*x, sizeof **x);
	free(*x);
	*x = NULL;
}

void exchange_bind(struct exchange *x, struct str type, struct str data)
{
	x->data_len = 0;
	x->context.channel.type = x->context.channel.data = (struct str){ NULL, 0 };
	if (!type.n || !data.n || type.n >= sizeof x->type || data.n > sizeof x->data)
		return;
	memcpy(x->type, type.p, type.n);
	x->type[type.n] = 0;
	memcpy(x->data, data.p, data.n);
	x->data_len = data.n;
	x->context.channel.type = str_of(x->type);
	x->context.channel.data = (struct str){ (const char *)x->data, x->data_len };
}

void exchange_offer(struct exchange *x, bool plus, struct str advertised)
{
	x->context.channel.offered = plus;
	buf_free(&x->advertised);
	buf_add_str(&x->advertised, advertised);
	x->context.channel.advertised = buf_str(&x->advertised);
}

enum status exchange_amend(struct exchange *x, struct str challenge)
{
	return scram_amend(&x->context.scram, challenge);
}

const char *exchange_name(const struct exchange *x)
{
	return x->credentials.name;
}

int exchange_token(const struct exchange *x)
{
	return x->context.token;
}

/* --- results --- */

static enum exchange_result fail(struct exchange *x, struct exchange_answer *out, enum condition condition, const char *text)
{
	x->over = true;
	drop_conn(x);
	out->condition = condition;
	out->text = text;
	return EXCHANGE_FAILURE;
}

static enum exchange_result fail_code(struct exchange *x, struct exchange_answer *out, int code)
{
	static const struct { int code; enum condition condition; } rows[] = {
		{ SASL_BADAUTH, AUTH_NOT_AUTHORIZED },       { SASL_NOUSER, AUTH_NOT_AUTHORIZED },
		{ SASL_NOVERIFY, AUTH_NOT_AUTHORIZED },      { SASL_NOAUTHZ, AUTH_INVALID_AUTHZID },
		{ SASL_BADPROT, AUTH_MALFORMED_REQUEST },    { SASL_BADPARAM, AUTH_MALFORMED_REQUEST },
		{ SASL_BUFOVER, AUTH_MALFORMED_REQUEST },    { SASL_NOMECH, AUTH_INVALID_MECHANISM },
		{ SASL_TOOWEAK, AUTH_MECHANISM_TOO_WEAK },   { SASL_ENCRYPT, AUTH_ENCRYPTION_REQUIRED },
		{ SASL_DISABLED, AUTH_ACCOUNT_DISABLED },    { SASL_EXPIRED, AUTH_CREDENTIALS_EXPIRED },
		{ SASL_BADBINDING, AUTH_NOT_AUTHORIZED },
	};
	const char *text = x->context.scram.text.p;
	if (x->kind == PLAIN && code == SASL_NOMECH)            /* its password check said no; the code is lost on the way */
		code = SASL_BADAUTH;
	for (int i = 0; i < COUNT(rows); i++)
		if (rows[i].code == code)
			return fail(x, out, rows[i].condition, text);
	return fail(x, out, AUTH_TEMPORARY_AUTH_FAILURE, NULL);
}

static void give(struct exchange_answer *out, const char *p, unsigned n)
{
	out->has_data = true;
	buf_add(&out->data, p, n);
}

/* --- what must hold before Cyrus sees a message --- */

/* RFC 6120 §6.3.8: a client may act for its own bare JID only. */
static bool own_authzid(const struct exchange *x, const struct sasl_peek *peek)
{
	struct str id = { peek->authzid, peek->authzid_len };
	struct str names[] = { { peek->name, peek->name_len }, str_of(x->credentials.name) };
	size_t host = strlen(x->host);
	for (int i = 0; i < COUNT(names); i++) {
		if (str_eq(id, names[i]))
			return true;
		if (id.n == names[i].n + 1 + host && id.p[names[i].n] == '@' && !memcmp(id.p, names[i].p, names[i].n) &&
				!strncasecmp(id.p + names[i].n + 1, x->host, host))
			return true;
	}
	return false;
}

/* A mechanism of the HT family names its type. Returns a text if the exchange must end. */
static const char *take_binding(struct exchange *x)
{
	const char *type = ht_binding(str_of(x->mech));
	x->context.binding = (struct str){ NULL, 0 };
	if (!*type)
		return NULL;
	if (!x->data_len || strcmp(type, x->type) != 0)
		return "channel binding of this type is not available";
	x->context.binding = (struct str){ (const char *)x->data, x->data_len };
	return NULL;
}

/* --- credentials --- */

/* Keeps c; an account that has no key for this mechanism gets an invented one, so that its exchange looks as any other. */
static void keep(struct exchange *x, const struct credentials *c)
{
	x->credentials = *c;
	x->known = true;
	x->context.credentials = &x->credentials;
	x->context.key = &x->credentials.key;
	if (x->kind != SCRAM || c->key.digest == x->digest)
		return;
	scram_fake(x->digest, c->secret, str_of(c->name), c->iterations > 0 ? c->iterations : 4096, &x->credentials.key);
	x->credentials.account = ACCOUNT_UNKNOWN;       /* nobody can prove to know it */
}

/* A wrong HA1 for accounts without one: the challenge has gone out before the name is known, so nothing else can differ. */
static void invent_ha1(struct exchange *x)
{
	unsigned char sum[DIGEST_MAX];
	if (x->credentials.has_ha1 && x->credentials.account != ACCOUNT_UNKNOWN)
		return;
	digest_hmac(digest_find(STR("sha256")), x->credentials.secret, str_of(x->credentials.name), sum);
	memcpy(x->credentials.ha1, sum, sizeof x->credentials.ha1);
	x->credentials.has_ha1 = true;
	x->credentials.account = ACCOUNT_UNKNOWN;
}

static int begin(struct exchange *x)
{
	/* DIGEST-MD5 clients of RFC 3920's days want their last challenge as a challenge, not along with success. */
	unsigned flags = x->kind == DIGEST_MD5 ? 0 : SASL_SUCCESS_DATA;
	/* no realm of our own: it would be appended to every name */
	int code = sasl_server_new("xmpp", x->host, NULL, NULL, NULL, x->callbacks, flags, &x->conn);
	if (code != SASL_OK)
		return code;
	sasl_security_properties_t none = { .max_ssf = 0, .maxbufsize = 0 };    /* TLS protects the stream, SASL does not */
	sasl_setprop(x->conn, SASL_SEC_PROPS, &none);
	if (x->kind == EXTERNAL)
		sasl_setprop(x->conn, SASL_AUTH_EXTERNAL, x->credentials.name);
	return SASL_OK;
}

static enum exchange_result account_state(struct exchange *x, struct exchange_answer *out)
{
	switch (x->credentials.account) {
	case ACCOUNT_ENABLED:
		if (x->kind == HT && x->credentials.tokens[x->context.token].expired)
			return fail(x, out, AUTH_CREDENTIALS_EXPIRED, NULL);
		break;
	case ACCOUNT_DISABLED: return fail(x, out, AUTH_ACCOUNT_DISABLED, NULL);
	case ACCOUNT_EXPIRED: return fail(x, out, AUTH_CREDENTIALS_EXPIRED, NULL);
	case ACCOUNT_UNKNOWN: return fail(x, out, AUTH_NOT_AUTHORIZED, NULL);
	}
	x->over = true;
	drop_conn(x);
	return EXCHANGE_SUCCESS;
}

static enum exchange_result step(struct exchange *x, struct str message, const struct credentials *c, struct exchange_answer *out)
{
	bool first = !x->started;
	if (x->over)
		return fail(x, out, AUTH_MALFORMED_REQUEST, "the exchange is over");
	if (message.n > SASL_MESSAGE_MAX)
		return fail(x, out, AUTH_MALFORMED_REQUEST, "message too long");
	if (x->kind == DIGEST_MD5 ? first && message.p != NULL : !message.p && x->started)
		return fail(x, out, AUTH_MALFORMED_REQUEST, "this mechanism takes no initial response");
	if (!message.p && x->kind != DIGEST_MD5) {      /* the client waits to be asked */
		if (x->messages++)
			return fail(x, out, AUTH_MALFORMED_REQUEST, NULL);
		return EXCHANGE_CHALLENGE;
	}
	bool names = !x->known && x->kind != EXTERNAL && x->kind != ANONYMOUS && !(first && x->kind == DIGEST_MD5);
	if (c && !x->known)
		keep(x, c);
	if (names) {
		struct sasl_peek peek;
		if (sasl_peek(str_of(x->mech), message, &peek))
			return fail(x, out, AUTH_MALFORMED_REQUEST, NULL);
		const char *text = x->kind == HT ? take_binding(x) : NULL;
		if (text)
			return fail(x, out, AUTH_MALFORMED_REQUEST, text);
		if (!x->known)
			return fail(x, out, AUTH_TEMPORARY_AUTH_FAILURE, NULL);
		if (peek.authzid_len && !own_authzid(x, &peek))
			return fail(x, out, AUTH_INVALID_AUTHZID, NULL);
		if (x->kind == DIGEST_MD5)
			invent_ha1(x);
	} else if (!x->known && x->kind != DIGEST_MD5) {
		return fail(x, out, AUTH_NOT_AUTHORIZED, NULL);
	}
	const char *data = NULL;
	unsigned n = 0;
	int code;
	if (first) {
		x->started = true;
		code = begin(x);
		if (code == SASL_OK) {
			/* who we are for EXTERNAL was decided outside: the client's wish went into that */
			struct str initial = x->kind == EXTERNAL ? STR("") : message;
			code = sasl_server_start(x->conn, x->mech, initial.p, (unsigned)initial.n, &data, &n);
		}
	} else {
		code = sasl_server_step(x->conn, message.p, (unsigned)message.n, &data, &n);
	}
	if (code == SASL_CONTINUE) {
		give(out, data, n);
		return EXCHANGE_CHALLENGE;
	}
	if (code != SASL_OK)
		return fail_code(x, out, code);
	const void *user;
	const char *want = x->kind == ANONYMOUS ? "anonymous" : x->credentials.name;
	if (!x->known || sasl_getprop(x->conn, SASL_USERNAME, &user) != SASL_OK || !user || strcmp(user, want) != 0)
		return fail(x, out, AUTH_NOT_AUTHORIZED, NULL);
	if (data)
		give(out, data, n);                     /* belongs to conn, which the next call ends */
	enum exchange_result result = account_state(x, out);
	if (result != EXCHANGE_SUCCESS) {
		out->has_data = false;
		buf_wipe(&out->data);
	}
	return result;
}

enum exchange_result exchange_step(struct exchange *x, struct str message, const struct credentials *c,
	struct exchange_answer *out)
{
	*out = (struct exchange_answer){ 0 };
	enum exchange_result result = step(x, message, c, out);
	x->credentials.secret = (struct str){ NULL, 0 };       /* borrowed for this step only */
	return result;
}
