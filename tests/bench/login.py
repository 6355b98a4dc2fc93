#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""login.py [--instructions] [--io N] [LOGINS [ROUNDS]]: what a login costs the server, by way of logging in, over direct TLS: CPU time of
the process (all threads) per login, and what of it is not TLS. A bare handshake is measured along with the others, all in turn,
so that a busy machine does the same to each, and of many short rounds the quarter that was disturbed least is what counts.
--instructions: in user space, counted by callgrind. --io N: with so many I/O threads, else with as many as the server takes
by itself.

    tls         a handshake, nothing else
    starttls    as most clients log in: a stream in clear, STARTTLS, and then what follows
    scram       SCRAM-SHA-256, a new stream, a resource: three round trips and a header more
    scram2      the same with SASL2 and Bind 2: two round trips
    fast waits  a token, with SASL2 and Bind 2, by a client that waits for the features first: two
    fast        by one that knows them and sends its header and the token at once: one round trip (XEP-0484 §1)
    fast count  and the client counts its logins, which the server writes down
    scram+      SCRAM-SHA-256 up to what a phone goes on with: carbons and stream management enabled, three round trips and two more
    fast+       the same with a token, all of it inline
"""
import base64
import hmac
import os
import pathlib
import re
import socket
import ssl
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import scram as scram_client  # noqa: E402
import server  # noqa: E402
from scram import encoded as b64  # noqa: E402

HEADER = ("<?xml version='1.0'?><stream:stream to='localhost' version='1.0' xmlns='jabber:client' "
          "xmlns:stream='http://etherx.jabber.org/streams'>")
SASL, SASL2 = "urn:ietf:params:xml:ns:xmpp-sasl", "urn:xmpp:sasl:2"
AGENT = "<user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'/>"
BIND2 = "<bind xmlns='urn:xmpp:bind:0'><tag>bench</tag></bind>"
AFTER = "</success>.*</stream:features>"             # not those from before
BIND2_ALL = ("<bind xmlns='urn:xmpp:bind:0'><tag>bench</tag><enable xmlns='urn:xmpp:sm:3' resume='true'/>"
             "<enable xmlns='urn:xmpp:carbons:2'/></bind>")
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE


class Client:
    def __init__(self, port, starttls=False):
        self.s = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.got = ""
        if starttls:
            self.ask(HEADER, "</stream:features>")
            self.ask("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>", "<proceed")
        self.s = context.wrap_socket(self.s, server_hostname="localhost")

    def ask(self, text, until):
        self.s.sendall(text.encode())
        while not re.search(until, self.got):
            data = self.s.recv(65536).decode()
            if not data:
                raise RuntimeError("closed after " + self.got)
            self.got += data
        answer, self.got = self.got, ""
        return answer

    def end(self):
        self.ask("</stream:stream>", "</stream:stream>")
        self.s.close()


BARE = "n=romeo,r=" + "x" * 24
FIRST = b64(("n,," + BARE).encode())


def final(challenge):
    return b64(scram_client.final("sha256", b"secret", BARE, b"n,,", challenge)[0].encode())


def challenge_in(answer):
    return base64.b64decode(re.search(r"<challenge[^>]*>([^<]+)<", answer)[1]).decode()


def tls(port):
    Client(port).s.close()


def starttls(_):
    scram(s.port, starttls=True)


def scram(port, more="", starttls=False):
    c = Client(port, starttls)
    c.ask(HEADER, "</stream:features>")
    a = c.ask("<auth xmlns='%s' mechanism='SCRAM-SHA-256'>%s</auth>" % (SASL, FIRST), "</challenge>")
    c.ask("<response xmlns='%s'>%s</response>" % (SASL, final(challenge_in(a))), "</success>")
    c.ask(HEADER, "</stream:features>")
    c.ask("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>bench</resource></bind></iq>", "</iq>")
    if more:
        c.ask("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>", "id='c'")
        c.ask("<enable xmlns='urn:xmpp:sm:3' resume='true'/>", "<enabled")
    c.end()


def scram_all(port):
    scram(port, "more")


def scram2(port, more=""):
    c = Client(port)
    c.ask(HEADER, "</stream:features>")
    a = c.ask("<authenticate xmlns='%s' mechanism='SCRAM-SHA-256'><initial-response>%s</initial-response>%s%s%s"
              "</authenticate>" % (SASL2, FIRST, AGENT, BIND2, more), "</challenge>")
    a = c.ask("<response xmlns='%s'>%s</response>" % (SASL2, final(challenge_in(a))), "</stream:features>")
    c.end()
    return a


def with_token(count="", bind=BIND2):
    proof = b"romeo\0" + hmac.digest(token, b"Initiator", "sha256")
    return ("<authenticate xmlns='%s' mechanism='HT-SHA-256-NONE'><initial-response>%s</initial-response>%s%s"
            "<fast xmlns='urn:xmpp:fast:0'%s/></authenticate>" % (SASL2, b64(proof), AGENT, bind, count))


def fast_waits(port):
    c = Client(port)
    c.ask(HEADER, "</stream:features>")
    c.ask(with_token(), "</stream:features>")
    c.end()


def fast(port, *how):
    c = Client(port)
    answer = c.ask(HEADER + with_token(*how), AFTER)
    c.end()
    return answer


def fast_all(port):
    answer = fast(port, "", BIND2_ALL)
    if "<enabled" not in answer:
        raise RuntimeError("stream management was not enabled: " + answer)


counted = 0


def fast_count(port):
    global counted
    counted += 1
    fast(port, " count='%d'" % counted)


def cpu(pid):
    """Nanoseconds of all threads, those that have ended not counted: there are none here."""
    return sum(int(open("/proc/%d/task/%s/schedstat" % (pid, t)).read().split()[0]) for t in os.listdir("/proc/%d/task" % pid))


def instructions(pid):
    """Those since the last call."""
    for dump in pathlib.Path(s.dir).glob("calls*"):
        dump.unlink()
    subprocess.run(["callgrind_control", "-d", str(pid)], check=True, capture_output=True)
    found = 0
    for dump in pathlib.Path(s.dir).glob("calls*"):
        found += sum(int(n) for n in re.findall(r"^totals: (\d+)", dump.read_text(errors="replace"), re.M))
    return found


counting = "--instructions" in sys.argv
io = "io_threads = %s\n" % sys.argv.pop(sys.argv.index("--io") + 1) if "--io" in sys.argv else ""
numbers = [int(a) for a in sys.argv[1:] if a.isdigit()]
logins, rounds = [*numbers, *([30, 1] if counting else [15, 60])[len(numbers):]]
ways = {"tls": tls, "starttls": starttls, "scram": scram, "scram2": scram2, "fast waits": fast_waits, "fast": fast, "fast count": fast_count,
        "scram+": scram_all, "fast+": fast_all}
spent = {w: [] for w in ways}
if counting:
    server.DEADLINE = 200
s = server.Server(accounts={"romeo@localhost": "secret"}, modules=["sasl2", "sasl2_bind2", "sasl2_fast", "sasl2_sm", "carbons"],
                  config='log = { warn = "couplet.log" }\n' + io)
if counting:
    s.env["COUPLET_WRAP"] = "valgrind -q --tool=callgrind --callgrind-out-file=%s/calls" % s.dir
with s:
    answer = scram2(s.tls_port, "<request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-NONE'/>")
    token = re.search(r" token=['\"]([^'\"]+)", answer)[1].encode()
    for way in ways.values():
        for _ in range(20):
            way(s.tls_port)
    for _ in range(rounds):
        for name, way in ways.items():
            time.sleep(0.01)                            # what the last one left behind is done with
            before = cpu(s.process.pid)
            if counting:
                instructions(s.process.pid)
                before = 0
            for _ in range(logins):
                way(s.tls_port)
            time.sleep(0.01)
            spent[name].append((instructions if counting else cpu)(s.process.pid) - before)
each = {name: sorted(n)[len(n) // 4] / 1000 / logins for name, n in spent.items()}
print("%-12s %10s %10s %10s" % ("way", "1000 instr." if counting else "µs", "no TLS", "of scram"))
for name, us in each.items():
    rest = us - each["tls"]
    print("%-12s %10.0f %10.0f %9.0f%%" % (name, us, rest, 100 * rest / (each["scram+" if "+" in name else "scram"] - each["tls"])))
