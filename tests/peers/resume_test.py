# SPDX-License-Identifier: MIT
"""XEP-0198 with slixmpp: acknowledgements while it chats, and a session resumed after its connection was cut, by the client's
side and over a restart of the server."""
import asyncio
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import slixmpp  # noqa: E402
from check import done, equal, test  # noqa: E402
from server import DEADLINE, Server, certificate  # noqa: E402

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)


class Client(slixmpp.ClientXMPP):
    def __init__(self, jid):
        super().__init__(jid, "secret")
        self.ca_certs = pathlib.Path(certificate()) / "cert.pem"
        self.messages, self.ends, self.acked = asyncio.Queue(), asyncio.Queue(), asyncio.Queue()
        self.add_event_handler("message", self.messages.put_nowait)
        self.add_event_handler("stanza_acked", self.acked.put_nowait)
        self.add_event_handler("disconnected", self.ends.put_nowait)
        for plugin in ("xep_0198", "xep_0199"):
            self.register_plugin(plugin)

    async def until(self, server, event):
        happened = loop.create_future()
        self.add_event_handler(event, lambda e: happened.done() or happened.set_result(e))
        self.connect(("127.0.0.1", server.port))
        await asyncio.wait_for(happened, DEADLINE)
        return self

    async def online(self, server):
        await self.until(server, "session_start")
        self.send_presence()
        await self.plugin["xep_0199"].ping("localhost")
        return self

    async def resumed(self, server):
        return await self.until(server, "session_resumed")

    async def cut(self):
        self.transport.abort()
        await asyncio.wait_for(self.ends.get(), DEADLINE)

    async def bodies(self, n):
        return [(await asyncio.wait_for(self.messages.get(), DEADLINE))["body"] for _ in range(n)]


async def say(client, to, texts):
    for text in texts:
        client.send_message(to, text, mtype="chat")
    await client.plugin["xep_0199"].ping("localhost")


@test("what slixmpp sends is acknowledged")
async def acked(server):
    romeo, juliet = await Client("romeo@localhost/orchard").online(server), await Client("juliet@localhost/balcony").online(server)
    await say(romeo, "juliet@localhost", [str(n) for n in range(50)])
    equal(await juliet.bodies(50), [str(n) for n in range(50)])
    romeo.plugin["xep_0198"].request_ack()
    bodies = []
    while len(bodies) < 50:
        stanza = await asyncio.wait_for(romeo.acked.get(), DEADLINE)
        if isinstance(stanza, slixmpp.Message):
            bodies.append(stanza["body"])
    equal(bodies, [str(n) for n in range(50)])
    await romeo.disconnect()
    await juliet.disconnect()


@test("slixmpp resumes: what came meanwhile is there, once and in order; three times")
async def resume(server):
    romeo, juliet = await Client("romeo@localhost/orchard").online(server), await Client("juliet@localhost/balcony").online(server)
    full = juliet.boundjid.full
    for round in range(3):
        await say(romeo, full, ["%d-%d" % (round, n) for n in range(3)])
        equal(await juliet.bodies(3), ["%d-%d" % (round, n) for n in range(3)])
        await juliet.cut()
        await say(romeo, "juliet@localhost", ["%d-away-%d" % (round, n) for n in range(10)])
        await juliet.resumed(server)
        equal(await juliet.bodies(10), ["%d-away-%d" % (round, n) for n in range(10)])
        equal(juliet.boundjid.full, full)
        await say(juliet, "romeo@localhost", ["back %d" % round])
        equal(await romeo.bodies(1), ["back %d" % round])
    assert juliet.messages.empty()
    await romeo.disconnect()
    await juliet.disconnect()


@test("slixmpp resumes after a restart of the server")
async def restart(server):
    romeo, juliet = await Client("romeo@localhost/orchard").online(server), await Client("juliet@localhost/balcony").online(server)
    await juliet.cut()
    await say(romeo, "juliet@localhost", ["before"])
    await romeo.disconnect()
    await loop.run_in_executor(None, server.stop)
    await loop.run_in_executor(None, server.start)
    romeo = await Client("romeo@localhost/orchard").online(server)
    await say(romeo, "juliet@localhost", ["after"])
    await juliet.resumed(server)
    equal(await juliet.bodies(2), ["before", "after"])
    await romeo.disconnect()
    await juliet.disconnect()


with Server(accounts={"romeo@localhost": "secret", "juliet@localhost": "secret"}) as server:
    failed = done(server)
sys.exit(failed != 0)
