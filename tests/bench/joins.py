#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""joins.py [OCCUPANTS [AT_ONCE]] [--plain] [--io N] [--option 'x = y']…: what it costs when many come into one room, over STARTTLS:
CPU time of the server for all of it, how long it takes until everybody has seen everybody, and what a client elsewhere notices of
it (ping). Then messages to all, at 5 a second: how long until the last one has it. --profile: perf record of the joins in /tmp."""
import argparse
import multiprocessing
import os
import pathlib
import select
import ssl
import subprocess
import sys
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parent.parent)]
import client  # noqa: E402
import server  # noqa: E402

args = argparse.ArgumentParser()
args.add_argument("occupants", nargs="?", type=int, default=1000)
args.add_argument("at_once", nargs="?", type=int, default=16)
args.add_argument("--io", type=int, default=0)
args.add_argument("--option", action="append", default=[])
args.add_argument("--messages", type=int, default=25)
args.add_argument("--profile", action="store_true")
args = args.parse_args()
N, ACCOUNTS = args.occupants, 100
END, JOIN = b"</presence>", "<presence to='big@rooms.localhost/n%d'><x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x></presence>"


class Occupant:
    def __init__(self, i, port):
        self.i, self.client = i, client.Client(port, "u%d@localhost" % (i % ACCOUNTS), resource="r%d" % i)
        self.client.sock.setblocking(False)
        self.seen, self.rest, self.joined = 0, b"", False

    def read(self, what):
        """-> how many of what have come."""
        n = 0
        while True:
            try:
                data = self.client.sock.recv(1 << 18)
            except (ssl.SSLWantReadError, BlockingIOError):
                return n
            if not data:
                raise ConnectionError("occupant %d was thrown out" % self.i)
            data = self.rest + data
            n += data.count(what)
            if not self.joined and b"code='110'" in data:
                self.joined = True
            self.rest = data[data.rfind(what) + len(what):][-400:] if what in data else data[-400:]


def pings(port, pipe):
    """A process of its own: how long answers to pings take, one every 10 ms, from the first word in the pipe to the next."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(2))
    except PermissionError:
        print("the client elsewhere may have to wait for a CPU itself: only root's does not", file=sys.stderr)
    c = client.Client(port, "u0@localhost", resource="elsewhere")
    c.send("<iq type='get' id='first' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>").expect("id='first'")
    out = []
    pipe.send("ready")
    pipe.recv()
    while not pipe.poll(0.01):
        started = time.monotonic()
        c.send("<iq type='get' id='p%d' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>" % len(out)).expect("id='p%d'" % len(out))
        out.append(time.monotonic() - started)
    pipe.send(out)


def quantile(values, q):
    return sorted(values)[min(len(values) - 1, int(len(values) * q))] * 1000


config = client.UNLIMITED + "io_threads = %d\n" % args.io
hosts = 'VirtualHost "localhost"\nComponent "rooms.localhost" "muc"\nmuc_room_locking = false\n' + "\n".join(args.option) + "\n"
with server.Server(config=config, hosts=hosts, accounts={"u%d@localhost" % i: "secret" for i in range(ACCOUNTS)}) as s:
    people = [Occupant(i, s.port) for i in range(N)]
    poll = select.epoll()
    by_fd = {}
    for o in people:
        by_fd[o.client.sock.fileno()] = o
        poll.register(o.client.sock.fileno(), select.EPOLLIN)

    def turn(what):
        for fd, _ in poll.poll(1):
            by_fd[fd].seen += by_fd[fd].read(what)

    pipe, theirs = multiprocessing.Pipe()
    pinger = multiprocessing.Process(target=pings, args=(s.port, theirs))
    pinger.start()
    pipe.recv()
    pipe.send("go")
    if args.profile:
        perf = subprocess.Popen(["perf", "record", "-o", "/tmp/joins.perf", "-g", "-p", str(s.process.pid)], stderr=subprocess.DEVNULL)
    before, started, sent = client.cpu(s), time.monotonic(), 0
    while sent < N or not all(o.seen >= N for o in people):
        while sent < N and sum(not o.joined for o in people[:sent]) < args.at_once:
            people[sent].client.send(JOIN % sent)
            sent += 1
        turn(END)
    wall, cpu = time.monotonic() - started, client.cpu(s) - before
    pipe.send("stop")
    waits = pipe.recv()
    pinger.join()
    if args.profile:
        perf.terminate()
        perf.wait()
    print("%d joins into one room: %.2f s CPU, %.2f s until all have seen all; %.2f µs a presence; elsewhere p99 %.0f ms, longest %.0f ms" % (
        N, cpu, wall, cpu / N / N * 1e6, quantile(waits, 0.99), max(waits) * 1000), flush=True)
    late, END = [], b"</message>"
    while poll.poll(1):
        turn(END)
    for o in people:
        o.seen = 0
    before = client.cpu(s)
    begun = time.monotonic()
    for i in range(args.messages):
        while time.monotonic() < begun + i / 5:
            if poll.poll(0.01):
                turn(END)
        started = time.monotonic()
        people[i % N].client.send("<message to='big@rooms.localhost' type='groupchat' id='m%d'><body>message %d</body></message>" % (i, i))
        while not all(o.seen > i for o in people):
            turn(END)
        late.append(time.monotonic() - started)
    print("%d messages to %d: %.2f µs CPU a delivery; the last one has it after p50 %.0f ms, p99 %.0f ms" % (
        args.messages, N, (client.cpu(s) - before) / args.messages / N * 1e6, quantile(late, 0.5), quantile(late, 0.99)))
    for o in people:
        o.client.sock.close()
