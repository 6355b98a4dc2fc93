# SPDX-License-Identifier: MIT
"""OMEMO (XEP-0384) between two accounts, both in profanity: device lists and bundles go through PEP, messages arrive readable, and the
server, an archive and a second resource (a witness with carbons) see only what is encrypted."""
import pathlib
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "wire"))
from check import done, test  # noqa: E402
from server import DEADLINE, Server  # noqa: E402
from talk import Client  # noqa: E402
from terminal import Terminal  # noqa: E402

OMEMO = "eu.siacs.conversations.axolotl"
NAMES = ("romeo", "juliet")


class Witness(Client):
    """Another resource of an account, which reads what the server hands to it."""

    def __init__(self, server, name):
        self.accounts, self.kept, self.server = {n + "@localhost": "secret" for n in NAMES}, {}, server
        super().__init__(name, self)
        self.login(name, "witness")
        self.send("<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
        self.expect("<iq type='result' id='c'/>")

    def published(self, node):
        """The items of one's own node, as text, once there are any."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            self.send("<iq type='get' id='i'><pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='%s'/></pubsub></iq>" % node)
            answer = str(self.next()[1])
            if "}item " in answer:
                return answer
            time.sleep(0.05)              # without presence nothing tells this resource: it looks again, until the deadline
        raise AssertionError("%s never published %s; last: %s" % (self.name, node, answer))

    def encrypted(self):
        """The next message of the conversation, past those that only say that somebody is typing."""
        while True:
            text = str(self.next()[1])
            if "}encrypted>" in text:
                return text


@test("keys are published and found, a message arrives readable on both sides, and nowhere else")
def omemo(server, romeo, juliet):
    witnesses = [Witness(server, n) for n in NAMES]
    for terminal, name in ((romeo, "romeo"), (juliet, "juliet")):
        terminal.shows("Profanity")
        terminal.type("/connect %s@localhost server 127.0.0.1 port %d tls trust" % (name, server.port))
        terminal.shows("password")
        terminal.type("secret")
        terminal.shows("logged in successfully")
    for one, other, name in ((romeo, juliet, "juliet"), (juliet, romeo, "romeo")):
        one.type("/sub request %s@localhost" % name)
        other.shows("Received authorization request")
        other.type("/sub allow %s@localhost" % ("romeo" if name == "juliet" else "juliet"))
        one.shows("Subscription received from %s@localhost" % name)
    for terminal, witness in zip((romeo, juliet), witnesses):
        terminal.type("/omemo trustmode blind")
        terminal.type("/omemo gen")
        terminal.shows("materials generated")
        device = re.search(r"device id='(\d+)'", witness.published(OMEMO + ".devicelist")).group(1)
        assert "}bundle>" in witness.published(OMEMO + ".bundles:" + device)
    romeo.type("/omemo start juliet@localhost")
    romeo.shows("[OMEMO]")
    romeo.type("/win 1")                                         # the console says when juliet's keys have been fetched
    romeo.shows("Blind trust for juliet@localhost device")
    romeo.type("/win 2")
    romeo.type("But soft!")
    juliet.shows("chat message: romeo@localhost")
    juliet.type("/win 2")
    juliet.shows("But soft!")
    juliet.type("/omemo start")
    juliet.shows("[OMEMO]")
    juliet.type("Ay me")
    romeo.shows("Ay me")
    for witness in witnesses:
        seen = [witness.encrypted(), witness.encrypted()]
        witness.send("<iq type='set' id='m'><query xmlns='urn:xmpp:mam:2'/></iq>")
        while "iq" not in seen[-1][:20]:
            seen.append(str(witness.next()[1]))
        assert sum("}result" in text and "}encrypted>" in text for text in seen) == 2, seen
        assert not re.search("But soft|Ay me", "".join(seen)), seen


if __name__ == "__main__":
    terminals = Terminal(), Terminal()
    try:
        with Server(modules=("carbons", "pep", "mam"), accounts={n + "@localhost": "secret" for n in NAMES}) as server:
            failed = done(server, *terminals)
            if failed:
                for terminal in terminals:
                    print(terminal.screen())
    finally:
        for terminal in terminals:
            terminal.close()
    sys.exit(failed != 0)
