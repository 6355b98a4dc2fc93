/* SPDX-License-Identifier: MIT */
/* sqlite.c - the embedded database: one writer thread with group commit, readers on job threads, checkpoints on a thread
 * of their own, all in WAL mode. What a connection does is in sqlite_db.
 *
 * A connection is used by one thread at a time. Trouble (full disk, locked, damaged, gone) fails the requests it meets and
 * closes the connection; the next request opens it anew, so that a repaired database works without a restart.
 */
#include "store/store.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/thread.h"
#include "store/sqlite_db.h"
#include "store/queue.h"

enum {
	CHECKPOINT_PAGES = 1000,          /* 4 MB of WAL: the checkpointer is woken */
	CHECKPOINT_HARD = 20000,          /* 80 MB: it cannot keep up, so the writer waits for one */
	CHECKPOINT_IDLE_S = 1,
};

struct sqlite {
	struct store store;
	struct sqlite_file file;
	struct store_queue queue;

	pthread_mutex_t lock;             /* of the two below */
	pthread_cond_t checkpoint;
	bool stop, checkpoint_wanted;

	pthread_t writer_id, checkpointer_id;
	struct sqlite_db writer;          /* writer thread only, as is what follows */
	int wal_checkpointed;
	bool unchecked;

	_Atomic uint64_t commits, checkpoints;
	_Atomic int wal_seen;
};

/* --- reading (job threads) ---------------------------------------------------------------------------------------------- */

static void read_work(struct job *job)
{
	struct store_request *r = (struct store_request *)job;
	struct sqlite *s = (struct sqlite *)r->store;
	struct sqlite_db *c = store_queue_reader(&s->queue);
	if (!c)
		c = mem_zero(sizeof *c);
	int rc = sqlite_db_ready(&s->file, c);
	if (!rc) {
		/* One snapshot for all statements of the request. */
		if (!(rc = sqlite_db_step(c->begin)))
			rc = sqlite_db_run(&s->file, c, r, true);
		if (rc)
			sqlite_db_fail(&s->file, c, r, rc);
		else
			sqlite_db_well(&s->file, c);
		if (!sqlite3_get_autocommit(c->db))
			sqlite_db_step(rc ? c->rollback : c->commit);
		if (sqlite_db_broken(rc))
			sqlite_db_close(c);
	} else {
		sqlite_db_fail(&s->file, c, r, rc);
	}
	s->queue.reads++;
	if ((c = store_queue_rest(&s->queue, c))) {
		sqlite_db_close(c);
		free(c);
	}
}

static enum status sqlite_read(struct store *store, struct store_request *r)
{
	(void)store;
	return store_queue_read(r, read_work);
}

/* --- writing (the writer thread) ---------------------------------------------------------------------------------------- */

enum mode { PLAIN, GUARDED };               /* without and with a savepoint per request */

/* Runs the requests in one transaction. Returns 0 if it was committed; with PLAIN all succeeded then, with GUARDED
 * each says in `result`. Else nothing was written, and *own tells whether one request's own fault was the reason. */
static int attempt(struct sqlite *s, struct store_request **all, int n, enum mode mode, bool *own)
{
	struct sqlite_db *c = &s->writer;
	*own = false;
	int rc = sqlite_db_step(c->begin);
	for (int i = 0; i < n && !rc; i++) {
		struct store_request *r = all[i];
		r->result = SQLITE_OK;
		r->code = NULL;
		if (mode == GUARDED && (rc = sqlite_db_step(c->savepoint)))
			break;
		rc = sqlite_db_run(&s->file, c, r, false);
		if (rc && mode == GUARDED && sqlite_db_own_fault(rc) && !sqlite3_get_autocommit(c->db)) {
			r->result = rc;
			sqlite_db_fail(&s->file, c, r, rc);
			rc = sqlite_db_step(c->undo);
		} else if (rc) {
			*own = sqlite_db_own_fault(rc);
			if (n == 1)
				sqlite_db_fail(&s->file, c, r, rc);
			break;
		}
		if (mode == GUARDED && !rc)
			rc = sqlite_db_step(c->release);
	}
	if (!rc) {
		rc = sqlite_db_step(c->commit);
		if (rc && n == 1)
			sqlite_db_fail(&s->file, c, all[0], rc);
	}
	if (rc) {
		if (!sqlite3_get_autocommit(c->db))
			sqlite_db_step(c->rollback);
		return rc;
	}
	s->commits++;
	return SQLITE_OK;
}

static void fail_all(struct sqlite *s, struct store_request **all, int n, int rc)
{
	for (int i = 0; i < n; i++)
		if (!all[i]->code)
			sqlite_db_fail(&s->file, &s->writer, all[i], rc);
}

static void run_batch(struct sqlite *s, struct store_request **all, int n)
{
	bool own = false;
	int rc = sqlite_db_ready(&s->file, &s->writer);
	if (!rc)
		rc = attempt(s, all, n, PLAIN, &own);
	if (rc && s->writer.db && own && n > 1)
		rc = attempt(s, all, n, GUARDED, &own);
	if (rc && n > 1 && s->writer.db && sqlite_db_no_space(rc, sqlite3_system_errno(s->writer.db))) {
		/* What is smaller may still fit. */
		for (int i = 0; i < n; i++)
			if ((rc = attempt(s, &all[i], 1, PLAIN, &own)) && !all[i]->code)
				sqlite_db_fail(&s->file, &s->writer, all[i], rc);
	} else if (rc) {
		fail_all(s, all, n, rc);
	} else {
		sqlite_db_well(&s->file, &s->writer);
	}
	/* Whoever holds the lock may hold it on; the next batch should not wait its full time again. */
	if (s->writer.db)
		sqlite3_busy_timeout(s->writer.db, (rc & 0xff) == SQLITE_BUSY ? SQLITE_DB_REOPEN_MS : s->file.busy_ms);
	if (sqlite_db_broken(rc) && s->writer.db) {
		sqlite_db_close(&s->writer);
		s->writer.error = 0;
	}
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
	s->wal_seen = s->writer.wal_pages;
	if (s->writer.wal_pages < s->wal_checkpointed)
		s->wal_checkpointed = 0;            /* it started over */
	if (s->writer.wal_pages >= CHECKPOINT_HARD && s->writer.db) {
		sqlite3_wal_checkpoint_v2(s->writer.db, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL);
		s->checkpoints++;
		s->wal_checkpointed = s->writer.wal_pages;
	} else if (s->writer.wal_pages - s->wal_checkpointed >= CHECKPOINT_PAGES) {
		s->wal_checkpointed = s->writer.wal_pages;
		ask_checkpoint(s);
	}
}

static void *writer(void *arg)
{
	struct sqlite *s = arg;
	thread_become(THREAD_JOB, "store-write");
	struct store_request *all[STORE_BATCH_MAX];
	sqlite_db_ready(&s->file, &s->writer);        /* makes the file, before the first request comes */
	int n;
	while ((n = store_queue_take(&s->queue, all, s->unchecked ? CHECKPOINT_IDLE_S : 0))) {
		if (n == STORE_QUIET) {
			s->unchecked = false;
			ask_checkpoint(s);
			continue;
		}
		run_batch(s, all, n);
		store_queue_answer(&s->queue, all, n);
		s->unchecked = true;
		watch_wal(s);
	}
	return NULL;
}

static enum status sqlite_write(struct store *store, struct store_request *r)
{
	return store_queue_add(&((struct sqlite *)store)->queue, r);
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
		if (sqlite3_open_v2(s->file.name, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK) {
			sqlite_db_exec(db, s->file.sync == STORE_SYNC_OFF ? "PRAGMA synchronous = OFF" : "PRAGMA synchronous = FULL");
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
	s->writer.writes = true;
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);     /* a lock for each allocation; refused, and harmless, after the first time */
	signal(SIGXFSZ, SIG_IGN);               /* a file too large is an error like a full disk, not the end */
	s->file.name = mem_copy(config->place.p, config->place.n);
	char *slash = strrchr(s->file.name, '/');
	s->file.directory = slash ? mem_copy(s->file.name, (size_t)(slash - s->file.name) + 1) : mem_copy(".", 1);
	s->file.schema = mem_alloc(sizeof *s->file.schema * (size_t)(config->versions + 1));
	s->file.versions = config->versions;
	for (int i = 0; i < s->file.versions; i++)
		s->file.schema[i] = mem_copy(config->schema[i].p, config->schema[i].n);
	s->file.sync = config->sync;
	s->file.busy_ms = config->busy_ms;
	s->file.page_max = config->page_max;
	store_queue_init(&s->queue, config);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->checkpoint, NULL);
	thread_start(&s->writer_id, writer, s);
	thread_start(&s->checkpointer_id, checkpointer, s);
	return &s->store;
}

static int sqlite_statement(struct store *store, struct str sql, struct str batch)
{
	struct sqlite *s = (struct sqlite *)store;
	(void)batch;                            /* a statement costs no way to a server here */
	if (s->file.n_sql >= STORE_STATEMENTS_MAX)
		return -1;
	s->file.sql[s->file.n_sql] = mem_copy(sql.p, sql.n);
	return s->file.n_sql++;
}

static void sqlite_numbers(struct store *store, struct store_numbers *out)
{
	struct sqlite *s = (struct sqlite *)store;
	*out = (struct store_numbers){
		.commits = s->commits, .failures = s->file.failures, .checkpoints = s->checkpoints, .wal_pages = s->wal_seen,
	};
	store_queue_numbers(&s->queue, out);
}

static void sqlite_close(struct store **store)
{
	struct sqlite *s = (struct sqlite *)*store;
	if (!s)
		return;
	*store = NULL;
	store_queue_stop(&s->queue);
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_cond_broadcast(&s->checkpoint);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->writer_id, NULL);
	pthread_join(s->checkpointer_id, NULL);
	for (struct sqlite_db *c; (c = store_queue_reader(&s->queue));) {
		sqlite_db_close(c);
		free(c);
	}
	sqlite_db_close(&s->writer);                 /* the last one: SQLite checkpoints and removes the WAL */
	for (int i = 0; i < s->file.n_sql; i++)
		free(s->file.sql[i]);
	for (int i = 0; i < s->file.versions; i++)
		free(s->file.schema[i]);
	free(s->file.schema);
	free(s->file.name);
	free(s->file.directory);
	store_queue_free(&s->queue);
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
