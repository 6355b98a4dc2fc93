/* SPDX-License-Identifier: MIT */
/* mem.c - allocation that does not fail. */
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *checked(void *p, size_t size)
{
	if (!p) {
		fprintf(stderr, "couplet: out of memory (%zu bytes wanted)\n", size);
		abort();
	}
	return p;
}

void *mem_alloc(size_t size)
{
	return checked(malloc(size ? size : 1), size);
}

void *mem_zero(size_t size)
{
	return checked(calloc(1, size ? size : 1), size);
}

void *mem_resize(void *p, size_t size)
{
	return checked(realloc(p, size ? size : 1), size);
}

char *mem_copy(const void *p, size_t size)
{
	char *copy = mem_alloc(size + 1);
	if (size)
		memcpy(copy, p, size);
	copy[size] = '\0';
	return copy;
}

void mem_wipe(void *p, size_t size)
{
	if (p && size)
		explicit_bzero(p, size);
}

int mem_equal(const void *a, const void *b, size_t size)
{
	const volatile unsigned char *x = a, *y = b;
	unsigned char diff = 0;
	for (size_t i = 0; i < size; i++)
		diff |= x[i] ^ y[i];
	return diff == 0;
}
