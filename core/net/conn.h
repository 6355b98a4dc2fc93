/* SPDX-License-Identifier: MIT */
/* conn.h - one TCP connection: socket, TLS, compression, framing, limits, deadlines, output queue.
 *
 * A connection belongs to one I/O thread for life. The logic thread knows it by its id (io.h) and talks to it by orders; it
 * talks back by events, in order: bound (dialled ones only), opened, then whatever comes, closed exactly once and last (if
 * it was bound or opened). Orders for a connection that is gone are dropped.
 */
#ifndef COUPLET_CONN_H
#define COUPLET_CONN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "bus/block.h"
#include "bus/lane.h"
#include "net/addr.h"
#include "net/window.h"
#include "tls/tls_ctx.h"
#include "xmpp/stream.h"

struct io;
struct peers;

/* --- classes: which handlers and which counters a connection has; made on the logic thread, kept for ever --- */

struct conn_class {
	struct conn_class *next;
	char *name;
	atomic_bool every_drained;            /* CONN_DRAINED comes whenever all has left, not only to who waits (window_owes) */
	_Atomic uint32_t open, max;           /* connections; max 0: no limit of its own */
	struct peers *peers;                  /* I/O thread 0 only */
	void *user;                           /* the logic thread's */
};

/* --- limits --- */

struct conn_limits {
	struct stream_limits stream;
	uint32_t rate, burst;                 /* bytes a second read from the socket; 0: no limit */
	uint32_t max_send;                    /* bytes waiting to be sent; above, the connection ends */
	uint32_t send_timeout;                /* seconds a peer may take nothing while bytes wait; 0: for ever */
};

/* --- events --- */

enum conn_event_kind {
	CONN_BOUND,        /* number: the token of the dial */
	CONN_OPENED,       /* p: struct conn_opened */
	CONN_SECURED,      /* p: struct conn_text, tls_info() records */
	CONN_STREAM,       /* p: struct element, counted in the window */
	CONN_ELEMENT,      /* likewise */
	CONN_ENDED,        /* counted */
	CONN_ERROR,        /* number: enum stream_condition; p: struct conn_text; counted */
	CONN_DATA,         /* p: struct conn_text; counted */
	CONN_BYTES,        /* p: struct conn_text, of a tapped connection: nothing is read until conn_feed() */
	CONN_IDLE,
	CONN_DRAINED,      /* all that was sent has left: who waits looks again (window_owes) */
	CONN_CLOSED,       /* p: struct conn_text, the reason. number: the token of a dial that never got a slot, else 0 */
	CONN_EXPORTED,     /* number: the asker's token; p: struct conn_text or NULL */
	CONN_EVENTS
};

struct conn_event {
	struct msg msg;
	uint64_t id;
	uint64_t number;
	enum conn_event_kind kind;
	void *p;                              /* owned by the receiver, malloc */
};

struct conn_text {
	uint32_t len;
	char bytes[];
};

struct conn_opened {
	struct conn_class *class;
	struct window *window;                /* a reference, the receiver's */
	struct addr peer, local;
	struct conn_limits limits;
	bool direct_tls;
	bool held;                            /* conn_begin() is waited for */
};

/* Runs on the logic thread and frees event and p. Set before the first connection. */
void conn_set_sink(void (*deliver)(struct msg *event));

extern const struct conn_limits conn_default_limits;

/* Accepted connections wait for conn_begin() before anything is read, so that their first bytes can be tapped. */
void conn_hold_new(bool on);
void conn_set_max(uint32_t connections);      /* of all classes together; 0: no limit */
uint32_t conn_count(void);

/* --- on I/O threads --- */

struct conn_start {                           /* how a connection begins */
	int fd;
	struct addr peer, local;
	struct conn_class *class;             /* counted by the caller (conn_class_enter) */
	struct conn_limits limits;
	uint32_t window_elements, window_bytes;
	double deadline;                      /* seconds; 0: none */
	struct tls_ctx *tls;                  /* direct TLS: a reference, moved; else NULL */
	struct block *alpn;                   /* wire form, a reference, moved; NULL: the context's */
	struct block *server_name;            /* dialled: for SNI, NUL-ended, a reference, moved; NULL: none */
	uint64_t token;                       /* dialled: not 0, fd is connecting */
	bool raw;
	bool counted;                         /* by class->peers: peers_leave() at the end */
};

/* Any thread: hands the descriptor to an I/O thread. */
void conn_adopt(struct io *io, const struct conn_start *start);
/* Any thread: counts one more in, or ST_LIMIT. */
MUST_CHECK enum status conn_class_enter(struct conn_class *class);
void conn_class_leave(struct conn_class *class);

void conn_flush_dirty(struct io *io);
void conn_flush_later(struct io *io);         /* marks some of those that conn_queue_later() has put off; to be called until none is left */
void conn_close_all(struct io *io);           /* the thread ends: every connection dies, later ones are refused */
void conn_free_spare(struct io *io);

/* --- orders: any thread, by id --- */

/* later: it may wait CONN_LATER seconds for what is sent next. */
#define CONN_LATER 0.1
void conn_send(uint64_t id, struct block **moved, bool later);
/* The same bytes to many connections. tos: for each the value of `to` to put into the hole, or p == NULL: none; tos itself may
 * be NULL. later: they may wait CONN_LATER seconds for company, so that many of them are one write. */
void conn_send_many(const uint64_t *ids, const struct str *tos, size_t n, struct block *b, bool later);
void conn_close(uint64_t id, double seconds);
void conn_abort(uint64_t id, const char *reason);
void conn_starttls(uint64_t id, struct tls_ctx *ctx, const char *server_name, bool client);
void conn_restart(uint64_t id);
void conn_compress(uint64_t id);
void conn_mode(uint64_t id, bool raw);
/* From now on what comes in (decrypted, inflated) is told as CONN_BYTES before it is parsed, a piece at a time; or no longer. */
void conn_tap(uint64_t id, bool on);
/* The answer to CONN_BYTES, exactly one for each: what is to be parsed instead. */
void conn_feed(uint64_t id, struct str bytes);
void conn_begin(uint64_t id);                 /* the answer to CONN_OPENED with `held` */
void conn_hold(uint64_t id, bool pause);      /* stop reading, go on */
void conn_reopened(uint64_t id);              /* window_reopen() was true here */
void conn_deadline(uint64_t id, double seconds);          /* <= 0: none */
void conn_idle_after(uint64_t id, double seconds);        /* <= 0: never */
void conn_set_limits(uint64_t id, const struct conn_limits *limits);
enum { CONN_EXPORT_MAX = 256 };
/* RFC 5705; the answer is CONN_EXPORTED with the token, in any case. n <= CONN_EXPORT_MAX. */
void conn_export(uint64_t id, struct str label, struct str context, bool has_context, uint32_t n, uint64_t token);

#endif
