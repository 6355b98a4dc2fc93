/* SPDX-License-Identifier: MIT */
/* mech_ht.h - HT-SHA-256-NONE, -EXPR, -ENDP and -UNIQ: the client proves with one message that it has a token of ours, and the
 * answer proves that we know it too.
 *
 * What a server must keep differs. Without channel binding a client's proof is always the same, so a hash of it is enough, and
 * whoever steals that logs in nowhere. A proof that depends on the connection can be checked with the token alone.
 *
 * Any thread; a token is a plain value, wipe it.
 * Source: draft-schmaus-kitten-sasl-ht-09 §2, §3 (the message, the two HMACs, the names), XEP-0484.
 */
#ifndef COUPLET_MECH_HT_H
#define COUPLET_MECH_HT_H

#include <sasl/sasl.h>
#include <sasl/saslplug.h>

#include "base/status.h"
#include "base/str.h"

enum { HT_PROOF = 32, HT_TOKEN_MAX = 64, HT_TOKENS = 2 };

struct ht_token {
	bool kept;                              /* false: there is none; it takes as long to find that out */
	bool expired;
	size_t len;                             /* with channel binding: the token's text */
	unsigned char text[HT_TOKEN_MAX];
	unsigned char initiator[HT_PROOF];      /* without: SHA-256 of the client's proof, and our answer to it */
	unsigned char responder[HT_PROOF];
};

/* The channel binding type of a mechanism of this family: "" for -NONE; NULL: it is none of them. */
const char *ht_binding(struct str mech);

/* Takes a client's message apart; both borrow from it. ST_INVALID: it is none. */
MUST_CHECK enum status ht_read(struct str message, struct str *name, struct str *proof);

/* What is kept of a token for -NONE. */
void ht_hash(struct str token, unsigned char initiator[HT_PROOF], unsigned char responder[HT_PROOF]);

/* Whose proof is it? binding: the channel's data, p NULL for -NONE. Returns the token's place and puts our answer to it in
 * responder, or -1. Takes as long whatever the tokens are. */
int ht_check(const struct ht_token tokens[HT_TOKENS], struct str binding, struct str proof, unsigned char responder[HT_PROOF]);

/* For sasl_server_add_plugin(). */
int ht_plugin(const sasl_utils_t *utils, int max, int *version, sasl_server_plug_t **plugs, int *count);

#endif
