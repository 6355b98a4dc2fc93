/* SPDX-License-Identifier: MIT */
/* check.h - the whole harness for C: name the rule, list the rows, loop.
 *
 *   static void split(void) { CHECK(1 + 1 == 2); CHECK_ROW(i, ...); }
 *   int main(void) { RUN(split); return check_done(); }
 *
 * A test function passes when no check in it failed. check_done() prints "N passed, N failed" and gives the exit code.
 */
#ifndef COUPLET_CHECK_H
#define COUPLET_CHECK_H

#include <stdio.h>

static int check_passed, check_failed, check_bad;

#define CHECK_ROW(row, what) \
	do { \
		if (!(what)) { \
			check_bad++; \
			printf("%s:%d: row %d: not true: %s\n", __FILE__, __LINE__, (int)(row), #what); \
		} \
	} while (0)

#define CHECK(what) \
	do { \
		if (!(what)) { \
			check_bad++; \
			printf("%s:%d: not true: %s\n", __FILE__, __LINE__, #what); \
		} \
	} while (0)

#define RUN(test) \
	do { \
		check_bad = 0; \
		test(); \
		if (check_bad) \
			check_failed++; \
		else \
			check_passed++; \
		printf("%s %s\n", check_bad ? "not ok" : "ok", #test); \
		fflush(stdout); \
	} while (0)

static inline int check_done(void)
{
	printf("%d passed, %d failed\n", check_passed, check_failed);
	return check_failed != 0;
}

#endif
