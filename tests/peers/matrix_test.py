# SPDX-License-Identifier: MIT
"""Couplet with Debian's ejabberd and Prosody in every combination of proof (EXTERNAL, dialback) and way to TLS (STARTTLS, direct),
in both directions. One server of each kind has a domain for each row; so each starts once."""
import asyncio
import itertools
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from ejabberd import FINDABLE  # noqa: E402
from federation import Lab  # noqa: E402
from federation_users import Client  # noqa: E402
from server import free_port  # noqa: E402

LOOSE = "s2s_secure_auth = false\n"
BIG = 200000

# (peer, proof, way)
ROWS = list(itertools.product(("ejabberd", "prosody"), ("external", "dialback"), ("starttls", "direct")))


def here_of(row):
    return "%s-%s-%s.lab" % row


def there_of(row):
    return "there-" + here_of(row)


def parts(domain):
    """-> the row of a domain"""
    return tuple(domain.removeprefix("there-").removesuffix(".lab").split("-"))


def kind_of(domain):
    return "good" if parts(domain)[1] == "external" else "selfsigned"


class World:
    def __init__(self):
        self.lab = lab = Lab()
        lab.trust = lab.dir / "trust.pem"
        loose = lambda domain: LOOSE if kind_of(domain) == "selfsigned" else ""
        heres = [here_of(row) for row in ROWS]
        self.here = lab.couplet(*heres, accounts={"romeo@" + d: "secret" for d in heres}, kind=kind_of, of_host=loose)
        self.peers = {}
        for peer in ("ejabberd", "prosody"):
            theres = [there_of(row) for row in ROWS if row[0] == peer]
            self.peers[peer] = getattr(lab, peer)(*theres, accounts={"juliet@" + d: "secret" for d in theres}, kind=kind_of,
                                                  of_host=loose if peer == "prosody" else "")
        for row in ROWS:
            for domain, server in ((here_of(row), self.here), (there_of(row), self.peers[row[0]])):
                lab.zone[domain] = [(FINDABLE, server.s2s)]
                if row[2] == "direct":
                    lab.zone[domain] = [(FINDABLE, free_port())]               # nobody is there
                    lab.direct[domain] = [(FINDABLE, server.s2s_tls)]
        lab.trust.write_text("".join(p.read_text() for p in lab.dir.glob("*.crt")))


async def talk(romeo, juliet, world, row):
    """The account that is named first speaks first."""
    romeo.send_message(juliet.boundjid.bare, "But soft!", mtype="chat")
    got = await juliet.message()
    equal((str(got["from"]), got["body"], got["type"]), (romeo.boundjid.full, "But soft!", "chat"))
    juliet.send_message(got["from"], "Ay me — ☾ 🌹 <&>", mtype="chat")
    equal((await romeo.message())["body"], "Ay me — ☾ 🌹 <&>")
    romeo.send_presence_subscription(juliet.boundjid.bare)         # slixmpp approves and subscribes back by itself
    await romeo.presence_of(juliet.boundjid.full)
    await juliet.presence_of(romeo.boundjid.full)
    for asker, domain in ((romeo, juliet.boundjid.host), (juliet, romeo.boundjid.host)):
        info = await asker.plugin["xep_0030"].get_info(domain)
        assert ("server", "im") in {(i[0], i[1]) for i in info["disco_info"]["identities"]}, info
        await asker.plugin["xep_0092"].get_version(domain)
    for sender, receiver in ((romeo, juliet), (juliet, romeo)):
        sender.send_message(receiver.boundjid.full, "x" * BIG, mtype="chat")
        equal(len((await receiver.message())["body"]), BIG)
    for i in range(50):
        romeo.send_message(juliet.boundjid.full, str(i), mtype="chat")
    equal([(await juliet.message())["body"] for _ in range(50)], [str(i) for i in range(50)])
    await juliet.bye()
    await romeo.presence_of(juliet.boundjid.full, "unavailable")
    await romeo.bye()


def connections(world, row):
    """What Couplet's log says of the connections of that row: { (from or to, proof) }"""
    pattern = r"(from %s for %s|to %s for %s), TLS, proved by (\w+)" % (
        there_of(row), here_of(row), there_of(row), here_of(row))
    return {(way.split()[0], proof) for way, proof in re.findall(pattern, world.here.log())}


def on(world, row, first):
    async def body():
        romeo = await Client(world.lab, "romeo@%s/orchard" % here_of(row)).online(world.here)
        juliet = await Client(world.lab, "juliet@%s/balcony" % there_of(row)).online(world.peers[row[0]])
        await talk(*((romeo, juliet) if first == "here" else (juliet, romeo)), world, row)
        proof = "EXTERNAL" if row[1] == "external" else "dialback"
        equal(connections(world, row), {("from", proof), ("to", proof)})
        if row[2] == "direct":
            assert "trying 127.0.0.1 port %d (TLS)" % world.peers[row[0]].s2s_tls in world.here.log()
    return body


world = World()
with world.lab:
    for _n, _row in enumerate(ROWS):
        test("%s, proved by %s, %s: chat, contacts, disco, large stanzas, order" % _row)(on(world, _row, "here" if _n % 2 else "there"))

    @test("ejabberd dies in the middle of a stream and comes back")
    async def restart():
        row, peer = ROWS[0], world.peers["ejabberd"]
        here = await Client(world.lab, "romeo@%s/orchard" % here_of(row)).online(world.here)
        juliet = await Client(world.lab, "juliet@%s/balcony" % there_of(row)).online(peer)
        here.send_message(juliet.boundjid.full, "one", mtype="chat")
        equal((await juliet.heard())["body"], "one")
        juliet.abort()
        ended = world.here.log().count("session to %s ended" % there_of(row))
        peer.kill()
        while world.here.log().count("session to %s ended" % there_of(row)) == ended:
            await asyncio.sleep(0.05)
        peer.start()
        juliet = await Client(world.lab, "juliet@%s/balcony" % there_of(row)).online(peer)
        while await here.ping_error(there_of(row)):               # until the back-off is over
            await asyncio.sleep(0.2)
        here.send_message(juliet.boundjid.full, "two", mtype="chat")
        equal((await juliet.heard())["body"], "two")
        juliet.send_message(here.boundjid.full, "three", mtype="chat")
        equal((await here.heard())["body"], "three")
        await juliet.bye()
        await here.bye()

    failed = done()
    if failed:
        for server in (world.here, *world.peers.values()):
            print("==== %s\n%s" % (server.hosts[0], server.output()[-6000:]))
sys.exit(failed != 0)
