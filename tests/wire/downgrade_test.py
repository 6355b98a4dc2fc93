# SPDX-License-Identifier: MIT
"""Somebody between client and server, with a certificate the client believes, who takes out of the features what would give him
away or cost him more (XEP-0474): the client finds out before it has proved anything, and nothing he can do hides it."""
import base64
import hashlib
import os
import pathlib
import re
import socket
import ssl
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import scram  # noqa: E402
from check import done, equal, test  # noqa: E402
from scram import encoded  # noqa: E402
from server import DEADLINE, Server, certificate  # noqa: E402
from talk import HEADER  # noqa: E402

SASL, SASL2, BINDINGS = "urn:ietf:params:xml:ns:xmpp-sasl", "urn:xmpp:sasl:2", "urn:xmpp:sasl-cb:0"
HASHES = {"SCRAM-SHA-1": "sha1", "SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}


def connect(port, high=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if high:
        context.maximum_version = high
    sock = context.wrap_socket(socket.create_connection(("127.0.0.1", port), DEADLINE), server_hostname="localhost")
    sock.settimeout(DEADLINE)
    return sock


def until(sock, pattern):
    got = ""
    while not re.search(pattern, got):
        data = sock.recv(65536)
        if not data:
            raise ConnectionError("closed after " + got)
        got += data.decode()
    return got


class Between:
    """Takes one client, and passes on what both say: the features through `features`, a challenge through `challenge`."""

    def __init__(self, port, features=str, challenge=str):
        self.port, self.features, self.challenge = port, features, challenge
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.answers = []                       # of the client, after the first
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate() + "/cert.pem", certificate() + "/key.pem")
        sock, _ = self.listener.accept()
        sock.settimeout(DEADLINE)
        with context.wrap_socket(sock, server_side=True) as client, connect(self.port) as server:
            try:
                server.sendall(until(client, "<stream:stream[^>]*>").encode())
                client.sendall(self.features(until(server, "</stream:features>")).encode())
                server.sendall(until(client, "</auth(enticate)?>").encode())
                answer = until(server, "</challenge>|</failure>")
                found = re.search(r"(<challenge[^>]*>)([^<]*)", answer)
                if found:
                    text = self.challenge(base64.b64decode(found[2]).decode())
                    answer = found[1] + encoded(text.encode()) + "</challenge>"
                client.sendall(answer.encode())
                self.answers.append(until(client, "</response>"))
                server.sendall(self.answers[-1].encode())
                client.sendall(until(server, "</success>|</failure>").encode())
            except ConnectionError:
                pass                            # the client has had enough

    def end(self):
        self.thread.join(DEADLINE)
        self.listener.close()
        assert not self.thread.is_alive()


def told(features, way):
    """The string S of XEP-0474 §5.1, of the features as the client sees them."""
    block = re.search("<(mechanisms|authentication) [^>]*xmlns=['\"]%s['\"].*?</\\1>" % way, features, re.S)[0]
    text = "\x1e".join(sorted(re.findall("<mechanism>([^<]*)</mechanism>", block.split("<inline")[0])))
    if BINDINGS in features:
        text += "\x1f" + "\x1e".join(sorted(re.findall(r"<channel-binding [^>]*type=['\"]([^'\"]*)", features)))
    return text


def login(sock, way, mechanism, careful=True):
    """-> "success", the failure, or "found out"."""
    hash_name = HASHES[mechanism.removesuffix("-PLUS")]
    with sock:
        sock.sendall(HEADER.encode())
        features = until(sock, "</stream:features>")
        binding = sock.get_channel_binding("tls-unique") if mechanism.endswith("-PLUS") else b""
        gs2 = b"p=tls-unique,," if binding else b"n,,"
        nonce = encoded(os.urandom(18))
        bare = "n=romeo,r=" + nonce
        first = encoded(gs2 + bare.encode())
        if way == SASL:
            sock.sendall(("<auth xmlns='%s' mechanism='%s'>%s</auth>" % (way, mechanism, first)).encode())
        else:
            sock.sendall(("<authenticate xmlns='%s' mechanism='%s'><initial-response>%s</initial-response></authenticate>"
                          % (way, mechanism, first)).encode())
        answer = until(sock, "</challenge>|</failure>")
        found = re.search("<challenge[^>]*>([^<]+)", answer)
        if not found:
            return re.search("<failure[^>]*><([a-z-]+)", answer)[1]
        challenge = base64.b64decode(found[1]).decode()
        values = dict(part.split("=", 1) for part in challenge.split(","))
        assert values["r"].startswith(nonce) and len(values["r"]) == len(nonce) + 24
        if careful and values.get("h") != encoded(hashlib.new(hash_name, told(features, way).encode()).digest()):
            return "found out"
        final, signature = scram.final(hash_name, b"secret", bare, gs2 + binding, challenge)
        sock.sendall(("<response xmlns='%s'>%s</response>" % (way, encoded(final.encode()))).encode())
        answer = until(sock, "</success>|</failure>")
        if "<failure" in answer:
            return re.search("<failure[^>]*><([a-z-]+)", answer)[1]
        verifier = base64.b64decode(re.search("<(?:success|additional-data)[^>]*>([^<]+)", answer)[1]).decode()
        equal(verifier, signature)
        return "success"


def without(pattern):
    return lambda features: re.sub(pattern, "", features)


PLUS = r"<mechanism>[^<]*-PLUS</mechanism>"
ALL_BINDINGS = r"<sasl-channel-binding .*?</sasl-channel-binding>"
TAKEN = [
    ("what binds to the channel", without(PLUS + "|" + ALL_BINDINGS)),
    ("the mechanisms that bind", without(PLUS)),
    ("the channel bindings", without(ALL_BINDINGS)),
    ("one channel binding", without(r"<channel-binding [^>]*tls-exporter[^>]*/>")),
    ("all but the oldest mechanism", without(r"<mechanism>(?!SCRAM-SHA-1<)[^<]*</mechanism>")),
    ("PLAIN", without("<mechanism>PLAIN</mechanism>")),
]


def forged(shown, way):
    """A challenge with the hash of what the client was shown, as somebody between would make it who knows no key."""
    return lambda challenge: re.sub(",h=[^,]+", ",h=" + encoded(hashlib.sha1(told(shown[0], way).encode()).digest()), challenge)


@test("with nobody between: every mechanism, both ways to log in")
def alone(server):
    for way in (SASL, SASL2):
        for mechanism in HASHES:
            equal((way, mechanism, login(connect(server.tls_port), way, mechanism)), (way, mechanism, "success"))
            equal((way, login(connect(server.tls_port, ssl.TLSVersion.TLSv1_2), way, mechanism + "-PLUS")), (way, "success"))


@test("somebody who changes nothing is seen by those who bind to the channel only")
def silent(server):
    for way in (SASL, SASL2):
        between = Between(server.tls_port)
        equal(login(connect(between.listener.getsockname()[1]), way, "SCRAM-SHA-256"), "success")
        between.end()


@test("XEP-0474 §5.2: what was taken out is found out before a proof is given")
def found_out(server):
    for way in (SASL, SASL2):
        for what, features in TAKEN:
            between = Between(server.tls_port, features)
            got = login(connect(between.listener.getsockname()[1]), way, "SCRAM-SHA-1")
            between.end()
            equal((way, what, got, between.answers), (way, what, "found out", []))


@test("a hash made to fit: the server finds out, by the proof")
def hidden(server):
    for way in (SASL, SASL2):
        for what, features in TAKEN:
            shown = []

            def show(text, features=features, shown=shown):
                shown.append(features(text))
                return shown[0]

            between = Between(server.tls_port, show, lambda challenge, way=way, shown=shown: forged(shown, way)(challenge))
            got = login(connect(between.listener.getsockname()[1]), way, "SCRAM-SHA-1")
            between.end()
            equal((way, what, got, len(between.answers)), (way, what, "not-authorized", 1))


@test("a hash taken out, from a client that does not insist: the same")
def removed(server):
    for way in (SASL, SASL2):
        between = Between(server.tls_port, TAKEN[0][1], without(",h=[^,]+"))
        equal(login(connect(between.listener.getsockname()[1]), way, "SCRAM-SHA-256", careful=False), "not-authorized")
        between.end()


CONFIG = """
password_hashes = { "SHA-1", "SHA-256", "SHA-512" }
auth_lockout_threshold = 1000
auth_lockout_address_threshold = 1000
"""
with Server(CONFIG, accounts={"romeo@localhost": "secret"}, modules=["sasl2"]) as s:
    done(s)
