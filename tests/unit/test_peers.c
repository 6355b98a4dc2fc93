/* SPDX-License-Identifier: MIT */
/* Who may connect how often, and the window between a connection and the logic thread. */
#include "net/peers.h"

#include <stdio.h>
#include <string.h>

#include "check.h"
#include "net/window.h"

static struct addr addr(const char *text)
{
	struct addr a = { 0 };
	CHECK(addr_parse(text, 0, &a) == ST_OK);
	return a;
}

static void addresses(void)
{
	static const struct { const char *in, *out; enum status want; } rows[] = {
		{ "127.0.0.1", "127.0.0.1", ST_OK },
		{ "*", "0.0.0.0", ST_OK },
		{ "::", "::", ST_OK },
		{ "2001:DB8::1", "2001:db8::1", ST_OK },
		{ "localhost", "", ST_INVALID },
		{ "1.2.3", "", ST_INVALID },
		{ "", "", ST_INVALID },
	};
	for (int i = 0; i < COUNT(rows); i++) {
		struct addr a = { 0 };
		char text[ADDR_TEXT] = "";
		CHECK_ROW(i, addr_parse(rows[i].in, 5222, &a) == rows[i].want);
		if (rows[i].want)
			continue;
		addr_text(&a, text);
		CHECK_ROW(i, !strcmp(text, rows[i].out));
		struct sockaddr_storage sa;
		addr_sockaddr(&a, &sa);
		struct addr b = addr_of((struct sockaddr *)&sa);
		CHECK_ROW(i, !memcmp(&a, &b, sizeof a));
	}
}

static void rates(void)
{
	struct peers *p = peers_new(64);
	struct peers_limits two = { .rate = 0.5, .burst = 2 };
	struct addr a = addr("192.0.2.1"), b = addr("192.0.2.2");
	static const struct { double now; bool other; enum status want; } rows[] = {
		{ 100, false, ST_OK }, { 100, false, ST_OK }, { 100, false, ST_LIMIT }, { 100, true, ST_OK },
		{ 101, false, ST_LIMIT }, { 102.1, false, ST_OK }, { 102.1, false, ST_LIMIT },
		{ 200, false, ST_OK }, { 200, false, ST_OK }, { 200, false, ST_LIMIT },        /* no more than the burst is saved up */
	};
	for (int i = 0; i < COUNT(rows); i++)
		CHECK_ROW(i, peers_enter(p, rows[i].other ? &b : &a, &two, rows[i].now) == rows[i].want);
	peers_free(&p);
}

static void at_a_time(void)
{
	struct peers *p = peers_new(64);
	struct peers_limits two = { .open = 2 };
	struct addr a = addr("2001:db8:1:2::1"), same = addr("2001:db8:1:2:ffff::2"), other = addr("2001:db8:1:3::1");
	CHECK(peers_enter(p, &a, &two, 1) == ST_OK);
	CHECK(peers_enter(p, &same, &two, 1) == ST_OK);
	CHECK(peers_enter(p, &a, &two, 1) == ST_DENIED);               /* one /64 */
	CHECK(peers_enter(p, &other, &two, 1) == ST_OK);
	peers_leave(p, &same);
	CHECK(peers_enter(p, &a, &two, 1) == ST_OK);
	peers_leave(p, &other);
	peers_leave(p, &other);                                        /* once too often is no harm */
	peers_free(&p);
}

static void bounded(void)
{
	struct peers *p = peers_new(64);
	struct peers_limits one = { .rate = 0.001, .burst = 1, .open = 1 };
	struct addr first = addr("10.0.0.0");
	CHECK(peers_enter(p, &first, &one, 1) == ST_OK);
	for (int i = 1; i < 10000; i++) {
		char text[ADDR_TEXT];
		snprintf(text, sizeof text, "10.1.%d.%d", i >> 8, i & 255);
		struct addr a = addr(text);
		CHECK_ROW(i, peers_enter(p, &a, &one, 1 + i / 1000.) == ST_OK);
		peers_leave(p, &a);
	}
	CHECK(peers_enter(p, &first, &one, 12) == ST_LIMIT);           /* who is connected is not forgotten */
	peers_free(&p);
}

static void window(void)
{
	struct window *w = window_new(4, 1000);
	CHECK(!window_add(w, 10) && !window_add(w, 10) && !window_add(w, 10));
	CHECK(window_add(w, 11));
	window_close(w);
	CHECK(!window_reopen(w));
	window_done(w);
	CHECK(!window_reopen(w));
	window_done(w);
	CHECK(window_reopen(w));
	CHECK(!window_reopen(w));                                      /* for one of the two only */
	window_done(w);
	window_done(w);
	window_done(w);                                                /* nothing held: nothing happens */
	CHECK(atomic_load(&w->held) == 0);
	CHECK(window_add(w, 1000));                                    /* by bytes */
	window_done(w);
	CHECK(atomic_load(&w->held) == 0 && window_has_room(w));

	CHECK(!window_owes(w, 0));
	CHECK(!window_drained(w, 1));                                  /* nobody waits */
	CHECK(!window_owes(w, 1) && window_owes(w, 2));
	CHECK(window_drained(w, 1));                                   /* told, and not all: waits anew */
	CHECK(window_owes(w, 2));
	CHECK(window_drained(w, 2) && !window_drained(w, 3));          /* once */
	CHECK(window_owes(w, UINT32_MAX) && window_drained(w, UINT32_MAX) && window_owes(w, 0));
	struct window *other = window_ref(w);
	window_unref(&other);
	window_unref(&w);
	CHECK(!w);
}

int main(void)
{
	RUN(addresses);
	RUN(rates);
	RUN(at_a_time);
	RUN(bounded);
	RUN(window);
	return check_done();
}
