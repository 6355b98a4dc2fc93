# SPDX-License-Identifier: MIT
"""A user with several devices: slixmpp and aioxmpp use what keeps them in sync."""
import asyncio
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import aioxmpp  # noqa: E402
import aioxmpp.blocking  # noqa: E402
import aioxmpp.carbons  # noqa: E402
import aioxmpp.connector  # noqa: E402
import aioxmpp.dispatcher  # noqa: E402
import slixmpp  # noqa: E402
from check import done, equal, test  # noqa: E402
from server import DEADLINE, Server, certificate  # noqa: E402

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)


class Client(slixmpp.ClientXMPP):
    def __init__(self, jid):
        super().__init__(jid, "secret")
        self.ca_certs = pathlib.Path(certificate()) / "cert.pem"
        for plugin in ("xep_0030", "xep_0199", "xep_0280", "xep_0191", "xep_0352"):
            self.register_plugin(plugin)
        self.messages = self.queue("message")

    def queue(self, event):
        queue = asyncio.Queue()
        self.add_event_handler(event, queue.put_nowait)
        return queue

    async def online(self, server, priority=0):
        started = loop.create_future()
        self.add_event_handler("session_start", lambda e: started.done() or started.set_result(True))
        self.connect(("127.0.0.1", server.port))
        await asyncio.wait_for(started, DEADLINE)
        await self.get_roster()
        self.send_presence(ppriority=priority)
        return self

    async def ping(self):
        await self.plugin["xep_0199"].ping("localhost")


async def soon(queue):
    return await asyncio.wait_for(queue.get(), DEADLINE)


def strict(server, jid):
    return aioxmpp.PresenceManagedClient(
        aioxmpp.JID.fromstr(jid), aioxmpp.make_security_layer("secret", no_verify=True),
        override_peer=[("127.0.0.1", server.port, aioxmpp.connector.STARTTLSConnector())])


@test("carbons: a slixmpp phone follows what the desk says and hears")
async def carbons(server):
    desk, phone, juliet = Client("romeo@localhost/desk"), Client("romeo@localhost/phone"), Client("juliet@localhost/balcony")
    received, sent = phone.queue("carbon_received"), phone.queue("carbon_sent")
    for client, priority in ((desk, 5), (phone, 0), (juliet, 0)):
        await client.online(server, priority)
    await phone.plugin["xep_0280"].enable()
    juliet.send_message("romeo@localhost", "Ay me", mtype="chat")
    equal((await soon(desk.messages))["body"], "Ay me")
    copy = (await soon(received))["carbon_received"]
    equal((str(copy["from"]), str(copy["to"]), copy["body"]), ("juliet@localhost/balcony", "romeo@localhost", "Ay me"))
    desk.send_message("juliet@localhost", "But soft", mtype="chat")
    copy = (await soon(sent))["carbon_sent"]
    equal((str(copy["from"]), str(copy["to"]), copy["body"]), ("romeo@localhost/desk", "juliet@localhost", "But soft"))
    await phone.plugin["xep_0280"].disable()
    juliet.send_message("romeo@localhost/desk", "again", mtype="chat")
    await soon(desk.messages)
    await phone.ping()
    assert received.empty(), "a copy after disable"
    for client in (desk, phone, juliet):
        await client.disconnect()


@test("carbons: aioxmpp, which checks whom a copy is from")
async def strict_carbons(server):
    phone = strict(server, "romeo@localhost/phone")
    copies = asyncio.Queue()
    service = phone.summon(aioxmpp.carbons.CarbonsClient)
    phone.stream.service_inbound_message_filter.register(
        lambda m: (m.xep0280_received and copies.put_nowait(m), m)[1], aioxmpp.carbons.CarbonsClient)
    desk, juliet = await Client("romeo@localhost/desk").online(server, 5), await Client("juliet@localhost/balcony").online(server)
    async with phone.connected():
        await service.enable()
        juliet.send_message("romeo@localhost/desk", "Ay me", mtype="chat")
        copy = await soon(copies)
        equal((str(copy.from_), str(copy.to)), ("romeo@localhost", "romeo@localhost/phone"))
        equal(copy.xep0280_received.stanza.body.any(), "Ay me")
        await service.disable()
    for client in (desk, juliet):
        await client.disconnect()


@test("blocking: slixmpp blocks, its other device hears of it, and messages stop both ways")
async def blocking(server):
    desk, phone, juliet = Client("romeo@localhost/desk"), Client("romeo@localhost/phone"), Client("juliet@localhost/balcony")
    for client in (desk, phone, juliet):
        await client.online(server)
    pushes = phone.queue("blocked")
    errors = juliet.queue("message_error")
    equal((await phone.plugin["xep_0191"].get_blocked())["blocklist"]["items"], set())
    await desk.plugin["xep_0191"].block("juliet@localhost")
    equal({str(j) for j in (await soon(pushes))["block"]["items"]}, {"juliet@localhost"})
    equal({str(j) for j in (await phone.plugin["xep_0191"].get_blocked())["blocklist"]["items"]}, {"juliet@localhost"})
    juliet.send_message("romeo@localhost", "Ay me", mtype="chat")
    equal((await soon(errors))["error"]["condition"], "service-unavailable")
    refused = desk.queue("message_error")
    desk.send_message("juliet@localhost", "But soft", mtype="chat")
    equal((await soon(refused))["error"]["condition"], "not-acceptable")
    await desk.plugin["xep_0191"].unblock("juliet@localhost")
    await juliet.ping()
    assert phone.messages.empty(), "a blocked message arrived"
    juliet.send_message("romeo@localhost", "again", mtype="chat")
    equal((await soon(desk.messages))["body"], "again")
    for client in (desk, phone, juliet):
        await client.disconnect()


@test("blocking: aioxmpp keeps its list in step")
async def strict_blocking(server):
    phone, desk = strict(server, "romeo@localhost/phone"), strict(server, "romeo@localhost/desk")
    service, other = phone.summon(aioxmpp.BlockingClient), desk.summon(aioxmpp.BlockingClient)
    known = asyncio.Queue()
    other.on_jids_blocked.connect(lambda jids: known.put_nowait(jids))
    whom = [aioxmpp.JID.fromstr(j) for j in ("far.example", "paris@verona.example")]
    async with phone.connected(), desk.connected():
        await service.block_jids(whom)
        seen = set()
        while seen != set(whom):
            seen |= set(await soon(known))
        await service.unblock_all()


@test("client state: slixmpp's phone sleeps, and wakes for a message")
async def client_state(server):
    phone, juliet = Client("romeo@localhost/phone"), Client("juliet@localhost/balcony")
    for client in (phone, juliet):
        await client.online(server)
    await phone.ping()
    phone.plugin["xep_0352"].send_inactive()
    await phone.ping()
    everything = phone.queue("presence_dnd")
    juliet.send_presence(pto="romeo@localhost/phone", pshow="dnd")
    await juliet.ping()
    juliet.send_message("romeo@localhost/phone", "Ay me", mtype="chat")
    equal((await soon(phone.messages))["body"], "Ay me")
    assert everything.qsize() == 1, "what waited comes first"
    phone.plugin["xep_0352"].send_active()
    await phone.ping()
    for client in (phone, juliet):
        await client.disconnect()


with Server(accounts={"romeo@localhost": "secret", "juliet@localhost": "secret"}, modules=["carbons", "blocklist", "csi_simple"]) as server:
    failed = done(server)
sys.exit(failed != 0)
