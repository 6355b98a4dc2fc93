#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""publish.py [CONTACTS [PUBLISHES]] [--io N] [--only-couplet] [--window N,…]: what it costs to tell all contacts of an account about an item it
publishes (XEP-0163), over STARTTLS: CPU time of the server per notification, and how long until the last contact has it. Prosody and
ejabberd beside Couplet, if MEASURE (default ../shared/measure) has their start scripts. --window: so many publishes, by as many
accounts with the same contacts, that not all have been told of yet (default 1: the next one when the last contact has the one
before). Rosters are made at the start, which takes minutes for 16 publishers with 1000 contacts. --profile: perf record in /tmp/publish.perf."""
import argparse
import base64
import hashlib
import os
import pathlib
import re
import select
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
import types

here = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(here), str(here.parent)]
import client  # noqa: E402
import server  # noqa: E402

args = argparse.ArgumentParser(description=__doc__)
args.add_argument("contacts", nargs="?", type=int, default=1000)
args.add_argument("publishes", nargs="?", type=int, default=20)
args.add_argument("--io", type=int, default=0)
args.add_argument("--only-couplet", action="store_true")
args.add_argument("--window", default="1", type=lambda text: [int(n) for n in text.split(",")])
args.add_argument("--profile", action="store_true")
args = args.parse_args()
N, PUBLISHERS = args.contacts, max(args.window)
NODE, PAYLOAD = "http://jabber.org/protocol/tune", "<tune xmlns='http://jabber.org/protocol/tune'><title>number %d</title></tune>"
DISCO, FEATURES = "http://jabber.org/protocol/disco#info", sorted(["http://jabber.org/protocol/disco#info", NODE + "+notify"])
VERSION = base64.b64encode(hashlib.sha1(("client/pc//bench<" + "".join(f + "<" for f in FEATURES)).encode()).digest()).decode()
PRESENCE = "<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='http://bench.example' ver='%s'/></presence>" % VERSION
INFO = "<query xmlns='%s' node='http://bench.example#%s'><identity category='client' type='pc' name='bench'/>%s</query>" % (
    DISCO, VERSION, "".join("<feature var='%s'/>" % f for f in FEATURES))


class Contact:
    """A client that says what it wants to be told of when it is asked, and counts."""

    def __init__(self, i, port):
        self.c = client.Client(port, "user%d@localhost" % i)
        self.sock, self.rest, self.told, self.got = self.c.sock, b"", 0, b""
        self.sock.setblocking(False)

    def send(self, text):
        self.c.send(text)

    def read(self):
        while True:
            try:
                data = self.sock.recv(1 << 18)
            except (ssl.SSLWantReadError, BlockingIOError):
                return
            if not data:
                raise ConnectionError("a contact was thrown out")
            data = self.rest + data
            whole = data.rfind(b">") + 1
            self.rest, data = data[whole:], data[:whole]
            self.got = (self.got + data)[-100000:]
            self.told += data.count(b"</message>")
            for query in re.findall(rb"<iq [^>]*type=['\"]get['\"][^>]*><query[^>]*disco#info", data):
                id = re.search(rb" id=['\"]([^'\"]*)", query)[1].decode()
                to = re.search(rb" from=['\"]([^'\"]*)", query)
                self.send("<iq type='result' id='%s'%s>%s</iq>" % (id, " to='%s'" % to[1].decode() if to else "", INFO))


def measure(name, port, process):
    people = [Contact(i, port) for i in range(N + PUBLISHERS)]
    poll, by_fd = select.epoll(), {p.sock.fileno(): p for p in people}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)

    def until(done, seconds=60):
        end = time.monotonic() + seconds
        while not done():
            for fd, _ in poll.poll(0.2):
                by_fd[fd].read()
            if time.monotonic() > end:
                raise TimeoutError("%s: %s" % (name, people[1].got[-500:]))

    owners, contacts = people[:PUBLISHERS], people[PUBLISHERS:]
    for p in people:
        p.send(PRESENCE)

    def heard(some):                            # until what they have said is done: they ask something and have the answer
        for p in some:
            p.got = b""
            p.send("<iq type='get' id='heard'><query xmlns='jabber:iq:roster'/></iq>")
        until(lambda: all(b"heard" in p.got for p in some))

    # Everybody is the owners' friend: that way the server learns what they want to be told of. In parts: requests that wait are bounded.
    for at in range(0, N, 50):
        some = contacts[at:at + 50]
        for i in range(PUBLISHERS):
            for p in some:
                p.send("<presence type='subscribe' to='user%d@localhost'/>" % i)
        heard(some)
        for owner in owners:
            for i in range(PUBLISHERS + at, PUBLISHERS + at + len(some)):
                owner.send("<presence type='subscribed' to='user%d@localhost'/><presence type='subscribe' to='user%d@localhost'/>" % (i, i))
        heard(owners)
        for i in range(PUBLISHERS):
            for p in some:
                p.send("<presence type='subscribed' to='user%d@localhost'/>" % i)
        heard(some)
    for p in people:
        p.send(PRESENCE)

    def publish(i, owner=owners[0]):
        owner.send("<iq type='set' id='p%d'><pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='%s'><item id='current'>%s</item></publish>"
                   "</pubsub></iq>" % (i, NODE, PAYLOAD % i))

    end = time.monotonic() + 60
    while True:                                 # until a first one reaches everybody: the servers ask about caps in their own time
        for p in contacts:
            p.told = 0
        publish(-1)
        try:
            until(lambda: all(p.told for p in contacts), 5)
            break
        except TimeoutError:
            if time.monotonic() > end:
                raise TimeoutError("%s tells %d of %d" % (name, sum(p.told > 0 for p in contacts), N))
    # What logins leave behind is not a publish's: idle streams' parsers go back after 4 s, then the collector makes a round.
    at, used = time.monotonic(), -1
    while client.cpu(process) - used > 0.01 and time.monotonic() < at + 30:
        used = client.cpu(process)
        until(lambda: not poll.poll(5))
    if args.profile and name == "Couplet":
        perf = subprocess.Popen(["perf", "record", "-o", "/tmp/publish.perf", "-g", "-p", str(process.process.pid)], stderr=subprocess.DEVNULL)
    for window in args.window:
        for p in contacts:
            p.told = 0
        before, started, waits, n = client.cpu(process), [], [], 0

        def told():                             # looked at closely only when it may be true
            return sum(p.told for p in contacts) >= N * (n + 1) and all(p.told > n for p in contacts)

        while n < args.publishes:
            while len(started) < min(n + window, args.publishes):
                publish(len(started), owners[len(started) % window])
                started.append(time.monotonic())
            until(told)
            while n < len(started) and told():
                waits.append(time.monotonic() - started[n])
                n += 1
        cpu = client.cpu(process) - before
        print("%-8s window %2d: %6.1f µs CPU a notification; the last of %d contacts has it after %.0f ms (median of %d)" % (
            name, window, cpu / args.publishes / N * 1e6, N, sorted(waits)[len(waits) // 2] * 1000, args.publishes), flush=True)
    if args.profile and name == "Couplet":
        perf.terminate()
        perf.wait()
    for p in people:
        p.sock.close()


config = client.UNLIMITED + "io_threads = %d\n" % args.io
with server.Server(config=config, modules=["pep"], accounts={"user%d@localhost" % i: "secret" for i in range(N + PUBLISHERS)}) as s:
    measure("Couplet", s.port, s)
shared = pathlib.Path(os.environ.get("MEASURE", server.SOURCE.parent / "shared/measure"))
for name in () if args.only_couplet else ("prosody", "ejabberd"):
    run, port = tempfile.mkdtemp(prefix="couplet-bench-"), server.free_port()
    env = {**os.environ, "ACCOUNTS": str(N + PUBLISHERS), "PROSODY_GC": 'mode = "generational"'}
    try:
        subprocess.run(["sh", str(shared / "peers" / name / "start.sh"), run, str(port)], env=env, check=True, stdout=subprocess.DEVNULL)
        pid = int(pathlib.Path(run, "pids").read_text())
        measure(name, port, types.SimpleNamespace(process=types.SimpleNamespace(pid=pid)))
    finally:
        subprocess.run(["sh", str(shared / "peers/stop.sh"), run])
        shutil.rmtree(run, ignore_errors=True)
