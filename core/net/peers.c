/* SPDX-License-Identifier: MIT */
/* peers.c - per address limits: a hash table whose buckets are neighbourhoods of fixed size, so that nothing ever moves. */
#include "net/peers.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rand.h"

enum { NEAR = 8 };                    /* places an address may be at */

struct peer {
	uint8_t key[16];
	double tokens;
	double seen;                  /* 0: free place */
	uint32_t open;
};

struct peers {
	uint32_t mask;                /* of neighbourhoods */
	uint64_t seed;                /* so that nobody can choose addresses that meet */
	struct peer place[];
};

struct peers *peers_new(uint32_t room)
{
	uint32_t hoods = 1;
	while (hoods * NEAR < room && hoods < 1u << 24)
		hoods *= 2;
	struct peers *p = mem_zero(sizeof *p + (size_t)hoods * NEAR * sizeof p->place[0]);
	p->mask = hoods - 1;
	rand_bytes(&p->seed, sizeof p->seed);
	return p;
}

void peers_free(struct peers **p)
{
	free(*p);
	*p = NULL;
}

static void key_of(const struct addr *a, uint8_t key[16])
{
	memcpy(key, a->ip, 16);
	if (!addr_is_v4(a))
		memset(key + 8, 0, 8);
}

static struct peer *hood_of(struct peers *p, const uint8_t key[16])
{
	uint64_t h = p->seed;
	for (int i = 0; i < 16; i += 8) {
		uint64_t part;
		memcpy(&part, key + i, 8);
		h = (h ^ part) * 0x9e3779b97f4a7c15u;
		h ^= h >> 29;
	}
	return &p->place[(size_t)((h >> 8) & p->mask) * NEAR];
}

static struct peer *find(struct peers *p, const uint8_t key[16])
{
	struct peer *hood = hood_of(p, key);
	for (int i = 0; i < NEAR; i++)
		if (hood[i].seen != 0 && !memcmp(hood[i].key, key, 16))
			return &hood[i];
	return NULL;
}

static struct peer *make(struct peers *p, const uint8_t key[16])
{
	struct peer *hood = hood_of(p, key), *best = NULL;
	for (int i = 0; i < NEAR; i++)
		if (!hood[i].open && (!best || hood[i].seen < best->seen))
			best = &hood[i];
	return best;
}

enum status peers_enter(struct peers *p, const struct addr *a, const struct peers_limits *limits, double now)
{
	uint8_t key[16];
	key_of(a, key);
	double burst = limits->burst < 1 ? 1 : limits->burst;
	struct peer *peer = find(p, key);
	if (!peer) {
		peer = make(p, key);
		if (!peer)
			return ST_OK;
		*peer = (struct peer){ .tokens = burst, .seen = now };
		memcpy(peer->key, key, 16);
	}
	double passed = now - peer->seen;
	peer->seen = now > 0 ? now : 1e-9;
	peer->tokens += (passed > 0 ? passed : 0) * limits->rate;
	if (peer->tokens > burst)
		peer->tokens = burst;
	if (limits->rate > 0 && peer->tokens < 1)
		return ST_LIMIT;
	if (limits->open && peer->open >= limits->open)
		return ST_DENIED;
	peer->tokens -= 1;
	peer->open++;
	return ST_OK;
}

void peers_leave(struct peers *p, const struct addr *a)
{
	uint8_t key[16];
	key_of(a, key);
	struct peer *peer = find(p, key);
	if (peer && peer->open)
		peer->open--;
}
