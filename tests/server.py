# SPDX-License-Identifier: MIT
"""server.py - a real Couplet for a test: own directory, own ports, ready when it says so, checked when it ends.

    with Server(accounts={"romeo@localhost": "secret"}, config="c2s_timeout = 5") as s:
        s.port, s.tls_port          # STARTTLS and direct TLS on 127.0.0.1
        s.ctl("status")             # coupletctl; returns (exit code, output)

COUPLET_TEST_STORAGE=postgres puts everything stored into PostgreSQL: COUPLET_TEST_POSTGRES names the directory of one that runs
(tests/postgres.py), else this process starts its own; each Server gets a database.

COUPLET_BUILD names the build directory (default: build); a sanitizer build is run with its runtime preloaded. Leaving the
block stops the server and raises if it did not exit with 0 or a sanitizer complained.
"""
import functools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

SOURCE = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("COUPLET_BUILD", "build"))
if not BUILD.is_absolute():
    BUILD = SOURCE / BUILD
SANITIZER = {"build-asan": "asan", "build-tsan": "tsan"}.get(BUILD.name)
DEADLINE = 120 if SANITIZER else 60      # seconds: for starting, stopping, and one answer

CONFIG = """
run_as_root = true
data_path = "{dir}/data"
certificates = "{dir}/certs"
plugin_paths = {{ "{source}/tests/helpers/plugins" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
c2s_direct_tls_ports = {{ {tls_port} }}
s2s_ports = {{ }}
s2s_direct_tls_ports = {{ }}
disallow_s2s = true
log = {{ {{ levels = {{ min = "debug" }}, to = "file", filename = "{dir}/couplet.log" }} }}
test_accounts = {{ {accounts} }}
"""
MODULES = ["disco", "roster", "saslauth", "tls", "private", "vcard", "ping", "register", "time", "uptime", "version",
           "lastactivity", "adhoc", "admin_adhoc", "server_info", "smacks", "test_accounts"]


_reserved = []


def free_port():
    """One that is ours to the end of this process, below the range from which the system takes ports for outgoing connections: one
    of those could be taken by a client of another test before our server has it. The port stays bound, not listening: a
    second free_port(), in whatever process, does not get it; a server that says SO_REUSEADDR, as all do, does."""
    while True:
        port = random.SystemRandom().randrange(10000, 32000)
        tcp = socket.socket()
        try:
            tcp.bind(("127.0.0.1", port))                   # not shared yet: fails if anybody else has bound it
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                udp.bind(("127.0.0.1", port))               # DNS wants both
        except OSError:
            tcp.close()
            continue
        _reserved.append(tcp)
        return port


def fair_clock(*servers):
    """Seconds of a clock that stands while this process, or a thread of these servers, could run and others have the processors: for
    tests that say how long something may take."""
    tasks = ["/proc/self", *("/proc/%d/task/%s" % (s.process.pid, t) for s in servers for t in os.listdir("/proc/%d/task" % s.process.pid))]
    return time.monotonic() - sum(int(pathlib.Path(t + "/schedstat").read_text().split()[1]) for t in tasks) / 1e9


@functools.cache
def sanitizer_environment():
    if not SANITIZER:
        return {}
    lib = lambda name: subprocess.run(["gcc", "-print-file-name=" + name], capture_output=True, text=True).stdout.strip()
    if SANITIZER == "asan":
        preload = lib("libasan.so") + ":" + lib("libubsan.so")
        # 16 MB of freed memory are watched, not 256: pages of it that are touched for the first time were a third of the time.
        options = {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0:exitcode=99:quarantine_size_mb=16", "UBSAN_OPTIONS": "print_stacktrace=1"}
    else:
        # Not libev: in the scope of the whole process its libevent names are taken for libevent's, and libunbound calls them.
        preload = lib("libtsan.so")
        options = {"TSAN_OPTIONS": "exitcode=99:halt_on_error=0:suppressions=%s/tests/tsan.supp" % SOURCE}
    # Only lua5.4 itself is preloaded; shells and compilers around it are not instrumented.
    return {"COUPLET_WRAP": "env LD_PRELOAD=%s" % preload, **options}


_certificate = None


def certificate():
    """A self-signed P-256 certificate for the hosts of the tests; made once per process."""
    global _certificate
    if not _certificate:
        d = tempfile.mkdtemp(prefix="couplet-cert-")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "30", "-subj", "/CN=localhost", "-addext",
                        "subjectAltName=DNS:localhost,DNS:verona.example,DNS:*.verona.example,IP:127.0.0.1",
                        "-keyout", d + "/key.pem", "-out", d + "/cert.pem"], check=True, capture_output=True)
        import atexit
        atexit.register(shutil.rmtree, d, True)
        _certificate = d
    return _certificate


_postgres = None


def storage():
    """The configuration of the storage that COUPLET_TEST_STORAGE names, new and empty."""
    global _postgres
    kind = os.environ.get("COUPLET_TEST_STORAGE", "internal")
    if kind == "internal":
        return ""
    if kind != "postgres":
        raise RuntimeError("COUPLET_TEST_STORAGE is internal or postgres, not " + kind)
    from postgres import Postgres
    if not _postgres:
        running = os.environ.get("COUPLET_TEST_POSTGRES")
        _postgres = Postgres(dir=running)
        if not running:
            import atexit
            atexit.register(_postgres.close)
    return 'storage = "sql"\n' + _postgres.option(database=_postgres.new_database())


class Server:
    def __init__(self, config="", accounts=None, modules=(), hosts='VirtualHost "localhost"\n', template=CONFIG, env=None, keep=False):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="couplet-test-"))
        self.port, self.tls_port = 0, 0              # chosen by the system when the server starts
        self.env = {**os.environ, **sanitizer_environment(), **(env or {})}
        self.process = None
        self.keep = keep or bool(os.environ.get("COUPLET_KEEP"))
        (self.dir / "certs").mkdir()
        for name, file in (("cert.pem", "localhost.crt"), ("key.pem", "localhost.key")):
            shutil.copy(certificate() + "/" + name, self.dir / "certs" / file)
        os.chmod(self.dir / "certs" / "localhost.key", 0o600)
        listed = ", ".join('["%s"] = "%s"' % item for item in (accounts or {}).items())
        text = template.format(dir=self.dir, source=SOURCE, port=self.port, tls_port=self.tls_port, accounts=listed)
        text += "modules_enabled = { %s }\n" % ", ".join('"%s"' % m for m in [*MODULES, *modules])
        self.config = self.dir / "config.lua"
        self.config.write_text(text + (storage() if "storage" not in config else "") + config + "\n" + hosts)

    def program(self, name):
        return str(BUILD / "bin" / name)

    def start(self):
        notify = str(self.dir / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as n:
            n.bind(notify)
            n.settimeout(0.25)
            self.stderr = open(self.dir / "stderr", "ab")
            self.process = subprocess.Popen([self.program("couplet"), "--config", str(self.config)], stdin=subprocess.DEVNULL,
                                            stdout=self.stderr, stderr=self.stderr, env={**self.env, "NOTIFY_SOCKET": notify},
                                            cwd=self.dir)
            end = time.monotonic() + DEADLINE
            while True:
                try:
                    if b"READY=1" in n.recv(4096):
                        break
                except TimeoutError:
                    pass
                if self.process.poll() is not None or time.monotonic() > end:
                    self.kill()
                    raise RuntimeError("couplet did not start:\n" + self.output())
        os.unlink(notify)
        self.find_ports()
        return self

    def find_ports(self):
        """The log says which ports it got; without such a log coupletctl does."""
        found = dict(re.findall(r" (c2s\w*) listens on \S+ port (\d+)", self.log()))
        if not found:
            found = {p["service"]: p["port"] for p in json.loads(self.ctl("--json", "status")[1])["ports"]}
        self.port, self.tls_port = int(found.get("c2s", 0)), int(found.get("c2s_direct_tls", 0))

    def output(self):
        out = ""
        for name in ("stderr", "couplet.log"):
            f = self.dir / name
            if f.exists():
                out += "--- %s\n%s" % (name, f.read_text(errors="replace")[-8000:])
        return out

    def log(self):
        f = self.dir / "couplet.log"
        return f.read_text(errors="replace") if f.exists() else ""

    def ctl(self, *args, input=None):
        r = subprocess.run([self.program("coupletctl"), "--config", str(self.config), *args], input=input, capture_output=True,
                           text=True, env=self.env, timeout=DEADLINE, cwd=self.dir)
        return r.returncode, r.stdout + r.stderr

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self):
        """SIGTERM, then everything that could be wrong with how it ended."""
        if not self.process:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.kill()
                raise RuntimeError("couplet did not stop:\n" + self.output())
        code, self.process = self.process.returncode, None
        self.stderr.close()
        text = (self.dir / "stderr").read_text(errors="replace")
        for bad in ("AddressSanitizer", "runtime error:", "ThreadSanitizer", "LeakSanitizer"):
            if bad in text:
                raise RuntimeError("sanitizer:\n" + text[-12000:])
        if code != 0:
            raise RuntimeError("couplet ended with %d:\n%s" % (code, self.output()))

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        try:
            if kind:
                self.kill()
                print(self.output()[-6000:])
            else:
                self.stop()
        finally:
            if not self.keep:
                shutil.rmtree(self.dir, ignore_errors=True)
