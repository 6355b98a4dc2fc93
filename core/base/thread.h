/* SPDX-License-Identifier: MIT */
/* thread.h - which kind of thread runs. `assert(thread_is(THREAD_IO))` opens a function where it matters. */
#ifndef COUPLET_THREAD_H
#define COUPLET_THREAD_H

#include <pthread.h>
#include <stdbool.h>

/* A thread may be more than one kind: with io_threads = 0 the logic thread is the I/O thread as well. */
enum thread_kind {
	THREAD_LOGIC = 1,
	THREAD_IO = 2,
	THREAD_JOB = 4,
};

void thread_become(int kinds, const char *name);   /* adds kinds to the calling thread; name shows in top -H, NULL keeps it */
bool thread_is(enum thread_kind kind);

/* Starts a thread with all signals blocked (signals belong to the logic thread). Ends the process if the system refuses. */
void thread_start(pthread_t *out, void *(*run)(void *), void *arg);

#endif
