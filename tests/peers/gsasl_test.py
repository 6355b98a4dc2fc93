# SPDX-License-Identifier: MIT
"""GNU SASL as a client: each mechanism, each -PLUS with each kind of channel binding, right and wrong."""
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from server import DEADLINE, Server  # noqa: E402

here = pathlib.Path(__file__).resolve().parent
work = tempfile.TemporaryDirectory(prefix="couplet-gsasl-")
client = work.name + "/gsasl_client"
flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libgsasl", "openssl"], capture_output=True, text=True, check=True).stdout.split()
subprocess.run(["cc", "-O1", "-Wall", "-o", client, str(here / "gsasl_client.c"), *flags], check=True)


def login(server, mechanism, user="romeo", password="secret", tls="1.3", channel="none", host="localhost"):
    out = subprocess.run([client, str(server.tls_port), host, mechanism, user, password, tls, channel],
                         capture_output=True, text=True, timeout=DEADLINE).stdout.strip().split("\n")
    return out[-1], out[0].split()[1:]


@test("what is offered")
def offered(server):
    strong = ["SCRAM-SHA-512-PLUS", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1",
              "DIGEST-MD5", "PLAIN"]
    equal(login(server, "PLAIN")[1], strong + ["tls-exporter", "tls-server-end-point"])
    bindings = login(server, "PLAIN", tls="1.2")[1][len(strong):]
    assert "tls-unique" in bindings and "tls-server-end-point" in bindings, bindings


@test("right and wrong passwords, unknown users")
def passwords(server):
    for mechanism in ("PLAIN", "SCRAM-SHA-1", "SCRAM-SHA-256", "DIGEST-MD5"):
        equal(login(server, mechanism)[0], "success")
        equal(login(server, mechanism, password="wrong")[0], "not-authorized")
        equal(login(server, mechanism, user="nobody")[0], "not-authorized")


@test("channel binding")
def channel_binding(server):
    for mechanism in ("SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"):
        for tls, channel, want in (("1.3", "exporter", "success"), ("1.2", "unique", "success"), ("1.3", "wrong", "not-authorized"),
                                   ("1.3", "unique", "malformed-request"),       # RFC 9266: not in TLS 1.3
                                   ("1.2", "exporter", "malformed-request")):    # not offered there
            equal((mechanism, tls, channel, login(server, mechanism, tls=tls, channel=channel)[0]), (mechanism, tls, channel, want))


@test("mechanisms that are not there")
def absent(server):
    equal(login(server, "ANONYMOUS")[0], "invalid-mechanism")


CONFIG = """
disable_sasl_mechanisms = {}
password_hashes = { "SHA-1", "SHA-256", "SHA-512" }
auth_lockout_threshold = 1000
auth_lockout_address_threshold = 1000
"""
with Server(accounts={"romeo@localhost": "secret", "juliet@localhost": "secret"}, config=CONFIG) as s:
    failed = done(s)
work.cleanup()
sys.exit(failed != 0)
