# SPDX-License-Identifier: MIT
"""What a hostile server can do before and after it has proved its domain: everything has a bound, each refusal says why in a stream
error and in one line of the log, and users of this server chat on."""
import pathlib
import re
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from federation import Lab, Raw, RawServer, User, header  # noqa: E402
from server import DEADLINE, fair_clock  # noqa: E402

STREAM_ERROR = r"<stream:error><%s xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
LOOSE = "s2s_secure_auth = false\n"


class World:
    """verona.lab with romeo, who can always say something to himself; x.lab is a stranger with a good certificate."""

    def __init__(self, config="", zone=None, direct=None, extra=()):
        self.lab = Lab()
        self.lab.zone.update(zone or {})
        self.lab.direct.update(direct or {})
        self.lab.extra += extra
        self.here = self.lab.couplet("verona.lab", "arden.lab", accounts={"romeo": "secret"}, config=config, modules=["ping", "limits"])

    def __enter__(self):
        self.lab.start()
        self.cert = self.lab.authority.issue("x.lab")
        self.romeo = User.login(self.lab, self.here)
        return self

    def __exit__(self, kind, *more):
        if kind:
            print(self.here.output()[-6000:])
        else:
            began = fair_clock(self.here)
            equal(self.romeo.ping("verona.lab").pong("verona.lab"), None)
            assert fair_clock(self.here) - began < 2, "others notice"
        self.romeo.close()
        self.lab.__exit__(kind, *more)

    def stranger(self, source="127.0.0.1"):
        return Raw.connect(self.here.s2s, source=source).opened_tls(self.lab, "x.lab", "verona.lab", self.cert)

    def proved(self):
        r = self.stranger()
        r.external("x.lab").expect("<success")
        r.text = ""
        r.open("x.lab", "verona.lab").expect("<stream:features>.*</stream:features>|<stream:features/>")
        return r

    def until(self, condition):
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, "in vain"
            time.sleep(0.02)

    def said(self, text):
        """How many lines of the log say that?"""
        return sum(text in line for line in self.here.log().splitlines())


@test("a certificate that is good for one domain proves no other by EXTERNAL, whatever dialback had it judged for")
def judged_for_another():
    with World("s2s_insecure_domains = { 'loose.lab' }\n") as w:
        for named, claimed, asked in ((None, ("victim.lab", "x.lab"), "victim.lab"), (None, ("x.lab", "victim.lab"), "victim.lab"),
                                      ("loose.lab", ("x.lab",), ""), ("loose.lab", ("x.lab",), "loose.lab")):
            r = Raw.connect(w.here.s2s).open("x.lab", "verona.lab")
            r.expect("</stream:features>")
            r.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").expect("<proceed[^>]*/>")
            r.secure(w.lab, w.cert)
            r.send(header(from_=named, to="verona.lab") if named else header(to="verona.lab"))
            r.expect("</stream:features>")
            for domain in claimed:
                r.send("<db:result from='%s' to='verona.lab'>k</db:result>" % domain)
            r.external(asked)
            got = r.expect("<success|<failure[^>]*>.*?</failure>")
            assert "success" not in got.group(0), (named, claimed, asked)
            r.close()
        assert not w.said("proved by EXTERNAL")


@test("claims of domains a certificate does not name are counted: the stream ends")
def claims_not_named():
    with World("dialback_max_domains = 10\n") as w:
        r = w.proved()
        for n in range(50):
            r.send("<db:result from='d%d.lab' to='verona.lab'>k</db:result>" % n)
        assert "policy-violation" in r.ended(), r.text
        equal(w.said("the certificate is not good"), 10)
        r.close()


@test("slow-loris: who dribbles bytes is cut off in time, and from one address only some may")
def slow():
    with World("s2s_timeout = 5\ns2s_max_unproved_per_ip = 5\n") as w:
        began, streams = time.monotonic(), [Raw.connect(w.here.s2s) for _ in range(5)]
        for r in streams[1:]:
            r.send("<?xml version='1.0'?><stream:stream xmlns='jabber:")
        sixth = Raw.connect(w.here.s2s)
        sixth.expect(STREAM_ERROR % "resource-constraint")
        equal(w.said("Too many connections from your address"), 1)
        while time.monotonic() < began + 4:
            for r in streams[2:]:
                r.send(" ")
            time.sleep(0.5)
        for r in streams:
            r.ended()
        assert 4 < time.monotonic() - began < 15, time.monotonic() - began
        w.stranger().close()                                       # there is room again


HUGE = {
    "an attribute of a megabyte": "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' a='%s'" % ("x" * 1048576),
    "ten thousand attributes": "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' %s>" % " ".join(
        "a%d='x'" % i for i in range(10000)),
    "a domain of 2000 letters": header(to="verona.lab", from_="x" * 2000 + ".lab"),
}


@test("who opens a connection and drops it is no news; who speaks no TLS where it is expected is a line of the log")
def dropped():
    with World() as w:
        for port in (w.here.s2s, w.here.s2s_tls):
            Raw.connect(port).close()
        Raw.connect(w.here.s2s_tls).send(header(from_="x.lab", to="verona.lab")).ended()
        while w.said("session from 127.0.0.1 ended") < 3:
            time.sleep(0.02)
        equal(re.findall("info s2sin.* session from 127.0.0.1 ended: (.*)", w.here.log()),
              ["TLS handshake failed: the other side does not speak TLS here"])


@test("huge stream headers are refused, with a stream error")
def headers():
    with World() as w:
        for what, text in HUGE.items():
            r = Raw.connect(w.here.s2s)
            try:
                r.send(text)
            except ConnectionError:
                pass
            assert "<stream:error>" in r.ended(), (what, r.text)
        equal(w.said("session from 127.0.0.1 ended: "), len(HUGE))


@test("a certificate chain of megabytes is not read to its end")
def chain():
    with World() as w:
        cert, key = w.cert
        long = w.lab.dir / "long.crt"
        long.write_text(cert.read_text() * 4000)
        r = Raw.connect(w.here.s2s).open("x.lab", "verona.lab")
        r.expect("</stream:features>")
        r.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").expect("<proceed[^>]*/>")
        try:
            r.secure(w.lab, (long, key)).open("x.lab", "verona.lab")
            raise RuntimeError("taken")
        except (OSError, AssertionError):
            pass
        equal(w.said("proved by"), 0)


@test("claims of many domains: some are asked about, the rest gets errors, and our users still find their way")
def claims():
    config = LOOSE + "s2s_max_pending = 50\ns2s_login_elements = 1000\ndialback_max_domains = 50\n"
    silent = RawServer()                                           # takes connections and says nothing
    with World(config, {name + ".lab": [("127.0.0.1", silent.port)] for name in ("good", *("d%d" % i for i in range(300)))}) as w:
        r = w.stranger()
        for i in range(300):
            r.send("<db:result from='d%d.lab' to='verona.lab'>key</db:result>" % i)
        for _ in range(295):
            r.expect("<db:result[^>]*type='error'><error type='wait'><resource-constraint")
        r.send("<db:result from='d299.lab' to='verona.lab'>%s</db:result>" % ("k" * 2000))
        r.expect("<db:result[^>]*type='error'><error type='modify'><not-acceptable")
        for _ in range(5):
            silent.accept().close()
        w.romeo.ping("good.lab")                                   # a place is left for it
        silent.accept().expect("<stream:stream[^>]*to='good.lab'")
        r.send("<db:result from='arden.lab' to='verona.lab'>key</db:result>").expect(STREAM_ERROR % "invalid-from")
        r.ended()
        equal(w.said("That is a domain of ours"), 1)
        silent.close()


CLAIM, VERIFY = "<db:result from='%s' to='verona.lab'>key</db:result>", "<db:verify from='%s' to='verona.lab' id='%s' type='valid'/>"
REFUSED = "<db:result[^>]*to='%s' type='error'><error type='wait'><%s"


@test("claims from one address get a share of the places for questions; a connection nobody needs any more gives its place back")
def share():
    silent = RawServer()
    zone = {"d%d.lab" % i: [("127.0.0.1", silent.port)] for i in range(10)}
    with World(LOOSE + "s2s_max_pending = 20\n", zone) as w:
        streams = [w.stranger(), w.stranger(), w.stranger("127.0.0.2")]
        for i, (r, asked) in enumerate(((0, True), (1, True), (0, False), (1, False), (2, True), (2, True), (2, False))):
            streams[r].send(CLAIM % ("d%d.lab" % i))
            if not asked:
                streams[r].expect(REFUSED % ("d%d.lab" % i, "resource-constraint"))
        called = {}
        for _ in range(4):
            v = silent.accept()
            called[v.expect("<stream:stream[^>]* to='([^']+)'").group(1)] = v
        equal(sorted(called), ["d0.lab", "d1.lab", "d4.lab", "d5.lab"])
        streams[0].close()
        began = time.monotonic()
        called["d0.lab"].ended()
        assert 8 < time.monotonic() - began < 18, time.monotonic() - began         # s2s_connect_timeout is more
        streams[1].send(CLAIM % "d7.lab")
        called["d7.lab"] = silent.accept()
        called["d7.lab"].expect("<stream:stream[^>]* to='d7.lab'")
        streams[1].send(CLAIM % "d8.lab").expect(REFUSED % ("d8.lab", "resource-constraint"))
        for r in (*streams, *called.values(), silent):
            r.close()


@test("whoever has a wildcard has as many names as he likes, but so many connections from one address")
def wildcard():
    with World("s2s_max_connections_per_ip = 3\n") as w:
        cert = w.lab.authority.issue("any.x.lab", "wildcard")
        streams = []
        for n in range(3):
            r = Raw.connect(w.here.s2s).opened_tls(w.lab, "n%d.x.lab" % n, "verona.lab", cert)
            r.external("n%d.x.lab" % n).expect("<success")
            streams.append(r)
        equal(Raw.connect(w.here.s2s).ended(), "")
        w.until(lambda: w.said("connection from 127.0.0.1 refused: too many from this address are open"))
        w.stranger("127.0.0.2").close()                            # others are not affected
        streams.pop().close()
        w.until(lambda: w.said("session from n2.x.lab ended"))
        streams.append(w.proved())
        for r in streams:
            r.close()


@test("a question has a deadline on a proved stream too; it is dropped when the stream ends that it was asked for")
def questions():
    victim = RawServer()
    config = LOOSE + "s2s_timeout = 5\ndialback_max_questions = 1\n"
    with World(config, {"victim.lab": [("127.0.0.1", victim.port)]}) as w:
        w.romeo.ping("victim.lab")
        features = "<dialback xmlns='urn:xmpp:features:dialback'/>"
        v = victim.accept_tls(w.lab, "victim.lab", w.lab.authority.issue("victim.lab", "selfsigned"), features=features)
        v.expect("<db:result[^>]*>.*?</db:result>")
        v.send("<db:result from='victim.lab' to='verona.lab' type='valid'/>").expect("<iq ")
        r, gone = w.proved(), w.proved()
        for late in (1, 2):
            r.send(CLAIM % "victim.lab")
            number = v.expect("<db:verify[^>]* id='([^']+)'").group(1)
            r.send(CLAIM % "victim.lab").expect(REFUSED % ("victim.lab", "resource-constraint"))
            r.expect(REFUSED % ("victim.lab", "remote-server-timeout"))
            v.send(VERIFY % ("victim.lab", number))                # too late
            w.until(lambda: w.said("nobody asked") == late)
        gone.send(CLAIM % "victim.lab")
        number = v.expect("<db:verify[^>]* id='([^']+)'").group(1)
        gone.close()
        w.until(lambda: w.said("session from x.lab ended"))
        v.send(VERIFY % ("victim.lab", number)).send("<message from='a@victim.lab'/>").expect(STREAM_ERROR % "not-authorized")
        equal(w.said("nobody asked"), 3)
        r.send("<message from='a@victim.lab' to='romeo@verona.lab'><body>no</body></message>").expect(STREAM_ERROR % "invalid-from")
        equal(w.said("victim.lab for verona.lab, TLS, proved"), 1)  # that is the way there
        for stream in (r, v, victim):
            stream.close()


@test("claims that fail again and again end a proved stream; wrong questions about keys are one line in the log")
def failures():
    with World(LOOSE + "dialback_max_domains = 5\n", {"dead.lab": [("127.0.0.1", 1)]}) as w:
        r = w.proved()
        for i in range(50):
            r.send("<db:verify from='x.lab' to='verona.lab' id='%d'>key</db:verify>" % i).expect("<db:verify[^>]*type='invalid'")
        equal(w.said("that is not ours"), 1)
        for _ in range(5):
            r.send("<db:result from='dead.lab' to='verona.lab'>key</db:result>")
            r.expect("<db:result[^>]*type='error'><error type='cancel'><remote-connection-failed")
        r.expect(STREAM_ERROR % "policy-violation")
        r.ended()
        equal(w.said("Too many claims"), 1)


@test("a zone that leads to ourselves: no loop, the right error")
def loops():
    with World() as w:
        w.lab.zone["me.lab"] = [("127.0.0.1", w.here.s2s)]
        w.lab.direct["me2.lab"] = [("127.0.0.1", w.here.s2s_tls)]
        w.lab.zone["client.lab"] = [("127.0.0.1", w.here.port)]
        w.lab.publish()
        for domain, condition in (("me.lab", "remote-server-not-found"), ("me2.lab", "remote-server-timeout"),
                                  ("client.lab", "remote-server-timeout")):
            equal((domain, w.romeo.ping(domain).pong(domain)), (domain, condition))
        assert w.here.log().count("trying 127.0.0.1") <= 4


@test("a hundred SRV records with many addresses each: so many connections, and an answer in time")
def many():
    zone = {"many.lab": [("big%d.lab." % i, 1) for i in range(100)]}
    extra = ["big%d.lab. IN A 127.9.%d.%d" % (i, i, j) for i in range(100) for j in range(1, 21)]
    with World("s2s_connect_timeout = 2\ns2s_timeout = 20\n", zone, extra=extra) as w:
        began = time.monotonic()
        equal(w.romeo.ping("many.lab").pong("many.lab"), "remote-server-timeout")
        assert time.monotonic() - began < 25
        assert w.here.log().count("trying 127.9.") <= 24 * 8


@test("a proved domain speaks for itself, to the host it has proved itself to; and resumes nobody's stream")
def proved():
    with World() as w:
        r = w.proved()
        r.send("<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>").expect("<failed xmlns='urn:xmpp:sm:3'><feature-not-implemented")
        r.send("<message from='a@x.lab' to='romeo@arden.lab'><body>x</body></message>").expect(STREAM_ERROR % "host-unknown")
        r.ended()
        equal(w.said("Not proved for arden.lab"), 1)
        r = w.proved()
        r.send("<message from='romeo@verona.lab' to='romeo@verona.lab'><body>x</body></message>").expect(STREAM_ERROR % "invalid-from")
        r.ended()
        equal(w.said("Not proved on this stream: verona.lab"), 1)


def memory(server):
    return int(next(line for line in open("/proc/%d/status" % server.process.pid) if line.startswith("VmRSS")).split()[1])


@test("streams of one domain share its rate; what is too fast waits in the network")
def rate():
    with World('limits = { s2sin = { rate = "50kb/s", burst = "1s" } }\n') as w:
        w.lab.zone["x.lab"] = []
        before = memory(w.here)
        streams = [w.proved() for _ in range(4)]
        ask = "<db:verify from='x.lab' to='nobody.lab' id='1'>%s</db:verify>" % ("k" * 400)
        answered = [0] * 4

        def pour(n):
            try:
                streams[n].sock.sendall((ask * 4000).encode())
            except OSError:
                pass

        def count(n):
            try:
                while data := streams[n].sock.recv(65536):
                    answered[n] += data.count(b"</db:verify>")
            except OSError:
                pass
        began = time.monotonic()
        for fn in (pour, count):
            for n in range(4):
                threading.Thread(target=fn, args=(n,), daemon=True).start()
        while time.monotonic() < began + 4:
            equal(w.romeo.ping("verona.lab").pong("verona.lab"), None)
            time.sleep(0.05)
        total, took = sum(answered) * len(ask), time.monotonic() - began
        assert 50000 < total < 50000 * (took + 1) * 1.5, (total, took)       # alone each stream would have 50 kB/s
        assert memory(w.here) - before < 30000, (before, memory(w.here))
        for r in streams:
            r.close()


sys.exit(done() != 0)
