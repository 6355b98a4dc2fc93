/* SPDX-License-Identifier: MIT */
/* log.c - where C code writes its log lines. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

typedef void sink_fn(enum log_level, const char *, const char *);

static _Atomic(sink_fn *) sink_set;
static atomic_int lowest = LOG_INFO_;

void log_set_sink(sink_fn *sink)
{
	atomic_store(&sink_set, sink);
}

void log_set_level(enum log_level level)
{
	atomic_store(&lowest, (int)level);
}

const char *log_level_name(enum log_level level)
{
	static const char *const names[] = { "debug", "info", "warn", "error" };
	return names[level];
}

void log_write(enum log_level level, const char *source, const char *format, ...)
{
	if ((int)level < atomic_load_explicit(&lowest, memory_order_relaxed))
		return;
	char text[1024];
	va_list args;
	va_start(args, format);
	int n = vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (n < 0)
		return;
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';               /* a peer must not start a line of its own */
	sink_fn *sink = atomic_load(&sink_set);
	if (sink)
		sink(level, source, text);
	else
		fprintf(stderr, "%s %s: %s\n", log_level_name(level), source, text);
}
