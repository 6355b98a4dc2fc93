/* SPDX-License-Identifier: MIT */
/* queue.h - what every driver has beside its database: the writes that wait for its writer, the connections of readers that
 * rest, and the way answers go home.
 *
 * Embedded in the driver's struct. Thread: any; its lock is held for a few instructions.
 */
#ifndef COUPLET_STORE_QUEUE_H
#define COUPLET_STORE_QUEUE_H

#include <pthread.h>

#include "store/store.h"

enum { STORE_READERS_MAX = 16, STORE_STOPPED = 0, STORE_QUIET = -1 };

struct store_queue {
	pthread_mutex_t lock;
	pthread_cond_t some;
	struct msg *first, **last;        /* writes, oldest first */
	int waiting, waiting_max;
	size_t waiting_bytes, waiting_bytes_max;
	bool stop;
	void *idle[STORE_READERS_MAX];    /* connections */
	int idles;
	_Atomic uint64_t reads, writes;
	_Atomic int largest_batch;
};

void store_queue_init(struct store_queue *q, const struct store_config *config);
void store_queue_stop(struct store_queue *q);           /* the writer ends when nothing waits */
void store_queue_free(struct store_queue *q);           /* after all threads have ended, and all connections were taken out */

/* A write, moved; ST_LIMIT: too many wait, the caller keeps it. */
MUST_CHECK enum status store_queue_add(struct store_queue *q, struct store_request *r);

/* Waits for writes and takes up to STORE_BATCH_MAX of them, which are the caller's. quiet_s seconds (0: no bound) without any:
 * STORE_QUIET. STORE_STOPPED: asked to stop, and none is left. */
int store_queue_take(struct store_queue *q, struct store_request **all, int quiet_s);
void store_queue_answer(struct store_queue *q, struct store_request **all, int n);     /* what was taken goes home */

/* A connection that rests, the caller's; NULL: none. Given back: NULL, or the same one if there are enough, to be freed. */
void *store_queue_reader(struct store_queue *q);
MUST_CHECK void *store_queue_rest(struct store_queue *q, void *reader);

/* Runs work on a JOB_STORE thread, then the request's answer. */
MUST_CHECK enum status store_queue_read(struct store_request *r, void (*work)(struct job *));

void store_queue_numbers(struct store_queue *q, struct store_numbers *out);     /* sets what it knows of */

#endif
