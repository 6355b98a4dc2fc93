#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""crash.py [KILLS] [CONFIG] - the server is killed (SIGKILL) at random moments while clients send, and started again; afterwards
every message that was acknowledged to its sender is in the sender's and in the recipient's archive, once, and in order.

KILLS: 100. CONFIG: a file with configuration to add, such as another storage; its data must be empty at the start.
"""
import pathlib
import random
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from devices import CONFIG, Receiver, Sender, archive, check_archive  # noqa: E402
from server import DEADLINE, Server  # noqa: E402

PAIRS = (("romeo", "juliet"), ("mercutio", "nurse"), ("tybalt", "paris"))       # nobody is at paris


def join(worker):
    worker.finishing.set()
    worker.join(DEADLINE)
    if worker.trouble:
        raise worker.trouble
    if worker.is_alive():
        raise AssertionError("%s does not come to an end: %d unacknowledged" % (worker.user, len(worker.unacked)))


def crash(kills, config="", say=lambda text: None, seed=None):
    chance = random.Random(seed)
    accounts = {name + "@localhost": "secret" for pair in PAIRS for name in pair}
    server = Server(config=CONFIG + config, accounts=accounts, modules=["mam", "smacks"])
    with server:
        senders = [Sender(server, *pair) for pair in PAIRS]
        receivers = [Receiver(server, pair[1]) for pair in PAIRS if pair[1] != "paris"]
        workers = [*senders, *receivers]
        for w in workers:
            w.start()
        for n in range(kills):
            had = [len(s.acked) for s in senders]
            end = time.monotonic() + DEADLINE
            while any(len(s.acked) <= h for s, h in zip(senders, had)) and time.monotonic() < end:      # some way into it
                if any(w.trouble for w in workers):
                    break
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 0.4))           # a moment that nothing has to do with
            for w in workers:
                w.up.clear()
            server.kill()
            server.process = None
            server.stderr.close()
            server.start()
            for w in workers:
                w.up.set()
            say("kill %d: %s acknowledged" % (n + 1, [len(s.acked) for s in senders]))
        for w in senders:
            join(w)
        for w in receivers:
            w.ended.set()
            join(w)
        found = {}
        for sender in senders:
            for user in (sender.user, sender.to):
                numbers = archive(server, user)
                more = check_archive(numbers, sender.acked, "%s to %s, archive of %s" % (sender.user, sender.to, user))
                found[user] = (len(numbers), more)
        if not all(len(s.acked) > kills for s in senders):
            raise AssertionError("nothing was going on: %s" % [len(s.acked) for s in senders])
        lost = sum(len(s.lost) for s in senders)
        return {"acknowledged": [len(s.acked) for s in senders], "given up": lost, "archived, unacknowledged": found}


if __name__ == "__main__":
    extra = pathlib.Path(sys.argv[2]).read_text() if len(sys.argv) > 2 else ""
    print(crash(int(sys.argv[1]) if len(sys.argv) > 1 else 100, extra, print))
