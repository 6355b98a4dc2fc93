/* SPDX-License-Identifier: MIT */
/* tls_make.h - a self-made certificate (ECDSA P-256) for servers that have no other yet. Any thread. */
#ifndef COUPLET_TLS_MAKE_H
#define COUPLET_TLS_MAKE_H

#include "base/buf.h"
#include "base/status.h"

/* names: host names for subjectAltName, at least one; the first is the common name. Valid from a day ago for `days` days.
 * Appends PEM to certificate and key (wipe that one). ST_INVALID: a name does not fit. ST_SYSTEM: OpenSSL refused. */
MUST_CHECK enum status tls_make(const struct str *names, int count, int days, struct buf *certificate, struct buf *key);

#endif
