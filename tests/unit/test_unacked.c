/* SPDX-License-Identifier: MIT */
/* What a peer has not acknowledged: what counts, the ring, the numbers at their wrap-around. */
#include "bus/unacked.h"

#include <stdio.h>
#include <string.h>

#include "check.h"

static void counted(void)
{
	static const struct { const char *xml; bool want; } rows[] = {
		{ "<message/>", true },
		{ "<message to='a'><body>x</body></message>", true },
		{ "<presence>", true },
		{ "<iq\ttype='get'/>", true },
		{ "<iq xmlns='jabber:client'/>", true },
		{ "<message xmlns='jabber:server' to='a'/>", true },
		{ "<message xmlns='urn:x'/>", false },
		{ "<messages/>", false },
		{ "<iqs>", false },
		{ "<r xmlns='urn:xmpp:sm:3'/>", false },
		{ " ", false },
		{ "", false },
		{ "<message", false },
		{ "</stream:stream>", false },
	};
	for (int i = 0; i < COUNT(rows); i++)
		CHECK_ROW(i, unacked_counts(str_of(rows[i].xml)) == rows[i].want);
}

static void put(struct unacked *u, int number)
{
	char text[32];
	int n = snprintf(text, sizeof text, "<message id='%d'/>", number);
	unacked_add(u, block_new((struct str){ text, (size_t)n }, 0), NULL, (uint64_t)number);
}

static void ring(void)
{
	struct unacked u = { 0 };
	uint32_t gone;
	int next = 0, first = 0;
	for (int round = 1; round < 200; round++) {
		for (int i = 0; i < round % 23; i++)
			put(&u, next++);
		uint32_t n = u.n * 2 / 3;
		CHECK(unacked_ack(&u, (uint32_t)first + n, &gone) == ST_OK && gone == n);
		first += (int)n;
		CHECK((int)u.n == next - first);
		CHECK(unacked_total() == u.bytes);
		for (uint32_t i = 0; i < u.n; i++)
			CHECK(unacked_at(&u, i)->when == (uint64_t)first + i);
	}
	unacked_clear(&u);
	CHECK(u.n == 0 && u.bytes == 0 && unacked_total() == 0 && u.ring == NULL && u.sent == (uint64_t)next);
}

static void numbers(void)
{
	static const struct { uint64_t sent; int n; uint32_t h; enum status want; uint32_t gone; } rows[] = {
		{ 0, 0, 0, ST_OK, 0 },
		{ 0, 0, 1, ST_INVALID, 0 },
		{ 0, 3, 2, ST_OK, 2 },
		{ 0, 3, 3, ST_OK, 3 },
		{ 0, 3, 4, ST_INVALID, 0 },
		{ 10, 3, 10, ST_OK, 0 },
		{ 10, 3, 8, ST_OK, 0 },                           /* said before: nothing new */
		{ UINT32_MAX, 3, UINT32_MAX, ST_OK, 0 },
		{ UINT32_MAX, 3, 0, ST_OK, 1 },
		{ UINT32_MAX, 3, 2, ST_OK, 3 },
		{ UINT32_MAX, 3, 3, ST_INVALID, 0 },
		{ UINT64_C(1) << 32, 2, 1, ST_OK, 1 },
	};
	for (int i = 0; i < COUNT(rows); i++) {
		struct unacked u = { .sent = rows[i].sent };
		uint32_t gone = 0;
		for (int k = 0; k < rows[i].n; k++)
			put(&u, k);
		CHECK_ROW(i, unacked_ack(&u, rows[i].h, &gone) == rows[i].want && gone == rows[i].gone);
		CHECK_ROW(i, (int)u.n == rows[i].n - (int)rows[i].gone);
		unacked_clear(&u);
	}
}

int main(void)
{
	RUN(counted);
	RUN(ring);
	RUN(numbers);
	return check_done();
}
