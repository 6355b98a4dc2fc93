/* SPDX-License-Identifier: MIT */
/* conn_write.c - the output of a connection: a queue of shared blocks, one write per iteration, bounded. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/mem.h"
#include "net/conn_own.h"

enum {
	SPARE = 8192,                    /* queue nodes a thread keeps: a multicast to thousands takes three each */
	PIECES = 64,                     /* of one writev */
	LATER_SLICE = 20,               /* connections flushed between two looks at the sockets */
	WIRE_BATCH = 64 * 1024,          /* encrypted before it is sent */
	WIRE_JOINS = 4 * 1024,           /* waits for what else there is to send: the end of a handshake, with session tickets */
	WIRE_MAX = 256 * 1024,           /* a peer may make us answer without reading: key updates */
};

static struct out *node(struct io *io)
{
	struct out *o = io->spare;
	if (!o)
		return mem_alloc(sizeof *o);
	io->spare = o->next;
	io->n_spare--;
	return o;
}

static void give_back(struct io *io, struct out *o)
{
	block_unref(&o->b);
	if (io->n_spare >= SPARE) {
		free(o);
		return;
	}
	o->next = io->spare;
	io->spare = o;
	io->n_spare++;
}

void conn_free_spare(struct io *io)
{
	while (io->spare) {
		struct out *o = io->spare;
		io->spare = o->next;
		free(o);
	}
	io->n_spare = 0;
}

void conn_drop_queue(struct conn *c)
{
	while (c->first) {
		struct out *o = c->first;
		c->first = o->next;
		give_back(c->home, o);
	}
	c->last = &c->first;
	c->queued = 0;
}

/* Over the bound even after the socket took what it takes? One block alone is never too much: it exists already. */
static bool too_much(struct conn *c, uint32_t n)
{
	if (!c->queued || c->queued + c->wire.len + n <= c->limits.max_send)
		return false;
	if (!(c->blocked_at > 0))
		conn_flush(c);
	return !c->dead && c->queued && c->queued + c->wire.len + n > c->limits.max_send;
}

static bool append(struct conn *c, struct block *b, uint32_t at, uint32_t end)
{
	if (c->dead || c->closing || end <= at)
		return false;
	struct block *own;
	if (c->zip) {
		/* Deflated here and not when it leaves, so that what was queued before stays clear. */
		struct buf z = { 0 };
		zip_deflate(c->zip, (struct str){ b->bytes + at, end - at }, &z);
		own = block_new(buf_str(&z), 0);
		buf_free(&z);
		at = 0;
		end = own->len;
	} else {
		own = block_ref(b);
	}
	uint32_t n = end - at;
	if (too_much(c, n)) {
		io_add(c->home, IO_SEND_FULL, 1);
		conn_die(c, "send buffer full");
	}
	if (c->dead) {
		block_unref(&own);
		return false;
	}
	struct out *o = node(c->home);
	*o = (struct out){ .b = own, .at = at, .end = end };
	*c->last = o;
	c->last = &o->next;
	c->queued += n;
	c->unsent = true;
	return true;
}

void conn_queue(struct conn *c, struct block *b, uint32_t at, uint32_t end)
{
	if (!append(c, b, at, end))
		return;
	conn_mark(c);
}

void conn_put_off(struct conn *c)
{
	if (c->later)
		return;
	c->later = true;
	io_later(c->home, c->id);
}

void conn_queue_later(struct conn *c, struct block *b, uint32_t at, uint32_t end)
{
	if (append(c, b, at, end) && !c->dirty)
		conn_put_off(c);
}

void conn_flush_later(struct io *io)
{
	uint32_t n = io->n_later < LATER_SLICE ? io->n_later : LATER_SLICE;
	for (uint32_t i = 0; i < n; i++) {
		struct conn *c = io_slot_find(io, io->later[i]);
		if (!c)
			continue;
		c->later = false;
		if (c->first || c->wire.len)
			conn_mark(c);
	}
	io->n_later -= n;
	memmove(io->later, io->later + n, io->n_later * sizeof *io->later);
}

static void sent(struct conn *c, size_t n)
{
	c->queued -= (uint32_t)n;
	if (c->tls_state == TLS_CLEAR)
		c->clear -= (uint32_t)n;
	while (n) {
		struct out *o = c->first;
		size_t here = o->end - o->at;
		if (n < here) {
			o->at += (uint32_t)n;
			return;
		}
		n -= here;
		c->first = o->next;
		if (!c->first)
			c->last = &c->first;
		give_back(c->home, o);
	}
}

/* ST_AGAIN: the socket is full. ST_CLOSED: the connection is dead. */
static enum status out_raw(struct conn *c, const struct iovec *iov, int n_iov, size_t *n)
{
	struct msghdr m = { .msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)n_iov };
	ssize_t got;
	do
		got = n_iov == 1 ? send(c->io.fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL) : sendmsg(c->io.fd, &m, MSG_NOSIGNAL);
	while (got < 0 && errno == EINTR);
	if (got < 0) {
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return ST_AGAIN;
		conn_die(c, c->reason ? c->reason : c->eof ? "peer closed" : strerror(errno));
		return ST_CLOSED;
	}
	io_add(c->home, IO_BYTES_OUT, (uint64_t)got);
	if (c->blocked_at > 0)
		c->blocked_at = conn_now(c);          /* it moves: the send timeout begins anew */
	*n = (size_t)got;
	return ST_OK;
}

void conn_wire_out(struct conn *c)
{
	struct buf *wire = &c->home->wire;
	if (!wire->len || c->dead)
		return;
	size_t n = 0;
	if (!c->wire.len) {
		struct iovec iov = { buf_data(wire), wire->len };
		if (out_raw(c, &iov, 1, &n) == ST_CLOSED)
			return;
	}
	buf_eat(wire, n);
	if (wire->len) {
		conn_wire_keep(c);
		conn_mark(c);
	}
}

void conn_wire_keep(struct conn *c)
{
	struct buf *wire = &c->home->wire;
	if (c->wire.len + wire->len > WIRE_MAX)
		conn_die(c, "send buffer full");
	else
		buf_add_str(&c->wire, buf_str(wire));
}

/* ST_OK: all is out. */
static enum status flush_wire(struct conn *c)
{
	while (c->wire.len) {
		struct iovec iov = { buf_data(&c->wire), c->wire.len };
		size_t n = 0;
		enum status st = out_raw(c, &iov, 1, &n);
		if (st)
			return st;
		buf_eat(&c->wire, n);
	}
	buf_free(&c->wire);
	return ST_OK;
}

static enum status flush_plain(struct conn *c)
{
	while (c->first && (c->tls_state != TLS_CLEAR || c->clear)) {
		struct iovec iov[PIECES];
		int n_iov = 0;
		size_t want = 0, most = c->tls_state == TLS_CLEAR ? c->clear : SIZE_MAX, n = 0;
		for (struct out *o = c->first; o && n_iov < PIECES && want < most; o = o->next) {
			iov[n_iov++] = (struct iovec){ o->b->bytes + o->at, o->end - o->at };
			want += o->end - o->at;
		}
		enum status st = out_raw(c, iov, n_iov, &n);
		if (st)
			return st;
		sent(c, n);
	}
	return ST_OK;
}

/* One record's worth from the queue. Small blocks meet in scratch, so that they share a record. */
static struct str gather(struct conn *c)
{
	struct out *o = c->first;
	uint32_t here = o->end - o->at;
	if (!o->next || here >= IO_PLAIN)
		return (struct str){ o->b->bytes + o->at, here > IO_PLAIN ? IO_PLAIN : here };
	size_t n = 0;
	for (; o && n < IO_PLAIN; o = o->next) {
		size_t part = o->end - o->at;
		if (part > IO_PLAIN - n)
			part = IO_PLAIN - n;
		memcpy(c->home->scratch + n, o->b->bytes + o->at, part);
		n += part;
	}
	return (struct str){ c->home->scratch, n };
}

static enum status flush_tls(struct conn *c)
{
	struct buf *wire = &c->home->wire;
	for (;;) {
		bool more = c->first && c->tls_state == TLS_ON;
		if (!more || c->wire.len > WIRE_JOINS) {
			enum status st = flush_wire(c);
			if (st)
				return st;
		}
		if (!more)
			return ST_OK;
		buf_eat(wire, wire->len);
		buf_add_str(wire, buf_str(&c->wire));
		buf_free(&c->wire);
		while (c->first && wire->len < WIRE_BATCH) {
			struct str part = gather(c);
			if (tls_write(c->tls, part, wire)) {
				conn_die(c, "TLS failure");
				return ST_CLOSED;
			}
			sent(c, part.n);
		}
		if (c->closing && !c->first && !c->said_goodbye) {       /* in the same packet as the end of the stream */
			c->said_goodbye = true;
			tls_goodbye(c->tls, wire);
		}
		conn_wire_out(c);
		if (c->dead)
			return ST_CLOSED;
		if (c->wire.len)
			return ST_AGAIN;
	}
}

/* All is out: what was waiting for that? */
static void emptied(struct conn *c)
{
	if (c->tls_state == TLS_CLEAR) {
		conn_begin_tls(c);
		return;
	}
	if (c->closing) {
		if (!c->said_goodbye && c->tls_state == TLS_ON) {
			c->said_goodbye = true;
			buf_eat(&c->home->wire, c->home->wire.len);
			tls_goodbye(c->tls, &c->home->wire);
			conn_wire_out(c);
			if (c->dead || c->wire.len)
				return;
		}
		if (!c->fin) {
			c->fin = true;
			shutdown(c->io.fd, SHUT_WR);
		}
		if (c->eof)
			conn_die(c, c->reason);
		return;
	}
	if (c->first)                         /* it waits for the handshake to end */
		return;
	if (!c->unsent)
		return;
	c->unsent = false;
	bool waits = window_drained(c->window, c->taken);        /* asked in any case: it takes note */
	if (waits || atomic_load_explicit(&c->class->every_drained, memory_order_relaxed))
		conn_event(c, CONN_DRAINED, 0, NULL);
}

void conn_flush(struct conn *c)
{
	if (c->connecting)
		return;
	enum status st = c->tls_state >= TLS_SHAKE ? flush_tls(c) : flush_plain(c);
	if (c->dead)
		return;
	bool was = c->blocked_at > 0;
	if (st == ST_OK)
		emptied(c);
	if (c->dead)
		return;
	bool waits = st == ST_AGAIN || c->wire.len;
	if (waits && !was)
		c->blocked_at = conn_now(c);
	else if (!waits)
		c->blocked_at = 0;
	if (waits != was) {
		conn_watch(c);
		conn_schedule(c);
	}
}
