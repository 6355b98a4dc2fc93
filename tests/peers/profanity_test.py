# SPDX-License-Identifier: MIT
"""profanity in a terminal (tmux): logs in over STARTTLS, chats with a second user, sees their presence, makes a room."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "wire"))
from check import done, test  # noqa: E402
from server import Server  # noqa: E402
from talk import Client  # noqa: E402
from terminal import Terminal  # noqa: E402


class Juliet(Client):
    """The other side: a client of the wire tests."""

    def __init__(self, server):
        self.accounts, self.kept, self.server = {"juliet@localhost": "secret"}, {}, server
        super().__init__("juliet", self)
        self.login("juliet", "balcony")


@test("log in, see a contact, send and receive a message")
def chat(server, terminal):
    terminal.shows("Profanity")
    terminal.type("/connect romeo@localhost server 127.0.0.1 port %d tls trust" % server.port)
    terminal.shows("password")
    terminal.type("secret")
    terminal.shows("logged in successfully")
    juliet = Juliet(server)
    juliet.send("<presence/>")
    juliet.expect("<presence from='juliet@localhost/balcony'/>")
    terminal.type("/msg juliet@localhost But soft!")
    juliet.expect("<message from='*' type='chat'><body>But soft!</body></message>")
    juliet.send("<message to='romeo@localhost' type='chat'><body>Ay me</body></message>")
    terminal.shows("Ay me")
    juliet.sock.close()


@test("make a room, somebody else joins, talk")
def room(server, terminal):
    terminal.type("/join garden@rooms.localhost nick Romeo")
    terminal.shows("locked")
    terminal.type("/room accept")
    terminal.shows("unlocked")
    juliet = Juliet(server)
    juliet.send("<presence to='garden@rooms.localhost/Juliet'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
    for nick in ("Romeo", "Juliet"):
        juliet.expect("<presence from='garden@rooms.localhost/%s'/>" % nick)
    juliet.expect("<message type='groupchat'><subject/></message>")
    terminal.shows("  Juliet")                                   # on the list of participants
    terminal.type("But soft!")
    juliet.expect("<message from='garden@rooms.localhost/Romeo' type='groupchat'><body>But soft!</body></message>")
    juliet.send("<message to='garden@rooms.localhost' type='groupchat'><body>Ay me, romeo</body></message>")
    terminal.shows("Ay me, romeo")
    juliet.sock.close()
    terminal.type("/close")
    terminal.type("/disconnect")
    terminal.shows("logged out successfully")


HOSTS = 'VirtualHost "localhost"\nComponent "rooms.localhost" "muc"\n'

terminal = Terminal()
try:
    with Server(hosts=HOSTS, accounts={"romeo@localhost": "secret", "juliet@localhost": "secret"}) as server:
        failed = done(server, terminal)
        if failed:
            print(terminal.screen())
finally:
    terminal.close()
sys.exit(failed != 0)
