# SPDX-License-Identifier: MIT
"""Twenty seconds of clients that do everything at the wrong moment, against two I/O threads: resets, half-closes, broken and
endless TLS, sessions that take each other's place, reloads. Nothing is expected of an answer; afterwards the server must serve,
and no sanitizer may have spoken. COUPLET_SEED repeats a run as far as threads allow, COUPLET_CHAOS_SECONDS changes its length."""
import base64
import os
import pathlib
import random
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, test  # noqa: E402
from server import SANITIZER, Server  # noqa: E402
from talk import Client, HEADER, Mismatch  # noqa: E402

SECONDS = float(os.environ.get("COUPLET_CHAOS_SECONDS", "18"))
SEED = int(os.environ.get("COUPLET_SEED", "0")) or random.randrange(1, 1 << 30)
CLIENTS = 16
PASSWORDS = {"u%d@localhost" % i: "secret" for i in range(4)}
STARTTLS = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
BIND = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>%s</resource></bind></iq>"
ALPN = [["xmpp-client"], ["http/1.1"], ["xmpp-client", "h2"], ["x" * 255] * 20, None]
SNI = ["localhost", "LOCALHOST", "nowhere.example", "a." * 120 + "example", "127.0.0.1", None]


class Gone(Exception):
    pass


class Chaos:
    """One connection, handled badly."""

    def __init__(self, server, rng):
        self.server, self.rng = server, rng
        self.direct = rng.random() < 0.5
        self.sock = socket.create_connection(("127.0.0.1", server.tls_port if self.direct else server.port), 5)
        self.sock.settimeout(0.5 if not SANITIZER else 3)
        self.ssl = None
        if rng.random() < 0.2:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

    def raw(self, data):
        """In pieces of any size."""
        while data:
            n = self.rng.choice([1, 2, 5, 100, 1000, len(data)])
            self.sock.sendall(data[:n])
            data = data[n:]

    def recv(self):
        data = self.sock.recv(65536)
        if not data:
            raise Gone
        return data

    def handshake(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self.rng.random() < 0.3:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        alpn = self.rng.choice(ALPN) if self.rng.random() < 0.3 else ["xmpp-client"]
        if alpn:
            context.set_alpn_protocols(alpn)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = context.wrap_bio(self.incoming, self.outgoing,
                                    server_hostname=self.rng.choice(SNI) if self.rng.random() < 0.3 else "localhost")
        damage = self.rng.random()
        while True:
            try:
                self.ssl.do_handshake()
                break
            except ssl.SSLWantReadError:
                pass
            data = bytearray(self.outgoing.read())
            if data and damage < 0.05:
                data[self.rng.randrange(len(data))] ^= 1 << self.rng.randrange(8)
            if data and damage > 0.95:
                data = b"\x16\x03\x03\x00\x00" * self.rng.randrange(1, 50) + data       # records without content
            self.raw(bytes(data))
            if data and 0.05 <= damage < 0.1:
                raise Gone                             # leaves in the middle of it
            self.incoming.write(self.recv())
        self.raw(self.outgoing.read())

    def send(self, text):
        data = text.encode()
        if not self.ssl:
            return self.raw(data)
        while data:
            n = self.rng.choice([1, 10, 300, len(data), len(data)])
            self.ssl.write(data[:n])                   # a record each
            data = data[n:]
        self.raw(self.outgoing.read())

    def read(self, until):
        got = b""
        while until not in got:
            if not self.ssl:
                got += self.recv()
                continue
            try:
                part = self.ssl.read(65536)
                if not part:
                    raise Gone
                got += part
            except ssl.SSLWantReadError:
                self.incoming.write(self.recv())
        return got

    def login(self):
        rng = self.rng
        if not self.direct:
            self.send(HEADER)
            self.read(b"</stream:features>")
            self.send(STARTTLS + ("<presence/>" * 50 if rng.random() < 0.1 else ""))       # sent in clear: thrown away
            self.read(b"<proceed")
        self.handshake()
        self.send(HEADER)
        self.read(b"</stream:features>")
        user = rng.choice(sorted(PASSWORDS)).split("@")[0]
        if rng.random() < 0.2:
            self.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>%s</auth>" %
                      base64.b64encode(b"n,,n=%s,r=abcdefgh" % user.encode()).decode())
            self.read(b"</challenge>")
            self.leave() if rng.random() < 0.5 else self.send("<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
            self.read(b"</failure>")
        auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%s</auth>" % base64.b64encode(
            ("\0%s\0secret" % user).encode()).decode()
        # Everything at once is wrong, and taken apart in lock-step all the same.
        if rng.random() < 0.3:
            self.send(auth + HEADER + BIND % "together" + "<presence/>")
        else:
            self.send(auth)
            self.read(b"<success")
            if rng.random() < 0.1:
                self.leave()
            self.send(HEADER)
            self.read(b"</stream:features>")
            self.send(BIND % rng.choice(["a", "b", "c"]))      # taken by others as well: the older one is ended
        self.read(b"<jid>")

    def chatter(self):
        rng = self.rng
        for _ in range(rng.randrange(12)):
            to = rng.choice(sorted(PASSWORDS)) + rng.choice(["", "/a", "/b", "/c"])
            self.send(rng.choice([
                "<presence/>", "<presence type='unavailable'/>", "<presence to='%s'/>" % to,
                "<presence type='subscribe' to='%s'/><presence type='subscribed' to='%s'/>" % (to, to),
                "<message type='chat' to='%s'><body>%s</body></message>" % (to, "x" * rng.choice([1, 100, 20000])) * rng.choice([1, 40]),
                "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>",
                "<iq type='get' to='%s' id='p'><ping xmlns='urn:xmpp:ping'/></iq>" % to,
                "<iq type='get' to='localhost' id='p'><ping xmlns='urn:xmpp:ping'/></iq>" * 50,
                "<iq type='set' id='v'><vCard xmlns='vcard-temp'><FN>%s</FN></vCard></iq>" % ("x" * 5000),
                "<iq type='set' id='m'><query xmlns='jabber:iq:roster'><item jid='%s'/></query></iq>" % to,
            ]))
            if rng.random() < 0.3:
                self.read(b">")

    def leave(self):
        """Raises, one way or another."""
        way = self.rng.randrange(6)
        if way == 0:
            self.send("</stream:stream>")
            self.read(b"</stream:stream>")
        elif way == 1:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif way == 2:
            self.sock.shutdown(socket.SHUT_WR)
            self.read(b"\0")
        elif way == 3 and self.ssl:
            try:
                self.ssl.unwrap()                      # close_notify, and no more
            except ssl.SSLError:
                pass
            self.raw(self.outgoing.read())
            self.read(b"\0")
        elif way == 4:
            self.send(self.rng.choice(["<", "</", "<a", "\0", "<a xmlns:b='c'><b:d", "</stream:stream><a/>", "<!DOCTYPE a>"]))
            self.read(b"\0") if self.rng.random() < 0.5 else None
        elif way == 5:
            self.raw(os.urandom(self.rng.choice([1, 5, 500, 20000])))
            self.read(b"\0") if self.rng.random() < 0.5 else None
        raise Gone

    def run(self):
        try:
            if self.rng.random() < 0.1:
                self.leave()
            self.login()
            self.chatter()
            self.leave()
        except (Gone, OSError, ValueError, ssl.SSLError):
            pass
        finally:
            self.sock.close()


def clients(server, number, end, count):
    rng = random.Random(SEED + number)
    while time.monotonic() < end:
        try:
            Chaos(server, rng).run()
        except OSError:
            pass
        count[number] += 1


def key_updates(server, end):
    """openssl's client sends KeyUpdate for each K, and asks for a renegotiation at R."""
    if not shutil.which("openssl"):
        return
    while time.monotonic() < end:
        for option, letter in (("-tls1_3", b"K\n"), ("-tls1_2", b"R\n")):
            p = subprocess.Popen(["openssl", "s_client", "-connect", "127.0.0.1:%d" % server.tls_port, option], stdin=subprocess.PIPE,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                for _ in range(10):
                    p.stdin.write(letter * 20)
                    p.stdin.flush()
                    time.sleep(0.05)                   # it takes one command a read
            except OSError:
                pass
            p.kill()
            p.communicate()


def administrator(server, end):
    rng = random.Random(SEED)
    while time.monotonic() < end:
        server.process.send_signal(signal.SIGHUP)
        if rng.random() < 0.3:
            server.ctl("passwd", rng.choice(sorted(PASSWORDS)), input="secret\nsecret\n")
        time.sleep(0.3)


@test("seed %d" % SEED)
def chaos(server):
    end = time.monotonic() + SECONDS
    count = [0] * CLIENTS
    threads = [threading.Thread(target=clients, args=(server, i, end, count)) for i in range(CLIENTS)]
    threads += [threading.Thread(target=f, args=(server, end)) for f in (key_updates, administrator)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    print("%d connections" % sum(count))
    assert server.process.poll() is None, "the server has gone"


@test("and now somebody logs in and gets a message")
def life_goes_on(server):
    class Talk:
        accounts, kept = PASSWORDS, {}
    Talk.server = server
    for attempt in range(30):                          # from an address that has failed a few times
        c = Client("u0", Talk)
        try:
            c.login("u0", "peace")
            break
        except Mismatch as e:
            c.sock.close()
            if "temporary-auth-failure" not in str(e) or attempt == 29:
                raise
            time.sleep(1)
    c.send("<message to='u0@localhost/peace' id='x'><body>peace</body></message>")
    c.expect("<message id='x'><body>peace</body></message>")
    c.sock.close()


@test("nothing in the log that should not be")
def log(server):
    lines = [line for line in server.log().splitlines() if " error " in line]
    assert not lines, "\n".join(lines[:20])


config = """
io_threads = 2
c2s_timeout = 5
limits = {}
"""
with Server(accounts=PASSWORDS, config=config, modules=["compression"]) as server:
    failed = done(server)
sys.exit(failed != 0)
