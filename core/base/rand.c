/* SPDX-License-Identifier: MIT */
/* rand.c - unpredictable bytes from the kernel.
 *
 * A login takes nine handfuls, and each would be a system call: every thread fetches some ahead. What is handed out is
 * wiped at once, so nobody who reads memory later learns what was; 256 bytes of what will be are there. This process never goes on after a fork(), so no two
 * have the same bytes.
 */
#include "base/rand.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/mem.h"

enum { AHEAD = 256 };             /* what getrandom() gives without a signal coming between */

static _Thread_local struct {
	unsigned char bytes[AHEAD];
	size_t left;              /* the first so many are unused */
} ahead;

static void fetch(void *out, size_t n)
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

void rand_bytes(void *out, size_t n)
{
	if (n > AHEAD / 4) {
		fetch(out, n);
		return;
	}
	if (n > ahead.left) {
		fetch(ahead.bytes, AHEAD);
		ahead.left = AHEAD;
	}
	ahead.left -= n;
	memcpy(out, ahead.bytes + ahead.left, n);
	mem_wipe(ahead.bytes + ahead.left, n);
}
