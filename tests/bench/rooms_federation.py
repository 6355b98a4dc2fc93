#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""rooms_federation.py [OCCUPANTS [MESSAGES]]: what a message in a room costs the room's server when all but one of the occupants are
users of one other server: CPU time of the server with the room for each delivery, over TLS between two Couplets on this machine."""
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from client import Client, cpu  # noqa: E402
from federation import Lab  # noqa: E402

OCCUPANTS, MESSAGES = (int(a) for a in (sys.argv[1:] + ["100", "300"][len(sys.argv) - 1:]))
ROOM = "big@rooms.verona.lab"
JOIN = "<presence to='%s/%%s'><x xmlns='http://jabber.org/protocol/muc'><history maxstanzas='0'/></x></presence>" % ROOM

lab = Lab()
cert = lab.authority.issue("rooms.verona.lab")
component = 'Component "rooms.verona.lab" "muc"\nmuc_room_locking = false\ncertificate = "%s"\nkey = "%s"\n' % cert
here = lab.couplet("verona.lab", accounts={"romeo": "secret"}, of_host=lambda h: component)
there = lab.couplet("mantua.lab", accounts={"u%d" % i: "secret" for i in range(OCCUPANTS)})
lab.zone["rooms.verona.lab"] = lab.zone["verona.lab"]
for server in (here, there):
    config = server.dir / "config.lua"
    config.write_text(config.read_text().replace('min = "debug"', 'min = "info"'))
with lab:
    romeo = Client(here.port, "romeo@verona.lab")
    romeo.send(JOIN % "Romeo").expect("code='110'")
    people = [Client(there.port, "u%d@mantua.lab" % i) for i in range(OCCUPANTS)]
    for i, one in enumerate(people):
        one.send(JOIN % ("n%d" % i)).expect("code='110'")
    for one in people:
        one.expect("/n%d'" % (OCCUPANTS - 1)) if one is not people[-1] else None
    time.sleep(1)                                     # nothing is under way any more, for the figure
    before = cpu(here)
    for i in range(MESSAGES):
        romeo.send("<message to='%s' type='groupchat' id='m%d'><body>message %d</body></message>" % (ROOM, i, i))
        romeo.expect("message %d</body>" % i)
    for one in people:
        one.expect("message %d</body>" % (MESSAGES - 1))
    spent = cpu(here) - before
    print("%d messages to %d occupants of one other server: %.2f µs of CPU a delivery" % (
        MESSAGES, OCCUPANTS, spent / MESSAGES / OCCUPANTS * 1e6))
