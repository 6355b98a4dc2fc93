/* SPDX-License-Identifier: MIT */
/* jid.h - addresses (RFC 7622): local@domain/resource. Any thread. */
#ifndef COUPLET_JID_H
#define COUPLET_JID_H

#include "base/buf.h"
#include "base/status.h"

struct jid {                    /* slices; a part that is not there has p == NULL */
	struct str local, domain, resource;
};

/* Cuts text apart, without looking at the characters (RFC 7622 §3.2): the first / begins the resource, an @ before it ends the
 * local part. ST_INVALID: a part is empty ("@b", "a@", "b/"), or the domain holds an @. */
MUST_CHECK enum status jid_split(struct str text, struct jid *out);

/* Appends the address with each part prepared (prep.h tells strict); *parts, if wanted, are slices of out.
 * ST_INVALID: no address. Out is left as it was. */
MUST_CHECK enum status jid_prep(struct str text, bool strict, struct buf *out, struct jid *parts);

/* Whether jid_prep() would succeed and change nothing, decided for plain ASCII only: false may also mean "don't know".
 * For the common case, before anything is copied. */
bool jid_is_clean(const struct jid *jid);

/* XEP-0106: a local part out of any text, and back. Append. */
void jid_escape(struct str text, struct buf *out);
void jid_unescape(struct str text, struct buf *out);

#endif
