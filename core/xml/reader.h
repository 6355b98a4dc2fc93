/* SPDX-License-Identifier: MIT */
/* reader.h - bytes to element blocks: the XML parser (expat), restricted to what XMPP allows, and its limits.
 *
 * No DTD, no entities but the predefined ones, no comments, no processing instructions, UTF-8 only (RFC 6120 §11). A reader reads
 * one document. It keeps no limit on bytes of its own: whoever feeds it counts (xmpp/stream.h does).
 *
 * Any thread, one at a time. Callbacks run inside reader_feed() and call nothing of this file for the same reader.
 */
#ifndef COUPLET_READER_H
#define COUPLET_READER_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/status.h"
#include "xml/element.h"
#include "xmpp/stream_error.h"

struct stream_limits;           /* xmpp/stream.h */
struct reader;

struct reader_events {
	/* With open, the root element stays open: its start tag is reported alone, its default namespace is the stream's, and it
	 * carries its namespace declarations as attributes "xmlns" and "xmlns:prefix". element is then called for each child; text
	 * between the children is ignored.
	 * Without, the root element is the one element. Moved. */
	void (*open)(void *arg, struct element **root);
	void (*element)(void *arg, struct element **el);
	void (*close)(void *arg);                       /* the root's end tag; may be NULL */
};

/* Owned by the caller. Borrows limits and events. A change of *limits holds from the next element on. */
struct reader *reader_new(const struct stream_limits *limits, const struct reader_events *events, void *arg);
void reader_free(struct reader **r);

/* Before the first byte: what counts as the default namespace, instead of the one that the root declares. Copied. */
void reader_set_default_ns(struct reader *r, struct str ns);

/* Eats all bytes; last: nothing follows, so the document must be complete. ST_INVALID, ST_LIMIT: reader_error() says why, and
 * the reader is of no further use. */
MUST_CHECK enum status reader_feed(struct reader *r, struct str bytes, bool last);

/* From a callback: refuses what was just read; reader_feed() returns st. */
void reader_fail(struct reader *r, enum status st, enum stream_condition condition, const char *text);

enum stream_condition reader_error(const struct reader *r, const char **text);

size_t reader_memory(const struct reader *r);      /* bytes the parser holds, growing with each new name it meets */

/* With open, after it: appends a start tag that brings a new reader to where this one stands between two children. */
void reader_root(const struct reader *r, struct buf *out);

/* A whole document as one element; limits as for a stanza. ST_INVALID, ST_LIMIT: *message says why (static text). */
MUST_CHECK enum status reader_parse(struct str text, const struct stream_limits *limits, struct element **out, const char **message);

#endif
