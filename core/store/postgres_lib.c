/* SPDX-License-Identifier: MIT */
/* postgres_lib.c - finds libpq and its functions. */
#include "store/postgres_lib.h"

#include <dlfcn.h>
#include <string.h>

struct postgres_lib pq;

bool postgres_lib_load(void)
{
	static bool loaded;
	if (loaded)
		return true;
	void *lib = dlopen("libpq.so.5", RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		return false;
	bool all = true;
	void *f;
#define FIND(name) \
	f = dlsym(lib, "PQ" #name); \
	memcpy(&pq.name, &f, sizeof f); \
	all = all && f;
	POSTGRES_LIB(FIND)
#undef FIND
	return loaded = all;                    /* it stays loaded: nothing of OpenSSL's may go while we use it */
}
