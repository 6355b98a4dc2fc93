# SPDX-License-Identifier: MIT
"""Servers find each other, prove who they are, and their users talk: Couplet with Couplet and with Debian's Prosody."""
import asyncio
import pathlib
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from federation import Lab, Raw, RawServer, header  # noqa: E402
from federation_users import Client, LOOSE, Pair, STREAM_ERROR, loop, proofs  # noqa: E402
from server import DEADLINE, fair_clock, free_port  # noqa: E402

async def talk(pair):
    romeo, juliet = await pair.users()
    romeo.send_message("juliet@mantua.lab", "But soft!", mtype="chat")
    got = await juliet.message()
    equal((str(got["from"]), got["body"], got["type"]), ("romeo@verona.lab/orchard", "But soft!", "chat"))
    juliet.send_message(got["from"], "Ay me — ☾ 🌹 <&>", mtype="chat")
    equal((await romeo.message())["body"], "Ay me — ☾ 🌹 <&>")
    romeo.send_presence_subscription("juliet@mantua.lab")          # slixmpp approves and subscribes back by itself
    await romeo.presence_of("juliet@mantua.lab/balcony")
    await juliet.presence_of("romeo@verona.lab/orchard")
    for asker, server, name in ((romeo, "mantua.lab", pair.there), (juliet, "verona.lab", pair.here)):
        info = await asker.plugin["xep_0030"].get_info(server)
        assert ("server", "im") in {(i[0], i[1]) for i in info["disco_info"]["identities"]}
        await asker.plugin["xep_0092"].get_version(server)
    big = "x" * 100000
    romeo.send_message("juliet@mantua.lab", big, mtype="chat")
    equal(len((await juliet.message())["body"]), len(big))
    await juliet.bye()
    await romeo.presence_of("juliet@mantua.lab/balcony", "unavailable")
    await romeo.bye()


for _there in ("couplet", "prosody"):
    @test("%s: chat, contacts, disco; certificates prove both (EXTERNAL)" % _there)
    async def external(there=_there):
        with Pair(there) as pair:
            await talk(pair)
            equal(proofs(pair.here.log()), {("from", "TLS", "EXTERNAL"), ("to", "TLS", "EXTERNAL")})

    @test("%s: the same by dialback, where certificates are nobody's and both allow that" % _there)
    async def dialback(there=_there):
        with Pair(there, kind="selfsigned", config=LOOSE, theirs=LOOSE) as pair:
            await talk(pair)
            equal(proofs(pair.here.log()), {("from", "TLS", "dialback"), ("to", "TLS", "dialback")})

    @test("%s: the same over direct TLS" % _there)
    async def direct(there=_there):
        with Pair(there, direct=True) as pair:
            await talk(pair)
            assert re.search(r"trying 127.0.0.1 port %d \(TLS\)" % pair.there.s2s_tls, pair.here.log())
            assert ("to", "TLS", "EXTERNAL") in proofs(pair.here.log())


@test("dialback in the clear, only because both admins allow it")
async def clear():
    loose = LOOSE + "s2s_require_encryption = false\ns2s_allow_encryption = false\n"
    with Pair(config=loose, theirs=loose) as pair:
        await talk(pair)
        equal(proofs(pair.here.log()), {("from", "in the clear", "dialback"), ("to", "in the clear", "dialback")})


@test("no TLS, no talk: whoever offers none gets nothing from us")
async def needs_tls():
    with Pair(theirs=LOOSE + "s2s_require_encryption = false\ns2s_allow_encryption = false\n") as pair:
        romeo, juliet = await pair.users()
        equal(await romeo.ping_error("mantua.lab"), "remote-server-timeout")
        equal(await juliet.ping_error("verona.lab"), "remote-server-timeout")
        equal(proofs(pair.here.log()), set())
        await pair.bye()


for _kind in ("expired", "wrong", "selfsigned", "strange", "cn"):
    @test("a certificate that is not good (%s) is refused in both directions" % _kind)
    async def certificate(kind=_kind):
        with Pair() as pair:
            mallory = RawServer()
            pair.lab.zone["x.lab"] = [("127.0.0.1", mallory.port)]
            pair.lab.publish()
            bad = pair.lab.authority.issue("x.lab", kind)
            r = Raw.connect(pair.here.s2s)
            r.open("x.lab", "verona.lab").expect("</stream:features>")
            r.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").expect("<proceed[^>]*/>")
            r.secure(pair.lab, bad).send(header(from_="x.lab", to="verona.lab")).expect(STREAM_ERROR % "not-authorized")
            r.ended()
            r.close()
            romeo, _ = await pair.users()
            waiting = asyncio.ensure_future(romeo.ping_error("x.lab"))
            r = await loop.run_in_executor(None, mallory.accept_tls, pair.lab, "x.lab", bad)
            await loop.run_in_executor(None, r.ended)
            assert "<stream:error><not-authorized" in r.text, r.text
            assert "<iq" not in r.text and "db:result" not in r.text, r.text
            equal(await waiting, "remote-server-timeout")
            mallory.close()
            await pair.bye()


@test("no certificate at all is not enough either; EXTERNAL needs the name in the header")
async def no_certificate():
    with Pair() as pair:
        r = Raw.connect(pair.here.s2s)
        r.open("x.lab", "verona.lab").expect("</stream:features>")
        r.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").expect("<proceed[^>]*/>")
        r.secure(pair.lab).send(header(from_="x.lab", to="verona.lab")).expect(STREAM_ERROR % "not-authorized")
        r.close()
        good = pair.lab.authority.issue("x.lab")
        r = Raw.connect(pair.here.s2s).opened_tls(pair.lab, "x.lab", "verona.lab", good)
        r.external("mantua.lab").expect("<failure[^>]*><invalid-authzid/>")
        r.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>eA==</auth>").expect("<failure[^>]*><invalid-mechanism/>")
        r.external("x@y").expect("<failure")
        r.expect(STREAM_ERROR % "policy-violation")
        r.close()


@test("who claims a domain that is not his: dialback asks its real server")
async def forgery():
    with Pair(kind="selfsigned", config=LOOSE, theirs=LOOSE) as pair:
        mine = pair.lab.authority.issue("x.lab", "selfsigned")
        r = Raw.connect(pair.here.s2s).opened_tls(pair.lab, "mantua.lab", "verona.lab", mine)
        assert "EXTERNAL" not in r.features, r.features
        r.external("mantua.lab").expect("<failure[^>]*><not-authorized/>")
        r.send("<db:result from='mantua.lab' to='verona.lab'>%s</db:result>" % ("0" * 64))
        r.expect("<db:result[^>]*type='invalid'")
        assert "</stream:stream>" in r.ended()
        r = Raw.connect(pair.here.s2s).opened_tls(pair.lab, "mantua.lab", "verona.lab", mine)
        r.send("<message from='juliet@mantua.lab' to='romeo@verona.lab'><body>x</body></message>").expect(STREAM_ERROR % "not-authorized")
        r.close()
        r = Raw.connect(pair.here.s2s)
        r.send(header(from_="verona.lab", to="verona.lab")).expect(STREAM_ERROR % "invalid-from")
        equal(proofs(pair.here.log()), set())


@test("addresses of stanzas are those that were proved (RFC 6120 8.1)")
async def addresses():
    lab = Lab()
    here = lab.couplet("verona.lab", "arden.lab")
    with lab:
        cert = lab.authority.issue("x.lab")
        for stanza, condition in (
            ("<message from='a@y.lab' to='romeo@verona.lab'/>", "invalid-from"),
            ("<message from='a@verona.lab' to='romeo@verona.lab'/>", "invalid-from"),
            ("<message to='romeo@verona.lab'/>", "improper-addressing"),
            ("<message from='a@x.lab'/>", "improper-addressing"),
            ("<message from='a@x.lab' to='@'/>", "improper-addressing"),
            ("<message from='a@x.lab' to='romeo@arden.lab'/>", "host-unknown"),
            ("<message from='a@x.lab' to='romeo@elsewhere.lab'/>", "host-unknown"),
            ("<strange xmlns='urn:x'/>", "unsupported-stanza-type"),
        ):
            r = Raw.connect(here.s2s).opened_tls(lab, "x.lab", "verona.lab", cert)
            r.external("x.lab").expect("<success")
            r.text = ""
            r.open("x.lab", "verona.lab").expect("<stream:features>.*</stream:features>|<stream:features/>")
            r.send(stanza).expect(STREAM_ERROR % condition)
            r.close()
        for to, from_, condition in (("nowhere.lab", "x.lab", "host-unknown"), (None, "x.lab", "improper-addressing"),
                                     ("verona.lab", "@", "invalid-from"), ("verona.lab", "arden.lab", "invalid-from")):
            r = Raw.connect(here.s2s)
            r.send(header(from_=from_, to=to)).expect(STREAM_ERROR % condition)
            r.close()
        r = Raw.connect(here.s2s)
        r.send(header(from_="x.lab", to="verona.lab", version=None)).expect(STREAM_ERROR % "unsupported-version")
        r.close()


@test("several pairs of domains on one stream; errors stay inside dialback's elements")
async def several():
    lab = Lab()
    here = lab.couplet("verona.lab", "arden.lab", config=LOOSE)
    authority = RawServer()
    for name in ("x.lab", "y.lab"):
        lab.zone[name] = [("127.0.0.1", authority.port)]
    lab.zone["dead.lab"] = [("127.0.0.1", free_port())]
    with lab:
        cert = lab.authority.issue("x.lab", "selfsigned")
        r = Raw.connect(here.s2s).opened_tls(lab, "x.lab", "verona.lab", cert)
        for name, to in (("x.lab", "verona.lab"), ("y.lab", "arden.lab"), ("x.lab", "arden.lab")):
            r.send("<db:result from='%s' to='%s'>key-%s</db:result>" % (name, to, name))
            a = authority.accept_tls(lab, name, cert)
            asked = a.expect("<db:verify ([^>]*)>key-%s</db:verify>" % name).group(1)
            assert "id='%s'" % r.stream_id in asked and "from='%s'" % to in asked, asked
            if (name, to) == ("y.lab", "arden.lab"):
                a.send("<db:verify from='%s' to='%s' id='other' type='valid'/>" % (name, to))       # not what was asked
                a.send("<db:verify from='x.lab' to='%s' id='%s' type='valid'/>" % (to, r.stream_id))
                a.send("<db:verify from='%s' to='%s' id='%s' type='invalid'/>" % (name, to, r.stream_id))
                r.expect("<db:result[^>]*type='error'><error type='auth'><forbidden")                # the first pair stays
            else:
                a.send("<db:verify from='%s' to='%s' id='%s' type='valid'/>" % (name, to, r.stream_id))
                r.expect("<db:result[^>]*type='valid'")
            a.close()
        for name, to, condition in (("x.lab", "nowhere.lab", "item-not-found"), ("dead.lab", "verona.lab", "remote-connection-failed"),
                                    ("none.lab", "verona.lab", "remote-server-not-found")):
            r.send("<db:result from='%s' to='%s'>k</db:result>" % (name, to))
            r.expect("<db:result[^>]*type='error'><error[^>]*><%s " % condition)
        r.send("<iq type='get' id='1' from='a@x.lab' to='arden.lab'><ping xmlns='urn:xmpp:ping'/></iq>")
        a = authority.accept_tls(lab, "x.lab", cert)                 # the answer goes its own way
        a.expect("<db:result[^>]*>")
        a.send("<db:result from='x.lab' to='arden.lab' type='valid'/>").expect("<iq[^>]*type='result'[^>]*/>")
        r.send("<message from='a@y.lab' to='romeo@arden.lab'/>").expect(STREAM_ERROR % "invalid-from")
        for s in (r, a):
            s.close()
    authority.close()


@test("anybody may ask whether a key is ours (steps 2 and 3)")
async def questions():
    lab = Lab()
    here = lab.couplet("verona.lab", config='dialback_secret = "s3cr3tf0rd14lb4ck"\n' + LOOSE)
    with lab:
        r = Raw.connect(here.s2s).opened_tls(lab, "xmpp.example.com", "verona.lab")
        import hashlib
        import hmac
        secret = hashlib.sha256(b"s3cr3tf0rd14lb4ck").hexdigest().encode()
        key = hmac.new(secret, b"xmpp.example.com verona.lab D60000229F", hashlib.sha256).hexdigest()
        ask = "<db:verify from='xmpp.example.com' to='%s' id='%s'>%s</db:verify>"
        r.send(ask % ("verona.lab", "D60000229F", key)).expect("<db:verify[^>]*type='valid'")
        r.send(ask % ("verona.lab", "D60000229E", key)).expect("<db:verify[^>]*type='invalid'")
        r.send(ask % ("other.lab", "D60000229F", key)).expect("<db:verify[^>]*type='error'><error[^>]*><item-not-found")
        for _ in range(101):
            r.send(ask % ("verona.lab", "1", "x"))
        r.expect(STREAM_ERROR % "policy-violation")
        r.close()


@test("the first host of the SRV records is dead, the second silent: the third is found")
async def dead_first():
    with Pair(config="s2s_connect_timeout = 1\n") as pair:
        silent = RawServer()
        pair.lab.zone["mantua.lab"] = [("127.0.0.1", free_port()), ("::1", free_port()), ("127.0.0.1", silent.port), ("127.0.0.1", pair.there.s2s)]
        pair.lab.publish()
        romeo, juliet = await pair.users()
        for i in range(300):
            romeo.send_message("juliet@mantua.lab", str(i), mtype="chat")
        equal([(await juliet.message())["body"] for _ in range(300)], [str(i) for i in range(300)])
        silent.close()
        await pair.bye()


@test("domains without server: the right error, at once")
async def nowhere():
    with Pair() as pair:
        pair.lab.zone["closed.lab"] = [(".", 0)]
        pair.lab.zone["dead.lab"] = [("127.0.0.1", free_port())]
        pair.lab.extra.append("bare.lab. IN A 127.0.0.1")        # no SRV: port 5269
        pair.lab.publish()
        romeo, _ = await pair.users()
        equal(await romeo.ping_error("nobody.lab"), "remote-server-not-found")
        equal(await romeo.ping_error("closed.lab"), "remote-server-not-found")
        equal(await romeo.ping_error("dead.lab"), "remote-server-timeout")
        equal(await romeo.ping_error("dead.lab"), "remote-server-timeout")
        equal(pair.here.log().count("no way from verona.lab to dead.lab"), 1)        # the second time it was too early
        await romeo.ping_error("bare.lab")
        assert "trying 127.0.0.1 port 5269" in pair.here.log()
        pair.lab.stop_dns()
        began = time.monotonic()
        equal(await romeo.ping_error("later.lab"), "remote-server-timeout")
        assert time.monotonic() - began < 15
        pair.lab.start_dns()
        await pair.bye()


@test("DNS takes questions and never answers: the error comes in time, and others do not notice")
async def dead_dns():
    with Pair(config="s2s_lookup_timeout = 3\n") as pair:
        romeo, _ = await pair.users()
        equal(await romeo.ping_error("mantua.lab"), None)
        pair.lab.silence_dns()
        began, fair = time.monotonic(), fair_clock(pair.here)
        waiting = [asyncio.ensure_future(romeo.ping_error("later%d.lab" % i)) for i in range(20)]
        slowest = 0
        while not all(w.done() for w in waiting):
            before = fair_clock(pair.here)
            equal(await romeo.ping_error("verona.lab"), None)
            slowest = max(slowest, fair_clock(pair.here) - before)
            await asyncio.sleep(0.05)
        equal({w.result() for w in waiting}, {"remote-server-timeout"})
        assert time.monotonic() - began > 2 and fair_clock(pair.here) - fair < 6, (time.monotonic() - began, fair_clock(pair.here) - fair)
        assert slowest < 1, slowest
        equal(await romeo.ping_error("mantua.lab"), None)            # what is open stays open
        assert "DNS does not answer (timeout)" in pair.here.log()
        pair.lab.stop_dns()
        pair.lab.start_dns()
        await pair.bye()


@test("SRV records and their targets may be aliases of aliases (CNAME)")
async def aliases():
    with Pair() as pair:
        del pair.lab.zone["mantua.lab"]
        pair.lab.extra += ["_xmpp-server._tcp.mantua.lab. IN CNAME srv1.lab.", "srv1.lab. IN CNAME srv2.lab.",
                           "srv2.lab. IN SRV 0 0 %d one.lab." % pair.there.s2s,
                           "one.lab. IN CNAME two.lab.", "two.lab. IN CNAME three.lab.", "three.lab. IN A 127.0.0.1"]
        pair.lab.publish()
        romeo, _ = await pair.users()
        equal(await romeo.ping_error("mantua.lab"), None)
        await pair.bye()


for _there in ("couplet", "prosody"):
    @test("%s restarts in the middle of a stream" % _there)
    async def restart(there=_there):
        with Pair(there) as pair:
            romeo, juliet = await pair.users()
            romeo.send_message("juliet@mantua.lab", "one", mtype="chat")
            equal((await juliet.message())["body"], "one")
            juliet.abort()
            pair.there.kill()
            while "session to mantua.lab ended" not in pair.here.log():
                await asyncio.sleep(0.05)
            await romeo.ping_error("mantua.lab")
            pair.there.start()
            juliet = pair.juliet = await Client(pair.lab, "juliet@mantua.lab/balcony").online(pair.there)
            while await romeo.ping_error("mantua.lab"):          # until the back-off is over
                await asyncio.sleep(0.2)
            romeo.send_message("juliet@mantua.lab", "two", mtype="chat")
            equal((await juliet.message())["body"], "two")
            juliet.send_message("romeo@verona.lab/orchard", "three", mtype="chat")
            equal((await romeo.heard())["body"], "three")
            await pair.bye()


@test("coupletctl sees the connections and closes them")
async def ctl():
    with Pair() as pair:
        romeo, juliet = await pair.users()
        equal(await romeo.ping_error("mantua.lab"), None)
        code, out = pair.here.ctl("s2s", "list")
        equal(code, 0)
        assert re.search(r"verona.lab\s+->\s+mantua.lab.*EXTERNAL", out) and re.search(r"verona.lab\s+<-\s+mantua.lab.*EXTERNAL", out), out
        code, out = pair.here.ctl("s2s", "close", "mantua.lab")
        equal(code, 0)
        assert "2 connections" in out, out
        equal(await romeo.ping_error("mantua.lab"), None)
        await pair.bye()


sys.exit(done() != 0)
