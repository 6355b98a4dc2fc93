# SPDX-License-Identifier: MIT
"""DANE (RFC 6698, 7671, 7673): where DNSSEC vouches for the way to a server, its zone says which certificate is good."""
import hashlib
import pathlib
import re
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from federation import DEADLINE, Lab, Raw, RawServer, User, header  # noqa: E402

lab = Lab(signed=True)
mallory = RawServer()


def wait_for(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, here.log()[-3000:]
        time.sleep(0.02)


def openssl(*argv, data=None):
    return subprocess.run(["openssl", *argv], input=data, check=True, capture_output=True).stdout


def association(certificate, numbers):
    """The record for a certificate: usage, selector, matching type."""
    der = openssl("x509", "-in", str(certificate), "-outform", "DER")
    if numbers.split()[1] == "1":
        der = openssl("pkey", "-pubin", "-outform", "DER", data=openssl("x509", "-in", str(certificate), "-noout", "-pubkey"))
    what = {"0": der.hex(), "1": hashlib.sha256(der).hexdigest(), "2": hashlib.sha512(der).hexdigest()}[numbers.split()[2]]
    return "%s %s" % (numbers, what)


def publish(domain, host, records, service="xmpp-server"):
    lab.extra += ["_%s._tcp.%s. IN SRV 0 0 %d %s." % (service, domain, mallory.port, host), "%s. IN A 127.0.0.1" % host]
    lab.extra += ["_%d._tcp.%s. IN TLSA %s" % (mallory.port, host, record) for record in records]


def chain(name, kind):
    """The certificate with its authority behind it."""
    certificate, key = lab.authority.issue(name, kind)
    issuer = lab.authority.ISSUERS.get(kind, "ca")
    certificate.write_text(certificate.read_text() + (lab.dir / (issuer + ".crt")).read_text())
    return certificate, key


own = lab.authority.issue("somebody.lab", "selfsigned")      # vouched for by nobody, and for another name
NOT_NAMED, NO_MATCH = "it does not name {name}", "no matching DANE TLSA records"
SELF = "self-signed certificate"

# domain, host, certificate, records; what is wrong, or None
ROWS = [
    ("ee.lab", "ee-host.lab", own, [association(own[0], "3 1 1")], None),
    ("eefull.lab", "eefull-host.lab", own, [association(own[0], "3 0 0")], None),
    ("many.lab", "many-host.lab", own, ["3 1 1 " + "00" * 32, association(own[0], "3 0 2")], None),     # a roll-over
    ("eebad.lab", "eebad-host.lab", lab.authority.issue("eebad.lab"), ["3 1 1 " + "00" * 32], NO_MATCH),
    ("ta.lab", "ta-host.lab", chain("ta.lab", "strange"), [association(lab.dir / "other.crt", "2 0 1")], None),
    ("taname.lab", "taname-host.lab", chain("else.lab", "strange"), [association(lab.dir / "other.crt", "2 1 1")], NOT_NAMED),
    ("pkix.lab", "pkix-host.lab", lab.authority.issue("pkix.lab"), [association(lab.authority.issue("pkix.lab")[0], "1 1 1")], None),
    ("pkixself.lab", "pkixself-host.lab", own, [association(own[0], "1 1 1")], SELF),
    ("pkixca.lab", "pkixca-host.lab", lab.authority.issue("pkixca.lab"), [association(lab.dir / "other.crt", "0 0 1")], NO_MATCH),
    ("unknown.lab", "unknown-host.lab", lab.authority.issue("unknown.lab"), ["77 1 1 " + "00" * 32], None),    # as without
    ("none.lab", "none-host.lab", own, [], SELF),
    ("delegated.lab", "target.lab", lab.authority.issue("delegated.lab", "target"), [], None),      # RFC 7712: the SRV target's name
    ("strayed.lab", "elsewhere.lab", lab.authority.issue("strayed.lab", "target"), [], NOT_NAMED),
    ("ee.open", "ee-host.open", own, [association(own[0], "3 1 1")], SELF),                   # nobody vouches for these records
    ("good.open", "good-host.open", lab.authority.issue("good.open"), ["3 1 1 " + "00" * 32], None),
    ("delegated.open", "target2.lab", lab.authority.issue("delegated.open", "target2"), [], NOT_NAMED),
    ("half.lab", "half-host.open", own, [association(own[0], "3 1 1")], SELF),                # a secure SRV, addresses that are not
]
for _row in ROWS:
    publish(_row[0], _row[1], _row[3])
publish("pkixname.lab", "pkixname-host.lab", [association(lab.authority.issue("else.lab")[0], "1 1 1")])
publish("pkixhost.lab", "target2.lab", [association(lab.authority.issue("pkixhost.lab", "target2")[0], "1 1 1")])
for _i in range(2):
    publish("next%d.lab" % _i, "next%d-host.lab" % _i, ["3 1 1 " + "00" * 32] if _i else [])
publish("direct.lab", "direct-host.lab", [association(own[0], "3 1 1")], "xmpps-server")
publish("x.forged", "x-host.lab", [association(own[0], "3 1 1")])
publish("tlsa.lab", "tlsa-host.forged", [association(own[0], "3 1 1")])
here = lab.couplet("verona.lab", accounts={"romeo": "secret"}, config="use_dane = true\n", modules=["s2s_auth_dane_in", "s2s_bidi"])
loose = lab.couplet("loose.lab", accounts={"romeo": "secret"}, config="use_dane = true\ns2s_require_encryption = false\ns2s_secure_auth = false\n")
plain = lab.couplet("mantua.lab", accounts={"romeo": "secret"})
ERROR = "<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><text[^>]*>The certificate of %s is not good: %s</text>"


def outgoing(server, name, certificate, problem, **how):
    romeo = User.login(lab, server)
    romeo.ping(name)
    r = mallory.accept_tls(lab, name, certificate, **how)
    if problem:
        assert re.search(ERROR % (name, problem), r.ended()), r.text
        equal(romeo.pong(name), "remote-server-timeout")
    else:
        r.expect("<db:result[^>]*>.*</db:result>")
    r.close()
    romeo.close()


def incoming(name, certificate, problem):
    r = Raw.connect(here.s2s)
    if problem:
        r.open(name, "verona.lab").expect("</stream:features>")
        r.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").expect("<proceed[^>]*/>")
        r.secure(lab, certificate).send(header(from_=name, to="verona.lab")).expect(ERROR % (name, problem))
    else:
        r.opened_tls(lab, name, "verona.lab", certificate).external(name).expect("<success")
    r.close()


for _name, _host, _certificate, _records, _problem in ROWS:
    test("to %s: %s" % (_name, _problem or "good"))(lambda name=_name, certificate=_certificate, problem=_problem: outgoing(
        here, name, certificate, problem and problem.format(name=name)))


@test("to direct.lab: the same over direct TLS")
def direct():
    outgoing(here, "direct.lab", own, None, direct=True)


@test("forged records: no connection, whatever else they say")
def forged():
    romeo = User.login(lab, here)
    for name, said in (("x.forged", "DNSSEC says the SRV records of this domain are forged"),
                       ("tlsa.lab", r"DNS does not answer \(DNSSEC says the answer is forged\)")):
        equal(romeo.ping(name).pong(name), "remote-server-timeout")
        assert re.search("no way from verona.lab to %s: %s" % (name, said), here.log())
    romeo.close()


@test("without use_dane all is as ever: records do not count, nor does the target's name")
def without():
    outgoing(plain, "ee.lab", own, SELF)
    outgoing(plain, "eebad.lab", lab.authority.issue("eebad.lab"), None)
    outgoing(plain, "delegated.lab", lab.authority.issue("delegated.lab", "target"), NOT_NAMED.format(name="delegated.lab"))


@test("who calls us is proved by his domain's records (s2s_auth_dane_in)")
def who_calls():
    for name, certificate, problem in (
        ("ee.lab", own, None), ("eefull.lab", own, None), ("many.lab", own, None), ("direct.lab", own, None),
        ("eebad.lab", lab.authority.issue("eebad.lab"), None),                     # another one than it answers with, and good
        ("eebad.lab", own, SELF), ("pkixself.lab", own, SELF), ("ee.open", own, SELF), ("x.forged", own, SELF),
        ("pkixname.lab", lab.authority.issue("else.lab"), "it does not name pkixname.lab"),
        ("pkixhost.lab", lab.authority.issue("pkixhost.lab", "target2"), None),
        ("pkix.lab", lab.authority.issue("pkix.lab"), None), ("ta.lab", lab.authority.issue("ta.lab", "strange"), "self-signed certificate in certificate chain"),
    ):
        incoming(name, certificate, problem)


@test("both ways on a stream of theirs: only where its certificate is what the records describe")
def both_ways():
    for name, certificate, goes_back in (("ee.lab", own, True), ("good.open", lab.authority.issue("good.open"), True),
                                         ("none.lab", lab.authority.issue("none.lab"), True), ("many.lab", own, True),
                                         ("eebad.lab", lab.authority.issue("eebad.lab"), False), ("ta.lab", lab.authority.issue("ta.lab"), False),
                                         ("pkix.lab", lab.authority.issue("pkix.lab"), True)):
        r = Raw.connect(here.s2s).opened_tls(lab, name, "verona.lab", certificate)
        r.send("<bidi xmlns='urn:xmpp:bidi'/>").external(name).expect("<success")
        r.text = ""
        r.open(name, "verona.lab").expect("<stream:features>.*?</stream:features>")
        r.send("<db:verify from='%s' to='verona.lab' id='1'>key</db:verify>" % name).expect("<db:verify ")
        wait_for(lambda: re.search("what goes (from verona.lab )?to %s (goes back|looks for its own way)" % re.escape(name), here.log()))
        romeo = User.login(lab, here)
        romeo.ping(name)
        if goes_back:
            r.expect("<iq [^>]*to='%s'" % name)
        else:
            mallory.accept().close()
        r.close()
        romeo.close()


@test("records promise TLS: without it there is no stream, whatever else is allowed")
def promised():
    for server, name, works in ((loose, "ee.lab", False), (loose, "none.lab", True)):
        romeo = User.login(lab, server)
        romeo.ping(name)
        r = mallory.accept()
        r.expect("<stream:stream[^>]*>")
        r.send(header(from_=name, id="one") + "<stream:features><dialback xmlns='urn:xmpp:features:dialback'/></stream:features>")
        r.expect("<db:result " if works else "<stream:error><policy-violation ")
        r.close()
        romeo.close()


@test("a connection to the same machine is not shared by a domain that has records of its own")
def shared():
    romeo, certificate = User.login(lab, here), lab.authority.issue("next.lab", "wildcard")
    dialback = "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>"
    romeo.ping("next0.lab")
    r = mallory.accept_tls(lab, "next0.lab", certificate, features=dialback)
    r.expect("<db:result[^>]*>.*?</db:result>")
    r.send("<db:result from='next0.lab' to='verona.lab' type='valid'/>").expect("<iq ")
    romeo.ping("next1.lab")
    again = mallory.accept_tls(lab, "next1.lab", certificate)
    assert re.search(ERROR % ("next1.lab", NO_MATCH), again.ended()), again.text
    for stream in (r, again, romeo):
        stream.close()


@test("with Debian's Prosody, which knows DANE for the servers it calls: certificates nobody vouches for, and both say they are good")
def prosody():
    mantua = lab.prosody("mantua2.lab", accounts={"juliet": "secret"}, kind="selfsigned",
                         config="use_dane = true\ns2s_secure_auth = false\n", publish=False)
    verona = lab.couplet("verona2.lab", accounts={"romeo": "secret"}, kind="selfsigned", config="use_dane = true\n", modules=["s2s_auth_dane_in"],
                         publish=False)
    for server, host in ((mantua, "mantua2-host.lab"), (verona, "verona2-host.lab")):
        record = association(lab.authority.issue(server.hosts[0], "selfsigned")[0], "3 1 1")
        lab.extra += ["_xmpp-server._tcp.%s. IN SRV 0 0 %d %s." % (server.hosts[0], server.s2s, host), "%s. IN A 127.0.0.1" % host,
                      "_%d._tcp.%s. IN TLSA %s" % (server.s2s, host, record)]
    lab.publish()
    for server in (mantua, verona):
        server.start()
    juliet = User.login(lab, mantua, "juliet")
    equal(juliet.ping("verona2.lab").pong("verona2.lab"), None)
    romeo = User.login(lab, verona)
    equal(romeo.ping("mantua2.lab").pong("mantua2.lab"), None)
    log, theirs = verona.log(), mantua.log()
    assert "from mantua2.lab for verona2.lab, TLS, proved by EXTERNAL" in log and "to mantua2.lab for verona2.lab, TLS" in log, log
    assert "certificate of mantua2.lab: good by the TLSA records of mantua2-host.lab" in log, log
    assert "certificate of mantua2.lab: good (DANE)" in log, log
    assert "Enabling DANE with 1 TLSA records" in theirs, theirs
    for what in ("chain", "identity"):
        assert re.search(r"s2sout\w+\s+debug\s+certificate %s validation result: valid" % what, theirs), theirs
    romeo.close()
    juliet.close()


with lab:
    failed = done()
    if failed:
        print(here.output()[-9000:])
mallory.close()
sys.exit(failed != 0)
