/* SPDX-License-Identifier: MIT */
/* heap.c - small objects in runs of one size. */
#include "base/heap.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/mem.h"

enum {
	RUN = 32 * 1024,                     /* a run of objects of one class */
	STEP = 16, SMALL = 1024,             /* classes up to SMALL are STEP apart … */
	BIG_STEP = 256, BIG = 4096,          /* … and from there to BIG, BIG_STEP */
	N_SMALL = SMALL / STEP,
	CLASSES = N_SMALL + (BIG - SMALL) / BIG_STEP,
	WARM = 32,                           /* empty runs that keep their pages, or as many as are in use: see put() */
	EMPTY = -1,                          /* the class of a warm one */
	TRIM = 32,                           /* as many are given back at a time: about a millisecond */
};
#define SPACE ((size_t)64 << 30)             /* of addresses, reserved; halved until the system agrees */

/* They stand side by side and not each at the start of its pages, where all would fall into the same few sets of the caches. */
struct run {
	struct run *next, **at;              /* among those of its class with room, or the warm ones; at == NULL: full, or cold */
	void *freed;                         /* objects, each with the address of the next in it */
	char *fresh;                         /* `left` objects that were never used */
	uint32_t left, size, used;           /* size of an object; objects in use */
	int class;
};

struct heap {
	struct run *all;                     /* all[n]: of the n-th run from base on */
	char *base, *end, *top;              /* runs are cut off at top */
	heap_other other;
	void *arg;
	struct run *room[CLASSES];           /* runs with room */
	struct run *warm, *cold;             /* empty ones; the cold have no pages */
	uint32_t n_warm;
	size_t swept;                        /* where heap_trim() goes on */
	size_t runs, used;
	void *map;
	size_t mapped;
};

static int class_of(size_t size)
{
	return size <= SMALL ? (int)((size - 1) / STEP) : N_SMALL + (int)((size - SMALL - 1) / BIG_STEP);
}

static uint32_t size_of(int class)
{
	return class < N_SMALL ? (uint32_t)(class + 1) * STEP : (uint32_t)(SMALL + (class - N_SMALL + 1) * BIG_STEP);
}

static bool inside(const struct heap *h, const void *p)
{
	return (uintptr_t)p - (uintptr_t)h->base < (uintptr_t)(h->end - h->base);
}

static struct run *run_of(const struct heap *h, const void *p)
{
	return h->all + ((uintptr_t)p - (uintptr_t)h->base) / RUN;
}

static char *pages_of(const struct heap *h, const struct run *r)
{
	return h->base + (size_t)(r - h->all) * RUN;
}

static void enlist(struct run **list, struct run *r)
{
	r->next = *list;
	r->at = list;
	if (r->next)
		r->next->at = &r->next;
	*list = r;
}

static void delist(struct run *r)
{
	*r->at = r->next;
	if (r->next)
		r->next->at = r->at;
	r->at = NULL;
}

static struct run *new_run(struct heap *h, int class)
{
	struct run *r = h->warm;
	if (r) {
		delist(r);
		h->n_warm--;
	} else if ((r = h->cold)) {
		h->cold = r->next;
	} else {
		if (h->top == h->end)
			return NULL;
		r = run_of(h, h->top);
		h->top += RUN;
	}
	uint32_t size = size_of(class);
	*r = (struct run){ .fresh = pages_of(h, r), .left = RUN / size, .size = size, .class = class };
	h->runs++;
	enlist(&h->room[class], r);
	return r;
}

/* n neighbours that are in no list. */
static void cool(struct heap *h, struct run *r, size_t n)
{
	madvise(pages_of(h, r), n * RUN, MADV_DONTNEED);
	for (; n; n--, r++) {
		*r = (struct run){ .next = h->cold };
		h->cold = r;
	}
}

static void *get(struct heap *h, int class)
{
	struct run *r = h->room[class];
	if (!r && !(r = new_run(h, class)))
		return NULL;
	void *p = r->freed;
	if (p) {
		memcpy(&r->freed, p, sizeof r->freed);
		__builtin_prefetch(r->freed, 1);         /* the next one, long out of the caches, is often wanted in a moment */
	} else {
		p = r->fresh;
		r->fresh += r->size;
		r->left--;
	}
	r->used++;
	h->used += r->size;
	if (!r->freed && !r->left)
		delist(r);
	return p;
}

static void put(struct heap *h, struct run *r, void *p)
{
	memcpy(p, &r->freed, sizeof r->freed);
	r->freed = p;
	h->used -= r->size;
	if (!r->at)
		enlist(&h->room[r->class], r);
	if (--r->used)
		return;
	delist(r);
	h->runs--;
	/* Each round of the collector empties up to half of the runs, which are wanted again at once: to give their pages back in
	 * between costs a page fault for every message. At rest heap_trim() gives them back. */
	if (h->n_warm < WARM || h->n_warm < h->runs) {
		r->class = EMPTY;
		enlist(&h->warm, r);
		h->n_warm++;
	} else {
		cool(h, r, 1);
	}
}

void *heap_alloc(void *arg, void *p, size_t old_size, size_t size)
{
	struct heap *h = arg;
	if (!p) {
		void *q;
		if (size && size <= BIG && (q = get(h, class_of(size))))
			return q;
		return h->other(h->arg, NULL, old_size, size);
	}
	if (!inside(h, p)) {                 /* large, or older than the heap: it may stay what it is */
		void *q;
		if (!size || size > BIG || !(q = get(h, class_of(size))))
			return h->other(h->arg, p, old_size, size);
		memcpy(q, p, old_size < size ? old_size : size);
		h->other(h->arg, p, old_size, 0);
		return q;
	}
	struct run *r = run_of(h, p);
	if (!size) {
		put(h, r, p);
		return NULL;
	}
	int class = size <= BIG ? class_of(size) : CLASSES;
	if (class == r->class)
		return p;
	void *q = class < CLASSES ? get(h, class) : NULL;
	if (!q)
		q = h->other(h->arg, NULL, 0, size);
	if (!q)
		return size <= r->size ? p : NULL;         /* Lua relies on shrinking */
	memcpy(q, p, old_size < size ? old_size : size);
	put(h, r, p);
	return q;
}

size_t heap_trim(struct heap *h)
{
	size_t given = 0, runs = (size_t)(h->top - h->base) / RUN;
	while (h->warm && given < TRIM) {
		size_t n = 0;
		while (h->swept + n < runs && given < TRIM && h->all[h->swept + n].class == EMPTY) {
			delist(&h->all[h->swept + n++]);
			h->n_warm--;
			given++;
		}
		if (n)
			cool(h, &h->all[h->swept], n);
		h->swept = h->swept + n < runs ? h->swept + n + !n : 0;
	}
	return given * RUN;
}

void heap_count(const struct heap *h, size_t *held, size_t *used)
{
	*held = h->runs * RUN;
	*used = h->used;
}

struct heap *heap_new(heap_other other, void *arg)
{
	for (size_t space = SPACE; space >= (size_t)1 << 30; space /= 2) {
		size_t n = space / RUN, heads = (n * sizeof(struct run) + RUN - 1) / RUN * RUN;
		char *p = mmap(NULL, heads + space, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (p == MAP_FAILED)
			continue;
		struct heap *h = mem_zero(sizeof *h);
		h->map = p;
		h->mapped = heads + space;
		h->all = (struct run *)(void *)p;
		h->base = h->top = p + heads;
		h->end = h->base + space;
		h->other = other;
		h->arg = arg;
		return h;
	}
	return NULL;
}

void heap_free(struct heap **ref)
{
	struct heap *h = *ref;
	*ref = NULL;
	if (!h)
		return;
	munmap(h->map, h->mapped);
	free(h);
}
