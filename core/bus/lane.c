/* SPDX-License-Identifier: MIT */
/* lane.c - the door of a thread that has a libev loop.
 *
 * The inbox is a lock-free stack: producers push whole chains with one compare-and-swap, the consumer takes everything
 * with one exchange and reverses it. Only the push that finds it empty wakes the consumer, so wake-ups vanish under load.
 */
#include "bus/lane.h"

#include <assert.h>
#include <ev.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/mem.h"

enum { TARGETS = 64 };            /* lanes one thread ever posts to: I/O threads + logic */

struct pending {                  /* gathered for one target; newest first, as the stack wants it */
	struct lane *to;
	struct msg *newest, *oldest;
	bool now;                 /* not all of them may wait */
};

struct lane {
	_Atomic(struct msg *) inbox;
	struct ev_loop *loop;
	ev_async wake;
	ev_prepare prepare;
	ev_timer later;
	bool due;                 /* what may wait has waited */
	void (*after)(void *);
	void *arg;
	struct msg *own_first, **own_last;        /* posted to itself, oldest first */
	struct pending pending[TARGETS];
	int pendings;
};

static _Thread_local struct lane *here;

static void push(struct lane *to, struct msg *newest, struct msg *oldest)
{
	struct msg *head = atomic_load_explicit(&to->inbox, memory_order_relaxed);
	do
		oldest->next = head;
	while (!atomic_compare_exchange_weak_explicit(&to->inbox, &head, newest, memory_order_release, memory_order_relaxed));
	if (!head)
		ev_async_send(to->loop, &to->wake);
}

static void post(struct lane *to, struct msg *msg, bool now)
{
	struct lane *from = here;
	msg->next = NULL;
	if (!from) {
		push(to, msg, msg);
		return;
	}
	if (to == from) {
		*from->own_last = msg;
		from->own_last = &msg->next;
		return;
	}
	for (int i = 0; i < from->pendings; i++) {
		struct pending *p = &from->pending[i];
		if (p->to == to) {
			msg->next = p->newest;
			p->newest = msg;
			if (!p->oldest)
				p->oldest = msg;
			p->now |= now;
			return;
		}
	}
	assert(from->pendings < TARGETS);
	from->pending[from->pendings++] = (struct pending){ to, msg, msg, now };
}

void lane_post(struct lane *to, struct msg *msg)
{
	post(to, msg, true);
}

void lane_post_later(struct lane *to, struct msg *msg)
{
	post(to, msg, false);
}

static bool take_inbox(struct lane *lane)
{
	struct msg *msg = atomic_exchange_explicit(&lane->inbox, NULL, memory_order_acquire);
	struct msg *oldest = NULL;
	while (msg) {
		struct msg *next = msg->next;
		msg->next = oldest;
		oldest = msg;
		msg = next;
	}
	bool any = oldest != NULL;
	/* Append to the own queue instead of delivering here: a deliver() that waits in a nested loop must not strand the rest. */
	while (oldest) {
		struct msg *next = oldest->next;
		oldest->next = NULL;
		*lane->own_last = oldest;
		lane->own_last = &oldest->next;
		oldest = next;
	}
	return any;
}

static bool deliver_own(struct lane *lane)
{
	bool any = false;
	while (lane->own_first) {
		struct msg *msg = lane->own_first;
		lane->own_first = msg->next;
		if (!lane->own_first)
			lane->own_last = &lane->own_first;
		msg->deliver(msg);
		any = true;
	}
	return any;
}

/* Hands over what was gathered, but for what may wait. */
static void hand_over(struct lane *lane)
{
	bool waits = false;
	for (int i = 0; i < lane->pendings; i++) {
		struct pending *p = &lane->pending[i];
		if (!p->newest)
			continue;
		if (!p->now && !lane->due) {
			waits = true;
			continue;
		}
		struct msg *newest = p->newest, *oldest = p->oldest;
		p->newest = p->oldest = NULL;
		p->now = false;
		push(p->to, newest, oldest);
	}
	lane->due = false;
	if (waits == (ev_is_active(&lane->later) != 0))
		return;
	if (waits) {
		ev_timer_set(&lane->later, LANE_LATER, 0.);
		ev_timer_start(lane->loop, &lane->later);
		ev_unref(lane->loop);
	} else {
		ev_ref(lane->loop);
		ev_timer_stop(lane->loop, &lane->later);
	}
}

bool lane_turn(struct lane *lane)
{
	assert(lane == here);
	take_inbox(lane);
	bool any = false;
	do {
		if (deliver_own(lane))
			any = true;
		if (lane->after)
			lane->after(lane->arg);
	} while (lane->own_first);
	hand_over(lane);
	return any;
}

static void on_prepare(struct ev_loop *loop, ev_prepare *w, int events)
{
	(void)loop;
	(void)events;
	lane_turn(w->data);
}

static void on_later(struct ev_loop *loop, ev_timer *w, int events)
{
	(void)events;
	ev_ref(loop);                     /* the timer has stopped by itself */
	((struct lane *)w->data)->due = true;
}

static void on_wake(struct ev_loop *loop, ev_async *w, int events)
{
	(void)loop;
	(void)events;
	take_inbox(w->data);              /* delivered by the prepare watcher of the next iteration, which comes at once */
}

struct lane *lane_new(struct ev_loop *loop, void (*after)(void *), void *arg)
{
	assert(!here);
	struct lane *lane = mem_zero(sizeof *lane);
	lane->loop = loop;
	lane->after = after;
	lane->arg = arg;
	lane->own_last = &lane->own_first;
	ev_async_init(&lane->wake, on_wake);
	lane->wake.data = lane;
	ev_async_start(loop, &lane->wake);
	ev_unref(loop);
	ev_prepare_init(&lane->prepare, on_prepare);
	lane->prepare.data = lane;
	ev_set_priority(&lane->prepare, EV_MINPRI);       /* after every other prepare watcher */
	ev_prepare_start(loop, &lane->prepare);
	ev_unref(loop);
	ev_timer_init(&lane->later, on_later, 0., 0.);
	lane->later.data = lane;
	here = lane;
	return lane;
}

void lane_free(struct lane **lane)
{
	struct lane *l = *lane;
	if (!l)
		return;
	assert(l == here);
	l->due = true;
	lane_turn(l);
	ev_ref(l->loop);
	ev_async_stop(l->loop, &l->wake);
	ev_ref(l->loop);
	ev_prepare_stop(l->loop, &l->prepare);
	here = NULL;
	free(l);
	*lane = NULL;
}
