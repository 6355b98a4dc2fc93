/* SPDX-License-Identifier: MIT */
/* io.h - an I/O thread: its libev loop, its lane, the slots of its connections, its scratch memory.
 *
 * With no I/O threads the logic thread's loop and lane serve instead; the code is the same.
 */
#ifndef COUPLET_IO_H
#define COUPLET_IO_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct conn;
struct ev_loop;
struct lane;

enum {
	IO_MAX = 32,              /* threads */
	IO_SLOTS = 1 << 24,       /* connections of one thread */
	IO_IN = 32 * 1024,        /* one read from a socket */
	IO_PLAIN = 16 * 1024,     /* one TLS record, one step of inflate, one coalesced write */
};

enum io_stat {
	IO_OPENED, IO_CLOSED, IO_BYTES_IN, IO_BYTES_OUT, IO_ELEMENTS, IO_HANDSHAKES, IO_RESUMED, IO_HANDSHAKES_FAILED,
	IO_REFUSED_RATE, IO_REFUSED_PER_IP, IO_REFUSED_FULL, IO_ACCEPT_ERRORS, IO_SEND_FULL, IO_READ_THROTTLED, IO_STATS
};

struct io_slot {
	struct conn *conn;        /* NULL: free */
	uint32_t generation;
	uint32_t next_free;       /* slot + 1; 0: none */
};

struct io {
	int index;
	struct ev_loop *loop;
	struct lane *lane;
	struct io_slot *slots;
	uint32_t n_slots, cap_slots, free_slot;     /* free_slot: slot + 1; 0: none */
	struct conn *dirty;                         /* to flush when the iteration ends */
	uint64_t *later;                            /* ids of those with output that may wait a moment */
	uint32_t n_later, cap_later;
	struct ev_timer *later_timer;
	bool stopping;
	struct out *spare;                          /* nodes of output queues */
	uint32_t n_spare;
	char *in, *plain, *scratch;
	struct buf wire;                            /* encrypted, on its way to a socket */
	_Atomic uint64_t stats[IO_STATS];           /* written by this thread only */
};

/* Logic thread, once: starts `threads` I/O threads and waits until they can be posted to. */
void io_start(int threads);
void io_stop(void);                 /* logic thread: closes every connection and ends the threads */
int io_count(void);                 /* places for connections: 0 before io_start(), then at least 1 */
struct io *io_at(int index);
struct io *io_here(void);           /* of the calling thread, or NULL */
void io_later(struct io *io, uint64_t id);     /* conn_flush_later() gets it within CONN_LATER seconds */

/* A connection's name towards the logic thread; never 0, and positive as a Lua integer. */
uint64_t io_slot_take(struct io *io, struct conn *c);       /* 0: no slot left */
void io_slot_free(struct io *io, uint64_t id);
struct conn *io_slot_find(struct io *io, uint64_t id);      /* NULL: gone */
static inline int io_of(uint64_t id) { return (int)(id >> 24 & 0xff); }
static inline uint32_t io_slot_of(uint64_t id) { return (uint32_t)(id & (IO_SLOTS - 1)); }

static inline void io_add(struct io *io, enum io_stat which, uint64_t n)
{
	atomic_store_explicit(&io->stats[which], atomic_load_explicit(&io->stats[which], memory_order_relaxed) + n,
		memory_order_relaxed);
}

#endif
