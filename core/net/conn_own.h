/* SPDX-License-Identifier: MIT */
/* conn_own.h - the inside of a connection, for conn*.c only. The I/O thread that owns it. */
#ifndef COUPLET_CONN_OWN_H
#define COUPLET_CONN_OWN_H

#include <ev.h>

#include "io.h"
#include "net/conn.h"
#include "net/zip.h"
#include "tls/tls.h"

enum {                          /* why a connection is not read */
	HOLD_WINDOW = 1,        /* the logic thread has enough to do with it */
	HOLD_USER = 2,          /* it said so */
	HOLD_RATE = 4,          /* too many bytes a second */
	HOLD_TLS = 8,           /* clear bytes must leave before the handshake */
	HOLD_TAP = 16,          /* the logic thread has bytes, which conn_feed() gives back */
	HOLD_OPEN = 32,         /* it has not yet heard of the connection, and wants to before anything is read */
	HOLD_INPUT = HOLD_WINDOW | HOLD_TAP,     /* what may come up while bytes are eaten */
};

enum {                          /* seconds */
	CONN_PARSER_IDLE = 4,    /* after which a quiet stream's parser is given back */
	CONN_HANDLE_TIME = 60,  /* the logic thread has for what a gone peer sent last */
};

enum conn_tls { TLS_OFF, TLS_CLEAR /* asked for; clear bytes still wait */, TLS_SHAKE, TLS_ON };

struct out {                    /* a piece of a block in an output queue */
	struct out *next;
	struct block *b;
	uint32_t at, end;
};

struct conn {
	ev_io io;
	ev_timer timer;                 /* the earliest of what follows; armed lazily */
	double due;                     /* when it fires */
	double deadline;                /* 0: none */
	double last_in, idle_from;
	double rate_at;                 /* HOLD_RATE ends */
	double blocked_at;              /* bytes wait since; 0: none do */
	double tokens, tokens_at;
	float idle_after;               /* 0: never */
	struct io *home;
	uint64_t id;
	struct conn_class *class;
	struct conn *dirty_next;
	struct window *window;
	struct stream *stream;          /* made with the first byte */
	struct tls *tls;
	struct zip *zip;
	struct tls_ctx *ctx;            /* until tls is made */
	struct block *alpn, *server_name;
	struct out *first, **last;
	uint32_t queued;                /* bytes from first on */
	uint32_t clear;                 /* of these, before TLS begins */
	struct buf wire;                /* encrypted, the socket would not take it */
	struct buf rest;                /* read, not yet decrypted: the window was full */
	struct buf zrest;               /* not yet inflated, likewise */
	struct addr peer;
	struct conn_limits limits;
	const char *reason;             /* of an end under way */
	uint32_t discarded;
	uint8_t hold;
	uint8_t tls_state;              /* enum conn_tls */
	bool client, connecting, raw, counted, dirty, dead;
	bool hot;                       /* the parser has memory to give back */
	bool waiting;                   /* the stream has bytes that a resume would parse */
	bool zwaiting;                  /* so has inflate */
	bool discard;                   /* what comes in is thrown away */
	bool tapped;                    /* bytes go by way of the logic thread */
	bool tap_stale;                 /* those it has now are of no more use: they came before TLS */
	bool eof;                       /* the peer's end was read */
	bool parted;                    /* the logic thread has ended it, and waits for nothing */
	bool closing, said_goodbye, fin;
	bool reset;                     /* aborted: RST instead of FIN */
	uint32_t taken;                 /* blocks the logic thread has sent here; wraps around */
	bool unsent;                    /* something was queued since the last time all was out */
	bool later;                     /* in io->later */
};

/* conn.c */
void conn_event(struct conn *c, enum conn_event_kind kind, uint64_t number, void *p);
void conn_event_to(uint64_t id, enum conn_event_kind kind, uint64_t number, void *p);
/* may_wait: nobody waits for it alone, so it comes along with what is told next (lane_post_later). */
void conn_event_soon(struct conn *c, enum conn_event_kind kind, void *p, bool may_wait);
void *conn_text_of(const void *p, size_t n);
void conn_die(struct conn *c, const char *reason);        /* now; freed at the end of the iteration */
void conn_finish(struct conn *c, const char *reason);     /* flush, goodbye, FIN, then die when the peer has closed too */
void conn_schedule(struct conn *c);
void conn_watch(struct conn *c);                          /* reads and writes what the state wants */
void conn_mark(struct conn *c);                           /* flush at the end of the iteration */
static inline double conn_now(const struct conn *c) { return ev_now(c->home->loop); }

/* conn_read.c */
void conn_readable(struct conn *c);
void conn_go_on(struct conn *c);                          /* a hold has gone: what waited is parsed, then the socket read */
void conn_unhold(struct conn *c, int hold);
void conn_parse(struct conn *c, struct str bytes);        /* to the stream */
void conn_begin_tls(struct conn *c);
void conn_drain_clear(struct conn *c);                    /* throws away what the socket has now */
void conn_handled(struct conn *c);                        /* after the peer's end: ends it if everything is handled */

/* conn_write.c */
void conn_queue(struct conn *c, struct block *b, uint32_t at, uint32_t end);     /* takes a reference of its own */
void conn_queue_later(struct conn *c, struct block *b, uint32_t at, uint32_t end);     /* flushed with the next, or CONN_LATER */
void conn_put_off(struct conn *c);                        /* conn_mark() after CONN_LATER, unless something is flushed before */
void conn_flush(struct conn *c);
void conn_wire_out(struct conn *c);                       /* sends home->wire, keeps what does not go */
void conn_wire_keep(struct conn *c);                      /* keeps it for conn_flush(), which the caller sees to */
void conn_drop_queue(struct conn *c);

#endif
