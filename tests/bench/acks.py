#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""acks.py [--postgres] [SECONDS [RATE]]: how long a sender waits for the acknowledgement (XEP-0198) of an archived
message, that is, until both copies are on disk: 20 senders, RATE (1000) messages a second in all, each followed by <r/>; TCP
without TLS. Times are counted from when a message was due.
"""
import os
import pathlib
import re
import selectors
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "crash"))
from devices import CONFIG, SM, Device  # noqa: E402
from postgres import Postgres  # noqa: E402
from server import Server  # noqa: E402

SENDERS = 20
ACK = re.compile(rb"<a [^>]*h=['\"](\d+)['\"]")
BODY = "x" * 100


class Client(Device):
    def start(self):
        self.open()
        while self.h < 1:                            # its own presence
            self.write("<r xmlns='%s'/>" % SM)
            for _ in self.read(1):
                pass
        self.due, self.rest = [], b""
        self.socket.setblocking(False)

    def message(self, number, due):
        self.due.append(due)
        to = "user%d@localhost" % ((int(self.user[4:]) + 1) % SENDERS)
        data = "<message to='%s' type='chat' id='m%d'><body>%s</body></message><r xmlns='%s'/>" % (to, number, BODY, SM)
        if self.socket.send(data.encode()) != len(data):
            raise RuntimeError("the server does not read")

    def come(self, now):
        data = self.rest + self.socket.recv(1 << 20)
        waits, end = [], 0
        for m in ACK.finditer(data):
            end, h = m.end(), int(m.group(1)) - 1    # one was the presence
            while self.h - 1 < h:
                waits.append(now - self.due[self.h - 1])
                self.h += 1
        self.rest = data[max(end, len(data) - 200):]
        return waits


def run(server, seconds, rate):
    clients = [Client(server, "user%d" % i) for i in range(SENDERS)]
    selector = selectors.DefaultSelector()
    for client in clients:
        client.start()
        selector.register(client.socket, selectors.EVENT_READ, client)
    waits, sent, begin = [], 0, time.monotonic() + 0.2
    total, warm = int(seconds * rate), rate
    end = begin + seconds + 30
    while len(waits) < total and time.monotonic() < end:
        now = time.monotonic()
        while sent < total and begin + sent / rate <= now:
            clients[sent % SENDERS].message(sent, begin + sent / rate)
            sent += 1
        wait = max(0, begin + sent / rate - time.monotonic()) if sent < total else 1
        for key, _ in selector.select(wait):
            waits += key.data.come(time.monotonic())
    if len(waits) < total:
        raise SystemExit("%d of %d acknowledged" % (len(waits), total))
    waits = sorted(waits[warm:])
    print("%d messages, %d/s: acknowledged after p50 %.1f p90 %.1f p99 %.1f p99.9 %.1f max %.1f ms; load %.1f" % (
        (total, rate) + tuple(1000 * waits[min(len(waits) - 1, int(len(waits) * q))] for q in (0.5, 0.9, 0.99, 0.999, 1))
        + (os.getloadavg()[0],)))


def main():
    arguments = [a for a in sys.argv[1:] if a != "--postgres"]
    seconds, rate = float(arguments[0]) if arguments else 10, int(arguments[1]) if len(arguments) > 1 else 1000
    accounts = {"user%d@localhost" % i: "secret" for i in range(SENDERS)}

    def measure():
        with Server(config=CONFIG + "limits = {}\n", accounts=accounts, modules=["mam", "smacks"]) as server:
            run(server, seconds, rate)

    if "--postgres" not in sys.argv:
        return measure()
    with Postgres({"fsync": "on"}) as pg:
        os.environ.update(COUPLET_TEST_STORAGE="postgres", COUPLET_TEST_POSTGRES=str(pg.dir))
        measure()


main()
