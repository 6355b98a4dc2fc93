/* SPDX-License-Identifier: MIT */
/* exchange.h - the server's side of a SASL exchange, by Cyrus SASL in this process.
 *
 * No system configuration, no saslauthd, no user database is touched: mechanisms ask us, and we answer from the credentials
 * that the step brings along. What we ask of Cyrus, and its traps: core/sasl/exchange.c, core/sasl/cyrus.c.
 *
 * Thread: an exchange belongs to whoever steps it, one at a time; different exchanges may be stepped at once. cyrus_open()
 * before the first, on one thread.
 * Source: RFC 4422, RFC 6120 §6, RFC 5802, RFC 5929, RFC 9266.
 */
#ifndef COUPLET_EXCHANGE_H
#define COUPLET_EXCHANGE_H

#include "base/buf.h"
#include "base/status.h"
#include "sasl/mech_ht.h"
#include "sasl/sasl_peek.h"
#include "sasl/scram.h"

/* RFC 6120 §6.5 */
enum condition {
	AUTH_ABORTED, AUTH_ACCOUNT_DISABLED, AUTH_CREDENTIALS_EXPIRED, AUTH_ENCRYPTION_REQUIRED, AUTH_INCORRECT_ENCODING,
	AUTH_INVALID_AUTHZID, AUTH_INVALID_MECHANISM, AUTH_MALFORMED_REQUEST, AUTH_MECHANISM_TOO_WEAK, AUTH_NOT_AUTHORIZED,
	AUTH_TEMPORARY_AUTH_FAILURE,
};
const char *exchange_condition(enum condition c);

enum account { ACCOUNT_ENABLED, ACCOUNT_DISABLED, ACCOUNT_EXPIRED, ACCOUNT_UNKNOWN };

/* What is known about the account a message is about. A plain value; wipe it. */
struct credentials {
	enum account account;
	char name[SASL_NAME_MAX + 1];           /* under which the exchange succeeds */
	struct scram_key key;                   /* SCRAM; digest NULL: none, an invented one is used */
	int iterations;                         /* of an invented key: as accounts here usually have */
	struct str secret;                      /* what invented keys depend on; borrowed for the step */
	bool right;                             /* PLAIN: is the password right? Comparing takes a job, so it is done before */
	bool has_ha1;
	unsigned char ha1[16];                  /* DIGEST-MD5: MD5(user:realm:password) */
	struct ht_token tokens[HT_TOKENS];      /* HT-*: those it may be */
};

struct exchange;

/* Owned by the caller. host: our name for this client (the DIGEST-MD5 realm). ST_MISSING: no such mechanism, or not one of
 * Cyrus' that we use. */
MUST_CHECK enum status exchange_new(struct str mech, struct str host, struct exchange **out);
void exchange_free(struct exchange **x);      /* NULL is fine; wipes what it knows */

/* Before the first message is stepped: the channel binding data of the type the client asks for (SCRAM: sasl_peek, HT-*:
 * ht_binding). data n == 0, or never called: of that type there is none here. */
void exchange_bind(struct exchange *x, struct str type, struct str data);

/* SCRAM, before the first message: what the client was told. plus: that there is the mechanism's -PLUS variant; a client that
 * claims not to know is refused. advertised: all of it, as XEP-0474 §5.1 writes it; empty: the client is not told again. */
void exchange_offer(struct exchange *x, bool plus, struct str advertised);

/* SCRAM, after the challenge: it was sent with more attributes behind it, like this. ST_INVALID: that is not our challenge. */
MUST_CHECK enum status exchange_amend(struct exchange *x, struct str challenge);

enum exchange_result { EXCHANGE_CHALLENGE, EXCHANGE_SUCCESS, EXCHANGE_FAILURE };

struct exchange_answer {
	bool has_data;                          /* data may be there and empty */
	struct buf data;                        /* challenge, or what goes with success; the caller's to free */
	enum condition condition;          /* of a failure */
	const char *text;                       /* of a failure: English, static; NULL: nothing to add */
};

/* One message of the client; NULL p: <auth/> without an initial response. c: NULL until sasl_peek has found a name
 * (SCRAM, PLAIN, DIGEST-MD5, HT-*), needed for the message that names the account; kept for the following ones.
 * EXTERNAL and ANONYMOUS: needed at once, its name is who the client is. A step costs some microseconds and never blocks.
 * After success or failure the exchange is over: a further step is a failure. */
enum exchange_result exchange_step(struct exchange *x, struct str message, const struct credentials *c,
	struct exchange_answer *out);

const char *exchange_name(const struct exchange *x);  /* after success; valid as long as x */
int exchange_token(const struct exchange *x);          /* after success of HT-*: the place of its token; else -1 */

#endif
