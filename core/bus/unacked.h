/* SPDX-License-Identifier: MIT */
/* unacked.h - what was sent on a stream and is not acknowledged by the peer (XEP-0198): blocks in order, and the counters.
 *
 * The blocks are those that went to the socket, shared with everybody else they went to. Logic thread.
 * Counters run to 2^64 here and are cut to 32 bits where they meet the wire, so a wrap-around is nothing special.
 */
#ifndef COUPLET_UNACKED_H
#define COUPLET_UNACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "bus/block.h"

struct unacked_item {
	struct block *b;
	struct block *to;       /* what stands in b's hole: ` to='…'`; NULL: nothing */
	uint64_t when;          /* milliseconds since 1970 */
};

struct unacked {                /* all zero: empty, nothing ever sent */
	struct unacked_item *ring;
	uint32_t room, first, n;
	size_t bytes;
	uint64_t sent;          /* ever; sent - n of them are acknowledged */
};

/* Is it a message, presence or iq of the stream's own namespace? Only these are counted. */
bool unacked_counts(struct str xml);

/* Takes over one reference to each; to may be NULL. */
void unacked_add(struct unacked *u, struct block *b, struct block *to, uint64_t when);

/* The peer has handled all up to number h (mod 2^32). *gone: how many that newly are. One that says less than before says
 * nothing new. ST_INVALID: more than was sent. */
MUST_CHECK enum status unacked_ack(struct unacked *u, uint32_t h, uint32_t *gone);

/* i < u->n, the oldest first. */
const struct unacked_item *unacked_at(const struct unacked *u, uint32_t i);

/* Bytes in all of them; what several hold counts for each. */
size_t unacked_total(void);

void unacked_clear(struct unacked *u);       /* counts as acknowledged */

#endif
