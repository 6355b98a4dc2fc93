# SPDX-License-Identifier: MIT
"""Two slixmpp clients over STARTTLS: log in, become contacts, see each other, chat, and ask the server about itself."""
import asyncio
import pathlib
import ssl
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import slixmpp  # noqa: E402
from check import done, equal, test  # noqa: E402
from server import DEADLINE, Server, certificate  # noqa: E402

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)


class Client(slixmpp.ClientXMPP):
    def __init__(self, jid, password="secret", mechanism=None, tls12=False):
        super().__init__(jid, password, sasl_mech=mechanism)
        if tls12:       # the only binding slixmpp knows is tls-unique; it claims it on TLS 1.3 too, and falls back to PLAIN there
            self.ssl_context.maximum_version = ssl.TLSVersion.TLSv1_2
        self.ca_certs = pathlib.Path(certificate()) / "cert.pem"
        self.messages, self.presences = asyncio.Queue(), asyncio.Queue()
        self.add_event_handler("message", self.messages.put_nowait)
        self.add_event_handler("presence", self.presences.put_nowait)
        for plugin in ("xep_0030", "xep_0199", "xep_0092", "xep_0202", "xep_0012", "xep_0054", "xep_0049", "xep_0050", "xep_0077",
                       "xep_0313", "xep_0441"):
            self.register_plugin(plugin)

    async def login(self, server, direct=False):
        self.connect(("127.0.0.1", server.tls_port if direct else server.port), use_ssl=direct, disable_starttls=direct)
        started, failed = loop.create_future(), lambda e: None
        self.add_event_handler("session_start", lambda e: started.done() or started.set_result(True))
        self.add_event_handler("failed_all_auth", lambda e: started.done() or started.set_exception(PermissionError("login")))
        await asyncio.wait_for(started, DEADLINE)
        return self

    async def online(self, server, **how):
        await self.login(server, **how)
        await self.get_roster()
        self.send_presence()
        return self

    async def presence_of(self, jid, kind="available"):
        while True:
            p = await asyncio.wait_for(self.presences.get(), DEADLINE)
            if str(p["from"]) == jid and p["type"] == kind:
                return p

    async def message(self):
        return await asyncio.wait_for(self.messages.get(), DEADLINE)

    async def bye(self):
        await self.disconnect()


@test("become contacts, see each other come and go, chat")
async def chat(server):
    romeo = await Client("romeo@localhost/orchard").online(server)
    juliet = await Client("juliet@localhost/balcony").online(server)
    romeo.send_presence_subscription("juliet@localhost")        # slixmpp approves and subscribes back by itself
    await romeo.presence_of("juliet@localhost/balcony")
    await juliet.presence_of("romeo@localhost/orchard")
    romeo.send_message("juliet@localhost", "But soft!", mtype="chat")
    got = await juliet.message()
    equal((str(got["from"]), got["body"], got["type"]), ("romeo@localhost/orchard", "But soft!", "chat"))
    juliet.send_message(got["from"], "Ay me — ☾ 🌹 <&>", mtype="chat")
    equal((await romeo.message())["body"], "Ay me — ☾ 🌹 <&>")
    await juliet.bye()
    await romeo.presence_of("juliet@localhost/balcony", "unavailable")
    romeo.send_message("juliet@localhost", "Parting is such sweet sorrow", mtype="chat")
    await romeo.plugin["xep_0199"].ping("localhost")            # handled in order: the message is stored by now
    juliet = await Client("juliet@localhost/balcony").online(server)
    late = await juliet.message()
    equal(late["body"], "Parting is such sweet sorrow")
    assert late.xml.find("{urn:xmpp:delay}delay") is not None, "no delay stamp"
    await romeo.get_roster()
    equal(romeo.client_roster["juliet@localhost"]["subscription"], "both")
    await romeo.bye()
    await juliet.bye()


for _mechanism in ("SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS", "PLAIN", None):
    @test("log in with %s" % (_mechanism or "what slixmpp picks"))
    async def login(server, mechanism=_mechanism):
        romeo = await Client("romeo@localhost", mechanism=mechanism, tls12=mechanism and mechanism.endswith("PLUS")).login(server)
        equal(str(romeo.boundjid.bare), "romeo@localhost")
        await romeo.bye()


@test("a wrong password is refused")
async def wrong(server):
    try:
        await Client("romeo@localhost", "wrong").login(server)
    except PermissionError:
        return
    raise AssertionError("logged in")


@test("direct TLS")
async def direct(server):
    romeo = await Client("romeo@localhost").login(server, direct=True)
    await romeo.plugin["xep_0199"].ping("localhost")
    await romeo.bye()


@test("the server tells what it is: disco, version, time, uptime")
async def questions(server):
    romeo = await Client("romeo@localhost/orchard").online(server)
    info = await romeo.plugin["xep_0030"].get_info("localhost")
    identities = {(i[0], i[1]) for i in info["disco_info"]["identities"]}
    assert ("server", "im") in identities, identities
    for feature in ("http://jabber.org/protocol/disco#info", "urn:xmpp:ping", "jabber:iq:version", "vcard-temp", "jabber:iq:private"):
        assert feature in info["disco_info"]["features"], feature
    await romeo.plugin["xep_0030"].get_items("localhost")
    version = await romeo.plugin["xep_0092"].get_version("localhost")
    equal(version["software_version"]["name"], "Couplet")
    await romeo.plugin["xep_0202"].get_entity_time("localhost")
    uptime = await romeo.plugin["xep_0012"].get_last_activity("localhost")
    assert uptime["last_activity"]["seconds"] >= 0
    await romeo.bye()


@test("a vCard is kept and shown to others")
async def vcard(server):
    romeo = await Client("romeo@localhost/orchard").online(server)
    card = romeo.plugin["xep_0054"].make_vcard()
    card["FN"] = "Romeo Montague"
    await romeo.plugin["xep_0054"].publish_vcard(card)
    juliet = await Client("juliet@localhost/balcony").online(server)
    got = await juliet.plugin["xep_0054"].get_vcard("romeo@localhost", cached=False)
    equal(got["vcard_temp"]["FN"], "Romeo Montague")
    await romeo.bye()
    await juliet.bye()


@test("the archive: pages both ways, by conversation, metadata, fields, preferences")
async def archive(server):
    romeo = await Client("romeo@localhost/orchard").online(server)
    nurse = await Client("nurse@localhost/kitchen").online(server)
    for i in range(60):
        romeo.send_message("nurse@localhost", "message %d" % i, mtype="chat")
    for i in range(60):
        equal((await nurse.message())["body"], "message %d" % i)
    mam = nurse.plugin["xep_0313"]

    async def bodies(**how):
        return [m["mam_result"]["forwarded"]["stanza"]["body"] async for m in mam.iterate(**how)]

    equal(await bodies(rsm={"max": "7"}), ["message %d" % i for i in range(60)])
    equal(await bodies(rsm={"max": "7"}, reverse=True), ["message %d" % i for i in reversed(range(60))])
    equal(await bodies(with_jid=slixmpp.JID("romeo@localhost"), total=3), ["message 0", "message 1", "message 2"])
    equal(await bodies(with_jid=slixmpp.JID("juliet@localhost")), [])
    metadata = await mam.get_archive_metadata()
    assert metadata["mam_metadata"]["start"]["id"] < metadata["mam_metadata"]["end"]["id"]
    fields = (await mam.get_fields()).get_fields()
    for name in ("with", "start", "end", "ids", "before-id", "after-id"):
        assert name in fields, name
    prefs = nurse.plugin["xep_0441"]
    equal(await prefs.get_preferences(), ("always", set(), set()))
    await prefs.set_preferences(default="roster", always=[], never=[slixmpp.JID("romeo@localhost")])
    equal(await prefs.get_preferences(), ("roster", set(), {slixmpp.JID("romeo@localhost")}))
    await romeo.bye()
    await nurse.bye()


with Server(accounts={"romeo@localhost": "secret", "juliet@localhost": "secret", "nurse@localhost": "secret"},
            modules=["mam"]) as server:
    failed = done(server)
sys.exit(failed != 0)
