# SPDX-License-Identifier: MIT
"""Push notifications (XEP-0357) with a push service that is a slixmpp component, and slixmpp clients."""
import asyncio
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import slixmpp  # noqa: E402
from slixmpp.xmlstream import ET  # noqa: E402
from slixmpp.xmlstream.handler import Callback  # noqa: E402
from slixmpp.xmlstream.matcher import MatchXPath  # noqa: E402
from check import done, equal, test  # noqa: E402
from server import DEADLINE, Server, certificate, free_port  # noqa: E402

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
PORT = free_port()
PUSH, PUBSUB, DATA = "{urn:xmpp:push:0}", "{http://jabber.org/protocol/pubsub}", "{jabber:x:data}"
HOSTS = 'VirtualHost "localhost"\n\nComponent "push.localhost"\n\tcomponent_secret = "ariel"\n'


async def started(xmpp):
    begun = loop.create_future()
    xmpp.add_event_handler("session_start", lambda e: begun.done() or begun.set_result(True))
    await asyncio.wait_for(begun, DEADLINE)
    return xmpp


class Service(slixmpp.ComponentXMPP):
    """Knows some nodes, and says of others that they are not there. What is published comes out of a queue."""

    def __init__(self, *nodes):
        super().__init__("push.localhost", "ariel", "127.0.0.1", PORT)
        self.nodes, self.published = nodes, asyncio.Queue()
        self.register_plugin("xep_0199")
        self.register_handler(Callback("publish", MatchXPath("{%s}iq/%spubsub" % (self.default_ns, PUBSUB)), self.take))

    async def up(self):
        self.connect()
        return await started(self)

    def take(self, iq):
        publish = iq.xml.find("%spubsub/%spublish" % (PUBSUB, PUBSUB))
        form = publish.find("%sitem/%snotification/%sx" % (PUBSUB, PUSH, DATA))
        secret = iq.xml.find("%spubsub/%spublish-options//%svalue" % (PUBSUB, PUBSUB, DATA))
        fields = {f.get("var"): f.findtext(DATA + "value") for f in form}
        assert fields.pop("FORM_TYPE") == "urn:xmpp:push:summary"
        self.published.put_nowait((str(iq["from"]), publish.get("node"), fields, secret is not None))
        reply = iq.reply()
        if publish.get("node") not in self.nodes:
            reply["type"] = "error"             # slixmpp's own errors are in the namespace of clients
            error = ET.SubElement(reply.xml, "{%s}error" % self.default_ns, {"type": "cancel"})
            ET.SubElement(error, "{urn:ietf:params:xml:ns:xmpp-stanzas}item-not-found")
        reply.send()


async def client(server, jid, enable=None, sm=False):
    xmpp = slixmpp.ClientXMPP(jid, "secret")
    xmpp.ca_certs = pathlib.Path(certificate()) / "cert.pem"
    xmpp.register_plugin("xep_0199")
    xmpp.register_plugin("xep_0004")
    if sm:
        xmpp.register_plugin("xep_0198")
    xmpp.messages = asyncio.Queue()
    xmpp.add_event_handler("message", xmpp.messages.put_nowait)
    xmpp.connect(("127.0.0.1", server.port))
    await started(xmpp)
    if enable:
        iq = xmpp.make_iq_set()
        element = ET.Element(PUSH + "enable", {"jid": "push.localhost", "node": enable})
        form = xmpp.plugin["xep_0004"].make_form(ftype="submit")
        form.add_field(var="FORM_TYPE", ftype="hidden", value="http://jabber.org/protocol/pubsub#publish-options")
        form.add_field(var="secret", value="eruio")
        element.append(form.xml)
        iq.append(element)
        await iq.send()
    xmpp.send_presence()
    await xmpp.plugin["xep_0199"].ping("localhost")
    return xmpp


async def say(xmpp, *texts, to="romeo"):
    for text in texts:
        xmpp.send_message(to + "@localhost", text, mtype="chat")
    await xmpp.plugin["xep_0199"].ping("localhost")


async def soon(queue):
    return await asyncio.wait_for(queue.get(), DEADLINE)


async def gone(xmpp):
    await xmpp.disconnect()


@test("a phone that is away is waked once; it comes back for its messages; then again")
async def waked(server):
    service = await Service("phone").up()
    juliet = await client(server, "juliet@localhost/balcony")
    for n in "1", "2":
        await gone(await client(server, "romeo@localhost/phone", enable="phone"))
        await say(juliet, "Ay me " + n, "again")
        equal(await soon(service.published), ("localhost", "phone", {"message-count": "1", "last-message-body": "New Message!"}, True))
        phone = await client(server, "romeo@localhost/phone")
        equal([(await soon(phone.messages))["body"] for _ in range(2)], ["Ay me " + n, "again"])
        await service.plugin["xep_0199"].send_ping("localhost", ifrom="push.localhost")
        assert service.published.empty(), "waked twice"
        await say(juliet, "here")
        equal((await soon(phone.messages))["body"], "here")
        await gone(phone)
    assert service.published.empty(), "waked while it was here"
    await gone(service)
    await gone(juliet)


@test("a device the service does not know any more is forgotten; the others stay, over a restart of the server")
async def forgotten(server):
    service = await Service("phone").up()
    await gone(await client(server, "romeo@localhost/tablet", enable="tablet"))
    juliet = await client(server, "juliet@localhost/balcony")
    await say(juliet, "x")
    equal(sorted([(await soon(service.published))[1] for _ in range(2)]), ["phone", "tablet"])
    await service.plugin["xep_0199"].send_ping("localhost", ifrom="push.localhost")       # its answers have been handled
    await gone(service)
    await gone(juliet)
    server.stop()
    server.start()
    service = await Service("phone").up()
    juliet = await client(server, "juliet@localhost/balcony")
    await say(juliet, "y")
    equal((await soon(service.published))[1], "phone")
    await service.plugin["xep_0199"].send_ping("localhost", ifrom="push.localhost")
    assert service.published.empty(), "waked as well: %r" % (service.published.get_nowait(),)
    await gone(service)
    await gone(juliet)


async def cut(xmpp):
    lost = loop.create_future()
    xmpp.add_event_handler("disconnected", lambda e: lost.done() or lost.set_result(True))
    xmpp.transport.abort()
    await asyncio.wait_for(lost, DEADLINE)


WAKED = ("localhost", "phone", {"message-count": "1", "last-message-body": "New Message!"}, True)


@test("a phone whose connection broke is waked by what waits for it, also after a restart, and resumes; others are archived")
async def hibernating(server):
    service = await Service("phone").up()
    phone = await client(server, "nurse@localhost/phone", enable="phone", sm=True)
    await cut(phone)
    juliet = await client(server, "juliet@localhost/balcony")
    await say(juliet, "1", to="nurse")
    equal(await soon(service.published), WAKED)
    await service.plugin["xep_0199"].send_ping("localhost", ifrom="push.localhost")
    assert service.published.empty(), "waked twice"
    phone.connect(("127.0.0.1", server.port))
    equal((await soon(phone.messages))["body"], "1")
    await phone.plugin["xep_0199"].ping("localhost")
    await cut(phone)
    await gone(service)
    await gone(juliet)
    server.stop()
    server.start()
    service, juliet = await Service("phone").up(), await client(server, "juliet@localhost/balcony")
    await say(juliet, "2", to="nurse")
    equal(await soon(service.published), WAKED)
    phone.connect(("127.0.0.1", server.port))
    equal((await soon(phone.messages))["body"], "2")
    phone.send_presence(ptype="unavailable")     # from now on the archive keeps what comes
    await phone.plugin["xep_0199"].ping("localhost")
    await say(juliet, "3", to="nurse")
    equal(await soon(service.published), WAKED)
    await service.plugin["xep_0199"].send_ping("localhost", ifrom="push.localhost")
    assert service.published.empty(), "waked twice"
    for xmpp in phone, service, juliet:
        await gone(xmpp)


with Server(accounts={"romeo@localhost": "secret", "juliet@localhost": "secret", "nurse@localhost": "secret"}, modules=["cloud_notify", "smacks", "mam"],
            config="component_ports = { %d }" % PORT, hosts=HOSTS) as server:
    failed = done(server)
sys.exit(failed != 0)
