/* SPDX-License-Identifier: MIT */
/* test_job.c - the job pool: its classes do not wait for each other, its bound holds, and no job is lost at the end. */
#include "job.h"

#include <ev.h>
#include <lauxlib.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/thread.h"
#include "check.h"
#include "logic.h"

struct task {
	struct job job;
	int n;
	sem_t *tell, *wait;               /* posted when it starts; waited for then */
};

enum { KEPT = 1000 };

static int done_order[KEPT], dones, expected;
static _Atomic int in_wrong_thread;

static void work(struct job *job)
{
	struct task *t = (struct task *)job;
	if (!thread_is(THREAD_JOB) || thread_is(THREAD_LOGIC))
		in_wrong_thread++;
	if (t->tell)
		sem_post(t->tell);
	if (t->wait)
		sem_wait(t->wait);
}

static void done(struct job *job)
{
	struct task *t = (struct task *)job;
	if (!thread_is(THREAD_LOGIC))
		in_wrong_thread++;
	done_order[dones++] = t->n;
	free(t);
	if (dones == expected)
		ev_break(logic_loop(), EVBREAK_ALL);
}

static struct task *task(int n, sem_t *tell, sem_t *wait)
{
	struct task *t = mem_zero(sizeof *t);
	t->job.work = work;
	t->job.done = done;
	t->n = n;
	t->tell = tell;
	t->wait = wait;
	return t;
}

static void run(enum job_class class, int n, sem_t *tell, sem_t *wait)
{
	CHECK(job_run(class, &task(n, tell, wait)->job) == ST_OK);
}

static void until(int count)
{
	expected = count;
	if (dones < count)
		ev_run(logic_loop(), 0);
	CHECK(dones == count);
}

static void one_worker_keeps_order(void)
{
	dones = 0;
	job_set_limit(JOB_FILE, 1, KEPT);
	for (int n = 0; n < KEPT; n++)
		run(JOB_FILE, n, NULL, NULL);
	until(KEPT);
	for (int n = 0; n < KEPT; n++)
		CHECK_ROW(n, done_order[n] == n);
	CHECK(job_count(JOB_FILE) == 0);
	job_stop();
}

static void classes_do_not_wait_for_each_other(void)
{
	sem_t gate;
	sem_init(&gate, 0, 0);
	dones = 0;
	job_set_limit(JOB_FILE, 1, 10);
	run(JOB_FILE, 1, NULL, &gate);
	run(JOB_FILE, 2, NULL, NULL);
	run(JOB_STORE, 3, NULL, NULL);
	run(JOB_SASL, 4, NULL, NULL);
	until(2);
	CHECK(done_order[0] + done_order[1] == 7);
	CHECK(job_count(JOB_FILE) == 2 && job_count(JOB_STORE) == 0 && job_count(JOB_SASL) == 0);
	sem_post(&gate);
	until(4);
	CHECK(done_order[2] == 1 && done_order[3] == 2);
	job_stop();
	sem_destroy(&gate);
}

/* Each lets the other one go: they end only if they run at the same time. */
static void workers_run_side_by_side(void)
{
	sem_t a, b;
	sem_init(&a, 0, 0);
	sem_init(&b, 0, 0);
	dones = 0;
	job_set_limit(JOB_STORE, 2, 10);
	run(JOB_STORE, 1, &a, &b);
	run(JOB_STORE, 2, &b, &a);
	until(2);
	job_stop();
	sem_destroy(&a);
	sem_destroy(&b);
}

static void bound(void)
{
	sem_t started, gate;
	sem_init(&started, 0, 0);
	sem_init(&gate, 0, 0);
	dones = 0;
	job_set_limit(JOB_SASL, 1, 3);
	run(JOB_SASL, 0, &started, &gate);
	sem_wait(&started);                     /* it runs: it waits no more */
	for (int n = 1; n <= 3; n++)
		run(JOB_SASL, n, NULL, NULL);
	struct task *refused = task(4, NULL, NULL);
	CHECK(job_run(JOB_SASL, &refused->job) == ST_LIMIT);
	CHECK(job_count(JOB_SASL) == 4);
	run(JOB_STORE, 5, NULL, NULL);          /* the bound is the class's own */
	until(1);
	sem_post(&gate);
	until(5);
	CHECK(job_run(JOB_SASL, &refused->job) == ST_OK);       /* it was still ours */
	until(6);
	CHECK(done_order[0] == 5 && done_order[5] == 4);
	job_stop();
	sem_destroy(&started);
	sem_destroy(&gate);
}

static void run_next(struct job *job)
{
	struct task *t = (struct task *)job;
	int n = t->n;
	if (n < 9) {
		struct task *more = task(n + 1, NULL, NULL);
		more->job.done = run_next;
		CHECK(job_run(JOB_FILE, &more->job) == ST_OK);
	}
	done(job);
}

static void an_answer_asks_again(void)
{
	dones = 0;
	struct task *first = task(0, NULL, NULL);
	first->job.done = run_next;
	CHECK(job_run(JOB_FILE, &first->job) == ST_OK);
	until(10);
	for (int n = 0; n < 10; n++)
		CHECK_ROW(n, done_order[n] == n);
	job_stop();
}

static void *open_later(void *gate)
{
	sem_post(gate);
	return NULL;
}

static void stop_while_running(void)
{
	sem_t started, gate;
	pthread_t id;
	sem_init(&started, 0, 0);
	sem_init(&gate, 0, 0);
	dones = 0;
	expected = -1;
	job_set_limit(JOB_FILE, 1, 10);
	run(JOB_FILE, 0, &started, &gate);
	run(JOB_FILE, 1, NULL, NULL);
	run(JOB_STORE, 2, NULL, NULL);
	sem_wait(&started);
	thread_start(&id, open_later, &gate);
	job_stop();                             /* what runs and what waits comes home before it returns */
	CHECK(dones == 3);
	CHECK(job_count(JOB_FILE) == 0 && job_count(JOB_STORE) == 0);
	pthread_join(id, NULL);
	job_stop();                             /* twice is fine */
	dones = 0;
	run(JOB_FILE, 7, NULL, NULL);           /* and workers start again */
	until(1);
	CHECK(done_order[0] == 7);
	job_stop();
	sem_destroy(&started);
	sem_destroy(&gate);
}

static void right_threads(void)
{
	CHECK(in_wrong_thread == 0);
}

int main(void)
{
	lua_State *L = luaL_newstate();
	logic_open(L);
	ev_ref(logic_loop());                   /* it waits for jobs though it has no watcher that counts */
	RUN(one_worker_keeps_order);
	RUN(classes_do_not_wait_for_each_other);
	RUN(workers_run_side_by_side);
	RUN(bound);
	RUN(an_answer_asks_again);
	RUN(stop_while_running);
	RUN(right_threads);
	lua_close(L);
	return check_done();
}
