# SPDX-License-Identifier: MIT
"""What hostile clients may try with what keeps devices in step: stream management, SASL2, Bind 2, tokens, archive, client state,
blocking, push. Each gets the error the XEP has for it, and somebody else is served meanwhile."""
import base64
import collections
import hashlib
import hmac
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from server import SANITIZER, Server, fair_clock  # noqa: E402
from talk import Client  # noqa: E402

PASSWORDS = {name + "@localhost": "secret" for name in ("romeo", "juliet", "tybalt", "paris")}
SM, SASL2, FAST, BIND2, MAM = "urn:xmpp:sm:3", "urn:xmpp:sasl:2", "urn:xmpp:fast:0", "urn:xmpp:bind:0", "urn:xmpp:mam:2"
STANZAS, SASL = "urn:ietf:params:xml:ns:xmpp-stanzas", "urn:ietf:params:xml:ns:xmpp-sasl"
AGENT = "d4565fa7-4d72-4749-b3d3-740edbf87770"
NONE = "HT-SHA-256-NONE"


class Talk:
    def __init__(self, server):
        self.server, self.kept, self.accounts = server, {}, PASSWORDS


def b64(data):
    return base64.b64encode(data if isinstance(data, bytes) else data.encode()).decode()


def logged_in(server, username, resource="abuse"):
    c = Client(username, Talk(server))
    c.login(username, resource)
    return c


def connected(server, username="nobody"):
    c = Client(username, Talk(server))
    c.connect(tls=True)
    c.open_stream()
    return c


def close(*clients):
    for c in clients:
        c.sock.close()


def error_of(c, id):
    """Condition of the answer with that id; "result" if it is one."""
    while True:
        got = c.next()
        assert got[0] == "element", got
        if got[1].name == "iq" and got[1].attrs.get("id") == id:
            if got[1].attrs["type"] == "result":
                return "result"
            return next(e.name for e in got[1].elements()[-1].elements() if e.ns == STANZAS)


# --- stream management ---

def resumable(server, resource):
    c = logged_in(server, "juliet", resource)
    c.send("<enable xmlns='%s' resume='true'/><presence/>" % SM)
    c.expect("<enabled xmlns='%s' id='$token'/>" % SM)
    c.token = c.talk.kept.pop("token")
    c.sync()
    return c


@test("a session resumed by two streams at once goes on with one of them, and loses nothing")
def two_at_once(server):
    romeo = logged_in(server, "romeo")
    for turn in range(8):
        juliet = resumable(server, "turn%d" % turn)
        if turn % 2:
            juliet.raw().close()
        rivals = []
        for _ in range(3):
            c = Client("juliet", Talk(server))
            c.authenticate("juliet")
            rivals.append(c)
        romeo.send("<message to='juliet@localhost/turn%d' type='chat' id='m%d'><body>x</body></message>" % (turn, turn))
        for c in rivals:
            c.send("<resume xmlns='%s' h='0' previd='%s'/>" % (SM, juliet.token))
        romeo.sync()
        got, alive = collections.Counter(), []
        for c in rivals:
            event = c.next()
            assert event[0] == "element", event
            got[event[1].name] += 1
            if event[1].name == "resumed":
                alive.append(c)
        assert got["resumed"] >= 1 and got["resumed"] + got["failed"] == 3, got
        heard = 0
        for c in alive:                                  # but one they were taken over, with conflict
            c.send("<r xmlns='%s'/>" % SM)
            ended = False
            while not ended:
                event = c.next()
                if event[0] != "element" or event[1].name == "error":
                    break
                ended = event[1].name == "a"
                heard += event[1].attrs.get("id") == "m%d" % turn and ended is False
            if ended:
                winner = c
        assert heard >= 1, "lost"
        winner.leave()
        for c in rivals:
            c.sock.close()
    close(romeo)


@test("a stream is not resumed twice, nor after a resource is bound, nor enabled into a second session")
def resume_again(server):
    juliet = resumable(server, "again")
    juliet.raw().close()
    c = Client("juliet", Talk(server))
    c.authenticate("juliet")
    resume = "<resume xmlns='%s' h='0' previd='%s'/>" % (SM, juliet.token)
    c.send(resume * 2 + "<enable xmlns='%s' resume='true'/>" % SM)
    c.expect("<resumed xmlns='%s' previd='%s'/>" % (SM, juliet.token))
    got = []
    while len(got) < 2:
        event = c.next()
        if event[0] == "element" and event[1].ns == SM and event[1].name == "failed":
            got.append(event[1].elements()[0].name)
    equal(got, ["unexpected-request"] * 2)
    c.sync()
    c.leave()


@test("floods of <r/>, <a/> and <enable/> hold up nobody")
def nonzas(server):
    juliet, romeo = resumable(server, "flood"), logged_in(server, "romeo")
    for _ in range(20):
        juliet.send(("<r xmlns='%s'/><a xmlns='%s' h='0'/><enable xmlns='%s'/>" % (SM, SM, SM)) * 50)
        romeo.sync()
        count = collections.Counter()
        while count["a"] < 50 or count["failed"] < 50:
            event = juliet.next()
            assert event[0] == "element", event
            count[event[1].name] += 1
    juliet.sync()
    juliet.leave()
    close(romeo)


# --- SASL2, Bind 2, tokens ---

def authenticate(c, mechanism, data, inside="", agent=AGENT):
    user_agent = "<user-agent id='%s'/>" % agent if agent else ""
    c.send("<authenticate xmlns='%s' mechanism='%s'><initial-response>%s</initial-response>%s%s</authenticate>"
           % (SASL2, mechanism, b64(data), user_agent, inside))


PLAIN = b"\0juliet\0secret"


def answer(c):
    event = c.next()
    assert event[0] == "element", event
    if event[1].name == "failure":
        return event[1].elements()[0].name
    return event[1].name


_PIECES = {"p": b64(PLAIN), "x": SASL2, "a": AGENT}
for _name, _text, _want in (
    ("no mechanism", "<authenticate xmlns='%(x)s'/>", "malformed-request"),
    ("one that does not exist", "<authenticate xmlns='%(x)s' mechanism='NONE'/>", "invalid-mechanism"),
    ("a name of 100 KB", "<authenticate xmlns='%(x)s' mechanism='" + "M" * 4000 + "'/>", "invalid-mechanism"),
    ("no base64", "<authenticate xmlns='%(x)s' mechanism='PLAIN'><initial-response>=</initial-response></authenticate>",
     "incorrect-encoding"),
    ("an element in it", "<authenticate xmlns='%(x)s' mechanism='PLAIN'><initial-response><b/></initial-response></authenticate>",
     "incorrect-encoding"),
    ("nothing in it", "<authenticate xmlns='%(x)s' mechanism='PLAIN'><initial-response/></authenticate>", "malformed-request"),
    ("an id that is none", "<authenticate xmlns='%(x)s' mechanism='PLAIN'><initial-response>%(p)s</initial-response>"
     "<user-agent id='../../etc'/></authenticate>", "malformed-request"),
    ("an id of 4 KB", "<authenticate xmlns='%(x)s' mechanism='PLAIN'><initial-response>%(p)s</initial-response>"
     "<user-agent id='" + "f" * 4000 + "'/></authenticate>", "malformed-request"),
    ("a token without a client", "<authenticate xmlns='%(x)s' mechanism='HT-SHA-256-NONE'>"
     "<initial-response>%(p)s</initial-response><fast xmlns='urn:xmpp:fast:0'/></authenticate>", "malformed-request"),
    ("a count that is none", "<authenticate xmlns='%(x)s' mechanism='HT-SHA-256-NONE'><initial-response>%(p)s</initial-response>"
     "<user-agent id='%(a)s'/><fast xmlns='urn:xmpp:fast:0' count='-1'/></authenticate>", "malformed-request"),
    ("a password as a token", "<authenticate xmlns='%(x)s' mechanism='PLAIN'><initial-response>%(p)s</initial-response>"
     "<user-agent id='%(a)s'/><fast xmlns='urn:xmpp:fast:0'/></authenticate>", "invalid-mechanism"),
    ("a token's mechanism without <fast/>", "<authenticate xmlns='%(x)s' mechanism='HT-SHA-256-NONE'><initial-response>%(p)s"
     "</initial-response><user-agent id='%(a)s'/></authenticate>", "invalid-mechanism"),
    ("a response to nothing", "<response xmlns='%(x)s'>%(p)s</response>", "malformed-request"),
    ("an abort of nothing", "<abort xmlns='%(x)s'/>", "aborted"),
    ("a task nobody gave", "<next xmlns='%(x)s' task='UPGR-SCRAM-SHA-512'/>", "malformed-request"),
    ("data of no task", "<task-data xmlns='%(x)s'/>", "malformed-request"),
):
    @test("SASL2: " + _name)
    def row(server, text=_text, want=_want):
        c = connected(server)
        c.send(text % _PIECES)
        equal(answer(c), want)
        authenticate(c, "PLAIN", PLAIN)                # the stream is as good as before
        equal(answer(c), "success")
        close(c)


@test("SASL2: aborted half-way, and begun twice")
def halfway(server):
    c = connected(server)
    scram = "<authenticate xmlns='%s' mechanism='SCRAM-SHA-256'><initial-response>%s</initial-response></authenticate>" \
        % (SASL2, b64("n,,n=juliet,r=" + "x" * 24))
    c.send(scram)
    equal(answer(c), "challenge")
    c.send("<abort xmlns='%s'/>" % SASL2)
    equal(answer(c), "aborted")
    c.send("<response xmlns='%s'>%s</response>" % (SASL2, b64("c=biws,r=x,p=x")))
    equal(answer(c), "malformed-request")
    c.send(scram)
    equal(answer(c), "challenge")
    c.send(scram)
    c.expect("<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>")
    close(c)


@test("SASL2: authenticated, one does not authenticate again; nothing is enabled without a resource")
def twice(server):
    c = connected(server)
    authenticate(c, "PLAIN", PLAIN, "<enable xmlns='%s' resume='true'/><enable xmlns='urn:xmpp:carbons:2'/>" % SM)
    event = c.next()
    equal((event[1].name, [e.name for e in event[1].elements()]), ("success", ["authorization-identifier"]))
    c.expect("<stream:features/>")
    authenticate(c, "PLAIN", PLAIN)
    c.expect("<stream:error><unsupported-stanza-type xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>")
    close(c)


for _tag in ("x" * 5000, "a\tb", "a&#xA;b", "&#xFFFD;", "/", "  ", "\u202eevil", "<b/>"):
    @test("Bind 2: a tag %.12r makes a resource, or is left out" % _tag)
    def tag(server, text=_tag):
        c = connected(server)
        authenticate(c, "PLAIN", PLAIN, "<bind xmlns='%s'><tag>%s</tag></bind>" % (BIND2, text))
        event = c.next()
        equal(event[1].name, "success")
        full = next(e for e in event[1].elements() if e.name == "authorization-identifier").text()
        assert full.startswith("juliet@localhost/") and len(full) < 400 and not re.search(r"[\x00-\x1f]", full), full
        c.bound = True
        c.expect("<stream:features/>")
        c.sync()
        c.leave()


def proof(name, token):
    return name.encode() + b"\0" + hmac.digest(token, b"Initiator", "sha256")


def token_for(server, username, agent=AGENT):
    c = connected(server)
    authenticate(c, "PLAIN", b"\0%s\0secret" % username.encode(),
                 "<request-token xmlns='%s' mechanism='%s'/>" % (FAST, NONE), agent)
    event = c.next()
    close(c)
    return next(e for e in event[1].elements() if e.name == "token").attrs["token"].encode()


def try_token(server, data, more="", agent=AGENT, mechanism=NONE):
    c = connected(server)
    authenticate(c, mechanism, data, "<fast xmlns='%s'%s/>" % (FAST, more), agent)
    event = c.next()
    close(c)
    return event[1].elements()[0].name if event[1].name == "failure" else event[1].name, str(event[1])


@test("tokens: of another client, account or mechanism, replayed, invalidated: not-authorized, as for an account nobody has")
def tokens(server):
    token = token_for(server, "juliet")
    other = "00000000-0000-4000-8000-000000000000"
    right = proof("juliet", token)
    refused = {
        "nobody": try_token(server, proof("nobody", token)),
        "garbage": try_token(server, proof("juliet", b"x")),
        "client": try_token(server, right, agent=other),
        "account": try_token(server, proof("romeo", token)),
        "exporter": try_token(server, right, mechanism="HT-SHA-256-EXPR"),
        "end point": try_token(server, right, mechanism="HT-SHA-256-ENDP"),
    }
    equal(try_token(server, right, " count='5'")[0], "success")
    for count in ("5", "4", "0"):
        refused["count " + count] = try_token(server, right, " count='%s'" % count)
    equal(try_token(server, right, " count='6' invalidate='true'")[0], "success")
    refused["invalidated"] = try_token(server, right, " count='7'")
    equal({name: found[0] for name, found in refused.items()}, dict.fromkeys(refused, "not-authorized"))
    equal(len({found[1] for found in refused.values()}), 1)     # and not a byte between them


@test("tokens: used by many streams at once, each lets in and none gets the old one back")
def tokens_at_once(server):
    token = token_for(server, "romeo")
    clients = [connected(server) for _ in range(8)]
    for c in clients:
        authenticate(c, NONE, proof("romeo", token), "<fast xmlns='%s' count='1'/>" % FAST)
    got = collections.Counter(answer(c) for c in clients)
    equal(got, {"success": 1, "not-authorized": 7})             # the same count: one is the original
    close(*clients)


# --- archive, client state, blocking, push ---

@test("archive: a flood of queries holds up nobody; preferences for thousands are refused, the old ones stay")
def archive(server):
    juliet, romeo = logged_in(server, "juliet"), logged_in(server, "romeo")
    for i in range(60):
        romeo.send("<message to='juliet@localhost' type='chat'><body>%s</body></message>" % ("x" * 500))
    romeo.sync()
    juliet.sync()
    juliet.queue.clear()
    worst = 0
    for turn in range(5):
        for i in range(20):
            juliet.send("<iq type='set' id='q%d'><query xmlns='%s' queryid='q'><set xmlns='http://jabber.org/protocol/rsm'>"
                        "<max>99999</max><before/></set><flip-page/></query></iq>" % (i, MAM))
        began = fair_clock(server)
        romeo.sync()
        worst = max(worst, fair_clock(server) - began)
        for i in range(20):
            equal(error_of(juliet, "q%d" % i), "result")
    assert worst < (5 if not SANITIZER else 15), worst
    juliet.send("<iq type='get' id='m'><metadata xmlns='%s'/></iq>" % MAM)
    juliet.expect("<iq type='result' id='m'><metadata xmlns='%s'><start id='$first'/></metadata></iq>" % MAM)
    first = juliet.talk.kept["first"]
    rsm = "<set xmlns='http://jabber.org/protocol/rsm'><%s>%s</%s></set>"
    form = "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>%s</value></field>" % MAM \
        + "<field var='%s'><value>%s</value></field></x>"
    for i, inside in enumerate([rsm % (n, first, n) for n in ("after", "before")]
                               + [form % (n, first) for n in ("after-id", "before-id", "ids")]):
        for c, want in ((juliet, "result"), (romeo, "item-not-found")):          # an id of somebody else is none
            c.send("<iq type='set' id='f%d'><query xmlns='%s'>%s</query></iq>" % (i, MAM, inside))
            equal((i, error_of(c, "f%d" % i)), (i, want))
    many = "".join("<jid>a%d@x</jid>" % i for i in range(2000))
    juliet.send("<iq type='set' id='p'><prefs xmlns='%s' default='never'><always>%s</always><never>%s</never></prefs></iq>"
                % (MAM, many, many.replace("a", "b")))
    equal(error_of(juliet, "p"), "resource-constraint")
    for i, inside in enumerate(("<always><jid>a@@b</jid></always>", "<never><jid/></never>")):
        juliet.send("<iq type='set' id='w%d'><prefs xmlns='%s' default='always'>%s</prefs></iq>" % (i, MAM, inside))
        equal(error_of(juliet, "w%d" % i), "jid-malformed")
    juliet.send("<iq type='get' id='g'><prefs xmlns='%s'/></iq>" % MAM)
    juliet.expect("<iq type='result' id='g'><prefs xmlns='%s' default='always'/></iq>" % MAM)
    romeo.send("<iq type='set' id='o' to='juliet@localhost'><query xmlns='%s'/></iq>" % MAM)
    equal(error_of(romeo, "o"), "forbidden")
    close(juliet, romeo)


@test("client state: ten thousand changes a second, and everything still comes in order")
def flapping(server):
    juliet, romeo = logged_in(server, "juliet"), logged_in(server, "romeo")
    juliet.send("<presence/>")
    juliet.sync()
    juliet.queue.clear()
    for turn in range(20):
        juliet.send("<inactive xmlns='urn:xmpp:csi:0'/><active xmlns='urn:xmpp:csi:0'/>" * 250)
        romeo.send("<message to='juliet@localhost/abuse' type='chat' id='s%d'>"
                   "<composing xmlns='http://jabber.org/protocol/chatstates'/></message>" % turn)
        romeo.sync()
    juliet.sync()
    equal([e[1].attrs["id"] for e in juliet.queue if e[1].name == "message"], ["s%d" % i for i in range(20)])
    close(juliet, romeo)


@test("blocking: thousands of addresses, oneself, the server, what is no address")
def blocking(server):
    juliet, romeo = logged_in(server, "juliet"), logged_in(server, "romeo")
    items = "".join("<item jid='a%d@x'/>" % i for i in range(4000))
    rows = (("block", items, "resource-constraint"), ("unblock", items, "result"), ("block", "", "bad-request"),
            ("block", "<item/>", "bad-request"), ("block", "<item jid=''/>", "jid-malformed"),
            ("block", "<item jid='@x'/><item jid='tybalt@localhost'/>", "jid-malformed"),
            ("block", "<item jid='juliet@localhost'/><item jid='juliet@localhost/abuse'/>", "result"))
    for i, (name, inside, want) in enumerate(rows):
        juliet.send("<iq type='set' id='b%d'><%s xmlns='urn:xmpp:blocking'>%s</%s></iq>" % (i, name, inside, name))
        equal((i, error_of(juliet, "b%d" % i)), (i, want))
    romeo.send("<message to='juliet@localhost/abuse' id='still'><body>x</body></message>")
    juliet.expect("<message id='still'/>")
    juliet.sync()
    juliet.send("<iq type='set' id='u'><unblock xmlns='urn:xmpp:blocking'/></iq>")
    equal(error_of(juliet, "u"), "result")
    juliet.send("<iq type='set' id='huge'><block xmlns='urn:xmpp:blocking'>%s</block></iq>" % (items * 3))
    juliet.expect("<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>")
    romeo.sync()
    close(juliet, romeo)


@test("push: a thousand endpoints are five; somebody named as one against his will hears little, and others are served")
def push(server):
    paris, tybalt, romeo = logged_in(server, "paris"), logged_in(server, "tybalt"), logged_in(server, "romeo")
    for i in range(1000):
        paris.send("<iq type='set' id='e%d'><enable xmlns='urn:xmpp:push:0' jid='tybalt@localhost/abuse' node='n%d'/></iq>"
                   % (i, i))
        if i % 100 == 99:
            equal(error_of(paris, "e%d" % i), "result")
            romeo.sync()
    paris.leave()
    for i in range(100):
        romeo.send("<message to='paris@localhost' type='chat'><body>%d</body></message>" % i)
    romeo.sync()
    tybalt.sync()
    nodes = re.findall(r"publish[^>]*node='?(n\d+)", " ".join(str(e[1]) for e in tybalt.queue))
    equal(len([e for e in tybalt.queue if e[1].name == "iq"]), 5)
    assert "n999" in nodes, nodes
    close(tybalt, romeo)


config = """
max_sasl_attempts = 100
auth_lockout_threshold = 1000
smacks_max_unacked_stanzas = 5
limits = {}
"""
with Server(accounts=PASSWORDS, config=config, modules=["sasl2", "sasl2_bind2", "sasl2_fast", "sasl2_sm", "mam", "carbons",
                                                        "csi_simple", "blocklist", "cloud_notify", "offline"]) as server:
    failed = done(server)
sys.exit(failed != 0)
