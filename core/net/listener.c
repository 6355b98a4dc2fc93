/* SPDX-License-Identifier: MIT */
/* listener.c - listening sockets, and connections out. */
#include "net/listener.h"

#include <assert.h>
#include <errno.h>
#include <ev.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "io.h"

enum {
	ACCEPTS = 64,                 /* in one go */
	PEERS = 65536,                /* addresses remembered per class */
};
static const double PAUSE = 0.5;      /* seconds without accepting when the process is out of descriptors */
static const double TELL = 60;        /* seconds between two lines about connections that were refused */

struct listener {                     /* but for fd and addr: I/O thread 0 only */
	ev_io io;
	ev_timer pause;
	int fd;
	bool complained;
	double told;                  /* when a line said last that some were refused, */
	unsigned refused;             /* and how many since */
	struct addr addr;
	struct listener_options options;
};

static int next_thread;               /* I/O thread 0 */

static struct conn_class *peers_of(struct conn_class *class)
{
	if (!class->peers)
		class->peers = peers_new(PEERS);
	return class;
}

/* One line for many: whoever knocks without end shall not fill the log. */
static void refuse(struct listener *l, const struct addr *peer, int which, const char *why)
{
	struct io *io = io_here();
	double now = ev_now(io->loop);
	io_add(io, which, 1);
	l->refused++;
	if (l->told && now - l->told < TELL)
		return;
	char text[ADDR_TEXT];
	addr_text(peer, text);
	log_warn("net", "port %u: connection from %s refused: %s (%u refused since the last such line)", l->addr.port, text, why,
		l->refused);
	l->told = now;
	l->refused = 0;
}

/* Whether this address may have one connection more; counts it in if so. */
static bool welcome(struct listener *l, const struct addr *peer, bool *counted)
{
	struct io *io = io_here();
	struct listener_options *o = &l->options;
	*counted = o->per_ip.rate > 0 || o->per_ip.open;
	if (conn_class_enter(o->start.class)) {
		refuse(l, peer, IO_REFUSED_FULL, "too many connections are open");
		return false;
	}
	if (!*counted)
		return true;
	enum status st = peers_enter(peers_of(o->start.class)->peers, peer, &o->per_ip, ev_now(io->loop));
	if (!st)
		return true;
	if (st == ST_LIMIT)
		refuse(l, peer, IO_REFUSED_RATE, "too many in too short a time from this address");
	else
		refuse(l, peer, IO_REFUSED_PER_IP, "too many from this address are open");
	conn_class_leave(o->start.class);
	return false;
}

static void accepted(struct listener *l, int fd, const struct sockaddr *sa)
{
	struct conn_start s = l->options.start;
	s.peer = addr_of(sa);
	if (!welcome(l, &s.peer, &s.counted)) {
		close(fd);
		return;
	}
	struct sockaddr_storage local;
	socklen_t len = sizeof local;
	s.local = getsockname(fd, (struct sockaddr *)&local, &len) == 0 ? addr_of((struct sockaddr *)&local) : l->addr;
	s.fd = fd;
	if (s.tls)
		tls_ctx_ref(s.tls);
	if (s.alpn)
		block_ref(s.alpn);
	next_thread = (next_thread + 1) % io_count();
	conn_adopt(io_at(next_thread), &s);
}

static void on_accept(struct ev_loop *loop, ev_io *w, int events)
{
	(void)events;
	struct listener *l = w->data;
	for (int i = 0; i < ACCEPTS; i++) {
		struct sockaddr_storage sa;
		socklen_t len = sizeof sa;
		int fd = accept4(l->fd, (struct sockaddr *)&sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			l->complained = false;
			accepted(l, fd, (struct sockaddr *)&sa);
			continue;
		}
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return;
		if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO || errno == EPERM)
			continue;
		if (errno == EINVAL) {                /* shut down; the order to close it is on its way */
			ev_io_stop(loop, &l->io);
			return;
		}
		io_add(io_here(), IO_ACCEPT_ERRORS, 1);
		if (!l->complained)
			log_error("net", "cannot accept connections on port %u: %s%s", l->addr.port, strerror(errno),
				errno == EMFILE || errno == ENFILE ? " (raise the limit of open files, LimitNOFILE= or ulimit -n)" : "");
		l->complained = true;
		ev_io_stop(loop, &l->io);
		ev_timer_set(&l->pause, PAUSE, 0.);
		ev_timer_start(loop, &l->pause);
		return;
	}
}

static void on_pause_over(struct ev_loop *loop, ev_timer *t, int events)
{
	(void)events;
	struct listener *l = t->data;
	ev_io_start(loop, &l->io);
}

struct order {
	struct msg msg;
	struct listener *l;
	struct tls_ctx *ctx;
};

static void order(struct listener *l, void (*deliver)(struct msg *), struct tls_ctx *ctx)
{
	struct order *o = mem_alloc(sizeof *o);
	*o = (struct order){ .msg.deliver = deliver, .l = l, .ctx = ctx };
	lane_post(io_at(0)->lane, &o->msg);
}

static void begin(struct msg *msg)
{
	struct listener *l = ((struct order *)msg)->l;
	ev_io_start(io_here()->loop, &l->io);
	free(msg);
}

static void change_tls(struct msg *msg)
{
	struct order *o = (struct order *)msg;
	tls_ctx_unref(&o->l->options.start.tls);
	o->l->options.start.tls = o->ctx;
	free(o);
}

static void destroy(struct listener *l)
{
	tls_ctx_unref(&l->options.start.tls);
	block_unref(&l->options.start.alpn);
	free(l);
}

static void finish(struct msg *msg)
{
	struct listener *l = ((struct order *)msg)->l;
	ev_io_stop(io_here()->loop, &l->io);
	ev_timer_stop(io_here()->loop, &l->pause);
	close(l->fd);
	destroy(l);
	free(msg);
}

/* What it accepts inherits both, which spares two calls for each connection. */
static int tcp_socket(int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
	if (fd >= 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	}
	return fd;
}

static int open_socket(const struct listener_options *o)
{
	struct sockaddr_storage sa;
	socklen_t len = addr_sockaddr(&o->addr, &sa);
	int fd = tcp_socket(sa.ss_family);
	if (fd < 0)
		return -1;
	int on = 1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0
		|| (sa.ss_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) < 0)
		|| bind(fd, (struct sockaddr *)&sa, len) < 0 || listen(fd, o->backlog > 0 ? o->backlog : SOMAXCONN) < 0) {
		int saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

enum status listener_open(struct listener_options *options, struct listener **out)
{
	assert(io_count());
	struct listener *l = mem_zero(sizeof *l);
	l->options = *options;
	l->addr = options->addr;
	l->fd = open_socket(options);
	if (l->fd < 0) {
		int saved = errno;
		destroy(l);
		errno = saved;
		return ST_SYSTEM;
	}
	struct sockaddr_storage sa;
	socklen_t len = sizeof sa;
	if (getsockname(l->fd, (struct sockaddr *)&sa, &len) == 0)
		l->addr = addr_of((struct sockaddr *)&sa);
	ev_io_init(&l->io, on_accept, l->fd, EV_READ);
	l->io.data = l;
	ev_timer_init(&l->pause, on_pause_over, 0., 0.);
	l->pause.data = l;
	order(l, begin, NULL);
	*out = l;
	return ST_OK;
}

struct addr listener_addr(const struct listener *l)
{
	return l->addr;
}

void listener_tls(struct listener *l, struct tls_ctx *ctx)
{
	order(l, change_tls, ctx ? tls_ctx_ref(ctx) : NULL);
}

void listener_close(struct listener **l)
{
	if (*l && io_count()) {
		shutdown((*l)->fd, SHUT_RDWR);        /* frees the port before I/O thread 0 gets to it */
		order(*l, finish, NULL);
	}
	*l = NULL;
}

enum status listener_dial(const struct addr *addr, struct conn_start *start)
{
	static unsigned next;
	struct sockaddr_storage sa;
	socklen_t len = addr_sockaddr(addr, &sa);
	enum status st = conn_class_enter(start->class);
	int fd = -1;
	if (!st) {
		fd = tcp_socket(sa.ss_family);
		if (fd < 0 || (connect(fd, (struct sockaddr *)&sa, len) < 0 && errno != EINPROGRESS)) {
			st = ST_SYSTEM;
			conn_class_leave(start->class);
		}
	}
	if (st) {
		int saved = errno;
		if (fd >= 0)
			close(fd);
		tls_ctx_unref(&start->tls);
		block_unref(&start->alpn);
		block_unref(&start->server_name);
		errno = saved;
		return st;
	}
	start->fd = fd;
	start->peer = *addr;
	conn_adopt(io_at((int)(next++ % (unsigned)io_count())), start);
	return ST_OK;
}
