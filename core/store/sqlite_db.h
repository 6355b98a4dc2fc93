/* SPDX-License-Identifier: MIT */
/* sqlite_db.h - a connection of the SQLite driver to its file: opens it and brings it up to date, runs the statements of a
 * request, and says what is wrong. It knows nothing of queues and batches, which are sqlite.c's.
 *
 * Thread: any, a connection one at a time. Of the file's description only the atomic part changes while connections use it, and
 * `sql`, which the logic thread writes before a request names the statement.
 * Results are SQLite's extended codes, 0 if all went well, but where a bool or nothing is returned.
 */
#ifndef COUPLET_SQLITE_DB_H
#define COUPLET_SQLITE_DB_H

#include <sqlite3.h>
#include <stdatomic.h>

#include "store/store.h"

enum {
	SQLITE_DB_REOPEN_MS = 250,        /* how often a file that cannot be opened is tried again */
	SQLITE_DB_LOOK_MS = 250,          /* how long a reader takes it for granted that the file is where it was */
};

/* What all connections to one file share. Owned by the driver. */
struct sqlite_file {
	char *name, *directory;
	char **schema;                    /* SQL that leads from version i to i + 1 */
	int versions, busy_ms;
	enum store_sync sync;
	int64_t page_max;                 /* 0: none */

	char *sql[STORE_STATEMENTS_MAX];
	int n_sql;

	struct {
		_Atomic uint64_t told_ms;         /* when the last log line was written */
		_Atomic int about;
		_Atomic bool untold_end;          /* after it nothing has worked yet */
	} trouble[2];                     /* of reads, of writes */
	_Atomic uint64_t failures;
};

/* All zero but `writes` is a closed connection. */
struct sqlite_db {
	sqlite3 *db;                      /* NULL: closed */
	sqlite3_stmt *statements[STORE_STATEMENTS_MAX];
	sqlite3_stmt *begin, *commit, *rollback, *savepoint, *undo, *release;
	bool writes;                      /* it is the writer's */
	int wal_pages;                    /* the writer's: length of the WAL after the last commit */
	int error;                        /* SQLite's code when it could not be opened */
	uint64_t opened_ms;               /* or tried to */
	uint64_t seen_ms;                 /* the file was still in its place */
};

/* Opens it now if it has to be, at most every SQLITE_DB_REOPEN_MS. A file that was replaced counts as closed. */
int sqlite_db_ready(struct sqlite_file *f, struct sqlite_db *c);
void sqlite_db_close(struct sqlite_db *c);

int sqlite_db_exec(sqlite3 *db, const char *sql);
int sqlite_db_step(sqlite3_stmt *stmt);           /* runs one without results, and resets it */

/* Runs the request's statements into its `out`: the results of all, or (keep_all false) of the last that has any. */
int sqlite_db_run(struct sqlite_file *f, struct sqlite_db *c, struct store_request *r, bool keep_all);

/* What a result means: the disk is full; the connection cannot be trusted any more, so open another one for the next request;
 * the request's own fault, so others of its batch would succeed. */
bool sqlite_db_no_space(int rc, int sys);
bool sqlite_db_broken(int rc);
bool sqlite_db_own_fault(int rc);

/* Gives the request its condition and text and counts it; logs it, at most once a minute of a kind. */
void sqlite_db_fail(struct sqlite_file *f, struct sqlite_db *c, struct store_request *r, int rc);
void sqlite_db_well(struct sqlite_file *f, const struct sqlite_db *c);    /* logs that trouble is over */

#endif
