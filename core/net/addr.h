/* SPDX-License-Identifier: MIT */
/* addr.h - an IP address and a port as a plain value. IPv4 is kept as ::ffff:a.b.c.d. Any thread. */
#ifndef COUPLET_ADDR_H
#define COUPLET_ADDR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/status.h"

enum { ADDR_TEXT = 46 };               /* room for any address as text, NUL included */

struct addr {
	uint8_t ip[16];
	uint16_t port;                 /* host order */
};

struct addr addr_of(const struct sockaddr *sa);                     /* all zero if it is no IP address */
socklen_t addr_sockaddr(const struct addr *a, struct sockaddr_storage *out);
/* text: numeric; "*" is 0.0.0.0. ST_INVALID: not an address. */
MUST_CHECK enum status addr_parse(const char *text, uint16_t port, struct addr *out);
bool addr_is_v4(const struct addr *a);
void addr_text(const struct addr *a, char out[ADDR_TEXT]);

#endif
