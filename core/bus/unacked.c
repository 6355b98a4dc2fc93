/* SPDX-License-Identifier: MIT */
/* unacked.c - a ring of blocks. */
#include "bus/unacked.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { ROOM = 8, KEEP = 64 };

static size_t total;

size_t unacked_total(void)
{
	return total;
}

static bool begins(struct str s, const char *text)
{
	size_t n = strlen(text);
	return s.n >= n && !memcmp(s.p, text, n);
}

bool unacked_counts(struct str xml)
{
	static const char *const names[] = { "<message", "<presence", "<iq" };
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (!begins(xml, names[i]))
			continue;
		size_t n = strlen(names[i]);
		struct str rest = { xml.p + n, xml.n - n };
		if (!rest.n || !memchr(" />\t\r\n", rest.p[0], 6))
			return false;
		/* our writer puts xmlns first, and only where it is not the stream's */
		return !begins(rest, " xmlns='") || begins(rest, " xmlns='jabber:client'") || begins(rest, " xmlns='jabber:server'");
	}
	return false;
}

static void grow(struct unacked *u)
{
	uint32_t room = u->room ? u->room * 2 : ROOM;
	struct unacked_item *ring = mem_alloc(room * sizeof *ring);
	for (uint32_t i = 0; i < u->n; i++)
		ring[i] = u->ring[(u->first + i) & (u->room - 1)];
	free(u->ring);
	u->ring = ring;
	u->room = room;
	u->first = 0;
}

static size_t size_of(const struct unacked_item *item)
{
	return item->b->len + (item->to ? item->to->len : 0);
}

void unacked_add(struct unacked *u, struct block *b, struct block *to, uint64_t when)
{
	if (u->n == u->room)
		grow(u);
	struct unacked_item *item = &u->ring[(u->first + u->n++) & (u->room - 1)];
	*item = (struct unacked_item){ .b = b, .to = to, .when = when };
	u->bytes += size_of(item);
	total += size_of(item);
	u->sent++;
}

static void drop(struct unacked *u, uint32_t n)
{
	while (n--) {
		struct unacked_item *item = &u->ring[u->first];
		u->bytes -= size_of(item);
		total -= size_of(item);
		block_unref(&item->b);
		block_unref(&item->to);
		u->first = (u->first + 1) & (u->room - 1);
		u->n--;
	}
	if (!u->n && u->room > KEEP) {
		free(u->ring);
		u->ring = NULL;
		u->room = u->first = 0;
	}
}

enum status unacked_ack(struct unacked *u, uint32_t h, uint32_t *gone)
{
	uint32_t n = h - (uint32_t)(u->sent - u->n);
	if (n > u->n) {
		if (n <= INT32_MAX)
			return ST_INVALID;
		n = 0;                          /* an older number */
	}
	drop(u, n);
	*gone = n;
	return ST_OK;
}

const struct unacked_item *unacked_at(const struct unacked *u, uint32_t i)
{
	return &u->ring[(u->first + i) & (u->room - 1)];
}

void unacked_clear(struct unacked *u)
{
	drop(u, u->n);
	free(u->ring);
	u->ring = NULL;
	u->room = u->first = 0;
}
