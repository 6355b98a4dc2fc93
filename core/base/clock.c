/* SPDX-License-Identifier: MIT */
/* clock.c - time. */
#include "base/clock.h"

#include <time.h>

static struct timespec now(clockid_t id)
{
	struct timespec t;
	clock_gettime(id, &t);
	return t;
}

uint64_t clock_mono_ms(void)
{
	struct timespec t = now(CLOCK_MONOTONIC);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

uint64_t clock_wall_ms(void)
{
	struct timespec t = now(CLOCK_REALTIME);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

uint64_t clock_cpu_us(void)
{
	struct timespec t = now(CLOCK_THREAD_CPUTIME_ID);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}
