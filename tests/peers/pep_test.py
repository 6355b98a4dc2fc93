# SPDX-License-Identifier: MIT
"""What accounts publish, with slixmpp and aioxmpp: tunes, avatars (0084, 0153), bookmarks (0048, 0049), nodes of one's own."""
import asyncio
import hashlib
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import aioxmpp  # noqa: E402
import aioxmpp.avatar  # noqa: E402
import aioxmpp.connector  # noqa: E402
import aioxmpp.pep  # noqa: E402
import aioxmpp.pubsub  # noqa: E402
import slixmpp  # noqa: E402
from check import done, equal, test  # noqa: E402
from server import DEADLINE, Server, certificate  # noqa: E402
from slixmpp.exceptions import IqError  # noqa: E402
from slixmpp.plugins.xep_0048 import Bookmarks  # noqa: E402

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
PICTURE = b"\x89PNG\r\n\x1a\n not much of a picture"
HASH = hashlib.sha1(PICTURE).hexdigest()


class Client(slixmpp.ClientXMPP):
    def __init__(self, jid):
        super().__init__(jid, "secret")
        self.ca_certs = pathlib.Path(certificate()) / "cert.pem"
        self.heard, self.missed = asyncio.Queue(), []
        for plugin in ("xep_0030", "xep_0115", "xep_0060", "xep_0163", "xep_0118", "xep_0084", "xep_0153", "xep_0054", "xep_0049",
                       "xep_0048", "xep_0050", "xep_0199"):
            self.register_plugin(plugin)
        for event in ("user_tune_publish", "avatar_metadata_publish", "vcard_avatar_update", "pubsub_publish", "pubsub_subscription", "message_xform"):
            self.add_event_handler(event, lambda stanza, event=event: self.heard.put_nowait((event, stanza)))

    async def online(self, server):
        self.connect(("127.0.0.1", server.port))
        started = loop.create_future()
        self.add_event_handler("session_start", lambda e: started.done() or started.set_result(True))
        await asyncio.wait_for(started, DEADLINE)
        await self.get_roster()
        self.send_presence()
        return self

    async def hear(self, event, fits=lambda stanza: True):
        for i, (name, stanza) in enumerate(self.missed):
            if name == event and fits(stanza):
                return self.missed.pop(i)[1]
        while True:
            name, stanza = await asyncio.wait_for(self.heard.get(), DEADLINE)
            if name == event and fits(stanza):
                return stanza
            self.missed.append((name, stanza))


async def friends(server):
    romeo, juliet = await Client("romeo@localhost/orchard").online(server), await Client("juliet@localhost/balcony").online(server)
    done_ = loop.create_future()
    romeo.add_event_handler("presence_available",
                            lambda p: p["from"].bare == "juliet@localhost" and not done_.done() and done_.set_result(True))
    romeo.send_presence_subscription("juliet@localhost")        # slixmpp approves and subscribes back by itself
    await asyncio.wait_for(done_, DEADLINE)
    return romeo, juliet


@test("slixmpp: a contact hears of tunes and avatars; the avatar is the card's photo too, and a photo is an avatar")
async def tunes(server):
    romeo, juliet = await friends(server)
    await romeo["xep_0118"].publish_tune(artist="Prokofiev", title="Dance of the Knights")
    tune = await juliet.hear("user_tune_publish")
    equal(tune["pubsub_event"]["items"]["item"]["tune"]["title"], "Dance of the Knights")
    await romeo["xep_0084"].publish_avatar(PICTURE)
    await romeo["xep_0084"].publish_avatar_metadata({"id": HASH, "bytes": len(PICTURE), "type": "image/png"})
    await juliet.hear("avatar_metadata_publish", lambda s: HASH in str(s))
    data = await juliet["xep_0084"].retrieve_avatar("romeo@localhost", HASH)
    equal(data["pubsub"]["items"]["item"]["avatar_data"]["value"], PICTURE)
    card = await juliet["xep_0054"].get_vcard("romeo@localhost", cached=False)
    equal(card["vcard_temp"]["PHOTO"]["BINVAL"], PICTURE)
    other = PICTURE + b" of another"
    await romeo["xep_0153"].set_avatar(avatar=other, mtype="image/png")
    found = await juliet.hear("avatar_metadata_publish", lambda s: HASH not in str(s))
    assert hashlib.sha1(other).hexdigest() in str(found), found
    await juliet.hear("vcard_avatar_update", lambda p: p["from"].bare == "romeo@localhost"
                      and p["vcard_temp_update"]["photo"] == hashlib.sha1(other).hexdigest())
    await romeo.disconnect()
    await juliet.disconnect()


@test("slixmpp: bookmarks in private XML and in PEP are one list")
async def bookmarks(server):
    romeo = await Client("romeo@localhost/orchard").online(server)
    books = Bookmarks()
    books.add_conference("play@rooms.example", "JC", autojoin=True, name="The Play")
    await romeo["xep_0048"].set_bookmarks(books, method="xep_0049")
    got = await romeo["xep_0060"].get_items("romeo@localhost", "urn:xmpp:bookmarks:1")
    equal([i["id"] for i in got["pubsub"]["items"]], ["play@rooms.example"])
    old = await romeo["xep_0060"].get_items("romeo@localhost", "storage:bookmarks")
    assert "play@rooms.example" in str(old)
    books.add_conference("orchard@rooms.example", "R")
    await romeo["xep_0048"].set_bookmarks(books, method="xep_0223")
    got = await romeo["xep_0048"].get_bookmarks(method="xep_0049")
    equal(sorted(str(c["jid"]) for c in got["private"]["bookmarks"]["conferences"]), ["orchard@rooms.example", "play@rooms.example"])
    await romeo.disconnect()


@test("slixmpp: a node of a service: created, configured, subscribed to, published to, purged, deleted")
async def node(server):
    romeo = await Client("romeo@localhost/orchard").online(server)
    juliet = await Client("juliet@localhost/balcony").online(server)
    service, ps = "pubsub.localhost", romeo["xep_0060"]
    await ps.create_node(service, "news")
    form = (await ps.get_node_config(service, "news"))["pubsub_owner"]["configure"]["form"]
    form["type"] = "submit"
    form.set_values({"pubsub#title": "News", "pubsub#max_items": "2"})
    await ps.set_node_config(service, "news", form)
    await juliet["xep_0060"].subscribe(service, "news")
    for i in "123":
        payload = slixmpp.xmlstream.ET.Element("{urn:x}x")
        await ps.publish(service, "news", id=i, payload=payload)
    for i in "123":
        got = await juliet.hear("pubsub_publish", lambda s: s["from"].bare == service)
        equal(got["pubsub_event"]["items"]["item"]["id"], i)
    got = await juliet["xep_0060"].get_items(service, "news")
    equal(sorted(i["id"] for i in got["pubsub"]["items"]), ["2", "3"])
    try:
        await juliet["xep_0060"].purge(service, "news")
        raise AssertionError("anybody may purge")
    except IqError as e:
        equal(e.condition, "forbidden")
    await ps.purge(service, "news")
    await ps.delete_node(service, "news")
    await romeo.disconnect()
    await juliet.disconnect()


@test("slixmpp: a subscription that waits: asked for with get-pending, allowed, and the subscriber hears of it")
async def pending(server):
    romeo = await Client("romeo@localhost/orchard").online(server)
    juliet = await Client("juliet@localhost/balcony").online(server)
    service, command = "pubsub.localhost", "http://jabber.org/protocol/pubsub#get-pending"
    form = romeo["xep_0004"].make_form("submit")
    form.add_field(var="FORM_TYPE", ftype="hidden", value="http://jabber.org/protocol/pubsub#node_config")
    form.add_field(var="pubsub#access_model", value="authorize")
    await romeo["xep_0060"].create_node(service, "asked", config=form)
    answer = await juliet["xep_0060"].subscribe(service, "asked")
    equal(answer["pubsub"]["subscription"]["subscription"], "pending")
    request = await romeo.hear("message_xform", lambda s: s["from"].bare == service)
    equal(request["form"].get_values()["pubsub#subscriber_jid"], "juliet@localhost")
    first = await romeo["xep_0050"].send_command(service, command)
    equal(first["command"]["status"], "executing")
    choice = first["command"]["form"]
    equal([o["value"] for o in choice.get_fields()["pubsub#node"]["options"]], ["asked"])
    choice["type"] = "submit"
    choice.set_values({"pubsub#node": "asked"})
    second = await romeo["xep_0050"].send_command(service, command, sessionid=first["command"]["sessionid"], payload=[choice])
    equal(second["command"]["status"], "completed")
    request = await romeo.hear("message_xform", lambda s: s["from"].bare == service)
    judgement = romeo.make_message(service)
    judgement["id"] = request["id"]
    judged = request["form"]
    judged["type"] = "submit"
    judged.set_values({"pubsub#allow": True})
    judgement.append(judged)
    judgement.send()
    news = await juliet.hear("pubsub_subscription", lambda s: s["from"].bare == service)
    equal(news["pubsub_event"]["subscription"]["subscription"], "subscribed")
    await romeo["xep_0060"].publish(service, "asked", id="1", payload=slixmpp.xmlstream.ET.Element("{urn:x}x"))
    got = await juliet.hear("pubsub_publish", lambda s: s["from"].bare == service)
    equal(got["pubsub_event"]["items"]["item"]["id"], "1")
    await romeo["xep_0060"].delete_node(service, "asked")
    await romeo.disconnect()
    await juliet.disconnect()


def aio(server, jid):
    connector = aioxmpp.connector.STARTTLSConnector()
    return aioxmpp.PresenceManagedClient(aioxmpp.JID.fromstr(jid), aioxmpp.make_security_layer("secret", no_verify=True),
                                         override_peer=[("127.0.0.1", server.port, connector)])


@test("aioxmpp: an avatar is published and found by a contact; node affiliations and configuration")
async def aioxmpp_avatar(server):
    romeo, juliet = aio(server, "nurse@localhost/hall"), aio(server, "peter@localhost/yard")
    ours, theirs = romeo.summon(aioxmpp.avatar.AvatarService), juliet.summon(aioxmpp.avatar.AvatarService)
    ps = romeo.summon(aioxmpp.PubSubClient)
    async with romeo.connected(), juliet.connected():
        images = aioxmpp.avatar.AvatarSet()
        images.add_avatar_image("image/png", image_bytes=PICTURE)
        await ours.publish_avatar_set(images)
        me = aioxmpp.JID.fromstr("nurse@localhost")
        config = await ps.get_node_config(me, "urn:xmpp:avatar:metadata")
        for field in config.fields:
            if field.var == "pubsub#access_model":
                equal(field.values, ["presence"])
        for name in ("urn:xmpp:avatar:metadata", "urn:xmpp:avatar:data"):
            await ps.change_node_affiliations(me, name, [(aioxmpp.JID.fromstr("peter@localhost"), "member")])
        found = (await theirs.get_avatar_metadata(me, require_fresh=True))
        equal([m.normalized_id for m in found], [HASH])
        equal(await found[0].get_image_bytes(), PICTURE)
        await ours.disable_avatar()
        equal(await theirs.get_avatar_metadata(me, require_fresh=True), [])


def rest():
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))


HOSTS = """VirtualHost "localhost"
Component "pubsub.localhost" "pubsub"
pubsub_create = "local"
"""
with Server(accounts={name + "@localhost": "secret" for name in ("romeo", "juliet", "nurse", "peter")}, hosts=HOSTS,
            modules=["pep", "bookmarks", "vcard4", "vcard_legacy"]) as server:
    failed = done(server, last=rest)
sys.exit(failed != 0)
