# SPDX-License-Identifier: MIT
"""federation.py [SECONDS]: what a message costs two servers together, on its way from a client of one to a client of the other: two
Couplets, then two Prosodys, on this machine, over TLS. Window 16: so many messages are under way at a time.

CPU is user and system time of both servers' processes; the clients' is not counted."""
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from client import Client, cpu  # noqa: E402
from federation import Lab  # noqa: E402

WINDOW = 16
BODY = "Art thou not Romeo, and a Montague?"


def quiet(server):
    """Its log says little, as in earnest; Prosody collects garbage as fast as it can."""
    for name in ("config.lua", "prosody.cfg.lua"):
        config = server.dir / name
        if config.exists():
            text = config.read_text().replace('min = "debug"', 'min = "info"').replace("log = { debug =", "log = { info =")
            config.write_text(('gc = { mode = "generational" }\n' if "prosody" in name else "") + text)


def measure(kind, seconds, modules):
    lab = Lab()
    servers = [getattr(lab, kind)(domain, accounts={name: "secret"}, modules=modules)
               for domain, name in (("verona.lab", "romeo"), ("mantua.lab", "juliet"))]
    for server in servers:
        quiet(server)
    with lab:
        romeo = Client(servers[0].port, "romeo@verona.lab")
        juliet = Client(servers[1].port, "juliet@mantua.lab")
        message = "<message to='%s' type='chat' id='%%d'><body>%s</body></message>" % (juliet.full, BODY)
        sent = got = 0

        def run(until):
            nonlocal sent, got
            while time.monotonic() < until or got < sent:
                if sent - got <= WINDOW // 2 and time.monotonic() < until:
                    burst = range(sent, got + WINDOW)
                    romeo.send("".join(message % i for i in burst))
                    sent = burst.stop
                got += juliet.count("</message>")

        run(time.monotonic() + 1)                     # the connection is made
        before, n, began = cpu(*servers), got, time.monotonic()
        run(time.monotonic() + seconds)
        spent, n, took = cpu(*servers) - before, got - n, time.monotonic() - began
        print("%-8s %-9s %7d messages, %6.1f µs of both servers' CPU each, %6d messages/s" %
              (kind, " ".join(modules) or "-", n, spent / n * 1e6, n / took), flush=True)


if __name__ == "__main__":
    for kind in ("couplet", "prosody"):
        for modules in ((), ("s2s_bidi",)):
            measure(kind, float(sys.argv[1]) if len(sys.argv) > 1 else 5, modules)
