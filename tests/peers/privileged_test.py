# SPDX-License-Identifier: MIT
"""slixmpp's component with privileges (XEP-0356, its own plugin) and a delegated namespace (XEP-0355), and clients who notice
nothing but that it works."""
import asyncio
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import slixmpp  # noqa: E402
from slixmpp.exceptions import IqError  # noqa: E402
from slixmpp.xmlstream import ET  # noqa: E402
from slixmpp.xmlstream.handler import Callback  # noqa: E402
from slixmpp.xmlstream.matcher import MatchXPath  # noqa: E402
from check import done, equal, test  # noqa: E402
from server import DEADLINE, Server, certificate, free_port  # noqa: E402

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
PORT = free_port()
TASTE = "urn:example:taste"
HOSTS = """VirtualHost "localhost"
modules_enabled = { "privilege", "delegation" }
privileged_entities = {
	["pep.localhost"] = { roster = "both", message = "outgoing", presence = "roster", iq = { ["jabber:iq:version"] = "get" } },
}
delegations = { ["%s"] = { jid = "pep.localhost" } }

Component "pep.localhost"
	component_secret = "prospero"

Component "bot.localhost"
	component_secret = "caliban"
""" % TASTE


class Bot(slixmpp.ComponentXMPP):
    def __init__(self, name, secret):
        super().__init__(name, secret, "127.0.0.1", PORT)
        self.server_host = "localhost"
        self.stanzas = asyncio.Queue()
        for plugin in ("xep_0030", "xep_0297", "xep_0356"):
            self.register_plugin(plugin)
        self.plugin["xep_0356"].granted_privileges = {"roster": "none", "message": "none", "presence": "none"}
        self.add_event_handler("presence_available", lambda p: self.stanzas.put_nowait(("+", str(p["from"]))))
        self.add_event_handler("presence_unavailable", lambda p: self.stanzas.put_nowait(("-", str(p["from"]))))
        self.add_event_handler("roster_update", lambda iq: self.stanzas.put_nowait(("push", str(iq["from"]))))

    async def up(self):
        begun = loop.create_future()
        self.add_event_handler("session_start", lambda e: begun.done() or begun.set_result(True))
        self.connect()
        await asyncio.wait_for(begun, DEADLINE)
        return self

    async def seen(self, what):
        while await asyncio.wait_for(self.stanzas.get(), DEADLINE) != what:
            pass


async def client(server, name):
    xmpp = slixmpp.ClientXMPP(name + "@localhost/r", "secret")
    xmpp.ca_certs = pathlib.Path(certificate()) / "cert.pem"
    xmpp.messages = asyncio.Queue()
    xmpp.add_event_handler("message", xmpp.messages.put_nowait)
    for plugin in ("xep_0030", "xep_0092"):
        xmpp.register_plugin(plugin)
    begun = loop.create_future()
    xmpp.add_event_handler("session_start", lambda e: begun.done() or begun.set_result(True))
    xmpp.connect(("127.0.0.1", server.port))
    await asyncio.wait_for(begun, DEADLINE)
    await xmpp.get_roster()
    xmpp.send_presence()
    return xmpp


def condition(stanza):
    """slixmpp looks for the error of a component's stanza in the namespace of clients."""
    return stanza.xml.find("{jabber:component:accept}error")[0].tag.split("}")[1]


def on_message(sender, to):
    message = slixmpp.Message()
    message["from"], message["to"], message["body"] = sender, to, "in your name"
    return message


@test("XEP-0356: privileges are advertised; roster, message, iq and presence of accounts")
async def privileged(server):
    romeo = await client(server, "romeo")
    bot = Bot("pep.localhost", "prospero")
    told = loop.create_future()
    bot.add_event_handler("privileges_advertised", lambda e: told.done() or told.set_result(True))
    await bot.up()
    await asyncio.wait_for(told, DEADLINE)
    rights = bot.plugin["xep_0356"]
    equal({k: rights.granted_privileges[k] for k in ("roster", "message", "presence")},
          {"roster": "both", "message": "outgoing", "presence": "roster"})
    await bot.seen(("+", "romeo@localhost/r"))                  # was there before

    await rights.set_roster("romeo@localhost", {"nurse@localhost": {"name": "Nurse", "subscription": "none", "groups": ["Old"]}})
    got = await rights.get_roster("romeo@localhost")
    equal([str(j) for j in got["roster"]["items"]], ["nurse@localhost"])
    equal(romeo.client_roster["nurse@localhost"]["name"], "Nurse")      # his client was told

    juliet = await client(server, "juliet")
    await bot.seen(("+", "juliet@localhost/r"))
    rights.send_privileged_message(on_message("juliet@localhost", "romeo@localhost"))
    message = await asyncio.wait_for(romeo.messages.get(), DEADLINE)
    equal((str(message["from"]), message["body"]), ("juliet@localhost", "in your name"))

    iq = bot.make_iq_get(ito="juliet@localhost", ifrom="pep.localhost")
    iq.append(ET.fromstring("<privileged_iq xmlns='urn:xmpp:privilege:2'><iq xmlns='jabber:client' type='get' id='v' "
                            "to='romeo@localhost/r'><query xmlns='jabber:iq:version'/></iq></privileged_iq>"))
    answer = await iq.send(timeout=DEADLINE)
    inner = answer.xml.find("{urn:xmpp:privilege:2}privilege/{urn:xmpp:forward:0}forwarded/{jabber:client}iq")
    equal([inner.get(name) for name in ("from", "to", "type", "id")], ["romeo@localhost/r", "juliet@localhost", "result", "v"])
    equal(inner.find("{jabber:iq:version}query/{jabber:iq:version}name").text, "Slixmpp")

    await juliet.disconnect()
    await bot.seen(("-", "juliet@localhost/r"))
    await romeo.disconnect()
    await bot.disconnect()


@test("XEP-0356: a component without privileges is told nothing and may nothing")
async def plain(server):
    romeo = await client(server, "romeo")
    bot = await Bot("bot.localhost", "caliban").up()
    for iq in (bot.make_iq_get(ito="romeo@localhost", ifrom="bot.localhost", queryxmlns="jabber:iq:roster"),
               bot.make_iq_set(ito="romeo@localhost", ifrom="bot.localhost", sub=ET.fromstring(
                   "<privileged_iq xmlns='urn:xmpp:privilege:2'><iq xmlns='jabber:client' type='set' id='1' to='romeo@localhost'>"
                   "<query xmlns='jabber:iq:version'/></iq></privileged_iq>"))):
        try:
            await iq.send(timeout=DEADLINE)
            raise AssertionError("was allowed")
        except IqError as e:
            equal(condition(e.iq), "forbidden")
    refused = loop.create_future()
    bot.add_event_handler("message_error", lambda m: refused.done() or refused.set_result(condition(m)))
    bot.plugin["xep_0356"].granted_privileges["message"] = "outgoing"     # it believes so
    bot.plugin["xep_0356"].send_privileged_message(on_message("romeo@localhost", "romeo@localhost"))
    equal(await asyncio.wait_for(refused, DEADLINE), "forbidden")
    assert bot.stanzas.empty() and romeo.messages.empty()
    await romeo.disconnect()
    await bot.disconnect()


@test("XEP-0355: a namespace is answered by the component, features included; while it is away: service-unavailable")
async def delegated(server):
    romeo = await client(server, "romeo")
    bot = Bot("pep.localhost", "prospero")
    disco = bot.plugin["xep_0030"]
    disco.add_feature(TASTE + "#sweet", node="urn:xmpp:delegation:2::" + TASTE, jid="pep.localhost")

    def answer(iq):
        inner = iq.xml.find("{urn:xmpp:delegation:2}delegation/{urn:xmpp:forward:0}forwarded/{jabber:client}iq")
        reply = iq.reply()
        to = "from='%s'" % inner.get("to") if inner.get("to") else ""
        reply.append(ET.fromstring(
            "<delegation xmlns='urn:xmpp:delegation:2'><forwarded xmlns='urn:xmpp:forward:0'><iq xmlns='jabber:client' "
            "type='result' id='%s' to='%s' %s><taste xmlns='%s'>salt</taste></iq></forwarded></delegation>"
            % (inner.get("id"), inner.get("from"), to, TASTE)))
        reply.send()

    bot.register_handler(Callback("delegation", MatchXPath("{jabber:component:accept}iq/{urn:xmpp:delegation:2}delegation"), answer))
    await bot.up()
    for to in (None, "localhost", "romeo@localhost", "juliet@localhost"):
        iq = romeo.make_iq_get(ito=to)
        iq.append(ET.fromstring("<taste xmlns='%s'/>" % TASTE))
        got = await iq.send(timeout=DEADLINE)
        equal(got.xml.find("{%s}taste" % TASTE).text, "salt")
    end = loop.time() + DEADLINE
    while TASTE + "#sweet" not in (await romeo.plugin["xep_0030"].get_info("localhost", cached=False))["disco_info"]["features"]:
        assert loop.time() < end
    await bot.disconnect()
    while "component pep.localhost disconnected" not in server.log():
        await asyncio.sleep(0.02)
    iq = romeo.make_iq_get(ito="localhost")
    iq.append(ET.fromstring("<taste xmlns='%s'/>" % TASTE))
    try:
        await iq.send(timeout=DEADLINE)
        raise AssertionError("was answered")
    except IqError as e:
        equal(e.condition, "service-unavailable")
    await romeo.disconnect()


with Server(accounts={"romeo@localhost": "secret", "juliet@localhost": "secret"}, config="component_ports = { %d }\n" % PORT,
            hosts=HOSTS) as server:
    failed = done(server)
    if failed:
        print(server.output())
sys.exit(failed != 0)
