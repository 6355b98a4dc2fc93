# SPDX-License-Identifier: MIT
"""One stream for more than one pair of domains: both ways (XEP-0288), and several pairs outwards (XEP-0220 2.6)."""
import asyncio
import json
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from federation import Lab, Raw, RawServer, header  # noqa: E402
from federation_users import Client, LOOSE, Pair, STREAM_ERROR, loop, proofs  # noqa: E402

BIDI = "<bidi xmlns='urn:xmpp:bidi'/>"
WAYS = {"EXTERNAL": dict(), "dialback": dict(kind="selfsigned", config=LOOSE, theirs=LOOSE)}


async def chat(a, b):
    """A message there and one back."""
    a.send_message(b.boundjid.bare, "But soft!", mtype="chat")
    got = await b.heard()
    equal(got["body"], "But soft!")
    b.send_message(got["from"], "Ay me", mtype="chat")
    equal((await a.heard())["body"], "Ay me")


for _there in ("couplet", "prosody"):
    for _way in WAYS:
        @test("%s, %s: whoever calls first, both directions use that stream" % (_there, _way))
        async def both(there=_there, way=_way):
            for here_first in (True, False):
                with Pair(there, modules=["s2s_bidi"], theirs_modules=["s2s_bidi"], **WAYS[way]) as pair:
                    romeo, juliet = await pair.users()
                    await (chat(romeo, juliet) if here_first else chat(juliet, romeo))
                    await chat(romeo, juliet)
                    if (there, way, here_first) == ("prosody", "dialback", True):
                        # it proves itself on the stream on which it asks about us: that one goes both ways
                        assert ("from", "TLS", way) in proofs(pair.here.log())
                        here_first = False
                    else:
                        equal(proofs(pair.here.log()), {("to" if here_first else "from", "TLS", way)})
                    equal("goes back on this stream" in pair.here.log(), not here_first)
                    assert re.search(r"verona.lab +<> mantua.lab .* %s +TLS" % way, pair.here.ctl("s2s", "list")[1])
                    assert any(c["both_ways"] for c in json.loads(pair.here.ctl("--json", "s2s", "list")[1]))
                    await pair.bye()

        @test("%s, %s: the same over direct TLS" % (_there, _way))
        async def direct(there=_there, way=_way):
            with Pair(there, modules=["s2s_bidi"], theirs_modules=["s2s_bidi"], direct=True, **WAYS[way]) as pair:
                romeo, juliet = await pair.users()
                await chat(juliet, romeo)
                await chat(romeo, juliet)
                equal(proofs(pair.here.log()), {("from", "TLS", way)})
                assert "goes back on this stream" in pair.here.log()
                if way == "dialback":
                    assert "port %d (TLS)" % pair.there.s2s_tls in pair.here.log()       # the question
                await pair.bye()

        @test("%s, %s: only one side knows it: two streams" % (_there, _way))
        async def one_knows(there=_there, way=_way):
            with Pair(there, modules=["s2s_bidi"], **WAYS[way]) as pair:
                await chat(*await pair.users())
                await pair.bye()
                equal(proofs(pair.here.log()), {("to", "TLS", way), ("from", "TLS", way)})


@test("both sides call at once, and 300 messages cross: none is lost, all in order, and no more than two connections")
async def at_once():
    with Pair(modules=["s2s_bidi"], theirs_modules=["s2s_bidi"]) as pair:
        romeo, juliet = await pair.users()
        for i in range(300):
            romeo.send_message("juliet@mantua.lab", str(i), mtype="chat")
            juliet.send_message("romeo@verona.lab", str(i), mtype="chat")
        for client in (romeo, juliet):
            equal([(await client.message())["body"] for _ in range(300)], [str(i) for i in range(300)])
        lines = [line for line in pair.here.ctl("s2s", "list")[1].splitlines() if "EXTERNAL" in line]
        assert 1 <= len(lines) <= 2, lines
        await pair.bye()


def proved(lab, server, bidi=True):
    """x.lab, by hand, on a stream to verona.lab."""
    r = Raw.connect(server.s2s).opened_tls(lab, "x.lab", "verona.lab", lab.authority.issue("x.lab"))
    assert "<bidi xmlns='urn:xmpp:features:bidi'/>" in r.features, r.features
    if bidi:
        r.send(BIDI)
    r.external("x.lab").expect("<success")
    r.text = ""
    return r.open("x.lab", "verona.lab")


@test("nothing goes back before the proof; then what was proved, and nothing else")
async def hostile():
    lab = Lab()
    here = lab.couplet("verona.lab", accounts={"romeo": "secret"}, modules=["s2s_bidi", "ping"])
    other = RawServer()
    lab.zone["x.lab"] = lab.zone["y.lab"] = [("127.0.0.1", other.port)]
    with lab:
        ping = "<iq type='get' id='%s' from='a@%s' to='verona.lab'><ping xmlns='urn:xmpp:ping'/></iq>"
        r = proved(lab, here)
        r.expect("<stream:features>.*</stream:features>|<stream:features/>")
        r.send(ping % ("1", "x.lab")).expect("<iq [^>]*id='1'")
        r.send(ping % ("2", "y.lab")).expect(STREAM_ERROR % "invalid-from")
        r.close()
        for verdict in ("result", "verify"):                                      # that nobody waits for
            r = proved(lab, here)
            r.send("<db:%s from='y.lab' to='verona.lab' id='1' type='valid'/>" % verdict).expect(STREAM_ERROR % "unsupported-stanza-type")
            r.close()
        # without <bidi/> the answer looks for a way of its own
        r = proved(lab, here, bidi=False)
        r.send(ping % ("4", "x.lab"))
        a = await loop.run_in_executor(None, other.accept)
        r.expect("<stream:features>.*</stream:features>|<stream:features/>")
        r.send(BIDI).expect(STREAM_ERROR % "unsupported-stanza-type")             # too late
        a.close()
        r.close()
        r = Raw.connect(here.s2s)
        r.open("x.lab", "verona.lab").expect("</stream:features>")
        r.send(BIDI).expect(STREAM_ERROR % "policy-violation")                    # TLS comes first
        r.close()
    other.close()


@test("an outgoing stream: who was called may send for the pair that was proved, and for no other")
async def called():
    lab = Lab()
    here = lab.couplet("verona.lab", "arden.lab", accounts={"romeo": "secret"}, modules=["s2s_bidi"])
    other = RawServer()
    lab.zone["x.lab"] = [("127.0.0.1", other.port)]
    cert = lab.authority.issue("x.lab")
    features = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>EXTERNAL</mechanism></mechanisms>"
    bidi = "<bidi xmlns='urn:xmpp:features:bidi'/>"
    with lab:
        lab.trust = lab.authority.ca
        romeo = await Client(lab, "romeo@verona.lab/orchard").online(here)
        for offered, stanza, condition in (
            (bidi, "<message from='a@y.lab' to='romeo@verona.lab'/>", "invalid-from"),
            (bidi, "<message from='a@x.lab' to='romeo@arden.lab'/>", "host-unknown"),
            ("", "<message from='a@x.lab' to='romeo@verona.lab'/>", "not-authorized"),
        ):
            romeo.send_message("a@x.lab", "hello", mtype="chat")
            r = await loop.run_in_executor(None, other.accept_tls, lab, "x.lab", cert, features + offered)

            def prove():
                if offered:
                    r.expect("<bidi xmlns='urn:xmpp:bidi'/>")
                r.expect("<auth [^>]*>[^<]*</auth>")
                r.send("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>").expect("<stream:stream[^>]*>")
                r.send(header(from_="x.lab", id="three") + "<stream:features/>").expect("<body>hello</body>")
                if offered:
                    r.send("<message from='a@x.lab' to='romeo@verona.lab' type='chat'><body>yes</body></message>")
            await loop.run_in_executor(None, prove)
            if offered:
                equal((await romeo.message())["body"], "yes")
            await loop.run_in_executor(None, r.send(stanza).expect, STREAM_ERROR % condition)
            r.close()
        await romeo.bye()
    other.close()


@test("the other server dies in the middle and comes back: the stream used both ways is made anew, by either side")
async def restart():
    with Pair(modules=["s2s_bidi"], theirs_modules=["s2s_bidi"]) as pair:
        romeo, juliet = await pair.users()
        await chat(romeo, juliet)
        pair.there.kill()
        pair.there.start()
        juliet = pair.juliet = await Client(pair.lab, "juliet@mantua.lab/balcony").online(pair.there)
        await chat(juliet, romeo)
        await chat(romeo, juliet)
        await pair.bye()


@test("our domains share a connection to one domain, and domains at one address do; others get their own")
async def shared():
    lab = Lab()
    lab.trust = lab.dir / "trust.pem"
    here = lab.couplet("verona.lab", "arden.lab", accounts={"romeo@verona.lab": "secret", "orlando@arden.lab": "secret"}, config=LOOSE)
    there = lab.couplet("mantua.lab", "padua.lab", "athens.lab", config=LOOSE)
    lab.zone["athens.lab"] = [("127.0.0.1", there.s2s_tls)]                 # another port: another server, for all we know
    lab.direct["athens.lab"] = [("127.0.0.1", there.s2s_tls)]
    other = RawServer()
    lab.zone["x.lab"] = lab.zone["y.lab"] = [("127.0.0.1", other.port)]
    cert = lab.authority.issue("x.lab", "selfsigned")
    lab.trust.write_text(lab.authority.ca.read_text())

    def stubborn():
        """Takes x.lab, does not believe in y.lab on the same stream, and takes it on one of its own."""
        feature = "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>"
        r = other.accept_tls(lab, "x.lab", cert, feature)
        r.expect("<db:result [^>]*>[^<]*</db:result>")
        r.send("<db:result from='x.lab' to='verona.lab' type='valid'/>").expect("<body>x</body>")
        r.expect("<db:result [^>]*to='y.lab'[^>]*>[^<]*</db:result>")
        assert "<body>y" not in r.text, r.text
        r.send("<db:result from='y.lab' to='verona.lab' type='error'><error type='cancel'><item-not-found "
               "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></db:result>")
        own = other.accept_tls(lab, "y.lab", cert, feature)
        own.expect("<db:result [^>]*>[^<]*</db:result>")
        own.send("<db:result from='y.lab' to='verona.lab' type='valid'/>").expect("<body>y</body>")
        for raw in (r, own):
            raw.close()

    with lab:
        romeo = await Client(lab, "romeo@verona.lab/orchard").online(here)
        orlando = await Client(lab, "orlando@arden.lab/forest").online(here)
        for client, domain in ((romeo, "mantua.lab"), (romeo, "padua.lab"), (romeo, "athens.lab"), (orlando, "mantua.lab")):
            await client.plugin["xep_0030"].get_info(domain)
        log = here.log()
        for pair in ("verona.lab to padua.lab", "arden.lab to mantua.lab"):
            assert "is to carry what goes from %s too" % pair in log, log
        assert "from verona.lab to athens.lab too" not in log, log
        waiting = loop.run_in_executor(None, stubborn)
        romeo.send_message("a@x.lab", "x", mtype="chat")
        while "to x.lab for verona.lab" not in here.log():
            await asyncio.sleep(0.01)
        romeo.send_message("a@y.lab", "y", mtype="chat")
        await waiting
        await romeo.bye()
        await orlando.bye()
    other.close()


@test("an old server, whose streams have no version: dialback in the clear, where an admin allows it")
async def old():
    lab = Lab()
    lab.trust = lab.authority.ca
    here = lab.couplet("verona.lab", accounts={"romeo": "secret"}, modules=["ping"],
                       config=LOOSE + "s2s_require_encryption = false\n")
    other = RawServer()
    lab.zone["x.lab"] = [("127.0.0.1", other.port)]
    with lab:
        romeo = await Client(lab, "romeo@verona.lab/orchard").online(here)

        def dance():
            r = Raw.connect(here.s2s)
            r.open("x.lab", "verona.lab", version=None)
            r.send("<db:result from='x.lab' to='verona.lab'>key</db:result>")
            a = other.accept()
            a.expect("<stream:stream[^>]*>")
            a.send(header(from_="x.lab", id="one", version=None)).expect("<db:verify [^>]*>key</db:verify>")
            a.send("<db:verify from='x.lab' to='verona.lab' id='%s' type='valid'/>" % r.stream_id)
            r.expect("<db:result[^>]*type='valid'")
            r.send("<iq type='get' id='1' from='a@x.lab' to='verona.lab'><ping xmlns='urn:xmpp:ping'/></iq>")
            a.expect("<db:result[^>]*>[^<]*</db:result>")                   # the answer goes out on the stream for questions
            a.send("<db:result from='x.lab' to='verona.lab' type='valid'/>").expect("<iq [^>]*type='result'[^>]*/>")
            assert "stream:features" not in r.text
            r.close()
            a.close()
        await loop.run_in_executor(None, dance)
        await romeo.bye()
    other.close()


sys.exit(done() != 0)
