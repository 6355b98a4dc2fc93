/* SPDX-License-Identifier: MIT */
/* base64.h - RFC 4648 §4, strict: XMPP forbids white space, wrong padding and stray bits (RFC 6120 §13.9.1). Any thread. */
#ifndef COUPLET_BASE64_H
#define COUPLET_BASE64_H

#include "base/buf.h"
#include "base/status.h"

void base64_encode(struct str in, struct buf *out);                        /* appends */
MUST_CHECK enum status base64_decode(struct str in, struct buf *out);      /* appends; ST_INVALID leaves out as it was */

#endif
