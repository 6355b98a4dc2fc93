/* SPDX-License-Identifier: MIT */
/* Heaps: random objects keep their bytes, go to and fro between heap and the other allocator, and leave nothing. */
#include "base/heap.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

static long others;                     /* blocks the other allocator holds */
static bool refuse;

static void *other(void *arg, void *p, size_t old_size, size_t size)
{
	(void)arg;
	(void)old_size;
	if (!size) {
		others -= p != NULL;
		free(p);
		return NULL;
	}
	if (refuse)
		return NULL;
	others += !p;
	return realloc(p, size);
}

static unsigned state = 7;

static unsigned next(unsigned below)
{
	state = state * 1103515245u + 12345u;
	return (state >> 8) % below;
}

static size_t any_size(void)
{
	switch (next(10)) {
	case 0: return 1 + next(20000);
	case 1: return 1 + next(5000);
	default: return 1 + next(700);
	}
}

static void random_objects(void)
{
	enum { OBJECTS = 3000 };
	static unsigned char *p[OBJECTS];
	static size_t size[OBJECTS];
	struct heap *h = heap_new(other, NULL);
	size_t held, used;
	for (int i = 0; i < 400000; i++) {
		unsigned at = next(OBJECTS);
		for (size_t j = 0; j < size[at]; j += 5)
			if (p[at][j] != (unsigned char)(at + j)) {
				CHECK_ROW(i, !"changed");
				return;
			}
		size_t want = next(3) ? any_size() : 0, kept = size[at] < want ? size[at] : want;
		p[at] = heap_alloc(h, p[at], size[at], want);
		CHECK_ROW(i, (p[at] != NULL) == (want != 0) && (uintptr_t)p[at] % 16 == 0);
		for (size_t j = 0; j < kept; j += 5)
			if (p[at][j] != (unsigned char)(at + j)) {
				CHECK_ROW(i, !"lost by resize");
				return;
			}
		size[at] = want;
		for (size_t j = 0; j < want; j++)
			p[at][j] = (unsigned char)(at + j);
		if (i % 1000 == 999)
			heap_trim(h);
	}
	heap_count(h, &held, &used);
	CHECK(held >= used && used > 0);
	for (int i = 0; i < OBJECTS; i++)
		heap_alloc(h, p[i], size[i], 0);
	heap_count(h, &held, &used);
	CHECK(held == 0 && used == 0 && others == 0);
	size_t given = 0, n;
	while ((n = heap_trim(h)) > 0)
		given += n;
	CHECK(given > 0);
	heap_free(&h);
	CHECK(h == NULL);
}

/* Blocks that were there before; a shrink that cannot fail. */
static void strangers(void)
{
	struct heap *h = heap_new(other, NULL);
	char *p = other(NULL, NULL, 0, 100);
	strcpy(p, "older than the heap");
	p = heap_alloc(h, p, 100, 5000);
	CHECK(others == 1);
	p = heap_alloc(h, p, 5000, 64);
	CHECK(!strcmp(p, "older than the heap") && others == 0);
	refuse = true;
	CHECK(heap_alloc(h, p, 64, 8000) == NULL && !strcmp(p, "older than the heap"));
	refuse = false;
	heap_alloc(h, p, 64, 0);
	p = other(NULL, NULL, 0, 32);
	heap_alloc(h, p, 32, 0);
	CHECK(others == 0);
	heap_free(&h);
}

int main(void)
{
	RUN(random_objects);
	RUN(strangers);
	return check_done();
}
