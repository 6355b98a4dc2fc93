# SPDX-License-Identifier: MIT
"""talk.py - runs conversations (*.talk) with a real server. A talk is a page a person can read:

    # a comment
    account romeo secret                       an account on localhost, made before the server starts; romeo@verona.example: there
    config c2s_timeout = 5                     a line of configuration
    hosts VirtualHost "verona.example"         a line behind VirtualHost "localhost"
    module carbons                             an extra module

    == RFC 6120 §5.4.2: TLS is required         a conversation starts; it is one test
    romeo connects                             TCP;  `romeo connects with tls`: direct TLS
    romeo sends <stream:stream …>              raw text; lines indented by four blanks or more go on with it
    romeo receives <stream:stream from='localhost' id='*'>
    romeo receives <stream:features/>          the next thing received. Attributes named must match ('*': any text, '!':
                                               absent, $name: kept, and the same later), children and text named must
                                               be there; what is not named is not looked at
    romeo receives exactly <iq …/>             … nothing else may be in it
    romeo receives in any order                the following indented lines hold one pattern each
    romeo receives </stream:stream>
    romeo receives nothing                     all that went before has been handled, and nothing came for romeo
    romeo receives white space                 blanks between stanzas, nothing else
    romeo starts tls                           the handshake;  `romeo fails tls`: one that no server understands
    romeo starts compression                   both ways from here on (zlib)
    romeo opens a stream                       header and features, unchecked;  `opens a stream to HOST`
    romeo authenticates as romeo               connects, STARTTLS, PLAIN, a new stream; no resource yet
    romeo logs in as romeo/orchard             … and binds; `logs in` alone: resource of the server's choice; romeo@HOST/orchard too
    romeo is online as romeo/orchard           … and initial presence, its own copy received
    romeo is disconnected                      the server closes TCP
    romeo closes TCP | romeo resets TCP | romeo half-closes TCP
    server log has TEXT
    server stops                               SIGTERM; to be the last conversation of its file

In sent text and patterns $name stands for what was kept, ${x*5000} for x 5000 times. Clients are named by their user name.
"""
import base64
import re
import socket
import ssl
import struct
import signal
import sys
import pathlib
import xml.parsers.expat
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from server import Server, DEADLINE  # noqa: E402

STREAMS = "http://etherx.jabber.org/streams"
HEADER = ("<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' "
          "xmlns:stream='http://etherx.jabber.org/streams'>")


class Node:
    def __init__(self, ns, name, attrs):
        self.ns, self.name, self.attrs, self.children = ns, name, attrs, []

    def text(self):
        return "".join(c for c in self.children if isinstance(c, str))

    def elements(self):
        return [c for c in self.children if isinstance(c, Node)]

    def __str__(self):
        inner = "".join(map(str, self.children))
        attrs = "".join(" %s='%s'" % i for i in self.attrs.items())
        return "<{%s}%s%s>%s</>" % (self.ns, self.name, attrs, inner)


class Reader:
    """Eats a stream; gives ('header', Node), ('element', Node), ('end',)."""

    def __init__(self, fragment=False):
        self.p = xml.parsers.expat.ParserCreate(namespace_separator=" ")
        self.p.StartElementHandler, self.p.EndElementHandler = self.start, self.end
        self.p.CharacterDataHandler = self.chars
        self.stack, self.events, self.fragment = [], [], fragment
        self.half = b""                 # a tag that is not all there

    def feed(self, data):
        """Whole tags only: Debian's expat puts off a half one until as much again has come, which may be never."""
        data = self.half + data
        whole = data.rfind(b">") + 1
        self.half = data[whole:]
        if whole:
            self.p.Parse(data[:whole], False)

    def start(self, name, attrs):
        ns, _, local = name.rpartition(" ")
        node = Node(ns, local, attrs)
        if self.stack:
            self.stack[-1].children.append(node)
        self.stack.append(node)
        if len(self.stack) == 1:
            self.events.append(("header", node))

    def end(self, _):
        node = self.stack.pop()
        if len(self.stack) == 1:
            self.events.append(("element", node))
            self.stack[0].children.clear()
        elif not self.stack:
            self.events.append(("end",))

    def chars(self, text):
        if len(self.stack) > 1:
            c = self.stack[-1].children
            if c and isinstance(c[-1], str):
                c[-1] += text
            else:
                c.append(text)


def parse_pattern(text):
    """'header', Node | 'element', Node | ('end',)"""
    if text.startswith("</stream:stream"):
        return ("end",)
    header = re.match(r"(?:<\?xml[^>]*>)?\s*<stream:stream", text)
    if header and not text.rstrip().endswith("/>"):
        text = text.rstrip()[:-1] + "/>"
    r = Reader()
    r.p.Parse("<w xmlns='jabber:client' xmlns:stream='%s'>%s</w>" % (STREAMS, text), True)
    node = [e for e in r.events if e[0] == "element"][0][1]
    return ("header" if header else "element", node)


class Mismatch(Exception):
    pass


def match(pattern, got, kept, exactly, where=""):
    where += "/" + pattern.name
    if (pattern.ns, pattern.name) != (got.ns, got.name):
        raise Mismatch("%s: {%s}%s is not {%s}%s" % (where, got.ns, got.name, pattern.ns, pattern.name))
    for key, want in pattern.attrs.items():
        match_text(want, got.attrs.get(key), kept, "%s@%s" % (where, key))
    if exactly:
        extra = set(got.attrs) - set(pattern.attrs)
        if extra:
            raise Mismatch("%s: unexpected attributes %s" % (where, ", ".join(sorted(extra))))
        if len(got.elements()) != len(pattern.elements()):
            raise Mismatch("%s: %d children instead of %d" % (where, len(got.elements()), len(pattern.elements())))
    if pattern.text().strip():
        match_text(pattern.text(), got.text(), kept, where + "/text")
    rest = got.elements()
    for child in pattern.elements():
        problem = None
        for i, candidate in enumerate(rest):
            trial = dict(kept)
            try:
                match(child, candidate, trial, exactly, where)
            except Mismatch as e:
                problem = problem if problem and (candidate.ns, candidate.name) != (child.ns, child.name) else e
                continue
            kept.update(trial)
            del rest[i]
            break
        else:
            raise problem or Mismatch("%s: no child {%s}%s" % (where, child.ns, child.name))


def match_text(want, got, kept, where):
    if want == "!":
        if got is not None:
            raise Mismatch("%s: is there (%r)" % (where, got))
    elif got is None:
        raise Mismatch("%s: is absent" % where)
    elif want == "*":
        if not got:
            raise Mismatch("%s: is empty" % where)
    elif re.fullmatch(r"\$\w+", want):
        if kept.setdefault(want[1:], got) != got:
            raise Mismatch("%s: %r is not %r, kept as %s" % (where, got, kept[want[1:]], want))
    elif want != got:
        raise Mismatch("%s: %r is not %r" % (where, got, want))


class Deflated:
    """A socket whose bytes are compressed (XEP-0138): a sync flush behind each piece."""

    def __init__(self, sock):
        self.sock, self.out, self.into = sock, zlib.compressobj(), zlib.decompressobj()

    def sendall(self, data):
        self.sock.sendall(self.out.compress(data) + self.out.flush(zlib.Z_SYNC_FLUSH))

    def recv(self, size):
        while True:
            data = self.sock.recv(size)
            plain = self.into.decompress(data) if data else b""
            if plain or not data:
                return plain

    def __getattr__(self, name):
        return getattr(self.sock, name)


class Client:
    def __init__(self, name, talk):
        self.name, self.talk, self.sock, self.pings = name, talk, None, 0
        self.bound = False
        self.host = "localhost"
        self.queue = []

    def connect(self, tls=False):
        if self.sock:
            self.sock.close()
        server = self.talk.server
        self.sock = socket.create_connection(("127.0.0.1", server.tls_port if tls else server.port), DEADLINE)
        self.sock.settimeout(DEADLINE)
        self.bound, self.queue = False, []
        if tls:
            self.tls(alpn=["xmpp-client"])
        self.reader = Reader()

    def tls(self, alpn=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if alpn:
            context.set_alpn_protocols(alpn)
        self.sock = context.wrap_socket(self.sock, server_hostname="localhost")
        self.reader = Reader()

    def send(self, text):
        self.sock.sendall(text.encode("utf-8", "surrogateescape"))

    def next(self):
        while not self.queue:
            try:
                data = self.sock.recv(65536)
            except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
                data = b""
            except TimeoutError:
                raise Mismatch("%s: nothing came within %d s" % (self.name, DEADLINE))
            if not data:
                return ("eof",)
            try:
                self.reader.feed(data)
            except xml.parsers.expat.ExpatError as e:
                raise Mismatch("%s received broken XML (%s): %r" % (self.name, e, data[:500]))
            self.queue, self.reader.events = self.queue + self.reader.events, []
        return self.queue.pop(0)

    def answer(self, id):
        """The <iq/> with this id, past whatever else comes; None: the connection ended."""
        while True:
            got = self.next()
            if got[0] == "eof":
                return None
            if got[0] == "element" and got[1].name == "iq" and got[1].attrs.get("id") == id:
                return got[1]

    def expect(self, text, exactly=False):
        kind, *pattern = parse_pattern(text)
        got = self.next()
        if got[0] != kind:
            raise Mismatch("%s received %s, not %s" % (self.name, " ".join(map(str, got)), text))
        if pattern:
            try:
                match(pattern[0], got[1], self.talk.kept, exactly)
            except Mismatch as e:
                raise Mismatch("%s\n    received %s" % (e, got[1]))

    def expect_set(self, patterns):
        patterns = list(patterns)
        while patterns:
            got, problems = self.next(), []
            if got[0] != "element":
                raise Mismatch("%s received %s" % (self.name, " ".join(map(str, got))))
            for i, text in enumerate(patterns):
                trial = dict(self.talk.kept)
                try:
                    match(parse_pattern(text)[1], got[1], trial, False)
                except Mismatch as e:
                    problems.append(str(e))
                    continue
                self.talk.kept.update(trial)
                del patterns[i]
                break
            else:
                raise Mismatch("unexpected %s\n    %s" % (got[1], "\n    ".join(problems)))

    def white_space(self):
        data = b"" if self.queue else self.sock.recv(65536)
        if not data or data.strip():
            raise Mismatch("%s received %r, not white space" % (self.name, self.queue or data))
        self.reader.feed(data)

    def open_stream(self, host=None):
        self.reader = Reader()
        self.host = host or self.host
        self.send(HEADER.replace("localhost", self.host))
        for kind in ("header", "element"):
            got = self.next()
            if got[0] != kind:
                raise Mismatch("%s opened a stream and received %s" % (self.name, " ".join(map(str, got))))
        return got[1]

    def authenticate(self, address):
        """username or username@host"""
        username, _, host = address.partition("@")
        self.host = host or "localhost"
        self.connect()
        self.open_stream()
        self.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        self.expect("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        self.tls()
        self.open_stream()
        password = self.talk.accounts["%s@%s" % (username, self.host)]
        plain = base64.b64encode(("\0%s\0%s" % (username, password)).encode()).decode()
        self.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%s</auth>" % plain)
        self.expect("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>")
        return self.open_stream()

    def login(self, address, resource):
        self.authenticate(address)
        wish = "<resource>%s</resource>" % resource if resource else ""
        self.send("<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>%s</bind></iq>" % wish)
        self.expect("<iq type='result' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>*</jid></bind></iq>")
        self.bound = True

    def leave(self, politely=True):
        """Goes, and waits until the server has noticed: the next conversation is not to meet a ghost."""
        if not self.sock or self.sock.fileno() < 0:
            return
        try:
            if self.bound and politely:
                self.send("</stream:stream>")
            else:
                socket.socket.shutdown(self.raw(), socket.SHUT_WR)
            while self.sock.recv(65536):
                pass
        except (OSError, zlib.error):
            pass
        self.sock.close()
        self.bound = False

    def raw(self):
        return self.sock.sock if isinstance(self.sock, Deflated) else self.sock

    def sync(self):
        """Everything this client sent has been handled when the answer is back."""
        self.pings += 1
        id = "sync-%d" % self.pings
        self.send("<iq type='get' to='%s' id='%s'><ping xmlns='urn:xmpp:ping'/></iq>" % (self.host, id))
        seen = []
        while True:
            got = self.next()
            if got[0] != "element":
                raise Mismatch("%s received %s while waiting for an answer" % (self.name, " ".join(map(str, got))))
            if got[1].name == "iq" and got[1].attrs.get("id") == id:
                self.queue = seen + self.queue
                return
            seen.append(got)


class Talk:
    def __init__(self, path):
        self.path, self.accounts, self.config, self.hosts, self.modules = path, {}, "", 'VirtualHost "localhost"\n', []
        self.sections = []
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.startswith("    ") and self.sections and self.sections[-1][1]:
                self.sections[-1][1][-1][1].append(line.strip())
                continue
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            word, _, rest = line.partition(" ")
            if line.startswith("== "):
                self.sections.append((line[3:], []))
            elif self.sections:
                self.sections[-1][1].append([number, [line]])
            elif word == "account":
                name, password = rest.split()
                self.accounts[name if "@" in name else name + "@localhost"] = password
            elif word == "config":
                self.config += rest + "\n"
            elif word == "hosts":
                self.hosts += rest + "\n"
            elif word == "module":
                self.modules.append(rest)
            else:
                raise SystemExit("%s:%d: not understood: %s" % (path, number, line))

    def fill(self, text):
        text = re.sub(r"\$\{(.+?)\*(\d+)\}", lambda m: m.group(1) * int(m.group(2)), text)
        return re.sub(r"\$(\w+)", lambda m: self.kept.get(m.group(1), m.group(0)), text)

    def client(self, name):
        if name not in self.clients:
            self.clients[name] = Client(name, self)
        return self.clients[name]

    def step(self, lines):
        who, _, rest = lines[0].partition(" ")
        if lines[0] == "server stops":
            self.server.process.send_signal(signal.SIGTERM)
            return
        if who == "server":
            text = rest.removeprefix("log has ")
            if text not in self.server.log():
                raise Mismatch("the log has no line with %r:\n%s" % (text, self.server.log()[-2000:]))
            return
        c = self.client(who)
        verb, _, arg = rest.partition(" ")
        body = " ".join([arg] + lines[1:]).strip()
        if rest in ("connects", "connects with tls"):
            c.connect(rest.endswith("tls"))
        elif verb == "sends":
            if body.startswith(("<stream:stream", "<?xml")):
                c.reader = Reader()
            c.send(self.fill(body))
        elif rest == "receives in any order":
            c.expect_set(map(self.fill, lines[1:]))
        elif rest == "receives nothing":
            for other in self.clients.values():
                if other.bound:
                    other.sync()
            c.sync() if c.bound else None
            if c.queue:
                raise Mismatch("%s received %s" % (c.name, " ".join(map(str, c.queue[0]))))
        elif rest == "receives white space":
            c.white_space()
        elif verb == "receives":
            exactly = body.startswith("exactly ")
            c.expect(self.fill(body.removeprefix("exactly ")), exactly)
        elif rest == "starts tls":
            c.tls()
        elif rest == "fails tls":
            c.sock.sendall(b"\x16\x03\x01\x00\x05Hello")
            while c.sock.recv(4096):               # an alert perhaps
                pass
            c.reader = Reader()
        elif rest == "starts compression":
            c.sock, c.reader = Deflated(c.sock), Reader()
        elif rest.startswith("opens a stream"):
            c.open_stream(rest.partition(" to ")[2])
        elif verb == "authenticates":
            c.authenticate(arg.removeprefix("as "))
        elif verb == "logs" or rest.startswith("is online"):
            jid = rest.split(" as ")[1] if " as " in rest else who
            username, _, resource = jid.partition("/")
            c.login(username, resource)
            if verb == "is":
                c.send("<presence/>")
                c.expect("<presence from='*' type='!'/>")
        elif rest == "is disconnected":
            got = c.next()
            if got[0] != "eof":
                raise Mismatch("%s received %s, not the end of the connection" % (c.name, " ".join(map(str, got))))
            c.bound = False
        elif rest == "closes TCP":
            c.leave(politely=False)
        elif rest == "half-closes TCP":
            socket.socket.shutdown(c.raw(), socket.SHUT_WR)     # SSLSocket's own would take TLS off
            c.bound = False
        elif rest == "resets TCP":
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            c.sock.close()
            c.bound = False
        else:
            raise SystemExit("%s: not understood: %s" % (self.path, lines[0]))

    def run(self):
        passed = failed = 0
        with Server(config=self.config, accounts=self.accounts, modules=self.modules, hosts=self.hosts) as self.server:
            for title, steps in self.sections:
                self.clients, self.kept = {}, {}
                try:
                    for number, lines in steps:
                        try:
                            self.step(lines)
                        except (Mismatch, OSError) as e:
                            raise Mismatch("%s:%d: %s\n    %s" % (self.path, number, lines[0], e))
                    passed += 1
                    print("ok", title)
                except Mismatch as e:
                    failed += 1
                    print("not ok", title)
                    print("    %s" % e)
                for c in self.clients.values():
                    c.leave()
            if failed:
                print(self.server.output()[-3000:])
        return passed, failed


if __name__ == "__main__":
    total = [0, 0]
    for name in sys.argv[1:]:
        for i, n in enumerate(Talk(pathlib.Path(name)).run()):
            total[i] += n
    print("%d passed, %d failed" % tuple(total))
    sys.exit(total[1] != 0)
