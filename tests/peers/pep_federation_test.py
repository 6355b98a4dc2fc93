# SPDX-License-Identifier: MIT
"""What accounts publish reaches contacts on other servers: Couplet with Couplet and with Debian's Prosody, both ways."""
import asyncio
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from federation_users import Client, Pair, loop  # noqa: E402
from server import DEADLINE  # noqa: E402
from slixmpp.exceptions import IqError  # noqa: E402

TUNE = "http://jabber.org/protocol/tune"


async def listener(lab, jid, server):
    client = Client(lab, jid)
    for plugin in ("xep_0115", "xep_0060", "xep_0163", "xep_0118"):
        client.register_plugin(plugin)
    client.tunes = asyncio.Queue()
    client.add_event_handler("user_tune_publish", client.tunes.put_nowait)
    return await client.online(server)


async def tune(client, publisher):
    while True:
        got = await asyncio.wait_for(client.tunes.get(), DEADLINE)
        if got["from"].bare == publisher:
            return got["pubsub_event"]["items"]["item"]["tune"]["title"]


for _there in ("couplet", "prosody"):
    @test("%s: contacts hear, now and when they come; strangers may not read; who is no contact any more hears nothing" % _there)
    async def both_ways(there=_there):
        with Pair(there, theirs_modules=("pep",), modules=("pep",)) as pair:
            romeo = await listener(pair.lab, "romeo@verona.lab/orchard", pair.here)
            juliet = await listener(pair.lab, "juliet@mantua.lab/balcony", pair.there)
            await romeo["xep_0118"].publish_tune(title="before")
            try:
                await juliet["xep_0060"].get_items("romeo@verona.lab", TUNE)
                raise AssertionError("a stranger reads")
            except IqError as e:
                equal(e.condition, "not-authorized")
            romeo.send_presence_subscription("juliet@mantua.lab")          # slixmpp approves and subscribes back by itself
            await romeo.presence_of("juliet@mantua.lab/balcony")
            await juliet.presence_of("romeo@verona.lab/orchard")
            for one, other, name in ((romeo, juliet, "romeo@verona.lab"), (juliet, romeo, "juliet@mantua.lab")):
                await one["xep_0118"].publish_tune(title="of " + name)
                while await tune(other, name) != "of " + name:
                    pass
            await juliet.bye()
            await romeo.presence_of("juliet@mantua.lab/balcony", "unavailable")
            await romeo["xep_0118"].publish_tune(title="meanwhile")
            juliet = await listener(pair.lab, "juliet@mantua.lab/balcony", pair.there)
            equal(await tune(juliet, "romeo@verona.lab"), "meanwhile")
            got = await juliet["xep_0060"].get_items("romeo@verona.lab", TUNE)
            equal(len(got["pubsub"]["items"]), 1)
            romeo.send_presence(pto="juliet@mantua.lab", ptype="unsubscribed")
            await juliet.presence_of("romeo@verona.lab", "unsubscribed")
            await romeo["xep_0118"].publish_tune(title="after")
            while await tune(romeo, "romeo@verona.lab") != "after":        # he hears himself
                pass
            await juliet["xep_0199"].ping("verona.lab")                    # handled in order: it would have come by now
            equal(juliet.tunes.qsize(), 0)
            await romeo.bye()
            await juliet.bye()


def rest():
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))


failed = done(last=rest)
sys.exit(failed != 0)
