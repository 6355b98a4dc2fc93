/* SPDX-License-Identifier: MIT */
/* status.h - what a function that can fail returns.
 *
 * ST_OK is 0, so `if ((st = f(...)))` reads "if it failed". Results leave through last parameters, untouched on failure.
 */
#ifndef COUPLET_STATUS_H
#define COUPLET_STATUS_H

enum status {
	ST_OK = 0,
	ST_AGAIN,     /* not now: wants more bytes, or the other side must read first */
	ST_CLOSED,    /* the peer said goodbye, or the thing is gone */
	ST_INVALID,   /* malformed input */
	ST_LIMIT,     /* well-formed, but more than we take */
	ST_DENIED,    /* understood and refused */
	ST_MISSING,   /* no such thing */
	ST_TIMEOUT,   /* its deadline passed */
	ST_SYSTEM,    /* the operating system said no; errno tells */
};

#define MUST_CHECK __attribute__((warn_unused_result))
#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

/* A short English word for logs. */
const char *status_text(enum status st);

#endif
