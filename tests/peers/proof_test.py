# SPDX-License-Identifier: MIT
"""Is a domain ever taken as proved that was not, for that host of ours, by the rules of that host? Each test is one way to try it."""
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from federation import Lab, Raw, User, header  # noqa: E402
from federation_stranger import FEATURES, MESSAGE, STARTTLS, STREAM_ERROR, World  # noqa: E402

@test("a stanza in another namespace is one like others: of a proved pair, both addresses there")
def namespaces():
    with World("arden.lab") as w:
        romeo = User.login(w.lab, w.here, "romeo")
        for xmlns in ("", " xmlns='jabber:client'", " xmlns='jabber:server'"):
            for from_, to, condition in (("a@x.lab", "romeo@arden.lab", "host-unknown"), ("a@y.lab", "romeo@verona.lab", "invalid-from"),
                                         ("a@sub.x.lab", "romeo@verona.lab", "invalid-from")):
                r = w.proved()
                r.send(MESSAGE % (xmlns, from_, to, "no")).expect(STREAM_ERROR % condition)
                r.ended()
            for address in ("from='a@x.lab'", "to='romeo@verona.lab'"):
                r = w.proved()
                r.send("<iq%s %s type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>" % (xmlns, address))
                r.expect(STREAM_ERROR % "improper-addressing")
        romeo.close()


@test("each host of ours judges by its own rules who is to be proved for it, whichever host the stream was opened to")
def rules_of_the_host():
    strict = lambda host: "s2s_secure_auth = %s\n" % ("false" if host == "verona.lab" else "true")
    with World("arden.lab", of_host=strict) as w:
        claim = "<db:result from='victim.lab' to='%s'>key</db:result>"
        r = w.call()
        r.send(claim % "arden.lab").expect("<db:result[^>]*from='arden.lab'[^>]*type='error'.*?<not-authorized")
        r.send(claim % "verona.lab")
        v = w.ask()
        v.send("<db:verify from='victim.lab' to='verona.lab' id='%s' type='valid'/>" % v.question["id"])
        r.expect("<db:result[^>]*type='valid'")
        r.send(claim % "arden.lab").expect("<db:result[^>]*from='arden.lab'[^>]*type='error'.*?<not-authorized")
        r.send(MESSAGE % ("", "a@victim.lab", "romeo@arden.lab", "no")).expect(STREAM_ERROR % "host-unknown")
        equal(w.said("proved by"), 1)
        v.close()
        r.close()


@test("a host that talks to no other server does so on no stream; and nobody is taken for it")
def closed_host():
    closed = lambda host: "disallow_s2s = true\n" if host == "inner.verona.lab" else ""
    with World("inner.verona.lab", of_host=closed, config="s2s_secure_auth = false\n") as w:
        r = w.proved()
        r.send("<db:result from='x.lab' to='inner.verona.lab'>key</db:result>")
        r.expect("<db:result[^>]*from='inner.verona.lab'[^>]*type='error'.*?<item-not-found")
        r.send("<db:verify from='x.lab' to='inner.verona.lab' id='1'>key</db:verify>").expect("<db:verify[^>]*type='error'.*?<item-not-found")
        r.send(MESSAGE % ("", "a@x.lab", "romeo@inner.verona.lab", "no")).expect(STREAM_ERROR % "host-unknown")
        r.ended()
        wildcard = w.lab.authority.issue("inner.verona.lab", "wildcard")          # of whoever has another name below verona.lab
        for from_ in ("inner.verona.lab", "INNER.verona.lab", "inner.verona.lab."):
            r = Raw.connect(w.here.s2s)
            r.send(header(from_=from_, to="verona.lab")).expect(STREAM_ERROR % "invalid-from")
            r.close()
        r = w.call(cert=wildcard)
        r.send("<db:result from='inner.verona.lab' to='verona.lab'>key</db:result>").expect(STREAM_ERROR % "invalid-from")
        r.close()


@test("a plugin judges one more domain of a stream, and takes its time: the stream keeps its own judgement, meanwhile too")
def judges():
    with World(modules=["test_judge"]) as w:
        r = w.call()
        r.send("<db:result from='victim.lab' to='verona.lab'>key</db:result>")
        v = w.ask(cert="good")
        v.send("<db:verify from='victim.lab' to='verona.lab' id='%s' type='valid'/>" % v.question["id"])
        r.expect("<db:result[^>]*type='valid'")
        r.send(MESSAGE % ("", "a@victim.lab", "nobody@verona.lab", "yes"))
        r.send("<db:result from='other.lab' to='verona.lab'>key</db:result>").expect("type='error'.*?<not-authorized")
        equal(w.said("of the stream: valid valid; of the claim: invalid invalid"), 1)
        for stream in (r, v):
            stream.close()


@test("what was claimed in the clear is no claim any more under TLS, where nobody has looked at a certificate for it")
def claimed_before():
    config = "s2s_require_encryption = false\ns2s_insecure_domains = { 'loose.lab' }\n"
    with World(config=config) as w:
        r = Raw.connect(w.here.s2s).open("loose.lab", "verona.lab")
        r.expect("</stream:features>")
        r.send("<db:result from='victim.lab' to='verona.lab'>key</db:result>")
        v = w.ask(cert="good")
        r.send(STARTTLS).expect("<proceed[^>]*/>")
        w.secured(r, "verona.lab", None)
        v.send("<db:verify from='victim.lab' to='verona.lab' id='%s' type='valid'/>" % v.question["id"])
        v.send("<and-now xmlns='x'/>").expect("<stream:error>")                   # the answer has been handled
        r.send(MESSAGE % ("", "a@victim.lab", "romeo@verona.lab", "no")).expect(STREAM_ERROR % "not-authorized")
        r.ended()
        equal(w.said("proved by"), 0)
        v.close()


@test("after EXTERNAL: the header names the same two domains or none, and there is no second proof by EXTERNAL")
def restarts():
    with World("arden.lab") as w:
        for from_, to, condition in (("y.lab", "verona.lab", "invalid-from"), ("x.lab", "arden.lab", "host-unknown"),
                                     ("verona.lab", "verona.lab", "invalid-from"), ("x.lab", "nowhere.lab", "host-unknown"),
                                     ("x.lab", None, "improper-addressing"), ("a@x.lab", "verona.lab", "invalid-from")):
            r = w.call()
            r.external("x.lab").expect("<success")
            r.send(header(from_=from_, to=to)).expect(STREAM_ERROR % condition)
            r.close()
        r = w.call()
        r.external("x.lab").expect("<success")
        judged = w.said("certificate of x.lab: good")
        r.text = ""
        r.send(header(to="verona.lab")).expect("<stream:stream[^>]*to='x.lab'")
        r.expect(FEATURES)
        equal(w.said("certificate of x.lab: good"), judged + 1)                   # looked at again, as if it named itself
        r.send("<iq type='get' id='1' from='a@x.lab' to='verona.lab'><ping xmlns='urn:xmpp:ping'/></iq>")
        w.victim.accept().close()                                                 # the answer goes its own way
        r.external("x.lab").expect(STREAM_ERROR % "unsupported-stanza-type")
        r.close()
        r = w.call()                                                              # before the restart there is no stream
        r.external("x.lab").expect("<success")
        r.send(MESSAGE % ("", "a@x.lab", "romeo@verona.lab", "no")).expect("<stream:error>")
        r.ended()


@test("direct TLS: the authorities of the host SNI names prove nothing for another host that has its own")
def authorities():
    lab = Lab()
    private = "ssl = { cafile = '%s' }\n" % (lab.dir / "other.crt")
    lab_of = {"verona.lab": "", "arden.lab": private}
    here = lab.couplet("verona.lab", "arden.lab", of_host=lab_of.get, modules=["ping"])
    with lab:
        x = lab.authority.issue("x.lab", "strange")                               # signed by the authority arden.lab trusts
        for sni, to, good in (("arden.lab", "arden.lab", True), ("arden.lab", "verona.lab", False), ("verona.lab", "verona.lab", False),
                              ("verona.lab", "arden.lab", False), (None, "verona.lab", False), ("nowhere.lab", "arden.lab", False)):
            r = Raw.connect(here.s2s_tls).secure(lab, x, sni=sni)
            r.send(header(from_="x.lab", to=to))
            if good:
                r.expect("EXTERNAL")
                r.external("x.lab").expect("<success")
            else:
                r.expect(STREAM_ERROR % "not-authorized")
            r.close()
        r = Raw.connect(here.s2s_tls).secure(lab, lab.authority.issue("x.lab"), sni="verona.lab")
        r.send(header(from_="x.lab", to="arden.lab"))
        r.expect(STREAM_ERROR % "not-authorized")
        r.close()
        for to, good in (("arden.lab", True), ("verona.lab", False)):             # STARTTLS: of the host the stream is opened to
            r = Raw.connect(here.s2s).open("x.lab", to)
            r.expect("</stream:features>")
            r.send(STARTTLS).expect("<proceed[^>]*/>")
            r.secure(lab, x, sni="arden.lab").send(header(from_="x.lab", to=to)).expect("EXTERNAL" if good else STREAM_ERROR % "not-authorized")
            r.close()


@test("names are compared in one form: letters of any case, a dot at the end, IDN in both spellings")
def spellings():
    with World("b\u00fccher.lab") as w:
        idn = w.lab.authority.issue("xn--strae-oqa.lab")
        for header_name, stanza_name, to in (("stra\u00dfe.lab", "xn--strae-oqa.lab", "b\u00fccher.lab"), ("xn--strae-oqa.lab", "stra\u00dfe.lab", "xn--bcher-kva.lab"),
                                             ("STRA\u00dfE.lab.", "Stra\u00dfe.Lab", "B\u00dcCHER.LAB")):
            r = w.call(to, header_name, idn)
            r.external(header_name).expect("<success")
            r.text = ""
            r.open(header_name, to).expect(FEATURES)
            r.send("<db:verify from='%s' to='%s' id='1'>key</db:verify>" % (stanza_name, to)).expect("<db:verify[^>]*type='invalid'")
            r.send(MESSAGE % ("", "a@" + stanza_name, "romeo@" + to, "yes"))
            r.send(MESSAGE % ("", "a@strasse.lab", "romeo@" + to, "no")).expect(STREAM_ERROR % "invalid-from")
            r.ended()
        for ours in ("xn--bcher-kva.lab", "B\u00dcCHER.lab", "b\u00fccher.lab.", "VERONA.lab"):
            r = Raw.connect(w.here.s2s)
            r.send(header(from_=ours, to="verona.lab")).expect(STREAM_ERROR % "invalid-from")
            r.close()


@test("answers to dialback: only the asked one, with its id and both names, on the stream it was asked on, and once")
def answers():
    with World("arden.lab", config="s2s_secure_auth = false\n") as w:
        answer = "<db:verify from='%s' to='%s' id='%s' type='%s'/>"
        r = w.call()
        r.send("<db:result from='victim.lab' to='verona.lab'>key</db:result>")
        v = w.ask()
        equal((v.question["from"], v.question["to"], v.question["id"]), ("verona.lab", "victim.lab", r.stream_id))
        for from_, to, id_, type_ in (("victim.lab", "verona.lab", "1", "valid"), ("victim.lab", "arden.lab", r.stream_id, "valid"),
                                      ("x.lab", "verona.lab", r.stream_id, "valid"), ("verona.lab", "victim.lab", r.stream_id, "valid")):
            v.send(answer % (from_, to, id_, type_))
        second = w.call()
        second.send("<db:result from='x.lab' to='verona.lab'>key</db:result>")
        s = w.ask("x.lab")                                                        # another domain's server answers for it
        s.send(answer % ("victim.lab", "verona.lab", r.stream_id, "valid"))
        s.send(answer % ("x.lab", "verona.lab", r.stream_id, "valid"))
        s.send(answer % ("x.lab", "verona.lab", second.stream_id, "invalid"))
        second.expect("<db:result[^>]*type='invalid'")
        v.send(answer % ("victim.lab", "verona.lab", r.stream_id, "error"))
        r.expect("<db:result[^>]*type='error'.*?<remote-server-timeout")
        v.send(answer % ("victim.lab", "verona.lab", r.stream_id, "valid"))       # too late
        v.send("<db:result from='victim.lab' to='verona.lab' type='valid'/>")     # we have claimed nothing there
        v.send("<db:verify from='victim.lab' to='verona.lab' id='1' type='valid'/>")
        r.send(MESSAGE % ("", "a@victim.lab", "romeo@verona.lab", "no")).expect(STREAM_ERROR % "not-authorized")
        r.ended()
        equal(w.said("proved by"), 0)
        for stream in (v, s, second):
            stream.close()


@test("an address whose user part is none is one user's trouble, not the stream's")
def malformed():
    with World("arden.lab", modules=["s2s_bidi"]) as w:
        r = w.call()
        r.send("<bidi xmlns='urn:xmpp:bidi'/>").external("x.lab").expect("<success")
        r.text = ""
        r.open("x.lab", "verona.lab").expect(FEATURES)
        long = "x" * 1100
        for to in ("ro meo@verona.lab", "@verona.lab", "romeo@verona.lab/", long + "@verona.lab", "romeo@verona.lab/" + long):
            r.send("<message id='1' from='a@x.lab' to='%s'><body>x</body></message>" % to)
            r.expect("<message [^>]*type='error'[^>]*>.*?<error type='modify'><jid-malformed")
            r.send("<message type='error' from='a@x.lab' to='%s'/>" % to)         # no answer to that
        for from_ in ("a b@x.lab", "@x.lab", long + "@x.lab"):
            r.send("<message from='%s' to='romeo@verona.lab'><body>x</body></message>" % from_)         # nobody to tell
        r.send("<iq type='get' id='2' from='a@x.lab' to='verona.lab'><ping xmlns='urn:xmpp:ping'/></iq>")
        got = r.expect("(?s)^.*?<iq [^>]*id='2'").group(0)
        assert "<message" not in got, got
        for from_, to, condition in (("a b@y.lab", "ro meo@verona.lab", "invalid-from"), ("a b@x.lab", "ro meo@arden.lab", "host-unknown"),
                                     ("a@x.lab", "a@b@verona.lab", "improper-addressing"), ("a@x.lab", "a@", "improper-addressing"),
                                     ("a@x..lab", "romeo@verona.lab", "improper-addressing")):
            r = w.proved()
            r.send(MESSAGE % ("", from_, to, "no")).expect(STREAM_ERROR % condition)
            r.ended()


@test("a host that is no more is proved to nobody, and a domain that is ours now is nobody else's, from the reload on")
def hosts_change():
    with World("arden.lab", config="s2s_secure_auth = false\n") as w:
        r = w.proved()
        r.send("<db:result from='x.lab' to='arden.lab'>key</db:result>")
        s = w.ask("x.lab")
        s.send("<db:verify from='x.lab' to='arden.lab' id='%s' type='valid'/>" % r.stream_id)
        r.expect("<db:result[^>]*type='valid'")
        text = w.here.config.read_text()
        parts = re.split("(?=^VirtualHost)", text, flags=re.M)
        w.here.config.write_text("".join(part for part in parts if not part.startswith('VirtualHost "arden.lab"')))
        equal(w.here.ctl("reload")[0], 0)
        r.send("<db:verify from='x.lab' to='arden.lab' id='1'>key</db:verify>").expect("<db:verify[^>]*type='error'.*?<item-not-found")
        r.send(MESSAGE % ("", "a@x.lab", "romeo@arden.lab", "no")).expect(STREAM_ERROR % "host-unknown")
        r.ended()
        r = w.proved()
        w.here.config.write_text(text + 'VirtualHost "x.lab"\n')
        equal(w.here.ctl("reload")[0], 0)
        r.expect(STREAM_ERROR % "policy-violation")
        assert "x.lab is a domain of ours now" in r.ended()
        s.close()


@test("a connection in the clear is no way for a host of ours that wants certificates, and goes on for the one that does not")
def shared():
    strict = lambda host: "s2s_secure_auth = %s\n" % ("false" if host == "verona.lab" else "true")
    features = "<stream:features><dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback></stream:features>"
    with World("arden.lab", of_host=strict, config="s2s_require_encryption = false\n") as w:
        verona = User.login(w.lab, w.here)
        verona.ping("victim.lab")
        v = w.victim.accept()
        v.send(header(from_="victim.lab", id="one") + features).expect("<db:result [^>]*from='verona.lab'")
        v.send("<db:result from='victim.lab' to='verona.lab' type='valid'/>").expect("<iq ")
        arden = User.login(w.lab, w.here, host="arden.lab")
        arden.ping("victim.lab")
        v.expect("<db:result [^>]*from='arden.lab'")
        v.send("<db:result from='victim.lab' to='arden.lab' type='valid'/>")
        own = w.victim.accept()
        own.send(header(from_="victim.lab", id="two") + features).expect("<db:result [^>]*from='arden.lab'")
        own.send("<db:result from='victim.lab' to='arden.lab' type='valid'/>").expect(STREAM_ERROR % "policy-violation")
        own.close()
        equal(arden.pong("victim.lab"), "remote-server-timeout")
        verona.send("<message to='victim.lab'><body>still there</body></message>")
        v.expect("still there")
        for stream in (v, verona, arden):
            stream.close()


EXTRAS = (MESSAGE % ("", "a@%s", "romeo@verona.lab", "no"), MESSAGE % (" xmlns='jabber:client'", "a@%s", "romeo@verona.lab", "no"),
          "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>", "<db:result from='%s' to='verona.lab'>key</db:result>",
          "<db:verify from='%s' to='verona.lab' id='1'>key</db:verify>", "<bidi xmlns='urn:xmpp:bidi'/>",
          "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>")


@test("an outgoing stream: whoever was called speaks only where both ways were agreed, and proves nothing there")
def called():
    names = ["v%d%d.lab" % (i, proved) for i in range(len(EXTRAS)) for proved in (False, True)]
    with World(config="s2s_secure_auth = false\n") as w:
        w.lab.zone.update({name: w.lab.zone["victim.lab"] for name in names})
        w.lab.publish()
        romeo, cert = User.login(w.lab, w.here), w.lab.authority.issue("victim.lab", "selfsigned")
        for name in names:
            extra = EXTRAS[int(name[1])].replace("%s", name)
            romeo.ping(name)
            v = w.victim.accept_tls(w.lab, name, cert, features="<dialback xmlns='urn:xmpp:features:dialback'/>")
            v.expect("<db:result[^>]*>.*?</db:result>")
            if name[2] == "1":
                v.send("<db:result from='%s' to='verona.lab' type='valid'/>" % name).expect("<iq ")
            v.send(extra).expect("<stream:error><(not-authorized|unsupported-stanza-type) ")
            v.ended()
            if name[2] == "0":
                equal(romeo.pong(name), "remote-server-timeout")
        romeo.close()


sys.exit(done() != 0)
