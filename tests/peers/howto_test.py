# SPDX-License-Identifier: MIT
"""docs/federation.md is followed to the letter, at other addresses: its files are written, its commands run, what it promises happens."""
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from federation import User  # noqa: E402
from server import BUILD, DEADLINE, SOURCE, sanitizer_environment  # noqa: E402

NET = "127.%d.%d." % (random.randint(1, 254), random.randint(1, 254))
BLOCKS = [(kind, words.strip(), text.replace("127.0.0.", NET)) for kind, words, text in
          re.findall(r"\n```(\w+)([^\n]*)\n(.*?\n)```", (pathlib.Path(SOURCE) / "docs/federation.md").read_text(), re.S)]
DIR = pathlib.Path(tempfile.mkdtemp(prefix="couplet-howto-"))
ROOT = os.geteuid() == 0
started = []


def block(kind, words=""):
    """The next block of the page, which must be that one."""
    got = BLOCKS.pop(0)
    equal(got[:2], (kind, words))
    return got[2]


def sh(text, code=0):
    if ROOT:
        text = text.replace("couplet --config", "couplet --root --config")
    r = subprocess.run(["bash", "-ec", text], cwd=DIR, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       timeout=DEADLINE * 2, env={**os.environ, **sanitizer_environment(), "PATH": "%s/bin:%s" % (BUILD, os.environ["PATH"])})
    equal((r.returncode, r.stdout if r.returncode != code else ""), (code, ""))
    return r.stdout


def ctl(name, *words):
    return sh("coupletctl --config %s.lua %s" % (name, " ".join(words)))


def wait_for(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it does not happen")
        time.sleep(0.05)


def user(name, host, number):
    class Server:
        port, address, hosts = 5222, NET + str(number), [host]
    return User.login(None, Server, name)


def reached(u, domain, error=None):
    wait_for(lambda: u.ping(domain).pong(domain) == error)


def edit(old, new):
    file = DIR / "verona.lua"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


@test("certificates, configuration, start")
def begin():
    sh(block("sh"))
    (DIR / "verona.lua").write_text(block("lua", "verona.lua"))
    out = sh(block("sh"))
    assert "verona.lua: all is well" in out and "certificates: all is well" in out and "of your own cafile" in out, out
    start = block("sh", "start")
    for line in start.splitlines():
        line = line.rstrip(" &").replace("couplet --config", "exec couplet --root --config" if ROOT else "exec couplet --config")
        started.append(subprocess.Popen(["bash", "-c", line], cwd=DIR, stdin=subprocess.DEVNULL, stdout=open(DIR / "out", "ab"),
                                        stderr=subprocess.STDOUT, env={**os.environ, **sanitizer_environment(),
                                                                       "PATH": "%s/bin:%s" % (BUILD, os.environ["PATH"])}))
    wait_for(lambda: all("is up" in (DIR / (name + ".log")).read_text() for name in ("verona", "mantua") if (DIR / (name + ".log")).exists())
             and (DIR / "mantua.log").exists() and (DIR / "verona.log").exists())
    assert "mantua.lab: all is well" in sh(block("sh"))


@test("users talk, and s2s list shows how")
def talk():
    romeo, juliet = user("romeo", "verona.lab", 2), user("juliet", "mantua.lab", 3)
    reached(romeo, "mantua.lab")
    reached(juliet, "verona.lab")
    out = sh(block("sh", "talk"))
    assert re.search("verona.lab +-> mantua.lab .*EXTERNAL", out) and re.search("verona.lab +<- mantua.lab .*EXTERNAL", out), out
    romeo.close()
    juliet.close()


@test("a list ends the streams, refuses, and is told; without it all is as before")
def lists():
    text = block("lua", "list")
    edit('VirtualHost "verona.lab"', text + '\nVirtualHost "verona.lab"')
    assert "0 connections" in sh(block("sh"))
    romeo = user("romeo", "verona.lab", 2)
    reached(romeo, "mantua.lab", "not-allowed")
    assert "a stanza to mantua.lab is refused: s2s_blacklist" in (DIR / "verona.log").read_text()
    assert "s2s_blacklist names mantua.lab" in sh("coupletctl --config verona.lua check connectivity mantua.lab", 1)
    edit('s2s_blacklist = { "mantua.lab" }', "s2s_blacklist = { }")
    ctl("verona", "reload")
    reached(romeo, "mantua.lab")
    romeo.close()


@test("a certificate is mended: reload, or s2s close, and the next attempt is made at once")
def mended():
    romeo = user("romeo", "verona.lab", 2)
    good = {name: (DIR / "certs" / name).read_bytes() for name in ("mantua.lab.crt", "mantua.lab.key")}
    for remedy in ("reload",), ("s2s", "close", "mantua.lab"):
        for suffix in "crt", "key":
            (DIR / "certs" / ("mantua.lab." + suffix)).write_bytes((DIR / ("ca." + suffix)).read_bytes())
        ctl("mantua", "reload")
        ctl("verona", "s2s", "close", "all")
        assert romeo.ping("mantua.lab").pong("mantua.lab") == "remote-server-timeout"
        for name, content in good.items():
            (DIR / "certs" / name).write_bytes(content)
        ctl("mantua", "reload")
        assert romeo.ping("mantua.lab").pong("mantua.lab") == "remote-server-timeout"
        ctl("verona", *remedy)
        ctl("mantua", "s2s", "close", "verona.lab")
        assert romeo.ping("mantua.lab").pong("mantua.lab") is None
    romeo.close()


@test("a component answers users of both servers")
def component():
    with open(DIR / "verona.lua", "a") as f:
        f.write("\n" + block("lua", "component"))
    ctl("verona", "reload")
    (DIR / "bot.py").write_text(block("python", "bot.py"))
    started.append(subprocess.Popen([sys.executable, "bot.py"], cwd=DIR, stdin=subprocess.DEVNULL, stdout=open(DIR / "out", "ab"),
                                    stderr=subprocess.STDOUT))
    wait_for(lambda: "component bot.verona.lab connected" in (DIR / "verona.log").read_text())
    for u in (user("romeo", "verona.lab", 2), user("juliet", "mantua.lab", 3)):
        u.send("<message type='chat' to='echo@bot.verona.lab' id='m'><body>But soft!</body></message>")
        u.expect("<message[^>]*from='echo@bot.verona.lab'.*?You said: But soft!")
        u.close()


@test("Debian's Prosody instead of the second one; the end")
def prosody():
    ctl("mantua", "stop")
    text = block("lua", "mantua.cfg.lua")
    (DIR / "mantua.cfg.lua").write_text(("run_as_root = true\n" if ROOT else "") + text)
    (DIR / "mantua-data").mkdir()
    wait_for(lambda: started[1].poll() is not None)
    started.append(subprocess.Popen(["prosody", "-F", "--config", "mantua.cfg.lua"], cwd=DIR, stdin=subprocess.DEVNULL,
                                    stdout=open(DIR / "out", "ab"), stderr=subprocess.STDOUT, env={**os.environ, "PWD": str(DIR)}))
    romeo = user("romeo", "verona.lab", 2)
    reached(romeo, "mantua.lab")
    romeo.close()
    end = block("sh", "end").splitlines()
    assert "stopping" in sh(end[0])
    wait_for(lambda: started[0].poll() is not None)
    equal(started[0].returncode, 0)
    equal(BLOCKS, [])


try:
    failed = done()
    if failed:
        for name in ("out", "verona.log", "mantua.log", "prosody.log"):
            if (DIR / name).exists():
                print("==== %s\n%s" % (name, (DIR / name).read_text(errors="replace")[-3000:]), file=sys.stderr)
finally:
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
    if not os.environ.get("COUPLET_KEEP"):
        shutil.rmtree(DIR, ignore_errors=True)
sys.exit(failed != 0)
