/* SPDX-License-Identifier: MIT */
/* postgres_db.h - a connection of the PostgreSQL driver: opens it and brings the tables up to date, runs requests through a
 * pipeline (postgres_run.c), and says what is wrong. It knows nothing of queues, which are postgres.c's.
 *
 * Thread: any, a connection one at a time. Of the place only the atomic part changes while connections use it, and `sql`,
 * which the logic thread writes before a request names the statement. Every wait has a deadline.
 */
#ifndef COUPLET_POSTGRES_DB_H
#define COUPLET_POSTGRES_DB_H

#include <stdatomic.h>

#include "store/postgres_lib.h"
#include "store/store.h"

/* What became of the work when something went wrong. */
enum postgres_fault {
	FAULT_NONE,
	FAULT_OWN,      /* undone; a request's own fault, or one that what is smaller may be spared */
	FAULT_AGAIN,    /* undone, and likely to succeed if tried again (serialization, deadlock, lost statements) */
	FAULT_ALL,      /* undone; others would fare the same */
	FAULT_AWAY,     /* not begun: there is no connection */
	FAULT_LOST,     /* the connection broke: it may be done or not */
};

enum postgres_trouble {
	TROUBLE_GONE, TROUBLE_REFUSED, TROUBLE_NO_DATABASE, TROUBLE_TOO_MANY, TROUBLE_OLD_WORK, TROUBLE_DISK_FULL, TROUBLE_READ_ONLY,
	TROUBLE_FORBIDDEN, TROUBLE_SLOW, TROUBLE_CONFLICT, TROUBLE_TOO_BIG, TROUBLE_NEWER, TROUBLE_ENCODING, TROUBLE_COLLISION,
	TROUBLE_LACKING, TROUBLE_DAMAGED, TROUBLE_NO_LIBRARY, TROUBLE_OTHER, POSTGRES_TROUBLES
};

/* What all connections to one database share. Owned by the driver. */
struct postgres_place {
	char *conninfo;                   /* as libpq takes it; holds a password, so it is wiped and never logged */
	char *name;                       /* for people: database on host */
	bool library;                     /* libpq is there */
	char **schema;                    /* SQL that leads from version i to i + 1 */
	int versions, patience_ms;        /* for a statement, a connection, and a server to come back */
	enum store_sync sync;
	int64_t fence;                    /* advisory lock of this store's writer */

	char *sql[STORE_STATEMENTS_MAX];
	char *batch[STORE_STATEMENTS_MAX];    /* NULL: none */
	int n_sql;

	_Atomic uint64_t told_ms[2][POSTGRES_TROUBLES];   /* when the last log line was written, of reads and of writes */
	_Atomic bool untold_end[2];       /* after it nothing has worked yet */
	_Atomic int last_trouble;
	_Atomic uint64_t failures, away_since_ms, retry_at_ms;    /* 0: not away */
	_Atomic int retry_delay_ms;
	_Atomic bool stop;                /* no more patience */
};

struct postgres_statement {
	bool prepared;
	int n;
	Oid *types;
};

struct words {
	enum postgres_trouble trouble;
	char detail[120];               /* the server's */
};

/* All zero but `writes` is a closed connection. */
struct postgres_db {
	PGconn *conn;                     /* NULL: closed */
	struct postgres_statement statements[STORE_STATEMENTS_MAX][2];    /* single, batch */
	bool writes;                      /* it is the writer's */
	int old_pid;                      /* backend of the last connection, which may still be at work; 0: none */
	struct words words;               /* of the last trouble */
};

/* Opens it now if it has to be, with growing pauses after failures. FAULT_NONE or FAULT_AWAY. */
enum postgres_fault postgres_db_ready(struct postgres_place *p, struct postgres_db *c);
void postgres_db_close(struct postgres_db *c);

/* Runs the requests' statements in order. Not each: in one transaction, neighbours of one statement as a batch; all are done,
 * or none. each: a transaction for each request; `result` of each is its fault, and those that failed for good are told so.
 * keep_all (one request): the results of all statements, else of the last that has any. */
enum postgres_fault postgres_db_run(struct postgres_place *p, struct postgres_db *c, struct store_request **all, int n, bool each,
	bool keep_all);

/* Gives the request its condition and text and counts it; logs it, at most once a minute of a kind. */
void postgres_db_fail(struct postgres_place *p, struct postgres_db *c, struct store_request *r);
void postgres_db_well(struct postgres_place *p, const struct postgres_db *c);     /* logs that trouble is over */

/* Is it worth waiting for a server that is away? Then so many milliseconds; 0: no, or it waits for a person. */
int postgres_db_patience(const struct postgres_place *p);

/* --- what postgres_run.c uses of a connection --- */

/* Notes what is wrong, in the server's words or libpq's. -> what has become of the work */
enum postgres_fault postgres_db_fault(struct postgres_db *c, enum postgres_trouble t, const char *words);
enum postgres_fault postgres_db_lost(struct postgres_db *c);                            /* the connection broke */
enum postgres_fault postgres_db_failed(struct postgres_db *c, const PGresult *res);     /* the server says why */

/* Waits until PQgetResult() has an answer without waiting. False: broken, or too late; noted. */
bool postgres_db_wait(struct postgres_place *p, struct postgres_db *c, uint64_t deadline);

/* The result of what was sent outside a pipeline, the caller's; NULL: the connection broke, noted. Of it: fine, or why not. */
PGresult *postgres_db_result(struct postgres_place *p, struct postgres_db *c, int timeout_ms);
enum postgres_fault postgres_db_judge(struct postgres_db *c, const PGresult *res);

#endif
