/* SPDX-License-Identifier: MIT */
/* test_lane.c - messages between threads: each producer's in order, none lost, whatever the receiver does meanwhile. */
#include "bus/lane.h"

#include <ev.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/status.h"
#include "base/thread.h"
#include "check.h"

enum { PRODUCERS = 8, EACH = 20000 };

struct note {
	struct msg msg;
	int from, n;
	void (*also)(struct note *);      /* what its delivery does besides */
};

static struct ev_loop *loop;
static struct lane *lane;
static int next[PRODUCERS];              /* the note expected of each producer */
static int got, expected, out_of_order;

static void deliver(struct msg *msg)
{
	struct note *note = (struct note *)msg;
	if (note->n != next[note->from]++)
		out_of_order++;
	if (note->also)
		note->also(note);
	free(note);
	if (++got == expected)
		ev_break(loop, EVBREAK_ALL);
}

static struct msg *made(int from, int n, void (*also)(struct note *))
{
	struct note *note = mem_zero(sizeof *note);
	note->msg.deliver = deliver;
	note->from = from;
	note->n = n;
	note->also = also;
	return &note->msg;
}

static void post(struct lane *to, int from, int n, void (*also)(struct note *))
{
	lane_post(to, made(from, n, also));
}

static void begin(int count, void (*after)(void *))
{
	for (int i = 0; i < PRODUCERS; i++)
		next[i] = 0;
	got = out_of_order = 0;
	expected = count;
	loop = ev_loop_new(EVFLAG_AUTO);
	ev_ref(loop);                           /* it waits for messages though it has no watcher that counts */
	lane = lane_new(loop, after, NULL);
}

static void end(void)
{
	lane_free(&lane);
	ev_loop_destroy(loop);
	CHECK(!lane);
	CHECK(got == expected);
	CHECK(out_of_order == 0);
}

/* --- from other threads --- */

static int numbers[PRODUCERS] = { 0, 1, 2, 3, 4, 5, 6, 7 };

static void *produce(void *arg)
{
	int from = *(int *)arg;
	for (int n = 0; n < EACH; n++)
		post(lane, from, n, NULL);
	return NULL;
}

static void on_tick(struct ev_loop *its, ev_timer *w, int events)
{
	int *sent = w->data;
	for (int i = 0; i < 100 && sent[1] < EACH; i++)
		post(lane, sent[0], sent[1]++, NULL);
	if (sent[1] == EACH)
		ev_timer_stop(its, w);
}

/* With a lane of its own: what it posts is gathered and leaves at the end of an iteration. */
static void *produce_from_loop(void *arg)
{
	int sent[2] = { *(int *)arg, 0 };
	struct ev_loop *mine = ev_loop_new(EVFLAG_AUTO);
	struct lane *own = lane_new(mine, NULL, NULL);
	ev_timer tick;
	ev_timer_init(&tick, on_tick, 0, 1e-6);
	tick.data = sent;
	ev_timer_start(mine, &tick);
	ev_run(mine, 0);
	lane_free(&own);                        /* hands out the rest */
	ev_loop_destroy(mine);
	return NULL;
}

static void many_producers(void)
{
	pthread_t ids[PRODUCERS];
	begin(PRODUCERS * EACH, NULL);
	for (int i = 0; i < PRODUCERS; i++)
		thread_start(&ids[i], i % 2 ? produce_from_loop : produce, &numbers[i]);
	ev_run(loop, 0);
	for (int i = 0; i < PRODUCERS; i++)
		pthread_join(ids[i], NULL);
	end();
}

/* A receiver that sleeps is woken by each message: the sender waits for the answer before it sends the next. */
static sem_t answered;

static void answer(struct note *note)
{
	(void)note;
	sem_post(&answered);
}

static void *ask(void *arg)
{
	(void)arg;
	for (int n = 0; n < 1000; n++) {
		post(lane, 0, n, answer);
		sem_wait(&answered);
	}
	return NULL;
}

static void one_by_one(void)
{
	pthread_t id;
	sem_init(&answered, 0, 0);
	begin(1000, NULL);
	thread_start(&id, ask, NULL);
	ev_run(loop, 0);
	pthread_join(id, NULL);
	end();
	sem_destroy(&answered);
}

static sem_t go;

static void step(struct lane *own)
{
	lane_turn(own);
	sem_post(&answered);
	sem_wait(&go);
}

static void *take_time(void *arg)
{
	struct ev_loop *mine = ev_loop_new(EVFLAG_AUTO);
	struct lane *own = lane_new(mine, NULL, NULL);
	(void)arg;
	ev_ref(mine);
	lane_post_later(lane, made(0, 0, NULL));
	step(own);
	post(lane, 0, 1, NULL);
	step(own);
	lane_post_later(lane, made(0, 2, NULL));
	lane_turn(own);
	ev_run(mine, EVRUN_ONCE);               /* LANE_LATER */
	step(own);
	lane_post_later(lane, made(0, 3, NULL));
	step(own);
	lane_free(&own);
	ev_loop_destroy(mine);
	return NULL;
}

static void what_may_wait(void)
{
	static const int after[] = { 0, 2, 3, 3 };      /* not alone; with the next, in order; after a time; not alone */
	pthread_t id;
	sem_init(&answered, 0, 0);
	sem_init(&go, 0, 0);
	begin(4, NULL);
	thread_start(&id, take_time, NULL);
	for (int i = 0; i < COUNT(after); i++) {
		sem_wait(&answered);
		lane_turn(lane);
		CHECK(got == after[i]);
		sem_post(&go);
	}
	pthread_join(id, NULL);
	end();                                  /* whoever ends hands over all */
	sem_destroy(&answered);
	sem_destroy(&go);
}

static void *produce_few(void *arg)
{
	for (int n = 0; n < 10; n++)
		post(lane, *(int *)arg, n, NULL);
	return NULL;
}

static void freeing_delivers_the_rest(void)
{
	pthread_t id;
	begin(11, NULL);
	thread_start(&id, produce_few, &numbers[0]);
	pthread_join(id, NULL);
	post(lane, 1, 0, NULL);
	end();
}

/* --- within the thread --- */

static void post_two_more(struct note *note)
{
	if (note->n >= 20)
		return;
	post(lane, note->from, note->n * 2 + 1, post_two_more);
	post(lane, note->from, note->n * 2 + 2, post_two_more);
}

static void to_itself(void)
{
	begin(41, NULL);                        /* 0 … 40: breadth first, so in order */
	post(lane, 0, 0, post_two_more);
	CHECK(got == 0);                        /* not from within lane_post() */
	CHECK(lane_turn(lane));
	CHECK(got == 41);
	CHECK(!lane_turn(lane));
	end();
}

static void turn(struct note *note)
{
	int before = got;
	CHECK(lane_turn(lane));
	CHECK(got == before + 9 - note->n);     /* all that came behind it, before it is done itself */
}

static void nested_delivery(void)
{
	begin(10, NULL);
	for (int n = 0; n < 10; n++)
		post(lane, 0, n, n == 3 ? turn : NULL);
	CHECK(lane_turn(lane));
	end();
}

static void nested_delivery_from_outside(void)
{
	pthread_t id;
	begin(10 + 1, NULL);
	thread_start(&id, produce_few, &numbers[0]);
	pthread_join(id, NULL);
	post(lane, 1, 0, NULL);
	CHECK(lane_turn(lane));
	CHECK(got == 11);
	end();
}

static int flushes, flushed_at, posted_by_flush;

static void flush(void *arg)
{
	(void)arg;
	flushes++;
	flushed_at = got;
	if (got == 5 && !posted_by_flush) {
		posted_by_flush = 1;
		post(lane, 0, 5, NULL);
	}
}

static void flush_hook(void)
{
	flushes = posted_by_flush = 0;
	begin(6, flush);
	for (int n = 0; n < 5; n++)
		post(lane, 0, n, NULL);
	CHECK(flushes == 0);
	CHECK(lane_turn(lane));
	CHECK(flushes == 2 && flushed_at == 6); /* after all messages, and again after what it posted itself */
	end();
}

int main(void)
{
	RUN(many_producers);
	RUN(one_by_one);
	RUN(what_may_wait);
	RUN(freeing_delivers_the_rest);
	RUN(to_itself);
	RUN(nested_delivery);
	RUN(nested_delivery_from_outside);
	RUN(flush_hook);
	return check_done();
}
