# SPDX-License-Identifier: MIT
"""Rooms across servers: people of Debian's Prosody and ejabberd in rooms of Couplet, and the other way round; a link that breaks."""
import asyncio
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from ejabberd import FINDABLE  # noqa: E402
from federation import Lab  # noqa: E402
from federation_users import Client, loop, proofs  # noqa: E402
from server import DEADLINE  # noqa: E402


class Person(Client):
    def __init__(self, lab, jid):
        super().__init__(lab, jid)
        self.register_plugin("xep_0045")
        self.muc = self.plugin["xep_0045"]
        self.add_event_handler("groupchat_presence", self.presences.put_nowait)

    async def join(self, room, nick):
        return await self.muc.join_muc_wait(room, nick, timeout=DEADLINE)

    async def hears(self, body):
        while (await self.message())["body"] != body:
            pass


def laboratory(there, seconds="1h"):
    lab = Lab()
    lab.trust = lab.dir / "trust.pem"
    rooms = ('Component "rooms.verona.lab" "muc"\nmuc_ping_interval = "%s"\ncertificate = "%s"\nkey = "%s"\n'
             % (seconds, *lab.authority.issue("rooms.verona.lab")))
    lab.here = lab.couplet("verona.lab", accounts={"romeo": "secret"}, config='s2s_insecure_domains = { "rooms.mantua.lab" }\n' if there == "ejabberd" else "", of_host=lambda h: rooms)
    if there == "ejabberd":
        lab.there = lab.ejabberd("mantua.lab", accounts={"juliet": "secret"}, config="  mod_muc: { host: rooms.mantua.lab }\n")
        lab.there_rooms = "rooms.mantua.lab"
    else:
        cert, key = lab.authority.issue("rooms.mantua.lab")
        text = 'Component "rooms.mantua.lab" "muc"\nssl = { certificate = "%s", key = "%s", cafile = "%s" }\n' % (
            cert, key, lab.authority.ca)
        lab.there = lab.prosody("mantua.lab", accounts={"juliet": "secret"}, of_host=text)
        lab.there_rooms = "rooms.mantua.lab"
    lab.zone["rooms.verona.lab"] = lab.zone["verona.lab"]
    lab.zone[lab.there_rooms] = lab.zone["mantua.lab"]
    if there == "ejabberd":
        for name in ("verona.lab", "rooms.verona.lab"):
            lab.zone[name] = [(FINDABLE, lab.here.s2s)]
    lab.trust.write_text(lab.authority.ca.read_text())
    return lab


async def people(lab):
    return (await Person(lab, "romeo@verona.lab/orchard").online(lab.here), await Person(lab, "juliet@mantua.lab/balcony").online(lab.there))


async def ended(lab):
    """Our side has seen that the streams are gone: what is sent now comes back. Before, it is lost, and the ping finds out."""
    end = loop.time() + DEADLINE
    while "session to mantua.lab ended" not in lab.here.log():
        assert loop.time() < end
        await asyncio.sleep(0.05)


async def unlock(who, room):
    await who.muc.set_room_config(room, await who.muc.get_room_config(room))


for _there in ("prosody", "ejabberd"):
    @test("%s: its user in our room, ours in its; its server dies, and the ghost goes" % _there)
    async def rooms(there=_there):
        lab = laboratory(there)
        lab.start()
        try:
            romeo, juliet = await people(lab)
            ours, theirs = "garden@rooms.verona.lab", "tomb@" + lab.there_rooms
            await romeo.join(ours, "Romeo")
            await unlock(romeo, ours)
            await juliet.join(ours, "Juliet")
            nurse = await Person(lab, "juliet@mantua.lab/tower").online(lab.there)
            await nurse.join(ours, "Nurse")
            for text in ("But soft!", "What light"):                     # to both there in one go
                romeo.send_message(ours, text, mtype="groupchat")
            for who in (juliet, nurse):
                await who.hears("But soft!")
                await who.hears("What light")
            await nurse.bye()
            juliet.send_message(ours, "Ay me", mtype="groupchat")
            await romeo.hears("Ay me")
            await juliet.join(theirs, "Juliet")
            await unlock(juliet, theirs)
            await romeo.join(theirs, "Romeo")
            juliet.send_message(theirs, "Here lies", mtype="groupchat")
            await romeo.hears("Here lies")
            if there == "prosody":                 # components are proved by certificates as well
                equal(proofs(lab.here.log()), {("from", "TLS", "EXTERNAL"), ("to", "TLS", "EXTERNAL")})
            lab.there.kill()
            lab.there.process = None
            await ended(lab)
            romeo.send_message(ours, "O she is gone", mtype="groupchat")
            gone = await romeo.presence_of(ours + "/Juliet", "unavailable")
            assert 333 in gone["muc"]["status_codes"], gone
            await romeo.hears("O she is gone")
            await romeo.bye()
        except BaseException:
            print(lab.here.output()[-6000:], lab.there.output()[-4000:])
            raise
        finally:
            lab.there.kill()
            lab.__exit__(True, None, None)


@test("a server that falls silent: who does not answer leaves")
async def silent():
    lab = laboratory("prosody", "1s")
    lab.start()
    try:
        romeo, juliet = await people(lab)
        room = "garden@rooms.verona.lab"
        await romeo.join(room, "Romeo")
        await unlock(romeo, room)
        await juliet.join(room, "Juliet")
        lab.there.kill()                       # nobody says anything; the room asks by itself
        gone = await romeo.presence_of(room + "/Juliet", "unavailable")
        assert 333 in gone["muc"]["status_codes"], gone
        await romeo.bye()
    finally:
        lab.there.kill()
        lab.__exit__(True, None, None)

sys.exit(done() != 0)
