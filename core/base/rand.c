/* SPDX-License-Identifier: MIT */
/* rand.c - unpredictable bytes from the kernel. */
#include "base/rand.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

void rand_bytes(void *out, size_t n)
{
	char *p = out;
	while (n) {
		ssize_t got = getrandom(p, n, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			perror("couplet: getrandom");
			abort();
		}
		p += got;
		n -= (size_t)got;
	}
}
