/* SPDX-License-Identifier: MIT */
/* rand.h - unpredictable bytes from the kernel. Any thread; ends the process if the kernel has none. */
#ifndef COUPLET_RAND_H
#define COUPLET_RAND_H

#include <stddef.h>

void rand_bytes(void *out, size_t n);

#endif
