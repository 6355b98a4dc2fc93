/* SPDX-License-Identifier: MIT */
/* peers.h - who may connect how often: a token bucket and a count of open connections per address.
 *
 * IPv4 counts by address, IPv6 by /64. Memory is bounded: a full table forgets peers without open connections first, those
 * longest unseen; if everybody in reach has one, the newcomer is let in unseen. Time is a parameter, in seconds.
 * One thread at a time.
 */
#ifndef COUPLET_PEERS_H
#define COUPLET_PEERS_H

#include <stdint.h>

#include "base/status.h"
#include "net/addr.h"

struct peers;

struct peers_limits {
	double rate;           /* connections a second that an address may keep up; 0: no limit */
	double burst;          /* and how many at once */
	uint32_t open;         /* connections open at a time; 0: no limit */
};

struct peers *peers_new(uint32_t room);            /* room: addresses remembered, rounded up to a power of two */
void peers_free(struct peers **p);

/* ST_OK: counted in, peers_leave() must follow. ST_LIMIT: too often. ST_DENIED: too many open. */
MUST_CHECK enum status peers_enter(struct peers *p, const struct addr *a, const struct peers_limits *limits, double now);
void peers_leave(struct peers *p, const struct addr *a);

#endif
