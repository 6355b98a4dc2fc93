/* SPDX-License-Identifier: MIT */
/* sqlite.c - the embedded database: one writer thread with group commit, readers on job threads, checkpoints on a thread
 * of their own, all in WAL mode.
 *
 * Locks: `lock` guards the queue and the list of idle readers, held for a few instructions; a connection is used by one
 * thread at a time. Trouble (full disk, locked, damaged, gone) fails the requests it meets and closes the connection;
 * the next request opens it anew, at most every REOPEN_MS, so that a repaired database works without a restart.
 */
#include "store/store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/thread.h"
#include "logic.h"
#include "store/value.h"

enum {
	READERS_MAX = 16,
	REOPEN_MS = 250,
	CHECKPOINT_PAGES = 1000,          /* 4 MB of WAL: the checkpointer is woken */
	CHECKPOINT_HARD = 20000,          /* 80 MB: it cannot keep up, so the writer waits for one */
	CHECKPOINT_IDLE_MS = 1000,
	COMPLAIN_MS = 60000,
};

struct connection {
	sqlite3 *db;
	sqlite3_stmt *statements[STORE_STATEMENTS_MAX];
	sqlite3_stmt *begin, *commit, *rollback, *savepoint, *undo, *release;
	int error;                        /* SQLite's code when it could not be opened */
	uint64_t opened_ms;               /* or tried to */
};

struct sqlite {
	struct store store;
	char *file, *directory;
	char **schema;
	int versions, busy_ms, waiting_max;
	enum store_sync sync;
	size_t waiting_bytes_max;
	int64_t page_max;

	char *sql[STORE_STATEMENTS_MAX];  /* written by the logic thread before a request names it */
	int n_sql;

	pthread_mutex_t lock;
	pthread_cond_t some, checkpoint;
	struct msg *first, **last;        /* writes waiting, oldest first */
	int waiting;
	size_t waiting_bytes;
	bool stop, checkpoint_wanted;
	struct connection *idle[READERS_MAX];
	int idles;

	pthread_t writer_id, checkpointer_id;
	struct connection writer;         /* writer thread only, as is what follows */
	int wal_pages, wal_checkpointed;
	bool unchecked;

	struct {
		_Atomic uint64_t told_ms;         /* when the last log line was written */
		_Atomic int about;
		_Atomic bool untold_end;          /* after it nothing has worked yet */
	} trouble[2];                     /* of reads, of writes */
	_Atomic uint64_t reads, writes, commits, failures, checkpoints;
	_Atomic int largest_batch, wal_seen;
};

/* --- trouble ------------------------------------------------------------------------------------------------------------ */

static bool is_space(int rc, int sys)
{
	return (rc & 0xff) == SQLITE_FULL || ((rc & 0xff) == SQLITE_IOERR && (sys == ENOSPC || sys == EDQUOT || sys == EFBIG));
}

/* The connection cannot be trusted any more; open another one for the next request. */
static bool is_broken(int rc)
{
	switch (rc & 0xff) {
	case SQLITE_CORRUPT: case SQLITE_NOTADB: case SQLITE_IOERR: case SQLITE_CANTOPEN: case SQLITE_READONLY:
	case SQLITE_PROTOCOL: case SQLITE_PERM: case SQLITE_MISUSE: case SQLITE_NOMEM:
		return true;
	default:
		return false;
	}
}

/* The request's own fault: others of its batch would succeed. */
static bool is_own(int rc)
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
	if (is_space(rc, sys))
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

static void fail(struct sqlite *s, struct connection *c, struct store_request *r, int rc)
{
	int sys = c->db ? sqlite3_system_errno(c->db) : 0;
	struct trouble t = trouble_of(rc, sys);
	const char *detail = c->db && sqlite3_extended_errcode(c->db) == rc ? sqlite3_errmsg(c->db) : sqlite3_errstr(rc);
	r->code = t.code;
	snprintf(r->message, sizeof r->message, "%s (%s)", t.text, detail);
	s->failures++;
	if ((rc & 0xff) == SQLITE_CONSTRAINT)
		return;
	int writing = c == &s->writer;
	uint64_t now = clock_mono_ms(), told = s->trouble[writing].told_ms;
	if (told && s->trouble[writing].about == (rc & 0xff) && now - told < COMPLAIN_MS)
		return;
	s->trouble[writing].told_ms = now;
	s->trouble[writing].about = rc & 0xff;
	s->trouble[writing].untold_end = true;
	log_error("store", "%s: cannot %s: %s%s%s%s; the server goes on and tries again with each request", s->file,
		writing ? "write" : "read", r->message, sys ? ": " : "", sys ? strerror(sys) : "", t.advice);
}

static void well(struct sqlite *s, const struct connection *c)
{
	int writing = c == &s->writer;
	if (atomic_exchange(&s->trouble[writing].untold_end, false))
		log_info("store", "%s: %s work again", s->file, writing ? "writes" : "reads");
}

/* --- connections -------------------------------------------------------------------------------------------------------- */

static void disconnect(struct connection *c)
{
	if (!c->db)
		return;
	for (int i = 0; i < STORE_STATEMENTS_MAX; i++)
		sqlite3_finalize(c->statements[i]);
	sqlite3_stmt *own[] = { c->begin, c->commit, c->rollback, c->savepoint, c->undo, c->release };
	for (int i = 0; i < COUNT(own); i++)
		sqlite3_finalize(own[i]);
	sqlite3_close(c->db);
	*c = (struct connection){ .opened_ms = c->opened_ms };
}

static int run_sql(sqlite3 *db, const char *sql)
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
static int migrate(struct sqlite *s, sqlite3 *db)
{
	int version = 0, rc = version_of(db, &version);
	if (rc || version == s->versions)
		return rc;
	if (version > s->versions)
		return SQLITE_NOTICE;
	if ((rc = run_sql(db, "BEGIN IMMEDIATE")))
		return rc;
	rc = version_of(db, &version);
	int before = version;
	for (; !rc && version < s->versions; version++)
		rc = run_sql(db, s->schema[version]);
	char set[48];
	snprintf(set, sizeof set, "PRAGMA user_version = %d", s->versions);
	if (!rc)
		rc = run_sql(db, set);
	if (!rc)
		rc = run_sql(db, "COMMIT");
	if (rc) {
		int keep = rc;
		run_sql(db, "ROLLBACK");
		return keep;
	}
	if (before && before < s->versions)
		log_info("store", "%s: brought from version %d to %d", s->file, before, s->versions);
	return SQLITE_OK;
}

/* SQLite would create the file readable for everybody, and syncs the directory only for its journals. */
static void create_file(struct sqlite *s)
{
	int fd = open(s->file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	fsync(fd);
	close(fd);
	int dir = open(s->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir >= 0) {
		fsync(dir);
		close(dir);
	}
}

static int on_wal(void *arg, sqlite3 *db, const char *name, int pages)
{
	(void)db;
	(void)name;
	((struct sqlite *)arg)->wal_pages = pages;
	return SQLITE_OK;
}

static int connect_now(struct sqlite *s, struct connection *c)
{
	static const char *const syncs[] = { "OFF", "NORMAL", "FULL", "EXTRA" };
	create_file(s);
	int rc = sqlite3_open_v2(s->file, &c->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc)
		return rc;
	sqlite3_extended_result_codes(c->db, 1);
	sqlite3_busy_timeout(c->db, s->busy_ms);
	char pragmas[320];
	snprintf(pragmas, sizeof pragmas,
		"PRAGMA journal_mode = WAL; PRAGMA synchronous = %s; PRAGMA wal_autocheckpoint = 0;"
		"PRAGMA temp_store = MEMORY; PRAGMA cache_size = -%d; PRAGMA journal_size_limit = 67108864",
		syncs[s->sync], c == &s->writer ? 8192 : 4096);
	if ((rc = run_sql(c->db, pragmas)))
		return rc;
	if (s->page_max) {
		char limit[64];
		snprintf(limit, sizeof limit, "PRAGMA max_page_count = %lld", (long long)s->page_max);
		if ((rc = run_sql(c->db, limit)))
			return rc;
	}
	if ((rc = migrate(s, c->db)))
		return rc;
	if (c == &s->writer)
		sqlite3_wal_hook(c->db, on_wal, s);
	const char *const own[] = { c == &s->writer ? "BEGIN IMMEDIATE" : "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT one", "ROLLBACK TO one", "RELEASE one" };
	sqlite3_stmt **to[] = { &c->begin, &c->commit, &c->rollback, &c->savepoint, &c->undo, &c->release };
	for (int i = 0; i < COUNT(own) && !rc; i++)
		rc = sqlite3_prepare_v3(c->db, own[i], -1, SQLITE_PREPARE_PERSISTENT, to[i], NULL);
	return rc;
}

/* The open connection of c, opened now if it has to be. A file that was replaced counts as closed. */
static int connection_ready(struct sqlite *s, struct connection *c)
{
	if (c->db) {
		int moved = 0;
		sqlite3_file_control(c->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
		if (!moved)
			return SQLITE_OK;
		log_warn("store", "%s: the file was moved or replaced; opening what is there now", s->file);
		disconnect(c);
		c->opened_ms = 0;
	}
	uint64_t now = clock_mono_ms();
	if (c->error && now - c->opened_ms < REOPEN_MS)
		return c->error;
	int rc = connect_now(s, c);
	c->opened_ms = clock_mono_ms();
	if (rc) {
		struct store_request nobody = { 0 };
		fail(s, c, &nobody, rc);        /* while the connection can still say why */
		disconnect(c);
	}
	c->error = rc;
	return rc;
}

/* --- statements --------------------------------------------------------------------------------------------------------- */

static int step(sqlite3_stmt *stmt)
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

static int prepared(struct sqlite *s, struct connection *c, uint64_t id, sqlite3_stmt **out)
{
	assert(id < STORE_STATEMENTS_MAX && s->sql[id]);
	if (!c->statements[id]) {
		int rc = sqlite3_prepare_v3(c->db, s->sql[id], -1, SQLITE_PREPARE_PERSISTENT, &c->statements[id], NULL);
		if (rc)
			return rc;
	}
	*out = c->statements[id];
	return SQLITE_OK;
}

static int run_statement(struct sqlite *s, struct connection *c, struct value_reader *in, struct buf *out, bool keep_all)
{
	uint64_t id, params, cells = 0;
	if (value_read_count(in, &id) || value_read_count(in, &params))
		return SQLITE_MISUSE;
	sqlite3_stmt *stmt;
	int rc = prepared(s, c, id, &stmt);
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
	sqlite3_reset(stmt);
	sqlite3_clear_bindings(stmt);           /* they point into the request */
	return rc;
}

static int run_request(struct sqlite *s, struct connection *c, struct store_request *r, bool keep_all)
{
	struct value_reader in = value_reader(buf_str(&r->in));
	int rc = SQLITE_OK;
	r->out.len = 0;
	while (!rc && in.p < in.end) {
		int64_t before = sqlite3_total_changes64(c->db);
		rc = run_statement(s, c, &in, &r->out, keep_all);
		r->changes = sqlite3_total_changes64(c->db) - before;
	}
	return rc;
}

/* --- reading (job threads) ---------------------------------------------------------------------------------------------- */

static void read_work(struct job *job)
{
	struct store_request *r = (struct store_request *)job;
	struct sqlite *s = (struct sqlite *)r->store;
	pthread_mutex_lock(&s->lock);
	struct connection *c = s->idles ? s->idle[--s->idles] : NULL;
	pthread_mutex_unlock(&s->lock);
	if (!c)
		c = mem_zero(sizeof *c);
	int rc = connection_ready(s, c);
	if (!rc) {
		/* One snapshot for all statements of the request. */
		if (!(rc = step(c->begin)))
			rc = run_request(s, c, r, true);
		if (rc)
			fail(s, c, r, rc);
		else
			well(s, c);
		if (!sqlite3_get_autocommit(c->db))
			step(rc ? c->rollback : c->commit);
		if (is_broken(rc))
			disconnect(c);
	} else {
		fail(s, c, r, rc);
	}
	s->reads++;
	pthread_mutex_lock(&s->lock);
	if (s->idles < READERS_MAX) {
		s->idle[s->idles++] = c;
		c = NULL;
	}
	pthread_mutex_unlock(&s->lock);
	if (c) {
		disconnect(c);
		free(c);
	}
}

static void read_done(struct job *job)
{
	struct store_request *r = (struct store_request *)job;
	r->answer(r);
}

static enum status sqlite_read(struct store *store, struct store_request *r)
{
	r->job.work = read_work;
	r->job.done = read_done;
	return job_run(JOB_STORE, &r->job);
}

/* --- writing (the writer thread) ---------------------------------------------------------------------------------------- */

enum mode { PLAIN, GUARDED };               /* without and with a savepoint per request */

/* Runs the requests in one transaction. Returns 0 if it was committed; with PLAIN all succeeded then, with GUARDED
 * each says in `result`. Else nothing was written, and *own tells whether one request's own fault was the reason. */
static int attempt(struct sqlite *s, struct store_request **all, int n, enum mode mode, bool *own)
{
	struct connection *c = &s->writer;
	*own = false;
	int rc = step(c->begin);
	for (int i = 0; i < n && !rc; i++) {
		struct store_request *r = all[i];
		r->result = SQLITE_OK;
		r->code = NULL;
		if (mode == GUARDED && (rc = step(c->savepoint)))
			break;
		rc = run_request(s, c, r, false);
		if (rc && mode == GUARDED && is_own(rc) && !sqlite3_get_autocommit(c->db)) {
			r->result = rc;
			fail(s, c, r, rc);
			rc = step(c->undo);
		} else if (rc) {
			*own = is_own(rc);
			if (n == 1)
				fail(s, c, r, rc);
			break;
		}
		if (mode == GUARDED && !rc)
			rc = step(c->release);
	}
	if (!rc) {
		rc = step(c->commit);
		if (rc && n == 1)
			fail(s, c, all[0], rc);
	}
	if (rc) {
		if (!sqlite3_get_autocommit(c->db))
			step(c->rollback);
		return rc;
	}
	s->commits++;
	return SQLITE_OK;
}

static void fail_all(struct sqlite *s, struct store_request **all, int n, int rc)
{
	for (int i = 0; i < n; i++)
		if (!all[i]->code)
			fail(s, &s->writer, all[i], rc);
}

static void run_batch(struct sqlite *s, struct store_request **all, int n)
{
	bool own = false;
	int rc = connection_ready(s, &s->writer);
	if (!rc)
		rc = attempt(s, all, n, PLAIN, &own);
	if (rc && s->writer.db && own && n > 1)
		rc = attempt(s, all, n, GUARDED, &own);
	if (rc && n > 1 && s->writer.db && is_space(rc, sqlite3_system_errno(s->writer.db))) {
		/* What is smaller may still fit. */
		for (int i = 0; i < n; i++)
			if ((rc = attempt(s, &all[i], 1, PLAIN, &own)) && !all[i]->code)
				fail(s, &s->writer, all[i], rc);
	} else if (rc) {
		fail_all(s, all, n, rc);
	} else {
		well(s, &s->writer);
	}
	/* Whoever holds the lock may hold it on; the next batch should not wait its full time again. */
	if (s->writer.db)
		sqlite3_busy_timeout(s->writer.db, (rc & 0xff) == SQLITE_BUSY ? REOPEN_MS : s->busy_ms);
	if (is_broken(rc) && s->writer.db) {
		disconnect(&s->writer);
		s->writer.error = 0;
	}
}

static void deliver_answer(struct msg *msg)
{
	struct store_request *r = (struct store_request *)msg;
	r->answer(r);
}

static void ask_checkpoint(struct sqlite *s)
{
	pthread_mutex_lock(&s->lock);
	s->checkpoint_wanted = true;
	pthread_cond_signal(&s->checkpoint);
	pthread_mutex_unlock(&s->lock);
}

static void watch_wal(struct sqlite *s)
{
	s->wal_seen = s->wal_pages;
	if (s->wal_pages < s->wal_checkpointed)
		s->wal_checkpointed = 0;            /* it started over */
	if (s->wal_pages >= CHECKPOINT_HARD && s->writer.db) {
		sqlite3_wal_checkpoint_v2(s->writer.db, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL);
		s->checkpoints++;
		s->wal_checkpointed = s->wal_pages;
	} else if (s->wal_pages - s->wal_checkpointed >= CHECKPOINT_PAGES) {
		s->wal_checkpointed = s->wal_pages;
		ask_checkpoint(s);
	}
}

/* Waits for writes and takes up to a batch of them. Returns 0 when asked to stop and none is left. */
static int take(struct sqlite *s, struct store_request **all)
{
	int n = 0;
	pthread_mutex_lock(&s->lock);
	while (!s->first && !s->stop) {
		if (!s->unchecked) {
			pthread_cond_wait(&s->some, &s->lock);
			continue;
		}
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += CHECKPOINT_IDLE_MS / 1000;
		if (pthread_cond_timedwait(&s->some, &s->lock, &until) == ETIMEDOUT) {
			s->unchecked = false;
			s->checkpoint_wanted = true;
			pthread_cond_signal(&s->checkpoint);
		}
	}
	while (s->first && n < STORE_BATCH_MAX) {
		struct store_request *r = (struct store_request *)s->first;
		s->first = r->job.msg.next;
		s->waiting--;
		s->waiting_bytes -= r->in.len;
		all[n++] = r;
	}
	if (!s->first)
		s->last = &s->first;
	pthread_mutex_unlock(&s->lock);
	return n;
}

static void *writer(void *arg)
{
	struct sqlite *s = arg;
	thread_become(THREAD_JOB, "store-write");
	struct store_request *all[STORE_BATCH_MAX];
	connection_ready(s, &s->writer);        /* makes the file, before the first request comes */
	int n;
	while ((n = take(s, all))) {
		if (n > s->largest_batch)
			s->largest_batch = n;
		run_batch(s, all, n);
		s->writes += (uint64_t)n;
		for (int i = 0; i < n; i++) {
			all[i]->job.msg.deliver = deliver_answer;
			lane_post(logic_lane(), &all[i]->job.msg);
		}
		s->unchecked = true;
		watch_wal(s);
	}
	return NULL;
}

static enum status sqlite_write(struct store *store, struct store_request *r)
{
	struct sqlite *s = (struct sqlite *)store;
	pthread_mutex_lock(&s->lock);
	if (s->waiting >= s->waiting_max || s->waiting_bytes + r->in.len > s->waiting_bytes_max) {
		pthread_mutex_unlock(&s->lock);
		return ST_LIMIT;
	}
	r->job.msg.next = NULL;
	*s->last = &r->job.msg;
	s->last = &r->job.msg.next;
	s->waiting++;
	s->waiting_bytes += r->in.len;
	if (s->waiting == 1)
		pthread_cond_signal(&s->some);
	pthread_mutex_unlock(&s->lock);
	return ST_OK;
}

/* --- checkpoints -------------------------------------------------------------------------------------------------------- */

static void *checkpointer(void *arg)
{
	struct sqlite *s = arg;
	thread_become(THREAD_JOB, "store-ckpt");
	sqlite3 *db = NULL;
	pthread_mutex_lock(&s->lock);
	while (!s->stop) {
		if (!s->checkpoint_wanted) {
			pthread_cond_wait(&s->checkpoint, &s->lock);
			continue;
		}
		s->checkpoint_wanted = false;
		pthread_mutex_unlock(&s->lock);
		/* A connection for each: it is woken once a megabyte, and never holds a file that was replaced. */
		if (sqlite3_open_v2(s->file, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK) {
			run_sql(db, s->sync == STORE_SYNC_OFF ? "PRAGMA synchronous = OFF" : "PRAGMA synchronous = FULL");
			sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
			s->checkpoints++;
		}
		sqlite3_close(db);
		pthread_mutex_lock(&s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* --- the driver --------------------------------------------------------------------------------------------------------- */

static struct store *sqlite_open(const struct store_config *config)
{
	struct sqlite *s = mem_zero(sizeof *s);
	s->store.driver = &store_sqlite;
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);     /* a lock for each allocation; refused, and harmless, after the first time */
	signal(SIGXFSZ, SIG_IGN);               /* a file too large is an error like a full disk, not the end */
	s->file = mem_copy(config->place.p, config->place.n);
	char *slash = strrchr(s->file, '/');
	s->directory = slash ? mem_copy(s->file, (size_t)(slash - s->file) + 1) : mem_copy(".", 1);
	s->schema = mem_alloc(sizeof *s->schema * (size_t)(config->versions + 1));
	s->versions = config->versions;
	for (int i = 0; i < s->versions; i++)
		s->schema[i] = mem_copy(config->schema[i].p, config->schema[i].n);
	s->sync = config->sync;
	s->busy_ms = config->busy_ms;
	s->waiting_max = config->waiting_max;
	s->waiting_bytes_max = config->waiting_bytes_max;
	s->page_max = config->page_max;
	s->last = &s->first;
	pthread_condattr_t mono;
	pthread_condattr_init(&mono);
	pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->some, &mono);
	pthread_cond_init(&s->checkpoint, &mono);
	pthread_condattr_destroy(&mono);
	thread_start(&s->writer_id, writer, s);
	thread_start(&s->checkpointer_id, checkpointer, s);
	return &s->store;
}

static int sqlite_statement(struct store *store, struct str sql)
{
	struct sqlite *s = (struct sqlite *)store;
	if (s->n_sql >= STORE_STATEMENTS_MAX)
		return -1;
	s->sql[s->n_sql] = mem_copy(sql.p, sql.n);
	return s->n_sql++;
}

static void sqlite_numbers(struct store *store, struct store_numbers *out)
{
	struct sqlite *s = (struct sqlite *)store;
	pthread_mutex_lock(&s->lock);
	int waiting = s->waiting;
	pthread_mutex_unlock(&s->lock);
	*out = (struct store_numbers){
		.reads = s->reads, .writes = s->writes, .commits = s->commits, .failures = s->failures,
		.checkpoints = s->checkpoints, .waiting = waiting, .largest_batch = s->largest_batch, .wal_pages = s->wal_seen,
	};
}

static void sqlite_close(struct store **store)
{
	struct sqlite *s = (struct sqlite *)*store;
	if (!s)
		return;
	*store = NULL;
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_cond_broadcast(&s->some);
	pthread_cond_broadcast(&s->checkpoint);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->writer_id, NULL);
	pthread_join(s->checkpointer_id, NULL);
	for (int i = 0; i < s->idles; i++) {
		disconnect(s->idle[i]);
		free(s->idle[i]);
	}
	disconnect(&s->writer);                 /* the last one: SQLite checkpoints and removes the WAL */
	for (int i = 0; i < s->n_sql; i++)
		free(s->sql[i]);
	for (int i = 0; i < s->versions; i++)
		free(s->schema[i]);
	free(s->schema);
	free(s->file);
	free(s->directory);
	pthread_cond_destroy(&s->some);
	pthread_cond_destroy(&s->checkpoint);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

const struct store_driver store_sqlite = {
	.name = "sqlite",
	.open = sqlite_open,
	.statement = sqlite_statement,
	.read = sqlite_read,
	.write = sqlite_write,
	.numbers = sqlite_numbers,
	.close = sqlite_close,
};
