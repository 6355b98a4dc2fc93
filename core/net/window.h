/* SPDX-License-Identifier: MIT */
/* window.h - what a connection's I/O thread and the logic thread know of one another without asking.
 *
 * How much the logic thread has not handled yet: counted up by the I/O thread, counted down by the logic thread.
 *
 * The I/O thread closes the window when it is full, and stops reading. It opens again, once half of it is free, by whoever of
 * the two notices first: window_reopen() is true for exactly one of them, which then sees to it that reading goes on.
 *
 * How much of what the logic thread has sent is with the kernel: a number that the I/O thread writes and the logic thread
 * reads. Only who has to wait is told (window_owes), since to wake a thread costs more than to send a stanza.
 */
#ifndef COUPLET_WINDOW_H
#define COUPLET_WINDOW_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/mem.h"

struct window {
	_Atomic uint64_t held;                    /* elements << 32 | bytes */
	_Atomic uint32_t elements, bytes;         /* the limits; written by the logic thread */
	_Atomic uint32_t drained;                 /* blocks that have left, at a moment when all had (mod 2^32) */
	atomic_bool closed, tell;
	atomic_uchar refs;
};

static inline struct window *window_new(uint32_t elements, uint32_t bytes)
{
	struct window *w = mem_zero(sizeof *w);
	atomic_init(&w->elements, elements);
	atomic_init(&w->bytes, bytes);
	atomic_init(&w->refs, 1);
	return w;
}

static inline struct window *window_ref(struct window *w)
{
	atomic_fetch_add_explicit(&w->refs, 1, memory_order_relaxed);
	return w;
}

static inline void window_unref(struct window **w)
{
	if (*w && atomic_fetch_sub_explicit(&(*w)->refs, 1, memory_order_acq_rel) == 1)
		free(*w);
	*w = NULL;
}

static inline uint32_t window_elements(const struct window *w)
{
	return (uint32_t)(atomic_load(&w->held) >> 32);
}

/* I/O thread: one element more. Returns whether the window is full now. */
static inline bool window_add(struct window *w, uint32_t bytes)
{
	uint64_t held = atomic_fetch_add(&w->held, (uint64_t)1 << 32 | bytes) + ((uint64_t)1 << 32 | bytes);
	return (uint32_t)(held >> 32) >= atomic_load_explicit(&w->elements, memory_order_relaxed)
		|| (uint32_t)held >= atomic_load_explicit(&w->bytes, memory_order_relaxed);
}

static inline bool window_has_room(const struct window *w)
{
	uint64_t held = atomic_load(&w->held);
	return (uint32_t)(held >> 32) <= atomic_load_explicit(&w->elements, memory_order_relaxed) / 2
		&& (uint32_t)held <= atomic_load_explicit(&w->bytes, memory_order_relaxed) / 2;
}

/* I/O thread: stop until window_reopen(), which it must call right afterwards. */
static inline void window_close(struct window *w)
{
	atomic_store(&w->closed, true);
}

/* Either thread, after what may have made room: true for the one who has to go on reading. */
static inline bool window_reopen(struct window *w)
{
	return atomic_load(&w->closed) && window_has_room(w) && atomic_exchange(&w->closed, false);
}

/* Logic thread: has something of the blocks it sent not left yet? Then the next window_drained() is true. */
static inline bool window_owes(struct window *w, uint32_t sent)
{
	if (atomic_load(&w->drained) == sent)
		return false;
	atomic_store(&w->tell, true);
	return atomic_load(&w->drained) != sent;
}

/* I/O thread: all of the blocks taken so far have left. Returns whether somebody waits for that. */
static inline bool window_drained(struct window *w, uint32_t taken)
{
	atomic_store(&w->drained, taken);
	return atomic_load(&w->tell) && atomic_exchange(&w->tell, false);
}

/* Logic thread: one element is handled. Its bytes are the mean of those held: exact in the sum, and no list to keep. */
static inline void window_done(struct window *w)
{
	uint64_t held = atomic_load_explicit(&w->held, memory_order_relaxed);
	uint64_t minus;
	do {
		uint32_t elements = (uint32_t)(held >> 32);
		if (!elements)
			return;
		minus = (uint64_t)1 << 32 | (uint32_t)held / elements;
	} while (!atomic_compare_exchange_weak(&w->held, &held, held - minus));
}

#endif
