/* SPDX-License-Identifier: MIT */
/* mech_scram.h - SCRAM-SHA-1, -SHA-256 and -SHA-512, each with -PLUS too: the server's side.
 *
 * In place of Cyrus' own, because the server's first message carries more than the RFC asks for: a hash of what was
 * advertised, which the proofs of both sides then cover. A client that reads it knows whether somebody between took the better
 * mechanisms or channel bindings out; any other passes over it.
 *
 * Thread: whoever steps it, one at a time.
 * Source: RFC 5802 §3 (proofs), §5 (the exchange), §6 (channel binding); RFC 7677; XEP-0474 §5.1.
 */
#ifndef COUPLET_MECH_SCRAM_H
#define COUPLET_MECH_SCRAM_H

#include <sasl/sasl.h>
#include <sasl/saslplug.h>

#include "base/buf.h"
#include "base/status.h"
#include "sasl/scram.h"

/* What the exchange knows about the channel. Borrowed for each step. */
struct scram_channel {
	bool plus;                              /* the mechanism chosen ends in -PLUS */
	bool offered;                           /* that one was among those advertised */
	struct str type, data;                  /* channel binding of the type asked for; data n 0: there is none here */
	struct str advertised;                  /* XEP-0474 §5.1, the string S; n 0: it is not told again */
};

/* An exchange. A plain value, zero at the start, for one call of each function below; scram_wipe() ends it. */
struct scram {
	struct str text;                        /* after a failure: English, static, or p NULL */
	struct buf client_first, server_first;  /* without its header; ours */
	struct buf cbind;                       /* what "c=" must be */
	struct buf nonce;                       /* the client's and ours */
	struct buf answer;                      /* to be sent: a challenge, or what goes with success */
};

/* The client's first message. key: the account's, or one invented for its name. nonce: our part, which nobody can guess:
 * printable ASCII without a comma. SASL_CONTINUE, SASL_BADPROT (grammar; flag, mechanism and channel disagree). */
int scram_challenge(struct scram *s, struct str message, const struct scram_channel *channel, const struct scram_key *key,
	struct str nonce);

/* The last one. SASL_OK, SASL_BADPROT (grammar, another exchange's nonce), SASL_BADBINDING, SASL_BADAUTH (a wrong proof). */
int scram_verify(struct scram *s, struct str message, const struct scram_key *key);

/* Between the two: somebody has put attributes behind our message before it was sent; text: all of it. ST_INVALID: it is not that. */
MUST_CHECK enum status scram_amend(struct scram *s, struct str text);

void scram_wipe(struct scram *s);

/* For sasl_server_add_plugin(). */
int scram_plugin(const sasl_utils_t *utils, int max, int *version, sasl_server_plug_t **plugs, int *count);

#endif
