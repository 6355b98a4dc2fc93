/* SPDX-License-Identifier: MIT */
/* job.c - the job pool. A mutex per class and a semaphore per worker: they sleep most of the time, and a lock of their own
 * keeps the lanes free of waiting consumers. No condition variable: who wakes from one takes the lock in a way that costs
 * a system call more to give it back, and a job is often no longer than that. Who fell asleep last is woken first: what it
 * needs is still in the caches. */
#include "job.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>

#include "base/thread.h"
#include "logic.h"

enum { THREADS_MAX = 16 };

struct worker {
	struct pool *pool;
	pthread_t id;
	sem_t wake;
	struct worker *next_idle;
};

struct pool {
	const char *name;
	int threads, waiting_max;
	pthread_mutex_t lock;
	struct msg *first, **last;          /* waiting, oldest first */
	int waiting;
	struct worker *idle;                /* those that sleep and have not been woken */
	bool stop;
	struct worker workers[THREADS_MAX];
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
	struct worker *self = arg;
	struct pool *pool = self->pool;
	thread_become(THREAD_JOB, pool->name);
	for (;;) {
		pthread_mutex_lock(&pool->lock);
		while (!pool->first && !pool->stop) {
			self->next_idle = pool->idle;
			pool->idle = self;
			pthread_mutex_unlock(&pool->lock);
			while (sem_wait(&self->wake) && errno == EINTR)
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
	struct worker *idle = pool->idle;
	if (idle)
		pool->idle = idle->next_idle;
	pthread_mutex_unlock(&pool->lock);
	if (idle)
		sem_post(&idle->wake);           /* not with the lock held: whoever wakes would sleep again at once */
	if (start) {
		struct worker *w = &pool->workers[pool->started++];
		w->pool = pool;
		sem_init(&w->wake, 0, 0);
		thread_start(&w->id, worker, w);
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
		for (struct worker *w = pool->idle; w; w = w->next_idle)
			sem_post(&w->wake);
		pool->idle = NULL;
		pthread_mutex_unlock(&pool->lock);
		for (int i = 0; i < pool->started; i++)
			pthread_join(pool->workers[i].id, NULL);
		pool->started = 0;
		pool->stop = false;
	}
	if (logic_lane())
		lane_turn(logic_lane());
}
