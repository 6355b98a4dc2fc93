/* SPDX-License-Identifier: MIT */
/* sqlite_db.c - a connection to the database file: trouble in words, opening, statements. */
#include "store/sqlite_db.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/status.h"
#include "store/value.h"

enum { COMPLAIN_MS = 60000 };

/* --- trouble ------------------------------------------------------------------------------------------------------------ */

bool sqlite_db_no_space(int rc, int sys)
{
	return (rc & 0xff) == SQLITE_FULL || ((rc & 0xff) == SQLITE_IOERR && (sys == ENOSPC || sys == EDQUOT || sys == EFBIG));
}

bool sqlite_db_broken(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_CORRUPT: case SQLITE_NOTADB: case SQLITE_IOERR: case SQLITE_CANTOPEN: case SQLITE_READONLY:
	case SQLITE_PROTOCOL: case SQLITE_PERM: case SQLITE_MISUSE: case SQLITE_NOMEM:
		return true;
	default:
		return false;
	}
}

bool sqlite_db_own_fault(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_CONSTRAINT: case SQLITE_TOOBIG: case SQLITE_MISMATCH: case SQLITE_RANGE: case SQLITE_ERROR:
		return true;
	default:
		return false;
	}
}

struct trouble { const char *code, *text, *advice; };

static struct trouble trouble_of(int rc, int sys)
{
	if (sqlite_db_no_space(rc, sys))
		return (struct trouble){ "resource-constraint", "the disk is full", ": free space on its file system" };
	switch (rc & 0xff) {
	case SQLITE_BUSY: case SQLITE_LOCKED:
		return (struct trouble){ "resource-constraint", "the database is locked by another process",
			": find it with fuser and end it" };
	case SQLITE_CORRUPT: case SQLITE_NOTADB:
		return (struct trouble){ "internal-server-error", "the database is damaged",
			": move the file and its -wal and -shm away and put a backup in its place, or try: sqlite3 FILE .recover" };
	case SQLITE_READONLY: case SQLITE_PERM:
		return (struct trouble){ "internal-server-error", "the database cannot be written",
			": make the file and its directory writable for the server's user" };
	case SQLITE_CANTOPEN:
		return (struct trouble){ "internal-server-error", "the database cannot be opened",
			": check that its directory exists and belongs to the server's user" };
	case SQLITE_IOERR:
		if (rc == SQLITE_IOERR_WRITE)       /* quota and size limits come as this */
			return (struct trouble){ "resource-constraint", "the disk refuses writes",
				": free space, raise quota and size limits; if there is enough of them, look into the kernel's log" };
		return (struct trouble){ "internal-server-error", "the disk failed", ": look into the kernel's log" };
	case SQLITE_NOMEM:
		return (struct trouble){ "resource-constraint", "out of memory", ": give the server more memory" };
	case SQLITE_TOOBIG:
		return (struct trouble){ "resource-constraint", "the value is too big", "" };
	case SQLITE_CONSTRAINT:
		return (struct trouble){ "conflict", "the data conflicts with what is stored", "" };
	case SQLITE_NOTICE:                 /* ours: user_version is from the future */
		return (struct trouble){ "internal-server-error", "the database was written by a newer version",
			": run that version" };
	default:
		return (struct trouble){ "internal-server-error", "database error", "" };
	}
}

void sqlite_db_fail(struct sqlite_file *f, struct sqlite_db *c, struct store_request *r, int rc)
{
	int sys = c->db ? sqlite3_system_errno(c->db) : 0;
	struct trouble t = trouble_of(rc, sys);
	const char *detail = c->db && sqlite3_extended_errcode(c->db) == rc ? sqlite3_errmsg(c->db) : sqlite3_errstr(rc);
	r->code = t.code;
	snprintf(r->message, sizeof r->message, "%s (%s)", t.text, detail);
	f->failures++;
	if ((rc & 0xff) == SQLITE_CONSTRAINT)
		return;
	int writing = c->writes;
	uint64_t now = clock_mono_ms(), told = f->trouble[writing].told_ms;
	if (told && f->trouble[writing].about == (rc & 0xff) && now - told < COMPLAIN_MS)
		return;
	f->trouble[writing].told_ms = now;
	f->trouble[writing].about = rc & 0xff;
	f->trouble[writing].untold_end = true;
	log_error("store", "%s: cannot %s: %s%s%s%s; the server goes on and tries again with each request", f->name,
		writing ? "write" : "read", r->message, sys ? ": " : "", sys ? strerror(sys) : "", t.advice);
}

void sqlite_db_well(struct sqlite_file *f, const struct sqlite_db *c)
{
	int writing = c->writes;
	if (atomic_exchange(&f->trouble[writing].untold_end, false))
		log_info("store", "%s: %s work again", f->name, writing ? "writes" : "reads");
}

/* --- connections -------------------------------------------------------------------------------------------------------- */

void sqlite_db_close(struct sqlite_db *c)
{
	if (!c->db)
		return;
	for (int i = 0; i < STORE_STATEMENTS_MAX; i++)
		sqlite3_finalize(c->statements[i]);
	sqlite3_stmt *own[] = { c->begin, c->commit, c->rollback, c->savepoint, c->undo, c->release };
	for (int i = 0; i < COUNT(own); i++)
		sqlite3_finalize(own[i]);
	sqlite3_close(c->db);
	*c = (struct sqlite_db){ .writes = c->writes, .wal_pages = c->wal_pages, .opened_ms = c->opened_ms };
}

int sqlite_db_exec(sqlite3 *db, const char *sql)
{
	return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

static int version_of(sqlite3 *db, int *out)
{
	sqlite3_stmt *stmt = NULL;
	int rc = sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &stmt, NULL);
	if (!rc) {
		rc = sqlite3_step(stmt);
		if (rc == SQLITE_ROW) {
			*out = sqlite3_column_int(stmt, 0);
			rc = SQLITE_OK;
		}
	}
	sqlite3_finalize(stmt);
	return rc;
}

/* Any connection may find an old or an empty file and brings it up to date; the lock decides who does. */
static int migrate(struct sqlite_file *f, sqlite3 *db)
{
	int version = 0, rc = version_of(db, &version);
	if (rc || version == f->versions)
		return rc;
	if (version > f->versions)
		return SQLITE_NOTICE;
	if ((rc = sqlite_db_exec(db, "BEGIN IMMEDIATE")))
		return rc;
	rc = version_of(db, &version);
	int before = version;
	for (; !rc && version < f->versions; version++)
		rc = sqlite_db_exec(db, f->schema[version]);
	char set[48];
	snprintf(set, sizeof set, "PRAGMA user_version = %d", f->versions);
	if (!rc)
		rc = sqlite_db_exec(db, set);
	if (!rc)
		rc = sqlite_db_exec(db, "COMMIT");
	if (rc) {
		int keep = rc;
		sqlite_db_exec(db, "ROLLBACK");
		return keep;
	}
	if (before && before < f->versions)
		log_info("store", "%s: brought from version %d to %d", f->name, before, f->versions);
	return SQLITE_OK;
}

/* SQLite would create the file readable for everybody, and syncs the directory only for its journals. */
static void create_file(struct sqlite_file *f)
{
	int fd = open(f->name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	fsync(fd);
	close(fd);
	int dir = open(f->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir >= 0) {
		fsync(dir);
		close(dir);
	}
}

static int on_wal(void *arg, sqlite3 *db, const char *name, int pages)
{
	(void)db;
	(void)name;
	((struct sqlite_db *)arg)->wal_pages = pages;
	return SQLITE_OK;
}

static int connect_once(struct sqlite_file *f, struct sqlite_db *c)
{
	static const char *const syncs[] = { "OFF", "NORMAL", "FULL", "EXTRA" };
	create_file(f);
	int rc = sqlite3_open_v2(f->name, &c->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc)
		return rc;
	sqlite3_extended_result_codes(c->db, 1);
	sqlite3_busy_timeout(c->db, f->busy_ms);
	char pragmas[320];
	snprintf(pragmas, sizeof pragmas,
		"PRAGMA journal_mode = WAL; PRAGMA synchronous = %s; PRAGMA wal_autocheckpoint = 0;"
		"PRAGMA temp_store = MEMORY; PRAGMA cache_size = -%d; PRAGMA journal_size_limit = 67108864",
		syncs[f->sync], c->writes ? 8192 : 4096);
	if ((rc = sqlite_db_exec(c->db, pragmas)))
		return rc;
	if (f->page_max) {
		char limit[64];
		snprintf(limit, sizeof limit, "PRAGMA max_page_count = %lld", (long long)f->page_max);
		if ((rc = sqlite_db_exec(c->db, limit)))
			return rc;
	}
	if ((rc = migrate(f, c->db)))
		return rc;
	if (c->writes)
		sqlite3_wal_hook(c->db, on_wal, c);
	const char *const own[] = { c->writes ? "BEGIN IMMEDIATE" : "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT one", "ROLLBACK TO one",
		"RELEASE one" };
	sqlite3_stmt **to[] = { &c->begin, &c->commit, &c->rollback, &c->savepoint, &c->undo, &c->release };
	for (int i = 0; i < COUNT(own) && !rc; i++)
		rc = sqlite3_prepare_v3(c->db, own[i], -1, SQLITE_PREPARE_PERSISTENT, to[i], NULL);
	return rc;
}

/* Two connections that switch a new file to WAL at once, or one that opens while another closes as the last, are told BUSY
 * without SQLite's busy handler having waited. Nobody is in our way for long then: try again within the same time. */
static int connect_now(struct sqlite_file *f, struct sqlite_db *c)
{
	uint64_t began = clock_mono_ms();
	int rc = connect_once(f, c);
	while ((rc & 0xff) == SQLITE_BUSY && clock_mono_ms() - began < (uint64_t)f->busy_ms) {
		sqlite_db_close(c);
		sqlite3_sleep(5);
		rc = connect_once(f, c);
	}
	return rc;
}

int sqlite_db_ready(struct sqlite_file *f, struct sqlite_db *c)
{
	if (c->db) {
		int moved = 0;
		uint64_t at = clock_mono_ms();
		if (!c->writes && at - c->seen_ms < SQLITE_DB_LOOK_MS)
			return SQLITE_OK;                 /* a writer looks each time: what it writes must not be lost */
		sqlite3_file_control(c->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
		if (!moved) {
			c->seen_ms = at;
			return SQLITE_OK;
		}
		log_warn("store", "%s: the file was moved or replaced; opening what is there now", f->name);
		sqlite_db_close(c);
		c->opened_ms = 0;
	}
	uint64_t now = clock_mono_ms();
	if (c->error && now - c->opened_ms < SQLITE_DB_REOPEN_MS)
		return c->error;
	int rc = connect_now(f, c);
	c->opened_ms = clock_mono_ms();
	if (rc) {
		struct store_request nobody = { 0 };
		sqlite_db_fail(f, c, &nobody, rc);        /* while the connection can still say why */
		sqlite_db_close(c);
	}
	c->error = rc;
	return rc;
}

/* --- statements --------------------------------------------------------------------------------------------------------- */

int sqlite_db_step(sqlite3_stmt *stmt)
{
	int rc = sqlite3_step(stmt);
	sqlite3_reset(stmt);
	return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
}

static int bind_value(sqlite3_stmt *stmt, int at, struct value_reader *r)
{
	struct value_reader start = *r;
	struct str all;
	struct value v;
	if (value_read(r, &v))
		return SQLITE_MISUSE;
	switch (v.tag) {
	case VALUE_NIL:
		return sqlite3_bind_null(stmt, at);
	case VALUE_INT:
		return sqlite3_bind_int64(stmt, at, v.i);
	case VALUE_STRING:
		return sqlite3_bind_text64(stmt, at, v.s.p, v.s.n, SQLITE_STATIC, SQLITE_UTF8);
	case VALUE_FLOAT:
		if (v.d == v.d && v.d != 0)     /* SQLite has no NaN, and no -0.0 */
			return sqlite3_bind_double(stmt, at, v.d);
		break;
	default:
		break;
	}
	*r = start;
	if (value_skip(r, &all))
		return SQLITE_MISUSE;
	return sqlite3_bind_blob64(stmt, at, all.p, all.n, SQLITE_STATIC);
}

static int add_column(sqlite3_stmt *stmt, int at, struct buf *out)
{
	struct str s;
	struct value_reader r;
	switch (sqlite3_column_type(stmt, at)) {
	case SQLITE_INTEGER:
		value_add_int(out, sqlite3_column_int64(stmt, at));
		return SQLITE_OK;
	case SQLITE_FLOAT:
		value_add_float(out, sqlite3_column_double(stmt, at));
		return SQLITE_OK;
	case SQLITE_TEXT:
		s.p = (const char *)sqlite3_column_text(stmt, at);
		s.n = (size_t)sqlite3_column_bytes(stmt, at);
		value_add_string(out, s);
		return SQLITE_OK;
	case SQLITE_BLOB:
		s.p = sqlite3_column_blob(stmt, at);
		s.n = (size_t)sqlite3_column_bytes(stmt, at);
		r = value_reader(s);
		if (value_skip(&r, &s) || r.p != r.end)
			return SQLITE_CORRUPT;
		buf_add_str(out, s);
		return SQLITE_OK;
	default:
		value_add_tag(out, VALUE_NIL);
		return SQLITE_OK;
	}
}

static int prepared(struct sqlite_file *f, struct sqlite_db *c, uint64_t id, sqlite3_stmt **out)
{
	assert(id < STORE_STATEMENTS_MAX && f->sql[id]);
	if (!c->statements[id]) {
		int rc = sqlite3_prepare_v3(c->db, f->sql[id], -1, SQLITE_PREPARE_PERSISTENT, &c->statements[id], NULL);
		if (rc)
			return rc;
	}
	*out = c->statements[id];
	return SQLITE_OK;
}

static int run_statement(struct sqlite_file *f, struct sqlite_db *c, struct value_reader *in, struct store_request *r,
	bool keep_all)
{
	struct buf *out = &r->out;
	uint64_t id, params, cells = 0;
	if (value_read_count(in, &id) || value_read_count(in, &params))
		return SQLITE_MISUSE;
	sqlite3_stmt *stmt;
	int rc = prepared(f, c, id, &stmt);
	if (rc)
		return rc;
	for (int i = 1; i <= (int)params && !rc; i++)
		rc = bind_value(stmt, i, in);
	int columns = sqlite3_column_count(stmt);
	size_t at = 0;
	if (!rc && (columns || keep_all)) {
		if (!keep_all)
			out->len = 0;
		at = out->len;
		buf_add(out, &cells, sizeof cells);
	}
	while (!rc && (rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		rc = SQLITE_OK;
		for (int i = 0; i < columns && !rc; i++, cells++)
			rc = add_column(stmt, i, out);
	}
	if (rc == SQLITE_DONE)
		rc = SQLITE_OK;
	if (!rc && (columns || keep_all))
		memcpy(buf_data(out) + at, &cells, sizeof cells);
	r->changes = rc || sqlite3_stmt_readonly(stmt) ? 0 : sqlite3_changes64(c->db);      /* without those of triggers */
	sqlite3_reset(stmt);
	sqlite3_clear_bindings(stmt);           /* they point into the request */
	return rc;
}

int sqlite_db_run(struct sqlite_file *f, struct sqlite_db *c, struct store_request *r, bool keep_all)
{
	struct value_reader in = value_reader(buf_str(&r->in));
	int rc = SQLITE_OK;
	r->out.len = 0;
	while (!rc && in.p < in.end) {
		rc = run_statement(f, c, &in, r, keep_all);
	}
	return rc;
}
