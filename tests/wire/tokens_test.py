# SPDX-License-Identifier: MIT
"""Tokens (XEP-0484) and accounts on a real server: what ends them ends them whether it runs or not."""
import base64
import hmac
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from server import Server  # noqa: E402
from talk import Client  # noqa: E402

ACCOUNTS = {"romeo@localhost": "secret", "juliet@localhost": "secret"}
SASL2, FAST = "urn:xmpp:sasl:2", "urn:xmpp:fast:0"
AGENT = "<user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'/>"


class Talk:
    def __init__(self, server):
        self.server, self.kept, self.accounts = server, {}, ACCOUNTS


def authenticated(server, mechanism, message, more):
    """The first answer to a login, as text."""
    c = Client("somebody", Talk(server))
    c.connect(tls=True)
    c.open_stream()
    c.send("<authenticate xmlns='%s' mechanism='%s'><initial-response>%s</initial-response>%s%s</authenticate>"
           % (SASL2, mechanism, base64.b64encode(message).decode(), AGENT, more))
    kind, answer = c.next()
    equal(kind, "element")
    c.leave(politely=False)
    return answer


def password(server, user):
    """Logs in -> a new token"""
    answer = authenticated(server, "PLAIN", b"\0%s\0secret" % user.encode(),
                           "<request-token xmlns='%s' mechanism='HT-SHA-256-NONE'/>" % FAST)
    equal(answer.name, "success")
    return next(e.attrs["token"] for e in answer.elements() if e.name == "token").encode()


def token(server, user, text):
    answer = authenticated(server, "HT-SHA-256-NONE", user.encode() + b"\0" + hmac.digest(text, b"Initiator", "sha256"),
                           "<fast xmlns='%s'/>" % FAST)
    return answer.name if answer.name == "success" else answer.elements()[0].name


@test("what coupletctl does to an account while the server does not run ends its tokens as well")
def without_server():
    with Server(accounts=ACCOUNTS, modules=["sasl2", "sasl2_fast"]) as server:
        kept, ended = password(server, "juliet"), password(server, "romeo")
        for commands in (["passwd"],), (["user", "disable"], ["user", "enable"]), (["deluser"], ["adduser"]):
            equal([token(server, "juliet", kept), token(server, "romeo", ended)], ["success", "success"])
            server.stop()
            for command in commands:
                equal(server.ctl(*command, "romeo@localhost", input="y\n" if command == ["deluser"] else "secret\nsecret\n")[0], 0)
            server.start()
            equal([token(server, "juliet", kept), token(server, "romeo", ended)], ["success", "not-authorized"])
            ended = password(server, "romeo")


sys.exit(done())
