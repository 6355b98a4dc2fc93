/* SPDX-License-Identifier: MIT */
/* bind_store.c - couplet.core.store: databases, as lua/couplet/database.lua uses them.
 *
 *   open{ driver = "sqlite", place = file, schema = { sql, … }, synchronous = "full"|"extra"|"normal"|"off", busy_timeout = seconds,
 *         max_waiting = writes, max_waiting_bytes =, max_pages = } -> db | nil, message
 *     driver = "postgres": place = libpq's connection string; busy_timeout is the limit of a statement and of waiting for the
 *     server. schema[i] brings a database from version i - 1 to i. Never waits; trouble shows in the answers.
 *   db:statement(sql, batch?) -> number  batch: see store.h. Parameters are ?1, ?2 …; the number of them is taken from the SQL
 *   db:read({ {number, parameter…}, … }, done)    done(rows, n, rows2, n2, …): cells of all rows in one list, n of them
 *   db:write({ {number, parameter…}, … }, done)   done(changes, rows, n): all or nothing, answered once it is on disk;
 *                                                 changes are those of the last statement, rows those of the last that
 *                                                 has columns. again = true in the list: it may be done twice
 *     On failure done(nil, message, code). Parameters and cells: nil, integers, floats, strings as themselves; booleans
 *     and tables (and NaN and 0.0) as a BLOB of their own encoding.
 *   db:numbers() -> { reads, writes, commits, failures, checkpoints, waiting, largest_batch, wal_pages }
 *   db:close()                           waits for what is under way; its answers are delivered
 *   encode(value) -> string              a copy of any storable value; raises if it is none
 *   decode(string) -> value | nil, message
 */
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"
#include "bind/bind.h"
#include "bus/lane.h"
#include "logic.h"
#include "store/store.h"
#include "store/value.h"

#define TYPE "couplet.store"

enum { SCRATCH_KEEP = 1 << 20, READ_STATEMENTS_MAX = 32 };

struct db {                     /* the userdata; user value 1: list of parameter counts by statement */
	struct store *store;            /* NULL: closed */
	int reads;                      /* under way */
};

struct question {
	struct store_request request;
	struct db *db;                  /* anchored by `self` */
	bool write;
	int done, self;                 /* registry references */
};

/* What is being encoded. Of the logic thread, so that an error raised midway leaks nothing. */
static struct buf scratch;

static struct buf *scratch_start(void)
{
	if (scratch.cap > SCRATCH_KEEP)
		buf_free(&scratch);
	scratch.len = scratch.head = 0;
	return &scratch;
}

/* --- Lua values <-> bytes ----------------------------------------------------------------------------------------------- */

static void encode(lua_State *L, int index, struct buf *b, int depth)
{
	struct str s;
	switch (lua_type(L, index)) {
	case LUA_TNIL:
		value_add_tag(b, VALUE_NIL);
		return;
	case LUA_TBOOLEAN:
		value_add_tag(b, lua_toboolean(L, index) ? VALUE_TRUE : VALUE_FALSE);
		return;
	case LUA_TNUMBER:
		if (lua_isinteger(L, index))
			value_add_int(b, lua_tointeger(L, index));
		else
			value_add_float(b, lua_tonumber(L, index));
		return;
	case LUA_TSTRING:
		s.p = lua_tolstring(L, index, &s.n);
		value_add_string(b, s);
		return;
	case LUA_TTABLE:
		break;
	default:
		luaL_error(L, "a %s cannot be stored", luaL_typename(L, index));
	}
	if (depth >= VALUE_DEPTH_MAX)
		luaL_error(L, "a table nested so deep, or within itself, cannot be stored");
	luaL_checkstack(L, 4, "nested table");
	value_add_tag(b, VALUE_TABLE);
	lua_Unsigned pairs = 0;
	index = lua_absindex(L, index);
	for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
		pairs++;
	value_add_count(b, pairs);
	for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
		if (lua_type(L, -2) == LUA_TTABLE)
			luaL_error(L, "a table with a table as key cannot be stored");
		encode(L, -2, b, depth + 1);
		encode(L, -1, b, depth + 1);
	}
}

/* Pushes one value. Raises on bytes that encode() did not write. */
static void decode(lua_State *L, struct value_reader *r, int depth)
{
	struct value v;
	if (depth > VALUE_DEPTH_MAX || value_read(r, &v))
		luaL_error(L, "damaged value");
	switch (v.tag) {
	case VALUE_TRUE:
	case VALUE_FALSE:
		lua_pushboolean(L, v.tag == VALUE_TRUE);
		return;
	case VALUE_INT:
		lua_pushinteger(L, v.i);
		return;
	case VALUE_FLOAT:
		lua_pushnumber(L, v.d);
		return;
	case VALUE_STRING:
		lua_pushlstring(L, v.s.p, v.s.n);
		return;
	case VALUE_TABLE:
		break;
	default:
		lua_pushnil(L);
		return;
	}
	luaL_checkstack(L, 4, "nested table");
	/* An array was written with its first index first. */
	bool array = v.pairs && r->p + 1 < r->end && r->p[0] == VALUE_INT && r->p[1] == 2;
	int room = v.pairs > 100000 ? 100000 : (int)v.pairs;
	lua_createtable(L, array ? room : 0, array ? 0 : room);
	for (uint64_t i = 0; i < v.pairs; i++) {
		decode(L, r, depth + 1);
		if (lua_isnil(L, -1) || (lua_type(L, -1) == LUA_TNUMBER && lua_tonumber(L, -1) != lua_tonumber(L, -1)))
			luaL_error(L, "damaged value");
		decode(L, r, depth + 1);
		lua_rawset(L, -3);
	}
}

static int store_encode(lua_State *L)
{
	luaL_checkany(L, 1);
	struct buf *b = scratch_start();
	encode(L, 1, b, 0);
	lua_pushlstring(L, buf_data(b), b->len);
	return 1;
}

static int store_decode(lua_State *L)
{
	struct value_reader r = value_reader(bind_check_str(L, 1)), check = r;
	if (value_skip(&check, NULL) || check.p != check.end) {
		lua_pushnil(L);
		lua_pushliteral(L, "damaged value");
		return 2;
	}
	decode(L, &r, 0);
	return 1;
}

/* --- questions and answers ---------------------------------------------------------------------------------------------- */

static void question_free(struct question *q)
{
	buf_free(&q->request.in);
	buf_free(&q->request.out);
	free(q);
}

/* Pushes a list of cells and their number. */
static void push_rows(lua_State *L, struct value_reader *r)
{
	uint64_t cells;
	memcpy(&cells, r->p, sizeof cells);
	r->p += sizeof cells;
	lua_createtable(L, cells > 1000000 ? 1000000 : (int)cells, 0);
	for (uint64_t i = 1; i <= cells; i++) {
		decode(L, r, 0);
		lua_rawseti(L, -2, (lua_Integer)i);
	}
	lua_pushinteger(L, (lua_Integer)cells);
}

static int answer(lua_State *L)                 /* protected */
{
	struct question *q = lua_touserdata(L, 1);
	struct store_request *r = &q->request;
	lua_rawgeti(L, LUA_REGISTRYINDEX, q->done);
	luaL_unref(L, LUA_REGISTRYINDEX, q->done);
	luaL_unref(L, LUA_REGISTRYINDEX, q->self);
	int args = 0;
	if (r->code) {
		lua_pushnil(L);
		lua_pushstring(L, r->message);
		lua_pushstring(L, r->code);
		args = 3;
	} else {
		struct value_reader rows = value_reader(buf_str(&r->out));
		if (q->write) {
			lua_pushinteger(L, (lua_Integer)r->changes);
			args = 1;
		}
		luaL_checkstack(L, 2 * READ_STATEMENTS_MAX + 4, NULL);
		for (; rows.p < rows.end; args += 2)
			push_rows(L, &rows);
	}
	question_free(q);
	lua_call(L, args, 0);
	return 0;
}

static void on_answer(struct store_request *r)
{
	struct question *q = (struct question *)r;
	lua_State *L = logic_lua();
	if (!q->write)
		q->db->reads--;
	luaL_checkstack(L, 4, NULL);
	lua_pushcfunction(L, answer);
	lua_pushlightuserdata(L, q);
	bind_call(L, 1, 0, "store");
}

static void refuse(struct msg *msg)
{
	on_answer((struct store_request *)msg);
}

static struct db *check_db(lua_State *L)
{
	struct db *db = luaL_checkudata(L, 1, TYPE);
	luaL_argcheck(L, db->store, 1, "database is closed");
	return db;
}

/* Encodes the statements at index 2. */
static struct buf *encode_statements(lua_State *L, int max)
{
	luaL_checktype(L, 2, LUA_TTABLE);
	struct buf *b = scratch_start();
	lua_getiuservalue(L, 1, 1);
	int counts = lua_gettop(L);
	lua_Integer n = (lua_Integer)lua_rawlen(L, 2);
	luaL_argcheck(L, n >= 1 && n <= max, 2, "no statements, or too many");
	for (lua_Integer i = 1; i <= n; i++) {
		lua_rawgeti(L, 2, i);
		luaL_argcheck(L, lua_istable(L, -1), 2, "a statement is a table");
		lua_rawgeti(L, -1, 1);
		lua_Integer id = lua_tointeger(L, -1);
		lua_pop(L, 1);
		lua_rawgeti(L, counts, id + 1);
		luaL_argcheck(L, lua_isinteger(L, -1), 2, "no such statement");
		lua_Integer params = lua_tointeger(L, -1);
		lua_pop(L, 1);
		value_add_count(b, (uint64_t)id);
		value_add_count(b, (uint64_t)params);
		for (lua_Integer p = 1; p <= params; p++) {
			lua_rawgeti(L, -1, p + 1);
			encode(L, -1, b, 0);
			lua_pop(L, 1);
		}
		lua_pop(L, 1);
	}
	lua_settop(L, 3);
	return b;
}

static int ask(lua_State *L, bool write)
{
	struct db *db = check_db(L);
	luaL_checktype(L, 3, LUA_TFUNCTION);
	lua_settop(L, 3);
	bool again = lua_getfield(L, 2, "again") == LUA_TBOOLEAN && lua_toboolean(L, -1);
	lua_settop(L, 3);
	struct buf *b = encode_statements(L, write ? 1 << 20 : READ_STATEMENTS_MAX);
	lua_pushvalue(L, 1);
	int self = luaL_ref(L, LUA_REGISTRYINDEX);
	int done = luaL_ref(L, LUA_REGISTRYINDEX);
	struct question *q = mem_zero(sizeof *q);
	*q = (struct question){ .db = db, .write = write, .self = self, .done = done,
		.request = { .store = db->store, .answer = on_answer } };
	q->request.again = again;
	buf_add_str(&q->request.in, buf_str(b));
	if (!write)
		db->reads++;
	const struct store_driver *driver = db->store->driver;
	if ((write ? driver->write : driver->read)(db->store, &q->request) != ST_OK) {
		q->request.code = "resource-constraint";
		strcpy(q->request.message, "too much is waiting for the database");
		q->request.job.msg.deliver = refuse;
		lane_post(logic_lane(), &q->request.job.msg);
	}
	return 0;
}

static int db_read(lua_State *L)
{
	return ask(L, false);
}

static int db_write(lua_State *L)
{
	return ask(L, true);
}

/* --- the database object ------------------------------------------------------------------------------------------------ */

static lua_Integer parameters_of(const char *sql)
{
	lua_Integer most = 0;
	for (; *sql; sql++) {
		if (*sql == '\'')
			while (*++sql && *sql != '\'')
				;
		if (!*sql)
			break;
		if (*sql == '?') {
			lua_Integer n = strtol(sql + 1, NULL, 10);
			if (n > most)
				most = n;
		}
	}
	return most;
}

static int db_statement(lua_State *L)
{
	struct db *db = check_db(L);
	struct str sql = bind_check_str(L, 2), batch = { 0 };
	if (!lua_isnoneornil(L, 3))
		batch = bind_check_str(L, 3);
	lua_getiuservalue(L, 1, 1);
	int id = db->store->driver->statement(db->store, sql, batch);
	if (id < 0)
		return luaL_error(L, "too many different statements");
	lua_pushinteger(L, parameters_of(sql.p));
	lua_rawseti(L, -2, id + 1);
	lua_pushinteger(L, id);
	return 1;
}

static int db_numbers(lua_State *L)
{
	struct db *db = check_db(L);
	struct store_numbers n;
	db->store->driver->numbers(db->store, &n);
	const struct { const char *name; uint64_t value; } rows[] = {
		{ "reads", n.reads }, { "writes", n.writes }, { "commits", n.commits }, { "failures", n.failures },
		{ "checkpoints", n.checkpoints }, { "waiting", (uint64_t)n.waiting },
		{ "largest_batch", (uint64_t)n.largest_batch }, { "wal_pages", (uint64_t)n.wal_pages },
	};
	lua_createtable(L, 0, COUNT(rows));
	for (int i = 0; i < COUNT(rows); i++) {
		lua_pushinteger(L, (lua_Integer)rows[i].value);
		lua_setfield(L, -2, rows[i].name);
	}
	return 1;
}

static int db_close(lua_State *L)
{
	struct db *db = luaL_checkudata(L, 1, TYPE);
	if (!db->store)
		return 0;
	struct store *store = db->store;
	db->store = NULL;                       /* nothing new from here on */
	while (db->reads > 0) {
		lane_turn(logic_lane());
		if (db->reads > 0)
			nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
	}
	store->driver->close(&store);
	lane_turn(logic_lane());
	return 0;
}

static int db_gc(lua_State *L)                  /* only without close(): questions under way keep the object alive */
{
	struct db *db = luaL_checkudata(L, 1, TYPE);
	if (db->store && db->reads == 0)
		db->store->driver->close(&db->store);
	return 0;
}

static lua_Number number_field(lua_State *L, const char *name, lua_Number otherwise)
{
	lua_getfield(L, 1, name);
	lua_Number n = luaL_optnumber(L, -1, otherwise);
	lua_pop(L, 1);
	return n;
}

static int store_open(lua_State *L)
{
	static const char *const syncs[] = { "off", "normal", "full", "extra", NULL };
	luaL_checktype(L, 1, LUA_TTABLE);
	lua_settop(L, 1);
	lua_getfield(L, 1, "driver");
	const char *name = luaL_checkstring(L, -1);
	const struct store_driver *driver = strcmp(name, store_sqlite.name) == 0 ? &store_sqlite
		: strcmp(name, store_postgres.name) == 0 ? &store_postgres : NULL;
	if (!driver) {
		lua_pushnil(L);
		lua_pushfstring(L, "there is no database driver named %s", name);
		return 2;
	}
	lua_getfield(L, 1, "place");
	lua_getfield(L, 1, "synchronous");
	lua_getfield(L, 1, "schema");
	luaL_checktype(L, 5, LUA_TTABLE);
	int versions = (int)lua_rawlen(L, 5);
	struct store_config config = {
		.place = bind_check_str(L, 3),
		.sync = (enum store_sync)luaL_checkoption(L, 4, "full", syncs),
		.versions = versions,
		.busy_ms = (int)(number_field(L, "busy_timeout", 5) * 1000),
		.waiting_max = (int)number_field(L, "max_waiting", 100000),
		.waiting_bytes_max = (size_t)number_field(L, "max_waiting_bytes", 256 << 20),
		.page_max = (int64_t)number_field(L, "max_pages", 0),
	};
	struct str *schema = lua_newuserdatauv(L, sizeof *schema * (size_t)(versions + 1), 0);
	luaL_checkstack(L, versions + 8, "schema");
	for (int i = 0; i < versions; i++) {
		lua_rawgeti(L, 5, i + 1);           /* stays on the stack, which keeps its bytes */
		schema[i] = bind_check_str(L, -1);
	}
	config.schema = schema;
	struct db *db = lua_newuserdatauv(L, sizeof *db, 1);
	*db = (struct db){ 0 };
	lua_newtable(L);
	lua_setiuservalue(L, -2, 1);
	luaL_setmetatable(L, TYPE);
	db->store = driver->open(&config);
	return 1;
}

int bind_store_open(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "statement", db_statement }, { "read", db_read }, { "write", db_write }, { "numbers", db_numbers },
		{ "close", db_close }, { NULL, NULL },
	};
	static const luaL_Reg functions[] = {
		{ "open", store_open }, { "encode", store_encode }, { "decode", store_decode }, { NULL, NULL },
	};
	luaL_newmetatable(L, TYPE);
	luaL_newlib(L, methods);
	lua_setfield(L, -2, "__index");
	lua_pushcfunction(L, db_gc);
	lua_setfield(L, -2, "__gc");
	lua_pop(L, 1);
	luaL_newlib(L, functions);
	return 1;
}
