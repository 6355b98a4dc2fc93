/* SPDX-License-Identifier: MIT */
/* bind_files.c - couplet.core.system, second half: files, directories, local sockets.
 *
 * Every call that the system can refuse returns nil, message, errno instead. Paths with a NUL in them are refused.
 *   stat(path[, "link"])        -> { type, size, mode, uid, gid, mtime, atime, ctime, ino, dev, nlink } | nil, …
 *                               type: file directory link socket fifo char block; "link" does not follow symbolic links
 *   list(path)                  -> array of names without . and .. | nil, …    (unsorted)
 *   glob(pattern)               -> sorted array of paths; dot-files only if asked for
 *   mkdir(path[, mode])  rmdir(path)  unlink(path)  rename(from, to)  link(from, to)  symlink(target, path)  chmod(path, mode)
 *   chown(path, uid, gid)       touch(path[, atime, mtime])    realpath(path)    access(path, "rwx"-subset)
 *   read_file(path[, max])      -> content | nil, …; more than max bytes (default 16 MiB) is refused
 *   write_file(path, data[, mode])   whole or not at all: temporary file beside it, fsync, rename, fsync of the directory
 *   pidfile(path)               -> descriptor holding a lock until close or exit | nil, message. Writes our process id
 *   listen(path[, mode])        -> descriptor of a listening local stream socket (a dead one in its place is replaced)
 *   accept(fd)                  -> descriptor, uid of the peer | nil, "again"
 *   connect(path)               -> descriptor | nil, …
 *   recv(fd, max)               -> bytes; "" at the end | nil, "again"
 *   send(fd, data[, from])      -> count taken | nil, "again"
 *   wait(fd, "r"|"w", seconds)  -> whether it became ready; for the ctl program, never in the server
 *   close(fd)
 */
#include <errno.h>
#include <dirent.h>
#include <fcntl.h>
#include <glob.h>
#include <lauxlib.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "bind/bind_files.h"

#include "base/mem.h"
#include "base/status.h"
#include "bind/bind.h"

enum { READ_PORTION = 65536 };

static int done(lua_State *L, int result, const char *path)
{
	return luaL_fileresult(L, result >= 0, path);
}

static const char *path_arg(lua_State *L, int arg)
{
	size_t n;
	const char *path = luaL_checklstring(L, arg, &n);
	luaL_argcheck(L, strlen(path) == n, arg, "path with a NUL in it");
	return path;
}

static int again(lua_State *L)
{
	if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
		return luaL_fileresult(L, 0, NULL);
	lua_pushnil(L);
	lua_pushliteral(L, "again");
	return 2;
}

/* --- looking --- */

static int files_stat(lua_State *L)
{
	static const char *const how[] = { "follow", "link", NULL };
	const char *path = path_arg(L, 1);
	struct stat s;
	if ((luaL_checkoption(L, 2, "follow", how) ? lstat(path, &s) : stat(path, &s)) < 0)
		return done(L, -1, path);
	const char *type = S_ISREG(s.st_mode) ? "file" : S_ISDIR(s.st_mode) ? "directory" : S_ISLNK(s.st_mode) ? "link"
		: S_ISSOCK(s.st_mode) ? "socket" : S_ISFIFO(s.st_mode) ? "fifo" : S_ISCHR(s.st_mode) ? "char" : "block";
	const struct { const char *name; lua_Integer value; } fields[] = {
		{ "size", s.st_size }, { "mode", s.st_mode & 07777 }, { "uid", s.st_uid }, { "gid", s.st_gid },
		{ "mtime", s.st_mtim.tv_sec }, { "atime", s.st_atim.tv_sec }, { "ctime", s.st_ctim.tv_sec },
		{ "ino", (lua_Integer)s.st_ino }, { "dev", (lua_Integer)s.st_dev }, { "nlink", (lua_Integer)s.st_nlink },
	};
	lua_createtable(L, 0, 11);
	lua_pushstring(L, type);
	lua_setfield(L, -2, "type");
	for (int i = 0; i < COUNT(fields); i++) {
		lua_pushinteger(L, fields[i].value);
		lua_setfield(L, -2, fields[i].name);
	}
	return 1;
}

/* Names are gathered before Lua is asked for memory, so that an error raised there leaks nothing but them. */
struct names {
	char **list;
	int n, cap;
};

static int push_names(lua_State *L)      /* protected */
{
	struct names *names = lua_touserdata(L, 1);
	lua_createtable(L, names->n, 0);
	for (int i = 0; i < names->n; i++) {
		lua_pushstring(L, names->list[i]);
		lua_rawseti(L, -2, i + 1);
	}
	return 1;
}

static int files_list(lua_State *L)
{
	const char *path = path_arg(L, 1);
	DIR *dir = opendir(path);
	if (!dir)
		return done(L, -1, path);
	struct names names = { 0 };
	for (struct dirent *e; (e = readdir(dir)); ) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (names.n == names.cap) {
			names.cap = names.cap ? names.cap * 2 : 16;
			names.list = mem_resize(names.list, sizeof *names.list * (size_t)names.cap);
		}
		names.list[names.n++] = mem_copy(e->d_name, strlen(e->d_name));
	}
	closedir(dir);
	lua_pushcfunction(L, push_names);
	lua_pushlightuserdata(L, &names);
	int failed = lua_pcall(L, 1, 1, 0);
	for (int i = 0; i < names.n; i++)
		free(names.list[i]);
	free(names.list);
	return failed ? lua_error(L) : 1;
}

static int files_glob(lua_State *L)
{
	glob_t g;
	int st = glob(path_arg(L, 1), 0, NULL, &g);
	if (st && st != GLOB_NOMATCH) {
		lua_pushnil(L);
		lua_pushstring(L, st == GLOB_NOSPACE ? "out of memory" : "cannot read directory");
		return 2;
	}
	struct names names = { st ? NULL : g.gl_pathv, st ? 0 : (int)g.gl_pathc, 0 };
	lua_pushcfunction(L, push_names);
	lua_pushlightuserdata(L, &names);
	int failed = lua_pcall(L, 1, 1, 0);
	globfree(&g);
	return failed ? lua_error(L) : 1;
}

static int files_realpath(lua_State *L)
{
	char path[PATH_MAX];
	if (!realpath(path_arg(L, 1), path))
		return done(L, -1, lua_tostring(L, 1));
	lua_pushstring(L, path);
	return 1;
}

static int files_access(lua_State *L)
{
	int mode = 0;
	for (const char *p = luaL_optstring(L, 2, ""); *p; p++)
		mode |= *p == 'r' ? R_OK : *p == 'w' ? W_OK : *p == 'x' ? X_OK : 0;
	return done(L, faccessat(AT_FDCWD, path_arg(L, 1), mode, AT_EACCESS), lua_tostring(L, 1));
}

/* --- changing --- */

static int files_mkdir(lua_State *L) { return done(L, mkdir(path_arg(L, 1), (mode_t)luaL_optinteger(L, 2, 0777)), lua_tostring(L, 1)); }
static int files_rmdir(lua_State *L) { return done(L, rmdir(path_arg(L, 1)), lua_tostring(L, 1)); }
static int files_unlink(lua_State *L) { return done(L, unlink(path_arg(L, 1)), lua_tostring(L, 1)); }
static int files_rename(lua_State *L) { return done(L, rename(path_arg(L, 1), path_arg(L, 2)), lua_tostring(L, 2)); }
static int files_link(lua_State *L) { return done(L, link(path_arg(L, 1), path_arg(L, 2)), lua_tostring(L, 2)); }
static int files_symlink(lua_State *L) { return done(L, symlink(path_arg(L, 1), path_arg(L, 2)), lua_tostring(L, 2)); }
static int files_chmod(lua_State *L) { return done(L, chmod(path_arg(L, 1), (mode_t)luaL_checkinteger(L, 2)), lua_tostring(L, 1)); }

static int files_chown(lua_State *L)
{
	return done(L, chown(path_arg(L, 1), (uid_t)luaL_checkinteger(L, 2), (gid_t)luaL_checkinteger(L, 3)), lua_tostring(L, 1));
}

static int files_touch(lua_State *L)
{
	struct timespec t[2] = { { 0, UTIME_NOW }, { 0, UTIME_NOW } };
	for (int i = 0; i < 2; i++)
		if (!lua_isnoneornil(L, 2 + i))
			t[i] = (struct timespec){ (time_t)luaL_checknumber(L, 2 + i), 0 };
	return done(L, utimensat(AT_FDCWD, path_arg(L, 1), t, 0), lua_tostring(L, 1));
}

static int files_read(lua_State *L)
{
	const char *path = path_arg(L, 1);
	lua_Integer max = luaL_optinteger(L, 2, 16 << 20);
	struct stat st;
	size_t left = !stat(path, &st) && st.st_size > 0 && st.st_size < READ_PORTION ? (size_t)st.st_size + 1 : READ_PORTION;
	luaL_Buffer b;
	luaL_buffinit(L, &b);
	char *room = luaL_prepbuffsize(&b, left);        /* before the descriptor: this may raise */
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return done(L, -1, path);
	lua_Integer total = 0;
	ssize_t n;
	while ((n = read(fd, room, left)) > 0 || (n < 0 && errno == EINTR)) {
		if (n < 0)
			continue;
		total += n;
		if (total > max) {
			close(fd);
			lua_pushnil(L);
			lua_pushfstring(L, "%s: larger than %I bytes", path, max);
			return 2;
		}
		luaL_addsize(&b, (size_t)n);
		room += n;
		left -= (size_t)n;
		if (!left)
			room = luaL_prepbuffsize(&b, left = READ_PORTION);
	}
	int saved = errno;
	close(fd);
	errno = saved;
	if (n < 0)
		return done(L, -1, path);
	luaL_pushresult(&b);
	return 1;
}

static int sync_directory(const char *path)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(path, '/');
	if (!slash)
		strcpy(dir, ".");
	else
		snprintf(dir, sizeof dir, "%.*s", slash == path ? 1 : (int)(slash - path), path);
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int st = fsync(fd);
	close(fd);
	return st < 0 && errno != EINVAL ? -1 : 0;       /* some file systems cannot */
}

static int write_all(int fd, struct str data)
{
	while (data.n) {
		ssize_t n = write(fd, data.p, data.n);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		data.p += n;
		data.n -= (size_t)n;
	}
	return 0;
}

static int files_write(lua_State *L)
{
	const char *path = path_arg(L, 1);
	struct str data = bind_check_str(L, 2);
	mode_t mode = (mode_t)luaL_optinteger(L, 3, 0640);
	char temporary[PATH_MAX];
	if (snprintf(temporary, sizeof temporary, "%s.XXXXXX", path) >= (int)sizeof temporary) {
		errno = ENAMETOOLONG;
		return done(L, -1, path);
	}
	int fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0)
		return done(L, -1, path);
	if (write_all(fd, data) < 0 || fchmod(fd, mode) < 0 || fsync(fd) < 0)
		goto fail;
	if (close(fd) < 0) {
		fd = -1;
		goto fail;
	}
	fd = -1;
	if (rename(temporary, path) < 0)
		goto fail;
	return done(L, sync_directory(path), path);

fail:;
	int saved = errno;
	if (fd >= 0)
		close(fd);
	unlink(temporary);
	errno = saved;
	return done(L, -1, path);
}

static int files_pidfile(lua_State *L)
{
	const char *path = path_arg(L, 1);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return done(L, -1, path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		char other[32] = "";
		ssize_t n = read(fd, other, sizeof other - 1);
		close(fd);
		lua_pushnil(L);
		lua_pushfstring(L, "%s is held by process %d", path, n > 0 ? atoi(other) : 0);
		return 2;
	}
	char text[32];
	int n = snprintf(text, sizeof text, "%d\n", (int)getpid());
	if (ftruncate(fd, 0) < 0 || write(fd, text, (size_t)n) != n) {
		int saved = errno;
		close(fd);
		errno = saved;
		return done(L, -1, path);
	}
	lua_pushinteger(L, fd);
	return 1;
}

/* --- local sockets --- */

static int address(lua_State *L, struct sockaddr_un *out)
{
	const char *path = path_arg(L, 1);
	*out = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof out->sun_path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(out->sun_path, path);
	return 0;
}

static int files_listen(lua_State *L)
{
	struct sockaddr_un to;
	mode_t mode = (mode_t)luaL_optinteger(L, 2, 0600);
	if (address(L, &to) < 0)
		return done(L, -1, lua_tostring(L, 1));
	int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (probe < 0)
		return done(L, -1, to.sun_path);
	int alive = connect(probe, (struct sockaddr *)&to, sizeof to) == 0, why = errno;
	close(probe);
	if (alive) {
		errno = EADDRINUSE;
		return done(L, -1, to.sun_path);
	}
	if (why == ECONNREFUSED)
		unlink(to.sun_path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return done(L, -1, to.sun_path);
	mode_t before = umask(0777 & ~mode);             /* never, not even for a moment, open to others */
	int st = bind(fd, (struct sockaddr *)&to, sizeof to);
	umask(before);
	if (st < 0 || listen(fd, 16) < 0) {
		int saved = errno;
		close(fd);
		errno = saved;
		return done(L, -1, to.sun_path);
	}
	lua_pushinteger(L, fd);
	return 1;
}

static int files_accept(lua_State *L)
{
	int fd = accept4((int)luaL_checkinteger(L, 1), NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return again(L);
	struct ucred who = { 0 };
	socklen_t n = sizeof who;
	lua_pushinteger(L, fd);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) < 0)
		return 1;
	lua_pushinteger(L, who.uid);
	return 2;
}

static int files_connect(lua_State *L)
{
	struct sockaddr_un to;
	if (address(L, &to) < 0)
		return done(L, -1, lua_tostring(L, 1));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return done(L, -1, to.sun_path);
	if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
		int saved = errno;
		close(fd);
		errno = saved;
		return done(L, -1, to.sun_path);
	}
	lua_pushinteger(L, fd);
	return 1;
}

static int files_recv(lua_State *L)
{
	int fd = (int)luaL_checkinteger(L, 1);
	char bytes[16384];
	lua_Integer max = luaL_optinteger(L, 2, (lua_Integer)sizeof bytes);
	if (max < 1 || max > (lua_Integer)sizeof bytes)
		max = (lua_Integer)sizeof bytes;
	ssize_t n = recv(fd, bytes, (size_t)max, 0);
	if (n < 0)
		return again(L);
	lua_pushlstring(L, bytes, (size_t)n);
	return 1;
}

static int files_send(lua_State *L)
{
	int fd = (int)luaL_checkinteger(L, 1);
	struct str data = bind_check_str(L, 2);
	lua_Integer from = luaL_optinteger(L, 3, 1);
	luaL_argcheck(L, from >= 1 && (size_t)from <= data.n + 1, 3, "out of range");
	ssize_t n = send(fd, data.p + from - 1, data.n - (size_t)from + 1, MSG_NOSIGNAL);
	if (n < 0)
		return again(L);
	lua_pushinteger(L, n);
	return 1;
}

static int files_wait(lua_State *L)
{
	static const char *const how[] = { "r", "w", NULL };
	struct pollfd p = { .fd = (int)luaL_checkinteger(L, 1) };
	p.events = luaL_checkoption(L, 2, "r", how) ? POLLOUT : POLLIN;
	lua_Number seconds = luaL_optnumber(L, 3, -1);
	lua_pushboolean(L, poll(&p, 1, seconds < 0 ? -1 : (int)(seconds * 1000)) > 0);
	return 1;
}

static int files_close(lua_State *L)
{
	return done(L, close((int)luaL_checkinteger(L, 1)), NULL);
}

void bind_files_add(lua_State *L)
{
	static const luaL_Reg files[] = {
		{ "stat", files_stat }, { "list", files_list }, { "glob", files_glob }, { "realpath", files_realpath },
		{ "access", files_access }, { "mkdir", files_mkdir }, { "rmdir", files_rmdir }, { "unlink", files_unlink },
		{ "rename", files_rename }, { "link", files_link }, { "symlink", files_symlink }, { "chmod", files_chmod },
		{ "chown", files_chown }, { "touch", files_touch }, { "read_file", files_read }, { "write_file", files_write },
		{ "pidfile", files_pidfile }, { "listen", files_listen }, { "accept", files_accept }, { "connect", files_connect },
		{ "recv", files_recv }, { "send", files_send }, { "wait", files_wait }, { "close", files_close }, { NULL, NULL },
	};
	luaL_setfuncs(L, files, 0);
}
