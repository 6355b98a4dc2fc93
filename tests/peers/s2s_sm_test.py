# SPDX-License-Identifier: MIT
"""Stream management between servers, with Couplet and with Debian's Prosody: what was written to a connection that turns out to
be dead is sent again on the next one, once and in order."""
import asyncio
import pathlib
import socket
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from federation import Lab  # noqa: E402
from federation_users import Client  # noqa: E402
from server import DEADLINE  # noqa: E402


class Wire:
    """A network in front of a server's port: it can swallow what is sent, and be cut."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.target, self.mute, self.pairs, self.back = None, set(), [], 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.target))
            pair = (near, far)
            self.pairs.append(pair)
            threading.Thread(target=self.pump, args=(near, far, pair, True), daemon=True).start()
            threading.Thread(target=self.pump, args=(far, near, pair, False), daemon=True).start()

    def pump(self, source, sink, pair, forward):
        try:
            while data := source.recv(65536):
                if not forward:
                    self.back += len(data)
                if pair not in self.mute:
                    sink.sendall(data)
        except OSError:
            pass
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def swallow(self):
        """What the connections there are now bring is lost; they stay open."""
        self.mute = set(self.pairs)

    def cut(self):
        pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for s in pair:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self):
        self.listener.close()
        self.cut()


async def until(what):
    end = time.monotonic() + DEADLINE
    while not what():
        if time.monotonic() > end:
            raise AssertionError("it never came true")
        await asyncio.sleep(0.05)


async def quiet(world, romeo):
    """All that was sent to the other server is acknowledged."""
    await romeo.plugin["xep_0199"].ping("mantua.lab")
    seen = -1
    while seen != world.wire.back:
        seen = world.wire.back
        await asyncio.sleep(0.5)


class World:
    def __init__(self, there, config=""):
        self.lab = lab = Lab()
        lab.trust = lab.dir / "trust.pem"
        self.wire = Wire()
        self.here = lab.couplet("verona.lab", accounts={"romeo": "secret"}, config="smacks_max_unacked_stanzas = 0\n" + config)
        self.there = getattr(lab, there)("mantua.lab", accounts={"juliet": "secret"}, modules=["smacks"] if there == "prosody" else [])
        self.wire.target = self.there.s2s
        lab.zone["mantua.lab"] = [("127.0.0.1", self.wire.port)]
        lab.trust.write_text(lab.authority.ca.read_text())

    def __enter__(self):
        self.lab.start()
        return self

    def __exit__(self, kind, *more):
        if kind:
            print("==== here\n" + self.here.output()[-7000:] + "\n==== there\n" + self.there.output()[-7000:])
        self.lab.__exit__(kind, *more)
        self.wire.close()


for _there in ("couplet", "prosody"):
    @test("%s: what a dead connection swallowed comes on the next one, once and in order" % _there)
    async def again(there=_there):
        with World(there) as world:
            romeo = await Client(world.lab, "romeo@verona.lab/orchard").online(world.here)
            juliet = await Client(world.lab, "juliet@mantua.lab/balcony").online(world.there)
            for n in range(3):
                romeo.send_message("juliet@mantua.lab", "before %d" % n, mtype="chat")
                equal((await juliet.message())["body"], "before %d" % n)
            await quiet(world, romeo)
            for round in range(2):
                world.wire.swallow()
                for n in range(20):
                    romeo.send_message("juliet@mantua.lab", "%d-%d" % (round, n), mtype="chat")
                await romeo.plugin["xep_0199"].ping("verona.lab")             # all have been handled here
                world.wire.cut()
                romeo.send_message("juliet@mantua.lab", "%d-after" % round, mtype="chat")
                got = [(await juliet.message())["body"] for _ in range(21)]
                equal(got, ["%d-%d" % (round, n) for n in range(20)] + ["%d-after" % round])
                await quiet(world, romeo)
            assert juliet.messages.empty()
            assert "sent again" in world.here.log()
            await romeo.bye()
            await juliet.bye()


@test("a server that stops answering is called anew, without waiting for TCP")
async def silent():
    with World("couplet", "smacks_max_ack_delay = 1\n") as world:
        romeo = await Client(world.lab, "romeo@verona.lab/orchard").online(world.here)
        juliet = await Client(world.lab, "juliet@mantua.lab/balcony").online(world.there)
        romeo.send_message("juliet@mantua.lab", "1", mtype="chat")
        equal((await juliet.message())["body"], "1")
        await quiet(world, romeo)
        world.wire.swallow()
        romeo.send_message("juliet@mantua.lab", "2", mtype="chat")
        await until(lambda: "does not acknowledge" in world.here.log())
        equal((await juliet.message())["body"], "2")
        await romeo.bye()
        await juliet.bye()


@test("a stop in order: what the other server has not acknowledged is sent after the start")
async def stopped():
    with World("couplet") as world:
        romeo = await Client(world.lab, "romeo@verona.lab/orchard").online(world.here)
        juliet = await Client(world.lab, "juliet@mantua.lab/balcony").online(world.there)
        romeo.send_message("juliet@mantua.lab", "before", mtype="chat")
        equal((await juliet.message())["body"], "before")
        await quiet(world, romeo)
        world.wire.swallow()
        for n in range(5):
            romeo.send_message("juliet@mantua.lab", "%d" % n, mtype="chat")
        await romeo.plugin["xep_0199"].ping("verona.lab")
        await romeo.bye()
        world.here.stop()
        world.wire.cut()
        world.here.start()
        got = [await juliet.message() for _ in range(5)]
        equal([m["body"] for m in got], ["%d" % n for n in range(5)])
        equal({m.xml.find("{urn:xmpp:delay}delay").get("from") for m in got}, {"verona.lab"})
        await juliet.bye()


failed = done()
sys.exit(failed != 0)
