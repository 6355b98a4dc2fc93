# SPDX-License-Identifier: MIT
"""kill -9 while a room's lists and its configuration change: what was confirmed is there, and nothing half done."""
import pathlib
import random
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from server import Server  # noqa: E402
from talk import Client  # noqa: E402

ROOM = "verona@rooms.localhost"
HOSTS = 'VirtualHost "localhost"\nComponent "rooms.localhost" "muc"\n'
OWNER, ADMIN = "http://jabber.org/protocol/muc#owner", "http://jabber.org/protocol/muc#admin"
REQUESTS, KILLS = 400, 6


class Owner(Client):
    def __init__(self, server):
        self.accounts, self.kept, self.server = {"romeo@localhost": "secret"}, {}, server
        super().__init__("romeo", self)
        self.login("romeo", "orchard")

    def iq(self, kind, id, inner):
        self.send("<iq type='%s' id='%s' to='%s'>%s</iq>" % (kind, id, ROOM, inner))

    def answer(self, id):
        got = super().answer(id)
        if got:
            equal(got.attrs["type"], "result")
        return got


def submit(fields):
    form_type = "<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>"
    return "<query xmlns='%s'><x xmlns='jabber:x:data' type='submit'>%s%s</x></query>" % (OWNER, form_type, "".join(
        "<field var='muc#roomconfig_%s'><value>%s</value></field>" % item for item in fields.items()))


def request(n, dice):
    """The n-th change -> (its text, what it does to { address: affiliation } and to the name of the room)"""
    if dice.random() < 0.3:
        name = "name %d" % n
        return submit({"roomname": name}), lambda lists, config: config.update(name=name)
    people = {"p%d@localhost" % dice.randrange(12): dice.choice(["member", "admin", "outcast", "none"]) for _ in range(dice.randint(1, 3))}
    items = "".join("<item jid='%s' affiliation='%s'/>" % item for item in people.items())
    return "<query xmlns='%s'>%s</query>" % (ADMIN, items), lambda lists, config: lists.update(people)


def state(owner):
    lists = {}
    for affiliation in ("member", "admin", "outcast"):
        owner.iq("get", affiliation, "<query xmlns='%s'><item affiliation='%s'/></query>" % (ADMIN, affiliation))
        for item in owner.answer(affiliation).elements()[0].elements():
            lists[item.attrs["jid"]] = affiliation
    owner.iq("get", "info", "<query xmlns='http://jabber.org/protocol/disco#info'/>")
    identity = next(e for e in owner.answer("info").elements()[0].elements() if e.name == "identity")
    return lists, identity.attrs["name"]


@test("%d times kill -9 in the middle of many changes" % KILLS)
def killed():
    dice = random.Random(45)
    with Server(hosts=HOSTS, accounts={"romeo@localhost": "secret"}) as server:
        owner = Owner(server)
        owner.send("<presence to='%s/Romeo'><x xmlns='http://jabber.org/protocol/muc'/></presence>" % ROOM)
        owner.iq("set", "make", submit({"persistentroom": "1", "roomname": "new"}))
        owner.answer("make")
        confirmed = 0
        for kill in range(KILLS):
            known = state(owner)
            changes = [request(n, dice) for n in range(REQUESTS)]
            last = dice.randrange(1, REQUESTS // 2)             # dies some time after this answer

            for n, (text, _) in enumerate(changes):             # they fit what sockets hold; TLS is not for two threads at a time
                owner.iq("set", "c%d" % n, text)
            for n in range(last):
                assert owner.answer("c%d" % n) is not None
            server.kill()
            n = last
            while owner.answer("c%d" % n) is not None:           # what was still on its way counts
                n += 1
            confirmed += n
            owner.sock.close()
            server.start()
            owner = Owner(server)
            found = state(owner)
            lists, config = dict(known[0]), {"name": known[1]}
            possible = []
            for i in range(REQUESTS + 1):
                if i >= n:
                    possible.append(({who: a for who, a in lists.items() if a != "none"}, config["name"]))
                if i < REQUESTS:
                    changes[i][1](lists, config)
            assert found in possible, "after %d confirmed changes: %r, not %r" % (n, found, possible[0])
        print("%d changes confirmed, %d crashes" % (confirmed, KILLS))
        owner.sock.close()


sys.exit(done() != 0)
