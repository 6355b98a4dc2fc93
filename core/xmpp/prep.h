/* SPDX-License-Identifier: MIT */
/* prep.h - what the parts of addresses and passwords look like once prepared: stringprep (RFC 3454) and IDNA (UTS #46).
 *
 * ASCII is decided by a table; only the rest goes to ICU, whose profiles are opened once and are read-only. Any thread.
 * strict: refuses what Unicode 3.2 had not assigned: for names that are made here. Not strict lets it pass as it is: for
 * addresses that are only routed.
 */
#ifndef COUPLET_PREP_H
#define COUPLET_PREP_H

#include "base/buf.h"
#include "base/status.h"

enum prep_profile {
	PREP_NODE,              /* RFC 6122 appendix A */
	PREP_NAME,              /* RFC 3491 */
	PREP_RESOURCE,          /* RFC 6122 appendix B */
	PREP_SASL,              /* RFC 4013 */
	PREP_PROFILES
};

enum { PREP_MAX = 1023 };       /* bytes, before and after (RFC 7622 §3) */

/* These append to out, and leave it as it was unless ST_OK. An empty text is prepared already.
 * ST_INVALID: no UTF-8, or forbidden. ST_LIMIT: too long. */
MUST_CHECK enum status prep_text(enum prep_profile profile, struct str text, bool strict, struct buf *out);

/* A domain of an address: names in lower case with international labels in Unicode, without a final dot; IPv4 and [IPv6]
 * literals. Labels have 1 to 63 bytes of letters, digits, - and _ in their ASCII form. */
MUST_CHECK enum status prep_domain(struct str text, bool strict, struct buf *out);

MUST_CHECK enum status prep_to_ascii(struct str domain, struct buf *out);          /* for DNS and certificates */
MUST_CHECK enum status prep_to_unicode(struct str domain, struct buf *out);

/* Whether prep_text() would change nothing, decided for ASCII only: false may also mean "don't know". */
bool prep_is_clean(enum prep_profile profile, struct str text);

/* Characters in text, or -1 if it is no UTF-8 (overlong forms, surrogates and more than U+10FFFF are none). */
long prep_utf8_length(struct str text);

/* Is it UTF-8 without NUL? */
bool prep_is_text(struct str text);

#endif
