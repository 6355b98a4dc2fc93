/* SPDX-License-Identifier: MIT */
/* addr.c - an IP address and a port. */
#include "net/addr.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

bool addr_is_v4(const struct addr *a)
{
	return memcmp(a->ip, mapped, sizeof mapped) == 0;
}

struct addr addr_of(const struct sockaddr *sa)
{
	struct addr a = { 0 };
	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)sa;
		memcpy(a.ip, mapped, sizeof mapped);
		memcpy(a.ip + 12, &in->sin_addr, 4);
		a.port = ntohs(in->sin_port);
	} else if (sa->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)sa;
		memcpy(a.ip, &in6->sin6_addr, 16);
		a.port = ntohs(in6->sin6_port);
	}
	return a;
}

socklen_t addr_sockaddr(const struct addr *a, struct sockaddr_storage *out)
{
	memset(out, 0, sizeof *out);
	if (addr_is_v4(a)) {
		struct sockaddr_in *in = (void *)out;
		in->sin_family = AF_INET;
		in->sin_port = htons(a->port);
		memcpy(&in->sin_addr, a->ip + 12, 4);
		return sizeof *in;
	}
	struct sockaddr_in6 *in6 = (void *)out;
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(a->port);
	memcpy(&in6->sin6_addr, a->ip, 16);
	return sizeof *in6;
}

enum status addr_parse(const char *text, uint16_t port, struct addr *out)
{
	struct addr a = { .port = port };
	if (!strcmp(text, "*"))
		text = "0.0.0.0";
	if (inet_pton(AF_INET, text, a.ip + 12) == 1)
		memcpy(a.ip, mapped, sizeof mapped);
	else if (inet_pton(AF_INET6, text, a.ip) != 1)
		return ST_INVALID;
	*out = a;
	return ST_OK;
}

void addr_text(const struct addr *a, char out[ADDR_TEXT])
{
	if (addr_is_v4(a))
		inet_ntop(AF_INET, a->ip + 12, out, ADDR_TEXT);
	else
		inet_ntop(AF_INET6, a->ip, out, ADDR_TEXT);
}
