# SPDX-License-Identifier: MIT
"""coupletctl check dns, certs, connectivity: what is wrong is said, with what to do about it."""
import pathlib
import re
import shutil
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from federation import Lab, RawServer, header  # noqa: E402
from server import free_port  # noqa: E402

lab = Lab(signed=True)
c2s = free_port()
hosts = ("verona.lab", "arden.lab", "padua.lab", "noaddress.lab", "wrong.open")
here = lab.couplet(*hosts, config="use_dane = true\nc2s_ports = { %d }\nc2s_direct_tls_ports = { }\n" % c2s)
there = lab.couplet("mantua.lab")
mallory = RawServer()
for _kind in ("expired", "selfsigned", "strange", "cn"):
    lab.zone[_kind + ".lab"] = [("127.0.0.1", mallory.port)]
lab.zone["dead.lab"] = [("127.0.0.1", free_port())]
lab.zone["closed.lab"] = [(".", 0)]
lab.zone["x.forged"] = [("127.0.0.1", 1)]
lab.zone["arden.lab"] = [(".", 0)]
lab.zone["padua.lab"] = [("127.0.0.1", 5999)]
del lab.zone["noaddress.lab"]
tlsa = "_%d._tcp.h1.lab. IN TLSA 3 1 1 " % here.s2s
lab.extra = ["arden.lab. IN A 127.0.0.1", "alias.lab. IN CNAME h1.lab.", tlsa + "00" * 32,
             "_xmpp-client._tcp.verona.lab. IN SRV 0 0 %d alias.lab." % c2s, "_xmpp-client._tcp.padua.lab. IN SRV 0 0 5222 nowhere.lab."]


def ctl(code, *words):
    got, out = here.ctl("check", *words)
    equal((got, out if got != code else ""), (code, ""))
    return out


def says(out, *lines):
    for line in lines:
        assert re.search(line, out), "no %r in:\n%s" % (line, out)


@test("check dns: what is there, what is missing, and the record to add")
def dns():
    says(ctl(1, "dns", "verona.lab"),
         r"ok +_xmpp-client._tcp leads to alias.lab port %d \(127.0.0.1\)" % c2s, r"note +alias.lab is an alias",
         r"ok +_xmpp-server._tcp leads to h1.lab port %d" % here.s2s, r"127.0.0.1 is this machine only to itself",
         r"PROBLEM +TLSA _%d._tcp.h1.lab fits not the certificate" % here.s2s,
         r"\n +_xmpps-server._tcp.verona.lab. 3600 IN SRV 0 5 %d alias.lab.\n" % here.s2s_tls,
         r"verona.lab: 1 problem")
    says(ctl(1, "dns", "arden.lab"), r"PROBLEM +_xmpp-client._tcp: no record, and Couplet does not listen on port 5222",
         r"\n +_xmpp-client._tcp.arden.lab. 3600 IN SRV 0 5 %d arden.lab.\n" % c2s,
         r'PROBLEM +_xmpp-server._tcp says that this domain has no such service', r"_xmpp-server._tcp.arden.lab. 3600 IN SRV 0 5 %d " % here.s2s)
    says(ctl(1, "dns", "padua.lab"), r"leads to nowhere.lab port 5222, which has no address", r"Couplet does not listen on port 5999")
    says(ctl(1, "dns", "noaddress.lab"), r"no record, and noaddress.lab has no address. Servers cannot find this domain. Add:",
         r"_xmpp-server._tcp.noaddress.lab. 3600 IN SRV 0 5 %d xmpp.noaddress.lab." % here.s2s, r"xmpp.noaddress.lab. 3600 IN A ")
    says(ctl(1, "dns", "wrong.open"), "no DNSSEC")
    says(ctl(1, "dns"), *hosts, r"DNS: \d+ problems")


@test("check dns: the TLSA record it gave is right")
def record():
    said = re.search(r"\n +(_%d._tcp.h1.lab. 3600 IN TLSA .*)\n" % here.s2s, ctl(1, "dns", "verona.lab")).group(1)
    lab.extra[2] = said
    lab.publish()
    says(ctl(0, "dns", "verona.lab"), r"ok +TLSA _%d._tcp.h1.lab fits the certificate .*verona.lab-good.crt" % here.s2s)
    lab.extra[2] = tlsa + "00" * 32
    lab.publish()


@test("check dns: other domains, as we see them")
def others():
    says(ctl(0, "dns", "mantua.lab"), r"ok +h\d+.lab port %d \(127.0.0.1\), DNSSEC vouches" % there.s2s)
    says(ctl(1, "dns", "x.forged"), "SRV records of this domain are forged")
    says(ctl(1, "dns", "closed.lab"), "does not take connections of servers")


@test("check certs: file, days left, names, chain")
def certs():
    says(ctl(0, "certs", "verona.lab"), r"ok +file .*verona.lab-good.crt, key .*verona.lab-good.key", r"ok +good until \d{4}-\d\d-\d\d: 29 days left",
         r"ok +it names verona.lab", r"note +ca is an authority of your own cafile, .*ca.crt: other servers and clients need it there")
    rows = [("expired", "it expired on 2020-02-01; get a new one, then `coupletctl reload`"), ("wrong", "it does not name padua.lab, but nobody.lab"),
            ("selfsigned", "it is self-made"), ("mail", "it is not made for TLS servers")]
    good = lab.authority.issue("padua.lab")
    kept = [path.read_bytes() for path in good]
    for kind, said in rows:
        for to, path in zip(good, lab.authority.issue("padua.lab", kind)):
            shutil.copy(path, to)
        says(ctl(1, "certs", "padua.lab"), "PROBLEM +" + said)
    chain = lab.authority.issue("padua.lab", "chain")
    for to, path in zip(good, chain):
        shutil.copy(path, to)
    says(ctl(0, "certs", "padua.lab"), "the chain has 2 certificates, the last made by ca", "ca is an authority of your own cafile")
    good[0].write_text(good[0].read_text() + lab.authority.issue("verona.lab")[0].read_text())
    says(ctl(1, "certs", "padua.lab"), r"certificate 2 \(middle\) was not made by the one behind it \(verona.lab\)")
    shutil.copy(lab.authority.issue("verona.lab")[1], good[1])
    says(ctl(1, "certs", "padua.lab"), "key .*fit|key values mismatch")
    for path, data in zip(good, kept):
        path.write_bytes(data)
    says(ctl(1, "certs", "nobody.lab"), "the configuration has no host nobody.lab")


@test("check connectivity: each step of a good connection")
def good():
    says(ctl(0, "connectivity", "mantua.lab", "verona.lab"), "from verona.lab to mantua.lab", r"127.0.0.1 port %d, h\d+.lab" % there.s2s,
         r"ok +connected in \d+ ms", r"ok +it offers STARTTLS, and needs it", r"ok +TLS: TLSv1.3, TLS_\w+",
         r"note +its certificate names mantua.lab; 29 days left", r"ok +its certificate is good",
         r"ok +over TLS it offers: .*SASL EXTERNAL", r"ok +verona.lab is proved by its certificate \(SASL EXTERNAL\)", "mantua.lab: all is well")
    says(ctl(1, "connectivity", "verona.lab", "verona.lab"), "PROBLEM +its certificate is not good: no matching DANE TLSA records",
         "its zone has TLSA records of another certificate", "no server calls itself")


@test("check connectivity: direct TLS")
def direct():
    lab.direct["mantua.lab"] = [("127.0.0.1", there.s2s_tls)]
    del lab.zone["mantua.lab"]
    lab.publish()
    says(ctl(0, "connectivity", "mantua.lab", "verona.lab"), r"port %d \(direct TLS\)" % there.s2s_tls, "its certificate is good", "EXTERNAL")
    lab.zone["mantua.lab"] = [("127.0.0.1", there.s2s)]
    del lab.direct["mantua.lab"]
    lab.publish()


@test("check connectivity: no way, and what that may mean")
def bad():
    says(ctl(1, "connectivity", "dead.lab"), "PROBLEM +no connection: .*refused", "nobody listens there")
    says(ctl(1, "connectivity", "nobody.lab"), "This domain has no server", "coupletctl check dns nobody.lab")
    says(ctl(1, "connectivity", "x.forged"), "forged")
    says(ctl(1, "connectivity", "mantua.lab", "nobody.lab"), "the configuration has no host nobody.lab")
    for kind, said in (("expired", "certificate has expired"), ("selfsigned", "self-signed certificate"), ("strange", "unable to get local issuer")):
        name = kind + ".lab"
        other = threading.Thread(target=lambda: mallory.accept_tls(lab, name, lab.authority.issue(name, kind)).ended())
        other.start()
        says(ctl(1, "connectivity", name, "verona.lab"), "PROBLEM +its certificate is not good: " + said, "neither EXTERNAL nor dialback",
             r's2s_insecure_domains = \{ "%s" \}' % name)
        other.join()


@test("check connectivity: what our own configuration says about that domain")
def policy():
    kept = here.config.read_text()

    def with_config(text, code, *said, kind="selfsigned", absent=()):
        here.config.write_text(text + kept)
        name = kind + ".lab"
        other = threading.Thread(target=lambda: mallory.accept_tls(lab, name, lab.authority.issue(name, kind)).ended())
        other.start()
        out = ctl(code, "connectivity", name, "verona.lab")
        says(out, *said)
        other.join()
        for line in absent:
            assert line not in out, "%r in:\n%s" % (line, out)
    with_config('s2s_insecure_domains = { "selfsigned.lab" }\n', 0, "note +its certificate is not good: self-signed certificate; but none is needed "
                r"\(s2s_insecure_domains names it\): dialback may prove it", absent=("PROBLEM", "would let"))
    with_config("s2s_secure_auth = false\n", 0, r"none is needed \(s2s_secure_auth is false\)")
    with_config('s2s_secure_auth = false\ns2s_secure_domains = { "selfsigned.lab" }\n', 1, "PROBLEM +its certificate is not good",
                'note +s2s_secure_domains without "selfsigned.lab" would let dialback prove it', absent=("s2s_insecure_domains",))
    with_config("s2s_secure_auth = false\n", 0, r"its certificate names nobody \(it has no subjectAltName", kind="cn")
    lists = 's2s_blacklist = { "Selfsigned.lab" }\ns2s_whitelist = { "mantua.lab" }\n'
    moved, kept = kept, kept.replace("modules_enabled = {", 'modules_enabled = { "s2s_blacklist", "s2s_whitelist",')
    with_config(lists + "s2s_secure_auth = false\n", 1, "PROBLEM +s2s_blacklist names selfsigned.lab: verona.lab does not talk to it",
                "PROBLEM +s2s_whitelist does not name selfsigned.lab", absent=("can be reached",))
    kept = moved
    with_config("s2s_secure_auth = false\ndisallow_s2s = true\n", 1, "PROBLEM +disallow_s2s: verona.lab talks to no other server")
    here.config.write_text(kept)


@test("check connectivity: what the other side says when it ends the stream, and when it says nothing useful")
def strange():
    def answer(text):
        raw = mallory.accept()
        raw.expect("<stream:stream[^>]*>")
        raw.send(text)
        raw.ended()
    rows = [(header(from_="dead.lab", id="1") + "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/><text "
             "xmlns='urn:ietf:params:xml:ns:xmpp-streams'>not \x7f here</text></stream:error></stream:stream>",
             r"it ends the stream: host-unknown \(not ␡ here\)"),
            (header(from_="strange.lab", id="1") + "<stream:features/>", "it offers no TLS"),
            (header(from_="strange.lab", id="1", version=None), "a server from before XMPP 1.0"),
            ("HTTP/1.1 400 Bad Request\r\n\r\n", "what it says is no XMPP")]
    for text, said in rows:
        other = threading.Thread(target=answer, args=(text,))
        other.start()
        says(ctl(1, "connectivity", "strange.lab", "verona.lab"), "PROBLEM +" + said)
        other.join()


@test("each has its --help, and check lists them")
def usage():
    says(ctl(0, "--help"), "usage: coupletctl check\n", r"check dns \[DOMAIN\]", r"check certs \[HOST\]", r"check connectivity DOMAIN \[HOST\]")
    for name in ("dns", "certs", "connectivity"):
        says(ctl(0, name, "--help"), "usage: coupletctl check " + name)
    equal(here.ctl("check", "connectivity")[0], 2)


with lab:
    failed = done()
mallory.close()
sys.exit(failed != 0)
