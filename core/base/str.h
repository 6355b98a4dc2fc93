/* SPDX-License-Identifier: MIT */
/* str.h - text as pointer and length, never assumed NUL-ended. A plain value; borrows its bytes. Any thread. */
#ifndef COUPLET_STR_H
#define COUPLET_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct str {
	const char *p;
	size_t n;
};

/* Of a string literal, at no cost. */
#define STR(literal) ((struct str){ "" literal, sizeof(literal) - 1 })

static inline struct str str_of(const char *text)
{
	return (struct str){ text, text ? strlen(text) : 0 };
}

static inline bool str_eq(struct str a, struct str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool str_is(struct str a, const char *text)
{
	return str_eq(a, str_of(text));
}

#endif
