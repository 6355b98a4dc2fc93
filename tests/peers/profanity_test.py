# SPDX-License-Identifier: MIT
"""profanity in a terminal (tmux): logs in over STARTTLS, chats with a second user, sees their presence, makes a room."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "wire"))
from check import done, test  # noqa: E402
from server import DEADLINE, Server  # noqa: E402
from talk import Client  # noqa: E402


class Terminal:
    """profanity in a tmux server of its own."""

    def __init__(self):
        self.home = tempfile.mkdtemp(prefix="couplet-profanity-")
        self.socket = self.home + "/tmux"
        env = {k: v for k, v in os.environ.items() if k != "TMUX"}
        env.update(HOME=self.home, XDG_CONFIG_HOME=self.home + "/config", XDG_DATA_HOME=self.home + "/data", LANG="C.UTF-8", TERM="xterm")
        subprocess.run(["tmux", "-S", self.socket, "-f", "/dev/null", "new-session", "-d", "-x", "140", "-y", "40", "profanity"],
                       check=True, env=env)

    def type(self, text):
        subprocess.run(["tmux", "-S", self.socket, "send-keys", "-l", text], check=True)
        subprocess.run(["tmux", "-S", self.socket, "send-keys", "Enter"], check=True)

    def screen(self):
        return subprocess.run(["tmux", "-S", self.socket, "capture-pane", "-p", "-J"], check=True, capture_output=True, text=True).stdout

    def shows(self, text):
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            screen = self.screen()
            if text in screen:
                return
            time.sleep(0.05)              # tmux has no way to wait for a text: look again, until the deadline
        raise AssertionError("profanity never showed %r:\n%s" % (text, screen))

    def close(self):
        subprocess.run(["tmux", "-S", self.socket, "kill-server"])
        shutil.rmtree(self.home, ignore_errors=True)


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
