/* SPDX-License-Identifier: MIT */
/* stream.h - one XML stream (RFC 6120 §4) as an eater of bytes: framing, limits, and what is no XMPP ends here.
 *
 * Thread: the I/O thread that owns the connection. It owns no socket, never waits and never writes: an error is reported
 * by the return value and stream_error(), and the logic thread answers it.
 *
 * Errors (RFC 6120 §4.9.3): restricted-xml for DTDs, entities, comments and processing instructions; not-well-formed also
 * for undeclared prefixes (§11.3), but bad-namespace-prefix for one in the header; unsupported-encoding for what is no UTF-8 or
 * says it is not; invalid-namespace for a root of another namespace, bad-format for one of another name and for text between
 * stanzas; policy-violation (ST_LIMIT) for limits. Which default namespace will do, the logic thread decides.
 *
 * Callbacks run inside stream_feed() and stream_resume(); they may call stream_pause(), nothing else of this file.
 */
#ifndef COUPLET_STREAM_H
#define COUPLET_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "xml/element.h"
#include "xmpp/stream_error.h"

struct stream;

struct stream_events {
	/* The opening tag. An element named "stream" without children; ns is the stream namespace; besides its attributes
	 * (to, from, id, version, xml:lang) it carries "xmlns": the default namespace declared, and "xmlns:PREFIX" for each prefix.
	 * Moved. */
	void (*header)(void *arg, struct element **header);
	void (*element)(void *arg, struct element **el);          /* one complete child of the stream. Moved. */
	void (*end)(void *arg);                                   /* </stream:stream> */
};

struct stream_limits {
	uint32_t stanza_bytes;     /* one child of the stream, and the header, on the wire */
	uint32_t depth;            /* elements inside one another below the stream; <= ELEMENT_DEPTH_MAX */
	uint32_t attributes;       /* of one element */
	uint32_t children;         /* elements in one stanza, all levels together */
	uint32_t parser_bytes;     /* the parser's own memory: above a quarter it is replaced between stanzas, at it the stream ends.
	                            * One attribute as large as a stanza may be takes 3.1 times stanza_bytes. */
};

/* Owned by the caller. Borrows limits and events, which must outlive it; a change of *limits holds from the next stanza on. */
struct stream *stream_new(const struct stream_limits *limits, const struct stream_events *events, void *arg);
void stream_free(struct stream **s);                          /* sets *s to NULL; NULL is fine */

/* For documents that are read like streams (BOSH): any root element will do. default_ns is borrowed and counts as the default
 * namespace instead of the one declared (p == NULL: the declared one does). */
void stream_any_root(struct stream *s, struct str default_ns);

/* Eats all bytes (what cannot be parsed yet is kept inside, bounded by the limits).
 * ST_OK: more please. ST_AGAIN: paused by a callback; feed nothing until stream_resume(). ST_CLOSED: the end tag was seen; what
 * follows is ignored. ST_INVALID, ST_LIMIT: stream_error() says what to answer; the stream is of no further use. */
MUST_CHECK enum status stream_feed(struct stream *s, struct str bytes);

void stream_pause(struct stream *s);                          /* from a callback: stop behind the element just delivered */
MUST_CHECK enum status stream_resume(struct stream *s);       /* as stream_feed() with what was left */

/* A new stream begins on the same connection (after TLS or SASL). Bytes not parsed yet belong to the new stream and are parsed
 * by the next stream_resume() or stream_feed(); with drop they are thrown away (RFC 6120 §5.4.3.3: after <starttls/>). */
void stream_restart(struct stream *s, bool drop);

/* Gives the parser's memory back until the next byte, if no stanza is half-read. Returns whether it did. */
bool stream_idle(struct stream *s);

/* After ST_INVALID or ST_LIMIT. */
enum stream_condition stream_error(const struct stream *s, const char **text);

#endif
