# SPDX-License-Identifier: MIT
"""Errors inside dialback (XEP-0220 2.5): who was called cannot or does not want to verify us."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from federation import User  # noqa: E402
from federation_stranger import World  # noqa: E402

DIALBACK = "<dialback xmlns='urn:xmpp:features:dialback'><errors/></dialback>"
ERROR = ("<db:result from='%s' to='%s' type='error'><error type='cancel'>"
         "<%s xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></db:result>")
VALID = "<db:%s from='victim.lab' to='%s' id='%s' type='valid'/>"
LOOSE = "s2s_secure_auth = false\n"

# What is said to our claim, what the sender of the stanza that waits hears, and is that for good?
ROWS = [
    ("item-not-found", "remote-server-not-found", True),
    ("remote-connection-failed", "remote-server-timeout", False),
    ("remote-server-not-found", "remote-server-timeout", False),
    ("remote-server-timeout", "remote-server-timeout", False),
    ("policy-violation", "remote-server-timeout", True),
    ("not-authorized", "remote-server-timeout", True),
    ("forbidden", "remote-server-timeout", True),
    ("not-acceptable", "remote-server-timeout", False),
    ("resource-constraint", "remote-server-timeout", False),
    ("x" * 1000, "remote-server-timeout", False),
]


@test("an error to our claim: who waits hears why, a stream nobody else uses ends without one, and nobody calls again at once")
def errors():
    names = ["e%d.lab" % n for n in range(len(ROWS))]
    with World(config=LOOSE) as w:
        w.lab.zone.update({name: w.lab.zone["victim.lab"] for name in names})
        w.lab.publish()
        romeo, cert = User.login(w.lab, w.here), w.lab.authority.issue("victim.lab", "selfsigned")
        for name, (condition, heard, lasts) in zip(names, ROWS):
            romeo.ping(name)
            v = w.victim.accept_tls(w.lab, name, cert, features=DIALBACK)
            v.expect("<db:result[^>]*>.*?</db:result>")
            v.send(ERROR % (name, "verona.lab", condition))
            for again in (False, True):
                if again:
                    romeo.ping(name)
                found = romeo.expect("<iq[^>]* id='%s'.*?</iq>" % name).group(0)
                assert "<%s " % heard in found and ("type='cancel'" in found) == lasts, (condition, found)
            equal(v.send("</stream:stream>").ended(), "</stream:stream>")
            v.close()
        equal(w.said("trying 127.0.0.1"), len(ROWS))
        romeo.close()


@test("an error for one of our hosts on a stream others use: it looks for its own way, and the stream goes on")
def shared():
    with World("arden.lab", config=LOOSE) as w:
        verona, arden = User.login(w.lab, w.here), User.login(w.lab, w.here, host="arden.lab")
        cert = w.lab.authority.issue("victim.lab", "selfsigned")
        verona.ping("victim.lab")
        v = w.victim.accept_tls(w.lab, "victim.lab", cert, features=DIALBACK)
        v.expect("<db:result [^>]*from='verona.lab'")
        v.send("<db:result from='victim.lab' to='verona.lab' type='valid'/>").expect("<iq ")
        arden.ping("victim.lab")
        v.expect("<db:result [^>]*from='arden.lab'")
        v.send(ERROR % ("victim.lab", "arden.lab", "item-not-found"))
        own = w.victim.accept_tls(w.lab, "victim.lab", cert, features=DIALBACK)
        own.expect("<db:result [^>]*from='arden.lab'.*?</db:result>")
        own.send(ERROR % ("victim.lab", "arden.lab", "item-not-found"))
        equal(arden.pong("victim.lab"), "remote-server-not-found")
        equal(own.send("</stream:stream>").ended(), "</stream:stream>")
        verona.send("<message to='victim.lab'><body>still there</body></message>")
        v.expect("still there")
        for stream in (v, own, verona, arden):
            stream.close()


@test("an error to our claim on a stream that carries a question of dialback, too: that one is still answered")
def questions():
    with World(config=LOOSE) as w:
        romeo = User.login(w.lab, w.here)
        r = w.call()
        r.send("<db:result from='victim.lab' to='verona.lab'>key</db:result>")
        v = w.ask(features=DIALBACK)
        romeo.ping("victim.lab")
        v.expect("<db:result [^>]*from='verona.lab'.*?</db:result>")
        v.send(ERROR % ("victim.lab", "verona.lab", "remote-server-timeout"))
        equal(romeo.pong("victim.lab"), "remote-server-timeout")
        v.send(VALID % ("verify", "verona.lab", v.question["id"]))
        r.expect("<db:result[^>]*type='valid'")
        for stream in (r, v, romeo):
            stream.close()


sys.exit(done() != 0)
