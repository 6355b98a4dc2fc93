# SPDX-License-Identifier: MIT
"""bounce.py [STANZAS]: stanzas wait for a server that takes connections and says nothing; then it is gone, and all of them go back to
their sender. How long does that take, and what do two local users who chat meanwhile (200 messages/s) notice?"""
import multiprocessing
import pathlib
import socket
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from client import Client, cpu  # noqa: E402
from federation import Lab  # noqa: E402


def chat(port, pipe):
    """Sends the latencies, in seconds, when told to end."""
    a, b, latencies = Client(port, "abram@verona.lab"), Client(port, "balthasar@verona.lab"), []
    pipe.send("ready")
    while not pipe.poll():
        began = time.monotonic()
        a.send("<message to='%s' type='chat'><body>%r</body></message>" % (b.full, began))
        b.expect("<body>%r</body></message>" % began)
        latencies.append(time.monotonic() - began)
        time.sleep(max(0, began + 0.005 - time.monotonic()))
    pipe.recv()
    pipe.send(sorted(latencies))


def percentile(values, p):
    return values[min(len(values) - 1, int(len(values) * p))] * 1000


def run(stanzas, report=print):
    """-> (seconds for all errors, p99 of the local chat in ms)"""
    lab = Lab()
    here = lab.couplet("verona.lab", accounts={name: "secret" for name in ("romeo", "abram", "balthasar")},
                       config="s2s_send_queue_size = %d\ns2s_connect_timeout = 120\ns2s_timeout = 120\n" % stanzas)
    here.config.write_text(here.config.read_text().replace('min = "debug"', 'min = "info"'))
    dead = socket.create_server(("127.0.0.1", 0))
    lab.zone["dead.lab"] = [("127.0.0.1", dead.getsockname()[1])]
    with lab:
        romeo = Client(here.port, "romeo@verona.lab")
        for first in range(0, stanzas, 100):
            romeo.send("".join("<message to='a@dead.lab' type='chat' id='%d'><body>Art thou not Romeo, and a Montague?</body></message>" % i
                               for i in range(first, min(first + 100, stanzas))))
        romeo.send("<iq type='get' id='all' to='verona.lab'><ping xmlns='urn:xmpp:ping'/></iq>").expect("id='all'[^>]*>")
        silent = dead.accept()[0]
        pipe, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=chat, args=(here.port, theirs))
        process.start()
        pipe.recv()
        time.sleep(1)                                  # the chat alone, for comparison
        pipe.send("what came so far")
        alone = pipe.recv()
        process.join()
        process = multiprocessing.get_context("fork").Process(target=chat, args=(here.port, theirs))
        process.start()
        pipe.recv()
        dead.shutdown(socket.SHUT_RDWR)               # the other process has these sockets too
        began, before = time.monotonic(), cpu(here)
        silent.shutdown(socket.SHUT_RDWR)
        errors, romeo.rest = 0, romeo.seen
        while errors < stanzas:
            errors += romeo.count("type='error'")
        took, spent = time.monotonic() - began, cpu(here) - before
        pipe.send("enough")
        busy = pipe.recv()
        process.join()
        for what, values in (("alone", alone), ("while stanzas go back", busy)):
            report("chat %-22s %5d messages, p50 %5.2f ms, p99 %5.2f ms, longest %5.2f ms" %
                   (what, len(values), percentile(values, .5), percentile(values, .99), values[-1] * 1000))
        report("%d stanzas went back in %.2f s, %.2f s of the server's CPU" % (errors, took, spent))
        return took, percentile(busy, .99)


if __name__ == "__main__":
    run(int(sys.argv[1]) if len(sys.argv) > 1 else 10000)
