/* SPDX-License-Identifier: MIT */
/* clock.h - time. Any thread. Code under test takes the time as a parameter. */
#ifndef COUPLET_CLOCK_H
#define COUPLET_CLOCK_H

#include <stdint.h>

uint64_t clock_mono_ms(void);   /* never goes back; for deadlines */
uint64_t clock_wall_ms(void);   /* since 1970; for stamps */
uint64_t clock_cpu_us(void);    /* microseconds this thread has worked; a system call, unlike the others */

#endif
