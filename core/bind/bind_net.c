/* SPDX-License-Identifier: MIT */
/* bind_net.c - couplet.core.net: listeners, connections (bind_conn.c), TLS contexts (bind_tls.c).
 *
 *   setup{ io_threads = 0, max_connections = 0 }      once, before the first listen; else the first listen does it with these
 *   stop()                                            every connection ends, I/O threads too; nothing works afterwards
 *   on(class, { opened = f(conn), secured = f(conn), stream = f(conn, header, content's namespace | nil), element = f(conn, stanza),
 *     ended = f(conn),
 *     error = f(conn, condition, text), data = f(conn, bytes), bytes = f(conn, bytes) (conn:tap), idle = f(conn), drained = f(conn), closed = f(conn, reason),
 *     xmlns = "jabber:client" })                      any may be absent; each call replaces them all, for open connections too.
 *                                                     drained: all that was sent is with the kernel, to who has asked conn:owes()
 *   every_drained(class, boolean)                     likewise, whoever has asked: costs an event and a wake-up each time
 *   hold_new(boolean)                                 nothing is read from accepted connections before `opened` has returned
 *   listen{ address = "*", port =, class =, tls = context (from the first byte), alpn = "name" | {...} (others are refused),
 *     mode = "xml" | "raw", limits = (conn:limits), window = { elements, bytes }, deadline = seconds, backlog =,
 *     max_connections = (of the class), max_per_ip =, rate = { per_ip =, burst =, period = seconds } } -> listener | nil, message
 *     listener:port()  :address()  :tls(context)  :close()
 *   connect{ address = (numeric), port =, class =, tls =, alpn =, server_name =, mode =, limits =, window =, deadline = 30 }
 *     -> conn | nil, message                          opened comes when it is connected, closed when it is not
 *   block(stanza | string [, xmlns [, hole]]) -> block     bytes to be sent many times; #block. hole: with a place for `to`
 *   multicast(conns, stanza | string | block [, tos [, later]]) serialised once; tos[i], if a string, becomes `to` for conns[i]
 *                                                     later: it may leave with what else comes within a tenth of a second
 *   batch(conn, { block | false }, to [, first [, bytes]]) -> index | nil     blocks of stanzas in one piece, each with that `to`;
 *                                                     where to go on, if they are more than so many bytes
 *   stats() -> table                                  numbers since the start; classes = { name = open now }
 */
#include <lauxlib.h>
#include <openssl/crypto.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "bind/bind.h"
#include "bind/bind_net.h"
#include "bind/bind_stanza.h"
#include "bind/bind_unacked.h"
#include "io.h"
#include "net/listener.h"
#include "tls/tls_mem.h"
#include "xml/writer.h"

#define LISTENER "couplet.listener"

static struct conn_class *classes;
static bool stopped;

/* --- reading options --- */

void bind_number(lua_State *L, int index, const char *key, double min, double max, double *out)
{
	if (lua_getfield(L, index, key) != LUA_TNIL) {
		int ok;
		double n = lua_tonumberx(L, -1, &ok);
		if (!ok || !(n >= min))
			luaL_error(L, "%s: number from %f expected, got %s", key, min, luaL_tolstring(L, -1, NULL));
		*out = n > max ? max : n;              /* math.huge means no limit */
	}
	lua_pop(L, 1);
}

void bind_uint(lua_State *L, int index, const char *key, uint32_t *out)
{
	double n = *out;
	bind_number(L, index, key, 0, INT32_MAX, &n);
	*out = (uint32_t)n;
}

void bind_limits(lua_State *L, int index, struct conn_limits *l)
{
	bind_uint(L, index, "stanza_bytes", &l->stream.stanza_bytes);
	bind_uint(L, index, "depth", &l->stream.depth);
	bind_uint(L, index, "attributes", &l->stream.attributes);
	bind_uint(L, index, "children", &l->stream.children);
	bind_uint(L, index, "parser_bytes", &l->stream.parser_bytes);
	bind_uint(L, index, "rate", &l->rate);
	bind_uint(L, index, "burst", &l->burst);
	bind_uint(L, index, "max_send_buffer", &l->max_send);
	bind_uint(L, index, "send_timeout", &l->send_timeout);
	if (l->stream.depth > ELEMENT_DEPTH_MAX)
		l->stream.depth = ELEMENT_DEPTH_MAX;
	if (l->stream.stanza_bytes > ELEMENT_MAX / 16)
		l->stream.stanza_bytes = ELEMENT_MAX / 16;
}

struct block *bind_alpn(lua_State *L, int index)
{
	char wire[255];
	size_t n = 0;
	index = lua_absindex(L, index);
	if (lua_isnil(L, index))
		return NULL;
	bool list = lua_istable(L, index);
	lua_Integer count = list ? luaL_len(L, index) : 1;
	for (lua_Integer i = 1; i <= count; i++) {
		if (list)
			lua_geti(L, index, i);
		else
			lua_pushvalue(L, index);
		struct str s = { NULL, 0 };
		if (lua_type(L, -1) == LUA_TSTRING)
			s.p = lua_tolstring(L, -1, &s.n);
		if (!s.n || s.n > 255 || n + 1 + s.n > sizeof wire)
			luaL_error(L, "alpn: short protocol names expected");
		wire[n++] = (char)s.n;
		memcpy(wire + n, s.p, s.n);
		n += s.n;
		lua_pop(L, 1);
	}
	return n ? block_new((struct str){ wire, n }, 0) : NULL;
}

/* --- classes --- */

struct conn_class *bind_class(lua_State *L, const char *name)
{
	struct conn_class **at = &classes;
	for (; *at; at = &(*at)->next)
		if (!strcmp((*at)->name, name))
			return *at;
	struct conn_class *c = mem_zero(sizeof *c);
	struct bind_class *b = mem_zero(sizeof *b);
	for (int i = 0; i < CONN_EVENTS; i++)
		b->handler[i] = LUA_NOREF;
	b->ns = mem_copy("jabber:client", 13);
	c->name = mem_copy(name, strlen(name));
	c->user = b;
	*at = c;
	return c;
}

static const char *const event_names[CONN_EVENTS] = {
	[CONN_OPENED] = "opened", [CONN_SECURED] = "secured", [CONN_STREAM] = "stream", [CONN_ELEMENT] = "element",
	[CONN_ENDED] = "ended", [CONN_ERROR] = "error", [CONN_DATA] = "data", [CONN_BYTES] = "bytes", [CONN_IDLE] = "idle", [CONN_DRAINED] = "drained",
	[CONN_CLOSED] = "closed",
};

static int net_on(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);
	luaL_checktype(L, 2, LUA_TTABLE);
	struct conn_class *c = bind_class(L, name);
	struct bind_class *b = c->user;
	for (int i = 0; i < CONN_EVENTS; i++) {
		if (!event_names[i])
			continue;
		int type = lua_getfield(L, 2, event_names[i]), ref = LUA_NOREF;
		if (type != LUA_TNIL && type != LUA_TFUNCTION)
			return luaL_error(L, "%s: function expected", event_names[i]);
		if (type == LUA_TFUNCTION)
			ref = luaL_ref(L, LUA_REGISTRYINDEX);
		else
			lua_pop(L, 1);
		luaL_unref(L, LUA_REGISTRYINDEX, b->handler[i]);
		b->handler[i] = ref;
	}
	if (lua_getfield(L, 2, "xmlns") == LUA_TSTRING) {
		free(b->ns);
		b->ns = mem_copy(lua_tostring(L, -1), lua_rawlen(L, -1));
	}
	return 0;
}

static int net_every_drained(lua_State *L)
{
	atomic_store(&bind_class(L, luaL_checkstring(L, 1))->every_drained, lua_toboolean(L, 2));
	return 0;
}

/* --- starting and stopping --- */

static void start(lua_State *L, int threads)
{
	if (stopped)
		luaL_error(L, "the network is stopped");
	if (!io_count())
		io_start(threads);
}

static int net_setup(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	uint32_t threads = 0, most = 0;
	bind_uint(L, 1, "io_threads", &threads);
	bind_uint(L, 1, "max_connections", &most);
	if (threads > IO_MAX)
		threads = IO_MAX;
	conn_set_max(most);                            /* may change later; the threads stay */
	start(L, (int)threads);
	return 0;
}

static int net_stop(lua_State *L)
{
	stopped = true;
	io_stop();
	return 0;
}

/* The state is being closed: handlers run no more. */
static int net_end(lua_State *L)
{
	bind_conn_mute();
	return net_stop(L);
}

/* --- listeners --- */

struct listener_box {
	struct listener *l;
};

static struct listener *check_listener(lua_State *L)
{
	struct listener_box *box = luaL_checkudata(L, 1, LISTENER);
	luaL_argcheck(L, box->l, 1, "closed listener");
	return box->l;
}

/* What listen{} and connect{} have in common. Nothing is held when it raises: tls and alpn come last. */
static void read_start(lua_State *L, struct conn_start *s, struct addr *addr, const char *address)
{
	uint32_t port = 0;
	lua_getfield(L, 1, "class");
	const char *name = lua_tostring(L, -1);
	if (!name)
		luaL_error(L, "class: string expected");
	s->class = bind_class(L, name);
	bind_uint(L, 1, "port", &port);
	if (lua_getfield(L, 1, "address") == LUA_TSTRING)
		address = lua_tostring(L, -1);
	if (!address || port > 65535 || addr_parse(address, (uint16_t)port, addr))
		luaL_error(L, "address, port: a numeric address and a port expected");
	s->limits = conn_default_limits;
	if (lua_getfield(L, 1, "limits") == LUA_TTABLE)
		bind_limits(L, -1, &s->limits);
	s->window_elements = 1;
	s->window_bytes = 64 * 1024;
	if (lua_getfield(L, 1, "window") == LUA_TTABLE) {
		lua_geti(L, -1, 1);
		lua_geti(L, -2, 2);
		s->window_elements = (uint32_t)luaL_optinteger(L, -2, 1);
		s->window_bytes = (uint32_t)luaL_optinteger(L, -1, 64 * 1024);
		lua_pop(L, 2);
	}
	bind_number(L, 1, "deadline", 0, 1e9, &s->deadline);
	if (lua_getfield(L, 1, "mode") == LUA_TSTRING)
		s->raw = !strcmp(lua_tostring(L, -1), "raw");
	lua_pop(L, 5);
	lua_getfield(L, 1, "alpn");
	s->tls = bind_tls_field(L, 1, "tls");
	s->alpn = bind_alpn(L, -1);
	if (s->tls)
		tls_ctx_ref(s->tls);
	lua_pop(L, 1);
}

static int failed(lua_State *L, const char *message)
{
	lua_pushnil(L);
	lua_pushstring(L, message);
	return 2;
}

static int net_listen(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	struct listener_options o = { 0 };
	uint32_t backlog = 0, most = 0;
	double per_ip = 0, period = 1;
	bind_uint(L, 1, "backlog", &backlog);
	bind_uint(L, 1, "max_connections", &most);
	bind_uint(L, 1, "max_per_ip", &o.per_ip.open);
	if (lua_getfield(L, 1, "rate") == LUA_TTABLE) {
		bind_number(L, -1, "per_ip", 0, 1e9, &per_ip);
		bind_number(L, -1, "period", 1e-3, 1e9, &period);
		o.per_ip.rate = per_ip / period;
		o.per_ip.burst = per_ip;
		bind_number(L, -1, "burst", 0, 1e9, &o.per_ip.burst);
	}
	lua_pop(L, 1);
	o.backlog = (int)backlog;
	start(L, 0);
	struct listener_box *box = lua_newuserdatauv(L, sizeof *box, 0);
	box->l = NULL;
	luaL_setmetatable(L, LISTENER);
	read_start(L, &o.start, &o.addr, "*");
	if (most)
		atomic_store(&o.start.class->max, most);
	if (listener_open(&o, &box->l))
		return failed(L, strerror(errno));
	return 1;
}

static int listener_port(lua_State *L)
{
	lua_pushinteger(L, listener_addr(check_listener(L)).port);
	return 1;
}

static int listener_address(lua_State *L)
{
	char text[ADDR_TEXT];
	struct addr a = listener_addr(check_listener(L));
	addr_text(&a, text);
	lua_pushstring(L, text);
	return 1;
}

static int listener_set_tls(lua_State *L)
{
	listener_tls(check_listener(L), lua_isnoneornil(L, 2) ? NULL : bind_tls_check(L, 2));
	return 0;
}

static int listener_shut(lua_State *L)
{
	struct listener_box *box = luaL_checkudata(L, 1, LISTENER);
	listener_close(&box->l);
	return 0;
}

/* --- connections out --- */

static int net_connect(lua_State *L)
{
	static uint64_t token;
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	start(L, 0);
	struct conn_start s = { .deadline = 30 };
	struct addr addr;
	lua_getfield(L, 1, "server_name");
	struct str name = { NULL, 0 };
	if (lua_type(L, -1) == LUA_TSTRING)
		name.p = lua_tolstring(L, -1, &name.n);
	read_start(L, &s, &addr, NULL);
	bind_conn_push_dialled(L, s.class, &s, ++token);          /* raises for want of memory only */
	if (name.n)
		s.server_name = block_new((struct str){ name.p, name.n + 1 }, 0);
	s.token = token;
	s.peer = addr;
	enum status st = listener_dial(&addr, &s);
	if (st)
		return failed(L, st == ST_LIMIT ? "too many connections" : strerror(errno));
	return 1;
}

/* --- blocks --- */

struct block_box {
	struct block *b;
};

struct block *bind_block_of(lua_State *L, int index, const char *ns)
{
	struct block_box *box;
	if (lua_type(L, index) == LUA_TSTRING) {
		struct str s;
		s.p = lua_tolstring(L, index, &s.n);
		luaL_argcheck(L, s.n <= INT32_MAX, index, "too long");
		return block_new(s, 0);
	}
	if ((box = luaL_testudata(L, index, BIND_BLOCK)) && box->b)
		return block_ref(box->b);
	return block_new(bind_stanza_text(L, index, str_of(ns), NULL), 0);
}

/* With a place for `to`. */
static struct block *block_with_hole(lua_State *L, int index, const char *ns)
{
	if (!bind_stanza_is(L, index))
		return bind_block_of(L, index, ns);
	uint32_t hole = 0;
	struct str s = bind_stanza_text(L, index, str_of(ns), &hole);
	return block_new(s, hole);
}

static int net_block(lua_State *L)
{
	const char *ns = luaL_optstring(L, 2, "jabber:client");
	luaL_checkany(L, 1);
	struct block_box *box = lua_newuserdatauv(L, sizeof *box, 0);
	box->b = NULL;
	luaL_setmetatable(L, BIND_BLOCK);
	box->b = lua_toboolean(L, 3) ? block_with_hole(L, 1, ns) : bind_block_of(L, 1, ns);
	return 1;
}

static int block_gc(lua_State *L)
{
	struct block_box *box = luaL_checkudata(L, 1, BIND_BLOCK);
	block_unref(&box->b);
	return 0;
}

static int block_len(lua_State *L)
{
	struct block_box *box = luaL_checkudata(L, 1, BIND_BLOCK);
	lua_pushinteger(L, box->b ? box->b->len : 0);
	return 1;
}

static int block_text(lua_State *L)
{
	struct block_box *box = luaL_checkudata(L, 1, BIND_BLOCK);
	lua_pushlstring(L, box->b ? box->b->bytes : "", box->b ? box->b->len : 0);
	return 1;
}

/* Into the queues of stream management, where there are some (the connections are at 1, what differs at 3). *ids, *tos: those
 * of the connections that are to get it on the wire; how many is returned, how many others keep it goes to *kept. */
static size_t keep_tracked(lua_State *L, size_t n, uint64_t *ids, struct str *tos, struct block *b, size_t *kept)
{
	size_t sent = 0;
	for (size_t i = 0; i < n; i++) {
		const char *ns;
		struct str to = { NULL, 0 };
		lua_rawgeti(L, 1, (lua_Integer)i + 1);
		struct tracker *t = bind_conn_tracker(L, -1);
		uint64_t id = bind_conn_id(L, -1, &ns);
		lua_pop(L, 1);
		if (tos) {
			if (lua_rawgeti(L, 3, (lua_Integer)i + 1) == LUA_TSTRING)
				to.p = lua_tolstring(L, -1, &to.n);
			lua_pop(L, 1);
		}
		if (t && (!bind_tracker_take(t, b, to) || !id)) {
			++*kept;
		} else if (id) {
			ids[sent] = id;
			if (tos)
				tos[sent] = to;
			sent++;
		}
	}
	return sent;
}

static void ask_tracked(lua_State *L, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const char *ns;
		lua_rawgeti(L, 1, (lua_Integer)i + 1);
		struct tracker *t = bind_conn_tracker(L, -1);
		if (t)
			bind_tracker_taken(L, t, lua_gettop(L), bind_conn_id(L, -1, &ns));
		lua_pop(L, 1);
	}
}

static int net_multicast(lua_State *L)
{
	luaL_checktype(L, 1, LUA_TTABLE);
	luaL_checkany(L, 2);
	bool tracked = false, later = lua_toboolean(L, 4);
	lua_settop(L, 3);
	size_t n = lua_rawlen(L, 1), sent = 0, kept = 0;
	bool with_tos = lua_istable(L, 3);
	if (!n) {
		lua_pushinteger(L, 0);
		return 1;
	}
	/* In userdata, because reading the lists may raise. */
	uint64_t *ids = lua_newuserdatauv(L, n * sizeof *ids, 0);
	struct str *tos = with_tos ? lua_newuserdatauv(L, n * sizeof *tos, 0) : NULL;
	struct block_box *box = lua_newuserdatauv(L, sizeof *box, 0);
	box->b = NULL;
	luaL_setmetatable(L, BIND_BLOCK);
	luaL_getmetatable(L, BIND_CONN);
	int meta = lua_gettop(L);
	const char *ns = "jabber:client";
	for (size_t i = 0; i < n; i++) {
		struct tracker *t;
		lua_rawgeti(L, 1, (lua_Integer)i + 1);
		ids[sent] = bind_conn_of_list(L, meta, &ns, &t);
		tracked |= t != NULL;
		lua_pop(L, 1);
		if (tos) {
			tos[sent] = (struct str){ NULL, 0 };
			if (lua_rawgeti(L, 3, (lua_Integer)i + 1) == LUA_TSTRING)      /* the list keeps it */
				tos[sent].p = lua_tolstring(L, -1, &tos[sent].n);
			lua_pop(L, 1);
		}
		sent += ids[sent] != 0;
	}
	box->b = with_tos ? block_with_hole(L, 2, ns) : bind_block_of(L, 2, ns);
	if (tracked)
		sent = keep_tracked(L, n, ids, tos, box->b, &kept);
	for (size_t i = 0; i < sent; i++)
		bind_conn_sent(ids[i], box->b);
	conn_send_many(ids, tos, sent, box->b, later);
	if (tracked)
		ask_tracked(L, n);
	lua_pushinteger(L, (lua_Integer)(sent + kept));
	return 1;
}

/* The metatable of blocks is at 4. */
static struct block *in_batch(lua_State *L, size_t i)
{
	struct block_box *box = NULL;
	if (lua_rawgeti(L, 2, (lua_Integer)i) != LUA_TBOOLEAN) {
		box = lua_getmetatable(L, -1) && lua_rawequal(L, -1, 4) ? lua_touserdata(L, -2) : NULL;
		luaL_argcheck(L, box && box->b && box->b->hole, 2, "block of a stanza expected");
	}
	lua_settop(L, 4);                              /* the list keeps it */
	return box ? box->b : NULL;
}

/* A queue of stream management gets them one by one, the connection as one block: a list of a thousand is one write. */
static int net_batch(lua_State *L)
{
	const char *ns;
	uint64_t id = bind_conn_id(L, 1, &ns);
	struct tracker *t = bind_conn_tracker(L, 1);
	luaL_checktype(L, 2, LUA_TTABLE);
	struct str to = bind_check_str(L, 3);
	lua_Integer first = luaL_optinteger(L, 4, 1), most = luaL_optinteger(L, 5, INT32_MAX);
	lua_settop(L, 3);
	luaL_getmetatable(L, BIND_BLOCK);
	size_t n = lua_rawlen(L, 2), bytes = 0, end = first < 1 ? 1 : (size_t)first;
	for (; end <= n && (lua_Integer)bytes < most; end++) {     /* what may raise does so before anything is done */
		const struct block *b = in_batch(L, end);
		bytes += b ? b->len + to.n + 8 : 0;
	}
	struct buf out = { 0 }, attr = { 0 };
	int prefixes = 0;
	writer_attr(&attr, STR("to"), to, &prefixes);
	buf_room(&out, bytes);
	for (size_t i = first < 1 ? 1 : (size_t)first; i < end; i++) {
		struct block *b = in_batch(L, i);
		if (!b || (t && !bind_tracker_take(t, b, to)))
			continue;
		buf_add(&out, b->bytes, b->hole);
		buf_add_str(&out, buf_str(&attr));
		buf_add(&out, b->bytes + b->hole, b->len - b->hole);
	}
	if (id && out.len) {
		struct block *all = block_new(buf_str(&out), 0);
		bind_conn_sent(id, all);
		conn_send(id, &all, false);
	}
	buf_free(&out);
	buf_free(&attr);
	if (t)
		bind_tracker_taken(L, t, 1, id);
	if (end > n)
		return 0;
	lua_pushinteger(L, (lua_Integer)end);
	return 1;
}

/* --- numbers --- */

static int net_stats(lua_State *L)
{
	static const char *const names[IO_STATS] = {
		[IO_OPENED] = "opened", [IO_CLOSED] = "closed", [IO_BYTES_IN] = "bytes_in", [IO_BYTES_OUT] = "bytes_out",
		[IO_ELEMENTS] = "elements", [IO_HANDSHAKES] = "handshakes", [IO_RESUMED] = "resumed",
		[IO_HANDSHAKES_FAILED] = "handshakes_failed", [IO_REFUSED_RATE] = "refused_rate",
		[IO_REFUSED_PER_IP] = "refused_per_ip", [IO_REFUSED_FULL] = "refused_full", [IO_ACCEPT_ERRORS] = "accept_errors",
		[IO_SEND_FULL] = "send_full", [IO_READ_THROTTLED] = "read_throttled",
	};
	lua_createtable(L, 0, IO_STATS + 2);
	for (int i = 0; i < IO_STATS; i++) {
		uint64_t sum = 0;
		for (int t = 0; t < io_count(); t++)
			sum += atomic_load_explicit(&io_at(t)->stats[i], memory_order_relaxed);
		lua_pushinteger(L, (lua_Integer)sum);
		lua_setfield(L, -2, names[i]);
	}
	lua_pushinteger(L, conn_count());
	lua_setfield(L, -2, "connections");
	lua_newtable(L);
	for (struct conn_class *c = classes; c; c = c->next) {
		lua_pushinteger(L, atomic_load(&c->open));
		lua_setfield(L, -2, c->name);
	}
	lua_setfield(L, -2, "classes");
	return 1;
}

/* --- the table --- */

static void type(lua_State *L, const char *name, const luaL_Reg *methods, const luaL_Reg *meta)
{
	luaL_newmetatable(L, name);
	luaL_setfuncs(L, meta, 0);
	lua_newtable(L);
	luaL_setfuncs(L, methods, 0);
	lua_setfield(L, -2, "__index");
	lua_pop(L, 1);
}

static int net_hold_new(lua_State *L)
{
	conn_hold_new(lua_toboolean(L, 1));
	return 0;
}

int bind_net_open(lua_State *L)
{
	static const luaL_Reg net[] = { { "setup", net_setup }, { "stop", net_stop }, { "on", net_on }, { "listen", net_listen },
		{ "connect", net_connect }, { "block", net_block }, { "multicast", net_multicast }, { "batch", net_batch }, { "stats", net_stats },
		{ "hold_new", net_hold_new },     { "every_drained", net_every_drained },
		{ NULL, NULL } };
	static const luaL_Reg listener[] = { { "port", listener_port }, { "address", listener_address }, { "tls", listener_set_tls },
		{ "close", listener_shut }, { NULL, NULL } };
	static const luaL_Reg listener_meta[] = { { "__gc", listener_shut }, { NULL, NULL } };
	static const luaL_Reg block[] = { { NULL, NULL } };
	static const luaL_Reg block_meta[] = { { "__gc", block_gc }, { "__len", block_len }, { "__tostring", block_text }, { NULL, NULL } };
	static const luaL_Reg sentinel[] = { { "__gc", net_end }, { NULL, NULL } };
	/* I/O threads may still run when the process ends: OpenSSL must not clean up below them. */
	tls_mem_setup();
	OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, NULL);
	conn_set_sink(bind_conn_deliver);
	type(L, LISTENER, listener, listener_meta);
	type(L, BIND_BLOCK, block, block_meta);
	bind_conn_open(L);
	luaL_newlib(L, net);
	bind_tls_open(L, -1);
	/* Closing the state stops the threads. */
	type(L, "couplet.net.end", block, sentinel);
	lua_newuserdatauv(L, 0, 0);
	luaL_setmetatable(L, "couplet.net.end");
	luaL_ref(L, LUA_REGISTRYINDEX);
	return 1;
}
