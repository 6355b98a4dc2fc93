# SPDX-License-Identifier: MIT
"""federation_stranger.py - servers of ours, and a stranger who tries to pass for somebody else (proof_test, elements_test in peers)."""
from federation import Lab, Raw, RawServer, header

STREAM_ERROR = r"<stream:error><%s xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
STARTTLS = "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
FEATURES = "<stream:features>.*?</stream:features>|<stream:features/>"
MESSAGE = "<message%s from='%s' to='%s'><body>%s</body></message>"


class World:
    """verona.lab and more hosts of ours, with romeo at each; x.lab is a stranger with a good certificate; the server of
    victim.lab, a RawServer, believes everybody: nothing but a certificate can refuse who claims that domain."""

    def __init__(self, *more_hosts, config="", of_host="", modules=(), zone=None):
        self.lab = Lab()
        self.victim = RawServer()
        self.lab.zone["victim.lab"] = self.lab.zone["x.lab"] = [("127.0.0.1", self.victim.port)]
        self.lab.zone.update(zone or {})
        hosts = ["verona.lab", *more_hosts]
        self.here = self.lab.couplet(*hosts, accounts={"romeo@" + host: "secret" for host in hosts}, config=config, of_host=of_host,
                                     modules=["ping", *modules])

    def __enter__(self):
        self.lab.start()
        self.cert = self.lab.authority.issue("x.lab")
        return self

    def __exit__(self, kind, *more):
        if kind:
            print(self.here.output()[-6000:])
        self.victim.close()
        self.lab.__exit__(kind, *more)

    def call(self, to="verona.lab", from_="x.lab", cert=None, named=None):
        """A stream after STARTTLS. named: what the header under TLS says, if not from_ (False: nothing)."""
        r = Raw.connect(self.here.s2s).open(from_, to)
        r.expect("</stream:features>")
        r.send(STARTTLS).expect("<proceed[^>]*/>")
        return self.secured(r, to, from_, cert, named)

    def secured(self, r, to, from_, cert=None, named=None):
        r.secure(self.lab, cert or self.cert)
        named = from_ if named is None else named or None
        r.stream_id = r.send(header(from_=named, to=to)).expect(r"<stream:stream[^>]* id='([^']+)'[^>]*>").group(1)
        r.features = r.expect(FEATURES).group(0)
        return r

    def proved(self, to="verona.lab"):
        r = self.call(to)
        r.external("x.lab").expect("<success")
        r.text = ""
        r.open("x.lab", to).expect(FEATURES)
        return r

    def ask(self, name="victim.lab", cert="selfsigned", **how):
        """The server of that domain is called -> the stream, with the question on it."""
        r = self.victim.accept_tls(self.lab, name, self.lab.authority.issue(name, cert), **how)
        found = r.expect("<db:verify ([^>]*)>")
        r.question = {k: v for k, v in (pair.split("=") for pair in found.group(1).replace("'", "").split())}
        return r

    def said(self, text):
        return sum(text in line for line in self.here.log().splitlines())
