# SPDX-License-Identifier: MIT
"""Publish-subscribe and what one account may try against it over a real connection: an item of ten megabytes, nodes without end."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from server import SANITIZER, Server, fair_clock  # noqa: E402
from talk import Client  # noqa: E402

PASSWORDS = {name + "@localhost": "secret" for name in ("romeo", "juliet", "tybalt")}
NS = "http://jabber.org/protocol/pubsub"
TEN_MB = "<item id='big'><x xmlns='urn:x'>" + "x" * (10 * 1024 * 1024) + "</x></item>"
OTHERS = 2.0 if not SANITIZER else 20.0                # seconds the others may wait for an answer meanwhile


class Talk:
    def __init__(self, server):
        self.server, self.kept, self.accounts = server, {}, PASSWORDS


def logged_in(server, username, resource="pubsub"):
    c = Client(username, Talk(server))
    c.login(username, resource)
    return c


def rss(server):
    for line in open("/proc/%d/status" % server.process.pid):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024


def request(client, stanza_id, inner, to=None, kind="set"):
    client.send("<iq type='%s' id='%s'%s><pubsub xmlns='%s'>%s</pubsub></iq>" % (
        kind, stanza_id, " to='%s'" % to if to else "", NS, inner))


def answer(client, stanza_id):
    while True:
        event = client.next()
        if event[0] != "element":
            return event
        if event[1].name == "iq" and event[1].attrs.get("id") == stanza_id:
            return event


def conditions(event):
    error = [child for child in event[1].children if getattr(child, "name", None) == "error"][0]
    return [error.attrs["type"]] + [child.name for child in error.children if hasattr(child, "name") and child.name != "text"]


def made_of(client, to):
    """The nodes there are."""
    client.send("<iq type='get' id='nodes'%s><query xmlns='http://jabber.org/protocol/disco#items'/></iq>" % (
        " to='%s'" % to if to else " to='tybalt@localhost'"))
    return [item.attrs["node"] for item in answer(client, "nodes")[1].elements()[0].elements() if item.attrs["node"] != "urn:n"]


def others(server, juliet):
    """Somebody else publishes and reads, at once."""
    began = fair_clock(server)
    request(juliet, "other", "<publish node='urn:n'><item id='1'><x xmlns='urn:x'/></item></publish>")
    equal(answer(juliet, "other")[1].attrs["type"], "result")
    took = fair_clock(server) - began
    assert took < OTHERS, "others waited %.2f s" % took


@test("an item of 10 MB is more than a stanza may have: that connection ends, its account and others go on")
def too_long(server, _):
    juliet, tybalt = logged_in(server, "juliet"), logged_in(server, "tybalt")
    before = rss(server)
    try:
        request(tybalt, "big", "<publish node='urn:n'>%s</publish>" % TEN_MB)
    except OSError:
        pass                                           # closed while we were still sending
    others(server, juliet)
    said, event = [], tybalt.next()
    while event[0] != "eof":
        said.append(" ".join(map(str, event[1:])))
        event = tybalt.next()
    assert "policy-violation" in "".join(said) and "<iq" not in "".join(said), said
    others(server, juliet)
    assert rss(server) - before < 64 * 1024 * 1024 or SANITIZER, "grew by %d" % (rss(server) - before)
    tybalt = logged_in(server, "tybalt")
    request(tybalt, "look", "<items node='urn:n'/>", kind="get")
    equal(conditions(answer(tybalt, "look")), ["cancel", "item-not-found"])
    tybalt.sock.close()
    juliet.sock.close()


@test("where stanzas may be longer, the item is refused as payload-too-big, and the connection goes on")
def refused(_, server):
    juliet, tybalt = logged_in(server, "juliet"), logged_in(server, "tybalt")
    for to in (None, "pubsub.localhost"):
        request(tybalt, "big", "<publish node='urn:o'>%s</publish>" % TEN_MB, to)
        others(server, juliet)
        got = conditions(answer(tybalt, "big"))
        equal(got, ["modify", "not-acceptable", "payload-too-big"] if not to else ["cancel", "item-not-found"])
        equal(made_of(tybalt, to), [])                 # no node is left of it
    request(tybalt, "small", "<publish node='urn:o'><item id='1'><x xmlns='urn:x'/></item></publish>")
    equal(answer(tybalt, "small")[1].attrs["type"], "result")
    tybalt.sock.close()
    juliet.sock.close()


@test("nodes without end: so many, then max-nodes-exceeded, and the others notice nothing")
def nodes(_, server):
    juliet, tybalt = logged_in(server, "juliet"), logged_in(server, "tybalt")
    made, last = 0, None
    for start in range(0, 300, 50):
        for i in range(start, start + 50):
            request(tybalt, "n%d" % i, "<create node='urn:many:%d'/>" % i)
        others(server, juliet)
        for i in range(start, start + 50):
            event = answer(tybalt, "n%d" % i)
            made += event[1].attrs["type"] == "result"
            last = event
    equal(conditions(last), ["wait", "resource-constraint", "max-nodes-exceeded"])
    equal(made + 1, 200)                               # urn:o is one of them
    tybalt.sock.close()
    juliet.sock.close()


@test("the first things an account publishes, all at once: nodes are made as they come")
def first_ones(server, _):
    romeo = logged_in(server, "romeo")
    for i in range(20):
        request(romeo, "f%d" % i, "<publish node='urn:first:%d'><item id='%d'><x xmlns='urn:x'/></item></publish>" % (i % 3, i))
    for i in range(20):
        equal(answer(romeo, "f%d" % i)[1].attrs["type"], "result")
    romeo.sock.close()


@test("two who publish under one id at once: one item in the end, and all have heard the last of it last")
def racing(server, _):
    juliet, one, other = (logged_in(server, "juliet", name) for name in ("listener", "one", "other"))
    request(juliet, "s", "<publish node='urn:race'><item id='0'><x xmlns='urn:x'/></item></publish>")
    equal(answer(juliet, "s")[1].attrs["type"], "result")
    request(juliet, "sub", "<subscribe node='urn:race' jid='juliet@localhost/listener'/>")
    equal(answer(juliet, "sub")[1].attrs["type"], "result")
    for i in range(200):
        for client, name in ((one, "a"), (other, "b")):
            request(client, "p%d" % i, "<publish node='urn:race'><item id='same'><x xmlns='urn:x' n='%s%d'/></item></publish>" % (name, i))
    for client in (one, other):
        for i in range(200):
            equal(answer(client, "p%d" % i)[1].attrs["type"], "result")
    request(juliet, "look", "<items node='urn:race'/>", kind="get")
    heard = []
    while True:
        event = juliet.next()
        if event[1].name == "message":
            heard += [x.attrs["n"] for x in event[1].elements()[0].elements()[0].elements()[0].elements() if "n" in x.attrs]
        elif event[1].attrs.get("id") == "look":
            break
    items = event[1].elements()[0].elements()[0].elements()
    equal([item.attrs["id"] for item in items], ["same"])
    equal(items[0].elements()[0].attrs["n"], heard[-1])
    equal(len(heard), 400)
    equal([n for n in heard if n[0] == "a"], ["a%d" % i for i in range(200)])
    for client in (juliet, one, other):
        client.sock.close()


HOSTS = 'VirtualHost "localhost"\nComponent "pubsub.localhost" "pubsub"\n'
CONFIG = "pep_max_nodes = 200\nlimits = {}\n"
with Server(accounts=PASSWORDS, modules=["pep"], config=CONFIG, hosts=HOSTS) as small:
    with Server(accounts=PASSWORDS, modules=["pep"], config=CONFIG + "c2s_stanza_size_limit = 20971520\n", hosts=HOSTS) as large:
        failed = done(small, large)
sys.exit(failed != 0)
