/* SPDX-License-Identifier: MIT */
/* tls_mem.c - where OpenSSL's memory comes from. */
#include "tls/tls_mem.h"

#include <malloc.h>
#include <openssl/crypto.h>
#include <stdlib.h>

enum { RECORD = 16 * 1024, BUFFER = RECORD + 1024 };       /* a record, and OpenSSL's with all around it */

static _Thread_local bool keeps;
static _Thread_local void *spare;                          /* of BUFFER bytes; NULL: in use, or there was none yet */
static _Thread_local void *lent;                           /* of BUFFER bytes, to OpenSSL: the one that is to come back */

static bool is_record(size_t n)
{
	return n > RECORD && n <= BUFFER;
}

static void *take(size_t n, const char *file, int line)
{
	(void)file;
	(void)line;
	if (!n)
		return NULL;
	if (!keeps || !is_record(n))
		return malloc(n);
	void *p = spare;
	spare = NULL;
	return lent = p ? p : malloc(BUFFER);
}

static void give(void *p, const char *file, int line)
{
	(void)file;
	(void)line;
	if (p && p == lent) {
		size_t n = malloc_usable_size(p);          /* another thread may have freed it, and malloc put something else there */
		lent = NULL;
		if (n >= BUFFER && n < BUFFER + 64) {
			spare = p;
			return;
		}
	}
	free(p);
}

static void *resize(void *p, size_t n, const char *file, int line)
{
	if (n)
		return realloc(p, n);
	give(p, file, line);
	return NULL;
}

void tls_mem_setup(void)
{
	CRYPTO_set_mem_functions(take, resize, give);
}

void tls_mem_keep(bool on)
{
	keeps = on;
	if (on)
		return;
	free(spare);
	spare = lent = NULL;
}
