/* SPDX-License-Identifier: MIT */
/* slow_sync.c - a disk that takes its time: preloaded, it lets fsync() and fdatasync() wait as long as the file that SLOW_SYNC
 * names is there.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int later(const char *name, int fd)
{
	const char *file = getenv("SLOW_SYNC");
	while (file && access(file, F_OK) == 0)
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	int (*sync_now)(int);
	*(void **)&sync_now = dlsym(RTLD_NEXT, name);
	return sync_now(fd);
}

int fsync(int fd)
{
	return later("fsync", fd);
}

int fdatasync(int fd)
{
	return later("fdatasync", fd);
}
