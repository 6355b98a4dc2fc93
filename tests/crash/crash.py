#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""crash.py [KILLS] [CONFIG] [--postgres] [--both] - the server is killed (SIGKILL) at random moments while clients send, and
started again; afterwards every message that was acknowledged to its sender is in the sender's and in the recipient's archive,
once, and in order.

KILLS: 100. CONFIG: a file with configuration to add. --postgres: everything is stored in a PostgreSQL of the run's own.
--both: now Couplet is killed, now PostgreSQL is.
"""
import argparse
import os
import pathlib
import random
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from devices import CONFIG, Receiver, Sender, archive, check_archive  # noqa: E402
from postgres import Postgres  # noqa: E402
from server import DEADLINE, Server  # noqa: E402

PAIRS = (("romeo", "juliet"), ("mercutio", "nurse"), ("tybalt", "paris"))       # nobody is at paris


def join(worker):
    worker.finishing.set()
    worker.join(DEADLINE)
    if worker.trouble:
        raise worker.trouble
    if worker.is_alive():
        raise AssertionError("%s does not come to an end: %d unacknowledged" % (worker.user, len(worker.unacked)))


def kill_couplet(server, workers):
    for w in workers:
        w.up.clear()
    server.kill()
    server.process = None
    server.stderr.close()
    server.start()
    for w in workers:
        w.up.set()


def kill_postgres(pg):
    """Of PostgreSQL's processes the first, and those that work for Couplet: nothing is closed in order."""
    backends = pg.query("SELECT pid FROM pg_stat_activity WHERE application_name = 'couplet'", database="postgres").split()
    for pid in [pg.pid(), *map(int, backends)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    pg.start()


def crash(kills, config="", say=lambda text: None, seed=None, victims=(kill_couplet,)):
    """victims: functions of (server, workers), in turn."""
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
            victims[n % len(victims)](server, workers)
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


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("kills", nargs="?", type=int, default=100)
    ap.add_argument("config", nargs="?")
    ap.add_argument("--postgres", action="store_true")
    ap.add_argument("--both", action="store_true")
    a = ap.parse_args()
    extra = pathlib.Path(a.config).read_text() if a.config else ""
    if not (a.postgres or a.both):
        print(crash(a.kills, extra, print))
        return
    with Postgres() as pg:
        os.environ.update(COUPLET_TEST_STORAGE="postgres", COUPLET_TEST_POSTGRES=str(pg.dir))
        victims = [kill_couplet, lambda *_: kill_postgres(pg)] if a.both else [kill_couplet]
        print(crash(a.kills, extra, print, victims=victims))


if __name__ == "__main__":
    main()
