#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Acknowledged means kept, in PostgreSQL: through crashes of the server, of PostgreSQL, and while PostgreSQL is away.
The long run is tests/crash/crash.py --both."""
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "crash"))
from check import done, equal, test  # noqa: E402
from crash import crash, join, kill_couplet, kill_postgres  # noqa: E402
from devices import CONFIG, Receiver, Sender, archive, check_archive  # noqa: E402
from postgres import Postgres  # noqa: E402
from server import DEADLINE, Server  # noqa: E402

ACCOUNTS = {name + "@localhost": "secret" for name in ("romeo", "juliet")}


def until(what, why):
    end = time.monotonic() + DEADLINE
    while not what():
        if time.monotonic() > end:
            raise AssertionError(why)
        time.sleep(0.02)


@test("kill -9 of Couplet and of PostgreSQL, in turn: what was acknowledged is in both archives, once, in order")
def killed(pg):
    print(crash(8, victims=[kill_couplet, lambda *_: kill_postgres(pg)]))


@test("PostgreSQL is away for five seconds: nothing is acknowledged, chat goes on, all of it is kept afterwards")
def away(pg):
    with Server(config=CONFIG + "sql_timeout = 1\n", accounts=ACCOUNTS, modules=["mam", "smacks"]) as server:
        romeo, juliet = Sender(server, "romeo", "juliet"), Receiver(server, "juliet")
        juliet.start()
        until(lambda: juliet.sessions, "juliet does not log in")
        romeo.start()
        until(lambda: len(romeo.acked) > 20, "nothing is acknowledged")
        pg.stop("immediate")
        stopped = time.monotonic()
        until(lambda: len(romeo.unacked) >= Sender.WINDOW, "the window does not fill")
        until(lambda: "messages cannot be archived" in server.log(), "the log does not say it")
        until(lambda: juliet.numbers[-1] == romeo.number, "delivery waits for the database")
        time.sleep(1.5)                              # <r/> is answered after a second with what is settled by then
        acked = romeo.acked[-1]
        time.sleep(max(1.5, stopped + 5 - time.monotonic()))
        equal(romeo.acked[-1], acked)
        pg.start()
        until(lambda: romeo.acked[-1] > acked + 60, "it does not recover")
        join(romeo)
        juliet.last = romeo.number
        join(juliet)
        equal(juliet.numbers, list(range(1, romeo.number + 1)))
        for user in ("romeo", "juliet"):
            equal(check_archive(archive(server, user), romeo.acked, user), 0)
        equal(server.log().count("messages cannot be archived"), 1)


with Postgres() as postgres:
    os.environ.update(COUPLET_TEST_STORAGE="postgres", COUPLET_TEST_POSTGRES=str(postgres.dir))
    failed = done(postgres)
sys.exit(failed != 0)
