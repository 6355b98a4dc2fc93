/* SPDX-License-Identifier: MIT */
/* sasl_peek.h - reads from a client's SASL message whose account it is about, before the exchange sees it, so that the
 * credentials can be fetched without blocking. Pure; any thread.
 *
 * The mechanism reads the message again by itself. That the two might understand it differently does no harm: the exchange
 * checks against the credentials of the name found here and succeeds under that name, whatever the mechanism calls it.
 *
 * Source: core/sasl/scram_message.h (SCRAM), RFC 4616 (PLAIN), RFC 2831 §2.1.2 (DIGEST-MD5), core/sasl/mech_ht.h (HT-*).
 */
#ifndef COUPLET_SASL_PEEK_H
#define COUPLET_SASL_PEEK_H

#include "base/status.h"
#include "base/str.h"

enum { SASL_NAME_MAX = 1023, SASL_MESSAGE_MAX = 8192 };

struct sasl_peek {
	char name[SASL_NAME_MAX + 1], authzid[SASL_NAME_MAX + 1];      /* UTF-8; authzid empty: none */
	size_t name_len, authzid_len;
	struct str password;            /* PLAIN; borrowed from the message */
	char flag;                      /* SCRAM: 'n', 'y' or 'p' */
	struct str binding;             /* SCRAM with 'p': the type asked for; borrowed */
};

/* The first message of SCRAM, PLAIN and HT-*, the response of DIGEST-MD5. ST_INVALID: against the mechanism's syntax.
 * ST_MISSING: messages of this mechanism name no account. */
MUST_CHECK enum status sasl_peek(struct str mech, struct str message, struct sasl_peek *out);

#endif
