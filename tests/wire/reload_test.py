# SPDX-License-Identifier: MIT
"""Changes on a running server: what concerns nobody who is connected disconnects nobody. What coupletctl prints, the files' errors
and the order of things in between are tests/lua/daemon_test.lua's; here two people chat through it all."""
import pathlib
import socket
import sys
import signal
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from server import DEADLINE, SANITIZER, Server, free_port  # noqa: E402
from talk import Client  # noqa: E402

ACCOUNTS = {"romeo@localhost": "secret", "juliet@localhost": "secret", "romeo@verona.example": "secret"}
COUNT = "urn:example:counter"


class Talk:
    def __init__(self, server):
        self.server, self.kept, self.accounts = server, {}, ACCOUNTS


class Two:
    """Romeo and Juliet, logged in at localhost, and a configuration that can be changed around them."""

    def __init__(self, server):
        self.server, self.said = server, 0
        self.text = server.config.read_text()
        self.romeo, self.juliet = Client("romeo", Talk(server)), Client("juliet", Talk(server))
        self.romeo.login("romeo", "orchard")
        self.juliet.login("juliet", "balcony")

    def chat(self):
        self.said += 1
        for a, b, to in ((self.romeo, self.juliet, "juliet@localhost/balcony"), (self.juliet, self.romeo, "romeo@localhost/orchard")):
            a.send("<message to='%s' type='chat'><body>%d</body></message>" % (to, self.said))
            b.expect("<message type='chat'><body>%d</body></message>" % self.said)

    def configure(self, *changes, more="", how="reload", code=0):
        """The configuration as it was at first with changes (old, new) and more behind it, taken into the running server."""
        text = self.text
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        self.server.config.write_text(text + more)
        if how == "reload":
            got, out = self.server.ctl("reload")
            equal((got, "read anew" in out), (code, True))
        else:
            seen = self.server.log().count("configuration read anew")
            self.server.process.send_signal(signal.SIGHUP)
            wait(lambda: self.server.log().count("configuration read anew") > seen)
        self.chat()

    def ask(self, to, what, who=None):
        """The answer to an iq get: its payload, or the error's condition."""
        c = who or self.romeo
        c.send("<iq type='get' to='%s' id='ask'>%s</iq>" % (to, what))
        kind, answer = c.next()
        assert kind == "element" and answer.name == "iq", answer
        children = answer.elements()
        if answer.attrs["type"] == "error":
            return children[-1].elements()[0].name
        return children[0] if children else "result"

    def count(self, to="localhost", who=None):
        answer = self.ask(to, "<count xmlns='%s'/>" % COUNT, who)
        return answer if isinstance(answer, str) else (int(answer.attrs["asked"]), int(answer.attrs["generation"]), answer.attrs["greeting"])

    def features(self, to="localhost"):
        query = self.ask(to, "<query xmlns='http://jabber.org/protocol/disco#info'/>")
        return {f.attrs["var"] for f in query.elements() if f.name == "feature"}

    def leave(self):
        self.chat()
        self.romeo.leave()
        self.juliet.leave()


def wait(fn):
    end = time.monotonic() + DEADLINE
    while not fn():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def reachable(port):
    try:
        socket.create_connection(("127.0.0.1", port), DEADLINE).close()
        return True
    except ConnectionRefusedError:
        return False


def with_two(name, **options):
    def run(fn):
        @test(name)
        def wrapped():
            with Server(accounts=ACCOUNTS, **options) as server:
                two = Two(server)
                fn(two, server)
                two.leave()
        return fn
    return run


PING = "<ping xmlns='urn:xmpp:ping'/>"


@with_two("options take effect, for the host they are given to")
def options(two, server):
    two.configure(more="roster_items_max = 1\n")
    for jid, want in (("a@localhost", "result"), ("b@localhost", "error")):
        two.romeo.send("<iq type='set' id='r'><query xmlns='jabber:iq:roster'><item jid='%s'/></query></iq>" % jid)
        two.romeo.expect("<iq type='%s' id='r'/>" % want)
    two.configure(how="SIGHUP")
    two.romeo.send("<iq type='set' id='r'><query xmlns='jabber:iq:roster'><item jid='b@localhost'/></query></iq>")
    two.romeo.expect("<iq type='result' id='r'/>")


@with_two("a virtual host comes, serves, and goes; its users are told, others are not")
def hosts(two, server):
    equal(two.ask("verona.example", PING), "remote-server-not-found")
    two.configure(more='VirtualHost "verona.example"\n')
    equal(two.ask("verona.example", PING), "result")
    guest, stranger = Client("guest", Talk(server)), Client("stranger", Talk(server))
    guest.login("romeo@verona.example", "street")
    stranger.connect()
    stranger.open_stream("verona.example")
    guest.send("<message to='romeo@localhost/orchard' id='g'/>")
    two.romeo.expect("<message from='romeo@verona.example/street' id='g'/>")
    two.configure(how="SIGHUP")
    for c in (guest, stranger):
        c.expect("<stream:error><host-gone xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>")
        c.expect("</stream:stream>")
        equal(c.next(), ("eof",))
    equal(two.ask("verona.example", PING), "remote-server-not-found")
    stranger.connect()
    equal(stranger.open_stream("verona.example").elements()[0].name, "host-unknown")
    two.configure(more='VirtualHost "verona.example"\n')       # with its accounts
    guest.login("romeo@verona.example", "street")
    guest.leave()


@with_two("plugins come and go, with what they tell of themselves")
def plugins(two, server):
    equal(two.count(), "service-unavailable")
    two.configure(('modules_enabled = {', 'modules_enabled = { "test_counter",'))
    equal(two.count(), (1, 1, "none"))
    assert COUNT in two.features()
    two.configure()
    equal(two.count(), "service-unavailable")
    assert COUNT not in two.features()
    equal(two.ask("localhost", PING), "result")
    two.configure(('"ping", ', ''))
    equal(two.ask("localhost", PING), "service-unavailable")


@with_two("module load, reload, unload: state is handed over")
def modules(two, server):
    equal(server.ctl("module", "load", "test_counter", "localhost")[0], 0)
    equal(two.count(), (1, 1, "none"))
    equal(two.count(), (2, 1, "none"))
    equal(server.ctl("module", "reload", "test_counter", "localhost")[0], 0)
    equal(two.count(), (3, 2, "none"))
    two.chat()
    for name in ("roster", "presence", "message", "iq", "saslauth", "tls", "disco", "c2s"):      # those they talk through, too
        code, out = server.ctl("module", "reload", name)
        equal((name, code), (name, 0))
        two.chat()
    equal(two.count(), (4, 2, "none"))
    equal(server.ctl("module", "unload", "test_counter", "localhost")[0], 0)
    equal(two.count(), "service-unavailable")
    server.find_ports()                                # c2s has opened its ports anew
    late = Client("late", Talk(server))
    late.login("romeo", "garden")
    late.leave()


@with_two("plugins and options of one host alone", hosts='''VirtualHost "localhost"
  modules_enabled = { "test_counter" }
  counter_greeting = "good morrow"
VirtualHost "verona.example"
  modules_disabled = { "ping" }
''')
def per_host(two, server):
    equal(two.count(), (1, 1, "good morrow"))
    equal(two.count("verona.example"), "service-unavailable")
    equal(two.ask("localhost", PING), "result")
    equal(two.ask("verona.example", PING), "service-unavailable")
    two.configure(('  modules_disabled = { "ping" }', '  modules_enabled = { "test_counter" }\n  counter_greeting = "adieu"'))
    equal(two.count("verona.example"), (1, 1, "adieu"))
    equal(two.count(), (2, 1, "good morrow"))
    equal(two.ask("verona.example", PING), "result")


@with_two("ports open and close around those who are connected")
def ports(two, server):
    other = free_port()
    ports = "c2s_ports = { 0 }"                        # the system's choice: it stays as long as the line does
    two.configure((ports, "c2s_ports = { 0, %d }" % other))
    assert reachable(other) and reachable(server.port)
    here = server.port
    server.port = other
    late = Client("late", Talk(server))
    late.login("romeo", "garden")
    server.port = here
    two.configure(how="SIGHUP")
    assert not reachable(other) and reachable(server.port)
    late.sync()                                        # came by a port that is closed now
    two.configure((ports, 'c2s_ports = { "fivetwo" }'), code=1)
    assert reachable(server.port), "what is no port closes none"
    assert '"fivetwo" is no port number' in server.log()
    two.configure((ports, "c2s_ports = { }"))
    assert not reachable(server.port)
    late.sync()
    two.configure()
    server.find_ports()
    assert reachable(server.port)
    late.leave()


@with_two("a broken file changes nothing, and the message says where and what")
def broken(two, server):
    lines = two.text.count("\n")
    server.config.write_text(two.text + "\nallow_registration = = true\n")
    code, out = server.ctl("reload")
    equal(code, 1)
    assert "config.lua:%d: unexpected symbol near '='" % (lines + 2) in out, out
    two.chat()
    server.config.write_text(two.text + '\nmodules_enabled { "time"\n')
    code, out = server.ctl("reload")
    assert code == 1 and "config.lua:" in out and "'}' expected" in out, out
    two.chat()
    equal(two.ask("localhost", PING), "result")
    two.configure()


@test("SIGTERM: everybody is told, and it is over in ten seconds even if somebody does not listen")
def stop():
    with Server(accounts=ACCOUNTS) as server:
        two = Two(server)
        deaf = Client("deaf", Talk(server))
        deaf.login("romeo", "deaf")                    # reads nothing and does not go
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        for c in (two.romeo, two.juliet):
            c.expect("<stream:error><system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>")
            c.expect("</stream:stream>")
            equal(c.next(), ("eof",))
        equal(server.process.wait(DEADLINE), 0)
        took = time.monotonic() - started
        assert took < 10 or SANITIZER, "took %.1f s" % took
        deaf.sock.close()


sys.exit(done() != 0)
