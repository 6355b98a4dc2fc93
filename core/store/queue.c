/* SPDX-License-Identifier: MIT */
/* queue.c - writes that wait for a driver's writer, connections of readers that rest. */
#include "store/queue.h"

#include <errno.h>
#include <time.h>

#include "base/thread.h"
#include "logic.h"

void store_queue_init(struct store_queue *q, const struct store_config *config)
{
	q->last = &q->first;
	q->waiting_max = config->waiting_max;
	q->waiting_bytes_max = config->waiting_bytes_max;
	pthread_condattr_t mono;
	pthread_condattr_init(&mono);
	pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->some, &mono);
	pthread_condattr_destroy(&mono);
}

void store_queue_stop(struct store_queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->stop = true;
	pthread_cond_broadcast(&q->some);
	pthread_mutex_unlock(&q->lock);
}

void store_queue_free(struct store_queue *q)
{
	pthread_cond_destroy(&q->some);
	pthread_mutex_destroy(&q->lock);
}

/* --- writes ------------------------------------------------------------------------------------------------------------- */

enum status store_queue_add(struct store_queue *q, struct store_request *r)
{
	pthread_mutex_lock(&q->lock);
	if (q->waiting >= q->waiting_max || q->waiting_bytes + r->in.len > q->waiting_bytes_max) {
		pthread_mutex_unlock(&q->lock);
		return ST_LIMIT;
	}
	r->job.msg.next = NULL;
	*q->last = &r->job.msg;
	q->last = &r->job.msg.next;
	q->waiting++;
	q->waiting_bytes += r->in.len;
	if (q->waiting == 1)
		pthread_cond_signal(&q->some);
	pthread_mutex_unlock(&q->lock);
	return ST_OK;
}

int store_queue_take(struct store_queue *q, struct store_request **all, int quiet_s)
{
	struct timespec until = { 0 };
	if (quiet_s) {
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += quiet_s;
	}
	int n = 0;
	pthread_mutex_lock(&q->lock);
	while (!q->first && !q->stop) {
		if (!quiet_s) {
			pthread_cond_wait(&q->some, &q->lock);
		} else if (pthread_cond_timedwait(&q->some, &q->lock, &until) == ETIMEDOUT && !q->first && !q->stop) {
			pthread_mutex_unlock(&q->lock);
			return STORE_QUIET;
		}
	}
	while (q->first && n < STORE_BATCH_MAX) {
		struct store_request *r = (struct store_request *)q->first;
		q->first = r->job.msg.next;
		q->waiting--;
		q->waiting_bytes -= r->in.len;
		all[n++] = r;
	}
	if (!q->first)
		q->last = &q->first;
	pthread_mutex_unlock(&q->lock);
	if (n > q->largest_batch)
		q->largest_batch = n;
	return n;
}

static void deliver_answer(struct msg *msg)
{
	struct store_request *r = (struct store_request *)msg;
	r->answer(r);
}

void store_queue_answer(struct store_queue *q, struct store_request **all, int n)
{
	q->writes += (uint64_t)n;
	for (int i = 0; i < n; i++) {
		all[i]->job.msg.deliver = deliver_answer;
		lane_post(logic_lane(), &all[i]->job.msg);
	}
}

/* --- reads -------------------------------------------------------------------------------------------------------------- */

void *store_queue_reader(struct store_queue *q)
{
	pthread_mutex_lock(&q->lock);
	void *reader = q->idles ? q->idle[--q->idles] : NULL;
	pthread_mutex_unlock(&q->lock);
	return reader;
}

void *store_queue_rest(struct store_queue *q, void *reader)
{
	pthread_mutex_lock(&q->lock);
	if (q->idles < STORE_READERS_MAX) {
		q->idle[q->idles++] = reader;
		reader = NULL;
	}
	pthread_mutex_unlock(&q->lock);
	return reader;
}

static void read_done(struct job *job)
{
	struct store_request *r = (struct store_request *)job;
	r->answer(r);
}

enum status store_queue_read(struct store_request *r, void (*work)(struct job *))
{
	r->job.work = work;
	r->job.done = read_done;
	return job_run(JOB_STORE, &r->job);
}

void store_queue_numbers(struct store_queue *q, struct store_numbers *out)
{
	pthread_mutex_lock(&q->lock);
	out->waiting = q->waiting;
	pthread_mutex_unlock(&q->lock);
	out->reads = q->reads;
	out->writes = q->writes;
	out->largest_batch = q->largest_batch;
}
