# SPDX-License-Identifier: MIT
"""federation.py - a small internet on one machine: DNS (nsd), a certificate authority, and servers that find each other.

    lab = Lab()                                        # zone "lab." on 127.0.0.1
    verona = lab.couplet("verona.lab", accounts={"romeo": "secret"}, config="…")
    mantua = lab.prosody("mantua.lab", accounts={"juliet": "secret"})
    lab.start()                                        # DNS first, then the servers
    lab.zone["verona.lab"] = [("127.0.0.1", port)]     # SRV targets, in order; lab.publish() makes a change known
    Lab(signed=True)                                   # DNSSEC: "lab." is signed, "open." is not, "forged." with a wrong key
    with lab: …                                        # stops everything and raises if something ended badly

raw = Raw.connect(port) speaks to a server by hand: raw.send(text), raw.expect(regex), raw.starttls(lab, name).
"""
import base64
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time

from server import DEADLINE, SOURCE, Server, free_port

TEMPLATE = """
run_as_root = true
data_path = "{dir}/data"
certificates = "{dir}/none"
plugin_paths = {{ "{source}/tests/helpers/plugins" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
c2s_direct_tls_ports = {{ {tls_port} }}
log = {{ {{ levels = {{ min = "debug" }}, to = "file", filename = "{dir}/couplet.log" }} }}
test_accounts = {{ {accounts} }}
"""

DNS = """dns = { servers = { "127.0.0.1@%d" }, trust_anchor = %s,
  options = { ["do-not-query-localhost:"] = "no", ["cache-max-ttl:"] = "0", ["infra-host-ttl:"] = "0" } }
"""

PROSODY = """
run_as_root = true
pidfile = "{dir}/prosody.pid"
data_path = "{dir}/data"
certificates = "{dir}/certs"
plugin_paths = {{ }}
interfaces = {{ "127.0.0.1" }}
local_interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
s2s_ports = {{ {s2s} }}
s2s_direct_tls_ports = {{ {s2s_tls} }}
http_ports = {{ }}
https_ports = {{ }}
legacy_ssl_ports = {{ }}
modules_enabled = {{ "roster", "saslauth", "tls", "dialback", "disco", "ping", "version" }}
authentication = "internal_plain"
storage = "internal"
log = {{ debug = "{dir}/peer.log" }}
unbound = {{ resolvconf = false, hoststxt = false, {trust} forward = {{ "127.0.0.1@{dns}" }},
  options = {{ ["do-not-query-localhost:"] = "no", ["cache-max-ttl:"] = "0" }} }}
use_ipv6 = false
"""


def run(*argv):
    subprocess.run(argv, check=True, capture_output=True)


class Authority:
    """Makes certificates; what is wrong with one is asked for by name."""

    _made = {}                       # (certificate, key) for each name and kind: made once for all labs of a process

    def __init__(self, directory):
        self.dir = pathlib.Path(directory)
        self.ca = self._once("ca", self._root)[0]
        self._once("other", self._root)

    def _once(self, base, make, *argv):
        """-> (certificate, key), files in this directory."""
        files = self.dir / (base + ".crt"), self.dir / (base + ".key")
        if base not in self._made:
            make(*files, *argv)
            self._made[base] = [f.read_bytes() for f in files]
        elif not files[0].exists():
            for f, content in zip(files, self._made[base]):
                f.write_bytes(content)
                f.chmod(0o600)
        return files

    def _root(self, cert, key):
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
            "-subj", "/CN=%s" % cert.stem, "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", str(key), "-out", str(cert))

    NAMES = {"wrong": "DNS:nobody.lab", "cn": None, "wildcard": "DNS:*.{parent}", "partial": "DNS:*{rest}",
             "srvname": "otherName:1.3.6.1.5.5.7.8.7;IA5STRING:_xmpp-server.{name}",
             "srvclient": "otherName:1.3.6.1.5.5.7.8.7;IA5STRING:_xmpp-client.{name}",
             "xmppaddr": "otherName:1.3.6.1.5.5.7.8.5;UTF8:{name}", "target": "DNS:target.lab", "target2": "DNS:target2.lab"}
    USES = {"servers": "serverAuth", "clients": "clientAuth", "mail": "emailProtection", "anyuse": None}
    ISSUERS = {"strange": "other", "chain": "middle", "chainrevoked": "badmiddle"}

    def issue(self, name, kind="good"):
        """-> (certificate, key). kind: good, expired, selfsigned, strange (an authority nobody trusts), weak (a short key), revoked,
        chain (by an intermediate authority), chainrevoked (that one is revoked), middle (is such an authority), and as NAMES (cn: no
        subjectAltName) and USES say"""
        return self._once("%s-%s" % (name, kind), self._issue, name, kind)

    def _issue(self, cert, key, name, kind):
        base = cert.parent / cert.name.removesuffix(".crt")
        san = self.NAMES.get(kind, "DNS:{name}")
        san = san and "subjectAltName=" + san.format(name=name, parent=name.partition(".")[2], rest=name[1:])
        use = self.USES.get(kind, "serverAuth,clientAuth")
        ext = self.dir / (base.name + ".ext")
        ext.write_text("basicConstraints=CA:FALSE\n%s\n%s\n" % (use and "extendedKeyUsage=" + use or "", san or ""))
        if kind == "middle":
            ext.write_text("basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,cRLSign\n")
        algorithm = ["rsa:1024"] if kind == "weak" else ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        request = ["openssl", "req", "-newkey", *algorithm, "-nodes", "-subj", "/CN=" + name, "-keyout", str(key)]
        if kind == "selfsigned":
            run(*request, "-x509", "-days", "30", "-addext", san, "-out", str(cert))
            return
        run(*request, "-out", str(base) + ".csr")
        issuer = self.ISSUERS.get(kind, "ca")
        if "middle" in issuer:
            self._once(issuer, self._issue, issuer, "middle")
        if kind != "expired":
            run("openssl", "x509", "-req", "-in", str(base) + ".csr", "-CA", str(self.dir / (issuer + ".crt")), "-CAkey",
                str(self.dir / (issuer + ".key")), "-CAcreateserial", "-days", "30", "-extfile", str(ext), "-out", str(cert))
            if "middle" in issuer:
                cert.write_text(cert.read_text() + (self.dir / (issuer + ".crt")).read_text())
            return
        self._openssl_ca("-in", str(base) + ".csr", "-startdate", "20200101000000Z", "-enddate", "20200201000000Z", "-extfile", str(ext),
                         "-notext", "-out", str(cert))

    def revoke(self, *certificates):
        """-> file with the list of what the authority has revoked: these."""
        for certificate in certificates:
            self._openssl_ca("-revoke", str(certificate))
        self._openssl_ca("-gencrl", "-crldays", "30", "-out", str(self.dir / "revoked.pem"))
        return self.dir / "revoked.pem"

    def _openssl_ca(self, *argv):
        state = self.dir / "state"                  # only `openssl ca` can make a certificate of the past
        state.mkdir(exist_ok=True)
        if not (state / "index.txt").exists():
            (state / "index.txt").touch()
            (state / "serial").write_text("77\n")
            (state / "crlnumber").write_text("01\n")
        (state / "ca.cnf").write_text("[ca]\ndefault_ca=d\n[d]\ndatabase=%s/index.txt\nserial=%s/serial\nnew_certs_dir=%s\ncrlnumber=%s/crlnumber\n"
                                      "default_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n" % (state, state, state, state))
        run("openssl", "ca", "-batch", "-config", str(state / "ca.cnf"), "-cert", str(self.dir / "ca.crt"), "-keyfile",
            str(self.dir / "ca.key"), *argv)


def addresses(accounts, hosts):
    """Names without a domain are of the first host."""
    return {name if "@" in name else "%s@%s" % (name, hosts[0]): word for name, word in (accounts or {}).items()}


class Couplet(Server):
    def __init__(self, lab, hosts, accounts, kind, config, modules, of_host):
        self.s2s, self.s2s_tls, self.hosts = free_port(), free_port(), hosts
        text = ""
        for host in hosts:
            cert, key = lab.authority.issue(host, kind(host))
            text += 'VirtualHost "%s"\ncertificate = "%s"\nkey = "%s"\n%s' % (host, cert, key, of_host(host))
        config = "s2s_ports = { %d }\ns2s_direct_tls_ports = { %d }\nssl = { cafile = '%s' }\n%s%s" % (
            self.s2s, self.s2s_tls, lab.authority.ca, DNS % (lab.dns_port, '"%s"' % lab.anchors if lab.signed else "false"), config)
        super().__init__(config=config, accounts=addresses(accounts, hosts), modules=["dialback", *modules], hosts=text,
                         template=TEMPLATE)


class Peer:
    """A server of other people in this lab: dir, process, out (its standard output) and peer.log are its own."""

    def wait_for(self, condition):
        end = time.monotonic() + DEADLINE
        while not condition():
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError("it does not come up\n" + self.output())
            time.sleep(0.05)

    def log(self):
        return "".join(f.read_text(errors="replace") for f in (self.dir / "out", self.dir / "peer.log") if f.exists())

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.kill()
        self.process = None

    def output(self):
        return self.log()[-8000:]


class Prosody(Peer):
    """Debian's Prosody."""

    def __init__(self, lab, hosts, accounts, kind, config, modules, of_host):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="prosody-test-"))
        self.port, self.s2s, self.s2s_tls, self.hosts, self.process = free_port(), free_port(), free_port(), hosts, None
        text = PROSODY.format(dir=self.dir, port=self.port, s2s=self.s2s, s2s_tls=self.s2s_tls, dns=lab.dns_port,
                              trust='trustfile = "%s",' % lab.anchors if lab.signed else "")
        text = text.replace('"version" }', ", ".join('"%s"' % m for m in ("version", *modules)) + " }")
        text += "ssl = { cafile = '%s' }\n%s\n" % (lab.authority.ca, config)
        for host in hosts:
            cert, key = lab.authority.issue(host, kind(host))
            (self.dir / "certs").mkdir(exist_ok=True)
            shutil.copy(cert, self.dir / "certs" / (host + ".crt"))
            shutil.copy(key, self.dir / "certs" / (host + ".key"))
            text += 'VirtualHost "%s"\n%s' % (host, of_host(host))
        for address, word in addresses(accounts, hosts).items():
            name, host = address.split("@")
            where = self.dir / "data" / host.replace("-", "%2d").replace(".", "%2e") / "accounts"
            where.mkdir(parents=True, exist_ok=True)
            (where / (name + ".dat")).write_text('return { ["password"] = "%s" };\n' % word)
        (self.dir / "prosody.cfg.lua").write_text(text)

    def start(self):
        self.out = open(self.dir / "out", "ab")
        self.process = subprocess.Popen(["prosody", "-F", "--config", str(self.dir / "prosody.cfg.lua")], stdin=subprocess.DEVNULL,
                                        stdout=self.out, stderr=self.out, cwd=self.dir)
        wait_for_port(self.port, self)
        wait_for_port(self.s2s, self)
        return self


def wait_for_port(port, server=None):
    end = time.monotonic() + DEADLINE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > end or server and server.process.poll() is not None:
                raise RuntimeError("port %d does not open\n%s" % (port, server.log() if server else ""))
            time.sleep(0.05)


class Lab:
    def __init__(self, signed=False):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="couplet-lab-"))
        self.signed, self.zones, self.keys, self.anchors = signed, ("lab",), {}, self.dir / "anchors"
        if signed:
            self.zones = ("lab", "open", "forged")
            self.keys = {name: self._key(name) for name in ("lab", "forged")}
            self.anchors.write_text("".join((self.dir / (key + ".key")).read_text() for key in (self.keys["lab"], self._key("forged"))))
        self.authority = Authority(self.dir)
        self.dns_port = free_port()
        self.zone, self.direct, self.extra = {}, {}, []     # SRV targets of _xmpp-server and _xmpps-server; further lines
        self.serial = 0
        self.servers, self.nsd, self.silent = [], None, None

    def couplet(self, *hosts, **more):
        """more: accounts = { name or address: password }, kind = of the certificates, config = text, modules = names, of_host =
        text for each host, publish = is it in the DNS? kind and of_host may be functions of the host."""
        return self._add(Couplet, hosts, **more)

    def prosody(self, *hosts, **more):
        return self._add(Prosody, hosts, **more)

    def ejabberd(self, *hosts, **more):
        from ejabberd import Ejabberd
        return self._add(Ejabberd, hosts, **more)

    def _add(self, maker, hosts, accounts=None, kind="good", config="", modules=(), of_host="", publish=True):
        kind_of, text_of = (f if callable(f) else lambda host, f=f: f for f in (kind, of_host))
        server = maker(self, hosts, accounts, kind_of, config, modules, text_of)
        self.servers.append(server)
        for host in hosts if publish else ():
            self.zone[host] = [("127.0.0.1", server.s2s)]
        return server

    def _key(self, zone):
        done = subprocess.run(["ldns-keygen", "-a", "ECDSAP256SHA256", "-k", zone], check=True, capture_output=True, cwd=self.dir)
        return done.stdout.decode().strip()

    def zone_text(self, zone="lab"):
        lines = ["$ORIGIN %s." % zone, "$TTL 1", "@ IN SOA ns hostmaster %d 3600 600 86400 1" % self.serial, "@ IN NS ns", "ns IN A 127.0.0.1"]
        n = 0
        for service, table in (("_xmpp-server", self.zone), ("_xmpps-server", self.direct)):
            for domain, targets in table.items():
                if domain.rpartition(".")[2] != zone:
                    continue
                for priority, (address, port) in enumerate(targets):
                    n += 1
                    if address.endswith("."):               # a name, not an address
                        lines.append("%s._tcp.%s. IN SRV %d 10 %d %s" % (service, domain, priority, port, address))
                    else:
                        lines += ["%s._tcp.%s. IN SRV %d 10 %d h%d" % (service, domain, priority, port, n),
                                  "h%d IN %s %s" % (n, "AAAA" if ":" in address else "A", address)]
        def zone_of(line):
            last = line.split()[0].rstrip(".").rpartition(".")[2]
            return last if last in self.zones else "lab"
        lines += [line for line in self.extra if zone_of(line) == zone]
        return "\n".join(lines) + "\n"

    def publish(self):
        self.serial += 1
        for zone in self.zones:
            file = self.dir / (zone + ".zone")
            file.write_text(self.zone_text(zone))
            if zone in self.keys:
                subprocess.run(["ldns-signzone", "-f", str(file) + ".new", str(file), self.keys[zone]], check=True, capture_output=True,
                               cwd=self.dir)
                os.replace(str(file) + ".new", file)
        if self.nsd:
            self.nsd.send_signal(1)         # SIGHUP: read the zone anew
            self._wait_for_dns()

    def _wait_for_dns(self):
        """Asks until the zone answers with the newest serial number."""
        question = b"\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03lab\x00\x00\x06\x00\x01"
        end = time.monotonic() + DEADLINE
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(0.2)
            while True:
                try:
                    s.sendto(question, ("127.0.0.1", self.dns_port))
                    answer = s.recv(4096)
                    if self.serial.to_bytes(4, "big") in answer[12:]:
                        return
                except OSError:
                    pass
                if time.monotonic() > end or self.nsd.poll() is not None:
                    raise RuntimeError("DNS does not start:\n" + (self.dir / "nsd.out").read_text(errors="replace"))
                time.sleep(0.02)

    def start_dns(self):
        (self.dir / "nsd.conf").write_text("""server:
  ip-address: 127.0.0.1@%d
  username: ""
  chroot: ""
  zonesdir: "%s"
  database: ""
  pidfile: "%s/nsd.pid"
  xfrdfile: "%s/xfrd.state"
  zonelistfile: "%s/zone.list"
  rrl-ratelimit: 0
  rrl-size: 100
  xfrd-tcp-max: 4
  server-count: 1
remote-control:
  control-enable: no
""" % (self.dns_port, *[self.dir] * 4) + "".join('zone:\n  name: "%s."\n  zonefile: "%s.zone"\n' % (z, z) for z in self.zones))
        with open(self.dir / "nsd.out", "ab") as out:
            self.nsd = subprocess.Popen([shutil.which("nsd") or "/usr/sbin/nsd", "-d", "-c", str(self.dir / "nsd.conf")], stdin=subprocess.DEVNULL,
                                        stdout=out, stderr=out)
        self._wait_for_dns()

    def silence_dns(self):
        """From now on questions are taken and never answered."""
        self.stop_dns()
        self.silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.silent.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.silent.bind(("127.0.0.1", self.dns_port))

    def stop_dns(self):
        if self.silent:
            self.silent.close()
            self.silent = None
        if self.nsd:
            self.nsd.terminate()
            self.nsd.wait()
            self.nsd = None

    def start(self):
        self.publish()
        self.start_dns()
        for server in self.servers:
            server.start()
        return self

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.__exit__(True, None, None)
            raise

    def __exit__(self, kind, value, trace):
        problem = None
        for server in self.servers:
            try:
                server.kill() if kind else server.stop()
            except Exception as e:
                problem = e
            if not os.environ.get("COUPLET_KEEP"):
                shutil.rmtree(server.dir, ignore_errors=True)
        self.stop_dns()
        if not os.environ.get("COUPLET_KEEP"):
            shutil.rmtree(self.dir, ignore_errors=True)
        if problem and not kind:
            raise problem


HEADER = ("<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' "
          "xmlns:db='jabber:server:dialback'%s>")


def header(**attributes):
    """attribute id_, from_ …; version='1.0' unless version=None"""
    attributes.setdefault("version", "1.0")
    return HEADER % "".join(" %s='%s'" % (name.rstrip("_"), value) for name, value in attributes.items() if value is not None)


class Raw:
    """One side of a stream between servers, by hand."""

    def __init__(self, sock):
        self.sock, self.text, self.stream_id = sock, "", None
        sock.settimeout(DEADLINE)

    @classmethod
    def connect(cls, port, address="127.0.0.1", source="127.0.0.1"):
        return cls(socket.create_connection((address, port), DEADLINE, (source, 0) if "." in address else None))

    def send(self, text):
        self.sock.sendall(text.encode())
        return self

    def expect(self, pattern):
        """Reads until the pattern is there; what was before it is forgotten."""
        end = time.monotonic() + DEADLINE
        while True:
            found = re.search(pattern, self.text, re.S)
            if found:
                self.text = self.text[found.end():]
                return found
            if time.monotonic() > end:
                raise AssertionError("no %r in %r" % (pattern, self.text))
            try:
                data = self.sock.recv(65536)
            except (TimeoutError, ssl.SSLError, ConnectionError) as e:
                raise AssertionError("no %r in %r (%s)" % (pattern, self.text, e))
            if not data:
                raise AssertionError("no %r in %r before the end" % (pattern, self.text))
            self.text += data.decode()

    def ended(self):
        """Reads to the end of the connection -> what came."""
        try:
            while True:
                data = self.sock.recv(65536)
                if not data:
                    break
                self.text += data.decode()
        except (ConnectionError, ssl.SSLError):
            pass
        return self.text

    def open(self, from_, to, **more):
        self.send(header(from_=from_, to=to, **more))
        self.stream_id = self.expect(r"<stream:stream[^>]* id='([^']+)'[^>]*>").group(1)
        return self

    def secure(self, lab, certificate=None, server=False, sni=None):
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
        ctx.set_ciphers("DEFAULT:@SECLEVEL=0")               # what is weak is for the other side to refuse
        if certificate:
            ctx.load_cert_chain(*map(str, certificate))
        self.sock = ctx.wrap_socket(self.sock, server_side=server, server_hostname=sni)
        self.sock.settimeout(DEADLINE)
        self.text = ""
        return self

    def opened_tls(self, lab, from_, to, certificate=None):
        """Header, STARTTLS with that client certificate, header again; the features have come."""
        self.open(from_, to).expect("</stream:features>")
        self.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").expect("<proceed[^>]*/>")
        self.secure(lab, certificate).open(from_, to)
        self.features = self.expect("<stream:features>.*?</stream:features>|<stream:features/>").group(0)
        return self

    def external(self, name):
        return self.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>%s</auth>" %
                         base64.b64encode(name.encode()).decode())

    def close(self):
        self.sock.close()


class User(Raw):
    """A user of a server, by hand: just enough to send stanzas to elsewhere."""

    @classmethod
    def login(cls, lab, server, name="romeo", word="secret", host=None):
        u = cls.connect(server.port, getattr(server, "address", "127.0.0.1"))
        opening = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='%s' version='1.0'>" % (host or server.hosts[0])
        u.send(opening).expect("</stream:features>")
        u.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").expect("<proceed[^>]*/>")
        u.secure(lab).send(opening).expect("</stream:features>")
        plain = base64.b64encode(("\0%s\0%s" % (name, word)).encode()).decode()
        u.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%s</auth>" % plain).expect("<success[^>]*/>")
        u.send(opening).expect("</stream:features>")
        u.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>").expect("<iq[^>]*type='result'.*?</iq>")
        return u

    def ping(self, to):
        return self.send("<iq type='get' id='%s' to='%s'><ping xmlns='urn:xmpp:ping'/></iq>" % (to, to))

    def pong(self, to):
        """-> the condition of the error to a ping, or None."""
        found = self.expect("<iq[^>]* id='%s'[^>]*?(/>|>.*?</iq>)" % re.escape(to)).group(0)
        error = re.search("<error[^>]*><([^ /]+)", found)
        return error and error.group(1)


class RawServer:
    """Somebody who listens where a server is expected."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(DEADLINE)
        self.port = self.listener.getsockname()[1]

    def accept(self):
        return Raw(self.listener.accept()[0])

    def accept_tls(self, lab, name, certificate, features="", direct=False):
        """-> Raw, after the peer's second header; our features have been sent."""
        raw = self.accept()
        to = lambda r: r.expect("<stream:stream[^>]*>").group(0)
        if direct:
            raw.secure(lab, certificate, server=True)
            to(raw)
            return raw.send(header(from_=name, id="two") + "<stream:features>%s</stream:features>" % features)
        to(raw)
        raw.send(header(from_=name, id="one") + "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>")
        raw.expect("<starttls[^>]*/>")
        raw.send("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        raw.secure(lab, certificate, server=True)
        to(raw)
        raw.send(header(from_=name, id="two") + "<stream:features>%s</stream:features>" % features)
        return raw

    def close(self):
        self.listener.close()
