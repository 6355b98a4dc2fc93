/* SPDX-License-Identifier: MIT */
/* zip.h - XEP-0138 stream compression by zlib, as a transformer of bytes. The I/O thread that owns the connection. */
#ifndef COUPLET_ZIP_H
#define COUPLET_ZIP_H

#include "base/buf.h"
#include "base/status.h"

struct zip;

struct zip *zip_new(void);                 /* owned by the caller */
void zip_free(struct zip **z);

/* Eats from the front of *in, writes what it inflates to, *got of room bytes.
 * ST_OK: call again (until *in is empty and *got < room). ST_CLOSED: the peer's end. ST_INVALID: no zlib data. */
MUST_CHECK enum status zip_inflate(struct zip *z, struct str *in, char *to, size_t room, size_t *got);
/* Appends in, deflated up to its last byte (sync flush), to out. */
void zip_deflate(struct zip *z, struct str in, struct buf *out);

#endif
