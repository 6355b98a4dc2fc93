/* SPDX-License-Identifier: MIT */
/* log.h - where C code writes its log lines. Any thread.
 *
 * One line, one fact, without a newline. Lines go to the sink the logic thread has set (core/bind/bind_log.c hands them
 * to the Lua sinks, in order, through its lane); before that, to standard error from level info upwards.
 * Peers' text is escaped and cut short here, so a caller may pass it with %.*s. Never pass passwords, keys or bodies.
 */
#ifndef COUPLET_LOG_H
#define COUPLET_LOG_H

enum log_level { LOG_DEBUG_, LOG_INFO_, LOG_WARN_, LOG_ERROR_ };

/* source: the name lines are filtered by, for example "net" or "c2s". */
void log_write(enum log_level level, const char *source, const char *format, ...) __attribute__((format(printf, 3, 4)));

#define log_debug(...) log_write(LOG_DEBUG_, __VA_ARGS__)
#define log_info(...)  log_write(LOG_INFO_, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_WARN_, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR_, __VA_ARGS__)

/* The sink is called on the thread that logs; text is borrowed and NUL-ended. NULL: back to standard error. */
void log_set_sink(void (*sink)(enum log_level level, const char *source, const char *text));
/* Lines below this level are not even formatted. */
void log_set_level(enum log_level level);
const char *log_level_name(enum log_level level);

#endif
