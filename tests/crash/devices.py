# SPDX-License-Identifier: MIT
"""devices.py - clients that count: numbered messages under stream management (XEP-0198), over real TCP, through cuts and crashes.

Sender sends 1, 2, 3 … to one address and keeps what the server has acknowledged; Receiver keeps the numbers it gets. Both go on by
themselves after a break: by resumption where the server knows the session, else with a new one (what was not acknowledged is
given up then: it may have arrived or not). archive() reads an archive by MAM.
"""
import base64
import collections
import pathlib
import random
import select
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "wire"))
from server import DEADLINE  # noqa: E402
from talk import HEADER, Reader  # noqa: E402

SM, MAM, RSM = "urn:xmpp:sm:3", "urn:xmpp:mam:2", "http://jabber.org/protocol/rsm"
STANZAS = ("message", "presence", "iq")
CONFIG = """
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
max_archive_query_results = 500
archive_expires_after = "never"
smacks_hibernation_time = 300
c2s_connection_rate = 0
c2s_max_connections_per_ip = 0
log = { { levels = { min = "info" }, to = "file", filename = "couplet.log" } }
"""


class Broken(Exception):
    """The connection is gone."""


class Device:
    def __init__(self, server, user, resource="device", presence=True):
        self.server, self.user, self.resource, self.presence = server, user, resource, presence
        self.socket, self.token = None, None
        self.counting, self.heard, self.unacked, self.h = False, 0, collections.deque(), 0
        self.resumptions, self.sessions = 0, 0

    # -- bytes

    def write(self, text):
        try:
            self.socket.sendall(text.encode())
        except OSError as e:
            raise Broken from e

    def read(self, timeout):
        """Elements that have come, waiting for the first of them at most so long."""
        if not self.reader.events and select.select([self.socket], [], [], timeout)[0]:
            try:
                data = self.socket.recv(65536)
            except OSError as e:
                raise Broken from e
            if not data:
                raise Broken
            self.reader.feed(data)
        events = self.reader.events
        while events:                                 # who stops in between finds the rest next time
            event = events.pop(0)
            if event[0] == "end":
                raise Broken
            if event[0] == "element":
                yield from self.take(event[1])

    def take(self, node):
        """Deals with stream management; hands on the rest."""
        if node.ns == SM and node.name == "r":
            self.write("<a xmlns='%s' h='%d'/>" % (SM, self.heard))
        elif node.ns == SM and node.name == "a":
            self.acknowledged(int(node.attrs["h"]))
        elif node.ns.endswith("streams") and node.name == "error":
            raise Broken
        else:
            if self.counting and node.name in STANZAS:
                self.heard += 1
            yield node

    def wait_for(self, *names):
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            for node in self.read(0.5):
                if node.name in names:
                    return node
                self.got(node)
        raise AssertionError("%s: no %s within %d s" % (self.user, " or ".join(names), DEADLINE))

    def got(self, node):
        pass

    # -- stream management

    def acknowledged(self, h):
        while self.h < h:
            self.h += 1
            self.kept(self.unacked.popleft())

    def kept(self, xml):
        pass

    def given_up(self, xml):
        pass

    def send(self, xml):
        self.unacked.append(xml)
        self.write(xml)

    # -- a stream

    def stream(self):
        self.reader = Reader()
        self.write(HEADER)
        self.wait_for("features")

    def open(self):
        self.close()
        self.socket = socket.create_connection(("127.0.0.1", self.server.port), timeout=DEADLINE)
        self.counting = False
        self.stream()
        secret = base64.b64encode(("\0%s\0secret" % self.user).encode()).decode()
        self.write("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%s</auth>" % secret)
        if self.wait_for("success", "failure").name == "failure":
            raise AssertionError("%s may not log in" % self.user)
        self.stream()
        if self.token and self.resume():
            return
        self.write("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>%s</resource></bind></iq>"
                   % self.resource)
        self.wait_for("iq")
        for xml in self.unacked:
            self.given_up(xml)
        self.unacked.clear()
        self.h = self.heard = 0
        self.write("<enable xmlns='%s' resume='true'/>" % SM)
        self.token = self.wait_for("enabled").attrs["id"]
        self.counting = True
        self.sessions += 1
        if self.presence:
            self.send("<presence/>")

    def resume(self):
        self.write("<resume xmlns='%s' h='%d' previd='%s'/>" % (SM, self.heard, self.token))
        answer = self.wait_for("resumed", "failed")
        if "h" in answer.attrs:
            self.acknowledged(int(answer.attrs["h"]))
        if answer.name == "failed":
            self.token = None
            return False
        self.counting = True
        self.resumptions += 1
        for xml in self.unacked:
            self.write(xml)
        return True

    def close(self, cut=False):
        if self.socket:
            if cut:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.socket.close()
            self.socket = None


class Worker(Device, threading.Thread):
    """A device in a thread of its own: lives until told to finish, over all breaks."""

    def __init__(self, *args, cut=0, **more):
        Device.__init__(self, *args, **more)
        threading.Thread.__init__(self, daemon=True)
        self.up, self.finishing, self.trouble = threading.Event(), threading.Event(), None
        self.cut, self.random = cut, random.Random(self.user)
        self.up.set()

    def run(self):
        try:
            while not self.over():
                self.up.wait(DEADLINE)
                try:
                    self.open()
                    until = time.monotonic() + self.random.uniform(0.2, 2) * self.cut if self.cut else float("inf")
                    while not self.over():
                        self.step()
                        if time.monotonic() > until and not self.finishing.is_set():
                            raise Broken
                except (Broken, OSError):
                    self.close(cut=True)
                    time.sleep(0.02)                      # the server may be on its way down
        except BaseException as e:                        # noqa: B902 - shown by the test
            self.trouble = e
        finally:
            self.close()


class Sender(Worker):
    WINDOW = 40

    def __init__(self, server, user, to, **more):
        super().__init__(server, user, **more)
        self.to, self.number, self.acked, self.lost = to, 0, [], []

    @staticmethod
    def number_of(xml):
        return int(xml.partition("<body>")[2].partition("<")[0] or 0)

    def kept(self, xml):
        if "<body>" in xml:
            self.acked.append(self.number_of(xml))

    def given_up(self, xml):
        if "<body>" in xml:
            self.lost.append(self.number_of(xml))

    def step(self):
        if not self.finishing.is_set() and len(self.unacked) < self.WINDOW:
            for _ in range(self.random.randint(1, 8)):
                self.number += 1
                self.send("<message to='%s@localhost' type='chat' id='%s-%d'><body>%d</body></message>"
                          % (self.to, self.user, self.number, self.number))
        self.write("<r xmlns='%s'/>" % SM)
        for node in self.read(0.05):
            self.got(node)

    def got(self, node):
        if node.name == "message" and node.attrs.get("type") == "error":
            raise AssertionError("%s got an error: %s" % (self.user, node))

    def over(self):
        return self.finishing.is_set() and not self.unacked


class Receiver(Worker):
    def __init__(self, server, user, **more):
        super().__init__(server, user, **more)
        self.numbers, self.last, self.ended = [], None, threading.Event()

    def step(self):
        for node in self.read(0.1):
            self.got(node)

    def got(self, node):
        if node.name == "message":
            for child in node.elements():
                if child.name == "body":
                    self.numbers.append(int(child.text()))
        if self.finishing.is_set() and self.numbers and self.numbers[-1] == self.last:
            self.ended.set()

    def over(self):
        if self.finishing.is_set() and self.numbers and self.numbers[-1] == self.last:
            self.ended.set()
        return self.ended.is_set()


def archive(server, user):
    """Numbers of all messages in the account's archive, as pages of MAM give them."""
    device, numbers, after = Device(server, user, "reader", presence=False), [], None
    device.open()
    while True:
        device.write("<iq type='set' id='q'><query xmlns='%s'><set xmlns='%s'><max>500</max>%s</set></query></iq>"
                     % (MAM, RSM, "<after>%s</after>" % after if after else ""))
        answer = None
        while answer is None:
            for node in device.read(DEADLINE):
                if node.name == "iq":
                    answer = node
                elif node.name == "message":
                    message = node.elements()[0].elements()[0].elements()[-1]
                    numbers += [int(c.text()) for c in message.elements() if c.name == "body"]
        if answer.attrs["type"] != "result":
            raise AssertionError(str(answer))
        fin = answer.elements()[0]
        if fin.attrs.get("complete") == "true":
            device.close()
            return numbers
        after = [c.text() for c in fin.elements()[0].elements() if c.name == "last"][0]


def check_archive(numbers, acked, who):
    """Acknowledged: there, once, in order. -> how many are there that were not acknowledged"""
    if sorted(set(numbers)) != numbers:
        raise AssertionError("%s: twice, or out of order: %s" % (who, [b for a, b in zip(numbers, numbers[1:]) if b <= a][:20]))
    missing = sorted(set(acked) - set(numbers))
    if missing:
        raise AssertionError("%s: %d acknowledged messages are missing: %s" % (who, len(missing), missing[:20]))
    return len(numbers) - len(set(acked))
