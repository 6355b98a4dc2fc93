# SPDX-License-Identifier: MIT
"""federation_users.py - people with accounts in the laboratory of federation.py: slixmpp clients on one event loop.

    lab.trust = file of certificates the clients trust
    romeo = await Client(lab, "romeo@verona.lab/orchard").online(server)
    with Pair("prosody") as pair:            verona.lab (Couplet, pair.here) and mantua.lab (pair.there), in a lab of their own
        romeo, juliet = await pair.users()
"""
import asyncio
import re

import slixmpp
from slixmpp.exceptions import IqError
from federation import Lab
from server import DEADLINE, free_port

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)

LOOSE = "s2s_secure_auth = false\n"
STREAM_ERROR = r"<stream:error><%s xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"


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

    async def heard(self):
        """The next message that is no error: what was not acknowledged when another server died may have come back."""
        got = await self.message()
        return await self.heard() if got["type"] == "error" else got

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


class Pair:
    """Two servers with a user each, in a lab of their own."""

    def __init__(self, there="couplet", kind="good", config="", theirs="", direct=False, theirs_modules=(), **more):
        self.lab = lab = Lab()
        lab.trust = lab.dir / "trust.pem"
        self.here = lab.couplet("verona.lab", accounts={"romeo": "secret"}, kind=kind, config=config, **more)
        self.there = getattr(lab, there)("mantua.lab", accounts={"juliet": "secret"}, kind=kind, config=theirs, modules=theirs_modules)
        if direct:
            for server in (self.here, self.there):
                lab.zone[server.hosts[0]] = [("127.0.0.1", free_port())]     # nobody is there
                lab.direct[server.hosts[0]] = [("127.0.0.1", server.s2s_tls)]
                # the one that is there comes first although both have the same priority: the other is refused at once
        self.trust = [lab.authority.ca] + ([lab.authority.issue(h, kind)[0] for h in ("verona.lab", "mantua.lab")] if kind == "selfsigned" else [])
        lab.trust.write_text("".join(p.read_text() for p in self.trust))

    def __enter__(self):
        self.lab.start()
        return self

    def __exit__(self, kind, *more):
        if kind:
            print("==== here\n" + self.here.output()[-7000:] + "\n==== there\n" + self.there.output()[-7000:])
        self.lab.__exit__(kind, *more)

    async def users(self):
        self.romeo = await Client(self.lab, "romeo@verona.lab/orchard").online(self.here)
        self.juliet = await Client(self.lab, "juliet@mantua.lab/balcony").online(self.there)
        return self.romeo, self.juliet

    async def bye(self):
        for client in (self.romeo, self.juliet):
            await client.bye()


def proofs(log):
    """How Couplet's log says that other domains were proved: { (from or to, TLS or in the clear, EXTERNAL or dialback) }"""
    return set(re.findall(r"(from|to) \S+ for \S+, (TLS|in the clear), proved by (\w+)", log))
