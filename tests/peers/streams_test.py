# SPDX-License-Identifier: MIT
"""The life of streams between servers: silence, reconnections while stanzas flow, floods."""
import asyncio
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from federation import Lab, Raw, RawServer, header  # noqa: E402
from federation_users import Client, Pair, STREAM_ERROR, loop  # noqa: E402
from server import DEADLINE  # noqa: E402

EXTERNAL = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>"
BIDI = "<bidi xmlns='urn:xmpp:features:bidi'/>"


class World:
    """verona.lab, romeo, and x.lab by hand, which is called."""

    def __init__(self, config="", modules=("s2s_bidi",), features=EXTERNAL + BIDI):
        self.lab = Lab()
        self.lab.trust = self.lab.authority.ca
        self.here = self.lab.couplet("verona.lab", accounts={"romeo": "secret", "benvolio": "secret"}, config=config, modules=["ping", *modules])
        self.other, self.features = RawServer(), features
        self.lab.zone["x.lab"] = [("127.0.0.1", self.other.port)]
        self.cert = self.lab.authority.issue("x.lab")

    async def __aenter__(self):
        self.lab.start()
        self.romeo = await Client(self.lab, "romeo@verona.lab/orchard").online(self.here)
        return self

    async def __aexit__(self, kind, *more):
        await self.romeo.bye()
        self.lab.__exit__(kind, *more)
        self.other.listener.close()

    def _accept(self):
        r = self.other.accept_tls(self.lab, "x.lab", self.cert, self.features)
        r.expect("<auth [^>]*>[^<]*</auth>")
        r.send("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").expect("<stream:stream[^>]*>")
        return r.send(header(from_="x.lab", id="three") + "<stream:features/>")

    async def called(self, text):
        """romeo writes to x.lab -> the stream on which that comes"""
        self.romeo.send_message("a@x.lab", text, mtype="chat")
        r = await wait(self._accept)
        await wait(r.expect, "<body>%s</body></message>" % text)
        return r

    def proved(self):
        """x.lab calls -> the stream"""
        r = Raw.connect(self.here.s2s).opened_tls(self.lab, "x.lab", "verona.lab", self.cert)
        r.external("x.lab").expect("<success")
        r.text = ""
        r.open("x.lab", "verona.lab").expect("<stream:features>.*</stream:features>|<stream:features/>")
        return r


def wait(fn, *args):
    return loop.run_in_executor(None, fn, *args)


@test("silence on a stream used both ways: a ping; an answer is enough; without one the connection ends and is made anew")
async def pings():
    async with World("s2s_keepalive = 1\ns2s_ping_timeout = 2\n") as w:
        r = await w.called("one")
        asked = (await wait(r.expect, "<iq [^>]*><ping xmlns='urn:xmpp:ping'/></iq>")).group(0)
        assert "to='x.lab'" in asked and "from='verona.lab'" in asked and "type='get'" in asked, asked
        ident = asked.split("id='")[1].split("'")[0]
        r.send("<iq type='error' id='%s' from='x.lab' to='verona.lab'><error type='cancel'><service-unavailable "
               "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>" % ident)
        await wait(r.expect, "<iq [^>]*><ping xmlns='urn:xmpp:ping'/></iq>")
        await wait(r.expect, STREAM_ERROR % "connection-timeout")
        r.close()
        (await w.called("two")).close()


@test("silence on a stream for one direction: spaces, as nobody could answer; then it is closed, because nothing is to do")
async def spaces():
    async with World("s2s_keepalive = 1\ns2s_idle_timeout = 3\n", features=EXTERNAL) as w:
        r = await w.called("one")
        await wait(r.expect, "^ ")
        text = await wait(r.ended)
        assert text.strip() == "</stream:stream>", text


@test("the resolver is at work before anybody has asked it")
async def resolver():
    async with World() as w:
        end = time.monotonic() + DEADLINE
        while "localhost A: " not in w.here.log():
            assert time.monotonic() < end, w.here.log()
            await asyncio.sleep(0.02)


@test("what a server may send before its domain is proved comes at its rate too (limits.s2sin)")
async def rate_before_proof():
    async with World('limits = { s2sin = { rate = "4kb/s", burst = "1s" } }\n', modules=("limits",)) as w:
        r = await wait(lambda: Raw.connect(w.here.s2s).opened_tls(w.lab, "x.lab", "verona.lab", w.cert))
        ask = "<db:verify from='x.lab' to='verona.lab' id='%d'>" + "k" * 900 + "</db:verify>"
        began = time.monotonic()
        r.send("".join(ask % i for i in range(16)))
        await wait(r.expect, "<db:verify [^>]*id='15'[^>]*type='invalid'")
        took = time.monotonic() - began                # 15 kB, one second's worth of them at once
        assert took > 2, took
        r.close()


@test("why the other side does not believe us is said to the sender, whatever else stands beside the error")
async def unbelieved():
    dialback = "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>"
    async with World(features=dialback, modules=()) as w:
        w.romeo.send_message("a@x.lab", "one", mtype="chat")
        r = await wait(w.other.accept_tls, w.lab, "x.lab", w.cert, dialback)
        await wait(r.expect, "<db:result [^>]*>[^<]*</db:result>")
        r.send("<db:result from='x.lab' to='verona.lab' type='error'>\n <extra xmlns='urn:x'/>\n <error type='cancel'><item-not-found "
               "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>\n</db:result>")
        got = await w.romeo.message()
        equal((got["error"]["condition"], got["error"]["text"]), ("remote-server-not-found", "The other server cannot verify us: item-not-found"))
        r.close()


@test("streams for the same two domains: over the limit the oldest ends")
async def too_many():
    async with World("s2s_max_streams_per_pair = 2\n") as w:
        streams = [await wait(w.proved) for _ in range(3)]
        await wait(streams[0].expect, STREAM_ERROR % "policy-violation")
        for r in streams[1:]:
            r.send("<iq type='get' id='1' from='a@x.lab' to='verona.lab'><ping xmlns='urn:xmpp:ping'/></iq>")
        for r in streams:
            r.close()


def say(client, to, number):
    m = client.make_message(to, str(number), mtype="chat")
    m["id"] = str(number)
    m.send()


async def numbers(client, last):
    """-> the numbers of what was delivered, up to that one"""
    out = []
    while not out or out[-1] != last:
        out.append(int((await client.message())["id"]))
    return out


for _modules in ((), ("s2s_bidi",)):
    @test("1000 messages in each direction while connections are closed: all arrive, once, in order (%s)" % " ".join(_modules))
    async def reconnect(modules=_modules):
        with Pair(modules=modules, theirs_modules=modules) as pair:
            romeo, juliet = await pair.users()
            for i in range(1000):
                say(romeo, "juliet@mantua.lab", i)
                say(juliet, "romeo@verona.lab", i)
                if i % 250 == 150:                     # there are connections to close
                    equal((await romeo.ping_error("mantua.lab"), await juliet.ping_error("verona.lab")), (None, None))
                if i % 250 == 200:
                    await wait(pair.here.ctl, "s2s", "close", "mantua.lab")
            for client in (juliet, romeo):
                got = await numbers(client, 999)
                assert got == list(range(1000)), (len(got), got[:5], sorted(set(range(1000)) - set(got))[:20])
            await pair.bye()


@test("the other server is killed while 1000 messages flow, no stream management: nothing twice, nothing both delivered and returned, in order")
async def killed():
    plain = "smacks_enabled_s2s = false\n"            # with it what was not acknowledged goes again, and may arrive twice
    with Pair(config=plain, theirs=plain) as pair:
        romeo, juliet = await pair.users()
        say(romeo, "juliet@mantua.lab", 0)
        delivered, returned = await numbers(juliet, 0), []
        for i in range(1, 1000):
            say(romeo, "juliet@mantua.lab/balcony", i)
            if i == 500:
                while not juliet.messages.empty():
                    delivered.append(int(juliet.messages.get_nowait()["id"]))
                pair.there.kill()
            if i % 20 == 0:
                await asyncio.sleep(0.005)
        pair.there.start()
        await asyncio.sleep(0)
        juliet.abort()
        await romeo.ping_error("verona.lab")
        while not romeo.messages.empty():
            returned.append(int(romeo.messages.get_nowait()["id"]))
        assert delivered == sorted(set(delivered)), delivered
        assert len(returned) == len(set(returned)), returned       # errors come in slices: newer ones may overtake
        assert not set(delivered) & set(returned) and delivered, (delivered[-5:], returned[:5])
        await romeo.bye()


@test("a server that floods is slowed to its rate, and users of this one chat on")
async def flood():
    config = 'limits = { s2sin = { rate = "10kb/s", burst = "2s" } }\n'
    async with World(config, modules=("s2s_bidi", "limits")) as w:
        benvolio = await Client(w.lab, "benvolio@verona.lab/street").online(w.here)
        r = await wait(w.proved)
        r.sock.setblocking(True)
        ping = "<iq type='get' id='%05d' from='a@x.lab' to='verona.lab/none'><ping xmlns='urn:xmpp:ping'/></iq>"
        began = time.monotonic()
        text = "".join(ping % i for i in range(20000))

        def pour():
            try:
                r.sock.sendall(text.encode())
            except OSError:
                pass                                   # the test is over
        pouring = wait(pour)
        for i in range(50):
            w.romeo.send_message("benvolio@verona.lab", str(i), mtype="chat")
            equal((await benvolio.message())["body"], str(i))
        await asyncio.sleep(max(0, began + 3 - time.monotonic()))
        a = await wait(w.other.accept)                 # answers go their own way: nobody reads them
        took = time.monotonic() - began
        waiting = int(w.here.ctl("s2s", "list")[1].split(" stanzas wait")[0].rsplit(" ", 1)[-1])
        most = (10000 * (took + 3) + 65536) / len(ping % 0)        # with what the system's buffers and the window hold
        assert 0 < waiting < most, (waiting, most)
        r.sock.close()
        await pouring
        a.close()
        await benvolio.bye()


sys.exit(done() != 0)
