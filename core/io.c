/* SPDX-License-Identifier: MIT */
/* io.c - I/O threads. */
#include "io.h"

#include <assert.h>
#include <ev.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/thread.h"
#include "bus/lane.h"
#include "logic.h"
#include "net/conn.h"
#include "tls/tls_mem.h"

static struct io *all[IO_MAX];
static pthread_t threads[IO_MAX];
static int n_all, n_threads;
static sem_t ready;
static pthread_barrier_t stopped;
static _Thread_local struct io *here;

static void after(void *arg)
{
	conn_flush_dirty(arg);
}

static void on_later(struct ev_loop *loop, ev_timer *timer, int events)
{
	(void)events;
	struct io *io = timer->data;
	conn_flush_later(io);
	if (io->n_later) {
		ev_timer_set(timer, 0., 0.);
		ev_timer_start(loop, timer);
	}
}

void io_later(struct io *io, uint64_t id)
{
	if (io->n_later == io->cap_later) {
		io->cap_later = io->cap_later ? io->cap_later * 2 : 64;
		io->later = mem_resize(io->later, io->cap_later * sizeof *io->later);
	}
	if (!ev_is_active(io->later_timer)) {
		ev_timer_set(io->later_timer, CONN_LATER, 0.);
		ev_timer_start(io->loop, io->later_timer);
	}
	io->later[io->n_later++] = id;
}

static struct io *make(int index)
{
	struct io *io = mem_zero(sizeof *io);
	io->later_timer = mem_zero(sizeof *io->later_timer);
	ev_timer_init(io->later_timer, on_later, 0., 0.);
	io->later_timer->data = io;
	io->index = index;
	io->in = mem_alloc(IO_IN);
	io->plain = mem_alloc(IO_PLAIN);
	io->scratch = mem_alloc(IO_PLAIN);
	return io;
}

static void drop(struct io *io)
{
	free(io->slots);
	free(io->later);
	free(io->later_timer);
	free(io->in);
	free(io->plain);
	free(io->scratch);
	buf_free(&io->wire);
	conn_free_spare(io);
	free(io);
}

static void *run(void *arg)
{
	struct io *io = arg;
	char name[16];
	snprintf(name, sizeof name, "couplet-io-%d", io->index);
	thread_become(THREAD_IO, name);
	here = io;
	tls_mem_keep(true);
	io->loop = ev_loop_new(EVFLAG_AUTO);
	if (!io->loop) {
		fputs("couplet: cannot make an event loop\n", stderr);
		abort();
	}
	io->lane = lane_new(io->loop, after, io);
	sem_post(&ready);
	ev_ref(io->loop);                   /* goes on with nothing to watch, until told to stop */
	ev_run(io->loop, 0);
	ev_unref(io->loop);
	/* Threads and the logic thread post to one another: nobody frees a lane before all have stopped. */
	conn_close_all(io);
	lane_turn(io->lane);
	ev_timer_stop(io->loop, io->later_timer);
	pthread_barrier_wait(&stopped);
	lane_free(&io->lane);
	ev_loop_destroy(io->loop);
	tls_mem_keep(false);
	return NULL;
}

void io_start(int count)
{
	assert(thread_is(THREAD_LOGIC) && !n_all && count >= 0 && count <= IO_MAX);
	n_threads = count;
	if (!count) {
		struct io *io = make(0);
		io->loop = logic_loop();
		io->lane = logic_lane();
		here = io;
		thread_become(THREAD_IO, NULL);
		tls_mem_keep(true);
		logic_set_after(after, io);
		all[n_all++] = io;
		return;
	}
	sem_init(&ready, 0, 0);
	pthread_barrier_init(&stopped, NULL, (unsigned)count + 1);
	for (int i = 0; i < count; i++) {
		all[i] = make(i);
		thread_start(&threads[i], run, all[i]);
	}
	for (int i = 0; i < count; i++)
		while (sem_wait(&ready))
			;
	sem_destroy(&ready);
	n_all = count;
}

static void stop_one(struct msg *msg)
{
	free(msg);
	ev_break(here->loop, EVBREAK_ALL);
}

void io_stop(void)
{
	if (!n_all)
		return;
	for (int i = 0; i < n_threads; i++) {
		struct msg *msg = mem_zero(sizeof *msg);
		msg->deliver = stop_one;
		lane_post(all[i]->lane, msg);
	}
	lane_turn(logic_lane());
	if (n_threads)
		pthread_barrier_wait(&stopped);
	for (int i = 0; i < n_threads; i++)
		pthread_join(threads[i], NULL);
	if (!n_threads) {
		conn_close_all(all[0]);
		ev_timer_stop(all[0]->loop, all[0]->later_timer);
		logic_set_after(NULL, NULL);
		tls_mem_keep(false);
		here = NULL;
	}
	if (n_threads)
		pthread_barrier_destroy(&stopped);
	int n = n_all;
	n_all = 0;
	lane_turn(logic_lane());            /* what they said last */
	for (int i = 0; i < n; i++) {
		drop(all[i]);
		all[i] = NULL;
	}
}

int io_count(void)
{
	return n_all;
}

struct io *io_at(int index)
{
	return index >= 0 && index < n_all ? all[index] : NULL;
}

struct io *io_here(void)
{
	return here;
}

static uint64_t id_of(const struct io *io, uint32_t slot)
{
	return (uint64_t)io->slots[slot].generation << 32 | (uint64_t)io->index << 24 | slot;
}

uint64_t io_slot_take(struct io *io, struct conn *c)
{
	uint32_t slot;
	if (io->free_slot) {
		slot = io->free_slot - 1;
		io->free_slot = io->slots[slot].next_free;
	} else {
		if (io->n_slots == IO_SLOTS)
			return 0;
		if (io->n_slots == io->cap_slots) {
			io->cap_slots = io->cap_slots ? io->cap_slots * 2 : 64;
			io->slots = mem_resize(io->slots, io->cap_slots * sizeof *io->slots);
		}
		slot = io->n_slots++;
		io->slots[slot].generation = 1;
	}
	io->slots[slot].conn = c;
	return id_of(io, slot);
}

void io_slot_free(struct io *io, uint64_t id)
{
	struct io_slot *s = &io->slots[io_slot_of(id)];
	s->conn = NULL;
	s->generation = s->generation == INT32_MAX ? 1 : s->generation + 1;
	s->next_free = io->free_slot;
	io->free_slot = io_slot_of(id) + 1;
}

struct conn *io_slot_find(struct io *io, uint64_t id)
{
	uint32_t slot = io_slot_of(id);
	if (slot >= io->n_slots || id_of(io, slot) != id)
		return NULL;
	return io->slots[slot].conn;
}
