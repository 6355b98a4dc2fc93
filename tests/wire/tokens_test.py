# SPDX-License-Identifier: MIT
"""Tokens (XEP-0484) and accounts on a real server: what ends them ends them whether it runs or not."""
import base64
import hmac
import pathlib
import sqlite3
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from server import DEADLINE, Server  # noqa: E402
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


SLOW = """
module:hook_global("user-deleted", function() require("couplet.task").sleep(1000) end, -1000)
"""


def stored(server, user):
    with sqlite3.connect("file:%s/data/couplet.sqlite?mode=ro" % server.dir, uri=True) as db:
        return {row[0] for row in db.execute("select store from keyval join collection on keyval.collection = collection.id"
                                             " where keyval.user = ?", (user,))}


def until(what):
    end = time.monotonic() + DEADLINE
    while not what():
        if time.monotonic() > end:
            raise AssertionError("it never came true")
        time.sleep(0.02)


@test("the server is killed before all of a deleted account is gone: nothing is left for who has the name next")
def killed():
    for others in (), ("paris",):                        # who makes it anew as soon as the server starts
        server = Server(accounts=ACCOUNTS, modules=["sasl2", "sasl2_fast", "slow"])
        (server.dir / "plugins").mkdir()
        (server.dir / "plugins" / "mod_slow.lua").write_text(SLOW)
        text = server.config.read_text().replace("plugin_paths = {", 'plugin_paths = { "%s/plugins",' % server.dir)
        server.config.write_text(text)
        with server:
            equal(server.ctl("adduser", "paris@localhost", "--role=prosody:admin", input="secret\n")[0], 0)
            password(server, "paris")
            command = [server.program("coupletctl"), "--config", str(server.config), "deluser", "paris@localhost", "--yes"]
            ctl = subprocess.Popen(command, env=server.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            until(lambda: "accounts" not in stored(server, "paris"))
            assert "account_roles" in stored(server, "paris")
            server.kill()
            ctl.wait()
            server.process, _ = None, server.stderr.close()
            for name in others:
                server.config.write_text(text.replace("test_accounts = {", 'test_accounts = { ["%s@localhost"] = "secret",' % name))
            server.start()
            until(lambda: "account_roles" not in stored(server, "paris"))
            equal(server.ctl("user", "exists", "paris@localhost")[1].count("exists already"), len(others))
            if not others:
                until(lambda: (stored(server, "paris"), stored(server, "")) == (set(), {"saslauth"}))


sys.exit(done())
