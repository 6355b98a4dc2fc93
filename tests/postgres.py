#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""postgres.py - a PostgreSQL server of a test's own, in a directory of its own, on a free port and a Unix socket.

    with Postgres() as pg:
        pg.option()                # sql = { … } for config.lua
        pg.query("SELECT 1")       # text, by psql
        pg.stop("immediate"); pg.start()
        os.kill(pg.pid(), signal.SIGSTOP)

For tests in Lua (tests/postgres.lua): `postgres.py run [NAME=VALUE…]` starts one, prints its directory and port, and stops it
when its parent ends; `postgres.py start|stop DIR [MODE]`.

PostgreSQL does not run as root, so root starts it as the user postgres. fsync is off unless a setting says otherwise: what
tests kill is the server, not the machine.
"""
import ctypes
import glob
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from server import free_port

USER, PASSWORD, DATABASE = "couplet", "o'Neill \\ 1", "couplet"
SETTINGS = {"fsync": "off", "listen_addresses": "127.0.0.1", "max_connections": "60", "shared_buffers": "16MB",
            "log_min_messages": "fatal", "autovacuum": "off", "unix_socket_permissions": "0777", "logging_collector": "off"}


def binary(name):
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/" + name), key=lambda p: int(p.split("/")[4]))
    return found[-1] if found else shutil.which(name) or name


class Postgres:
    def __init__(self, settings=None, dir=None):
        self.dir = pathlib.Path(dir or tempfile.mkdtemp(prefix="couplet-pg-"))
        self.data = self.dir / "data"
        self.user, self.watcher = [], None
        if os.getuid() == 0:
            who = pwd.getpwnam("postgres")
            self.user = ["setpriv", "--reuid=%d" % who.pw_uid, "--regid=%d" % who.pw_gid, "--clear-groups"]
        if dir:
            self.port = int((self.dir / "port").read_text())
            return
        self.port = free_port()
        (self.dir / "port").write_text(str(self.port))
        (self.dir / "password").write_text(PASSWORD)
        if self.user:
            shutil.chown(self.dir, "postgres")
        self.dir.chmod(0o755)
        self.run("initdb", "-D", self.data, "-U", USER, "--pwfile", self.dir / "password", "-A", "scram-sha-256",
                 "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
        with open(self.data / "postgresql.conf", "a") as f:
            own = {"unix_socket_directories": str(self.dir), "port": str(self.port)}
            for name, value in {**SETTINGS, **own, **(settings or {})}.items():
                f.write("%s = '%s'\n" % (name, value))
        self.watch()
        self.start()
        self.query("CREATE DATABASE %s" % DATABASE, database="postgres")

    def run(self, name, *args):
        r = subprocess.run([*self.user, binary(name), *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, cwd="/")
        if r.returncode:
            log = self.dir / "log"
            raise RuntimeError("%s: %s%s" % (name, r.stdout, log.read_text() if log.exists() else ""))
        return r.stdout

    def watch(self):
        """Somebody who ends it when this process has ended, however that was: then the pipe to him closes."""
        ours, self.pipe = os.pipe()
        stop = [*self.user, binary("pg_ctl"), "-D", str(self.data), "-m", "immediate", "-s", "stop"]
        text = 'cat; d="$1"; shift; p="$d/data/postmaster.pid"; [ ! -e "$p" ] || { kill -CONT "$(head -n 1 "$p")"; "$@"; }; rm -rf "$d"'
        null = subprocess.DEVNULL
        self.watcher = subprocess.Popen(["sh", "-c", text, "sh", str(self.dir), *stop], stdin=ours, stdout=null, stderr=null,
                                        cwd="/", start_new_session=True)
        os.close(ours)

    def start(self):
        # Not in our session: a terminal's Ctrl-C ends the test first. Output of its own, or whoever reads ours waits for it.
        # After kill -9 it refuses while children of its predecessor are ending.
        null, end = subprocess.DEVNULL, time.monotonic() + 60
        while subprocess.run([*self.user, binary("pg_ctl"), "-D", self.data, "-l", self.dir / "log", "-w", "-s", "start"],
                             stdin=null, stdout=null, stderr=null, cwd="/", start_new_session=True).returncode:
            if time.monotonic() > end:
                raise RuntimeError("PostgreSQL does not start:\n" + (self.dir / "log").read_text())
            time.sleep(0.05)

    def stop(self, mode="fast"):
        self.run("pg_ctl", "-D", self.data, "-m", mode, "-w", "-s", "stop")

    def pid(self):
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def query(self, sql, database=DATABASE):
        r = subprocess.run([binary("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", self.dir, "-p", str(self.port), "-U", USER,
                            "-d", database, "-c", sql], capture_output=True, text=True, env={**os.environ, "PGPASSWORD": PASSWORD})
        if r.returncode:
            raise RuntimeError(r.stderr)
        return r.stdout.strip()

    def new_database(self):
        name = "test%d_%d" % (os.getpid(), time.monotonic_ns())
        self.query("CREATE DATABASE %s TEMPLATE template0" % name, database="postgres")
        return name

    def option(self, **more):
        values = {"driver": "PostgreSQL", "database": DATABASE, "username": USER, "password": PASSWORD, "host": "127.0.0.1",
                  "port": self.port, **more}
        quoted = lambda v: str(v) if isinstance(v, int) else '"%s"' % v.replace("\\", "\\\\").replace('"', '\\"')
        return "sql = { %s }\n" % ", ".join("%s = %s" % (k, quoted(v)) for k, v in values.items())

    def close(self):
        try:
            if (self.data / "postmaster.pid").exists():
                os.kill(self.pid(), signal.SIGCONT)
                self.stop("immediate")
        finally:
            if self.watcher:
                os.close(self.pipe)
                self.watcher.wait()
                self.watcher = None
            shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def main(argv):
    if argv[0] != "run":
        pg = Postgres(dir=argv[1])
        getattr(pg, argv[0])(*argv[2:])
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)       # PR_SET_PDEATHSIG: when the test ends, however it ends
    with Postgres(dict(a.split("=", 1) for a in argv[1:])) as pg:
        print(pg.dir, pg.port, flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        while os.getppid() == parent and pg.dir.exists():
            time.sleep(0.2)


if __name__ == "__main__":
    main(sys.argv[1:])
