/* SPDX-License-Identifier: MIT */
/* thread.c - which kind of thread runs. */
#include "base/thread.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local int kinds_here;

void thread_become(int kinds, const char *name)
{
	kinds_here |= kinds;
	if (name)
		pthread_setname_np(pthread_self(), name);
}

bool thread_is(enum thread_kind kind)
{
	return (kinds_here & (int)kind) != 0;
}

void thread_start(pthread_t *out, void *(*run)(void *), void *arg)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int err = pthread_create(out, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err) {
		fprintf(stderr, "couplet: cannot start a thread: %s\n", strerror(err));
		abort();
	}
}
