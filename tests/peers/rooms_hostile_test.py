# SPDX-License-Identifier: MIT
"""Rooms under attack by a server whose certificate is good: each flood gets the right errors or silence, costs a bounded amount of
memory, and people in another room, here and on an honest server, hear each other all the while."""
import pathlib
import selectors
import ssl
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from federation import Lab, Raw, User  # noqa: E402
from server import DEADLINE, SANITIZER  # noqa: E402

ROOMS = "rooms.verona.lab"
GARDEN, PARK, TOWER, OWN = ("%s@%s" % (name, ROOMS) for name in ("garden", "park", "tower", "own"))
MUC = "http://jabber.org/protocol/muc"
STANZAS = "{urn:ietf:params:xml:ns:xmpp-stanzas}"


class Talker:
    """A stream of stanzas that is written to and read from at once: whoever floods must take the answers."""

    def __init__(self, raw):
        self.raw, self.got = raw, []
        self.parser = ElementTree.XMLPullParser(("start", "end"))
        self.parser.feed("<stream:stream xmlns:stream='http://etherx.jabber.org/streams'>" + raw.text)
        self.depth, self.root = 0, None
        raw.sock.setblocking(False)

    def read(self):
        data = b""
        while True:
            self.parser.feed(data)
            try:
                data = self.raw.sock.recv(262144)
            except (ssl.SSLWantReadError, BlockingIOError):
                break
            assert data, "the stream has ended: %s" % [ElementTree.tostring(e) for e in self.got[-2:]]
        for event, element in self.parser.read_events():
            self.depth += 1 if event == "start" else -1
            if self.root is None:
                self.root = element
            if event == "end" and self.depth == 1:
                self.got.append(element)
                self.root.clear()

    def pour(self, text, others=()):
        left = memoryview(text.encode())
        while left:
            try:
                left = left[self.raw.sock.send(left[:65536]):]
            except (ssl.SSLWantWriteError, BlockingIOError):
                read({self, *others}, writer=self)
            self.read()


def read(talkers, writer=None):
    with selectors.DefaultSelector() as s:
        for one in talkers:
            s.register(one.raw.sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if one is writer else 0), one)
        assert s.select(DEADLINE), "nobody says anything"
    for one in talkers:
        one.read()


CONFIG = """Component "%s" "muc"
  modules_enabled = { "muc_mam", "muc_limits" }
  muc_room_locking = false
  muc_room_default_persistent = true
  muc_event_rate = 0.001                 -- three events of an account, and then for long no more
  muc_burst_factor = 3000
  certificate = "%s"
  key = "%s"
"""


class World:
    """romeo is in the tower with benvolio of the honest y.lab, nurse owns the garden, into which forty people of x.lab have come."""

    def __init__(self):
        self.lab = lab = Lab()
        rooms = CONFIG % (ROOMS, *lab.authority.issue(ROOMS))
        self.here = lab.couplet("verona.lab", accounts={"romeo": "secret", "nurse": "secret"}, of_host=lambda _: rooms,
                                modules=["s2s_bidi", "ping", "limits"])
        lab.zone[ROOMS] = lab.zone["verona.lab"]
        self.marks = 0

    def __enter__(self):
        self.lab.start()
        self.romeo, self.nurse = (Talker(User.login(self.lab, self.here, name)) for name in ("romeo", "nurse"))
        self.honest, self.hostile = server(self.lab, self.here, "y.lab"), server(self.lab, self.here, "x.lab")
        self.all = self.romeo, self.nurse, self.honest, self.hostile
        self.romeo.pour("<presence/>" + join("", TOWER, "Romeo"))
        self.nurse.pour(join("", GARDEN, "Nurse") + join("", PARK, "Nurse") + ("<iq type='set' id='moderated' to='%s'>%s</iq>" % (
            PARK, owner(x_data(MUC + "#roomconfig", [("muc#roomconfig_moderatedroom", "1")])))))
        self.until(lambda: any(e.get("id") == "moderated" for e in self.nurse.got))
        self.honest.pour(join("benvolio@y.lab/1", TOWER, "Benvolio"))
        self.hostile.pour("".join(join("a%d@x.lab/1" % i, GARDEN, "A%d" % i) for i in range(40)) + join(VISITOR, PARK, "Visitor")
                          + join(OWNER, OWN, "Me"))
        self.settle()
        return self

    def __exit__(self, kind, *more):
        if kind:
            print(self.here.output()[-6000:])
        for one in self.all:
            one.raw.close()
        self.lab.__exit__(kind, *more)

    def until(self, condition):
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, "in vain"
            read(self.all)

    def settle(self):
        """Until the hostile server has had all its answers -> what they say, counted."""
        self.marks += 1
        mark = "mark%d" % self.marks
        self.hostile.pour(iq("mark@x.lab/1", GARDEN, PING, number=mark), self.all)
        self.until(lambda: any(e.get("id") == mark for e in self.hostile.got))
        answers, self.hostile.got = self.hostile.got, []
        return Counter(in_short(a) for a in answers if a.get("id") != mark)

    def attack(self, stanzas):
        """Half of it, then romeo says something in the tower, then the rest; romeo and benvolio hear it."""
        text, half = "word%d" % self.marks, len(stanzas) // 2
        self.hostile.pour("".join(stanzas[:half]), self.all)
        self.romeo.pour("<message type='groupchat' to='%s'><body>%s</body></message>" % (TOWER, text))
        self.hostile.pour("".join(stanzas[half:]), self.all)
        answers = self.settle()
        for one in (self.romeo, self.honest):
            self.until(lambda one=one: any(e.findtext("{*}body") == text for e in one.got))
        return answers


def in_short(stanza):
    """"wait policy-violation", the type of another <iq/>, or the name of another stanza."""
    error = stanza.find("error")
    if error is not None:
        return "%s %s" % (error.get("type"), next(c.tag.replace(STANZAS, "") for c in error))
    return stanza.get("type") if stanza.tag == "iq" else stanza.tag


def server(lab, here, domain):
    """A stream from there that is proved, and carries what goes there as well (XEP-0288)."""
    r = Raw.connect(here.s2s).opened_tls(lab, domain, ROOMS, lab.authority.issue(domain))
    r.send("<bidi xmlns='urn:xmpp:bidi'/>").external(domain).expect("<success[^>]*/>")
    r.text = ""
    r.open(domain, ROOMS).expect("<stream:features>.*?</stream:features>|<stream:features/>")
    return Talker(r)


def memory(server):
    return int(next(line for line in open("/proc/%d/status" % server.process.pid) if line.startswith("VmRSS")).split()[1])


# What is said ----------------------------------------------------------------------------------------------------------------


def join(who, room, nick):
    return "<presence%s to='%s/%s'><x xmlns='%s'/></presence>" % (who and " from='%s'" % who, room, nick, MUC)


def presence(who, to, inner="", kind=""):
    return "<presence%s from='%s' to='%s'>%s</presence>" % (kind and " type='%s'" % kind, who, to, inner)


def message(who, to, inner, kind=""):
    return "<message%s from='%s' to='%s'>%s</message>" % (kind and " type='%s'" % kind, who, to, inner)


def iq(who, to, inner, kind="get", number=1):
    return "<iq type='%s' id='%s' from='%s' to='%s'>%s</iq>" % (kind, number, who, to, inner)


def x_data(form_type, fields, kind="submit"):
    return "<x xmlns='jabber:x:data' type='%s'><field var='FORM_TYPE' type='hidden'><value>%s</value></field>%s</x>" % (
        kind, form_type, "".join("<field var='%s'><value>%s</value></field>" % pair for pair in fields))


def invite(to, n=1):
    return "<x xmlns='%s#user'>%s</x>" % (MUC, ("<invite to='%s'><reason>%s</reason></invite>" % (to, "r" * (4000 // n))) * n)


def decline(to):
    return "<x xmlns='%s#user'><decline to='%s'><reason>%s</reason></decline></x>" % (MUC, to, "r" * 4000)


def voice(times=1, more=()):
    return x_data(MUC + "#request", [("muc#role", "participant")] * times + list(more))


def register(nick, kind="submit"):
    return "<query xmlns='jabber:iq:register'>%s</query>" % x_data(MUC + "#register", [("muc#register_roomnick", nick)], kind)


def owner(form=""):
    return "<query xmlns='%s#owner'>%s</query>" % (MUC, form)


def config(value, times=1):
    return owner(x_data(MUC + "#roomconfig", [("muc#roomconfig_roomname", value)] * times))


def items(rsm):
    return "<query xmlns='http://jabber.org/protocol/disco#items'><set xmlns='http://jabber.org/protocol/rsm'>%s</set></query>" % rsm


def search(words):
    return "<search xmlns='%s:search'><set xmlns='http://jabber.org/protocol/rsm'><max>-1</max><after>x</after></set>%s</search>" % (
        SEARCH, x_data(SEARCH + ":search-params", [("q", words)]))


def mam(rsm):
    return "<query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'>%s</set></query>" % rsm


def error(condition):
    return "<error type='cancel'><%s xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>" % condition


PING, SEARCH = "<ping xmlns='urn:xmpp:ping'/>", "urn:xmpp:channel-search:0"
PAGES = ("<max>-1</max>", "<max>%s</max>" % ("9" * 300), "<after>nobody</after>", "<before>%s</before>" % ("z" * 9000),
         "<index>9223372036854775807</index>", "<index>-5</index>", "<max>1e9</max><after/>", "<before/><after/>")
ONE, VISITOR, OWNER, OUTSIDE = ("%s@x.lab/1" % name for name in ("a0", "visitor", "owner", "outside"))
ALL = ["a%d@x.lab/1" % i for i in range(40)]
WAIT, BAD, FORBIDDEN = "wait policy-violation", "modify bad-request", "auth forbidden"
TOO_BIG, OUT = "modify policy-violation", "modify not-acceptable"

# What is sent, and how often what comes back. Budgets: 60 invitations, refusals and requests of an account in ten minutes, 600
# registrations of a server, 100 rooms of an account, three events of an account in a room.
ROWS = [
    ("invitations", [message(ONE, GARDEN, invite("romeo@verona.lab"))] * 1000, {WAIT: 940}),
    ("invitations, a thousand in one", [message(ALL[1], GARDEN, invite("romeo@verona.lab", 1000))] * 50, {TOO_BIG: 50}),
    ("invitations from outside", [message(OUTSIDE, GARDEN, invite("romeo@verona.lab"))] * 1000, {OUT: 1000}),
    ("refusals", [message("d@x.lab", GARDEN, decline("nurse@verona.lab"))] * 1000, {WAIT: 940}),
    ("refusals to strangers", [message("e@x.lab", GARDEN, decline("n%d@z.lab" % i)) for i in range(1000)], {WAIT: 940}),
    ("requests for voice", [message(VISITOR, PARK, voice())] * 1000, {WAIT: 940}),
    ("requests for voice, a doubled field", [message(VISITOR, PARK, voice(2))] * 1000, {BAD: 1000}),
    ("requests for voice, giant", [message(VISITOR, PARK, voice(1, [("f%d" % i, "v" * 200) for i in range(1000)]))] * 5, {WAIT: 5}),
    ("registrations that are none", [iq("q%d@x.lab" % i, GARDEN, register("Q", "form"), "set") for i in range(500)], {BAD: 500}),
    ("registrations", [iq("r%d@x.lab" % i, GARDEN, register("R%d" % i), "set") for i in range(600)], {"result": 100, WAIT: 500}),
    ("somebody else's configuration", [iq(ONE, GARDEN, owner())] * 1000, {FORBIDDEN: 1000}),
    ("somebody else's configuration, set", [iq(ONE, GARDEN, config("x" * 200, 1000), "set")] * 20, {FORBIDDEN: 20}),
    ("its own, a field a thousand times", [iq(OWNER, OWN, config("x" * 200, 1000), "set")] * 20, {BAD: 20}),
    ("its own, giant", [iq(OWNER, OWN, config("x" * 200000), "set")] * 10, {OUT: 10}),
    ("pages nobody would ask for", [iq(ONE, ROOMS, items(rsm)) for rsm in PAGES] * 100, {"result": 800}),
    ("searches", [iq(ONE, ROOMS, search("w%d" % i)) for i in range(1000)], {"result": 1000}),
    ("searches for a long word", [iq(ONE, ROOMS, search("w" * 5000))] * 50, {BAD: 50}),
    ("self-pings", [iq(ALL[i % 40], "%s/A%d" % (GARDEN, i % 40), PING) for i in range(3000)], {"result": 3000}),
    ("pings from outside", [iq(OUTSIDE, GARDEN + "/A0", PING)] * 3000, {OUT: 3000}),
    ("errors for everything", [message(ALL[i % 40], GARDEN + "/Nurse", error("not-acceptable"), "error") for i in range(3000)], {}),
    ("presence, giant", [presence(ONE, GARDEN + "/A0", "<status>%s</status>" % ("s" * 20000))] * 100, {TOO_BIG: 100}),
    ("a giant subject", [message(OWNER, OWN, "<subject>%s</subject>" % ("s" * 100000), "groupchat")] * 20, {TOO_BIG: 20}),
    ("a giant nickname", [presence(OWNER, "%s/%s" % (OWN, "n" * 500))] * 500, {OUT: 500}),
    ("giant messages", [message(ALL[1], GARDEN, "<body>%s</body>" % ("b" * 100000), "groupchat")] * 20, {TOO_BIG: 20}),
    ("messages", [message(ALL[i % 40], GARDEN, "<body>b</body>", "groupchat") for i in range(3000)], {"message": 3200, WAIT: 2920}),
    ("nicknames", [presence(ALL[i % 40], "%s/B%d" % (GARDEN, i)) for i in range(3000)], {WAIT: 3000}),
    ("the archive", [iq(ONE, GARDEN, mam("<max>1000</max>"), "set")] * 100, {"message": 5000, "result": 100}),
    ("the archive, from nowhere on", [iq(ONE, GARDEN, mam("<after>x</after>"), "set")] * 1000, {"cancel item-not-found": 1000}),
    ("errors of all who are there", [message(who, GARDEN + "/Nurse", error("gone"), "error") for who in ALL], {"presence": 820}),
    ("coming again", [join(ALL[i % 40], GARDEN, "C%d" % i) for i in range(3000)], {WAIT: 3000}),
    ("others who come and go", [s for i in range(200) for s in (join("c%d@x.lab/1" % i, GARDEN, "C"), presence(
        "c%d@x.lab/1" % i, GARDEN + "/C", "", "unavailable"))], {"presence": 600, "message": 200 * 21}),
    ("rooms", [join("m@x.lab/1", "m%d@%s" % (i, ROOMS), "Me") for i in range(300)], {"presence": 100, "message": 100, "wait resource-constraint": 200}),
]


def spare(want):
    """Budgets fill up again while a slow machine is at it."""
    return want[WAIT] // 5 if WAIT in want else 0


@test("each flood gets the right answers, and people elsewhere hear each other all the while")
def floods():
    with World() as w:
        before = memory(w.here)
        for name, stanzas, want in ROWS:
            got = w.attack(stanzas)
            assert got.keys() == want.keys() and all(abs(got[k] - want[k]) <= spare(want) for k in want), (name, got, want)
        invited = sum(e.find("{*}x/{*}invite") is not None for e in w.romeo.got)
        assert 60 <= invited <= 80, invited
        if not SANITIZER:
            assert memory(w.here) - before < 60000, (before, memory(w.here))
        log = w.here.log()
        equal([line for line in log.splitlines() if " error " in line], [])
        assert "session from" not in log, "all streams are as they were"


sys.exit(done() != 0)
