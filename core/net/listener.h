/* SPDX-License-Identifier: MIT */
/* listener.h - a listening socket. Opened by the logic thread, watched by I/O thread 0, which hands what it accepts to all I/O
 * threads in turn; so limits per address need no lock.
 */
#ifndef COUPLET_LISTENER_H
#define COUPLET_LISTENER_H

#include "net/conn.h"
#include "net/peers.h"

struct listener;

struct listener_options {
	struct addr addr;
	int backlog;                          /* 0: the system's most */
	struct conn_start start;              /* for every connection; fd, addresses and token are unused; class is not counted.
	                                       * tls and alpn: references, moved */
	struct peers_limits per_ip;
};

/* ST_SYSTEM: errno tells. Logic thread. Moves what options own, also on failure. The I/O threads must run. */
MUST_CHECK enum status listener_open(struct listener_options *options, struct listener **out);
struct addr listener_addr(const struct listener *l);       /* with the port the system chose */
void listener_tls(struct listener *l, struct tls_ctx *ctx);      /* for connections from now on; borrows ctx. NULL: none */
void listener_close(struct listener **l);                  /* connections stay; the port is free at once */

/* Begins a connection to addr from the logic thread. start: as above, class counted in here. ST_LIMIT: too many connections,
 * ST_SYSTEM: errno tells. Moves what start owns, also on failure. */
MUST_CHECK enum status listener_dial(const struct addr *addr, struct conn_start *start);

#endif
