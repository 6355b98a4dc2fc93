/* SPDX-License-Identifier: MIT */
/* postgres_db.c - a connection to PostgreSQL: trouble in words, waiting, opening. */
#include "store/postgres_db.h"

#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rand.h"

enum {
	COMPLAIN_MS = 60000,
	RETRY_FIRST_MS = 50, RETRY_MAX_MS = 5000,
	MIGRATION_MS = 3600000,
	SLICE_MS = 200,                   /* how often a wait looks whether the server shall stop */
	STOP_MS = 3000,                   /* what a wait may still take then */
};

/* --- trouble ------------------------------------------------------------------------------------------------------------ */

static const struct { const char *code, *text, *advice; enum postgres_fault fault; } troubles[] = {
	[TROUBLE_GONE] = { "resource-constraint", "the database server does not answer", ": is PostgreSQL running there?", FAULT_LOST },
	[TROUBLE_REFUSED] = { "internal-server-error", "the database server refuses the login",
		": check username and password of the option sql, and the server's pg_hba.conf", FAULT_AWAY },
	[TROUBLE_NO_DATABASE] = { "internal-server-error", "there is no such database",
		": make it with createdb --encoding=UTF8 --template=template0 --owner=USER DATABASE", FAULT_AWAY },
	[TROUBLE_TOO_MANY] = { "resource-constraint", "the database server takes no more connections", ": raise its max_connections",
		FAULT_AWAY },
	[TROUBLE_OLD_WORK] = { "resource-constraint", "the work of a broken connection is not over", ": look into pg_stat_activity",
		FAULT_AWAY },
	[TROUBLE_DISK_FULL] = { "resource-constraint", "the database server's disk is full", ": free space there", FAULT_OWN },
	[TROUBLE_READ_ONLY] = { "internal-server-error", "the database is read-only",
		": this may be a standby; name the primary in the option sql", FAULT_LOST },
	[TROUBLE_FORBIDDEN] = { "internal-server-error", "the database user may not do this",
		": make it owner of the database, or CREATE SCHEMA couplet AUTHORIZATION it", FAULT_ALL },
	[TROUBLE_SLOW] = { "resource-constraint", "the database took too long", ": look for locks in pg_stat_activity", FAULT_ALL },
	[TROUBLE_CONFLICT] = { "conflict", "the data conflicts with what is stored", "", FAULT_OWN },
	[TROUBLE_TOO_BIG] = { "resource-constraint", "the value is too big", "", FAULT_OWN },
	[TROUBLE_NEWER] = { "internal-server-error", "the database was written by a newer version", ": run that version", FAULT_AWAY },
	[TROUBLE_ENCODING] = { "internal-server-error", "the database's encoding is not UTF8",
		": make another with createdb --encoding=UTF8 --template=template0", FAULT_AWAY },
	[TROUBLE_COLLISION] = { "resource-constraint", "the database is contended", "", FAULT_AGAIN },
	[TROUBLE_LACKING] = { "internal-server-error", "the database has lost tables of ours",
		": restore a backup, or DROP SCHEMA couplet to begin anew", FAULT_AGAIN },
	[TROUBLE_DAMAGED] = { "internal-server-error", "the database is damaged", ": put a backup in its place", FAULT_ALL },
	[TROUBLE_NO_LIBRARY] = { "internal-server-error", "PostgreSQL's library is not there",
		": install libpq5 (libpq.so.5, version 14 or later)", FAULT_AWAY },
	[TROUBLE_OTHER] = { "internal-server-error", "database error", "", FAULT_OWN },
};

/* Of a statement that failed. SQLSTATE: PostgreSQL's appendix A. */
static enum postgres_trouble trouble_of(const char *state)
{
	static const struct { const char *prefix; enum postgres_trouble is; } rows[] = {
		{ "57014", TROUBLE_SLOW }, { "55P03", TROUBLE_SLOW }, { "57P", TROUBLE_GONE }, { "08", TROUBLE_GONE },
		{ "28", TROUBLE_REFUSED }, { "3D", TROUBLE_NO_DATABASE }, { "53300", TROUBLE_TOO_MANY },
		{ "53", TROUBLE_DISK_FULL }, { "58030", TROUBLE_DISK_FULL }, { "25006", TROUBLE_READ_ONLY },
		{ "42501", TROUBLE_FORBIDDEN }, { "40003", TROUBLE_GONE }, { "40", TROUBLE_COLLISION },
		{ "26000", TROUBLE_LACKING }, { "0A000", TROUBLE_LACKING }, { "42P01", TROUBLE_LACKING },
		{ "3F000", TROUBLE_LACKING }, { "23", TROUBLE_CONFLICT }, { "22012", TROUBLE_CONFLICT }, { "54", TROUBLE_TOO_BIG },
		{ "22001", TROUBLE_TOO_BIG }, { "XX001", TROUBLE_DAMAGED }, { "XX002", TROUBLE_DAMAGED },
	};
	if (!state)
		return TROUBLE_GONE;
	for (int i = 0; i < COUNT(rows); i++)
		if (strncmp(state, rows[i].prefix, strlen(rows[i].prefix)) == 0)
			return rows[i].is;
	return TROUBLE_OTHER;
}

/* The first line of what the server or libpq says, without where and hint. */
static void note(struct postgres_db *c, enum postgres_trouble t, const char *words)
{
	const char *end = strpbrk(words, "\n");
	size_t n = end ? (size_t)(end - words) : strlen(words);
	if (n >= sizeof c->words.detail)
		n = sizeof c->words.detail - 1;
	memcpy(c->words.detail, words, n);
	c->words.detail[n] = 0;
	c->words.trouble = t;
}

enum postgres_fault postgres_db_fault(struct postgres_db *c, enum postgres_trouble t, const char *words)
{
	note(c, t, words);
	return troubles[t].fault;
}

enum postgres_fault postgres_db_lost(struct postgres_db *c)
{
	const char *words = c->conn ? pq.errorMessage(c->conn) : "";
	return postgres_db_fault(c, TROUBLE_GONE, *words ? words : "the connection broke");
}

enum postgres_fault postgres_db_failed(struct postgres_db *c, const PGresult *res)
{
	const char *state = pq.resultErrorField(res, PG_DIAG_SQLSTATE), *words = pq.resultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
	return postgres_db_fault(c, trouble_of(state), words ? words : pq.resultErrorMessage(res));
}

void postgres_db_fail(struct postgres_place *p, struct postgres_db *c, struct store_request *r)
{
	enum postgres_trouble t = c->words.trouble;
	r->code = troubles[t].code;
	snprintf(r->message, sizeof r->message, "%s (%s)", troubles[t].text, c->words.detail);
	p->failures++;
	if (t == TROUBLE_CONFLICT)
		return;
	int writing = c->writes;
	uint64_t now = clock_mono_ms(), told = p->told_ms[writing][t];
	p->untold_end[writing] = true;
	if (told && now - told < COMPLAIN_MS)
		return;
	p->told_ms[writing][t] = now;
	log_error("store", "%s: cannot %s: %s%s; the server goes on and tries again", p->name, writing ? "write" : "read", r->message,
		troubles[t].advice);
}

void postgres_db_well(struct postgres_place *p, const struct postgres_db *c)
{
	int writing = c->writes;
	if (p->untold_end[writing] && atomic_exchange(&p->untold_end[writing], false))
		log_info("store", "%s: %s work again", p->name, writing ? "writes" : "reads");
}

/* --- waiting ------------------------------------------------------------------------------------------------------------ */

/* Waits for the socket. False: the deadline passed, or the server stops and gives no more time. */
static bool wait_socket(struct postgres_place *p, struct postgres_db *c, short events, uint64_t deadline)
{
	uint64_t stopping = 0;
	struct pollfd fd = { .fd = pq.socket(c->conn), .events = events };
	for (;;) {
		uint64_t now = clock_mono_ms();
		if (p->stop && !stopping)
			stopping = now + STOP_MS;
		if (now >= deadline || (stopping && now >= stopping))
			return false;
		int n = poll(&fd, 1, (int)(deadline - now < SLICE_MS ? deadline - now : SLICE_MS));
		if (n > 0)
			return true;
	}
}

/* Waits until PQgetResult() has an answer without waiting. False: broken, or too late; noted. */
bool postgres_db_wait(struct postgres_place *p, struct postgres_db *c, uint64_t deadline)
{
	for (;;) {
		int flush = pq.flush(c->conn);
		if (flush < 0 || pq.status(c->conn) == CONNECTION_BAD)
			break;
		if (!flush && !pq.isBusy(c->conn))
			return true;
		if (!wait_socket(p, c, (short)(POLLIN | (flush > 0 ? POLLOUT : 0)), deadline)) {
			note(c, TROUBLE_GONE, "no answer in time");
			return false;
		}
		if (!pq.consumeInput(c->conn))
			break;
	}
	postgres_db_lost(c);
	return false;
}

/* The result of what was sent outside a pipeline; NULL: the connection broke. */
PGresult *postgres_db_result(struct postgres_place *p, struct postgres_db *c, int timeout_ms)
{
	uint64_t deadline = clock_mono_ms() + (uint64_t)timeout_ms;
	PGresult *last = NULL;
	for (;;) {
		if (!postgres_db_wait(p, c, deadline))
			break;
		PGresult *res = pq.getResult(c->conn);
		if (!res)
			return last;
		/* Of several statements the first failure tells, else the last one's rows. */
		if (last && pq.resultStatus(last) == PGRES_FATAL_ERROR) {
			pq.clear(res);
		} else {
			pq.clear(last);
			last = res;
		}
	}
	pq.clear(last);
	return NULL;
}

enum postgres_fault postgres_db_judge(struct postgres_db *c, const PGresult *res)
{
	if (!res)
		return FAULT_LOST;              /* noted */
	ExecStatusType status = pq.resultStatus(res);
	return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ? FAULT_NONE : postgres_db_failed(c, res);
}

static enum postgres_fault simple(struct postgres_place *p, struct postgres_db *c, const char *sql, int timeout_ms,
	long long *out)
{
	if (!pq.sendQuery(c->conn, sql))
		return postgres_db_lost(c);
	PGresult *res = postgres_db_result(p, c, timeout_ms);
	enum postgres_fault f = postgres_db_judge(c, res);
	if (!f && out && pq.ntuples(res) == 1 && pq.nfields(res) == 1)
		*out = pq.getisnull(res, 0, 0) ? -1 : atoll(pq.getvalue(res, 0, 0));
	pq.clear(res);
	return f;
}

/* --- connections -------------------------------------------------------------------------------------------------------- */

void postgres_db_close(struct postgres_db *c)
{
	if (!c->conn)
		return;
	for (int i = 0; i < STORE_STATEMENTS_MAX; i++)
		for (int k = 0; k < 2; k++)
			free(c->statements[i][k].types);
	memset(c->statements, 0, sizeof c->statements);
	int pid = pq.backendPID(c->conn);
	if (pid)
		c->old_pid = pid;
	pq.finish(c->conn);
	c->conn = NULL;
}

static void ignore_notice(void *arg, const PGresult *res)
{
	(void)arg;
	(void)res;
}

/* libpq does not tell an SQLSTATE of a login that failed, only words. */
static enum postgres_trouble trouble_of_login(PGconn *conn)
{
	const char *words = pq.errorMessage(conn);
	if (strstr(words, "authentication") || strstr(words, "pg_hba.conf") || strstr(words, "no password") || strstr(words, "role \"")
		|| pq.connectionNeedsPassword(conn))
		return TROUBLE_REFUSED;
	if (strstr(words, "database \"") && strstr(words, "does not exist"))
		return TROUBLE_NO_DATABASE;
	if (strstr(words, "too many") || strstr(words, "remaining connection slots"))
		return TROUBLE_TOO_MANY;
	return TROUBLE_GONE;
}

static enum postgres_fault login(struct postgres_place *p, struct postgres_db *c)
{
	uint64_t deadline = clock_mono_ms() + (uint64_t)p->patience_ms;
	c->conn = pq.connectStart(p->conninfo);
	assert(c->conn);
	PostgresPollingStatusType state = pq.status(c->conn) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING;
	while (state == PGRES_POLLING_READING || state == PGRES_POLLING_WRITING) {
		if (!wait_socket(p, c, state == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline))
			return postgres_db_fault(c, TROUBLE_GONE, "no answer in time");
		state = pq.connectPoll(c->conn);
	}
	if (state != PGRES_POLLING_OK)
		return postgres_db_fault(c, trouble_of_login(c->conn), pq.errorMessage(c->conn));
	pq.setnonblocking(c->conn, 1);
	pq.setNoticeReceiver(c->conn, ignore_notice, NULL);
	const char *encoding = pq.parameterStatus(c->conn, "server_encoding");
	if (encoding && strcmp(encoding, "UTF8") != 0)
		return postgres_db_fault(c, TROUBLE_ENCODING, encoding);
	/* A plan is made once, and may have been made while the table was small: whatever we ask for has an index. */
	char set[640];
	snprintf(set, sizeof set, "SET client_encoding = 'UTF8'; SET search_path = couplet; SET jit = off; "
		"SET default_transaction_isolation = 'read committed'; SET plan_cache_mode = force_generic_plan; "
		"SET enable_seqscan = off; SET max_parallel_workers_per_gather = 0; "
		"SET idle_in_transaction_session_timeout = 0; SET statement_timeout = %d; "
		"%s", p->patience_ms,
		p->sync <= STORE_SYNC_NORMAL ? "SET synchronous_commit = off"
			: "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'");
	return simple(p, c, set, p->patience_ms, NULL);
}

/* What a broken connection of this writer sent may still be under way in the server, and must not be done after what comes
 * now. Its session holds a lock until it is over, which is asked for, and waited for. */
static enum postgres_fault fence(struct postgres_place *p, struct postgres_db *c)
{
	char sql[160];
	long long have = 0;
	uint64_t deadline = clock_mono_ms() + (uint64_t)p->patience_ms;
	for (int round = 0;; round++) {
		snprintf(sql, sizeof sql, "SELECT pg_try_advisory_lock(%lld)::int", (long long)p->fence);
		enum postgres_fault f = simple(p, c, sql, p->patience_ms, &have);
		if (f || have == 1)
			return f;
		if (round == 0 && c->old_pid) {
			snprintf(sql, sizeof sql, "SELECT pg_terminate_backend(%d)::int", c->old_pid);
			if ((f = simple(p, c, sql, p->patience_ms, NULL)))
				return f;
		}
		if (clock_mono_ms() >= deadline || p->stop)
			return postgres_db_fault(c, TROUBLE_OLD_WORK, "its session is still there");
		poll(NULL, 0, 20);
	}
}

enum { MIGRATION_LOCK = 0x636f7570 };   /* "coup": an advisory lock, so that one process at a time brings a database up to date */

static enum postgres_fault migrate(struct postgres_place *p, struct postgres_db *c)
{
	static const char exists[] = "SELECT (to_regclass('couplet.version') IS NOT NULL)::int";
	static const char ask[] = "SELECT version FROM couplet.version";
	long long there = 0, version = 0;
	enum postgres_fault f = simple(p, c, exists, p->patience_ms, &there);
	if (!f && there == 1)
		f = simple(p, c, ask, p->patience_ms, &version);
	if (f || version == p->versions)
		return f;
	if (version > p->versions)
		return postgres_db_fault(c, TROUBLE_NEWER, "its version is larger");
	char sql[256];
	snprintf(sql, sizeof sql, "BEGIN; SET LOCAL statement_timeout = 0; SET LOCAL default_transaction_read_only = off; "
		"SELECT pg_advisory_xact_lock(%d); SELECT (to_regnamespace('couplet') IS NOT NULL)::int", MIGRATION_LOCK);
	f = simple(p, c, sql, MIGRATION_MS, &there);
	if (!f && there != 1)               /* asked first, because CREATE … IF NOT EXISTS wants the right in any case */
		f = simple(p, c, "CREATE SCHEMA couplet", MIGRATION_MS, NULL);
	if (!f)
		f = simple(p, c, "CREATE TABLE IF NOT EXISTS couplet.version (version int NOT NULL)", MIGRATION_MS, NULL);
	version = 0;
	if (!f)
		f = simple(p, c, ask, MIGRATION_MS, &version);
	long long before = version;
	for (; !f && version < p->versions; version++)
		f = simple(p, c, p->schema[version], MIGRATION_MS, NULL);
	snprintf(sql, sizeof sql, "DELETE FROM couplet.version; INSERT INTO couplet.version VALUES (%lld); COMMIT", version);
	if (!f)
		f = simple(p, c, sql, MIGRATION_MS, NULL);
	if (!f && before && before < version)
		log_info("store", "%s: brought from version %lld to %lld", p->name, before, version);
	return f;
}

static enum postgres_fault open_now(struct postgres_place *p, struct postgres_db *c)
{
	if (!p->library)
		return postgres_db_fault(c, TROUBLE_NO_LIBRARY, "libpq.so.5");
	enum postgres_fault f = login(p, c);
	if (!f && c->writes)
		f = fence(p, c);
	if (!f)
		f = migrate(p, c);
	/* All statements of a read see one state of the database. */
	if (!f && !c->writes)
		f = simple(p, c, "SET default_transaction_isolation = 'repeatable read'; SET default_transaction_read_only = on",
			p->patience_ms, NULL);
	return f;
}

static void away(struct postgres_place *p, enum postgres_trouble t)
{
	uint64_t now = clock_mono_ms(), never = 0;
	p->last_trouble = t;
	atomic_compare_exchange_strong(&p->away_since_ms, &never, now);
	int delay = p->retry_delay_ms, most = p->patience_ms < RETRY_MAX_MS ? p->patience_ms : RETRY_MAX_MS;
	uint32_t random;
	rand_bytes(&random, sizeof random);
	delay = delay ? delay * 2 : RETRY_FIRST_MS;
	if (delay > most)
		delay = most;
	p->retry_delay_ms = delay;
	p->retry_at_ms = now + (uint64_t)(delay / 2) + random % (uint64_t)(delay / 2 + 1);
}

enum postgres_fault postgres_db_ready(struct postgres_place *p, struct postgres_db *c)
{
	if (c->conn) {
		/* An idle connection whose server has gone is readable. */
		struct pollfd fd = { .fd = pq.socket(c->conn), .events = POLLIN };
		if (pq.status(c->conn) == CONNECTION_OK && (poll(&fd, 1, 0) == 0 || (pq.consumeInput(c->conn)
			&& pq.status(c->conn) == CONNECTION_OK)))
			return FAULT_NONE;
		postgres_db_close(c);
	}
	if (p->away_since_ms && clock_mono_ms() < p->retry_at_ms) {
		note(c, (enum postgres_trouble)p->last_trouble, "tried again soon");
		return FAULT_AWAY;
	}
	enum postgres_fault f = open_now(p, c);
	if (!f) {
		p->away_since_ms = 0;
		p->retry_delay_ms = 0;
		c->old_pid = 0;
		return FAULT_NONE;
	}
	struct store_request nobody = { 0 };
	postgres_db_fail(p, c, &nobody);
	int pid = c->old_pid;               /* not of this one: it has done nothing */
	postgres_db_close(c);
	c->old_pid = pid;
	away(p, c->words.trouble);
	return FAULT_AWAY;
}

int postgres_db_patience(const struct postgres_place *p)
{
	uint64_t now = clock_mono_ms(), since = p->away_since_ms, at = p->retry_at_ms;
	int why = p->last_trouble;
	bool passing = why == TROUBLE_GONE || why == TROUBLE_TOO_MANY || why == TROUBLE_OLD_WORK;
	if (p->stop || !passing || (since && now - since >= (uint64_t)p->patience_ms))
		return 0;
	return at > now ? (int)(at - now) : 1;
}
