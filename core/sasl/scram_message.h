/* SPDX-License-Identifier: MIT */
/* scram_message.h - the two messages of a SCRAM client, taken apart and checked against the grammar. Pure; any thread. What is
 * found borrows from the message.
 *
 * Source: RFC 5802 §7 (the grammar), §5.1 (the attributes). Extensions nobody here knows are passed over, as §5.1 wants it; "m",
 * which stands for one that must be known, is refused wherever it is, and so is an attribute of the grammar in a place that is
 * not its own.
 */
#ifndef COUPLET_SCRAM_MESSAGE_H
#define COUPLET_SCRAM_MESSAGE_H

#include "base/status.h"
#include "base/str.h"

enum { SCRAM_NONCE_MAX = 512, SCRAM_BINDING_MAX = 64 };     /* bytes of a client's nonce, of a channel binding's name */

struct scram_first {
	char flag;                              /* 'n', 'y' or 'p' */
	struct str binding;                     /* with 'p': the type asked for */
	struct str authzid, name;               /* as written: scram_name() gives what is meant; no authzid: p NULL */
	struct str nonce;
	struct str gs2, bare;                   /* the header with both its commas, and what comes after it */
};

struct scram_final {
	struct str cbind, proof;                /* in base64, not looked into */
	struct str nonce;
	struct str without_proof;
};

/* ST_INVALID: against the grammar. */
MUST_CHECK enum status scram_read_first(struct str message, struct scram_first *out);
MUST_CHECK enum status scram_read_final(struct str message, struct scram_final *out);

/* The name a saslname stands for: "=2C" is a comma, "=3D" an equals sign. out has room for size bytes and gets no NUL.
 * ST_INVALID: none, or it does not fit. */
MUST_CHECK enum status scram_name(struct str saslname, char *out, size_t size, size_t *len);

#endif
