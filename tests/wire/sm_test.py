# SPDX-License-Identifier: MIT
"""XEP-0198 where it takes more than a talk: restarts, crashes, and acknowledgements that wait for the disk."""
import pathlib
import sqlite3
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from server import DEADLINE, Server  # noqa: E402
from talk import Client  # noqa: E402

ACCOUNTS = {"romeo@localhost": "secret", "juliet@localhost": "secret", "paris@localhost": "secret"}
SM = "urn:xmpp:sm:3"
HOLD = "urn:example:hold"


def on_server(name):
    """Each test has a server of its own."""
    def add(fn):
        @test(name)
        def run():
            with Server(accounts=ACCOUNTS, modules=["test_hold"], config="smacks_max_queue_size = 20") as server:
                fn(server)
        return fn
    return add


class Talk:
    def __init__(self, server):
        self.server, self.kept, self.accounts = server, {}, ACCOUNTS


class Person(Client):
    """A client that counts, as stream management wants it."""

    def __init__(self, server, username):
        super().__init__(username, Talk(server))
        self.token = None

    def online(self, resource, resume=True):
        self.login(self.name, resource)
        self.send("<enable xmlns='%s' resume='%s'/><presence/>" % (SM, "true" if resume else "false"))
        self.expect("<enabled xmlns='%s'%s/>" % (SM, " id='$token' resume='true'" if resume else ""))
        self.token = self.talk.kept.pop("token", None)
        self.expect("<presence from='%s@localhost/%s'/>" % (self.name, resource))
        return self

    def next(self):
        while True:
            got = super().next()
            if got[0] != "element" or (got[1].ns, got[1].name) != (SM, "r"):      # a question may come at any time
                return got

    def resume(self, h):
        self.authenticate(self.name)
        self.send("<resume xmlns='%s' h='%d' previd='%s'/>" % (SM, h, self.token))
        self.bound = True

    def resumed(self, mine, theirs):
        self.resume(mine)
        self.expect("<resumed xmlns='%s' h='%d' previd='%s'/>" % (SM, theirs, self.token))
        return self

    def say(self, to, id, inside=""):
        self.send("<message to='%s@localhost' type='chat' id='%s'><body>%s</body>%s</message>" % (to, id, id, inside))

    def hears(self, *ids):
        for id in ids:
            self.expect("<message type='chat' id='%s'/>" % id)

    def ask(self):
        self.send("<r xmlns='%s'/>" % SM)

    def acked(self, h):
        self.expect("<a xmlns='%s' h='%d'/>" % (SM, h))

    def cut(self):
        self.leave(politely=False)


def restart(server, how):
    if how == "stop":
        server.stop()
    else:
        server.kill()
        server.process, _ = None, server.stderr.close()
    server.start()


def until(what):
    end = time.monotonic() + DEADLINE
    while not what():
        if time.monotonic() > end:
            raise AssertionError("it never came true")
        time.sleep(0.05)


def rows(server, store):
    with sqlite3.connect("file:%s/data/couplet.sqlite?mode=ro" % server.dir, uri=True) as db:
        return list(db.execute("select keyval.* from keyval join collection on keyval.collection = collection.id"
                               " where collection.store = ?", (store,)))


@on_server("a session without connection is resumed after a restart, with what waited and what came since")
def hibernating(server):
    romeo, juliet = Person(server, "romeo"), Person(server, "juliet").online("balcony")
    juliet.say("romeo", "j1")
    romeo.login("romeo", "orchard")
    romeo.say("juliet", "1")
    romeo.say("juliet", "2")
    romeo.sync()
    juliet.hears("1", "2")
    juliet.cut()
    romeo.say("juliet", "3")
    romeo.sync()
    romeo.leave()
    restart(server, "stop")
    romeo.login("romeo", "orchard")
    romeo.say("juliet", "4")
    romeo.sync()
    juliet.resumed(2, 2)                 # its own presence, and the first message
    juliet.hears("2", "3", "4")
    juliet.send("<a xmlns='%s' h='5'/>" % SM)
    juliet.send("<message to='romeo@localhost/orchard' id='j2'/>")
    romeo.expect("<message id='j2' from='juliet@localhost/balcony'/>")
    juliet.ask()
    juliet.acked(3)
    romeo.leave()
    juliet.leave()


@on_server("one with a connection is told, and resumed as well; twice")
def connected(server):
    juliet = Person(server, "juliet").online("balcony")
    juliet.say("romeo", "k1")
    for n in (1, 2):
        restart_by = server.process
        juliet.ask()
        juliet.acked(2)
        server.process.terminate()
        juliet.acked(2)
        juliet.expect("<stream:error><system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>")
        juliet.expect("</stream:stream>")
        equal(juliet.next(), ("eof",))
        restart_by.wait(DEADLINE)
        server.stop()
        server.start()
        juliet.resumed(1, 2)
    juliet.leave()
    equal(rows(server, "smacks_sessions"), [])


@on_server("contacts see a resumed session as it was, and it still gets the roster's news")
def presence(server):
    juliet = Person(server, "juliet").online("balcony")
    juliet.send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
    juliet.expect("<iq type='result' id='r'/>")
    juliet.send("<presence><show>away</show></presence>")
    juliet.expect("<presence from='juliet@localhost/balcony'><show>away</show></presence>")
    juliet.cut()
    restart(server, "stop")
    other = Person(server, "juliet")
    other.login("juliet", "tomb")
    other.send("<presence/>")
    other.expect_set(["<presence from='juliet@localhost/tomb'/>", "<presence from='juliet@localhost/balcony'><show>away</show></presence>"])
    other.send("<iq type='set' id='s'><query xmlns='jabber:iq:roster'><item jid='nurse@localhost'/></query></iq>")
    other.expect("<iq type='result' id='s'/>")
    juliet.resumed(3, 3)
    juliet.expect("<presence from='juliet@localhost/tomb'/>")
    juliet.expect("<iq type='set'><query xmlns='jabber:iq:roster'><item jid='nurse@localhost'/></query></iq>")
    juliet.leave()
    other.expect("<presence type='unavailable' from='juliet@localhost/balcony'/>")
    other.leave()


@on_server("after a crash the client learns how much was handled")
def crash(server):
    juliet = Person(server, "juliet").online("balcony")
    juliet.say("paris", "p1")
    juliet.say("paris", "p2")
    juliet.ask()
    juliet.acked(3)
    until(lambda: any(juliet.token in map(str, row) for row in rows(server, "smacks_h")))
    restart(server, "kill")
    juliet.resume(1)
    juliet.expect("<failed xmlns='%s' h='3'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>" % SM)
    juliet.leave()


@on_server("kill -9: what was acknowledged is in the offline store, once")
def offline(server):
    for round in range(3):
        romeo = Person(server, "romeo").online("orchard", resume=False)
        for n in range(20):
            romeo.say("paris", "%d-%d" % (round, n))
        romeo.ask()
        romeo.acked(21)
        restart(server, "kill")
        paris = Person(server, "paris")
        paris.login("paris", "square")
        paris.send("<presence/>")
        paris.expect("<presence from='paris@localhost/square'/>")
        paris.hears(*("%d-%d" % (round, n) for n in range(20)))
        paris.sync()
        equal(paris.queue, [])
        paris.leave()


@on_server("acknowledged is what is kept; delivery does not wait")
def held(server):
    romeo, juliet = Person(server, "romeo").online("orchard"), Person(server, "juliet").online("balcony")
    romeo.say("juliet", "a", "<hold xmlns='%s'/>" % HOLD)
    romeo.say("juliet", "b")
    romeo.ask()
    juliet.hears("a", "b")
    romeo.acked(1)                       # after a second: the presence
    juliet.say("romeo", "c", "<release xmlns='%s'/>" % HOLD)
    romeo.acked(3)
    romeo.say("juliet", "d", "<hold xmlns='%s'/>" % HOLD)
    romeo.ask()
    juliet.hears("d")
    juliet.say("romeo", "e", "<fail xmlns='%s'/>" % HOLD)
    romeo.expect_set(["<message type='error' id='d'><error type='wait'>"
                      "<internal-server-error xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>",
                      "<a xmlns='%s' h='4'/>" % SM])
    romeo.leave()
    juliet.leave()


@on_server("a resumption waits for what is still on its way to the disk")
def resume_held(server):
    romeo, juliet = Person(server, "romeo").online("orchard"), Person(server, "juliet").online("balcony")
    romeo.say("juliet", "a", "<hold xmlns='%s'/>" % HOLD)
    juliet.hears("a")
    romeo.cut()
    romeo.resume(1)
    juliet.sync()
    juliet.say("romeo", "c", "<release xmlns='%s'/>" % HOLD)
    romeo.expect("<resumed xmlns='%s' h='2'/>" % SM)
    romeo.leave()
    juliet.leave()


@on_server("a resumption that claims too much takes the connection, not the session")
def claims_too_much(server):
    other, juliet = Person(server, "juliet").online("tomb"), Person(server, "juliet").online("balcony")
    other.expect("<presence from='juliet@localhost/balcony'/>")
    thief = Person(server, "juliet")
    thief.token = juliet.token
    thief.resume(99)
    thief.expect("<stream:error><undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
                 "<handled-count-too-high xmlns='%s' h='99'/></stream:error>" % SM)
    other.send("<message to='juliet@localhost/balcony' id='1'/>")
    other.sync()
    juliet.leave(politely=False)
    juliet.resumed(2, 1)
    juliet.expect("<message id='1'/>")
    juliet.leave()
    other.expect("<presence type='unavailable' from='juliet@localhost/balcony'/>")
    other.leave()


@on_server("and then it waits no longer than it was to")
def claims_too_much_and_goes(server):
    other, juliet = Person(server, "juliet").online("tomb"), Person(server, "juliet")
    juliet.login("juliet", "balcony")
    juliet.send("<enable xmlns='%s' resume='true' max='1'/><presence/>" % SM)
    juliet.expect("<enabled xmlns='%s' id='$token' max='1'/>" % SM)
    juliet.token = juliet.talk.kept.pop("token")
    other.expect("<presence from='juliet@localhost/balcony'/>")
    thief = Person(server, "juliet")
    thief.token = juliet.token
    thief.resume(100000)
    thief.expect("<stream:error><handled-count-too-high xmlns='%s'/></stream:error>" % SM)
    other.expect("<presence type='unavailable' from='juliet@localhost/balcony'/>")
    other.leave()


@on_server("a new password, disabling and deleting an account end its sessions without connection")
def accounts(server):
    other = Person(server, "romeo").online("orchard")
    failed = "<failed xmlns='%s'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>" % SM
    for turn, (command, answer) in enumerate(((("passwd",), "secret\nsecret\n"), (("user", "disable"), None), (("deluser",), "y\n")), 1):
        juliet = Person(server, "juliet").online("balcony")
        other.send("<message to='juliet@localhost/balcony' id='x'/>")
        juliet.expect("<message id='x'/>")
        juliet.cut()
        until(lambda: server.log().count("juliet@localhost/balcony hibernates") == turn)
        equal(server.ctl(*command, "juliet@localhost", **({"input": answer} if answer else {}))[0], 0)
        if command == ("user", "disable"):
            equal(server.ctl("user", "enable", "juliet@localhost")[0], 0)
        elif command == ("deluser",):
            equal(server.ctl("register", "juliet", "localhost", "secret")[0], 0)
        again = Person(server, "juliet")
        again.token = juliet.token
        again.resume(1)
        if command == ("deluser",):      # nothing is known of it
            again.expect(failed)
            equal(rows(server, "smacks_sessions"), [])
        else:
            again.expect("<failed xmlns='%s'/>" % SM)
        again.leave()
    other.leave()


@on_server("nobody resumes what is not his, however often he tries; others notice nothing")
def strangers(server):
    romeo, juliet = Person(server, "romeo").online("orchard"), Person(server, "juliet").online("balcony")
    for n in range(300):
        juliet.send("<enable xmlns='%s' resume='true'/><r xmlns='%s'/>" % (SM, SM))
    for n in range(300):
        juliet.expect_set(["<failed xmlns='%s'><unexpected-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>" % SM,
                           "<a xmlns='%s' h='1'/>" % SM])
    paris = Person(server, "paris")
    paris.authenticate("paris")
    for token in (romeo.token, juliet.token, "x" * 8000, "&lt;&amp;'".replace("'", "&apos;"), "") * 20:
        paris.send("<resume xmlns='%s' h='0' previd='%s'/>" % (SM, token))
        paris.expect("<failed xmlns='%s'/>" % SM)
    for h in ("-1", "4294967296", "1e3", "0x1", "", " 1"):
        paris.send("<resume xmlns='%s' h='%s' previd='%s'/>" % (SM, h, romeo.token))
        paris.expect("<failed xmlns='%s'><bad-request xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>" % SM)
    romeo.say("juliet", "1")
    juliet.hears("1")
    for one in romeo, juliet:
        one.leave()
    paris.leave(politely=False)


@on_server("too much for one who is away: it goes to the offline store instead, and nothing is lost")
def overflow(server):
    juliet = Person(server, "juliet").online("balcony")
    juliet.cut()
    romeo = Person(server, "romeo")
    romeo.login("romeo", "orchard")
    for n in range(25):                  # smacks_max_queue_size = 20
        romeo.say("juliet", "o%d" % n)
    romeo.sync()
    juliet.resume(0)
    juliet.expect("<failed xmlns='%s'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>" % SM)
    juliet.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq><presence/>")
    juliet.expect("<iq type='result' id='b'/>")
    got = []                                          # presence among them: hers, and the end of the session that is over
    while len(got) < 25:
        element = juliet.next()[1]
        got += [element.attrs["id"]] if element.name == "message" else []
    equal(sorted(got), sorted("o%d" % n for n in range(25)))
    juliet.sync()
    equal([e for _, e in juliet.queue if e.name == "message"], [])
    juliet.leave()
    romeo.leave()


@test("who does not read is cut off without a word, and what she has not acknowledged is kept for her")
def deaf():
    # how much the system takes before that is its own affair: 4 MB, or 12
    with Server(accounts=ACCOUNTS, config="c2s_max_send_buffer = 65536 smacks_max_queue_bytes = %d offline_bytes_max = %d" %
                (8 << 20, 128 << 20)) as server:
        juliet = Person(server, "juliet").online("balcony", resume=False)
        romeo = Person(server, "romeo")
        romeo.login("romeo", "orchard")
        body, count = "x" * 48000, 0
        while "juliet@localhost/balcony did not acknowledge go another way" not in server.log():
            for _ in range(20):
                count += 1
                romeo.say("juliet", str(count), "<x xmlns='urn:example:much'>%s</x>" % body)
            romeo.sync()
            assert count < 900, "43 MB, and nobody minds"
        text, got = b"", None
        while got != b"":                              # what is on its way arrives; then there is no error, but the end
            got = juliet.sock.recv(65536)
            text += got
        assert b"id='1'" in text and b"<stream:error" not in text and b"</stream:stream" not in text
        until(lambda: "session of juliet@localhost/balcony ended: send buffer full" in server.log())
        juliet.login("juliet", "balcony")
        juliet.send("<presence/>")
        got = []
        while len(got) < count:
            element = juliet.next()[1]
            got += [int(element.attrs["id"])] if element.name == "message" else []
        equal(sorted(got), list(range(1, count + 1)))
        for one in romeo, juliet:
            one.leave()


sys.exit(done() != 0)
