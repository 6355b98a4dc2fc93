/* SPDX-License-Identifier: MIT */
/* nest.c - memory for a thing of many small pieces. */
#include "base/nest.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/mem.h"

enum {
	NEST = 32 * 1024,            /* address space of one; pages never touched cost nothing */
	SLAB = 1024 * 1024,          /* what is asked of the system at once */
	WARM = 16,                   /* dropped ones a thread keeps without giving their pages back … */
	COOL = 32,                   /* … until there are so many more, which then give them back together */
	TRIES = 8,                   /* freed pieces looked at before a new one is cut */
};

struct piece {                       /* before every piece */
	_Alignas(16) size_t size;    /* of what follows; a multiple of 16 */
	struct piece *next;          /* while free */
};

struct nest {                        /* at the start of its pages */
	_Alignas(16) size_t used;
	struct piece *freed;
};

/* The calling thread's dropped nests, the warm ones on top; outside of them, because looking into one would touch it. */
static _Thread_local struct nest **spare;
static _Thread_local size_t n_spare, cap_spare, n_warm;

static void keep(struct nest *n)
{
	if (n_spare == cap_spare) {
		cap_spare = cap_spare ? cap_spare * 2 : 64;
		spare = mem_resize(spare, cap_spare * sizeof(*spare));
	}
	spare[n_spare++] = n;
}

static int by_address(const void *a, const void *b)
{
	uintptr_t x = (uintptr_t)*(struct nest *const *)a, y = (uintptr_t)*(struct nest *const *)b;
	return (x > y) - (x < y);
}

/* The COOL warm ones that have been here longest become cold. Each call makes the system interrupt every processor that knows
 * these pages; clients that came together go quiet together, and their nests are neighbours. */
static void cool(void)
{
	struct nest **first = spare + (n_spare - n_warm);
	qsort(first, COOL, sizeof(*first), by_address);
	for (size_t i = 0, n; i < COOL; i += n) {
		for (n = 1; i + n < COOL && (char *)first[i + n] == (char *)first[i] + n * NEST; n++)
			;
		madvise(first[i], n * NEST, MADV_DONTNEED);
	}
	n_warm -= COOL;
}

struct nest *nest_new(void)
{
	if (!n_spare) {
		char *slab = mmap(NULL, SLAB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (slab == MAP_FAILED) {
			fprintf(stderr, "couplet: out of memory (%d bytes wanted)\n", SLAB);
			abort();
		}
		for (size_t at = 0; at < SLAB; at += NEST)
			keep((struct nest *)(void *)(slab + at));
	}
	struct nest *n = spare[--n_spare];
	if (n_warm)
		n_warm--;
	*n = (struct nest){ .used = sizeof *n };
	return n;
}

void nest_drop(struct nest **ref)
{
	struct nest *n = *ref;
	*ref = NULL;
	if (!n)
		return;
	keep(n);
	if (++n_warm == WARM + COOL)
		cool();
}

static bool inside(const struct nest *n, const void *p)
{
	return (uintptr_t)p - (uintptr_t)n < NEST;
}

static struct piece *piece_of(void *p)
{
	return (struct piece *)p - 1;
}

size_t nest_size(const void *p)
{
	return p ? ((const struct piece *)p - 1)->size : 0;
}

/* A freed piece that fits without much waste. */
static struct piece *again(struct nest *n, size_t size)
{
	struct piece **at = &n->freed;
	for (int i = 0; *at && i < TRIES; i++, at = &(*at)->next) {
		struct piece *p = *at;
		if (p->size >= size && p->size <= 2 * size) {
			*at = p->next;
			return p;
		}
	}
	return NULL;
}

void *nest_alloc(struct nest *n, size_t size)
{
	if (size > PTRDIFF_MAX / 2)
		return NULL;
	size = size ? (size + 15) & ~(size_t)15 : 16;
	struct piece *p = again(n, size);
	if (p)
		return p + 1;
	if (sizeof *p + size <= NEST - n->used) {
		p = (struct piece *)(void *)((char *)n + n->used);
		n->used += sizeof *p + size;
	} else {
		p = malloc(sizeof *p + size);
		if (!p)
			return NULL;
	}
	p->size = size;
	return p + 1;
}

void nest_free(struct nest *n, void *ptr)
{
	if (!ptr)
		return;
	struct piece *p = piece_of(ptr);
	if (!inside(n, p)) {
		free(p);
		return;
	}
	if ((char *)ptr + p->size == (char *)n + n->used) {      /* the last one cut */
		n->used -= sizeof *p + p->size;
		return;
	}
	p->next = n->freed;
	n->freed = p;
}

void *nest_resize(struct nest *n, void *ptr, size_t size)
{
	size_t had = nest_size(ptr);
	if (had >= size && had)
		return ptr;
	if (ptr && !inside(n, ptr)) {
		size = (size + 15) & ~(size_t)15;
		struct piece *p = realloc(piece_of(ptr), sizeof *p + size);
		if (!p)
			return NULL;
		p->size = size;
		return p + 1;
	}
	void *q = nest_alloc(n, size);
	if (!q)
		return NULL;
	if (had)
		memcpy(q, ptr, had);
	nest_free(n, ptr);
	return q;
}
