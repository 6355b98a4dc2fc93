# SPDX-License-Identifier: MIT
"""What strangers may send: each gets the exact error where the RFC has one, the server's memory stays bounded, and meanwhile
somebody else logs in and gets a message within two seconds."""
import base64
import os
import pathlib
import re
import resource
import socket
import ssl
import struct
import sys
import threading
import time
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from server import DEADLINE, SANITIZER, Server, fair_clock  # noqa: E402
from talk import Client, HEADER, Mismatch  # noqa: E402

STREAM_ERROR = re.compile(rb"<stream:error><([a-z-]+)")
# Seconds of the fair clock: what others do with the machine does not count.
ROUND_TRIP = float(os.environ.get("COUPLET_ROUND_TRIP", "2" if not SANITIZER else "10"))
slowest = 0.0
MEMORY = (64 if not SANITIZER else 512) * 1024 * 1024     # growth allowed over a whole attack
MANY = 10000 if not SANITIZER else 1000


class Raw:
    """A socket and what came back on it."""

    def __init__(self, server, tls=False):
        self.sock = socket.create_connection(("127.0.0.1", server.tls_port if tls else server.port), DEADLINE)
        self.sock.settimeout(DEADLINE)
        self.got = b""
        if tls:
            self.tls()

    def tls(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.sock = context.wrap_socket(self.sock, server_hostname="localhost")

    def send(self, data):
        """False once the server has had enough."""
        try:
            self.sock.sendall(data if isinstance(data, bytes) else data.encode())
            return True
        except OSError:
            return False

    def rest(self):
        """Everything until the server closes; a server that goes on talking or waiting fails the test."""
        try:
            while True:
                data = self.sock.recv(65536)
                if not data:
                    break
                self.got += data
        except TimeoutError:
            raise AssertionError("the server did not close; so far %r" % self.got[-500:])
        except OSError:
            pass                                       # a reset while we were still sending
        return self.got

    def until(self, text):
        while text not in self.got:
            data = self.sock.recv(65536)
            if not data:
                raise AssertionError("closed; so far %r" % self.got[-500:])
            self.got += data
        self.got = self.got[self.got.index(text) + len(text):]
        return self

    def close(self):
        self.sock.close()


def rss(server):
    for line in open("/proc/%d/status" % server.process.pid):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024


class Talk:
    def __init__(self, server):
        self.server, self.kept, self.accounts = server, {}, {"romeo@localhost": "secret", "juliet@localhost": "secret"}


def life_goes_on(server):
    """A fresh login and a message to oneself."""
    started = fair_clock(server)
    c = Client("romeo", Talk(server))
    c.login("romeo", "still-here")
    c.send("<message to='romeo@localhost/still-here' id='x'><body>still here</body></message>")
    c.expect("<message id='x'><body>still here</body></message>")
    took = fair_clock(server) - started
    c.sock.close()
    global slowest
    slowest = max(slowest, took)
    assert took < ROUND_TRIP, "login and round trip took %.2f s" % took


def logged_in(server, username="juliet", res="hostile"):
    c = Client(username, Talk(server))
    c.login(username, res)
    return c


def authenticated(server):
    c = Client("juliet", Talk(server))
    c.connect()
    c.open_stream()
    c.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    c.next()
    c.tls()
    c.open_stream()
    c.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGp1bGlldABzZWNyZXQ=</auth>")
    c.next()
    c.open_stream()
    return c


def condition_of(raw):
    found = STREAM_ERROR.search(raw.rest())
    return found and found.group(1).decode()


FIRST = [    # what is sent right behind the header, what must come back
    ("a DTD", "<!DOCTYPE x [<!ENTITY a 'b'>]><a/>", "restricted-xml|not-well-formed"),
    ("a comment", "<!-- x --><a/>", "restricted-xml"),
    ("a processing instruction", "<?php x ?><a/>", "restricted-xml"),
    ("an undefined entity", "<a>&nbsp;</a>", "restricted-xml|not-well-formed"),
    ("bad UTF-8", b"<a>\xc0\xaf</a>", "not-well-formed|bad-format|unsupported-encoding"),
    ("a surrogate", b"<a>\xed\xa0\x80</a>", "not-well-formed|bad-format|unsupported-encoding"),
    ("a NUL", b"<a>\0</a>", "not-well-formed|bad-format"),
    ("an undeclared prefix", "<x:a/>", "bad-namespace-prefix|not-well-formed"),
    ("mismatched tags", "<a></b>", "not-well-formed"),
    ("text between stanzas", "hello<a/>", "bad-format|not-well-formed|invalid-xml|unsupported-stanza-type"),
    ("a stanza before authentication", "<presence/>", "not-authorized"),
    ("a stream inside a stream", HEADER.split("?>")[1], "not-authorized|unsupported-stanza-type|bad-format|not-well-formed|invalid-xml|invalid-namespace"),
]

for _name, _text, _want in FIRST:
    @test(_name)
    def first(server, text=_text, want=_want):
        raw = Raw(server)
        raw.send(HEADER)
        raw.until(b"</stream:features>")
        raw.send(text)
        got = condition_of(raw)
        assert got in want.split("|"), "%s instead of %s" % (got, want)
        assert raw.got.rstrip().endswith(b"</stream:stream>"), raw.got[-100:]


BEFORE = [   # in place of the header
    ("a DTD before the header", "<?xml version='1.0'?><!DOCTYPE lolz [<!ENTITY lol 'lol'>]>" + HEADER.split("?>")[1], "restricted-xml|not-well-formed"),
    ("UTF-16 declared", HEADER.replace("version='1.0'?", "version='1.0' encoding='UTF-16'?"), "unsupported-encoding"),
    ("Latin-1 declared", HEADER.replace("version='1.0'?", "version='1.0' encoding='ISO-8859-1'?"), "unsupported-encoding"),
    ("HTTP", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "not-well-formed|bad-format|invalid-xml"),
    ("another root", "<html xmlns='http://www.w3.org/1999/xhtml'>", "bad-format|invalid-namespace|not-well-formed|invalid-xml"),
    ("no namespace for the content", "<stream:stream to='localhost' version='1.0' xmlns:stream='http://etherx.jabber.org/streams'>", "invalid-namespace"),
    ("a host that is not here", HEADER.replace("localhost", "nowhere.example"), "host-unknown"),
]

for _name, _text, _want in BEFORE:
    @test(_name)
    def before(server, text=_text, want=_want):
        raw = Raw(server)
        raw.send(text)
        got = condition_of(raw)
        assert got in want.split("|"), "%s instead of %s: %r" % (got, want, raw.got[:300])
        assert b"<stream:stream" in raw.got or b":stream " in raw.got, "an error without a header: %r" % raw.got


def flood(server, start, piece, pieces, tls=False, want=("policy-violation",)):
    """Sends start, then piece over and over; the server must end it, and its memory must not grow with what is sent."""
    before = rss(server)
    raw = Raw(server, tls)
    raw.send(start)
    sent = 0
    while sent < pieces and raw.send(piece):
        sent += 1
    life_goes_on(server)
    got = STREAM_ERROR.search(raw.rest())
    assert sent < pieces or got, "everything was taken"
    if got:                                            # a reset may overtake the error when we are still sending
        assert got.group(1).decode() in want, got.group(1)
    grown = rss(server) - before
    assert grown < MEMORY, "grew by %d KB" % (grown // 1024)


@test("a header that never ends")
def endless_header(server):
    flood(server, HEADER[:-1], b" a" + b"x" * 1000, 100000)


@test("a header whose attribute never ends")
def endless_header_attribute(server):
    flood(server, HEADER[:-1] + " x='", b"x" * 65536, 1600)


@test("an attribute of 100 MB")
def big_attribute(server):
    flood(server, HEADER + "<message to='", b"x" * 65536, 1600)


@test("a text of 100 MB")
def big_text(server):
    flood(server, HEADER + "<message><body>", b"x" * 65536, 1600, want=("policy-violation", "not-authorized"))


@test("a million attributes")
def attributes(server):
    before = rss(server)
    raw = Raw(server)
    raw.send(HEADER + "<message")
    for i in range(1000):
        if not raw.send("".join(" a%d='x'" % n for n in range(i * 1000, i * 1000 + 1000))):
            break
    life_goes_on(server)
    equal(condition_of(raw) in ("policy-violation", None), True)
    assert rss(server) - before < MEMORY


@test("depth 100 000")
def depth(server):
    flood(server, HEADER, b"<a>" * 1000, 100, want=("policy-violation", "not-authorized"))


@test("100 000 children")
def children(server):
    flood(server, HEADER + "<message>", b"<a/>" * 1000, 100, want=("policy-violation", "not-authorized"))


@test("new element names without end, each stanza small")
def names(server):
    before = rss(server)
    c = logged_in(server)
    for i in range(300):
        c.send("".join("<message to='juliet@localhost/hostile' type='headline'><n%d xmlns='u:%d' a%d=''/></message>" % (n, n, n)
                       for n in range(i * 100, i * 100 + 100)))
        for _ in range(100):
            c.next()
    life_goes_on(server)
    assert rss(server) - before < MEMORY, rss(server) - before
    c.sock.close()


@test("SASL without TLS")
def sasl_in_clear(server):
    raw = Raw(server)
    raw.send(HEADER)
    raw.until(b"</stream:features>")
    raw.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AHJvbWVvAHNlY3JldA==</auth>")
    raw.until(b"</failure>") if b"<failure" in raw.got else raw.until(b"encryption-required")
    raw.close()


SASL = [
    ("a response before any auth", "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>AA==</response>", None),
    ("base64 with white space", "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AHJv bWVv</auth>", "incorrect-encoding"),
    ("PLAIN without its NULs", "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>cm9tZW8=</auth>", "malformed-request"),
    ("SCRAM that is none", "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'>cm9tZW8=</auth>", "malformed-request"),
    ("a mechanism with a strange name", "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='%s'/>" % ("X" * 5000), "invalid-mechanism"),
    ("no mechanism at all", "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", "invalid-mechanism|malformed-request"),
    ("another's authorization identity", "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%s</auth>" %
     base64.b64encode(b"juliet@localhost\0romeo\0secret").decode(), "invalid-authzid|not-authorized"),
]

for _name, _text, _want in SASL:
    @test("SASL: " + _name)
    def sasl(server, text=_text, want=_want):
        raw = Raw(server, tls=True)
        raw.send(HEADER)
        raw.until(b"</stream:features>")
        raw.send(text)
        raw.sock.settimeout(DEADLINE)
        while b"failure>" not in raw.got and b"</stream:stream>" not in raw.got:
            data = raw.sock.recv(65536)
            assert data, raw.got
            raw.got += data
        if want:
            found = re.search(rb"<failure[^>]*><([a-z-]+)", raw.got)
            assert found and found.group(1).decode() in want.split("|"), raw.got
        raw.close()
        life_goes_on(server)


@test("the number of tries is bounded")
def tries(server):
    raw = Raw(server, tls=True)
    raw.send(HEADER)
    raw.until(b"</stream:features>")
    wrong = base64.b64encode(b"\0nobody-%d\0wrong" % os.getpid()).decode()
    n = 0
    while n < 50 and raw.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%s</auth>" % wrong):
        n += 1
        try:
            raw.until(b"failure>")
        except (AssertionError, OSError):
            break
    assert n < 20, n


@test("an unknown user and a wrong password look the same")
def enumeration(server):
    answers = []
    for user in ("romeo", "mercutio"):
        raw = Raw(server, tls=True)
        raw.send(HEADER)
        raw.until(b"</stream:features>")
        raw.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>%s</auth>" %
                 base64.b64encode(b"n,,n=%s,r=abcdefgh" % user.encode()).decode())
        raw.until(b"<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>")
        while b"</challenge>" not in raw.got:
            raw.got += raw.sock.recv(4096)
        server_first = base64.b64decode(raw.got.split(b"<")[0])
        fields = dict(f.split(b"=", 1) for f in server_first.split(b","))
        final = b"c=biws,r=%s,p=%s" % (fields[b"r"], base64.b64encode(b"x" * 32))
        raw.got = b""
        raw.send("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>%s</response>" % base64.b64encode(final).decode())
        while b"failure>" not in raw.got:
            raw.got += raw.sock.recv(4096)
        answers.append((len(fields[b"s"]), fields[b"i"], raw.got))
        raw.close()
    equal(answers[0], answers[1])


@test("a forged from")
def forged(server):
    c = logged_in(server)
    c.send("<message from='romeo@localhost/orchard' to='romeo@localhost'><body>forged</body></message>")
    c.expect("<stream:error><invalid-from xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>")
    c.sock.close()


@test("a stanza in another namespace")
def namespace(server):
    c = logged_in(server)
    c.send("<message xmlns='jabber:server' to='romeo@localhost'><body>x</body></message>")
    c.expect("<stream:error><%s xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>" % "unsupported-stanza-type")
    c.sock.close()


@test("a resource of 5 KB")
def long_resource(server):
    c = authenticated(server)
    c.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>%s</resource></bind></iq>" % ("r" * 5000))
    c.expect("<iq type='error' id='b'><error type='modify'><bad-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")
    c.sock.close()


@test("a client that never reads while another writes to it")
def never_reads(server):
    before = rss(server)
    deaf = logged_in(server, "juliet", "deaf")
    loud = logged_in(server, "romeo", "loud")
    loud.sock.settimeout(DEADLINE)
    body = "x" * 8000
    for i in range(100):
        loud.send(("<message to='juliet@localhost/deaf' type='headline'><body>%s</body></message>" % body) * 40)
        loud.sync()                                    # 32 MB in all, handled
    life_goes_on(server)
    grown = rss(server) - before
    assert grown < MEMORY, "grew by %d KB" % (grown // 1024)
    deaf.sock.close()
    loud.sock.close()


@test("%d connections that never log in" % MANY)
def silent_crowd(server):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(MANY, (hard - 200) // 2)
    before = rss(server)
    crowd = []
    for i in range(count):
        try:
            s = socket.create_connection(("127.0.0.1", server.port), DEADLINE)
        except OSError:
            break
        crowd.append(s)
    try:
        life_goes_on(server)
        per_connection = (rss(server) - before) / max(1, len(crowd))
        assert per_connection < (8192 if not SANITIZER else 65536), "%d bytes each" % per_connection
    finally:
        for s in crowd:
            s.close()
    life_goes_on(server)


@test("resets in every phase")
def resets(server):
    def reset(raw):
        raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.sock.close()
    for _ in range(20):
        reset(Raw(server))
        raw = Raw(server)
        raw.send(HEADER[:40])
        reset(raw)
        raw = Raw(server)
        raw.send(HEADER)
        reset(raw)
        raw = Raw(server)
        raw.send(HEADER)
        raw.until(b"</stream:features>")
        raw.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        reset(raw)
        raw = Raw(server)
        raw.send(HEADER)
        raw.until(b"</stream:features>")
        raw.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        raw.until(b"<proceed")
        raw.send(b"\x16\x03\x01\x02\x00\x01")          # the beginning of a ClientHello
        reset(raw)
        raw = Raw(server, tls=True)
        raw.send(HEADER + "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-1'>biwsbj1yb21lbyxyPWFiYw==</auth>")
        reset(raw)
        raw = Raw(server, tls=True)
        raw.send(HEADER + "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AHJvbWVvAHNlY3JldA==</auth>")
        reset(raw)
        c = logged_in(server)
        c.send("<presence/><iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
        reset(c)
    life_goes_on(server)


@test("garbage in place of a TLS handshake")
def no_tls(server):
    raw = Raw(server)
    raw.send(HEADER)
    raw.until(b"</stream:features>")
    raw.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    raw.until(b"<proceed")
    raw.send(b"\0" * 5000)
    raw.rest()                                         # TCP is closed
    raw = Raw(server)
    raw.sock.close()
    s = socket.create_connection(("127.0.0.1", server.tls_port), DEADLINE)
    s.sendall(HEADER.encode() * 10)
    s.settimeout(DEADLINE)
    try:
        while s.recv(4096):
            pass
    except ConnectionError:
        pass
    life_goes_on(server)


@test("slow senders are cut off by the deadline")
def slow(server):
    crowd = [Raw(server) for _ in range(200)]
    stop = time.monotonic() + DEADLINE
    alive, i = set(crowd), 0
    life_goes_on(server)
    while alive and time.monotonic() < stop:
        i += 1
        for raw in list(alive):
            if not raw.send(HEADER[i % len(HEADER)] if i < len(HEADER) else " "):
                alive.discard(raw)
        time.sleep(0.2)                                # the attack itself: one byte at a time
    for raw in crowd:
        raw.close()
    assert not alive, "%d slow connections are still there" % len(alive)


@test("a compression bomb")
def bomb(server):
    c = authenticated(server)                          # XEP-0170: after login, before binding
    c.send("<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>")
    c.expect("<compressed xmlns='http://jabber.org/protocol/compress'/>")
    before = rss(server)
    z = zlib.compressobj(9)
    c.sock.sendall(z.compress(HEADER.encode()) + z.flush(zlib.Z_SYNC_FLUSH))
    try:
        for _ in range(200):
            c.sock.sendall(z.compress(b"<message to='juliet@localhost/hostile'><body>" + b"x" * 1000000) + z.flush(zlib.Z_SYNC_FLUSH))
    except OSError:
        pass
    life_goes_on(server)
    assert rss(server) - before < MEMORY
    c.sock.close()


config = """
c2s_timeout = 15
c2s_max_connections_per_ip = 0
c2s_connection_rate = 0
limits = {}
"""
with Server(accounts={"romeo@localhost": "secret", "juliet@localhost": "secret"}, config=config, modules=["compression"]) as server:
    failed = done(server, last=lambda: print("slowest login and message round trip meanwhile: %.2f s" % slowest))
sys.exit(failed != 0)
