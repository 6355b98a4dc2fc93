/* SPDX-License-Identifier: MIT */
/* job.c - the job pool. A mutex and a semaphore per class: workers sleep most of the time, and a lock of their own
 * keeps the lanes free of waiting consumers. No condition variable: who wakes from one takes the lock in a way that costs
 * a system call more to give it back, and a job is often no longer than that. */
#include "job.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>

#include "base/thread.h"
#include "logic.h"

enum { THREADS_MAX = 16 };

struct pool {
	const char *name;
	int threads, waiting_max;
	pthread_mutex_t lock;
	sem_t some;                         /* as many as workers were woken for */
	struct msg *first, **last;          /* waiting, oldest first */
	int waiting;
	int idle;                           /* workers that sleep and have not been signalled */
	bool stop;
	pthread_t ids[THREADS_MAX];
	int started;
	int out;                            /* logic thread only: handed in and not yet home */
};

#define POOL(text, n) { .name = text, .threads = n, .waiting_max = 10000, \
	.lock = PTHREAD_MUTEX_INITIALIZER }

static struct pool pools[JOB_CLASSES] = {
	[JOB_SASL] = POOL("job-sasl", 2),
	[JOB_STORE] = POOL("job-store", 2),
	[JOB_FILE] = POOL("job-file", 1),
};

/* Which pool a job came from is kept in msg.deliver until it goes home: one home() per class. */
static void home(struct pool *pool, struct msg *msg)
{
	struct job *job = (struct job *)msg;
	pool->out--;
	job->done(job);
}

static void home_sasl(struct msg *m) { home(&pools[JOB_SASL], m); }
static void home_store(struct msg *m) { home(&pools[JOB_STORE], m); }
static void home_file(struct msg *m) { home(&pools[JOB_FILE], m); }

static void (*const homes[JOB_CLASSES])(struct msg *) = {
	[JOB_SASL] = home_sasl, [JOB_STORE] = home_store, [JOB_FILE] = home_file,
};

static void *worker(void *arg)
{
	struct pool *pool = arg;
	thread_become(THREAD_JOB, pool->name);
	for (;;) {
		pthread_mutex_lock(&pool->lock);
		while (!pool->first && !pool->stop) {
			pool->idle++;
			pthread_mutex_unlock(&pool->lock);
			while (sem_wait(&pool->some) && errno == EINTR)
				;
			pthread_mutex_lock(&pool->lock);
		}
		struct msg *msg = pool->first;
		if (!msg) {
			pthread_mutex_unlock(&pool->lock);
			return NULL;
		}
		pool->first = msg->next;
		if (!pool->first)
			pool->last = &pool->first;
		pool->waiting--;
		pthread_mutex_unlock(&pool->lock);
		struct job *job = (struct job *)msg;
		job->work(job);
		lane_post(logic_lane(), msg);
	}
}

enum status job_run(enum job_class class, struct job *job)
{
	assert(thread_is(THREAD_LOGIC));
	struct pool *pool = &pools[class];
	pthread_mutex_lock(&pool->lock);
	if (pool->waiting >= pool->waiting_max) {
		pthread_mutex_unlock(&pool->lock);
		return ST_LIMIT;
	}
	if (!pool->last)
		pool->last = &pool->first;
	job->msg.next = NULL;
	job->msg.deliver = homes[class];
	*pool->last = &job->msg;
	pool->last = &job->msg.next;
	pool->waiting++;
	pool->out++;
	bool start = pool->started < pool->threads && pool->waiting > 0 && pool->out > pool->started;
	bool wake = pool->idle > 0;
	if (wake)
		pool->idle--;
	pthread_mutex_unlock(&pool->lock);
	if (wake)
		sem_post(&pool->some);           /* not with the lock held: whoever wakes would sleep again at once */
	if (start) {
		if (!pool->started)
			sem_init(&pool->some, 0, 0);
		thread_start(&pool->ids[pool->started], worker, pool);
		pool->started++;
	}
	return ST_OK;
}

void job_set_limit(enum job_class class, int threads, int waiting)
{
	assert(threads > 0 && threads <= THREADS_MAX && !pools[class].started);
	pools[class].threads = threads;
	pools[class].waiting_max = waiting;
}

int job_count(enum job_class class)
{
	return pools[class].out;
}

void job_stop(void)
{
	for (int c = 0; c < JOB_CLASSES; c++) {
		struct pool *pool = &pools[c];
		pthread_mutex_lock(&pool->lock);
		pool->stop = true;
		for (int i = 0; i < pool->idle; i++)
			sem_post(&pool->some);
		pool->idle = 0;
		pthread_mutex_unlock(&pool->lock);
		for (int i = 0; i < pool->started; i++)
			pthread_join(pool->ids[i], NULL);
		pool->started = 0;
		pool->stop = false;
	}
	if (logic_lane())
		lane_turn(logic_lane());
}
