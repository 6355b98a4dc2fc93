# SPDX-License-Identifier: MIT
"""Every element a calling server can send in every state of its stream: what comes of it, and one line in the log where it ends."""
import base64
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from federation import Raw, User  # noqa: E402
from federation_stranger import FEATURES, MESSAGE, STARTTLS, World  # noqa: E402

SASL, TLS, SM = "urn:ietf:params:xml:ns:xmpp-sasl", "urn:ietf:params:xml:ns:xmpp-tls", "urn:xmpp:sm:3"


def auth(text, mechanism="EXTERNAL"):
    text = text and base64.b64encode(text.encode()).decode()
    return "<auth xmlns='%s' mechanism='%s'>%s</auth>" % (SASL, mechanism, text)


def sasl(name):
    return "<%s xmlns='%s'/>" % (name, SASL)


def db(name, **attributes):
    attributes["from"] = attributes.pop("from_", None)
    return "<db:%s%s>k</db:%s>" % (name, "".join(" %s='%s'" % pair for pair in sorted(attributes.items()) if pair[1]), name)


NOT, INVALID, UNKNOWN = "!not-authorized", "!invalid-from", "!unsupported-stanza-type"
ADDRESS, NAMESPACE = "!improper-addressing", "!bad-namespace-prefix"
HERE = dict(from_="x.lab", to="verona.lab")

# element; in the clear, under TLS, proved, with stream management. "!condition": the stream ends with that; else what comes back begins so
ROWS = [
    (MESSAGE % ("", "a@x.lab", "nobody@verona.lab", "x"), NOT, NOT, "", ""),
    (MESSAGE % ("", "a@y.lab", "nobody@verona.lab", "x"), NOT, NOT, INVALID, INVALID),
    (MESSAGE % ("", "a@x.lab", "nobody@arden.lab", "x"), NOT, NOT, "!host-unknown", "!host-unknown"),
    (MESSAGE % (" xmlns='jabber:client'", "a@x.lab", "nobody@arden.lab", "x"), NOT, NOT, "!host-unknown", "!host-unknown"),
    ("<iq type='get' id='b' from='x.lab'><query xmlns='jabber:iq:register'/></iq>", NOT, NOT, ADDRESS, ADDRESS),
    ("<iq type='set' id='b' from='x.lab' to='verona.lab'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>", NOT, NOT, "", ""),
    ("<stream:stream/>", *["!bad-format"] * 4),
    (STARTTLS, "<proceed", *["<failure xmlns='%s'/></stream:stream>" % TLS] * 3),
    ("<proceed xmlns='%s'/>" % TLS, *[UNKNOWN] * 4),
    ("<failure xmlns='%s'/>" % TLS, *[UNKNOWN] * 4),
    (auth("x.lab"), "<failure xmlns='%s'><encryption-required/>" % SASL, "<success", UNKNOWN, UNKNOWN),
    (auth(""), "<failure xmlns='%s'><encryption-required/>" % SASL, "<success", UNKNOWN, UNKNOWN),
    (auth("y.lab"), "<failure xmlns='%s'><encryption-required/>" % SASL, "<failure xmlns='%s'><invalid-authzid/>" % SASL, UNKNOWN, UNKNOWN),
    (auth("verona.lab"), "<failure xmlns='%s'><encryption-required/>" % SASL, "<failure xmlns='%s'><invalid-authzid/>" % SASL, UNKNOWN, UNKNOWN),
    (auth("\0romeo\0secret", "PLAIN"), "<failure xmlns='%s'><encryption-required/>" % SASL, "<failure xmlns='%s'><invalid-mechanism/>" % SASL,
     UNKNOWN, UNKNOWN),
    *[(sasl(name), *[UNKNOWN] * 4) for name in ("response", "abort", "success", "failure", "challenge")],
    ("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'/>", *[UNKNOWN] * 4),
    (db("result", from_="arden.lab", to="verona.lab"), *[INVALID] * 4),
    (db("result", from_="verona.lab", to="x.lab"), *[INVALID] * 4),
    (db("result", from_="x.lab", to="nobody.lab"), *["<db:result from='nobody.lab' to='x.lab' type='error'><error type='cancel'><item-not-found"] * 4),
    (db("result", to="verona.lab"), *[ADDRESS] * 4),
    (db("result", from_="x.lab"), *[ADDRESS] * 4),
    (db("result", type="valid", **HERE), *[UNKNOWN] * 4),
    (db("result", type="invalid", **HERE), *[UNKNOWN] * 4),
    (db("verify", id="1", **HERE), *["<db:verify from='verona.lab' id='1' to='x.lab' type='invalid'/>"] * 4),
    (db("verify", **HERE), *[ADDRESS] * 4),
    (db("verify", id="1", type="valid", **HERE), *[UNKNOWN] * 4),
    ("<result from='x.lab' to='verona.lab' type='valid'/>", *[UNKNOWN] * 4),
    ("<bidi xmlns='urn:xmpp:bidi'/>", "!policy-violation", "", UNKNOWN, UNKNOWN),
    ("<enable xmlns='%s'/>" % SM, "<failed xmlns='%s'><unexpected-request" % SM, "<failed xmlns='%s'><unexpected-request" % SM, "<enabled xmlns='%s'/>" % SM,
     "<failed xmlns='%s'><unexpected-request" % SM),
    ("<resume xmlns='%s' previd='x' h='0'/>" % SM, *["<failed xmlns='%s'><feature-not-implemented" % SM] * 4),
    ("<r xmlns='%s'/>" % SM, UNKNOWN, UNKNOWN, UNKNOWN, "<a xmlns='%s' h='0'/>" % SM),
    ("<a xmlns='%s' h='9'/>" % SM, UNKNOWN, UNKNOWN, UNKNOWN, "!undefined-condition"),
    ("<a xmlns='%s' h='-1'/>" % SM, UNKNOWN, UNKNOWN, UNKNOWN, "!undefined-condition"),
    ("<enabled xmlns='%s'/>" % SM, *[UNKNOWN] * 4),
    ("<failed xmlns='%s'/>" % SM, *[UNKNOWN] * 4),
    ("<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>", *["<failure xmlns='http://jabber.org/protocol/compress'"] * 4),
    ("<stream:features/>", *[UNKNOWN] * 4),
    ("<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>", *["</stream:stream>"] * 4),
    ("<handshake>0</handshake>", *[UNKNOWN] * 4),
    ("<active xmlns='urn:xmpp:csi:0'/>", *[UNKNOWN] * 4),
    ("<x xmlns='y'/>", *[UNKNOWN] * 4),
]
PROBE = "<db:verify from='x.lab' to='nobody.lab' id='probe'>k</db:verify>"      # answered in every state


def clear(w):
    r = Raw.connect(w.here.s2s).open("x.lab", "verona.lab")
    r.expect(FEATURES)
    return r


def managed(w):
    r = w.proved()
    r.send("<enable xmlns='%s'/>" % SM).expect("<enabled[^>]*/>")
    return r


@test("each element in each state; a stream that ends says why to the other side and in one line of the log")
def elements():
    with World("arden.lab", config="s2s_max_unproved_per_ip = 1000\n", modules=["s2s_bidi", "smacks", "compression", "sasl2", "register_ibr", "csi"]) as w:
        for element, *outcomes in ROWS:
            for state, want in zip((clear, World.call, World.proved, managed), outcomes):
                r = state(w)
                before, r.text = len(w.here.log()), ""
                r.send(element).send(PROBE)
                if want.startswith("!"):
                    equal((element, state.__name__, re.search("<stream:error><([a-z-]+)", r.ended()).group(1)), (element, state.__name__, want[1:]))
                    lines = [line for line in w.here.log()[before:].splitlines() if want[1:] in line and " debug " not in line]
                    equal((element, len(lines)), (element, 1))
                else:
                    got = r.expect("(?s)^.*?(id='probe'|<proceed[^>]*>|<success[^>]*>|</stream:stream>)").group(0)
                    got = re.sub("<db:verify[^>]*id='probe'", "", got)
                    assert got.startswith(want) if want else not got, (element, state.__name__, got)
                r.close()
        equal([line for line in w.here.log().splitlines() if " error " in line], [])


DIALBACK, BIDI = "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>", "<bidi xmlns='urn:xmpp:features:bidi'/>"
EXTERNAL = "<mechanisms xmlns='%s'><mechanism>EXTERNAL</mechanism></mechanisms>" % SASL
THERE = dict(from_="{name}", to="verona.lab")

# The same on streams of ours: while dialback goes on, while EXTERNAL does, proved, proved both ways. "!condition": we end the stream with
# that; "": nothing happens; else what we say begins so
OUTGOING = [
    (MESSAGE % ("", "a@{name}", "nobody@verona.lab", "x"), NOT, NOT, NOT, "<message from='nobody@verona.lab' "),
    (MESSAGE % (" xmlns='jabber:client'", "a@{name}", "nobody@verona.lab", "x"), NOT, NOT, NOT, "<message from='nobody@verona.lab' "),
    (MESSAGE % ("", "a@y.lab", "nobody@verona.lab", "x"), NOT, NOT, NOT, INVALID),
    (MESSAGE % ("", "a@{name}", "nobody@arden.lab", "x"), NOT, NOT, NOT, "!host-unknown"),
    (MESSAGE % ("", "nobody@verona.lab", "nobody@verona.lab", "x"), NOT, NOT, NOT, INVALID),
    ("<stream:features>%s%s</stream:features>" % (EXTERNAL, BIDI), "", "", "", ""),                # a second time
    ("<stream:features>%s</stream:features>" % STARTTLS, "", "", "", ""),
    (STARTTLS, *["<failure xmlns='%s'/></stream:stream>" % TLS] * 4),
    ("<proceed xmlns='%s'/>" % TLS, *[UNKNOWN] * 4),
    ("<failure xmlns='%s'/>" % TLS, *[UNKNOWN] * 4),
    (sasl("success"), UNKNOWN, "<?xml", UNKNOWN, UNKNOWN),
    (sasl("failure"), UNKNOWN, "<db:result ", UNKNOWN, UNKNOWN),
    (sasl("challenge"), *[UNKNOWN] * 4),
    (auth("x.lab"), *[UNKNOWN] * 4),
    (db("result", type="valid", from_="y.lab", to="verona.lab"), "", "", "", ""),
    (db("result", type="valid", from_="{name}", to="arden.lab"), "", "", "", ""),
    (db("result", type="valid", from_="verona.lab", to="{name}"), "", "", "", ""),
    (db("result", type="valid", **THERE), "<iq ", "", "", ""),
    (db("result", **THERE), UNKNOWN, UNKNOWN, UNKNOWN, "<db:result from='verona.lab' to='{name}' type='valid'/>"),
    (db("result", from_="arden.lab", to="verona.lab"), UNKNOWN, UNKNOWN, UNKNOWN, INVALID),
    (db("verify", id="1", **THERE), UNKNOWN, UNKNOWN, UNKNOWN, "<db:verify "),
    (db("verify", id="1", type="valid", **THERE), "", "", "", ""),
    ("<bidi xmlns='urn:xmpp:bidi'/>", *[UNKNOWN] * 4),
    *[("<%s xmlns='%s' h='0' previd='x'/>" % (name, SM), *[UNKNOWN] * 4) for name in ("enable", "enabled", "failed", "r", "a")],
    ("<x xmlns='y'/>", *[UNKNOWN] * 4),
]
RESET = "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>"


@test("the same on streams of ours: who was called proves nothing by saying something, and speaks only where that was agreed")
def outgoing():
    states = {"dialback": DIALBACK, "sasl": DIALBACK + EXTERNAL, "proved": DIALBACK, "both ways": DIALBACK + BIDI}
    names = {(row, state): "n%d-%d.lab" % (row, i) for row in range(len(OUTGOING)) for i, state in enumerate(states)}
    config = "s2s_secure_auth = false\ns2s_max_pairs = 1\n"
    with World("arden.lab", config=config, modules=["s2s_bidi", "smacks"], zone={}) as w:
        w.lab.zone.update({name: w.lab.zone["victim.lab"] for name in names.values()})
        w.lab.publish()
        romeo, cert = User.login(w.lab, w.here), w.lab.authority.issue("victim.lab", "selfsigned")
        for (row, state), name in names.items():
            element, *wants = OUTGOING[row]
            want = dict(zip(states, wants))[state].replace("{name}", name)
            romeo.ping(name)
            v = w.victim.accept_tls(w.lab, name, cert, features=states[state])
            v.expect("<auth[^>]*>.*?</auth>" if state == "sasl" else "<db:result[^>]*>.*?</db:result>")
            if state in ("proved", "both ways"):
                v.send("<db:result from='%s' to='verona.lab' type='valid'/>" % name).expect("<iq [^>]*>.*?</iq>")
            before, v.text = len(w.here.log()), ""
            v.send(element.replace("{name}", name))
            try:
                v.send(RESET)
            except OSError:
                pass                                                              # it has ended already
            got = v.ended()
            if want.startswith("!"):
                equal((element, state, got.startswith("<stream:error><%s " % want[1:])), (element, state, True))
                lines = [line for line in w.here.log()[before:].splitlines() if want[1:] in line and " debug " not in line]
                equal((element, state, len(lines)), (element, state, 1))
            else:
                assert got.startswith(want or "</stream:stream>"), (element, state, got)
            if state in ("dialback", "sasl") and want != "<iq ":
                equal((element, romeo.pong(name)), (element, "remote-server-timeout"))
            v.close()
        equal([line for line in w.here.log().splitlines() if " error " in line], [])
        romeo.close()


@test("SASL: so many failures, and the stream ends")
def attempts():
    with World() as w:
        r = w.call()
        for _ in range(3):
            r.external("y.lab").expect("<failure[^>]*><invalid-authzid/>")
        assert "policy-violation" in r.ended(), r.text
        r.close()


sys.exit(done() != 0)
