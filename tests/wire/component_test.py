# SPDX-License-Identifier: MIT
"""External components over real sockets (XEP-0114): the handshake and each error, limits, and a component inside the server beside it.
The configuration is as Prosody's documentation writes it."""
import hashlib
import pathlib
import re
import socket
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from server import DEADLINE, Server, free_port  # noqa: E402
from talk import Client  # noqa: E402

STREAMS = "http://etherx.jabber.org/streams"


class Component:
    def __init__(self, to="irc.localhost", xmlns="jabber:component:accept", secret=None):
        self.sock = socket.create_connection(("127.0.0.1", PORT), DEADLINE)
        self.sock.settimeout(DEADLINE)
        self.got = b""
        self.send("<?xml version='1.0'?><stream:stream xmlns='%s' xmlns:stream='%s'%s>" % (xmlns, STREAMS, " to='%s'" % to if to else ""))
        if secret is not None:
            self.shake(secret)

    def shake(self, secret):
        header = self.until(b">", after=b"<stream:stream")
        equal(re.findall(rb" from='([^']*)'", header), [b"irc.localhost"])
        sid = re.search(rb" id='([^']+)'", header).group(1)
        self.send("<handshake>%s</handshake>" % hashlib.sha1(sid + secret.encode()).hexdigest())

    def online(self):
        self.until(b"<handshake/>")
        return self

    def send(self, text):
        self.sock.sendall(text.encode())

    def until(self, text, after=b""):
        while True:
            at = self.got.find(after)
            end = self.got.find(text, at + len(after)) if at >= 0 else -1
            if end >= 0:
                out, self.got = self.got[:end + len(text)], self.got[end + len(text):]
                return out
            data = self.sock.recv(65536)
            if not data:
                raise AssertionError("closed; so far %r" % self.got)
            self.got += data

    def refused(self, condition):
        """A whole stream with that error, then the end of the connection."""
        try:
            while True:
                data = self.sock.recv(65536)
                if not data:
                    break
                self.got += data
        except ConnectionError:
            pass
        found = re.search(rb"<stream:error><([a-z-]+)", self.got)
        equal(found and found.group(1).decode(), condition)
        assert self.got.endswith(b"</stream:error></stream:stream>"), self.got
        self.sock.close()

    def close(self):
        self.send("</stream:stream>")
        self.until(b"</stream:stream>")
        equal(self.sock.recv(1), b"")
        self.sock.close()


def client(server, resource="orchard"):
    class talk:
        pass
    talk.server, talk.accounts, talk.kept = server, {"romeo@localhost": "secret"}, {}
    c = Client("romeo", talk)
    c.login("romeo", resource)
    return c


@test("handshake, stanzas both ways, the end")
def whole(server):
    romeo = client(server)
    c = Component(secret="prospero").online()
    romeo.send("<message to='#plays@irc.localhost'><body>hello</body></message>")
    message = c.until(b"</message>")
    assert b"from='romeo@localhost/orchard'" in message and b"<body>hello</body>" in message and b"xmlns" not in message, message
    c.send("<message to='romeo@localhost/orchard' from='#plays@irc.localhost/nick'><body>hi</body></message>")
    romeo.expect("<message to='romeo@localhost/orchard' from='#plays@irc.localhost/nick'><body>hi</body></message>")
    # a component's own namespace means the same as jabber:client on the other side, and the other way round
    c.send("<message xmlns='jabber:client' to='romeo@localhost/orchard'><body>hi</body></message>")
    romeo.expect("<message to='romeo@localhost/orchard' from='irc.localhost'><body>hi</body></message>")
    c.send("<iq type='get' to='localhost' from='irc.localhost' id='p'><ping xmlns='urn:xmpp:ping'/></iq>")
    assert b"type='result'" in c.until(b">", after=b"<iq")
    c.close()
    romeo.send("<message to='#plays@irc.localhost'><body>hello</body></message>")
    romeo.expect("<message type='error' from='#plays@irc.localhost'><error type='wait'>"
                 "<remote-server-timeout xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>")


@test("a long list of small things is no attack")
def list_of_rooms(server):
    romeo, c = client(server), Component(secret="prospero").online()
    romeo.send("<iq type='get' id='rooms' to='irc.localhost'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>")
    c.until(b"</iq>")
    c.send("<iq type='result' id='rooms' from='irc.localhost' to='romeo@localhost/orchard'><query xmlns='http://jabber.org/protocol/disco#items'>%s"
           "</query></iq>" % "".join("<item jid='#room%d@irc.localhost' name='Room %d'/>" % (i, i) for i in range(6000)))
    equal(len(romeo.answer("rooms").elements()[0].elements()), 6000)
    c.close()


@test("each error of the header and the handshake")
def errors(server):
    Component(to="nowhere.localhost").refused("host-unknown")
    Component(to="localhost").refused("host-unknown")
    Component(to="echo.localhost").refused("host-unknown")
    Component(to=None).refused("improper-addressing")
    Component(xmlns="jabber:client").refused("invalid-namespace")
    Component(secret="caliban").refused("not-authorized")
    c = Component()
    c.send("<message to='romeo@localhost'/>")
    c.refused("not-authorized")
    first = Component(secret="prospero").online()
    Component(secret="prospero").refused("conflict")
    first.send("<message from='juliet@localhost' to='romeo@localhost'/>")
    first.refused("invalid-from")
    c = Component()
    c.send("<handshake>" + "x" * 20000)
    c.refused("policy-violation")
    c = Component(secret="prospero").online()
    c.send("<message to='romeo@localhost'><body>" + "x" * 600000)
    c.refused("policy-violation")


@test("pipelined behind the handshake, byte by byte, a reset")
def pieces(server):
    romeo = client(server)
    c = Component()
    header = c.until(b">", after=b"<stream:stream")
    sid = re.search(rb" id='([^']+)'", header).group(1)
    text = "<handshake>%s</handshake>" % hashlib.sha1(sid + b"prospero").hexdigest()
    text += "".join("<message to='romeo@localhost/orchard'><body>%d</body></message>" % i for i in range(600))
    c.send(text)
    for i in range(600):
        equal(romeo.next()[1].elements()[0].text(), str(i))
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    c.sock.close()
    # as soon as the server has noticed, another one may come
    for _ in range(200):
        c = Component()
        c.shake("prospero")
        if b"<handshake/>" in c.until(b">"):
            break
        c.sock.close()
    for b in "<message to='romeo@localhost/orchard'><body>slowly</body></message>":
        c.send(b)
    romeo.expect("<message from='irc.localhost'><body>slowly</body></message>")
    c.close()


@test("a component inside the server; disco lists both")
def inside(server):
    romeo = client(server)
    romeo.send("<message to='a@echo.localhost'><body>hello</body></message>")
    romeo.expect("<message from='a@echo.localhost'><body>hello</body></message>")
    romeo.send("<iq type='get' to='a@echo.localhost' id='1'><echo xmlns='test:echo'/></iq>")
    romeo.expect("<iq type='result' from='a@echo.localhost' id='1'><echo xmlns='test:echo'/></iq>")
    romeo.send("<iq type='get' to='localhost' id='2'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>")
    romeo.expect("<iq type='result' id='2'><query xmlns='http://jabber.org/protocol/disco#items'>"
                 "<item jid='irc.localhost' name='IRC gateway'/><item jid='echo.localhost'/></query></iq>")
    # one component to the other
    c = Component(secret="prospero").online()
    c.send("<message to='echo.localhost' from='x@irc.localhost'><body>ping</body></message>")
    message = c.until(b"</message>")
    assert b"from='echo.localhost'" in message and b"to='x@irc.localhost'" in message, message
    c.close()


@test("a server that stops says so")
def stop(server):
    c = Component(secret="prospero").online()
    server.stop()
    c.refused("system-shutdown")


PORT = free_port()
HOSTS = """VirtualHost "localhost"

Component "irc.localhost"
	component_secret = "prospero"
	name = "IRC gateway"

Component "echo.localhost" "test_echo"
"""
with Server(accounts={"romeo@localhost": "secret"}, config="component_ports = { %d }" % PORT, hosts=HOSTS) as server:
    failed = done(server)
sys.exit(failed != 0)
