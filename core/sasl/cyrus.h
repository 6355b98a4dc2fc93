/* SPDX-License-Identifier: MIT */
/* cyrus.h - Cyrus SASL as a library, without its configuration; and what it asks of us while an exchange runs. */
#ifndef COUPLET_CYRUS_H
#define COUPLET_CYRUS_H

#include <sasl/sasl.h>
#include <sasl/saslplug.h>

#include "sasl/exchange.h"
#include "sasl/mech_scram.h"

/* Once per process, on one thread, before the first exchange; further calls do nothing. ST_SYSTEM: it does not start (logged). */
MUST_CHECK enum status cyrus_open(void);

/* The mechanisms this installation has, without -PLUS: "SCRAM-SHA-1", ... NULL behind the last. After cyrus_open(). */
const char *cyrus_mechanism(int index);

/* --- inside core/sasl only ---
 *
 * Callbacks of Cyrus find these through the connection's callback list: CYRUS_SELF is an id of our own in it, and
 * getcallback() hands back the context stored with any id it finds. */
#define CYRUS_SELF 0x43500001ul

struct cyrus_context {
	const struct credentials *credentials;     /* NULL while no account is known */
	const struct scram_key *key;            /* SCRAM: of the account or invented */
	struct scram_channel channel;
	struct scram scram;
	bool anonymous;
	struct str binding;                     /* HT-*: the channel's data; p NULL: -NONE */
	int token;                              /* HT-*: the place of the token that was right */
};

struct cyrus_context *cyrus_context(const sasl_utils_t *utils);   /* NULL: not one of our connections */

/* id of CYRUS_SELF, canonical user, password check; to be filled with the context. 4 entries with the end. */
enum { CYRUS_CALLBACKS = 4 };
void cyrus_callbacks(struct cyrus_context *context, sasl_callback_t out[CYRUS_CALLBACKS]);

#endif
