/* SPDX-License-Identifier: MIT */
/* lane.h - the door of a thread that has a libev loop: messages come in through its lane, and nothing else crosses threads.
 *
 * A message embeds `struct msg` as its first member and says with `deliver` what the receiving thread does with it; from
 * lane_post() on it belongs to the receiver, whose deliver() frees it. Messages from one thread to one lane arrive in the
 * order they were posted.
 *
 * A thread that owns a lane gathers what it posts and hands it over once per loop iteration (one compare-and-swap and at
 * most one wake-up per target); what it posts to itself is delivered at the end of the same iteration without a lock.
 * Threads without a lane (jobs) hand over at once. A lane is not bounded by itself: whoever lets strangers fill one
 * bounds it (conn's window, job's queue limit).
 */
#ifndef COUPLET_LANE_H
#define COUPLET_LANE_H

#include <stdbool.h>

struct ev_loop;
struct lane;

struct msg {
	struct msg *next;
	void (*deliver)(struct msg *);    /* on the receiving thread; frees the message */
};

/* Makes a lane for the calling thread, which runs loop. One lane per thread. after() (may be NULL) is called at the end of
 * every loop iteration, before gathered messages leave: the place to flush what the iteration has made dirty.
 * Owned by the caller; lane_free() only after every thread that posts here has stopped: it delivers what is still in it. */
struct lane *lane_new(struct ev_loop *loop, void (*after)(void *arg), void *arg);
void lane_free(struct lane **lane);

void lane_post(struct lane *to, struct msg *msg);    /* moved */
/* Nobody waits for this one alone: it goes along with the next that is posted there, or after LANE_LATER seconds. A thread that
 * sleeps is not woken for it, which costs both sides more than most messages are worth. */
#define LANE_LATER 0.02
void lane_post_later(struct lane *to, struct msg *msg);

/* Delivers what has come in and hands out what was gathered, now. The loop does this by itself; a nested wait or a thread
 * about to end calls it. Returns whether anything was delivered. */
bool lane_turn(struct lane *lane);

#endif
