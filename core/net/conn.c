/* SPDX-License-Identifier: MIT */
/* conn.c - the life of a connection: how it begins, its timer, how it ends. */
#include "net/conn.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "logic.h"
#include "net/conn_own.h"
#include "net/peers.h"

const struct conn_limits conn_default_limits = {
	.stream = { .stanza_bytes = 256 * 1024, .depth = 64, .attributes = 64, .children = 4096, .parser_bytes = 2 * 1024 * 1024 },
	.max_send = 1024 * 1024,
	.send_timeout = 180,
};

static void (*sink)(struct msg *);
static _Atomic uint32_t count, max_count;
static atomic_bool hold_new;

void conn_set_sink(void (*deliver)(struct msg *))
{
	sink = deliver;
}

void conn_set_max(uint32_t connections)
{
	atomic_store(&max_count, connections);
}

void conn_hold_new(bool on)
{
	atomic_store(&hold_new, on);
}

uint32_t conn_count(void)
{
	return atomic_load(&count);
}

enum status conn_class_enter(struct conn_class *class)
{
	uint32_t all = atomic_fetch_add(&count, 1), own = atomic_fetch_add(&class->open, 1);
	uint32_t max_all = atomic_load(&max_count), max_own = atomic_load(&class->max);
	if ((!max_all || all < max_all) && (!max_own || own < max_own))
		return ST_OK;
	conn_class_leave(class);
	return ST_LIMIT;
}

void conn_class_leave(struct conn_class *class)
{
	atomic_fetch_sub(&count, 1);
	atomic_fetch_sub(&class->open, 1);
}

/* --- events --- */

void *conn_text_of(const void *p, size_t n)
{
	struct conn_text *t = mem_alloc(sizeof *t + n + 1);
	t->len = (uint32_t)n;
	memcpy(t->bytes, p, n);
	t->bytes[n] = '\0';
	return t;
}

static struct msg *event(uint64_t id, enum conn_event_kind kind, uint64_t number, void *p)
{
	struct conn_event *e = mem_alloc(sizeof *e);
	e->msg.deliver = sink;
	e->id = id;
	e->kind = kind;
	e->number = number;
	e->p = p;
	return &e->msg;
}

void conn_event_to(uint64_t id, enum conn_event_kind kind, uint64_t number, void *p)
{
	lane_post(logic_lane(), event(id, kind, number, p));
}

void conn_event(struct conn *c, enum conn_event_kind kind, uint64_t number, void *p)
{
	conn_event_to(c->id, kind, number, p);
}

void conn_event_soon(struct conn *c, enum conn_event_kind kind, void *p, bool may_wait)
{
	(may_wait ? lane_post_later : lane_post)(logic_lane(), event(c->id, kind, 0, p));
}

/* --- one timer for everything --- */

static void sooner(double *t, double other)
{
	if (other < *t)
		*t = other;
}

void conn_schedule(struct conn *c)
{
	if (c->dead)
		return;
	double t = INFINITY;
	if (c->deadline > 0)
		sooner(&t, c->deadline);
	if (c->idle_after > 0 && !c->eof && !c->closing)
		sooner(&t, c->idle_from + (double)c->idle_after);
	if (c->hold & HOLD_RATE)
		sooner(&t, c->rate_at);
	if (c->blocked_at > 0 && c->limits.send_timeout)
		sooner(&t, c->blocked_at + c->limits.send_timeout);
	if (c->hot)
		sooner(&t, c->last_in + CONN_PARSER_IDLE);
	if (ev_is_active(&c->timer)) {
		if (t == c->due)
			return;
		ev_timer_stop(c->home->loop, &c->timer);
	}
	c->due = t;
	if (t == INFINITY)
		return;
	double wait = t - conn_now(c);
	ev_timer_set(&c->timer, wait > 0 ? wait : 0, 0.);
	ev_timer_start(c->home->loop, &c->timer);
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)events;
	struct conn *c = timer->data;
	double now = ev_now(loop);
	if (c->deadline > 0 && now >= c->deadline) {
		conn_die(c, c->reason ? c->reason : "deadline");
		return;
	}
	if (c->blocked_at > 0 && c->limits.send_timeout && now >= c->blocked_at + c->limits.send_timeout) {
		conn_die(c, "send timeout");
		return;
	}
	if (c->idle_from < c->last_in)
		c->idle_from = c->last_in;
	if (c->idle_after > 0 && now >= c->idle_from + (double)c->idle_after) {
		c->idle_from = now;
		if (!c->eof && !c->closing)
			conn_event(c, CONN_IDLE, 0, NULL);
	}
	if (c->hot && now >= c->last_in + CONN_PARSER_IDLE) {
		c->hot = false;
		if (c->stream)
			stream_idle(c->stream);
	}
	if (c->hold & HOLD_RATE && now >= c->rate_at)
		conn_unhold(c, HOLD_RATE);
	conn_schedule(c);
}

/* --- watching the socket --- */

static bool held(const struct conn *c)
{
	return c->hold && !c->discard;
}

/* now: what is not to be read is not watched either. Otherwise it stays watched until something comes: in lock-step nothing does,
 * and two system calls for each step are spared. */
static void watch(struct conn *c, bool now)
{
	if (c->dead)
		return;
	bool read = !held(c) || (!now && ev_is_active(&c->io) && c->io.events & EV_READ);
	int events = c->connecting ? EV_WRITE : read && !c->eof ? EV_READ : 0;
	if (c->blocked_at > 0)
		events |= EV_WRITE;
	if ((c->io.events & (EV_READ | EV_WRITE)) == events && (ev_is_active(&c->io) || !events))
		return;
	ev_io_stop(c->home->loop, &c->io);
	ev_io_modify(&c->io, events);
	if (events)
		ev_io_start(c->home->loop, &c->io);
}

void conn_watch(struct conn *c)
{
	watch(c, false);
}

static void connected(struct conn *c)
{
	int error = 0;
	socklen_t len = sizeof error;
	if (getsockopt(c->io.fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error) {
		conn_die(c, strerror(error));
		return;
	}
	c->connecting = false;
	struct sockaddr_storage local;
	len = sizeof local;
	struct conn_opened *o = mem_zero(sizeof *o);
	if (getsockname(c->io.fd, (struct sockaddr *)&local, &len) == 0)
		o->local = addr_of((struct sockaddr *)&local);
	o->class = c->class;
	o->peer = c->peer;
	o->limits = c->limits;
	o->window = window_ref(c->window);
	o->direct_tls = c->tls_state == TLS_SHAKE;
	conn_event(c, CONN_OPENED, 0, o);
	if (c->tls_state == TLS_SHAKE)
		conn_begin_tls(c);
	conn_watch(c);
	conn_mark(c);
}

static void on_io(struct ev_loop *loop, ev_io *w, int events)
{
	(void)loop;
	struct conn *c = w->data;
	if (c->connecting) {
		connected(c);
		return;
	}
	if (events & EV_WRITE)
		conn_mark(c);
	if (!(events & EV_READ))
		return;
	if (held(c))
		watch(c, true);
	else
		conn_readable(c);
}

/* --- beginning --- */

struct adopt {
	struct msg msg;
	struct io *io;
	struct conn_start start;
};

static void refuse(struct conn_start *s)
{
	if (s->token)
		conn_event_to(0, CONN_CLOSED, s->token, conn_text_of("no room", 7));
	close(s->fd);
	tls_ctx_unref(&s->tls);
	block_unref(&s->alpn);
	block_unref(&s->server_name);
	conn_class_leave(s->class);
}

static void adopt(struct msg *msg)
{
	struct adopt *a = (struct adopt *)msg;
	struct io *io = a->io;
	struct conn_start *s = &a->start;
	struct conn *c = mem_zero(sizeof *c);
	if (io->stopping || !(c->id = io_slot_take(io, c))) {
		refuse(s);
		free(c);
		free(a);
		return;
	}
	ev_now_update(io->loop);            /* who turned the loop long ago must not find his deadlines in the past */
	double now = ev_now(io->loop);
	c->home = io;
	c->class = s->class;
	c->limits = s->limits;
	c->peer = s->peer;
	c->raw = s->raw;
	c->counted = s->counted;
	c->connecting = c->client = s->token != 0;
	c->window = window_new(s->window_elements, s->window_bytes);
	c->last = &c->first;
	c->last_in = c->idle_from = c->tokens_at = now;
	c->tokens = c->limits.burst;
	c->deadline = s->deadline > 0 ? now + s->deadline : 0;
	c->ctx = s->tls;
	c->alpn = s->alpn;
	c->server_name = s->server_name;
	c->tls_state = s->tls ? TLS_SHAKE : TLS_OFF;
	ev_io_init(&c->io, on_io, s->fd, 0);
	c->io.data = c;
	ev_timer_init(&c->timer, on_timer, 0., 0.);
	c->timer.data = c;
	io_add(io, IO_OPENED, 1);
	if (s->token) {
		conn_event(c, CONN_BOUND, s->token, NULL);
	} else {
		struct conn_opened *o = mem_zero(sizeof *o);
		*o = (struct conn_opened){ .class = c->class, .window = window_ref(c->window), .peer = s->peer, .local = s->local, .limits = s->limits,
			.direct_tls = s->tls != NULL, .held = atomic_load(&hold_new) };
		if (o->held)
			c->hold |= HOLD_OPEN;
		conn_event_soon(c, CONN_OPENED, o, !o->held && !c->raw);      /* raw: may be spoken to first */
	}
	conn_watch(c);
	conn_schedule(c);
	free(a);
}

void conn_adopt(struct io *io, const struct conn_start *start)
{
	struct adopt *a = mem_alloc(sizeof *a);
	a->msg.deliver = adopt;
	a->io = io;
	a->start = *start;
	lane_post(io->lane, &a->msg);
}

/* --- ending --- */

struct leave {
	struct msg msg;
	struct conn_class *class;
	struct addr peer;
};

static void left(struct msg *msg)
{
	struct leave *l = (struct leave *)msg;
	if (l->class->peers)
		peers_leave(l->class->peers, &l->peer);
	free(l);
}

void conn_die(struct conn *c, const char *reason)
{
	if (c->dead)
		return;
	struct io *io = c->home;
	c->dead = true;
	ev_io_stop(io->loop, &c->io);
	ev_timer_stop(io->loop, &c->timer);
	/* What the peer has not taken by now it never will: the kernel need not keep it. */
	if (c->queued || c->wire.len || c->reset)
		setsockopt(c->io.fd, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 }, sizeof(struct linger));
	close(c->io.fd);
	conn_event_soon(c, CONN_CLOSED, conn_text_of(reason, strlen(reason)), c->parted);
	io_slot_free(io, c->id);
	io_add(io, IO_CLOSED, 1);
	conn_class_leave(c->class);
	if (c->counted && !io->stopping) {
		struct leave *l = mem_alloc(sizeof *l);
		*l = (struct leave){ .msg.deliver = left, .class = c->class, .peer = c->peer };
		lane_post(io_at(0)->lane, &l->msg);
	}
	conn_mark(c);                     /* whoever called may still look at it: freed by conn_flush_dirty() */
}

static void destroy(struct conn *c)
{
	conn_drop_queue(c);
	stream_free(&c->stream);
	tls_free(&c->tls);
	zip_free(&c->zip);
	tls_ctx_unref(&c->ctx);
	block_unref(&c->alpn);
	block_unref(&c->server_name);
	window_unref(&c->window);
	buf_free(&c->wire);
	buf_free(&c->rest);
	buf_free(&c->zrest);
	free(c);
}

void conn_finish(struct conn *c, const char *reason)
{
	if (c->dead || c->closing)
		return;
	c->reason = reason;
	if (c->connecting || c->tls_state == TLS_SHAKE) {       /* nothing can be said yet */
		conn_die(c, reason);
		return;
	}
	c->closing = true;
	c->discard = true;
	conn_watch(c);
	conn_schedule(c);
	conn_mark(c);
}

void conn_mark(struct conn *c)
{
	if (c->dirty)
		return;
	c->dirty = true;
	c->dirty_next = c->home->dirty;
	c->home->dirty = c;
}

/* Who has been silent is in no cache: the next two are fetched while this one is written. */
static void fetch_ahead(const struct conn *c)
{
	const struct conn *next = c->dirty_next;
	if (!next)
		return;
	if (next->tls)
		tls_prefetch(next->tls);
	mem_prefetch(next->window, sizeof *next->window);
	mem_prefetch(next->dirty_next, sizeof *next);
}

void conn_flush_dirty(struct io *io)
{
	while (io->dirty) {
		struct conn *c = io->dirty;
		io->dirty = c->dirty_next;
		c->dirty = false;
		fetch_ahead(c);
		if (!c->dead)
			conn_flush(c);
		if (c->dead) {
			if (c->dirty) {           /* died in its flush, and marked itself: it is the first again */
				io->dirty = c->dirty_next;
				c->dirty = false;
			}
			destroy(c);
		}
	}
}

void conn_close_all(struct io *io)
{
	io->stopping = true;
	for (uint32_t i = 0; i < io->n_slots; i++)
		if (io->slots[i].conn)
			conn_die(io->slots[i].conn, "server stops");
	conn_flush_dirty(io);
}
