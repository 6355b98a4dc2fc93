/* SPDX-License-Identifier: MIT */
/* scan.h - where the bytes of a stream come apart, without understanding them.
 *
 * It follows tags, quotes and CDATA sections just far enough to know where tokens, the header and the stream's children
 * end. So the parser is fed whole tokens only (it never buffers or rescans a half one, however slowly the bytes come), and never
 * a byte behind the element at which a stream pauses. For well-formed input it is exact; what is not well-formed the parser
 * refuses before it matters.
 *
 * Any thread, one at a time. A plain value: all zero is the start of a document.
 */
#ifndef COUPLET_SCAN_H
#define COUPLET_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

struct scan {
	uint8_t state;
	uint8_t matched;        /* of a fixed string looked for */
	char prev;              /* the last byte inside a tag */
	bool closing, begun;    /* "</"; some token was seen */
	uint32_t depth;         /* open elements */
};

enum scan_result {
	SCAN_MORE,              /* all bytes looked at */
	SCAN_CUT,               /* *safe is a good place to stop: an element or the header ends here, or one begins, or it is far enough */
	SCAN_STRAY,             /* text where only white space may be: outside the children of the root */
	SCAN_RESTRICTED,        /* a comment, a DTD or a processing instruction begins (RFC 6120 §11.1) */
};

/* Looks on from data.p + *at. *at: bytes looked at so far; *safe: bytes that may be fed to the parser. */
enum scan_result scan_next(struct scan *sc, struct str data, size_t *at, size_t *safe);

/* Between two children of the root element, and no token half-seen. */
static inline bool scan_between(const struct scan *sc) { return sc->depth == 1 && sc->state == 0; }

#endif
