# SPDX-License-Identifier: MIT
"""Certificates of other servers, both directions: which are good, and that a refusal says why, to the peer and in the log."""
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from federation import Lab, Raw, RawServer, User, header  # noqa: E402

# What the certificate is like, and what is said about it; None: it is good.
ROWS = [
    ("good", None),
    ("wildcard", None),                                       # RFC 9525 6.3
    ("srvname", None),                                        # RFC 4985
    ("xmppaddr", None),                                       # RFC 6120 13.7.1.4
    ("anyuse", None),
    ("servers", None),                                        # what public authorities give
    ("chain", None),                                          # no list of what the one in the middle has revoked: that is no reason
    ("expired", "certificate has expired"),
    ("selfsigned", "self-signed certificate"),
    ("strange", "unable to get local issuer certificate"),
    ("wrong", "it does not name {name}"),
    ("cn", "it does not name {name}"),                        # RFC 9525 2: common names do not count
    ("partial", "it does not name {name}"),                   # a wildcard is a whole label
    ("srvclient", "it does not name {name}"),                 # another service
    ("mail", "(unsuitable|unsupported) certificate purpose"),
    ("weak", "EE certificate key too weak"),
    ("revoked", "certificate revoked"),
    ("chainrevoked", "certificate revoked"),
]
ERROR = "<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><text[^>]*>The certificate of %s is not good: %s</text>"

lab = Lab()
mallory = RawServer()
certificates = {}
for kind, _ in [*ROWS, ("clients", None)]:
    certificates[kind] = lab.authority.issue(kind + ".lab", kind)
    lab.zone[kind + ".lab"] = [("127.0.0.1", mallory.port)]
    lab.zone["reason-%s.lab" % kind] = [("127.0.0.1", mallory.port)]
lab.zone["reason-night.lab"] = [("127.0.0.1", mallory.port)]
lab.authority.issue("deep.x.lab", "wildcard")
revoked = lab.authority.revoke(certificates["revoked"][0], lab.dir / "badmiddle.crt")
here = lab.couplet("verona.lab", accounts={"romeo": "secret"}, config="s2s_ssl = { crlfile = '%s' }\n" % revoked)


def incoming(name, certificate, problem):
    r = Raw.connect(here.s2s)
    if problem:
        r.open(name, "verona.lab").expect("</stream:features>")
        r.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").expect("<proceed[^>]*/>")
        r.secure(lab, certificate).send(header(from_=name, to="verona.lab")).expect(ERROR % (name, problem))
        r.ended()
    else:
        r.opened_tls(lab, name, "verona.lab", certificate).external(name).expect("<success")
    r.close()


def outgoing(romeo, name, certificate, problem):
    romeo.ping(name)
    r = mallory.accept_tls(lab, name, certificate)
    if problem:
        assert re.search(ERROR % (name, problem), r.ended()), r.text
        assert "<iq" not in r.text and "db:result" not in r.text, r.text
        equal(romeo.pong(name), "remote-server-timeout")
    else:
        r.expect("<db:result[^>]*>.*</db:result>")
        r.send("<db:result from='%s' to='verona.lab' type='valid'/>" % name).expect("<iq[^>]*type='get'.*?</iq>")
    r.close()


def both(kind, problem, name=None):
    name = name or kind + ".lab"
    problem = problem and problem.format(name=name)
    incoming(name, certificates[kind], problem)
    romeo = User.login(lab, here)
    outgoing(romeo, name, certificates[kind], problem)
    romeo.close()
    if problem:
        equal(len(re.findall("the certificate of %s is refused: %s" % (name, problem), here.log())), 2)


for _kind, _problem in ROWS:
    test("%s: %s" % (_kind, _problem or "good"))(lambda kind=_kind, problem=_problem: both(kind, problem))


@test("clients only: enough for calling us, not for being called")
def clients():
    incoming("clients.lab", certificates["clients"], None)
    romeo = User.login(lab, here)
    outgoing(romeo, "clients.lab", certificates["clients"], "(unsuitable|unsupported) certificate purpose")
    romeo.close()


@test("a wildcard stands for one label, not for two")
def deep():
    incoming("a.deep.x.lab", lab.authority.issue("deep.x.lab", "wildcard"), "it does not name a.deep.x.lab")


@test("what is revoked later is refused after a reload")
def later():
    certificate = lab.authority.issue("later.lab")
    incoming("later.lab", certificate, None)
    lab.authority.revoke(certificate[0])
    equal(here.ctl("reload")[0], 0)
    incoming("later.lab", certificate, "certificate revoked")


@test("cafile adds to the system's authorities, on the way in and out; capath takes their place")
def system():
    for config, problem in (("", None), ("s2s_ssl = { capath = '%s' }\n", "unable to get local issuer certificate")):
        own = Lab()
        called = RawServer()
        own.zone["strange.lab"] = [("127.0.0.1", called.port)]
        server = own.couplet("verona.lab", accounts={"romeo": "secret"}, config=config and config % own.dir)
        server.env.update(SSL_CERT_FILE=str(own.dir / "other.crt"), SSL_CERT_DIR=str(own.dir))
        with own:
            strange = own.authority.issue("strange.lab", "strange")
            Raw.connect(server.s2s).opened_tls(own, "x.lab", "verona.lab", own.authority.issue("x.lab")).external("x.lab").expect("<success")
            r = Raw.connect(server.s2s).open("strange.lab", "verona.lab")
            r.expect("</stream:features>")
            r.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").expect("<proceed[^>]*/>")
            r.secure(own, strange).send(header(from_="strange.lab", to="verona.lab"))
            r.expect(ERROR % ("strange.lab", problem) if problem else "EXTERNAL")
            User.login(own, server).ping("strange.lab")
            v = called.accept_tls(own, "strange.lab", strange, features="<dialback xmlns='urn:xmpp:features:dialback'/>")
            v.expect(ERROR % ("strange.lab", problem) if problem else "<db:result ")
        called.close()


@test("what a server says when it ends the stream is what the sender learns")
def reasons():
    romeo = User.login(lab, here)
    for kind, condition, error, lasts in (("clients", "policy-violation", "remote-server-timeout", True),
                                          ("mail", "host-unknown", "remote-server-not-found", True),
                                          ("night", "system-shutdown", "remote-server-timeout", False)):
        name = "reason-%s.lab" % kind
        romeo.ping(name)
        r = mallory.accept()
        r.expect("<stream:stream[^>]*>")
        r.send(header(from_=name, id="1") + "<stream:error><%s xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><text "
               "xmlns='urn:ietf:params:xml:ns:xmpp-streams'>because</text></stream:error></stream:stream>" % condition)
        r.ended()
        r.close()
        found = romeo.expect("<iq[^>]* id='%s'.*?</iq>" % name).group(0)
        assert "<%s " % error in found and ("type='cancel'" in found) == lasts and ("type='wait'" in found) != lasts, found
        assert "the other side says %s: because" % condition in here.log()
    romeo.close()


with lab:
    failed = done()
    if failed:
        print(here.output()[-9000:])
mallory.close()
sys.exit(failed != 0)
