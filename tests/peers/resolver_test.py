# SPDX-License-Identifier: MIT
"""couplet.core and couplet.resolver in one process, with a real DNS server: what is answered, what is remembered and how long,
and that the two libraries of events do not meet (valgrind here; AddressSanitizer when the suite runs under it)."""
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from federation import Lab  # noqa: E402
from server import BUILD, DEADLINE, SANITIZER, SOURCE, sanitizer_environment  # noqa: E402

lab = Lab(signed=True)
lab.zone["a.lab"] = [("127.0.0.1", 5269), ("::1", 5270)]
lab.extra += ["host.lab. 3 IN A 192.0.2.1", "long.lab. 600 IN A 192.0.2.1", "alias.lab. IN CNAME alias2.lab.", "alias2.lab. IN CNAME host.lab.",
              "host.open. IN A 192.0.2.3", "host.forged. IN A 192.0.2.4",
              "_5269._tcp.host.lab. IN TLSA 3 1 1 " + "ab" * 32]
lab.extra += ["many.lab. IN A 198.51.100.%d" % i for i in range(1, 200)]          # comes by TCP


class Resolver:
    def __init__(self, *wrap):
        env = {**os.environ, **sanitizer_environment()}
        if wrap:
            env["COUPLET_WRAP"] = " ".join(wrap)
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen([BUILD / "bin" / "lua", SOURCE / "tests/helpers/resolve.lua", "127.0.0.1@%d" % lab.dns_port, lab.anchors],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=env)

    def ask(self, question):
        print(question, file=self.process.stdin, flush=True)
        return self.process.stdout.readline().strip()

    def end(self):
        self.process.stdin.close()
        code = self.process.wait(DEADLINE)
        self.errors.seek(0)
        equal((code, self.errors.read().decode() if code else ""), (0, ""))


ROWS = [
    ("A host.lab", "NoError secure 192.0.2.1"),
    ("A alias.lab", "NoError secure 192.0.2.1"),
    ("AAAA host.lab", "NoError secure"),
    ("A nobody.lab", "NXDomain secure"),
    ("SRV _xmpp-server._tcp.a.lab", "NoError secure 0 10 5269 h1.lab. 1 10 5270 h2.lab."),
    ("AAAA h2.lab", "NoError secure ::1"),
    ("TLSA _5269._tcp.host.lab", "NoError secure 3 1 1 " + "ab" * 32),
    ("A host.open", "NoError insecure 192.0.2.3"),
    ("A host.forged", "NoError bogus 192.0.2.4"),
]


def rows(r):
    for question, answer in ROWS:
        got = r.ask(question)
        if "SRV" in question:
            got, answer = sorted(got.split()), sorted(answer.split())
        equal((question, got), (question, answer))
    equal(len(set(r.ask("A many.lab").split()[2:])), 199)
    r.end()


@test("answers, validated")
def answers():
    rows(Resolver())


@test("an answer is remembered for its TTL, and no longer")
def ttl():
    r = Resolver()
    began = time.monotonic()
    for name in ("host.lab", "long.lab"):
        equal(r.ask("A " + name), "NoError secure 192.0.2.1")
    lab.extra[:2] = ["host.lab. 3 IN A 192.0.2.2", "long.lab. 600 IN A 192.0.2.2"]
    lab.publish()
    equal(r.ask("A long.lab"), "NoError secure 192.0.2.1")           # the zone says otherwise by now
    lab.silence_dns()
    equal(r.ask("A long.lab"), "NoError secure 192.0.2.1")           # and nobody need be there
    lab.stop_dns()
    lab.start_dns()
    while (got := r.ask("A host.lab")) == "NoError secure 192.0.2.1":
        assert time.monotonic() - began < DEADLINE
        time.sleep(0.1)
    equal(got, "NoError secure 192.0.2.2")
    assert time.monotonic() - began > 1.9
    equal(r.ask("A long.lab"), "NoError secure 192.0.2.1")
    lab.extra[:2] = ["host.lab. 3 IN A 192.0.2.1", "long.lab. 600 IN A 192.0.2.1"]
    lab.publish()
    r.end()


if not SANITIZER:                       # which watches itself
    @test("valgrind finds nothing wrong with both in one process")
    def valgrind():
        rows(Resolver("valgrind", "-q", "--error-exitcode=9", "--leak-check=no"))


lab.publish()
lab.start_dns()
failed = done()
lab.__exit__(None, None, None)
sys.exit(failed != 0)
