/* SPDX-License-Identifier: MIT */
/* stream.c - one XML stream: scan.c says where to cut, reader.c makes elements of the pieces. */
#include "xmpp/stream.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "xml/reader.h"
#include "xml/scan.h"

#define STREAMS_NS "http://etherx.jabber.org/streams"

/* How far the document has begun: nothing but white space, a byte order mark in part or whole, its first byte, more. */
enum lead { BLANK, MARK_1, MARK_2, MARK, FIRST, BEGUN };

struct stream {
	const struct stream_limits *limits;
	const struct stream_events *events;
	void *arg;
	struct reader *reader;          /* NULL before the first byte, and while idle */
	struct buf root;                /* while idle: the start tag that brings a new reader to where the old one was */
	struct buf held;                /* not parsed yet: half a token, or what follows the element at which we paused */
	size_t seen;                    /* how much of it scan has looked at */
	size_t taken;                   /* bytes of the header or child at hand that were fed to the reader */
	struct scan scan;
	enum status st;
	enum stream_condition condition;
	const char *text;
	uint8_t lead;                   /* enum lead */
	bool paused, opened, ended, replaying;
	bool any_root;
	struct str default_ns;          /* p == NULL: as declared */
	bool left_over;                 /* what is held belongs to a stream not begun */
};

static enum status fail(struct stream *s, enum status st, enum stream_condition condition, const char *text)
{
	if (!s->st) {
		s->st = st;
		s->condition = condition;
		s->text = text;
	}
	return s->st;
}

/* --- what the reader reports --- */

static void on_open(void *arg, struct element **root)
{
	struct stream *s = arg;
	if (s->replaying)
		return;
	const struct el_node *n = el_node(*root, (*root)->root);
	if (!s->any_root && !str_is(el_str(*root, n->ns), STREAMS_NS)) {
		reader_fail(s->reader, ST_INVALID, SE_INVALID_NAMESPACE, "The stream's namespace must be " STREAMS_NS);
	} else if (!s->any_root && !str_is(el_str(*root, n->name), "stream")) {
		reader_fail(s->reader, ST_INVALID, SE_BAD_FORMAT, "A stream header was expected");
	} else {
		s->opened = true;
		s->events->header(s->arg, root);
	}
}

static void on_element(void *arg, struct element **el)
{
	struct stream *s = arg;
	s->events->element(s->arg, el);
}

static void on_close(void *arg)
{
	struct stream *s = arg;
	s->ended = true;
	s->events->end(s->arg);
}

static const struct reader_events events = { on_open, on_element, on_close };

/* --- feeding --- */

/* White space before the document is not XML's, but harmless, and a byte order mark is allowed; both are skipped. Expat would take
 * other encodings by the look of the first two bytes. Returns how many bytes to skip. */
static size_t lead_in(struct stream *s, struct str bytes)
{
	size_t skip = 0;
	for (size_t i = 0; i < bytes.n && s->lead != BEGUN && !s->st; i++) {
		unsigned char c = (unsigned char)bytes.p[i];
		if (c == 0 || c == 0xfe || c == 0xff) {
			fail(s, ST_INVALID, SE_UNSUPPORTED_ENCODING, "The encoding must be UTF-8");
		} else if (s->lead == FIRST) {
			s->lead = BEGUN;
		} else if (c == '<' && (s->lead == BLANK || s->lead == MARK)) {
			s->lead = FIRST;
		} else {
			if (s->lead == BLANK && c == 0xef)
				s->lead = MARK_1;
			else if (s->lead == MARK_1 && c == 0xbb)
				s->lead = MARK_2;
			else if (s->lead == MARK_2 && c == 0xbf)
				s->lead = MARK;
			else if (s->lead != BLANK || !strchr(" \t\r\n", c))
				fail(s, ST_INVALID, SE_NOT_WELL_FORMED, "An XML document was expected");
			if (++s->taken > s->limits->stanza_bytes)
				fail(s, ST_LIMIT, SE_POLICY_VIOLATION, "The header is too large");
			skip++;
		}
	}
	return skip;
}

static enum status parse(struct stream *s, struct str piece)
{
	if (!s->reader) {
		s->reader = reader_new(s->limits, &events, s);
		if (s->default_ns.p)
			reader_set_default_ns(s->reader, s->default_ns);
		if (s->root.len) {
			s->replaying = true;
			enum status st = reader_feed(s->reader, buf_str(&s->root), false);
			assert(st == ST_OK || st == ST_LIMIT);      /* the reader keeps a failure */
			s->replaying = false;
			buf_free(&s->root);
		}
	}
	enum status st = reader_feed(s->reader, piece, false);
	if (st) {
		const char *text;
		enum stream_condition condition = reader_error(s->reader, &text);
		fail(s, st, condition, text);
	}
	return st;
}

static void forget_reader(struct stream *s)
{
	reader_root(s->reader, &s->root);
	reader_free(&s->reader);
}

/* Parses whole tokens from the front of data, up to the limit, a pause or the end. Leaves in *used how far it came. */
static enum status run(struct stream *s, struct str data, size_t *used)
{
	size_t at = s->seen, done = 0;
	enum status st = ST_OK;
	for (;;) {
		size_t max = s->limits->stanza_bytes, room = s->taken < max ? max - s->taken : 0;
		struct str window = { data.p, data.n - done > room ? done + room : data.n };
		size_t safe = done;
		enum scan_result result = at < window.n ? scan_next(&s->scan, window, &at, &safe) : SCAN_MORE;
		if (safe > done) {
			st = parse(s, (struct str){ data.p + done, safe - done });
			s->taken += safe - done;
			done = safe;
			if (st)
				break;
			if (s->ended) {
				st = s->st = ST_CLOSED;
				break;
			}
			if (scan_between(&s->scan) && at == done) {
				s->taken = 0;
				if (s->paused) {
					st = ST_AGAIN;
					break;
				}
				if (s->opened && reader_memory(s->reader) > s->limits->parser_bytes / 4)
					forget_reader(s);
			}
		}
		if (result == SCAN_STRAY) {
			st = s->opened ? fail(s, ST_INVALID, SE_BAD_FORMAT, "Text between stanzas is not allowed")
				: fail(s, ST_INVALID, SE_NOT_WELL_FORMED, "A stream header was expected");
			break;
		}
		if (result == SCAN_RESTRICTED) {
			st = fail(s, ST_INVALID, SE_RESTRICTED_XML, "Comments, processing instructions and DTDs are not allowed");
			break;
		}
		if (result == SCAN_MORE && at == window.n) {
			if (window.n < data.n) {
				if (s->taken == 0 && done == at && room)
					continue;
				st = fail(s, ST_LIMIT, SE_POLICY_VIOLATION, s->opened ? "The stanza is too large" : "The header is too large");
			}
			break;
		}
	}
	s->seen = at - done;
	*used = done;
	return st;
}

/* Parses what is held. */
static enum status run_held(struct stream *s)
{
	size_t used = 0;
	enum status st = run(s, buf_str(&s->held), &used);
	buf_eat(&s->held, used);
	if (!s->held.len || s->st)
		buf_free(&s->held);
	return st;
}

static enum status feed(struct stream *s, struct str bytes)
{
	if (s->lead != BEGUN) {
		size_t lead = lead_in(s, bytes);
		if (s->st)
			return s->st;
		bytes.p += lead;
		bytes.n -= lead;
	}
	if (s->held.len) {
		buf_add_str(&s->held, bytes);
		return run_held(s);
	}
	size_t used = 0;
	enum status st = run(s, bytes, &used);
	if (!s->st)
		buf_add(&s->held, bytes.p + used, bytes.n - used);
	return st;
}

/* Bytes left over by the stream before are the first of this one. */
static enum status feed_left_over(struct stream *s)
{
	struct buf bytes = s->held;
	s->held = (struct buf){ 0 };
	s->left_over = false;
	enum status st = feed(s, buf_str(&bytes));
	buf_free(&bytes);
	return st;
}

enum status stream_feed(struct stream *s, struct str bytes)
{
	if (s->st)
		return s->st;
	assert(!s->paused);
	if (!bytes.n)
		return ST_OK;
	if (s->left_over) {
		buf_add_str(&s->held, bytes);
		return feed_left_over(s);
	}
	return feed(s, bytes);
}

void stream_pause(struct stream *s)
{
	s->paused = true;
}

enum status stream_resume(struct stream *s)
{
	s->paused = false;
	if (s->st)
		return s->st;
	if (!s->held.len)
		return ST_OK;
	return s->left_over ? feed_left_over(s) : run_held(s);
}

/* --- life --- */

struct stream *stream_new(const struct stream_limits *limits, const struct stream_events *stream_events, void *arg)
{
	struct stream *s = mem_zero(sizeof *s);
	s->limits = limits;
	s->events = stream_events;
	s->arg = arg;
	return s;
}

void stream_any_root(struct stream *s, struct str default_ns)
{
	s->any_root = true;
	s->default_ns = default_ns;
}

void stream_free(struct stream **sp)
{
	struct stream *s = *sp;
	if (!s)
		return;
	reader_free(&s->reader);
	buf_free(&s->root);
	buf_free(&s->held);
	free(s);
	*sp = NULL;
}

void stream_restart(struct stream *s, bool drop)
{
	struct stream fresh = { .limits = s->limits, .events = s->events, .arg = s->arg, .held = s->held,
		.any_root = s->any_root, .default_ns = s->default_ns };
	reader_free(&s->reader);
	buf_free(&s->root);
	*s = fresh;
	if (drop)
		buf_free(&s->held);
	s->left_over = s->held.len > 0;
}

bool stream_idle(struct stream *s)
{
	if (!s->reader)
		return true;
	if (s->st || s->held.len || !s->opened || !scan_between(&s->scan))
		return false;
	forget_reader(s);
	return true;
}

enum stream_condition stream_error(const struct stream *s, const char **text)
{
	if (text)
		*text = s->text ? s->text : "";
	return s->condition;
}
