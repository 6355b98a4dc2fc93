# SPDX-License-Identifier: MIT
"""federation_users.py - people with accounts in the laboratory of federation.py: slixmpp clients on one event loop.

    lab.trust = file of certificates the clients trust
    romeo = await Client(lab, "romeo@verona.lab/orchard").online(server)
"""
import asyncio
import re

import slixmpp
from slixmpp.exceptions import IqError
from server import DEADLINE

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)


class Client(slixmpp.ClientXMPP):
    def __init__(self, lab, jid):
        super().__init__(jid, "secret")
        self.ca_certs = lab.trust
        self.messages, self.presences = asyncio.Queue(), asyncio.Queue()
        self.add_event_handler("message", self.messages.put_nowait)
        self.add_event_handler("message_error", self.messages.put_nowait)
        self.add_event_handler("presence", self.presences.put_nowait)
        for plugin in ("xep_0030", "xep_0199", "xep_0092"):
            self.register_plugin(plugin)

    async def online(self, server):
        self.connect(("127.0.0.1", server.port))
        started = loop.create_future()
        self.add_event_handler("session_start", lambda e: started.done() or started.set_result(True))
        await asyncio.wait_for(started, DEADLINE)
        await self.get_roster()
        self.send_presence()
        return self

    async def message(self):
        return await asyncio.wait_for(self.messages.get(), DEADLINE)

    async def presence_of(self, jid, kind="available"):
        while True:
            p = await asyncio.wait_for(self.presences.get(), DEADLINE)
            if str(p["from"]) == jid and p["type"] == kind:
                return p

    async def ping_error(self, jid):
        """-> the condition of the error, or None."""
        try:
            await self.plugin["xep_0199"].send_ping(jid, timeout=DEADLINE)
        except IqError as e:
            return e.condition

    async def bye(self):
        await self.disconnect()


def proofs(log):
    """How Couplet's log says that other domains were proved: { (from or to, TLS or in the clear, EXTERNAL or dialback) }"""
    return set(re.findall(r"(from|to) \S+ for \S+, (TLS|in the clear), proved by (\w+)", log))
