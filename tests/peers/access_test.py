# SPDX-License-Identifier: MIT
"""Who is talked to: disallow_s2s, s2s_blacklist and s2s_whitelist, from the start and by a reload, streams that are up included."""
import pathlib
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from federation import Lab, Raw, User  # noqa: E402
from federation_users import STREAM_ERROR  # noqa: E402
from server import DEADLINE  # noqa: E402

ROOMS = 'Component "rooms.verona.lab" "muc"\ncertificate = "%s"\nkey = "%s"\n'
BEGIN = "\n-- what the tests change\n"
RESTRICTED = "Communication with this domain is restricted"


class Two:
    """verona.lab with arden.lab and rooms, and mantua.lab; verona's configuration begins with a part that changes."""

    def __init__(self, text="", modules=()):
        self.lab = Lab()
        self.here = self.lab.couplet("verona.lab", "arden.lab", accounts={"romeo": "secret", "touchstone@arden.lab": "secret"}, config=BEGIN,
                                     modules=modules)
        self.there = self.lab.couplet("mantua.lab", accounts={"juliet": "secret"})
        self.lab.zone["rooms.verona.lab"] = [("127.0.0.1", self.here.s2s)]
        with open(self.here.config, "a") as f:
            f.write(ROOMS % self.lab.authority.issue("rooms.verona.lab"))
        self.plain = self.here.config.read_text()
        self.write(text)

    def write(self, text):
        self.here.config.write_text(self.plain.replace(BEGIN, "\n%s\n" % text))

    def reload(self, text):
        self.write(text)
        code, out = self.here.ctl("reload")
        equal(code, 0)

    def wait_for(self, pattern, count=1):
        end = time.monotonic() + DEADLINE
        while len(re.findall(pattern, self.here.log())) < count:
            if time.monotonic() > end:
                raise AssertionError("no %r in the log" % pattern)
            time.sleep(0.02)

    def __enter__(self):
        self.lab.start()
        self.romeo, self.juliet = User.login(self.lab, self.here), User.login(self.lab, self.there, "juliet")
        return self

    def __exit__(self, *error):
        if error[0]:
            print("==== here\n" + self.here.output()[-7000:])
        for user in (self.romeo, self.juliet):
            user.close()
        self.lab.__exit__(*error)


def ping(user, to):
    """-> the condition of the error, or None; a ping made while streams end may come too early to count."""
    return user.ping(to).pong(to)


def until(user, to, condition):
    end = time.monotonic() + DEADLINE
    while (got := ping(user, to)) != condition:
        if time.monotonic() > end:
            raise AssertionError("%s: %s, not %s" % (to, got, condition))
        time.sleep(0.1)


@test("disallow_s2s: nothing goes and nothing comes; a reload without it opens the host, one with it closes what is up")
def disallow():
    with Two("disallow_s2s = true") as two:
        equal(ping(two.romeo, "mantua.lab"), "remote-server-not-found")
        equal(two.here.ctl("--json", "s2s", "list"), (0, "[]\n"))
        Raw.connect(two.here.s2s).open("x.lab", "verona.lab").expect(STREAM_ERROR % "policy-violation")
        two.reload("")
        until(two.romeo, "mantua.lab", None)
        until(two.juliet, "verona.lab", None)                # after its back-off
        two.reload("disallow_s2s = true")
        two.wait_for("session (from|to) mantua.lab ended: policy-violation: This host talks to no other server", 2)
        equal(ping(two.romeo, "mantua.lab"), "remote-server-not-found")
        equal(ping(two.juliet, "verona.lab"), "remote-server-timeout")
        two.reload("")
        until(two.romeo, "mantua.lab", None)


@test("disallow_s2s of one host: the others go on, and no stream of theirs leads to it")
def one_host():
    with Two() as two:
        touchstone = User.login(two.lab, two.here, "touchstone", host="arden.lab")
        equal([ping(u, "mantua.lab") for u in (two.romeo, touchstone)], [None, None])
        equal([ping(two.juliet, d) for d in ("verona.lab", "arden.lab")], [None, None])
        two.plain = two.plain.replace('VirtualHost "arden.lab"', 'VirtualHost "arden.lab"\ndisallow_s2s = true')
        two.reload("")
        equal(ping(touchstone, "mantua.lab"), "remote-server-not-found")
        equal(ping(two.romeo, "mantua.lab"), None)
        equal([ping(two.juliet, d) for d in ("verona.lab", "arden.lab")], [None, "remote-server-timeout"])
        touchstone.close()


for _name, _bad, _good in (("s2s_blacklist", '"*.lab"', '"*.mantua.lab"'), ("s2s_whitelist", '"elsewhere.lab"', '"Mantua.Lab"')):
    @test("%s: refused in both directions, for components too; said once in the log" % _name)
    def listed(name=_name, bad=_bad):
        with Two("%s = { %s }" % (name, bad), modules=[name]) as two:
            for _ in range(3):
                equal(ping(two.romeo, "mantua.lab"), "not-allowed")
            equal(ping(two.juliet, "verona.lab"), "remote-server-timeout")
            equal(ping(two.juliet, "rooms.verona.lab"), "remote-server-timeout")
            equal(re.findall(r"info (\S+): a stanza to mantua.lab is refused: (\w+)", two.here.log()), [("verona.lab:" + name, name)])
            two.wait_for("session from mantua.lab ended: policy-violation: " + RESTRICTED, 2)
            equal("proved by" in two.here.log(), False)

    @test("%s: a reload ends the streams of who is refused now, and lets in who is not" % _name)
    def changed(name=_name, bad=_bad, good=_good):
        with Two("%s = { %s }" % (name, good), modules=[name]) as two:
            equal(ping(two.romeo, "mantua.lab"), None)
            equal(ping(two.juliet, "rooms.verona.lab"), "service-unavailable")        # reached: rooms know no ping
            two.reload("%s = { %s }" % (name, bad))
            equal(ping(two.romeo, "mantua.lab"), "not-allowed")
            two.wait_for("session (from|to) mantua.lab ended: policy-violation: " + RESTRICTED, 3)
            equal([ping(two.juliet, d) for d in ("verona.lab", "rooms.verona.lab")], ["remote-server-timeout"] * 2)
            two.reload("%s = { %s }" % (name, good))
            until(two.romeo, "mantua.lab", None)
            until(two.juliet, "rooms.verona.lab", "service-unavailable")

    @test("%s: loaded by a reload it counts for streams that are up" % _name)
    def loaded(name=_name, bad=_bad):
        with Two() as two:
            equal([ping(two.romeo, "mantua.lab"), ping(two.juliet, "verona.lab")], [None, None])
            two.reload('modules_enabled:append { "%s" }\n%s = { %s }' % (name, name, bad))
            two.wait_for("session (from|to) mantua.lab ended: policy-violation: " + RESTRICTED, 2)
            equal(ping(two.romeo, "mantua.lab"), "not-allowed")


@test("the list for all hosts and that of one host count together")
def together():
    with Two('s2s_blacklist = { "elsewhere.lab" }', modules=["s2s_blacklist"]) as two:
        two.plain = two.plain.replace('VirtualHost "arden.lab"', 'VirtualHost "arden.lab"\ns2s_blacklist = { "mantua.lab" }')
        two.reload('s2s_blacklist = { "elsewhere.lab" }')
        touchstone = User.login(two.lab, two.here, "touchstone", host="arden.lab")
        equal([ping(touchstone, d) for d in ("mantua.lab", "elsewhere.lab")], ["not-allowed"] * 2)
        equal([ping(two.romeo, d) for d in ("mantua.lab", "elsewhere.lab")], [None, "not-allowed"])
        touchstone.close()


sys.exit(done() != 0)
