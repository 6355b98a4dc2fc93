/* SPDX-License-Identifier: MIT */
/* conn_order.c - what other threads tell a connection, by its id. */
#include <stdlib.h>

#include "base/mem.h"
#include "base/thread.h"
#include "net/conn_own.h"
#include "xml/writer.h"

struct order {
	struct msg msg;
	uint64_t id;
	void (*run)(struct conn *c, struct order *o);     /* on the connection's thread, if it still is there */
	double number;
	void (*drop)(struct order *o);                    /* frees p; NULL: free(p) */
	void *p;
};

static void deliver(struct msg *msg)
{
	struct order *o = (struct order *)msg;
	struct conn *c = io_slot_find(io_here(), o->id);
	if (c && !c->dead)
		o->run(c, o);
	if (o->drop)
		o->drop(o);
	else
		free(o->p);
	free(o);
}

static void order(uint64_t id, void (*run)(struct conn *, struct order *), double number, void *p, void (*drop)(struct order *))
{
	struct io *io = io_at(io_of(id));
	struct order *o = mem_alloc(sizeof *o);
	*o = (struct order){ .msg.deliver = deliver, .id = id, .run = run, .number = number, .p = p, .drop = drop };
	if (id && io) {
		lane_post(io->lane, &o->msg);
		return;
	}
	if (drop)
		drop(o);
	else
		free(p);
	free(o);
}

/* --- sending: the one that is hot --- */

struct send {
	struct msg msg;
	uint64_t id;
	struct block *b;
	bool later;
};

static void deliver_send(struct msg *msg)
{
	struct send *s = (struct send *)msg;
	struct conn *c = io_slot_find(io_here(), s->id);
	if (c) {
		c->taken += s->b->len > 0;
		(s->later ? conn_queue_later : conn_queue)(c, s->b, 0, s->b->len);
	}
	block_unref(&s->b);
	free(s);
}

void conn_send(uint64_t id, struct block **moved, bool later)
{
	struct io *io = io_at(io_of(id));
	if (!id || !io) {
		block_unref(moved);
		return;
	}
	struct send *s = mem_alloc(sizeof *s);
	*s = (struct send){ .msg.deliver = deliver_send, .id = id, .b = *moved, .later = later };
	*moved = NULL;
	(later ? lane_post_later : lane_post)(io->lane, &s->msg);
}

enum { AHEAD = 4 };              /* connections fetched into the cache before it is their turn */

struct many {
	struct msg msg;
	struct block *b;
	struct block *tos;           /* ` to='…'` of all, one after the other; NULL: none */
	size_t n;
	bool later;
	struct { uint64_t id; uint32_t at, end; } item[];
};

static void deliver_many(struct msg *msg)
{
	struct many *m = (struct many *)msg;
	void (*queue)(struct conn *, struct block *, uint32_t, uint32_t) = m->later ? conn_queue_later : conn_queue;
	for (size_t i = 0; i < m->n; i++) {
		struct conn *c = io_slot_find(io_here(), m->item[i].id);
		if (i + AHEAD < m->n)
			mem_prefetch(io_slot_find(io_here(), m->item[i + AHEAD].id), sizeof *c);
		if (!c)
			continue;
		c->taken += m->b->len > 0;
		if (m->item[i].end > m->item[i].at && m->b->hole) {
			queue(c, m->b, 0, m->b->hole);
			queue(c, m->tos, m->item[i].at, m->item[i].end);
			queue(c, m->b, m->b->hole, m->b->len);
		} else {
			queue(c, m->b, 0, m->b->len);
		}
	}
	block_unref(&m->b);
	block_unref(&m->tos);
	free(m);
}

void conn_send_many(const uint64_t *ids, const struct str *tos, size_t n, struct block *b, bool later)
{
	for (int thread = 0; thread < io_count(); thread++) {
		size_t mine = 0;
		for (size_t i = 0; i < n; i++)
			mine += ids[i] && io_of(ids[i]) == thread;
		if (!mine)
			continue;
		struct many *m = mem_alloc(sizeof *m + mine * sizeof m->item[0]);
		struct buf text = { 0 };
		int prefixes = 0;
		*m = (struct many){ .msg.deliver = deliver_many, .b = block_ref(b), .later = later };
		for (size_t i = 0; i < n; i++) {
			if (!ids[i] || io_of(ids[i]) != thread)
				continue;
			m->item[m->n].id = ids[i];
			m->item[m->n].at = (uint32_t)text.len;
			if (tos && tos[i].p && b->hole)
				writer_attr(&text, STR("to"), tos[i], &prefixes);
			m->item[m->n++].end = (uint32_t)text.len;
		}
		if (text.len)
			m->tos = block_new(buf_str(&text), 0);
		buf_free(&text);
		lane_post(io_at(thread)->lane, &m->msg);
	}
}

/* --- the rest --- */

static void run_close(struct conn *c, struct order *o)
{
	double end = conn_now(c) + o->number;
	if (!(c->deadline > 0) || c->deadline > end || !c->closing)
		c->deadline = end;
	c->hold = 0;
	c->parted = true;
	conn_finish(c, c->eof ? "peer closed" : "closed");
	conn_schedule(c);
}

void conn_close(uint64_t id, double seconds)
{
	order(id, run_close, seconds > 0 ? seconds : 0, NULL, NULL);
}

static void run_abort(struct conn *c, struct order *o)
{
	c->reset = true;
	conn_die(c, o->p);
}

void conn_abort(uint64_t id, const char *reason)
{
	order(id, run_abort, 0, mem_copy(reason, strlen(reason)), NULL);
}

struct starttls {
	struct tls_ctx *ctx;
	struct block *name;
	bool client;
};

static void drop_starttls(struct order *o)
{
	struct starttls *s = o->p;
	tls_ctx_unref(&s->ctx);
	block_unref(&s->name);
	free(s);
}

static void run_starttls(struct conn *c, struct order *o)
{
	struct starttls *s = o->p;
	if (c->tls_state != TLS_OFF || c->ctx || c->closing || c->eof || c->zip)
		return;
	c->ctx = s->ctx;
	s->ctx = NULL;
	c->server_name = s->name;
	s->name = NULL;
	c->client = s->client;
	c->tls_state = TLS_CLEAR;
	c->discard = false;
	c->tap_stale = c->hold & HOLD_TAP;
	if (c->stream) {
		stream_restart(c->stream, true);      /* RFC 6120 §5.4.3.3 */
		c->waiting = false;
	}
	if (!c->queued) {
		conn_begin_tls(c);
		return;
	}
	/* The peer cannot have seen <proceed/>: what it has sent until now was sent in clear. */
	if (!c->client)
		conn_drain_clear(c);
	c->clear = c->queued;
	c->hold |= HOLD_TLS;
	conn_watch(c);
	conn_mark(c);
}

void conn_starttls(uint64_t id, struct tls_ctx *ctx, const char *server_name, bool client)
{
	struct starttls *s = mem_alloc(sizeof *s);
	*s = (struct starttls){ .ctx = tls_ctx_ref(ctx), .client = client,
		.name = server_name ? block_new((struct str){ server_name, strlen(server_name) + 1 }, 0) : NULL };
	order(id, run_starttls, 0, s, drop_starttls);
}

static void run_restart(struct conn *c, struct order *o)
{
	if (!c->stream || c->closing)
		return;
	stream_restart(c->stream, false);
	c->discard = false;
	c->waiting = true;
	conn_go_on(c);
}

void conn_restart(uint64_t id)
{
	order(id, run_restart, 0, NULL, NULL);
}

static void run_compress(struct conn *c, struct order *o)
{
	if (!c->zip && !c->raw && !c->closing)
		c->zip = zip_new();
	c->tap_stale = c->hold & HOLD_TAP;
	if (c->stream) {
		stream_restart(c->stream, true);
		c->waiting = false;
	}
}

void conn_compress(uint64_t id)
{
	order(id, run_compress, 0, NULL, NULL);
}

static void run_mode(struct conn *c, struct order *o)
{
	c->raw = o->number > 0;
	if (!c->raw)
		return;
	stream_free(&c->stream);
	c->waiting = false;
	c->hot = false;
}

void conn_mode(uint64_t id, bool raw)
{
	order(id, run_mode, raw, NULL, NULL);
}

static void run_tap(struct conn *c, struct order *o)
{
	c->tapped = o->number > 0;
}

void conn_tap(uint64_t id, bool on)
{
	order(id, run_tap, on, NULL, NULL);
}

static void run_feed(struct conn *c, struct order *o)
{
	struct conn_text *text = o->p;
	if (!(c->hold & HOLD_TAP))
		return;
	c->hold &= (uint8_t)~HOLD_TAP;
	if (!c->tap_stale && !c->discard && !c->raw)
		conn_parse(c, (struct str){ text->bytes, text->len });
	c->tap_stale = false;
	conn_go_on(c);
}

void conn_feed(uint64_t id, struct str bytes)
{
	order(id, run_feed, 0, conn_text_of(bytes.p, bytes.n), NULL);
}

static void run_begin(struct conn *c, struct order *o)
{
	(void)o;
	conn_unhold(c, HOLD_OPEN);
}

void conn_begin(uint64_t id)
{
	order(id, run_begin, 0, NULL, NULL);
}

static void run_hold(struct conn *c, struct order *o)
{
	if (o->number > 0) {
		c->hold |= HOLD_USER;
		conn_watch(c);
	} else if (c->hold & HOLD_USER) {
		conn_unhold(c, HOLD_USER);
	}
}

void conn_hold(uint64_t id, bool pause)
{
	order(id, run_hold, pause, NULL, NULL);
}

static void run_reopened(struct conn *c, struct order *o)
{
	conn_unhold(c, HOLD_WINDOW);
}

void conn_reopened(uint64_t id)
{
	order(id, run_reopened, 0, NULL, NULL);
}

static void run_deadline(struct conn *c, struct order *o)
{
	if (c->closing || c->eof)
		return;
	c->deadline = o->number > 0 ? conn_now(c) + o->number : 0;
	conn_schedule(c);
}

void conn_deadline(uint64_t id, double seconds)
{
	order(id, run_deadline, seconds, NULL, NULL);
}

static void run_idle_after(struct conn *c, struct order *o)
{
	c->idle_after = o->number > 0 ? (float)o->number : 0;
	if (c->idle_from < c->last_in)
		c->idle_from = c->last_in;
	conn_schedule(c);
}

void conn_idle_after(uint64_t id, double seconds)
{
	order(id, run_idle_after, seconds, NULL, NULL);
}

static void run_limits(struct conn *c, struct order *o)
{
	c->limits = *(struct conn_limits *)o->p;
	if (c->hold & HOLD_RATE)
		conn_unhold(c, HOLD_RATE);
	conn_schedule(c);
}

void conn_set_limits(uint64_t id, const struct conn_limits *limits)
{
	order(id, run_limits, 0, mem_copy(limits, sizeof *limits), NULL);
}

struct export {
	struct block *label, *context;
	uint64_t token;
	uint32_t n;
	void *result;
};

static void run_export(struct conn *c, struct order *o)
{
	struct export *x = o->p;
	unsigned char bytes[CONN_EXPORT_MAX];
	struct str context = x->context ? (struct str){ x->context->bytes, x->context->len } : (struct str){ NULL, 0 };
	if (c->tls_state == TLS_ON && tls_export(c->tls, (struct str){ x->label->bytes, x->label->len }, context, bytes, x->n) == ST_OK)
		x->result = conn_text_of(bytes, x->n);
	mem_wipe(bytes, sizeof bytes);
}

static void drop_export(struct order *o)
{
	struct export *x = o->p;
	conn_event_to(o->id, CONN_EXPORTED, x->token, x->result);      /* also from a connection that is gone */
	block_unref(&x->label);
	block_unref(&x->context);
	free(x);
}

void conn_export(uint64_t id, struct str label, struct str context, bool has_context, uint32_t n, uint64_t token)
{
	struct export *x = mem_alloc(sizeof *x);
	*x = (struct export){ .label = block_new(label, 0), .context = has_context ? block_new(context, 0) : NULL, .token = token,
		.n = n };
	order(id, run_export, 0, x, drop_export);
}
