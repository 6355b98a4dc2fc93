/* SPDX-License-Identifier: MIT */
/* store.h - the interface of a database driver. A driver runs statements; what is stored and asked is said in SQL by
 * lua/couplet/storage/, so a driver is small and knows nothing of rosters or archives.
 *
 * Calls: logic thread. Work: reads on JOB_STORE threads, writes on a thread of the driver, which commits whatever was
 * queued while its last commit ran. Answers: logic thread, in the order of the writes; each write is all or nothing, and
 * answered after it is on disk. A write that fails harms no other.
 */
#ifndef COUPLET_STORE_H
#define COUPLET_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/status.h"
#include "job.h"

struct store_driver;

enum { STORE_STATEMENTS_MAX = 1024, STORE_BATCH_MAX = 256 };

enum store_sync { STORE_SYNC_OFF, STORE_SYNC_NORMAL, STORE_SYNC_FULL, STORE_SYNC_EXTRA };

struct store_config {           /* borrowed for the call */
	struct str place;               /* file, or connection parameters */
	const struct str *schema;       /* schema[i] brings version i to i + 1 */
	int versions;
	enum store_sync sync;
	int busy_ms;                    /* how long another process may hold the database; PostgreSQL: how long a statement
	                                   may take, and a server may be away before requests fail */
	int waiting_max;                /* writes queued; over it: ST_LIMIT */
	size_t waiting_bytes_max;
	int64_t page_max;               /* SQLite: pages the file may have; 0: no bound */
};

struct store_numbers {
	uint64_t reads, writes, commits, failures, checkpoints;
	int waiting, largest_batch, wal_pages;
};

struct store {                  /* first member of a driver's own struct */
	const struct store_driver *driver;
};

/* One question: statements with their parameters in, rows out. The driver fills `out`, `changes` and, on failure, `code`
 * and `message`, then answer() runs on the logic thread and frees the request. */
struct store_request {
	struct job job;
	struct store *store;
	void (*answer)(struct store_request *);
	struct buf in;                  /* (value_add_count(statement), value_add_count(parameters), values)* */
	struct buf out;                 /* reads: per statement, writes: of the last statement with rows: 8 bytes of cell count
	                                   (store_cells), then the cells as values. A BLOB is an encoded value */
	int64_t changes;                /* rows changed by the last statement */
	const char *code;               /* NULL: success; else the condition for a stanza error */
	char message[160];
	bool again;                     /* done twice is the same as done once: it may be repeated when it is not known to be done */
	int result;                     /* the driver's own */
};

struct store_driver {
	const char *name;
	struct store *(*open)(const struct store_config *config);       /* never waits; trouble shows in the first answer */
	/* Both are copied. Returns its number, or -1 when STORE_STATEMENTS_MAX are known. batch, where there is one: a statement
	 * that takes arrays in place of values and does for every element what sql does, one row changed each, or fails whole. */
	int (*statement)(struct store *store, struct str sql, struct str batch);
	/* Moved, unless ST_LIMIT: too many are waiting. */
	enum status (*read)(struct store *store, struct store_request *request);
	enum status (*write)(struct store *store, struct store_request *request);
	void (*numbers)(struct store *store, struct store_numbers *out);
	/* Waits until all writes are done; their answers are on the lane then. No read may be under way. */
	void (*close)(struct store **store);
};

extern const struct store_driver store_sqlite, store_postgres;

#endif
