/* SPDX-License-Identifier: MIT */
/* postgres_db.c - a connection to PostgreSQL: trouble in words, opening, statements through a pipeline. */
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
#include "store/postgres_value.h"

enum {
	COMPLAIN_MS = 60000,
	RETRY_FIRST_MS = 50, RETRY_MAX_MS = 5000,
	MIGRATION_MS = 3600000,
	SLICE_MS = 200,                   /* how often a wait looks whether the server shall stop */
	RUN_MAX = 1000,                   /* rows of a batch */
	STOP_MS = 3000,                   /* what a wait may still take then */
};

/* --- trouble ------------------------------------------------------------------------------------------------------------ */

enum trouble {
	GONE, REFUSED, NO_DATABASE, TOO_MANY, OLD_WORK, DISK_FULL, READ_ONLY, FORBIDDEN, SLOW, CONFLICT, TOO_BIG, NEWER, ENCODING,
	COLLISION, LACKING, DAMAGED, NO_LIBRARY, OTHER, TROUBLES
};

static const struct { const char *code, *text, *advice; enum postgres_fault fault; } troubles[] = {
	[GONE] = { "resource-constraint", "the database server does not answer", ": is PostgreSQL running there?", FAULT_LOST },
	[REFUSED] = { "internal-server-error", "the database server refuses the login",
		": check username and password of the option sql, and the server's pg_hba.conf", FAULT_AWAY },
	[NO_DATABASE] = { "internal-server-error", "there is no such database",
		": make it with createdb --encoding=UTF8 --template=template0 --owner=USER DATABASE", FAULT_AWAY },
	[TOO_MANY] = { "resource-constraint", "the database server takes no more connections", ": raise its max_connections",
		FAULT_AWAY },
	[OLD_WORK] = { "resource-constraint", "the work of a broken connection is not over", ": look into pg_stat_activity",
		FAULT_AWAY },
	[DISK_FULL] = { "resource-constraint", "the database server's disk is full", ": free space there", FAULT_OWN },
	[READ_ONLY] = { "internal-server-error", "the database is read-only",
		": this may be a standby; name the primary in the option sql", FAULT_LOST },
	[FORBIDDEN] = { "internal-server-error", "the database user may not do this",
		": make it owner of the database, or CREATE SCHEMA couplet AUTHORIZATION it", FAULT_ALL },
	[SLOW] = { "resource-constraint", "the database took too long", ": look for locks in pg_stat_activity", FAULT_ALL },
	[CONFLICT] = { "conflict", "the data conflicts with what is stored", "", FAULT_OWN },
	[TOO_BIG] = { "resource-constraint", "the value is too big", "", FAULT_OWN },
	[NEWER] = { "internal-server-error", "the database was written by a newer version", ": run that version", FAULT_AWAY },
	[ENCODING] = { "internal-server-error", "the database's encoding is not UTF8",
		": make another with createdb --encoding=UTF8 --template=template0", FAULT_AWAY },
	[COLLISION] = { "resource-constraint", "the database is contended", "", FAULT_AGAIN },
	[LACKING] = { "internal-server-error", "the database has lost tables of ours",
		": restore a backup, or DROP SCHEMA couplet to begin anew", FAULT_AGAIN },
	[DAMAGED] = { "internal-server-error", "the database is damaged", ": put a backup in its place", FAULT_ALL },
	[NO_LIBRARY] = { "internal-server-error", "PostgreSQL's library is not there",
		": install libpq5 (libpq.so.5, version 14 or later)", FAULT_AWAY },
	[OTHER] = { "internal-server-error", "database error", "", FAULT_OWN },
};
_Static_assert((int)TROUBLES <= (int)POSTGRES_TROUBLES, "room for when each was told");

/* Of a statement that failed. SQLSTATE: PostgreSQL's appendix A. */
static enum trouble trouble_of(const char *state)
{
	static const struct { const char *prefix; enum trouble is; } rows[] = {
		{ "57014", SLOW }, { "55P03", SLOW }, { "57P", GONE }, { "08", GONE }, { "28", REFUSED }, { "3D", NO_DATABASE },
		{ "53300", TOO_MANY }, { "53", DISK_FULL }, { "58030", DISK_FULL }, { "25006", READ_ONLY }, { "42501", FORBIDDEN },
		{ "40003", GONE }, { "40", COLLISION }, { "26000", LACKING }, { "0A000", LACKING }, { "42P01", LACKING },
		{ "3F000", LACKING }, { "23", CONFLICT }, { "22012", CONFLICT }, { "54", TOO_BIG }, { "22001", TOO_BIG }, { "XX001", DAMAGED },
		{ "XX002", DAMAGED },
	};
	if (!state)
		return GONE;
	for (int i = 0; i < COUNT(rows); i++)
		if (strncmp(state, rows[i].prefix, strlen(rows[i].prefix)) == 0)
			return rows[i].is;
	return OTHER;
}

/* The first line of what the server or libpq says, without where and hint. */
static void note(struct postgres_db *c, enum trouble t, const char *words)
{
	const char *end = strpbrk(words, "\n");
	size_t n = end ? (size_t)(end - words) : strlen(words);
	if (n >= sizeof c->words.detail)
		n = sizeof c->words.detail - 1;
	memcpy(c->words.detail, words, n);
	c->words.detail[n] = 0;
	c->words.trouble = t;
}

static enum postgres_fault fault(struct postgres_db *c, enum trouble t, const char *words)
{
	note(c, t, words);
	return troubles[t].fault;
}

static enum postgres_fault lost(struct postgres_db *c)
{
	const char *words = c->conn ? pq.errorMessage(c->conn) : "";
	return fault(c, GONE, *words ? words : "the connection broke");
}

static enum postgres_fault failed(struct postgres_db *c, const PGresult *res)
{
	const char *state = pq.resultErrorField(res, PG_DIAG_SQLSTATE), *words = pq.resultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
	return fault(c, trouble_of(state), words ? words : pq.resultErrorMessage(res));
}

void postgres_db_fail(struct postgres_place *p, struct postgres_db *c, struct store_request *r)
{
	enum trouble t = c->words.trouble;
	r->code = troubles[t].code;
	snprintf(r->message, sizeof r->message, "%s (%s)", troubles[t].text, c->words.detail);
	p->failures++;
	if (t == CONFLICT)
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
static bool wait_result(struct postgres_place *p, struct postgres_db *c, uint64_t deadline)
{
	for (;;) {
		int flush = pq.flush(c->conn);
		if (flush < 0 || pq.status(c->conn) == CONNECTION_BAD)
			break;
		if (!flush && !pq.isBusy(c->conn))
			return true;
		if (!wait_socket(p, c, (short)(POLLIN | (flush > 0 ? POLLOUT : 0)), deadline)) {
			note(c, GONE, "no answer in time");
			return false;
		}
		if (!pq.consumeInput(c->conn))
			break;
	}
	lost(c);
	return false;
}

/* The result of what was sent outside a pipeline; NULL: the connection broke. */
static PGresult *simple_result(struct postgres_place *p, struct postgres_db *c, int timeout_ms)
{
	uint64_t deadline = clock_mono_ms() + (uint64_t)timeout_ms;
	PGresult *last = NULL;
	for (;;) {
		if (!wait_result(p, c, deadline))
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

static enum postgres_fault judge(struct postgres_db *c, const PGresult *res)
{
	if (!res)
		return FAULT_LOST;              /* noted */
	ExecStatusType status = pq.resultStatus(res);
	return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ? FAULT_NONE : failed(c, res);
}

static enum postgres_fault simple(struct postgres_place *p, struct postgres_db *c, const char *sql, int timeout_ms,
	long long *out)
{
	if (!pq.sendQuery(c->conn, sql))
		return lost(c);
	PGresult *res = simple_result(p, c, timeout_ms);
	enum postgres_fault f = judge(c, res);
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
static enum trouble trouble_of_login(PGconn *conn)
{
	const char *words = pq.errorMessage(conn);
	if (strstr(words, "authentication") || strstr(words, "pg_hba.conf") || strstr(words, "no password") || strstr(words, "role \"")
		|| pq.connectionNeedsPassword(conn))
		return REFUSED;
	if (strstr(words, "database \"") && strstr(words, "does not exist"))
		return NO_DATABASE;
	if (strstr(words, "too many") || strstr(words, "remaining connection slots"))
		return TOO_MANY;
	return GONE;
}

static enum postgres_fault login(struct postgres_place *p, struct postgres_db *c)
{
	uint64_t deadline = clock_mono_ms() + (uint64_t)p->patience_ms;
	c->conn = pq.connectStart(p->conninfo);
	assert(c->conn);
	PostgresPollingStatusType state = pq.status(c->conn) == CONNECTION_BAD ? PGRES_POLLING_FAILED : PGRES_POLLING_WRITING;
	while (state == PGRES_POLLING_READING || state == PGRES_POLLING_WRITING) {
		if (!wait_socket(p, c, state == PGRES_POLLING_READING ? POLLIN : POLLOUT, deadline))
			return fault(c, GONE, "no answer in time");
		state = pq.connectPoll(c->conn);
	}
	if (state != PGRES_POLLING_OK)
		return fault(c, trouble_of_login(c->conn), pq.errorMessage(c->conn));
	pq.setnonblocking(c->conn, 1);
	pq.setNoticeReceiver(c->conn, ignore_notice, NULL);
	const char *encoding = pq.parameterStatus(c->conn, "server_encoding");
	if (encoding && strcmp(encoding, "UTF8") != 0)
		return fault(c, ENCODING, encoding);
	char set[640];
	snprintf(set, sizeof set, "SET client_encoding = 'UTF8'; SET search_path = couplet; SET jit = off; "
		"SET default_transaction_isolation = 'read committed'; SET plan_cache_mode = force_generic_plan; "
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
			return fault(c, OLD_WORK, "its session is still there");
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
		return fault(c, NEWER, "its version is larger");
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
		return fault(c, NO_LIBRARY, "libpq.so.5");
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

static void away(struct postgres_place *p, enum trouble t)
{
	uint64_t now = clock_mono_ms(), never = 0;
	p->last_trouble = t;
	atomic_compare_exchange_strong(&p->away_since_ms, &never, now);
	int delay = p->retry_delay_ms;
	uint32_t random;
	rand_bytes(&random, sizeof random);
	delay = delay ? delay * 2 : RETRY_FIRST_MS;
	if (delay > RETRY_MAX_MS)
		delay = RETRY_MAX_MS;
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
		note(c, (enum trouble)p->last_trouble, "tried again soon");
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
	if (p->stop || (since && now - since >= (uint64_t)p->patience_ms))
		return 0;
	return at > now ? (int)(at - now) : 1;
}

/* --- statements --------------------------------------------------------------------------------------------------------- */

static enum postgres_fault prepare(struct postgres_place *p, struct postgres_db *c, uint64_t id, bool batch)
{
	assert(id < STORE_STATEMENTS_MAX && p->sql[id]);
	struct postgres_statement *s = &c->statements[id][batch];
	if (s->prepared)
		return FAULT_NONE;
	char name[32];
	snprintf(name, sizeof name, "%c%u", batch ? 'b' : 's', (unsigned)id);
	if (!pq.sendPrepare(c->conn, name, batch ? p->batch[id] : p->sql[id], 0, NULL))
		return lost(c);
	PGresult *res = simple_result(p, c, p->patience_ms);
	enum postgres_fault f = judge(c, res);
	pq.clear(res);
	if (f)
		return f;
	if (!pq.sendDescribePrepared(c->conn, name))
		return lost(c);
	res = simple_result(p, c, p->patience_ms);
	if (!(f = judge(c, res))) {
		s->n = pq.nparams(res);
		s->types = mem_zero(sizeof *s->types * (size_t)(s->n + 1));
		for (int i = 0; i < s->n; i++)
			s->types[i] = pq.paramtype(res, i);
		s->prepared = true;
	}
	pq.clear(res);
	return f;
}

/* One statement of a request, found in its bytes. */
struct step {
	struct store_request *request;
	uint64_t id, params;
	struct value_reader values;
	int run;                        /* statements sent as one; 0: it went with the one before */
};

struct work {
	struct step *steps;
	int n, cap;
	struct buf bytes;               /* of one statement's parameters */
	size_t *at;                     /* where each begins in them */
	const char **values;
	int *lengths, *formats, wide;
};

static void work_free(struct work *w)
{
	free(w->steps);
	free(w->at);
	free(w->values);
	free(w->lengths);
	free(w->formats);
	buf_free(&w->bytes);
}

static enum postgres_fault add_steps(struct postgres_db *c, struct work *w, struct store_request *r)
{
	struct value_reader in = value_reader(buf_str(&r->in));
	while (in.p < in.end) {
		struct step s = { .request = r, .run = 1 };
		if (value_read_count(&in, &s.id) || value_read_count(&in, &s.params))
			return fault(c, OTHER, "damaged request");
		s.values = in;
		for (uint64_t i = 0; i < s.params; i++)
			if (value_skip(&in, NULL))
				return fault(c, OTHER, "damaged request");
		if (w->n == w->cap) {
			w->cap = w->cap ? w->cap * 2 : 64;
			w->steps = mem_resize(w->steps, sizeof *w->steps * (size_t)w->cap);
		}
		w->steps[w->n++] = s;
	}
	return FAULT_NONE;
}

static enum postgres_fault add_parameters(struct postgres_db *c, struct work *w, struct step *s,
	const struct postgres_statement *stmt)
{
	if (stmt->n > w->wide) {
		w->wide = stmt->n;
		w->at = mem_resize(w->at, sizeof *w->at * (size_t)w->wide);
		w->values = mem_resize(w->values, sizeof *w->values * (size_t)w->wide);
		w->lengths = mem_resize(w->lengths, sizeof *w->lengths * (size_t)w->wide);
		w->formats = mem_resize(w->formats, sizeof *w->formats * (size_t)w->wide);
	}
	w->bytes.len = w->bytes.head = 0;
	struct value_reader one = s->values;
	for (int i = 0; i < stmt->n; i++) {
		bool null = false;
		enum status st = ST_OK;
		w->at[i] = w->bytes.len;
		if (s->run > 1) {
			unsigned element = postgres_element_of(stmt->types[i]);
			struct postgres_array a;
			postgres_array_begin(&a, element, &w->bytes);
			for (int k = 0; k < s->run && !st; k++)
				st = postgres_array_add(&a, &s[k].values, element, &w->bytes);
			postgres_array_end(&a, &w->bytes);
		} else {
			st = postgres_param(&one, stmt->types[i], &w->bytes, &null);
		}
		if (st)
			return fault(c, OTHER, "a parameter does not fit its type");
		w->lengths[i] = null ? -1 : (int)(w->bytes.len - w->at[i]);
		w->formats[i] = 1;
	}
	static const char nothing[1] = "";
	for (int i = 0; i < stmt->n; i++)
		w->values[i] = w->lengths[i] < 0 ? NULL : w->lengths[i] == 0 ? nothing : buf_data(&w->bytes) + w->at[i];
	return FAULT_NONE;
}

static enum postgres_fault send_step(struct postgres_db *c, struct work *w, struct step *s)
{
	bool batch = s->run > 1;
	const struct postgres_statement *stmt = &c->statements[s->id][batch];
	enum postgres_fault f = add_parameters(c, w, s, stmt);
	if (f)
		return f;
	char name[32];
	snprintf(name, sizeof name, "%c%u", batch ? 'b' : 's', (unsigned)s->id);
	return pq.sendQueryPrepared(c->conn, name, stmt->n, w->values, w->lengths, w->formats, 1) ? FAULT_NONE : lost(c);
}

static enum postgres_fault take_rows(struct postgres_db *c, struct step *s, const PGresult *res, bool keep_all)
{
	struct store_request *r = s->request;
	r->changes = atoll(pq.cmdTuples((PGresult *)res));
	int rows = pq.ntuples(res), columns = pq.nfields(res);
	if (!columns && !keep_all)
		return FAULT_NONE;
	uint64_t cells = (uint64_t)rows * (uint64_t)columns;
	if (!keep_all)
		r->out.len = 0;
	buf_add(&r->out, &cells, sizeof cells);
	for (int i = 0; i < rows; i++)
		for (int k = 0; k < columns; k++)
			if (postgres_cell(pq.ftype(res, k), pq.getisnull(res, i, k) ? NULL : pq.getvalue(res, i, k),
				(size_t)pq.getlength(res, i, k), &r->out))
				return fault(c, DAMAGED, "a value that is none of ours");
	return FAULT_NONE;
}

/* Reads one step's results. The fault is the step's; FAULT_LOST also says that nothing more will come. */
static enum postgres_fault take_step(struct postgres_place *p, struct postgres_db *c, struct step *s, bool keep_all,
	uint64_t deadline)
{
	enum postgres_fault f = FAULT_NONE;
	PGresult *res;
	for (;;) {
		if (!wait_result(p, c, deadline))
			return FAULT_LOST;
		if (!(res = pq.getResult(c->conn)))
			return f;
		switch (pq.resultStatus(res)) {
		case PGRES_COMMAND_OK:
		case PGRES_TUPLES_OK:
			if (s->run > 1)
				for (int k = 0; k < s->run; k++)
					s[k].request->changes = 1;
			else if (!f)
				f = take_rows(c, s, res, keep_all);
			break;
		case PGRES_PIPELINE_ABORTED:            /* the reason has been read before */
			f = f ? f : FAULT_AGAIN;
			break;
		default:
			f = failed(c, res);
		}
		pq.clear(res);
		if (pq.status(c->conn) == CONNECTION_BAD)
			return FAULT_LOST;
	}
}

/* Reads the end of a transaction. An error there is one of its commit. */
static enum postgres_fault take_sync(struct postgres_place *p, struct postgres_db *c, uint64_t deadline)
{
	enum postgres_fault f = FAULT_NONE;
	for (;;) {
		if (!wait_result(p, c, deadline))
			return FAULT_LOST;
		PGresult *res = pq.getResult(c->conn);
		if (!res) {
			if (pq.status(c->conn) == CONNECTION_BAD)
				return lost(c);
			continue;
		}
		ExecStatusType status = pq.resultStatus(res);
		if (status == PGRES_FATAL_ERROR)
			f = failed(c, res);
		pq.clear(res);
		if (status == PGRES_PIPELINE_SYNC)
			return f;
		if (pq.status(c->conn) == CONNECTION_BAD)
			return FAULT_LOST;
	}
}

/* Says what one statement after the other will be sent as: runs of one that has a batch form go together. Prepares it. */
static enum postgres_fault plan(struct postgres_place *p, struct postgres_db *c, struct work *w, int from, bool each)
{
	for (int i = from; i < w->n;) {
		struct step *s = &w->steps[i];
		int run = 1;
		if (!each && p->batch[s->id])
			while (i + run < w->n && run < RUN_MAX && w->steps[i + run].id == s->id)
				w->steps[i + run++].run = 0;
		s->run = run;
		enum postgres_fault f = prepare(p, c, s->id, run > 1);
		if (f)
			return f;
		i += run;
	}
	return FAULT_NONE;
}

/* Adds a request that is run for itself. One that cannot even be sent fails here, alone. */
static enum postgres_fault add_alone(struct postgres_place *p, struct postgres_db *c, struct work *w, struct store_request *r)
{
	int before = w->n;
	enum postgres_fault f = add_steps(c, w, r);
	if (!f)
		f = plan(p, c, w, before, true);
	for (int i = before; i < w->n && !f; i++)
		f = add_parameters(c, w, &w->steps[i], &c->statements[w->steps[i].id][0]);
	if (f == FAULT_OWN) {
		w->n = before;
		r->result = f;
		postgres_db_fail(p, c, r);
		f = FAULT_NONE;
	}
	return f;
}

static enum postgres_fault send_all(struct postgres_db *c, struct work *w, bool each)
{
	for (int i = 0; i < w->n; i++) {
		struct step *s = &w->steps[i];
		enum postgres_fault f = s->run ? send_step(c, w, s) : FAULT_NONE;
		if (f)
			return f;
		if ((i + 1 == w->n || (each && s[1].request != s->request)) && !pq.pipelineSync(c->conn))
			return lost(c);
	}
	return FAULT_NONE;
}

static enum postgres_fault take_all(struct postgres_place *p, struct postgres_db *c, struct work *w, bool each, bool keep_all)
{
	enum postgres_fault first = FAULT_NONE;
	struct words why = { 0 };           /* of the first fault; those after it are its consequences */
	for (int i = 0; i < w->n; i++) {
		struct step *s = &w->steps[i];
		uint64_t deadline = clock_mono_ms() + (uint64_t)p->patience_ms + 1000;
		enum postgres_fault f = s->run ? take_step(p, c, s, keep_all, deadline) : FAULT_NONE;
		if (f == FAULT_LOST)
			return f;
		bool ends = i + 1 == w->n || (each && s[1].request != s->request);
		enum postgres_fault end = ends ? take_sync(p, c, deadline) : FAULT_NONE;
		if (end == FAULT_LOST)
			return end;
		f = f ? f : end;
		if (f && !first) {
			first = f;
			why = c->words;
		}
		if (!ends || !each)
			continue;
		s->request->result = first;
		s->request->code = NULL;
		c->words = why;
		if (first && first != FAULT_AGAIN)
			postgres_db_fail(p, c, s->request);
		first = FAULT_NONE;
	}
	if (first)
		c->words = why;
	return first;
}

enum postgres_fault postgres_db_run(struct postgres_place *p, struct postgres_db *c, struct store_request **all, int n, bool each,
	bool keep_all)
{
	struct work w = { 0 };
	enum postgres_fault f = FAULT_NONE;
	for (int i = 0; i < n && !f; i++) {
		all[i]->out.len = 0;
		f = each ? add_alone(p, c, &w, all[i]) : add_steps(c, &w, all[i]);
	}
	if (!f && !each)
		f = plan(p, c, &w, 0, false);
	if (!f && w.n) {
		if (!pq.enterPipelineMode(c->conn))
			f = lost(c);
		if (!f && (f = send_all(c, &w, each)))
			postgres_db_close(c);       /* the end of the transaction was not sent, so nothing was done */
		else if (!f && (f = take_all(p, c, &w, each, keep_all)) != FAULT_LOST)
			pq.exitPipelineMode(c->conn);
	}
	work_free(&w);
	return f;
}
