# SPDX-License-Identifier: MIT
"""aioxmpp, a strict client: STARTTLS, SCRAM, roster with subscription, presence, chat, disco, vCard."""
import asyncio
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import aioxmpp  # noqa: E402
import aioxmpp.connector  # noqa: E402
import aioxmpp.dispatcher  # noqa: E402
import aioxmpp.vcard  # noqa: E402
from check import done, equal, test  # noqa: E402
from server import DEADLINE, Server  # noqa: E402

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)


def client(server, jid, direct=False):
    connector = aioxmpp.connector.XMPPOverTLSConnector() if direct else aioxmpp.connector.STARTTLSConnector()
    return aioxmpp.PresenceManagedClient(
        aioxmpp.JID.fromstr(jid), aioxmpp.make_security_layer("secret", no_verify=True),
        override_peer=[("127.0.0.1", server.tls_port if direct else server.port, connector)])


def inbox(c):
    queue = asyncio.Queue()
    c.summon(aioxmpp.dispatcher.SimpleMessageDispatcher).register_callback(aioxmpp.MessageType.CHAT, None, queue.put_nowait)
    return queue


def says(to, text):
    m = aioxmpp.Message(type_=aioxmpp.MessageType.CHAT, to=aioxmpp.JID.fromstr(to))
    m.body[None] = text
    return m


@test("log in, subscribe, see each other, chat")
async def chat(server):
    romeo, juliet = client(server, "romeo@localhost/orchard"), client(server, "juliet@localhost/balcony", direct=True)
    box = inbox(juliet)
    rosters = [c.summon(aioxmpp.RosterClient) for c in (romeo, juliet)]
    seen = loop.create_future()

    def available(jid, _):           # returns nothing: a true value would end the connection of the signal
        if jid.localpart == "juliet" and not seen.done():
            seen.set_result(jid)
    romeo.summon(aioxmpp.PresenceClient).on_available.connect(available)
    async with romeo.connected(), juliet.connected():
        asked = loop.create_future()
        rosters[1].on_subscribe.connect(lambda p: (asked.done() or asked.set_result(p.from_), None)[1])
        rosters[0].subscribe(aioxmpp.JID.fromstr("juliet@localhost"))
        rosters[1].approve(await asyncio.wait_for(asked, DEADLINE))
        equal(str(await asyncio.wait_for(seen, DEADLINE)), "juliet@localhost/balcony")
        await romeo.send(says("juliet@localhost/balcony", "But soft!"))
        got = await asyncio.wait_for(box.get(), DEADLINE)
        equal((str(got.from_), got.body.any()), ("romeo@localhost/orchard", "But soft!"))


@test("disco and vCard")
async def questions(server):
    romeo = client(server, "romeo@localhost/orchard")
    disco, vcards = romeo.summon(aioxmpp.DiscoClient), romeo.summon(aioxmpp.vcard.VCardService)
    async with romeo.connected():
        info = await disco.query_info(aioxmpp.JID.fromstr("localhost"))
        assert ("server", "im") in {(i.category, i.type_) for i in info.identities}
        assert "urn:xmpp:ping" in info.features
        await vcards.get_vcard(aioxmpp.JID.fromstr("romeo@localhost"))


with Server(accounts={"romeo@localhost": "secret", "juliet@localhost": "secret"}) as server:
    failed = done(server)
sys.exit(failed != 0)
