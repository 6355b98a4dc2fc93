/* SPDX-License-Identifier: MIT */
/* job.h - the job pool: whatever blocks or burns runs here, its answer comes home to the logic thread.
 *
 * A job embeds `struct job` as its first member. work() runs on a worker and touches only the job itself; done() then runs
 * on the logic thread and frees it. Classes have workers of their own, so that none can starve another.
 */
#ifndef COUPLET_JOB_H
#define COUPLET_JOB_H

#include "base/status.h"
#include "bus/lane.h"

enum job_class {
	JOB_SASL,       /* SASL steps, PBKDF2 */
	JOB_STORE,      /* reads of databases; a driver's writer is a thread of its own */
	JOB_FILE,       /* file work, hashes of large data, everything else */
	JOB_CLASSES
};

struct job {
	struct msg msg;                     /* the pool's */
	void (*work)(struct job *);
	void (*done)(struct job *);         /* logic thread; frees the job */
};

/* Logic thread. Moved, unless ST_LIMIT: the class has its bound of waiting jobs (job_set_limit) and the job is still the
 * caller's. Workers start with the first job. */
MUST_CHECK enum status job_run(enum job_class class, struct job *job);

/* Any time before the first job of the class. Default: 2 threads (JOB_SASL: 2, JOB_STORE: 2, JOB_FILE: 1), 10000 waiting. */
void job_set_limit(enum job_class class, int threads, int waiting);

/* Logic thread: jobs now waiting or running in a class. */
int job_count(enum job_class class);

/* Logic thread, at exit: waits until the running jobs are done, delivers done() of all that were finished, drops none. */
void job_stop(void);

#endif
