# SPDX-License-Identifier: MIT
"""client.py - a client that costs little, for benches: STARTTLS, PLAIN or what the server's database needs, one resource; then bytes."""
import base64
import os
import pathlib
import re
import socket
import ssl

# For a server whose limits are not what is measured.
UNLIMITED = 'log = { error = "couplet.log" }\nlimits = {}\nc2s_max_connections_per_ip = 0\nc2s_connection_rate = 0\n'
HEADER = "<stream:stream to='%s' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"


def cpu(*servers):
    """Seconds of user and system time of their processes."""
    total = 0
    for server in servers:
        fields = pathlib.Path("/proc/%d/stat" % server.process.pid).read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


class Client:
    def __init__(self, port, jid, password="secret", resource="bench", timeout=30):
        user, host = jid.split("@")
        self.full, self.seen, self.rest = "%s/%s" % (jid, resource), "", ""
        self.sock = socket.create_connection(("127.0.0.1", port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send(HEADER % host).expect("</stream:features>")
        self.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").expect("<proceed[^>]*/>")
        ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
        self.sock, self.seen = ctx.wrap_socket(self.sock), ""
        self.sock.settimeout(timeout)
        self.send(HEADER % host).expect("</stream:features>")
        plain = base64.b64encode(("\0%s\0%s" % (user, password)).encode()).decode()
        self.send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>%s</auth>" % plain).expect("<success[^>]*>")
        self.send(HEADER % host).expect("</stream:features>")
        self.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>%s</resource></bind></iq>" % resource)
        self.expect("</jid>.*?</iq>")
        self.send("<iq type='set' id='s'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq><presence/>")

    def send(self, text):
        self.sock.sendall(text.encode())
        return self

    def read(self):
        data = self.sock.recv(262144)
        if not data:
            raise ConnectionError("the server has closed: " + self.seen[-500:])
        return data.decode(errors="replace")

    def expect(self, pattern):
        """Reads until the pattern is there; what was before it is forgotten."""
        while True:
            found = re.search(pattern, self.seen, re.S)
            if found:
                self.seen = self.seen[found.end():]
                return found
            self.seen += self.read()

    def count(self, text):
        """Reads once; how often does that text end in what came?"""
        *whole, rest = (self.rest + self.read()).split(text)
        self.rest = rest[-len(text):]
        return len(whole)
