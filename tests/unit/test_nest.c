/* SPDX-License-Identifier: MIT */
/* Nests: random pieces keep their bytes, and dropped nests give their pages back. */
#include "base/nest.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

static unsigned state = 1;

static unsigned next(unsigned below)
{
	state = state * 1103515245u + 12345u;
	return (state >> 8) % below;
}

static void random_pieces(void)
{
	enum { PIECES = 64 };
	unsigned char *p[PIECES] = { 0 };
	size_t size[PIECES] = { 0 };
	struct nest *n = nest_new();
	for (int i = 0; i < 20000; i++) {
		unsigned at = next(PIECES);
		for (size_t j = 0; j < size[at]; j += 7)
			if (p[at][j] != (unsigned char)(at + j)) {
				CHECK_ROW(i, !"changed");
				return;
			}
		size_t want = next(8) ? next(300) : next(40000);
		if (next(3)) {
			p[at] = nest_resize(n, p[at], want);
			size_t kept = size[at] < want ? size[at] : want;
			for (size_t j = 0; j < kept; j += 7)
				if (p[at][j] != (unsigned char)(at + j)) {
					CHECK_ROW(i, !"lost by resize");
					return;
				}
			size[at] = want;
			for (size_t j = 0; j < want; j++)
				p[at][j] = (unsigned char)(at + j);
			CHECK_ROW(i, (uintptr_t)p[at] % 16 == 0 && nest_size(p[at]) >= want);
		} else {
			nest_free(n, p[at]);
			p[at] = NULL;
			size[at] = 0;
		}
	}
	for (int i = 0; i < PIECES; i++)
		nest_free(n, p[i]);
	nest_drop(&n);
	CHECK(!n);
}

static void come_and_go(void)
{
	enum { NESTS = 200 };
	struct nest *n[NESTS];
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < NESTS; i++) {
			n[i] = nest_new();
			char *p = nest_alloc(n[i], 5000);
			memset(p, i, 5000);
			CHECK_ROW(i, nest_size(NULL) == 0 && nest_size(p) >= 5000);
			nest_free(n[i], p);
		}
		for (int i = 0; i < NESTS; i++)
			nest_drop(&n[(i * 7 + round) % NESTS]);
	}
}

static size_t resident(void *const *at, size_t n, size_t bytes)          /* pages of these places that are in memory */
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), sum = 0;
	unsigned char in[64];
	for (size_t i = 0; i < n; i++) {
		CHECK_ROW(i, mincore(at[i], bytes, in) == 0);
		for (size_t k = 0; k < bytes / page; k++)
			sum += in[k] & 1;
	}
	return sum;
}

static void pages_go_back(void)
{
	enum { NESTS = 2000, BYTES = 20 * 1024, PAGES = BYTES / 4096 };
	static struct nest *n[NESTS];
	static void *at[NESTS];
	for (int i = 0; i < NESTS; i++) {
		n[i] = nest_new();
		at[i] = n[i];
		char *p = nest_alloc(n[i], BYTES);
		memset(p, 1, BYTES);
		nest_free(n[i], p);
	}
	CHECK(resident(at, NESTS, BYTES) == (size_t)NESTS * PAGES);
	for (int i = 0; i < NESTS; i++)
		nest_drop(&n[i * 7 % NESTS]);
	CHECK(resident(at, NESTS, BYTES) <= 48 * PAGES);      /* a few stay warm */
}

static void absurd_sizes(void)
{
	struct nest *n = nest_new();
	CHECK(!nest_alloc(n, SIZE_MAX));
	CHECK(!nest_alloc(n, SIZE_MAX / 2 - 8));
	char *p = nest_alloc(n, 0);
	CHECK(p);
	nest_free(n, p);
	nest_free(n, NULL);
	nest_drop(&n);
}

int main(void)
{
	RUN(random_pieces);
	RUN(come_and_go);
	RUN(pages_go_back);
	RUN(absurd_sizes);
	return check_done();
}
