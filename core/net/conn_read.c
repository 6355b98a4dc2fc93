/* SPDX-License-Identifier: MIT */
/* conn_read.c - the input of a connection: socket -> TLS -> inflate -> stream -> events.
 *
 * Each stage stops when the window is full; what it has not eaten waits in a buffer before it (rest, zrest, the stream's own),
 * none of them larger than one read, because nothing more is read meanwhile.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "net/conn_own.h"

enum {
	DISCARD_MAX = 4 * 1024 * 1024,       /* thrown away before we stop being polite */
};

/* --- counted events --- */

static bool counted(struct conn *c, enum conn_event_kind kind, uint64_t number, void *p, uint32_t bytes)
{
	bool full = window_add(c->window, bytes);
	conn_event(c, kind, number, p);
	return full;
}

static void on_header(void *arg, struct element **header)
{
	struct conn *c = arg;
	/* What a client sends along with it comes to the logic thread along with it: there is one header to a stream. */
	counted(c, CONN_STREAM, 0, *header, (*header)->size);
	*header = NULL;
}

static void on_element(void *arg, struct element **el)
{
	struct conn *c = arg;
	uint32_t size = (*el)->size;
	io_add(c->home, IO_ELEMENTS, 1);
	if (counted(c, CONN_ELEMENT, 0, *el, size))
		stream_pause(c->stream);
	*el = NULL;
}

static void on_end(void *arg)
{
	counted(arg, CONN_ENDED, 0, NULL, 0);
}

static const struct stream_events events = { on_header, on_element, on_end };

/* The window is full. Returns whether it has opened again already. */
static bool closed_window(struct conn *c)
{
	window_close(c->window);
	if (window_reopen(c->window))
		return true;
	c->hold |= HOLD_WINDOW;
	return false;
}

/* --- plain bytes --- */

static void stream_result(struct conn *c, enum status st)
{
	while (st == ST_AGAIN) {
		if (!closed_window(c)) {
			c->waiting = true;
			return;
		}
		st = stream_resume(c->stream);
	}
	c->waiting = false;
	if (st == ST_OK)
		return;
	c->discard = true;
	if (st == ST_CLOSED)
		return;
	const char *text = "";
	enum stream_condition condition = stream_error(c->stream, &text);
	counted(c, CONN_ERROR, condition, conn_text_of(text ? text : "", text ? strlen(text) : 0), 0);
}

void conn_parse(struct conn *c, struct str bytes)
{
	if (!c->stream)
		c->stream = stream_new(&c->limits.stream, &events, c);
	c->hot = true;
	stream_result(c, stream_feed(c->stream, bytes));
}

static void eat(struct conn *c, struct str bytes)
{
	if (c->raw) {
		if (counted(c, CONN_DATA, 0, conn_text_of(bytes.p, bytes.n), (uint32_t)bytes.n))
			closed_window(c);
		return;
	}
	if (c->tapped) {
		c->hold |= HOLD_TAP;
		conn_event(c, CONN_BYTES, 0, conn_text_of(bytes.p, bytes.n));
		return;
	}
	conn_parse(c, bytes);
}

static void end(struct conn *c);

static void inflated(struct conn *c, struct str bytes)
{
	char *to = c->home->scratch;
	size_t got = IO_PLAIN;
	while ((bytes.n || got == IO_PLAIN) && !c->dead && !c->discard) {
		if (c->hold & HOLD_INPUT) {
			buf_add_str(&c->zrest, bytes);
			c->zwaiting = true;
			return;
		}
		size_t before = bytes.n;
		enum status st = zip_inflate(c->zip, &bytes, to, IO_PLAIN, &got);
		if (st == ST_CLOSED)
			break;
		if (st) {
			c->discard = true;
			counted(c, CONN_ERROR, SE_UNDEFINED_CONDITION, conn_text_of("bad compressed data", 19), 0);
			return;
		}
		if (!got && before == bytes.n)
			break;
		if (c->limits.rate && got > before - bytes.n)       /* a bomb pays for what it becomes */
			c->tokens -= (double)(got - (before - bytes.n));
		if (got)
			eat(c, (struct str){ to, got });
	}
	c->zwaiting = false;
}

static void plain_in(struct conn *c, struct str bytes)
{
	if (c->discard)
		return;
	if (c->zip)
		inflated(c, bytes);
	else
		eat(c, bytes);
}

/* --- TLS --- */

void conn_begin_tls(struct conn *c)
{
	assert(!c->tls && c->ctx);
	struct str alpn = c->alpn ? (struct str){ c->alpn->bytes, c->alpn->len } : (struct str){ NULL, 0 };
	c->tls = tls_new(c->ctx, !c->client, c->server_name ? c->server_name->bytes : NULL, alpn, c->alpn != NULL);
	tls_ctx_unref(&c->ctx);
	block_unref(&c->alpn);
	block_unref(&c->server_name);
	c->tls_state = TLS_SHAKE;
	if (c->client) {
		buf_eat(&c->home->wire, c->home->wire.len);
		if (tls_begin(c->tls, &c->home->wire)) {
			conn_die(c, "TLS failure");
			return;
		}
		conn_wire_out(c);
	}
	conn_unhold(c, HOLD_TLS);
}

static void shaken(struct conn *c)
{
	c->tls_state = TLS_ON;
	io_add(c->home, IO_HANDSHAKES, 1);
	if (tls_resumed(c->tls))
		io_add(c->home, IO_RESUMED, 1);
	struct buf info = { 0 };
	tls_info(c->tls, &info);
	conn_event_soon(c, CONN_SECURED, conn_text_of(buf_data(&info), info.len), !c->client);
	buf_free(&info);
	conn_wire_keep(c);
	if (c->first || !tls_peer_may_wait(c->tls))
		conn_mark(c);
	else if (c->wire.len)
		conn_put_off(c);
}

static void shake_failed(struct conn *c)
{
	char text[160];
	io_add(c->home, IO_HANDSHAKES_FAILED, 1);
	const char *why = tls_error(c->tls);
	bool other = !strcmp(why, "wrong version number") || !strcmp(why, "http request");        /* OpenSSL's words for no TLS at all */
	snprintf(text, sizeof text, "TLS handshake failed: %s", other ? "the other side does not speak TLS here" : why);
	conn_die(c, text);
}

static void tls_in(struct conn *c, struct str bytes)
{
	struct io *io = c->home;
	if (!c->tls)
		conn_begin_tls(c);
	for (;;) {
		size_t got = 0;
		buf_eat(&io->wire, io->wire.len);
		enum status st = tls_read(c->tls, &bytes, io->plain, IO_PLAIN, &got, &io->wire);
		if (tls_ready(c->tls) && c->tls_state == TLS_SHAKE && (st == ST_OK || st == ST_AGAIN || st == ST_CLOSED))
			shaken(c);
		else
			conn_wire_out(c);
		if (c->dead || st == ST_AGAIN)
			return;
		if (st == ST_INVALID) {
			if (c->tls_state == TLS_SHAKE)
				shake_failed(c);
			else
				conn_die(c, "TLS failure");
			return;
		}
		if (st == ST_CLOSED) {
			end(c);
			return;
		}
		plain_in(c, (struct str){ io->plain, got });
		if (c->dead || c->discard)
			return;
		if (c->hold & HOLD_INPUT) {
			buf_add_str(&c->rest, bytes);
			return;
		}
	}
}

/* --- the socket --- */

/* The peer will say no more. */
static void end(struct conn *c)
{
	if (c->eof || c->dead)
		return;
	c->eof = true;
	conn_watch(c);
	if (c->closing) {
		if (c->fin)
			conn_die(c, c->reason);
		return;                       /* or when all is out */
	}
	if (c->tls_state == TLS_SHAKE) {
		io_add(c->home, IO_HANDSHAKES_FAILED, 1);
		conn_die(c, "peer closed during the TLS handshake");
		return;
	}
	double last = conn_now(c) + CONN_HANDLE_TIME;
	if (!(c->deadline > 0) || c->deadline > last)
		c->deadline = last;
	c->reason = "peer closed";
	conn_schedule(c);
	conn_handled(c);
}

void conn_handled(struct conn *c)
{
	/* The logic thread tells after each handled element from now on, because the window is closed each time. */
	window_close(c->window);
	if (window_elements(c->window) == 0) {
		c->eof = true;
		conn_finish(c, "peer closed");
	}
}

/* Room for this read, by the token bucket; 0: none now. */
static size_t allowance(struct conn *c)
{
	uint32_t rate = c->limits.rate;
	if (!rate || c->discard)
		return IO_IN;
	double now = conn_now(c), burst = c->limits.burst > rate / 10 ? c->limits.burst : rate / 10.;
	c->tokens += (now - c->tokens_at) * rate;
	c->tokens_at = now;
	if (c->tokens > burst)
		c->tokens = burst;
	if (c->tokens >= 1)
		return c->tokens < IO_IN ? (size_t)c->tokens : IO_IN;
	c->hold |= HOLD_RATE;
	c->rate_at = now + (1 - c->tokens) / rate + 0.02;       /* not byte by byte */
	io_add(c->home, IO_READ_THROTTLED, 1);
	conn_schedule(c);
	return 0;
}

static void touched(struct conn *c)
{
	double now = conn_now(c);
	c->last_in = now;
	if (c->idle_from < now)
		c->idle_from = now;
	if (!ev_is_active(&c->timer) || c->due > now + CONN_PARSER_IDLE)
		conn_schedule(c);
}

void conn_readable(struct conn *c)
{
	struct io *io = c->home;
	size_t room = allowance(c);
	if (room) {
		ssize_t n;
		do
			n = recv(c->io.fd, io->in, room, 0);
		while (n < 0 && errno == EINTR);
		if (n < 0) {
			if (errno != EAGAIN && errno != EWOULDBLOCK)
				conn_die(c, c->closing ? c->reason : strerror(errno));
			return;
		}
		if (n == 0) {
			end(c);
			return;
		}
		io_add(io, IO_BYTES_IN, (uint64_t)n);
		c->tokens -= c->limits.rate ? (double)n : 0;
		if (c->discard) {
			c->discarded += (uint32_t)n;
			if (c->discarded > DISCARD_MAX)
				conn_die(c, c->reason ? c->reason : "peer goes on after the end");
			return;
		}
		struct str bytes = { io->in, (size_t)n };
		if (c->tls_state >= TLS_SHAKE)
			tls_in(c, bytes);
		else
			plain_in(c, bytes);
		if (c->dead)
			return;
		touched(c);
	}
	conn_watch(c);
}

void conn_go_on(struct conn *c)
{
	if (c->dead || c->hold)
		return;
	if (c->waiting && !c->discard)
		stream_result(c, stream_resume(c->stream));
	if (c->zwaiting && !(c->hold & HOLD_INPUT) && !c->dead) {
		struct buf rest = c->zrest;
		c->zrest = (struct buf){ 0 };
		inflated(c, buf_str(&rest));
		buf_free(&rest);
	}
	if (c->rest.len && !(c->hold & HOLD_INPUT) && !c->dead) {
		struct buf rest = c->rest;
		c->rest = (struct buf){ 0 };
		tls_in(c, buf_str(&rest));
		buf_free(&rest);
	}
	if (!c->dead && c->hot && !ev_is_active(&c->timer))
		conn_schedule(c);
	conn_watch(c);
}

void conn_unhold(struct conn *c, int hold)
{
	c->hold &= (uint8_t)~hold;
	if (c->eof && hold & HOLD_WINDOW)
		conn_handled(c);
	else
		conn_go_on(c);
}

void conn_drain_clear(struct conn *c)
{
	struct io *io = c->home;
	for (int i = 0; i < 8; i++) {
		ssize_t n = recv(c->io.fd, io->in, IO_IN, MSG_DONTWAIT);
		if (n < IO_IN)
			break;
	}
}
