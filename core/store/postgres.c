/* SPDX-License-Identifier: MIT */
/* postgres.c - PostgreSQL: one writer thread with group commit through a pipeline, readers on job threads. What a connection
 * does is in postgres_db.
 *
 * A connection is used by one thread at a time. A server that is away is waited for, for as long as a statement may take
 * (patience); after that requests fail at once until it is back. What was sent over a connection that broke may be done or
 * not: it is sent once more if doing it twice is doing it once (`again`), else it fails.
 */
#include "store/store.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rand.h"
#include "base/thread.h"
#include "store/postgres_db.h"
#include "store/queue.h"

enum { COLLISIONS_MAX = 5, TRIES_MAX = 20 };

struct postgres {
	struct store store;
	struct postgres_place place;
	struct store_queue queue;

	pthread_t writer_id;
	struct postgres_db *writer;       /* writer thread only */

	_Atomic uint64_t commits;
};

static void pause_ms(struct postgres *s, int ms)
{
	for (; ms > 0 && !s->place.stop; ms -= 50)
		poll(NULL, 0, ms < 50 ? ms : 50);
}

/* A moment that differs from that of whom we collided with. */
static void step_aside(void)
{
	uint8_t random;
	rand_bytes(&random, 1);
	poll(NULL, 0, 1 + random % 16);
}

/* --- reading (job threads) ---------------------------------------------------------------------------------------------- */

static void read_work(struct job *job)
{
	struct store_request *r = (struct store_request *)job;
	struct postgres *s = (struct postgres *)r->store;
	struct postgres_db *c = store_queue_reader(&s->queue);
	if (!c)
		c = mem_zero(sizeof *c);
	enum postgres_fault f;
	uint64_t till = clock_mono_ms() + (uint64_t)s->place.patience_ms;
	for (int tries = 0;; tries++) {
		f = postgres_db_ready(&s->place, c);
		if (!f && !(f = postgres_db_run(&s->place, c, &r, 1, false, true)))
			break;
		if (f == FAULT_AWAY) {
			int wait = postgres_db_patience(&s->place);
			if (!wait || clock_mono_ms() >= till)
				break;
			pause_ms(s, wait);
			continue;
		}
		if (f == FAULT_OWN || f == FAULT_ALL || tries >= 2)
			break;
		postgres_db_close(c);               /* a read may always be tried again */
	}
	if (f)
		postgres_db_fail(&s->place, c, r);
	else
		postgres_db_well(&s->place, c);
	if (f == FAULT_LOST || f == FAULT_AGAIN)
		postgres_db_close(c);
	s->queue.reads++;
	if ((c = store_queue_rest(&s->queue, c))) {
		postgres_db_close(c);
		free(c);
	}
}

static enum status postgres_read(struct store *store, struct store_request *r)
{
	(void)store;
	return store_queue_read(r, read_work);
}

/* --- writing (the writer thread) ---------------------------------------------------------------------------------------- */

enum { OPEN = -1 };             /* in a request's `result`: nothing has become of it yet */

static void fail_all(struct postgres *s, struct store_request **all, int n)
{
	for (int i = 0; i < n; i++)
		if (all[i]->result == OPEN) {
			all[i]->result = FAULT_ALL;
			postgres_db_fail(&s->place, s->writer, all[i]);
		}
}

/* Keeps those of the list that are still open, in order. */
static int still_open(struct store_request **all, int n)
{
	int open = 0;
	for (int i = 0; i < n; i++)
		if (all[i]->result == OPEN)
			all[open++] = all[i];
	return open;
}

/* After a loss: the doubtful ones that must not be done twice fail. */
static void fail_doubtful(struct postgres *s, struct store_request **all, int n)
{
	for (int i = 0; i < n; i++)
		if (all[i]->result == OPEN && !all[i]->again) {
			all[i]->result = FAULT_LOST;
			postgres_db_fail(&s->place, s->writer, all[i]);
		}
}

static void run_batch(struct postgres *s, struct store_request **from, int n)
{
	struct store_request *all[STORE_BATCH_MAX];
	memcpy(all, from, sizeof *all * (size_t)n);
	for (int i = 0; i < n; i++)
		all[i]->result = OPEN;
	uint64_t till = clock_mono_ms() + (uint64_t)s->place.patience_ms;
	bool each = n == 1;
	int collisions = 0;
	for (int tries = 0; n; n = still_open(all, n)) {
		enum postgres_fault f = postgres_db_ready(&s->place, s->writer);
		if (f) {
			int wait = postgres_db_patience(&s->place);
			if (!wait || clock_mono_ms() >= till)
				fail_all(s, all, n);
			else
				pause_ms(s, wait);
			continue;
		}
		f = postgres_db_run(&s->place, s->writer, all, n, each, false);
		s->commits += each ? (uint64_t)n : 1;
		if (f == FAULT_LOST) {
			postgres_db_close(s->writer);
			fail_doubtful(s, all, n);
			if (++tries >= TRIES_MAX || clock_mono_ms() >= till)
				fail_all(s, all, n);
		} else if (each && !f) {                /* each has its result */
			bool again = false;
			for (int i = 0; i < n; i++)
				if (all[i]->result == FAULT_AGAIN && collisions >= COLLISIONS_MAX) {
					postgres_db_fail(&s->place, s->writer, all[i]);
				} else if (all[i]->result == FAULT_AGAIN) {
					all[i]->result = OPEN;
					again = true;
				}
			if (again && ++collisions > 1)
				postgres_db_close(s->writer);
			if (again)
				step_aside();
			else
				postgres_db_well(&s->place, s->writer);
		} else if (!f) {
			for (int i = 0; i < n; i++) {
				all[i]->result = FAULT_NONE;
				all[i]->code = NULL;
			}
			postgres_db_well(&s->place, s->writer);
		} else if (f == FAULT_ALL || each) {
			fail_all(s, all, n);
		} else {                        /* undone: one by one, those succeed that can */
			each = true;
		}
	}
}

static void *writer(void *arg)
{
	struct postgres *s = arg;
	thread_become(THREAD_JOB, "store-write");
	struct store_request *all[STORE_BATCH_MAX];
	postgres_db_ready(&s->place, s->writer);      /* makes the tables, before the first request comes */
	int n;
	while ((n = store_queue_take(&s->queue, all, 0))) {
		run_batch(s, all, n);
		store_queue_answer(&s->queue, all, n);
	}
	return NULL;
}

static enum status postgres_write(struct store *store, struct store_request *r)
{
	return store_queue_add(&((struct postgres *)store)->queue, r);
}

/* --- the driver --------------------------------------------------------------------------------------------------------- */

/* The database in words, without its secrets. */
static char *name_of(const char *conninfo)
{
	struct buf b = { 0 };
	const char *database = "", *host = "";
	PQconninfoOption *all = pq.conninfoParse(conninfo, NULL);
	for (PQconninfoOption *o = all; o && o->keyword; o++) {
		if (o->val && strcmp(o->keyword, "dbname") == 0)
			database = o->val;
		if (o->val && strcmp(o->keyword, "host") == 0)
			host = o->val;
	}
	buf_add_text(&b, "PostgreSQL database ");
	buf_add_text(&b, database);
	buf_add_text(&b, *host ? " on " : "");
	buf_add_text(&b, host);
	pq.conninfoFree(all);
	char *name = mem_copy(buf_data(&b), b.len);
	buf_free(&b);
	return name;
}

static struct store *postgres_open(const struct store_config *config)
{
	struct postgres *s = mem_zero(sizeof *s);
	s->store.driver = &store_postgres;
	s->place.conninfo = mem_copy(config->place.p, config->place.n);
	s->place.library = postgres_lib_load();
	s->place.name = s->place.library ? name_of(s->place.conninfo) : mem_copy("PostgreSQL", 10);
	s->place.schema = mem_alloc(sizeof *s->place.schema * (size_t)(config->versions + 1));
	s->place.versions = config->versions;
	for (int i = 0; i < s->place.versions; i++)
		s->place.schema[i] = mem_copy(config->schema[i].p, config->schema[i].n);
	s->place.sync = config->sync;
	s->place.patience_ms = config->busy_ms;
	rand_bytes(&s->place.fence, sizeof s->place.fence);
	s->place.fence &= INT64_MAX;
	store_queue_init(&s->queue, config);
	s->writer = mem_zero(sizeof *s->writer);
	s->writer->writes = true;
	thread_start(&s->writer_id, writer, s);
	return &s->store;
}

/* ?1 as we write it, $1 as PostgreSQL wants it. */
static char *with_dollars(struct str sql)
{
	char *text = mem_copy(sql.p, sql.n);
	bool quoted = false;
	for (char *p = text; *p; p++) {
		quoted ^= *p == '\'';
		if (*p == '?' && !quoted)
			*p = '$';
	}
	return text;
}

static int postgres_statement(struct store *store, struct str sql, struct str batch)
{
	struct postgres *s = (struct postgres *)store;
	if (s->place.n_sql >= STORE_STATEMENTS_MAX)
		return -1;
	s->place.sql[s->place.n_sql] = with_dollars(sql);
	s->place.batch[s->place.n_sql] = batch.p ? with_dollars(batch) : NULL;
	return s->place.n_sql++;
}

static void postgres_numbers(struct store *store, struct store_numbers *out)
{
	struct postgres *s = (struct postgres *)store;
	*out = (struct store_numbers){ .commits = s->commits, .failures = s->place.failures };
	store_queue_numbers(&s->queue, out);
}

static void postgres_close(struct store **store)
{
	struct postgres *s = (struct postgres *)*store;
	if (!s)
		return;
	*store = NULL;
	s->place.stop = true;
	store_queue_stop(&s->queue);
	pthread_join(s->writer_id, NULL);
	for (struct postgres_db *c; (c = store_queue_reader(&s->queue));) {
		postgres_db_close(c);
		free(c);
	}
	postgres_db_close(s->writer);
	free(s->writer);
	for (int i = 0; i < s->place.n_sql; i++) {
		free(s->place.sql[i]);
		free(s->place.batch[i]);
	}
	for (int i = 0; i < s->place.versions; i++)
		free(s->place.schema[i]);
	free(s->place.schema);
	mem_wipe(s->place.conninfo, strlen(s->place.conninfo));
	free(s->place.conninfo);
	free(s->place.name);
	store_queue_free(&s->queue);
	free(s);
}

const struct store_driver store_postgres = {
	.name = "postgres",
	.open = postgres_open,
	.statement = postgres_statement,
	.read = postgres_read,
	.write = postgres_write,
	.numbers = postgres_numbers,
	.close = postgres_close,
};
