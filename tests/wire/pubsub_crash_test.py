# SPDX-License-Identifier: MIT
"""kill -9 while nodes change, of an account and of a service: what was confirmed is there, and nothing half done."""
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from server import Server  # noqa: E402
from talk import Client  # noqa: E402

NS = "http://jabber.org/protocol/pubsub"
HOSTS = 'VirtualHost "localhost"\nComponent "pubsub.localhost" "pubsub"\npubsub_create = "local"\n'
REQUESTS, KILLS, PEOPLE, ITEMS = 300, 4, 8, 10


class Owner(Client):
    def __init__(self, server, to):
        self.accounts, self.kept, self.server, self.to = {"romeo@localhost": "secret"}, {}, server, to
        super().__init__("romeo", self)
        self.login("romeo", "orchard")

    def iq(self, kind, id, inner, owner=False):
        self.send("<iq type='%s' id='%s' to='%s'><pubsub xmlns='%s%s'>%s</pubsub></iq>" % (
            kind, id, self.to, NS, "#owner" if owner else "", inner))


def form(kind, name, value):
    return ("<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>%s#%s</value></field>"
            "<field var='pubsub#%s'><value>%s</value></field></x>" % (NS, kind, name, value))


def request(n, dice):
    """The n-th change -> (its text, of owners?, what it does to the state)"""
    def set_or_drop(key, value):
        return lambda state: state.update({key: value})
    what = dice.choice(["publish", "publish", "retract", "subscribe", "unsubscribe", "affiliation", "title", "purge"])
    item, who = "i%d" % dice.randrange(ITEMS), "romeo@localhost/%d" % dice.randrange(PEOPLE)
    if what == "publish":
        return ("<publish node='n'><item id='%s'><x xmlns='urn:x' n='%d'/></item></publish>" % (item, n), False,
                set_or_drop(item, str(n)))
    if what == "retract":
        return "<retract node='n'><item id='%s'/></retract>" % item, False, set_or_drop(item, None)
    if what == "subscribe":
        return "<subscribe node='n' jid='%s'/>" % who, False, set_or_drop(who, "subscribed")
    if what == "unsubscribe":
        return "<unsubscribe node='n' jid='%s'/>" % who, False, set_or_drop(who, None)
    if what == "affiliation":
        person, role = "p%d@localhost" % dice.randrange(PEOPLE), dice.choice(["publisher", "outcast", "none"])
        return ("<affiliations node='n'><affiliation jid='%s' affiliation='%s'/></affiliations>" % (person, role), True,
                set_or_drop(person, role if role != "none" else None))
    if what == "title":
        return "<configure node='n'>%s</configure>" % form("node_config", "title", "title %d" % n), True, set_or_drop("title", "title %d" % n)
    if dice.random() < 0.7:                            # not too often
        return "<retract node='n'><item id='%s'/></retract>" % item, False, set_or_drop(item, None)
    return "<purge node='n'/>", True, lambda state: state.update({"i%d" % i: None for i in range(ITEMS)})


def state(owner):
    out = {}
    owner.iq("get", "items", "<items node='n'/>")
    for item in owner.answer("items").elements()[0].elements()[0].elements():
        out[item.attrs["id"]] = item.elements()[0].attrs["n"]
    owner.iq("get", "subs", "<subscriptions node='n'/>", True)
    for sub in owner.answer("subs").elements()[0].elements()[0].elements():
        out[sub.attrs["jid"]] = sub.attrs["subscription"]
    owner.iq("get", "affs", "<affiliations node='n'/>", True)
    for one in owner.answer("affs").elements()[0].elements()[0].elements():
        if one.attrs["affiliation"] != "owner":
            out[one.attrs["jid"]] = one.attrs["affiliation"]
    owner.iq("get", "config", "<configure node='n'/>", True)
    for field in owner.answer("config").elements()[0].elements()[0].elements()[0].elements():
        if field.attrs.get("var") == "pubsub#title" and field.elements():
            out["title"] = field.elements()[0].text()
    return {key: value for key, value in out.items() if value}


def crashes(to):
    dice = random.Random(60)
    with Server(hosts=HOSTS, accounts={"romeo@localhost": "secret"}, modules=["pep"], config="limits = {}\n") as server:
        owner = Owner(server, to)
        owner.iq("set", "make", "<create node='n'/><configure>%s</configure>" % form("node_config", "max_items", "100"))
        equal(owner.answer("make").attrs["type"], "result")
        confirmed = 0
        for kill in range(KILLS):
            known = state(owner)
            changes = [request(n, dice) for n in range(REQUESTS)]
            last = dice.randrange(1, REQUESTS // 2)
            for n, (text, of_owners, _) in enumerate(changes):
                owner.iq("set", "c%d" % n, text, of_owners)
            for n in range(last):
                assert owner.answer("c%d" % n) is not None
            server.kill()
            n = last
            while owner.answer("c%d" % n) is not None:
                n += 1
            confirmed += n
            owner.sock.close()
            server.start()
            owner = Owner(server, to)
            found = state(owner)
            now, possible = dict(known), []
            for i in range(REQUESTS + 1):
                if i >= n:
                    possible.append({key: value for key, value in now.items() if value})
                if i < REQUESTS:
                    changes[i][2](now)
            assert found in possible, "after %d confirmed changes: %r, not %r" % (n, found, possible[0])
        print("%d changes confirmed, %d crashes" % (confirmed, KILLS))
        owner.sock.close()


@test("the node of an account: %d times kill -9 in the middle of many changes" % KILLS)
def account():
    crashes("romeo@localhost")


@test("the node of a service: %d times kill -9 in the middle of many changes" % KILLS)
def service():
    crashes("pubsub.localhost")


sys.exit(done() != 0)
