# SPDX-License-Identifier: MIT
"""Filters of bytes over real sockets (PLUGIN-API §8.2): from the first byte on, through TLS, added and removed in the middle."""
import codecs
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from server import Server  # noqa: E402
from talk import Client  # noqa: E402


def rot13(text):
    return codecs.encode(text, "rot13")


class Counted(Client):
    """A client that counts what it sends in each stream."""

    def __init__(self, server):
        class talk:
            pass
        talk.server, talk.accounts, talk.kept = server, {"romeo@localhost": "secret"}, {}
        super().__init__("romeo", talk)
        self.sent, self.turned = 0, False

    def send(self, text):
        if self.turned:
            text = rot13(text)
        self.sent += len(text.encode())
        super().send(text)

    def ask(self, kind, name):
        self.send("<iq type='%s' id='q' to='localhost'><%s xmlns='test:filters'/></iq>" % (kind, name))
        got = self.next()
        equal((got[0], got[1].attrs.get("type")), ("element", "result"))
        return got[1]


@test("every byte is seen, from the first")
def count(server):
    for _ in range(20):
        c = Counted(server)
        c.login("romeo", "")
        reply = c.ask("get", "count").elements()[0].attrs
        equal(int(reply["in"]), c.sent)
        c.sock.close()


@test("what is filtered from the middle of a session on is parsed as it leaves the filter")
def turn(server):
    c = Counted(server)
    c.login("romeo", "orchard")
    c.ask("set", "rot13")
    c.turned = True
    c.sync()
    # far more than one read, one record, or the window: in order, and nothing is lost
    n, body = 300, "o, she doth teach the torches to burn bright! " * 40
    for i in range(n):
        c.send("<message to='romeo@localhost/orchard' id='%d'><body>%s</body></message>" % (i, body))
    for i in range(n):
        got = c.next()
        equal((got[1].name, got[1].attrs["id"]), ("message", str(i)))
        equal(got[1].text() or got[1].elements()[0].text(), body)
    reply = c.ask("get", "count").elements()[0].attrs
    equal(int(reply["in"]), c.sent)
    c.ask("set", "plain")
    c.turned = False
    c.sync()
    c.sock.close()


@test("limits hold for what leaves the filter, and the end of the stream is heard through it")
def limits(server):
    c = Counted(server)
    c.login("romeo", "")
    c.ask("set", "rot13")
    c.turned = True
    c.send("</stream:stream>")
    equal(c.next()[0], "end")
    equal(c.next()[0], "eof")
    c = Counted(server)
    c.login("romeo", "")
    c.ask("set", "rot13")
    c.turned = True
    try:
        c.send("<message><body>" + "x" * 300000)
    except OSError:
        pass
    got = c.next()
    equal((got[0], got[1].name, got[1].elements()[0].name), ("element", "error", "policy-violation"))
    c.sock.close()


@test("a filter that fails ends the connection, and no other one")
def broken(server):
    other = Counted(server)
    other.login("romeo", "other")
    c = Counted(server)
    c.login("romeo", "")
    c.ask("set", "broken")
    c.send("<presence/>")
    equal(c.next()[0], "eof")
    other.sync()
    assert re.search(r"filter for bytes/in failed: .*broken", server.log()), "not logged"
    other.sock.close()


failed = 0
for threads in (0, 2):
    with Server(accounts={"romeo@localhost": "secret"}, modules=["test_filters"], config="io_threads = %d" % threads) as server:
        failed += done(server)
sys.exit(failed != 0)
