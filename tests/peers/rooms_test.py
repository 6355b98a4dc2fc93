# SPDX-License-Identifier: MIT
"""Rooms with libraries clients are made of: slixmpp (XEP-0045, 0249, 0313, 0317, 0433) and aioxmpp. profanity: profanity_test.py."""
import asyncio
import pathlib
import sys
from xml.etree import ElementTree

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import aioxmpp  # noqa: E402
import aioxmpp.connector  # noqa: E402
import aioxmpp.muc  # noqa: E402
import slixmpp  # noqa: E402
from check import done, equal, test  # noqa: E402
from server import DEADLINE, Server, certificate  # noqa: E402

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)

ROOMS = "rooms.localhost"


class Person(slixmpp.ClientXMPP):
    """A slixmpp client; what happens in rooms is in `said` and `seen`."""

    def __init__(self, name):
        super().__init__(name + "@localhost/slixmpp", "secret")
        self.ca_certs = pathlib.Path(certificate()) / "cert.pem"
        self.said, self.seen, self.invited, self.subjects = (asyncio.Queue() for _ in range(4))
        for plugin in ("xep_0004", "xep_0030", "xep_0045", "xep_0050", "xep_0199", "xep_0249", "xep_0313", "xep_0421"):
            self.register_plugin(plugin)
        self.muc = self.plugin["xep_0045"]
        self.add_event_handler("groupchat_message", self.said.put_nowait)
        self.add_event_handler("groupchat_subject", self.subjects.put_nowait)
        self.add_event_handler("groupchat_presence", self.seen.put_nowait)
        self.add_event_handler("groupchat_direct_invite", self.invited.put_nowait)

    async def online(self, server):
        started = loop.create_future()
        self.add_event_handler("session_start", lambda e: started.done() or started.set_result(True))
        self.connect(("127.0.0.1", server.port))
        await asyncio.wait_for(started, DEADLINE)
        self.send_presence()
        return self

    async def join(self, room, nick, **how):
        return await self.muc.join_muc_wait(room, nick, timeout=DEADLINE, **how)

    async def hears(self):
        m = await asyncio.wait_for(self.said.get(), DEADLINE)
        return m["mucnick"], m["body"]

    async def sees(self, nick, kind):
        while True:
            p = await asyncio.wait_for(self.seen.get(), DEADLINE)
            if p["muc"]["nick"] == nick and p["type"] == kind:
                return p


async def verona(server, room):
    """Romeo and Juliet in a room he has just made."""
    romeo, juliet = await Person("romeo").online(server), await Person("juliet").online(server)
    await romeo.join(room, "Romeo")
    await romeo.muc.set_room_config(room, await romeo.muc.get_room_config(room))
    await juliet.join(room, "Juliet")
    await romeo.sees("Juliet", "available")
    return romeo, juliet


@test("slixmpp: make a room, configure it, talk, change the subject, another nickname, leave")
async def talk(server):
    room = "garden@" + ROOMS
    romeo, juliet = await verona(server, room)
    romeo.send_message(room, "But soft!", mtype="groupchat")
    equal(await juliet.hears(), ("Romeo", "But soft!"))
    equal(await romeo.hears(), ("Romeo", "But soft!"))
    romeo.muc.set_subject(room, "Love")
    while (await asyncio.wait_for(juliet.subjects.get(), DEADLINE))["subject"] != "Love":
        pass
    equal(sorted(juliet.muc.get_roster(room)), ["Juliet", "Romeo"])
    juliet.send_presence(pto=room + "/Capulet")
    await romeo.sees("Capulet", "available")
    info = await juliet.plugin["xep_0030"].get_info(jid=room)
    assert "muc_unmoderated" in info["disco_info"]["features"], info
    await juliet.plugin["xep_0199"].send_ping(room + "/Capulet")                # XEP-0410
    juliet.muc.leave_muc(room, "Capulet")
    await romeo.sees("Capulet", "unavailable")
    for c in (romeo, juliet):
        await c.disconnect()


@test("slixmpp: affiliations and roles, kick, ban, lists, destroy")
async def rule(server):
    room = "palace@" + ROOMS
    romeo, juliet = await verona(server, room)
    await romeo.muc.set_affiliation(room, "member", jid="juliet@localhost")
    equal([str(j) for j in await romeo.muc.get_affiliation_list(room, "member")], ["juliet@localhost"])
    await romeo.muc.set_role(room, "Juliet", "visitor")
    juliet.send_message(room, "may I?", mtype="groupchat")
    refused = loop.create_future()
    juliet.add_event_handler("groupchat_message_error", lambda m: refused.done() or refused.set_result(m))
    equal((await asyncio.wait_for(refused, DEADLINE))["error"]["condition"], "forbidden")
    await romeo.muc.set_role(room, "Juliet", "none", reason="curfew")
    await juliet.sees("Juliet", "unavailable")
    await romeo.muc.set_affiliation(room, "outcast", jid="juliet@localhost")
    try:
        await juliet.join(room, "Juliet")
        raise AssertionError("she got in")
    except slixmpp.exceptions.PresenceError as e:
        equal(e.condition, "forbidden")
    await romeo.muc.destroy(room, reason="plague")
    try:
        await juliet.plugin["xep_0030"].get_info(jid=room)
        raise AssertionError("the room is still there")
    except slixmpp.exceptions.IqError as e:
        equal(e.condition, "item-not-found")
    for c in (romeo, juliet):
        await c.disconnect()


@test("slixmpp: direct invitation (XEP-0249), history at the door, the room's archive (XEP-0313)")
async def archive(server):
    room = "street@" + ROOMS
    romeo, juliet = await verona(server, room)
    romeo.send_message(room, "one", mtype="groupchat")
    await juliet.hears()
    paris = await Person("paris").online(server)
    romeo.plugin["xep_0249"].send_invitation(paris.boundjid.full, room, reason="a feast")
    invite = await asyncio.wait_for(paris.invited.get(), DEADLINE)
    equal(str(invite["groupchat_invite"]["jid"]), room)
    _, _, occupants, history = await paris.join(room, "Paris")
    equal((len(occupants), [m["body"] for m in history]), (3, ["one"]))
    results = [r async for r in paris.plugin["xep_0313"].iterate(jid=slixmpp.JID(room))]
    equal([r["mam_result"]["forwarded"]["stanza"]["body"] for r in results if r["mam_result"]["forwarded"]["stanza"]["body"]], ["one"])
    for c in (romeo, juliet, paris):
        await c.disconnect()


HATS, COMMANDS, SEARCH = "urn:xmpp:hats:0", "urn:xmpp:hats:commands", "urn:xmpp:channel-search:0"


async def command(person, room, node, **fields):
    """One of the commands of a room (XEP-0050): its form is asked for, filled in and sent."""
    adhoc, node = person.plugin["xep_0050"], COMMANDS + ":" + node
    first = (await adhoc.send_command(room, node))["command"]
    equal(first["status"], "executing")
    form = first["form"]
    assert all(name in form.get_fields() for name in fields), form
    form["type"] = "submit"
    form.set_values({"FORM_TYPE": COMMANDS, **fields})
    last = (await adhoc.send_command(room, node, action="complete", payload=form, sessionid=first["sessionid"]))["command"]
    equal(last["status"], "completed")


def hats(presence):
    return [hat.get("title") for hat in presence.xml.iter("{%s}hat" % HATS)]


@test("slixmpp: a hat made, put on and taken off by commands of the room (XEP-0317)")
async def wear(server):
    room = "court@" + ROOMS
    romeo, juliet = await verona(server, room)
    items = await romeo.plugin["xep_0030"].get_items(jid=room, node="http://jabber.org/protocol/commands")
    assert COMMANDS + ":create" in [node for _, node, _ in items["disco_items"]["items"]], items
    await command(romeo, room, "create", **{"hats#title": "Helper", "hats#uri": "urn:example:helper"})
    try:
        await juliet.plugin["xep_0050"].send_command(room, COMMANDS + ":create")
        raise AssertionError("she may make hats")
    except slixmpp.exceptions.IqError as e:
        equal(e.condition, "forbidden")
    await command(romeo, room, "assign", **{"hats#jid": "juliet@localhost", "hats#uri": "urn:example:helper"})
    equal(hats(await romeo.sees("Juliet", "available")), ["Helper"])
    await command(romeo, room, "unassign", **{"hats#jid": "juliet@localhost", "hats#uri": "urn:example:helper"})
    equal(hats(await romeo.sees("Juliet", "available")), [])
    for c in (romeo, juliet):
        await c.disconnect()


@test("slixmpp: rooms found by words (XEP-0433)")
async def search(server):
    room = "orchard@" + ROOMS
    romeo, juliet = await verona(server, room)
    config = await romeo.muc.get_room_config(room)
    config.set_values({"muc#roomconfig_roomname": "Capulet's orchard", "muc#roomconfig_roomdesc": "walls are high"})
    await romeo.muc.set_room_config(room, config)

    def ask(**fields):
        iq = juliet.make_iq_get(ito=ROOMS)
        request = ElementTree.SubElement(iq.xml, "{%s:search}search" % SEARCH)
        if fields:
            form = juliet.plugin["xep_0004"].make_form(ftype="submit")
            form.add_field(var="FORM_TYPE", ftype="hidden", value=SEARCH + ":search-params")
            for name, value in fields.items():
                form.add_field(var=name, value=value)
            request.append(form.xml)
        return iq.send(timeout=DEADLINE)

    offered = juliet.plugin["xep_0004"].build_form((await ask()).xml.find(".//{jabber:x:data}x"))
    assert {"q", "sinname", "sindescription"} <= set(offered.get_fields()), offered
    found = await ask(q="orchard walls", sinname="1", sindescription="1", key="{%s:order}address" % SEARCH)
    equal([item.get("address") for item in found.xml.iter("{%s:search}item" % SEARCH)], [room])
    none = await ask(q="balcony", sinname="1")
    equal([item.get("address") for item in none.xml.iter("{%s:search}item" % SEARCH)], [])
    for c in (romeo, juliet):
        await c.disconnect()


@test("aioxmpp: join, talk, another nickname, the subject, kick")
async def aio(server):
    room = aioxmpp.JID.fromstr("tomb@" + ROOMS)
    romeo = await Person("romeo").online(server)
    await romeo.join(str(room), "Romeo")
    await romeo.muc.set_room_config(str(room), await romeo.muc.get_room_config(str(room)))
    connector = aioxmpp.connector.STARTTLSConnector()
    juliet = aioxmpp.PresenceManagedClient(aioxmpp.JID.fromstr("juliet@localhost/aioxmpp"),
                                           aioxmpp.make_security_layer("secret", no_verify=True),
                                           override_peer=[("127.0.0.1", server.port, connector)])
    muc = juliet.summon(aioxmpp.MUCClient)
    async with juliet.connected():
        here, entered = muc.join(room, "Juliet")
        heard, nicks, subjects, left = (asyncio.Queue() for _ in range(4))
        here.on_message.connect(lambda m, member, source, **k: heard.put_nowait((member.nick, m.body.any() if m.body else None)))
        here.on_nick_changed.connect(lambda member, old, new, **k: nicks.put_nowait((old, new)))
        here.on_topic_changed.connect(lambda member, topic, **k: subjects.put_nowait(topic.any()))
        here.on_exit.connect(lambda muc_leave_mode=None, **k: left.put_nowait(muc_leave_mode))
        await asyncio.wait_for(entered, DEADLINE)
        equal(sorted(m.nick for m in here.members), ["Juliet", "Romeo"])
        equal(here.me.role, "participant")
        romeo.send_message(str(room), "O my love", mtype="groupchat")
        equal(await asyncio.wait_for(heard.get(), DEADLINE), ("Romeo", "O my love"))
        await here.set_nick("Capulet")
        equal(await asyncio.wait_for(nicks.get(), DEADLINE), ("Juliet", "Capulet"))
        romeo.muc.set_subject(str(room), "Poison")
        while await asyncio.wait_for(subjects.get(), DEADLINE) != "Poison":
            pass                                                                   # at first there is none
        await romeo.muc.set_role(str(room), "Capulet", "none")
        equal(await asyncio.wait_for(left.get(), DEADLINE), aioxmpp.muc.LeaveMode.KICKED)
    await romeo.disconnect()


CONFIG = 'Component "%s" "muc" { modules_enabled = { "muc_mam", "muc_moderation" } }\n' % ROOMS

with Server(hosts='VirtualHost "localhost"\n' + CONFIG,
            accounts={n + "@localhost": "secret" for n in ("romeo", "juliet", "paris")}) as server:
    failed = done(server)
sys.exit(failed != 0)
