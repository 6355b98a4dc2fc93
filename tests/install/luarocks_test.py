#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Installs a copy of the sources the two ways there are, without network, and uses what was installed from an empty directory:
`luarocks make` into a tree of its own, and `cmake --install` below a prefix."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1]), str(pathlib.Path(__file__).resolve().parents[1] / "wire")]
from check import done, equal, test
from server import SOURCE, Server
from talk import Client

os.umask(0o022)
DIR = pathlib.Path(tempfile.mkdtemp(prefix="couplet-install-"))
# A namespace without network where we may have one; and no proxy that answers, for what asks politely.
OFFLINE = next((u for u in (["unshare", "-n"], ["unshare", "-rn"])
                if shutil.which("unshare") and subprocess.run([*u, "true"], capture_output=True).returncode == 0), [])
ENV = {k: v for k, v in os.environ.items() if not k.startswith(("LUA", "COUPLET"))}
ENV.update(http_proxy="http://127.0.0.1:9", https_proxy="http://127.0.0.1:9", HOME=str(DIR))
CONFIG = """
run_as_root = true
data_path = "{dir}/data"
certificates = "{dir}/certs"
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
c2s_direct_tls_ports = {{ {tls_port} }}
s2s_ports = {{ }}
s2s_direct_tls_ports = {{ }}
log = {{ debug = "{dir}/couplet.log" }}
allow_registration = true
"""


def run(*argv, env=ENV, cwd=DIR, input=None):
    p = subprocess.run([*map(str, argv)], env=env, cwd=cwd, input=input, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if p.returncode:
        raise AssertionError("%s: exit code %d\n%s" % (" ".join(map(str, argv)), p.returncode, p.stdout[-6000:]))
    return p.stdout


def checkout():
    """What a checkout holds, without what was built in it."""
    source = DIR / "source"
    if not source.exists():
        shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("build", "build-*", "build.luarocks", "data", "certs", "node_modules", ".git"))
    return source


class Talk:
    def __init__(self, server, accounts):
        self.server, self.accounts, self.kept = server, accounts, {}


class Installed(Server):
    """A server of tests/server.py whose programs are the installed ones."""
    def __init__(self, bin):
        super().__init__(template=CONFIG)
        self.bin, self.env = bin, ENV
        self.config.write_text(self.config.read_text().replace('"test_accounts"', ""))

    def program(self, name):
        return str(self.bin / name)


def use(bin):
    """Start, make an account, register another over the wire, chat, restart, stop: with the installed programs alone."""
    accounts = {"romeo@localhost": "but soft", "juliet@localhost": "wherefore"}
    with Installed(bin) as s:
        equal(s.ctl("adduser", "romeo@localhost", input="but soft\n"), (0, "romeo@localhost is ready\n"))
        talk = Talk(s, accounts)
        new = Client("juliet", talk)
        new.connect(tls=True)
        new.open_stream()
        new.send("<iq type='set' id='r'><query xmlns='jabber:iq:register'><username>juliet</username>"
                 "<password>wherefore</password></query></iq>")
        new.expect("<iq type='result' id='r'/>")
        new.sock.close()
        juliet, romeo = Client("juliet", talk), Client("romeo", talk)
        for c in (juliet, romeo):
            c.login(c.name, "home")
            c.send("<presence/>")
            c.expect("<presence from='%s@localhost/home'/>" % c.name)
        romeo.send("<message to='juliet@localhost' type='chat'><body>But soft!</body></message>")
        juliet.expect("<message from='romeo@localhost/home' type='chat'><body>But soft!</body></message>")
        for c in (juliet, romeo):
            c.send("</stream:stream>")
            c.sock.close()
        code, text = s.ctl("status")
        equal(code, 0)
        assert "host localhost" in text, text
        equal(s.ctl("check", "config"), (0, "%s: all is well\n" % s.config))
        assert "not installed" not in s.log() and " error " not in s.log(), s.log()[-4000:]
        s.stop()
        s.start()
        juliet.login("juliet", "home")
        juliet.sock.close()
        equal(s.ctl("stop")[0], 0)
        equal(s.process.wait(20), 0)


@test("luarocks make, without network")
def luarocks():
    tree = DIR / "tree"
    source = checkout()
    run(*OFFLINE, "luarocks", "--lua-version", "5.4", "--tree", tree, "make", "rockspec/couplet-scm-1.rockspec", cwd=source)
    exports = run("luarocks", "--lua-version", "5.4", "--tree", tree, "path")
    equal(run("sh", "-c", exports + "\nlua5.4 -e 'print(require(\"couplet.jid\").bare(\"a@b/c\"))'").strip(), "a@b")
    shown = run("luarocks", "--lua-version", "5.4", "--tree", tree, "show", "couplet")
    assert "couplet scm-1" in shown, shown
    shutil.rmtree(source)                # nothing may be left of it in what was installed
    use(tree / "bin")


@test("luarocks: external dependencies are looked for before building")
def external():
    # The name of the header is all that a missing -dev package would change.
    source = checkout()
    spec = source / "rockspec/couplet-scm-1.rockspec"
    spec.write_text(spec.read_text().replace('header = "expat.h"', 'header = "no_such_expat.h"'))
    p = subprocess.run(["luarocks", "--lua-version", "5.4", "--tree", DIR / "other", "make", spec.name], env=ENV, cwd=spec.parent,
                       capture_output=True, text=True)
    assert p.returncode != 0 and "EXPAT" in p.stderr, (p.returncode, p.stdout, p.stderr)


@test("cmake --install")
def cmake():
    prefix = DIR / "prefix"
    run("cmake", "--install", SOURCE / "build", "--prefix", prefix)
    for name in ("share/doc/couplet/config.lua", "share/doc/couplet/config.md", "share/doc/couplet/couplet.service",
                 "share/bash-completion/completions/coupletctl"):
        assert (prefix / name).is_file(), name
    use(prefix / "bin")


code = done()
shutil.rmtree(DIR)
sys.exit(code != 0)
