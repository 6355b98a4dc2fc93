/* SPDX-License-Identifier: MIT */
/* bind_conn.c - connections in Lua, and the way of an event from an I/O thread into its class's handler.
 *
 *   session() | session(value)           any value, attached; nil until set
 *   id()  ip()  port()  serverip()  serverport()  class()  connected()
 *   send(string | stanza | block)        -> true, or false when it is over
 *   more()                               in a header's or element's handler, up to its done(): what is sent may wait for what follows,
 *                                        0.1 s, if the other side has sent on and so awaits the answer to that
 *   track(queue | nil [, hold])          what is sent goes into that queue of couplet.core.unacked too, if it is a stanza. hold: stanzas
 *                                        are only kept, until the next call
 *   owes()                               is something of it still on its way to the kernel? Then `drained` comes
 *   close([seconds = 5])                 what was sent leaves, then goodbye; cut off after so long. Only `closed` comes afterwards
 *   abort([reason])                      at once
 *   starttls(context [, server_name])    after what was sent so far has left; bytes that came in clear are thrown away. Client
 *                                        role on connections made by net.connect
 *   restart()                            a new stream is to come (after SASL); compress("zlib") likewise, restart() included
 *   mode("raw" | "xml")
 *   tap(boolean)                         what comes in (decrypted) goes to the handler `bytes` first, a piece at a time,
 *   feed(bytes)                          and this gives back what is to be parsed instead: once for each `bytes`, later will do
 *   done()                               a stream, element, ended, error or data handler has finished: one more may come
 *   window(elements [, bytes])           how many may be unhandled, and their bytes
 *   pause()  resume()                    reading
 *   limits{ stanza_bytes =, depth =, attributes =, children =, parser_bytes =, rate = (bytes a second), burst =,
 *     max_send_buffer =, send_timeout = } what is absent stays
 *   deadline(seconds | nil)              it closes with reason "deadline" unless this is called again before
 *   idle_after(seconds | nil)            `idle` comes after so much silence, and again after as much more
 *   tls()                                -> nil, or { version, cipher, bits, alpn, sni, resumed, peer_cert, peer_chain,
 *                                        verify_errors, dane = usage of the TLSA record that fits (bind_tls.c),
 *                                        bindings = { ["tls-unique"], ["tls-server-end-point"] } }
 *   export_key(label, length, context | nil, done)      RFC 5705; done(bytes) or done(nil, message). tls-exporter (RFC 9266) is made with it
 */
#include <assert.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "bind/bind.h"
#include "bind/bind_net.h"
#include "bind/bind_stanza.h"
#include "bind/bind_unacked.h"
#include "io.h"
#include "logic.h"
#include "tls/tls.h"

enum { SHARD = 256 };                     /* connections one Lua table keeps alive: no table is big for the collector */
enum { SESSION = 1, TLS_RECORDS, QUEUE, USER_VALUES = QUEUE };

struct bound {                            /* the userdata; first what is asked of each that is sent to */
	uint64_t id;                      /* 0: over, or not yet connected */
	struct conn_class *class;
	struct tracker *tracker;          /* the user value QUEUE; NULL: none */
	uint32_t sent;                    /* blocks sent there (mod 2^32) */
	bool closing, dialled, abort;
	bool more;                        /* what is sent now may wait */
	struct window *window;
	uint64_t token;                   /* of the dial, until bound */
	struct addr peer, local;
	struct conn_limits limits;
};

struct place {
	uint64_t id;
	struct bound *b;
};

static struct {                           /* one for each I/O thread */
	struct place *slots;
	uint32_t room;
	int *shards;                      /* registry references; shard i keeps slots i * SHARD … */
} threads[IO_MAX];

static int dials = LUA_NOREF;             /* registry: token -> connection, until it is bound */

/* --- who is who --- */

static struct bound *find(uint64_t id)
{
	int t = io_of(id);
	uint32_t slot = io_slot_of(id);
	if (t >= IO_MAX || slot >= threads[t].room || threads[t].slots[slot].id != id)
		return NULL;
	return threads[t].slots[slot].b;
}

/* Pushes the userdata of an id that find() knows. */
static void push(lua_State *L, uint64_t id)
{
	uint32_t slot = io_slot_of(id);
	lua_rawgeti(L, LUA_REGISTRYINDEX, threads[io_of(id)].shards[slot / SHARD]);
	lua_rawgeti(L, -1, slot % SHARD + 1);
	lua_remove(L, -2);
}

/* The userdata on top of the stack becomes the one of id. */
static void keep(lua_State *L, uint64_t id, struct bound *b)
{
	int t = io_of(id);
	uint32_t slot = io_slot_of(id);
	while (slot >= threads[t].room) {
		uint32_t room = threads[t].room + SHARD;
		lua_createtable(L, SHARD, 0);
		int ref = luaL_ref(L, LUA_REGISTRYINDEX);
		threads[t].slots = mem_resize(threads[t].slots, room * sizeof *threads[t].slots);
		memset(threads[t].slots + threads[t].room, 0, SHARD * sizeof *threads[t].slots);
		threads[t].shards = mem_resize(threads[t].shards, room / SHARD * sizeof *threads[t].shards);
		threads[t].shards[room / SHARD - 1] = ref;
		threads[t].room = room;
	}
	lua_rawgeti(L, LUA_REGISTRYINDEX, threads[t].shards[slot / SHARD]);
	lua_pushvalue(L, -2);
	lua_rawseti(L, -2, slot % SHARD + 1);
	lua_pop(L, 1);
	threads[t].slots[slot] = (struct place){ id, b };
	b->id = id;
}

static void let_go(lua_State *L, uint64_t id)
{
	uint32_t slot = io_slot_of(id);
	lua_rawgeti(L, LUA_REGISTRYINDEX, threads[io_of(id)].shards[slot / SHARD]);
	lua_pushboolean(L, 0);                 /* false, not nil: the table keeps its array */
	lua_rawseti(L, -2, slot % SHARD + 1);
	lua_pop(L, 1);
	threads[io_of(id)].slots[slot] = (struct place){ 0, NULL };
}

static struct bound *make(lua_State *L)
{
	struct bound *b = lua_newuserdatauv(L, sizeof *b, USER_VALUES);
	memset(b, 0, sizeof *b);
	b->limits = conn_default_limits;
	luaL_setmetatable(L, BIND_CONN);
	return b;
}

void bind_conn_push_dialled(lua_State *L, struct conn_class *class, const struct conn_start *start, uint64_t token)
{
	struct bound *b = make(L);
	b->class = class;
	b->peer = start->peer;
	b->limits = start->limits;
	b->token = token;
	b->dialled = true;
	lua_rawgeti(L, LUA_REGISTRYINDEX, dials);
	lua_pushvalue(L, -2);
	lua_rawseti(L, -2, (lua_Integer)token);
	lua_pop(L, 1);
}

uint64_t bind_conn_id(lua_State *L, int index, const char **ns)
{
	struct bound *b = luaL_checkudata(L, index, BIND_CONN);
	if (b->class)
		*ns = ((struct bind_class *)b->class->user)->ns;
	return b->closing ? 0 : b->id;
}

/* --- events --- */

static bool is_counted(enum conn_event_kind kind)
{
	return kind == CONN_STREAM || kind == CONN_ELEMENT || kind == CONN_ENDED || kind == CONN_ERROR || kind == CONN_DATA;
}

static void done(struct bound *b)
{
	b->more = false;
	if (!b->window)
		return;
	window_done(b->window);
	if (window_reopen(b->window))
		conn_reopened(b->id);
}

static bool owes(struct bound *b)
{
	return b->window && window_owes(b->window, b->sent);
}

/* Pushes what the handler gets besides the connection; returns how many. */
static int push_arguments(lua_State *L, struct conn_event *e)
{
	struct conn_text *text = e->p;
	switch (e->kind) {
	case CONN_STREAM: {                        /* an element's xmlns is the stream's own; the content's is told apart */
		const struct element *header = e->p;
		bind_stanza_push(L, header);
		struct str ns = element_attr(header, el_node(header, header->root), STR("xmlns"));
		if (!ns.p)
			return 1;
		lua_pushlstring(L, ns.p, ns.n);
		return 2;
	}
	case CONN_ELEMENT:
		bind_stanza_push(L, e->p);
		return 1;
	case CONN_ERROR:
		lua_pushstring(L, stream_error_name((enum stream_condition)e->number));
		lua_pushlstring(L, text->bytes, text->len);
		return 2;
	case CONN_DATA:
	case CONN_BYTES:
	case CONN_CLOSED:
		lua_pushlstring(L, text->bytes, text->len);
		return 1;
	default:
		return 0;
	}
}

static bool call_handler(lua_State *L, struct conn_class *class, struct conn_event *e)
{
	int ref = ((struct bind_class *)class->user)->handler[e->kind];
	if (ref == LUA_NOREF)
		return false;
	lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
	lua_insert(L, -2);
	lua_call(L, 1 + push_arguments(L, e), 0);
	return true;
}

static void opened(lua_State *L, struct conn_event *e)
{
	struct conn_opened *o = e->p;
	struct bound *b = find(e->id);
	if (b) {                                  /* dialled */
		push(L, e->id);
	} else {
		b = make(L);
		b->class = o->class;
		keep(L, e->id, b);
	}
	b->window = o->window;
	o->window = NULL;
	b->peer = o->peer;
	b->local = o->local;
	b->limits = o->limits;
	if (!b->closing)
		call_handler(L, b->class, e);
}

static void bound(lua_State *L, struct conn_event *e)
{
	lua_rawgeti(L, LUA_REGISTRYINDEX, dials);
	if (lua_rawgeti(L, -1, (lua_Integer)e->number) != LUA_TUSERDATA)
		return;
	struct bound *b = lua_touserdata(L, -1);
	keep(L, e->id, b);
	lua_pushnil(L);
	lua_rawseti(L, -3, (lua_Integer)e->number);
	b->token = 0;
	if (b->abort)
		conn_abort(e->id, "aborted");
	else if (b->closing)
		conn_close(e->id, 0);
}

static void closed(lua_State *L, struct conn_event *e)
{
	struct bound *b = find(e->id);
	if (b) {
		push(L, e->id);
		let_go(L, e->id);
	} else {
		lua_rawgeti(L, LUA_REGISTRYINDEX, dials);
		if (lua_rawgeti(L, -1, (lua_Integer)e->number) != LUA_TUSERDATA)
			return;
		b = lua_touserdata(L, -1);
		lua_pushnil(L);
		lua_rawseti(L, -3, (lua_Integer)e->number);
	}
	b->id = 0;
	b->token = 0;
	b->closing = true;
	window_unref(&b->window);
	call_handler(L, b->class, e);
}

static void exported(lua_State *L, struct conn_event *e)
{
	struct conn_text *text = e->p;
	lua_rawgeti(L, LUA_REGISTRYINDEX, (int)e->number);
	luaL_unref(L, LUA_REGISTRYINDEX, (int)e->number);
	if (text)
		lua_pushlstring(L, text->bytes, text->len);
	else
		lua_pushnil(L);
	if (!text)
		lua_pushliteral(L, "no keys to export");
	lua_call(L, text ? 1 : 2, 0);
}

/* Protected: may raise anywhere; bind_conn_deliver() frees the event. */
static int deliver(lua_State *L)
{
	struct conn_event *e = lua_touserdata(L, 1);
	switch (e->kind) {
	case CONN_OPENED:
		opened(L, e);
		return 0;
	case CONN_BOUND:
		bound(L, e);
		return 0;
	case CONN_CLOSED:
		closed(L, e);
		return 0;
	case CONN_EXPORTED:
		exported(L, e);
		return 0;
	default:
		break;
	}
	struct bound *b = find(e->id);
	if (!b || b->closing)
		return 0;
	if (e->kind == CONN_DRAINED && owes(b))   /* more has been sent meanwhile */
		return 0;
	push(L, e->id);
	if (e->kind == CONN_SECURED) {
		struct conn_text *text = e->p;
		lua_pushlstring(L, text->bytes, text->len);
		lua_setiuservalue(L, -2, TLS_RECORDS);
	}
	lua_pushboolean(L, call_handler(L, b->class, e));
	return 1;
}

static bool mute;

void bind_conn_mute(void)
{
	mute = true;
}

static void tell(struct conn_event *e)
{
	lua_State *L = logic_lua();
	luaL_checkstack(L, 10, NULL);
	lua_pushcfunction(L, deliver);
	lua_pushlightuserdata(L, e);
	if (is_counted(e->kind)) {
		struct bound *b;
		bind_call(L, 1, 1, "connection");
		/* Nobody to call done(), or it failed: what cannot be handled must not stop the rest. */
		if (!lua_toboolean(L, -1) && (b = find(e->id)))
			done(b);
		lua_pop(L, 1);
	} else if (e->kind == CONN_BYTES) {
		struct bound *b;
		bind_call(L, 1, 1, "connection");
		if (!lua_toboolean(L, -1) && (b = find(e->id)) && !b->closing)
			conn_abort(e->id, "nobody takes its bytes");
		lua_pop(L, 1);
	} else {
		bind_call(L, 1, 0, "connection");
	}
}

void bind_conn_deliver(struct msg *msg)
{
	struct conn_event *e = (struct conn_event *)msg;
	if (!mute)
		tell(e);
	if (e->kind == CONN_STREAM || e->kind == CONN_ELEMENT) {
		element_free((struct element **)&e->p);
	} else if (e->kind == CONN_OPENED) {
		if (((struct conn_opened *)e->p)->held)
			conn_begin(e->id);
		window_unref(&((struct conn_opened *)e->p)->window);
	}
	free(e->p);
	free(e);
}

/* --- methods --- */

static struct bound *check(lua_State *L)
{
	return luaL_checkudata(L, 1, BIND_CONN);
}

/* Of a connection orders may go to; 0: over. */
static uint64_t live(struct bound *b)
{
	return b->closing ? 0 : b->id;
}

static int conn_m_session(lua_State *L)
{
	check(L);
	if (lua_gettop(L) > 1) {
		lua_settop(L, 2);
		lua_setiuservalue(L, 1, SESSION);
		return 0;
	}
	lua_getiuservalue(L, 1, SESSION);
	return 1;
}

static int conn_m_id(lua_State *L)
{
	lua_pushinteger(L, (lua_Integer)check(L)->id);
	return 1;
}

static int push_address(lua_State *L, const struct addr *a)
{
	char text[ADDR_TEXT];
	addr_text(a, text);
	lua_pushstring(L, text);
	return 1;
}

static int conn_m_ip(lua_State *L)
{
	return push_address(L, &check(L)->peer);
}

static int conn_m_serverip(lua_State *L)
{
	return push_address(L, &check(L)->local);
}

static int conn_m_port(lua_State *L)
{
	lua_pushinteger(L, check(L)->peer.port);
	return 1;
}

static int conn_m_serverport(lua_State *L)
{
	lua_pushinteger(L, check(L)->local.port);
	return 1;
}

static int conn_m_class(lua_State *L)
{
	struct bound *b = check(L);
	lua_pushstring(L, b->class->name);
	return 1;
}

static int conn_m_connected(lua_State *L)
{
	struct bound *b = check(L);
	lua_pushboolean(L, live(b) && b->window);
	return 1;
}

uint64_t bind_conn_of_list(lua_State *L, int meta, const char **ns, struct tracker **tracker)
{
	const struct bound *b = lua_getmetatable(L, -1) && lua_rawequal(L, -1, meta) ? lua_touserdata(L, -2) : NULL;
	if (!b)
		luaL_error(L, "connection expected");
	lua_pop(L, 1);
	if (b->class)
		*ns = ((struct bind_class *)b->class->user)->ns;
	*tracker = b->tracker;
	return b->closing ? 0 : b->id;
}

struct tracker *bind_conn_tracker(lua_State *L, int index)
{
	struct bound *b = luaL_checkudata(L, index, BIND_CONN);
	return b->tracker;
}

void bind_conn_push_queue(lua_State *L, int index)
{
	lua_getiuservalue(L, index, QUEUE);
}

static int conn_m_send(lua_State *L)
{
	struct bound *b = check(L);
	if (!live(b)) {
		lua_pushboolean(L, 0);
		return 1;
	}
	struct block *block = bind_block_of(L, 2, ((struct bind_class *)b->class->user)->ns);
	if (!b->tracker || bind_tracker_take(b->tracker, block, (struct str){ NULL, 0 }))
		b->sent += block->len > 0, conn_send(b->id, &block, b->more);
	else
		block_unref(&block);
	if (b->tracker)
		bind_tracker_taken(L, b->tracker, 1, b->id);
	lua_pushboolean(L, 1);
	return 1;
}

void bind_conn_sent(uint64_t id, const struct block *block)
{
	struct bound *b = find(id);
	if (b)
		b->sent += block->len > 0;
}

static int conn_m_owes(lua_State *L)
{
	struct bound *b = check(L);
	lua_pushboolean(L, live(b) && owes(b));
	return 1;
}

static int conn_m_track(lua_State *L)
{
	struct bound *b = check(L);
	lua_settop(L, 3);
	struct tracker *t = bind_tracker_test(L, 2);
	luaL_argcheck(L, t || lua_isnil(L, 2), 2, "queue expected");
	if (t)
		bind_tracker_hold(t, lua_toboolean(L, 3));
	b->tracker = t;
	lua_pop(L, 1);
	lua_setiuservalue(L, 1, QUEUE);
	return 0;
}

static int conn_m_close(lua_State *L)
{
	struct bound *b = check(L);
	lua_Number seconds = luaL_optnumber(L, 2, 5);
	if (!b->closing && b->id)
		conn_close(b->id, seconds);
	b->closing = true;
	return 0;
}

static int conn_m_abort(lua_State *L)
{
	struct bound *b = check(L);
	const char *reason = luaL_optstring(L, 2, "aborted");
	if (b->id)
		conn_abort(b->id, reason);
	b->closing = b->abort = true;
	return 0;
}

static int conn_m_starttls(lua_State *L)
{
	struct bound *b = check(L);
	struct tls_ctx *ctx = bind_tls_check(L, 2);
	const char *name = luaL_optstring(L, 3, NULL);
	conn_starttls(live(b), ctx, name, b->dialled);
	return 0;
}

static int conn_m_restart(lua_State *L)
{
	conn_restart(live(check(L)));
	return 0;
}

static int conn_m_compress(lua_State *L)
{
	struct bound *b = check(L);
	luaL_argcheck(L, !strcmp(luaL_optstring(L, 2, "zlib"), "zlib"), 2, "unknown method");
	conn_compress(live(b));
	return 0;
}

static int conn_m_mode(lua_State *L)
{
	static const char *const names[] = { "xml", "raw", NULL };
	struct bound *b = check(L);
	conn_mode(live(b), luaL_checkoption(L, 2, NULL, names));
	return 0;
}

static int conn_m_tap(lua_State *L)
{
	struct bound *b = check(L);
	conn_tap(live(b), lua_toboolean(L, 2));
	return 0;
}

static int conn_m_feed(lua_State *L)
{
	struct bound *b = check(L);
	conn_feed(live(b), bind_check_str(L, 2));
	return 0;
}

static int conn_m_more(lua_State *L)
{
	struct bound *b = check(L);
	b->more = b->window && window_elements(b->window) > 1;
	return 0;
}

static int conn_m_done(lua_State *L)
{
	done(check(L));
	return 0;
}

static int conn_m_window(lua_State *L)
{
	struct bound *b = check(L);
	lua_Integer elements = luaL_checkinteger(L, 2), bytes = luaL_optinteger(L, 3, 64 * 1024);
	luaL_argcheck(L, elements >= 1 && elements <= 1 << 20, 2, "from 1 to 2^20");
	luaL_argcheck(L, bytes >= 1 && bytes <= 1 << 30, 3, "from 1 to 2^30");
	if (!b->window)
		return 0;
	atomic_store(&b->window->elements, (uint32_t)elements);
	atomic_store(&b->window->bytes, (uint32_t)bytes);
	if (window_reopen(b->window))
		conn_reopened(b->id);
	return 0;
}

static int conn_m_pause(lua_State *L)
{
	conn_hold(live(check(L)), true);
	return 0;
}

static int conn_m_resume(lua_State *L)
{
	conn_hold(live(check(L)), false);
	return 0;
}

static int conn_m_limits(lua_State *L)
{
	struct bound *b = check(L);
	luaL_checktype(L, 2, LUA_TTABLE);
	bind_limits(L, 2, &b->limits);
	conn_set_limits(live(b), &b->limits);
	return 0;
}

static int conn_m_deadline(lua_State *L)
{
	struct bound *b = check(L);
	conn_deadline(live(b), luaL_optnumber(L, 2, 0));
	return 0;
}

static int conn_m_idle_after(lua_State *L)
{
	struct bound *b = check(L);
	conn_idle_after(live(b), luaL_optnumber(L, 2, 0));
	return 0;
}

static int conn_m_tls(lua_State *L)
{
	struct str records;
	check(L);
	if (lua_getiuservalue(L, 1, TLS_RECORDS) != LUA_TSTRING) {
		lua_pushnil(L);
		return 1;
	}
	records.p = lua_tolstring(L, -1, &records.n);
	bind_tls_push_info(L, records);
	return 1;
}

static int conn_m_export_key(lua_State *L)
{
	struct bound *b = check(L);
	struct str label = bind_check_str(L, 2), context = { NULL, 0 };
	lua_Integer n = luaL_checkinteger(L, 3);
	bool has_context = !lua_isnoneornil(L, 4);
	if (has_context)
		context = bind_check_str(L, 4);
	luaL_argcheck(L, n > 0 && n <= CONN_EXPORT_MAX, 3, "too long");
	luaL_checktype(L, 5, LUA_TFUNCTION);
	lua_settop(L, 5);
	int ref = luaL_ref(L, LUA_REGISTRYINDEX);
	conn_export(live(b), label, context, has_context, (uint32_t)n, (uint64_t)ref);
	return 0;
}

static int conn_gc(lua_State *L)
{
	struct bound *b = check(L);
	window_unref(&b->window);
	return 0;
}

static int conn_tostring(lua_State *L)
{
	struct bound *b = check(L);
	char text[ADDR_TEXT];
	addr_text(&b->peer, text);
	lua_pushfstring(L, "connection %I (%s port %d%s)", (LUAI_UACINT)b->id, text, b->peer.port, b->id ? "" : ", closed");
	return 1;
}

void bind_conn_open(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "session", conn_m_session },   { "id", conn_m_id },             { "ip", conn_m_ip },
		{ "port", conn_m_port },         { "serverip", conn_m_serverip }, { "serverport", conn_m_serverport },
		{ "class", conn_m_class },       { "connected", conn_m_connected }, { "send", conn_m_send },
		{ "close", conn_m_close },       { "abort", conn_m_abort },       { "starttls", conn_m_starttls },
		{ "restart", conn_m_restart },   { "compress", conn_m_compress }, { "mode", conn_m_mode },
		{ "done", conn_m_done },         { "window", conn_m_window },     { "pause", conn_m_pause },
		{ "tap", conn_m_tap },           { "feed", conn_m_feed },         { "track", conn_m_track },
		{ "owes", conn_m_owes },         { "more", conn_m_more },
		{ "resume", conn_m_resume },     { "limits", conn_m_limits },     { "deadline", conn_m_deadline },
		{ "idle_after", conn_m_idle_after }, { "tls", conn_m_tls },       { "export_key", conn_m_export_key },
		{ NULL, NULL },
	};
	static const luaL_Reg meta[] = { { "__gc", conn_gc }, { "__tostring", conn_tostring }, { NULL, NULL } };
	luaL_newmetatable(L, BIND_CONN);
	luaL_setfuncs(L, meta, 0);
	lua_newtable(L);
	luaL_setfuncs(L, methods, 0);
	lua_setfield(L, -2, "__index");
	lua_pop(L, 1);
	lua_newtable(L);
	dials = luaL_ref(L, LUA_REGISTRYINDEX);
}
