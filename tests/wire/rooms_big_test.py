# SPDX-License-Identifier: MIT
"""A room of 150 who come and go at once, over real connections: all agree on who is inside, whatever way it was told to them."""
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from server import Server  # noqa: E402
from talk import Client  # noqa: E402

N, ACCOUNTS = 150, 25
HOSTS = 'VirtualHost "localhost"\nComponent "rooms.localhost" "muc"\nmuc_room_locking = false\n'
JOIN = "<presence to='big@rooms.localhost/n%d'><x xmlns='http://jabber.org/protocol/muc'/></presence>"


class Occupant(Client):
    """What came is kept as text: parsing it all would take longer than the server does."""

    def __init__(self, i, server):
        self.accounts, self.kept, self.server, self.i = {"u%d@localhost" % a: "secret" for a in range(ACCOUNTS)}, {}, server, i
        super().__init__("u%d" % (i % ACCOUNTS), self)
        self.login(self.name, "r%d" % i)
        self.got, self.inside = "", set()

    def until(self, condition):
        """Reads until condition(self) holds; on the way, who comes and who goes."""
        while not condition(self):
            try:
                data = self.sock.recv(65536).decode()
            except TimeoutError:
                raise TimeoutError("occupant %d sees inside %s" % (self.i, sorted(self.inside)))
            if not data:
                raise ConnectionError("occupant %d was thrown out" % self.i)
            self.got += data
            *whole, self.got = self.got.split("</presence>")
            for text in whole:
                text = text[text.find("<presence"):]
                nick = re.search(r"from='big@rooms\.localhost/n(\d+)'", text)
                if not nick:
                    continue
                equal(re.search(r" to='([^']*)'", text)[1], "%s@localhost/r%d" % (self.name, self.i))
                (self.inside.discard if "type='unavailable'" in text else self.inside.add)(int(nick[1]))


@test("all of them come, talk and go at once")
def crowd():
    with Server(config="limits = {}\nc2s_max_connections_per_ip = 0\nc2s_connection_rate = 0\n", hosts=HOSTS,
                accounts={"u%d@localhost" % i: "secret" for i in range(ACCOUNTS)}) as server:
        people = [Occupant(i, server) for i in range(N)]
        people[3].send("<enable xmlns='urn:xmpp:sm:3'/>")            # one that keeps count (XEP-0198)
        people[3].until(lambda o: "<enabled" in o.got)
        for o in people:
            o.send(JOIN % o.i)
        everybody = set(range(N))
        for o in people:
            o.until(lambda o: o.inside == everybody)
        for o in people[:5]:
            o.send("<message to='big@rooms.localhost' type='groupchat'><body>word of %d</body></message>" % o.i)
        for o in people:
            o.until(lambda o: all("word of %d<" % i in o.got for i in range(5)))
        leave, stay = people[1::2], people[0::2]
        for o in leave:
            o.send("<presence to='big@rooms.localhost/n%d' type='unavailable'/>" % o.i if o.i % 4 == 1 else "</stream:stream>")
        for o in stay:
            o.until(lambda o: o.inside == {s.i for s in stay})
        for o in stay:
            o.sock.close()


sys.exit(done())
