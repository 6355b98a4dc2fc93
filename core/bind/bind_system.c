/* SPDX-License-Identifier: MIT */
/* bind_system.c - couplet.core.system: the process and the machine around it. Files and sockets: bind_files.c.
 *
 * Every call that the system can refuse returns nil, message, errno instead.
 *   pid() ppid() uid() gid()           integers; uid() and gid() give the effective id
 *   user(name|uid)                     -> { name, uid, gid, home, shell } | nil
 *   group(name|gid)                    -> { name, gid } | nil
 *   become(name[, group])              drops root for good; CAP_NET_BIND_SERVICE stays. Before any thread starts
 *   umask(mode) -> previous            chdir(path)    cwd()    hostname()    uname() -> { sysname, nodename, release, version, machine }
 *   rlimit(name[, soft[, hard]])       -> soft, hard (after setting them, if given). name: "NOFILE", "CORE", …; "unlimited" is -1
 *   usage()                            -> { user, system: CPU seconds; rss, virtual: bytes; fds, threads }
 *   memory()                           -> { allocated, used, free }: mallinfo2 and the heap below
 *   heap() -> bool                     Lua's small objects live in a heap of their own from now on (base/heap.h); false: not here
 *   environment(name, value|nil)       setenv, unsetenv
 *   kill(pid, signal)                  signal: number or name; 0 asks whether the process is there
 *   raise(signal)
 *   isatty(fd)    password(prompt)     -> what was typed on the terminal without echo, or one line of standard input
 *   syslog_open(name, facility)  syslog(level, text)  syslog_close()    level: debug info warn error
 *   notify(text)                       -> true | false: whether a service manager listens (NOTIFY_SOCKET)
 *   on_stop(seconds)                   -> descriptor, readable from the first SIGTERM or SIGINT on. seconds later the process
 *                                      ends with 0, whatever it is doing; a SIGINT that comes a second or more after the first
 *                                      of them ends it at once. Sooner it is the same request: the terminal sends SIGINT to a
 *                                      whole group, and a script that runs the server adds a SIGTERM or SIGINT of its own
 *   stop_signal()                      -> name of the signal that came, or nil
 *   stop_within(seconds)               the same last deadline for a stop asked for otherwise
 *   trim() -> boolean                  gives free heap back to the system, a bounded part of it: is there more?
 *   exit(code)                         at once: buffers are written, nothing is torn down under running threads
 *   versions() -> { openssl, expat, sqlite, icu, libev, zlib, sasl }
 *   make_certificate({ host, … }, days) -> certificate, key (PEM)     self-made, ECDSA P-256
 */
#include <dirent.h>
#include <errno.h>
#include <ev.h>
#include <expat.h>
#include <fcntl.h>
#include <grp.h>
#include <lauxlib.h>
#include <linux/capability.h>
#include <limits.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <pwd.h>
#include <sasl/sasl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <syslog.h>
#include <termios.h>
#include <time.h>
#include <unicode/uversion.h>
#include <unistd.h>
#include <zlib.h>

#include "base/heap.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/status.h"
#include "bind/bind.h"
#include "bind/bind_files.h"
#include "tls/tls_make.h"

static int refused(lua_State *L)
{
	return luaL_fileresult(L, 0, NULL);
}

static int done(lua_State *L, int result)
{
	if (result < 0)
		return refused(L);
	lua_pushboolean(L, 1);
	return 1;
}

static void set_text(lua_State *L, const char *name, const char *value)
{
	lua_pushstring(L, value);
	lua_setfield(L, -2, name);
}

static void set_integer(lua_State *L, const char *name, lua_Integer value)
{
	lua_pushinteger(L, value);
	lua_setfield(L, -2, name);
}

/* --- who we are --- */

static int sys_pid(lua_State *L) { lua_pushinteger(L, getpid()); return 1; }
static int sys_ppid(lua_State *L) { lua_pushinteger(L, getppid()); return 1; }
static int sys_uid(lua_State *L) { lua_pushinteger(L, geteuid()); return 1; }
static int sys_gid(lua_State *L) { lua_pushinteger(L, getegid()); return 1; }

static struct passwd *user_arg(lua_State *L, int arg)
{
	return lua_type(L, arg) == LUA_TNUMBER ? getpwuid((uid_t)lua_tointeger(L, arg)) : getpwnam(luaL_checkstring(L, arg));
}

static struct group *group_arg(lua_State *L, int arg)
{
	return lua_type(L, arg) == LUA_TNUMBER ? getgrgid((gid_t)lua_tointeger(L, arg)) : getgrnam(luaL_checkstring(L, arg));
}

static int sys_user(lua_State *L)
{
	struct passwd *p = user_arg(L, 1);
	if (!p)
		return 0;
	lua_newtable(L);
	set_text(L, "name", p->pw_name);
	set_text(L, "home", p->pw_dir);
	set_text(L, "shell", p->pw_shell);
	set_integer(L, "uid", p->pw_uid);
	set_integer(L, "gid", p->pw_gid);
	return 1;
}

static int sys_group(lua_State *L)
{
	struct group *g = group_arg(L, 1);
	if (!g)
		return 0;
	lua_newtable(L);
	set_text(L, "name", g->gr_name);
	set_integer(L, "gid", g->gr_gid);
	return 1;
}

/* After setuid() the permitted set survives (keepcaps); all but the right to low ports is dropped again. */
static int keep_low_ports(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { { 0 } };
	data[0].permitted = data[0].effective = 1u << CAP_NET_BIND_SERVICE;
	return (int)syscall(SYS_capset, &head, data);
}

static int sys_become(lua_State *L)
{
	struct passwd *p = user_arg(L, 1);
	if (!p) {
		lua_pushnil(L);
		lua_pushfstring(L, "no such user: %s", lua_tostring(L, 1));
		return 2;
	}
	uid_t uid = p->pw_uid;
	gid_t gid = p->pw_gid;
	if (!lua_isnoneornil(L, 2)) {
		struct group *g = group_arg(L, 2);
		if (!g) {
			lua_pushnil(L);
			lua_pushfstring(L, "no such group: %s", lua_tostring(L, 2));
			return 2;
		}
		gid = g->gr_gid;
	}
	if (initgroups(p->pw_name, gid) < 0 || setgid(gid) < 0)
		return refused(L);
	int keep = prctl(PR_SET_KEEPCAPS, 1) == 0;
	if (setuid(uid) < 0)
		return refused(L);
	if (keep) {
		int ok = keep_low_ports();      /* a container may not have it: then low ports fail with a clear message */
		(void)ok;
		prctl(PR_SET_KEEPCAPS, 0);
	}
	return done(L, 0);
}

static int sys_umask(lua_State *L)
{
	lua_pushinteger(L, umask((mode_t)luaL_checkinteger(L, 1)));
	return 1;
}

static int sys_chdir(lua_State *L)
{
	return done(L, chdir(luaL_checkstring(L, 1)));
}

static int sys_cwd(lua_State *L)
{
	char path[4096];
	if (!getcwd(path, sizeof path))
		return refused(L);
	lua_pushstring(L, path);
	return 1;
}

static int sys_hostname(lua_State *L)
{
	char name[256] = "";
	if (gethostname(name, sizeof name - 1) < 0)
		return refused(L);
	lua_pushstring(L, name);
	return 1;
}

static int sys_uname(lua_State *L)
{
	struct utsname u;
	if (uname(&u) < 0)
		return refused(L);
	lua_newtable(L);
	set_text(L, "sysname", u.sysname);
	set_text(L, "nodename", u.nodename);
	set_text(L, "release", u.release);
	set_text(L, "version", u.version);
	set_text(L, "machine", u.machine);
	return 1;
}

static int sys_environment(lua_State *L)
{
	const char *name = luaL_checkstring(L, 1);
	return done(L, lua_isnoneornil(L, 2) ? unsetenv(name) : setenv(name, luaL_checkstring(L, 2), 1));
}

/* --- limits and use --- */

static const char *const limit_names[] = { "CORE", "CPU", "DATA", "FSIZE", "NOFILE", "STACK", "MEMLOCK", "NPROC", "RSS", "AS", NULL };
static const int limit_ids[] = { RLIMIT_CORE, RLIMIT_CPU, RLIMIT_DATA, RLIMIT_FSIZE, RLIMIT_NOFILE, RLIMIT_STACK, RLIMIT_MEMLOCK,
	RLIMIT_NPROC, RLIMIT_RSS, RLIMIT_AS };

static int sys_rlimit(lua_State *L)
{
	int id = limit_ids[luaL_checkoption(L, 1, NULL, limit_names)];
	struct rlimit r;
	if (getrlimit((__rlimit_resource_t)id, &r) < 0)
		return refused(L);
	if (!lua_isnoneornil(L, 2) || !lua_isnoneornil(L, 3)) {
		lua_Integer soft = luaL_optinteger(L, 2, (lua_Integer)r.rlim_cur), hard = luaL_optinteger(L, 3, (lua_Integer)r.rlim_max);
		r.rlim_cur = soft < 0 ? RLIM_INFINITY : (rlim_t)soft;
		r.rlim_max = hard < 0 ? RLIM_INFINITY : (rlim_t)hard;
		if (setrlimit((__rlimit_resource_t)id, &r) < 0)
			return refused(L);
	}
	lua_pushinteger(L, (lua_Integer)r.rlim_cur);    /* RLIM_INFINITY is -1 */
	lua_pushinteger(L, (lua_Integer)r.rlim_max);
	return 2;
}

static int count_entries(const char *path)
{
	DIR *dir = opendir(path);
	if (!dir)
		return -1;
	int n = 0;
	for (struct dirent *e; (e = readdir(dir)); )
		n += e->d_name[0] != '.';
	closedir(dir);
	return n;
}

static int sys_usage(lua_State *L)
{
	struct rusage r;
	long size = 0, resident = 0;
	if (getrusage(RUSAGE_SELF, &r) < 0)
		return refused(L);
	FILE *f = fopen("/proc/self/statm", "re");
	if (f) {
		if (fscanf(f, "%ld %ld", &size, &resident) != 2)
			size = resident = 0;
		fclose(f);
	}
	long page = sysconf(_SC_PAGESIZE);
	lua_newtable(L);
	lua_pushnumber(L, (lua_Number)r.ru_utime.tv_sec + (lua_Number)r.ru_utime.tv_usec / 1e6);
	lua_setfield(L, -2, "user");
	lua_pushnumber(L, (lua_Number)r.ru_stime.tv_sec + (lua_Number)r.ru_stime.tv_usec / 1e6);
	lua_setfield(L, -2, "system");
	set_integer(L, "rss", (lua_Integer)resident * page);
	set_integer(L, "virtual", (lua_Integer)size * page);
	set_integer(L, "fds", count_entries("/proc/self/fd") - 1);      /* not the one that counts */
	set_integer(L, "threads", count_entries("/proc/self/task"));
	return 1;
}

static struct heap *heap;                 /* of the one Lua state there is; lives as long as the process */

static int sys_memory(lua_State *L)
{
	struct mallinfo2 m = mallinfo2();
	size_t held = 0, used = 0;
	if (heap)
		heap_count(heap, &held, &used);
	lua_newtable(L);
	set_integer(L, "allocated", (lua_Integer)(m.arena + m.hblkhd + held));
	set_integer(L, "used", (lua_Integer)(m.uordblks + m.hblkhd + used));
	set_integer(L, "free", (lua_Integer)(m.fordblks + held - used));
	return 1;
}

/* Sanitizers watch malloc(): there it stays. */
static int sys_heap(lua_State *L)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	/* What is large stays malloc's. That gave its free end back to the system in the middle of a collector step: megabytes, 7 to
	 * 12 ms. Now only sys_trim() does, at rest. A fixed threshold for mappings of their own, as this ends its adjusting itself. */
	mallopt(M_TRIM_THRESHOLD, INT_MAX);
	mallopt(M_MMAP_THRESHOLD, 4 * 1024 * 1024);
	void *arg;
	lua_Alloc other = lua_getallocf(L, &arg);
	if (!heap && (heap = heap_new(other, arg)))
		lua_setallocf(L, heap_alloc, heap);
#endif
	lua_pushboolean(L, heap != NULL);
	return 1;
}

static int sys_trim(lua_State *L)
{
	bool more = heap && heap_trim(heap);
	if (!more)
		malloc_trim(0);
	lua_pushboolean(L, more);
	return 1;
}

/* --- signals --- */

static const struct { const char *name; int number; } signals[] = {
	{ "SIGHUP", SIGHUP },   { "SIGINT", SIGINT },   { "SIGQUIT", SIGQUIT }, { "SIGKILL", SIGKILL }, { "SIGTERM", SIGTERM },
	{ "SIGUSR1", SIGUSR1 }, { "SIGUSR2", SIGUSR2 }, { "SIGSTOP", SIGSTOP }, { "SIGCONT", SIGCONT }, { "SIGABRT", SIGABRT },
};

static int signal_arg(lua_State *L, int arg)
{
	if (lua_type(L, arg) == LUA_TNUMBER)
		return (int)luaL_checkinteger(L, arg);
	const char *name = luaL_checkstring(L, arg);
	for (int i = 0; i < COUNT(signals); i++)
		if (!strcmp(signals[i].name, name) || !strcmp(signals[i].name + 3, name))
			return signals[i].number;
	return luaL_argerror(L, arg, "unknown signal");
}

static int sys_kill(lua_State *L)
{
	return done(L, kill((pid_t)luaL_checkinteger(L, 1), signal_arg(L, 2)));
}

static int sys_raise(lua_State *L)
{
	return done(L, raise(signal_arg(L, 1)));
}

/* Stopping must work while a plugin spins: so it is a handler and an alarm, not an event of the loop. */
static int stop_fd = -1;
static volatile sig_atomic_t stop_number, stop_seconds;
static struct timespec stop_since; /* on_stop() alone, which does not interrupt itself */

static void stop_now(const char *text, int code)
{
	ssize_t n = write(STDERR_FILENO, text, strlen(text));
	(void)n;
	_exit(code);
}

static void on_stop(int number)
{
	int saved = errno;
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	double since = (double)(now.tv_sec - stop_since.tv_sec) + (double)(now.tv_nsec - stop_since.tv_nsec) / 1e9;
	if (stop_number && number == SIGINT && since >= 1)
		stop_now("couplet: stopped at once\n", 130);
	if (!stop_number) {
		stop_number = number;
		stop_since = now;
		alarm((unsigned)stop_seconds);
	}
	uint64_t one = 1;
	ssize_t n = write(stop_fd, &one, sizeof one);
	(void)n;
	errno = saved;
}

static void on_alarm(int number)
{
	(void)number;
	stop_now("couplet: stopping took too long, ended\n", 0);
}

static int sys_on_stop(lua_State *L)
{
	stop_seconds = (sig_atomic_t)luaL_checkinteger(L, 1);
	if (stop_fd < 0 && (stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
		return refused(L);
	struct sigaction stop = { .sa_handler = on_stop, .sa_flags = SA_RESTART }, late = { .sa_handler = on_alarm };
	sigaddset(&stop.sa_mask, SIGTERM);
	sigaddset(&stop.sa_mask, SIGINT);
	sigfillset(&late.sa_mask);
	if (sigaction(SIGTERM, &stop, NULL) < 0 || sigaction(SIGINT, &stop, NULL) < 0 || sigaction(SIGALRM, &late, NULL) < 0)
		return refused(L);
	lua_pushinteger(L, stop_fd);
	return 1;
}

static int sys_stop_signal(lua_State *L)
{
	uint64_t count;
	ssize_t n = stop_fd < 0 ? 0 : read(stop_fd, &count, sizeof count);
	(void)n;
	if (!stop_number)
		return 0;
	lua_pushstring(L, stop_number == SIGINT ? "SIGINT" : "SIGTERM");
	return 1;
}

/* For a stop that was asked for otherwise (shell, shutdown()): the same last deadline. */
static int sys_stop_within(lua_State *L)
{
	alarm((unsigned)luaL_checkinteger(L, 1));
	return 0;
}

/* --- terminal --- */

static int sys_isatty(lua_State *L)
{
	lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
	return 1;
}

static int read_line(int fd, char *out, size_t size)
{
	size_t n = 0;
	for (;;) {
		char c;
		ssize_t got = read(fd, &c, 1);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return n ? (int)n : -1;
		if (c == '\n')
			return (int)n;
		if (n < size)
			out[n++] = c;
	}
}

static int sys_password(lua_State *L)
{
	const char *prompt = luaL_optstring(L, 1, "");
	int tty = isatty(STDIN_FILENO) ? open("/dev/tty", O_RDWR | O_CLOEXEC) : -1;
	char line[1024];
	int n;
	if (tty >= 0) {
		struct termios before, silent;
		ssize_t unused = write(tty, prompt, strlen(prompt));
		int changed = tcgetattr(tty, &before) == 0;
		if (changed) {
			silent = before;
			silent.c_lflag &= ~(tcflag_t)ECHO;
			tcsetattr(tty, TCSAFLUSH, &silent);
		}
		n = read_line(tty, line, sizeof line);
		if (changed)
			tcsetattr(tty, TCSAFLUSH, &before);
		unused = write(tty, "\n", 1);
		(void)unused;
		close(tty);
	} else {
		n = read_line(STDIN_FILENO, line, sizeof line);
	}
	if (n < 0)
		lua_pushnil(L);
	else
		lua_pushlstring(L, line, (size_t)n);
	mem_wipe(line, sizeof line);
	return 1;
}

/* --- syslog and the service manager --- */

static char *syslog_name;               /* openlog() keeps the pointer */

static int sys_syslog_open(lua_State *L)
{
	static const char *const names[] = { "daemon", "user", "auth", "local0", "local1", "local2", "local3", "local4", "local5",
		"local6", "local7", NULL };
	static const int ids[] = { LOG_DAEMON, LOG_USER, LOG_AUTH, LOG_LOCAL0, LOG_LOCAL1, LOG_LOCAL2, LOG_LOCAL3, LOG_LOCAL4, LOG_LOCAL5,
		LOG_LOCAL6, LOG_LOCAL7 };
	const char *name = luaL_checkstring(L, 1);
	int facility = ids[luaL_checkoption(L, 2, "daemon", names)];
	closelog();
	free(syslog_name);
	syslog_name = mem_copy(name, strlen(name));
	openlog(syslog_name, LOG_PID, facility);
	return 0;
}

static int sys_syslog(lua_State *L)
{
	static const char *const names[] = { "debug", "info", "notice", "warn", "error", NULL };
	static const int ids[] = { LOG_DEBUG, LOG_INFO, LOG_NOTICE, LOG_WARNING, LOG_ERR };
	syslog(ids[luaL_checkoption(L, 1, "info", names)], "%s", luaL_checkstring(L, 2));
	return 0;
}

static int sys_syslog_close(lua_State *L)
{
	(void)L;
	closelog();
	return 0;
}

static int sys_notify(lua_State *L)
{
	struct str text = bind_check_str(L, 1);
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	size_t n = path ? strlen(path) : 0;
	int sent = 0;
	if (n > 1 && n < sizeof to.sun_path && (path[0] == '/' || path[0] == '@')) {
		memcpy(to.sun_path, path, n);
		if (path[0] == '@')
			to.sun_path[0] = 0;     /* the abstract namespace */
		int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (fd >= 0) {
			socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
			sent = sendto(fd, text.p, text.n, MSG_NOSIGNAL, (struct sockaddr *)&to, len) >= 0;
			close(fd);
		}
	}
	lua_pushboolean(L, sent);
	return 1;
}

static int sys_versions(lua_State *L)
{
	int major, minor, step;
	sasl_version_info(NULL, NULL, &major, &minor, &step, NULL);
	lua_newtable(L);
	set_text(L, "openssl", OpenSSL_version(OPENSSL_VERSION));
	set_text(L, "expat", XML_ExpatVersion());
	set_text(L, "sqlite", sqlite3_libversion());
	set_text(L, "icu", U_ICU_VERSION);
	set_text(L, "zlib", zlibVersion());
	lua_pushfstring(L, "%d.%d", ev_version_major(), ev_version_minor());
	lua_setfield(L, -2, "libev");
	lua_pushfstring(L, "%d.%d.%d", major, minor, step);
	lua_setfield(L, -2, "sasl");
	return 1;
}

static int sys_exit(lua_State *L)
{
	fflush(NULL);
	_exit((int)luaL_optinteger(L, 1, 0));
}

static int sys_make_certificate(lua_State *L)
{
	enum { NAMES_MAX = 64 };
	struct str names[NAMES_MAX];
	luaL_checktype(L, 1, LUA_TTABLE);
	int days = (int)luaL_checkinteger(L, 2), count = (int)lua_rawlen(L, 1);
	luaL_argcheck(L, count > 0 && count <= NAMES_MAX, 1, "needs 1 to 64 names");
	luaL_argcheck(L, days > 0 && days < 100000, 2, "out of range");
	luaL_checkstack(L, count + 4, NULL);
	for (int i = 0; i < count; i++) {               /* they stay on the stack while borrowed */
		lua_rawgeti(L, 1, i + 1);
		luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, 1, "names are strings");
		names[i].p = lua_tolstring(L, -1, &names[i].n);
	}
	struct buf certificate = { 0 }, key = { 0 };
	enum status st = tls_make(names, count, days, &certificate, &key);
	if (st) {
		lua_pushnil(L);
		lua_pushstring(L, st == ST_INVALID ? "a name does not fit into a certificate" : "OpenSSL could not make it");
		return 2;
	}
	lua_pushlstring(L, buf_data(&certificate), certificate.len);
	lua_pushlstring(L, buf_data(&key), key.len);
	buf_free(&certificate);
	buf_wipe(&key);
	return 2;
}

int bind_system_open(lua_State *L)
{
	static const luaL_Reg system[] = {
		{ "pid", sys_pid }, { "ppid", sys_ppid }, { "uid", sys_uid }, { "gid", sys_gid }, { "user", sys_user },
		{ "group", sys_group }, { "become", sys_become }, { "umask", sys_umask }, { "chdir", sys_chdir }, { "cwd", sys_cwd },
		{ "hostname", sys_hostname }, { "uname", sys_uname }, { "environment", sys_environment }, { "rlimit", sys_rlimit },
		{ "usage", sys_usage }, { "memory", sys_memory }, { "heap", sys_heap }, { "trim", sys_trim }, { "kill", sys_kill }, { "raise", sys_raise },
		{ "on_stop", sys_on_stop }, { "stop_signal", sys_stop_signal }, { "stop_within", sys_stop_within },
		{ "isatty", sys_isatty }, { "password", sys_password }, { "syslog_open", sys_syslog_open }, { "syslog", sys_syslog },
		{ "syslog_close", sys_syslog_close }, { "notify", sys_notify },
		{ "exit", sys_exit }, { "versions", sys_versions }, { "make_certificate", sys_make_certificate }, { NULL, NULL },
	};
	luaL_newlib(L, system);
	bind_files_add(L);
	return 1;
}
