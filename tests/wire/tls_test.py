# SPDX-License-Identifier: MIT
"""TLS as clients meet it: policies, a certificate for each host, ALPN, new certificates while people chat, and clients that show
a certificate of their own (RFC 6120 §5 and §13.8, RFC 7590, XEP-0368, XEP-0178)."""
import base64
import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from server import DEADLINE, Server  # noqa: E402
from talk import Client, HEADER, Mismatch, Reader  # noqa: E402

warnings.simplefilter("ignore", DeprecationWarning)          # old versions of TLS are the point here
ACCOUNTS = {"romeo@localhost": "secret", "juliet@localhost": "secret"}
TMP = pathlib.Path(tempfile.mkdtemp(prefix="couplet-tls-"))


# --- certificates ---

def openssl(*args):
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)


def new_ca(name):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", 30, "-subj", "/CN=" + name,
            "-keyout", TMP / (name + ".key"), "-out", TMP / (name + ".pem"))
    return name


def issue(name, alt, ca=None, days=30):
    """Certificate and key NAME.pem, NAME.key for subjectAltName alt; self-signed without ca."""
    key, pem, csr, ext = (TMP / (name + end) for end in (".key", ".pem", ".csr", ".ext"))
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=" + name, "-keyout", key, "-out", csr)
    ext.write_text("subjectAltName=" + alt + "\n")
    by = ["-CA", TMP / (ca + ".pem"), "-CAkey", TMP / (ca + ".key"), "-CAcreateserial"] if ca else ["-key", key]
    openssl("x509", "-req", "-in", csr, "-days", days, "-extfile", ext, "-out", pem, *by)
    return name


def xmpp_addr(*addresses):
    return ",".join("otherName:1.3.6.1.5.5.7.8.5;UTF8:" + a for a in addresses)


def install(server, certificate, name):
    shutil.copy(TMP / (certificate + ".pem"), server.dir / "certs" / (name + ".crt"))
    shutil.copy(TMP / (certificate + ".key"), server.dir / "certs" / (name + ".key"))


# --- connections ---

def context(low=None, high=None, ciphers=None, alpn=None, client=None):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    if low:
        c.set_ciphers((ciphers or "ALL") + ":@SECLEVEL=0")
        c.minimum_version, c.maximum_version = low, high or low
    elif ciphers:
        c.set_ciphers(ciphers)
    if alpn:
        c.set_alpn_protocols(alpn)
    if client:
        c.load_cert_chain(TMP / (client + ".pem"), TMP / (client + ".key"))
    return c


def direct(server, c=None, name="localhost"):
    return (c or context()).wrap_socket(socket.create_connection(("127.0.0.1", server.tls_port), DEADLINE), server_hostname=name)


def starttls(server, c=None, name="localhost"):
    """STARTTLS at the host `name`; no SNI, so that the certificate can only come from the stream header."""
    sock = socket.create_connection(("127.0.0.1", server.port), DEADLINE)
    sock.sendall(HEADER.replace("localhost", name).encode() + b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    got = b""
    while b"<proceed" not in got:
        got += sock.recv(4096) or b"<proceed"
    return (c or context()).wrap_socket(sock)


WAYS = {"direct TLS": direct, "STARTTLS": starttls}


def agreed(connect, server, c):
    """The version of TLS agreed on, or None: refused."""
    try:
        with connect(server, c) as s:
            return s.version()
    except (ssl.SSLError, ConnectionError):
        return None


def common_name(sock):
    pem = ssl.DER_cert_to_PEM_cert(sock.getpeercert(True))
    out = subprocess.run(["openssl", "x509", "-noout", "-subject", "-nameopt", "multiline"], input=pem, capture_output=True, text=True, check=True).stdout
    return out.split("commonName")[1].split("=")[1].split()[0]


class Talk:
    def __init__(self, server):
        self.server, self.kept, self.accounts = server, {}, ACCOUNTS


# --- policies ---

V = ssl.TLSVersion
POLICIES = [    # profile, version offered, ciphers, what is agreed on
    ("intermediate", V.TLSv1, None, None),
    ("intermediate", V.TLSv1_1, None, None),
    ("intermediate", V.TLSv1_2, None, "TLSv1.2"),
    ("intermediate", V.TLSv1_3, None, "TLSv1.3"),
    ("intermediate", V.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256", None),
    ("intermediate", V.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", "TLSv1.2"),
    ("modern", V.TLSv1_2, None, None),
    ("modern", V.TLSv1_3, None, "TLSv1.3"),
    ("old", V.TLSv1, None, "TLSv1"),
    ("old", V.TLSv1_2, "ECDHE-ECDSA-AES128-SHA256", "TLSv1.2"),
    ("old", V.TLSv1_3, None, "TLSv1.3"),
    ("old", V.TLSv1_2, "aNULL:eNULL:RC4:3DES", None),
]


@test("tls_profile: versions and ciphers")
def policies():
    for profile in ("intermediate", "modern", "old"):
        with Server(config='tls_profile = "%s"' % profile) as server:
            for name, version, ciphers, want in POLICIES:
                if name == profile:
                    for way, connect in WAYS.items():
                        got = agreed(connect, server, context(version, ciphers=ciphers))
                        assert got == want, "%s, %s: %s with %s gives %s, not %s" % (profile, way, version.name, ciphers, got, want)


@test("a profile of one host alone")
def policy_of_a_host():
    with Server(hosts='VirtualHost "localhost"\nVirtualHost "verona.example"\n  tls_profile = "modern"\n') as server:
        connect = lambda name, low: lambda s, c: starttls(s, c, name)
        equal(agreed(connect("localhost", None), server, context(V.TLSv1_2)), "TLSv1.2")
        equal(agreed(connect("verona.example", None), server, context(V.TLSv1_2)), None)
        equal(agreed(connect("verona.example", None), server, context(V.TLSv1_3)), "TLSv1.3")


@test("ssl = { protocol, ciphers } as Prosody's files have it")
def prosody_style():
    with Server(config='ssl = { protocol = "tlsv1_3" }') as server:
        for connect in WAYS.values():
            equal(agreed(connect, server, context(V.TLSv1_2)), None)
            equal(agreed(connect, server, context(V.TLSv1_3)), "TLSv1.3")


# --- which certificate ---

@test("a certificate for each host, by SNI and by the stream header")
def names():
    issue("verona", "DNS:verona.example")
    issue("wild", "DNS:*.mantua.example")
    server = Server(hosts='VirtualHost "localhost"\nVirtualHost "verona.example"\nVirtualHost "chat.mantua.example"\n')
    install(server, "verona", "verona.example")
    install(server, "wild", "some-wildcard")
    with server:
        for host, cn in (("localhost", "localhost"), ("verona.example", "verona"), ("chat.mantua.example", "wild")):
            with direct(server, name=host) as s:
                equal(common_name(s), cn)
            with starttls(server, name=host) as s:
                equal(common_name(s), cn)
        with direct(server, name="nowhere.example") as s:      # no reason to hang up: the client will judge
            equal(common_name(s), "localhost")
        with direct(server, name=None) as s:
            equal(common_name(s), "localhost")


@test("XEP-0368 §2: ALPN: ours, none, or another's")
def alpn():
    with Server() as server:
        with direct(server, context(alpn=["h2", "xmpp-client"])) as s:
            equal(s.selected_alpn_protocol(), "xmpp-client")
        with direct(server) as s:
            equal(s.selected_alpn_protocol(), None)
        try:
            direct(server, context(alpn=["xmpp-server", "http/1.1"])).close()
            raise AssertionError("a client of another protocol was let in")
        except ssl.SSLError as e:
            assert "NO_APPLICATION_PROTOCOL" in str(e).upper().replace(" ", "_"), e


# --- new certificates ---

@test("new certificates by coupletctl reload: who is here stays, who comes sees the new one")
def renewal():
    issue("renewed", "DNS:localhost")
    with Server(accounts=ACCOUNTS) as server:
        romeo, juliet = Client("romeo", Talk(server)), Client("juliet", Talk(server))
        romeo.login("romeo", "orchard")
        old = direct(server)
        equal(common_name(old), "localhost")
        pending = socket.create_connection(("127.0.0.1", server.port), DEADLINE)      # in the middle of STARTTLS
        pending.sendall(HEADER.encode() + b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        got = b""
        while b"<proceed" not in got:
            got += pending.recv(4096)
        install(server, "renewed", "localhost")
        code, out = server.ctl("reload")
        equal((code, "read anew" in out), (0, True))
        for connect in WAYS.values():
            with connect(server) as s:
                equal(common_name(s), "renewed")
        with context().wrap_socket(pending) as s:              # has the certificate it was promised
            equal(common_name(s), "localhost")
        old.sendall(HEADER.encode())
        assert b"stream:stream" in old.recv(4096)
        old.close()
        juliet.login("juliet", "balcony")
        juliet.send("<message to='romeo@localhost/orchard' id='m'><body>still here?</body></message>")
        romeo.expect("<message id='m'><body>still here?</body></message>")
        romeo.leave()
        juliet.leave()


@test("a broken certificate: the reload says so, and the one in use stays in use")
def broken():
    with Server(accounts=ACCOUNTS) as server:
        (server.dir / "certs/localhost.crt").write_text("-----BEGIN CERTIFICATE-----\nrose\n-----END CERTIFICATE-----\n")
        server.ctl("reload")
        assert "localhost.crt" in server.log(), server.log()[-2000:]
        for way, connect in WAYS.items():
            with connect(server) as s:
                equal(common_name(s), "localhost")


# --- certificates of clients ---

def external(server, certificate, authzid="=", way=direct):
    """What comes of SASL EXTERNAL with this certificate: the JID bound, a failure's condition, or 'not offered'."""
    c = Client("romeo", Talk(server))
    c.sock = way(server, context(client=certificate))
    c.reader = Reader()
    features = c.open_stream()
    offered = [m.text() for f in features.elements() if f.name == "mechanisms" for m in f.elements()]
    try:
        if "EXTERNAL" not in offered:
            return "not offered"
        equal(offered[0], "EXTERNAL")
        c.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>%s</auth>" % authzid)
        kind, answer = c.next()
        if answer.name == "failure":
            return answer.elements()[0].name
        c.open_stream()
        c.send("<iq type='set' id='1'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>card</resource></bind></iq>")
        return c.next()[1].elements()[0].elements()[0].text()
    finally:
        c.leave(politely=False)


def b64(text):
    return base64.b64encode(text.encode()).decode()


@test("XEP-0178: clients log in with a certificate (SASL EXTERNAL)")
def certificates():
    new_ca("ca")
    new_ca("stranger")
    issue("romeo", xmpp_addr("romeo@localhost"), "ca")
    issue("two", xmpp_addr("romeo@localhost", "juliet@localhost"), "ca")
    issue("nobody", xmpp_addr("mercutio@localhost"), "ca")
    issue("elsewhere", xmpp_addr("romeo@verona.example"), "ca")
    issue("web", "DNS:localhost", "ca")
    issue("forged", xmpp_addr("romeo@localhost"), "stranger")
    rows = [
        ("romeo", "=", "romeo@localhost/card"),
        ("romeo", b64("romeo@localhost"), "romeo@localhost/card"),
        ("romeo", b64("juliet@localhost"), "invalid-authzid"),
        ("two", b64("juliet@localhost"), "juliet@localhost/card"),
        ("two", "=", "invalid-authzid"),
        ("nobody", "=", "not-authorized"),
        ("elsewhere", "=", "not offered"),
        ("web", "=", "not offered"),
        ("forged", "=", "not offered"),
        (None, "=", "not offered"),
    ]
    config = 'client_certificate_auth = true\nssl = { cafile = "%s" }\n' % (TMP / "ca.pem")
    system = {"SSL_CERT_FILE": str(TMP / "stranger.pem"), "SSL_CERT_DIR": str(TMP)}        # for servers, beside ours, not for clients
    with Server(accounts=ACCOUNTS, config=config, env=system) as server:
        for certificate, authzid, want in rows:
            for way, connect in WAYS.items():
                got = external(server, certificate, authzid, connect)
                assert got == want, "%s with authzid %s by %s: %s, not %s" % (certificate, authzid, way, got, want)


@test("certificates are asked for only where they count")
def not_asked():
    hosts = 'VirtualHost "localhost"\nVirtualHost "verona.example"\n  client_certificate_auth = true\n  ssl = { cafile = "%s" }\n' % (TMP / "ca.pem")
    with Server(accounts=ACCOUNTS, hosts=hosts) as server:
        for connect in WAYS.values():
            equal(external(server, "romeo", way=connect), "not offered")


try:
    failed = done()
finally:
    shutil.rmtree(TMP, ignore_errors=True)
sys.exit(failed != 0)
