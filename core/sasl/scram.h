/* SPDX-License-Identifier: MIT */
/* scram.h - SCRAM keys: what is stored instead of a password. Any thread.
 *
 * Source: RFC 5802 §3. A key is a plain value; wipe it (mem_wipe) when done with it.
 */
#ifndef COUPLET_SCRAM_H
#define COUPLET_SCRAM_H

#include "base/digest.h"

enum { SCRAM_SALT_MAX = 128, SCRAM_ITERATIONS_MAX = 10000000 };

struct scram_key {
	const struct digest *digest;            /* NULL: no key */
	int iterations;
	size_t salt_len;
	unsigned char salt[SCRAM_SALT_MAX];
	unsigned char stored[DIGEST_MAX], server[DIGEST_MAX];
};

/* Of a mechanism's name: "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"; NULL if it is none. */
const struct digest *scram_digest(struct str mech);

/* From a password prepared with SASLprep. Takes milliseconds. ST_LIMIT: salt empty or too long, iterations out of range. */
MUST_CHECK enum status scram_derive(const struct digest *d, struct str password, struct str salt, int iterations,
	struct scram_key *out);

/* A key for a name that has none: always the same for one secret and name, and nobody knows a password for it. Its salt
 * is the text of a UUID, as those of accounts are (here and in data carried over from Prosody). */
void scram_fake(const struct digest *d, struct str secret, struct str name, int iterations, struct scram_key *out);

#endif
