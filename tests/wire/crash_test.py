# SPDX-License-Identifier: MIT
"""Acknowledged means kept: through crashes, cuts of the network, and trouble of the disk. The long run is tests/crash/crash.py."""
import pathlib
import sqlite3
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "crash"))
from check import done, equal, test  # noqa: E402
from crash import crash, join  # noqa: E402
from devices import CONFIG, Receiver, Sender, archive, check_archive  # noqa: E402
from server import BUILD, DEADLINE, Server, sanitizer_environment  # noqa: E402

ACCOUNTS = {name + "@localhost": "secret" for name in ("romeo", "juliet", "mercutio", "nurse")}


def until(what, why):
    end = time.monotonic() + DEADLINE
    while not what():
        if time.monotonic() > end:
            raise AssertionError(why)
        time.sleep(0.02)


@test("20 times kill -9: what was acknowledged is in both archives, once, in order")
def killed():
    print(crash(20))


@test("the network is cut, again and again: everything is resumed, nothing is lost, nothing comes twice")
def cut():
    with Server(config=CONFIG, accounts=ACCOUNTS, modules=["mam", "smacks"]) as server:
        romeo, juliet = Sender(server, "romeo", "juliet", cut=0.3), Receiver(server, "juliet", cut=0.4)
        juliet.start()
        until(lambda: juliet.sessions, "juliet does not log in")
        romeo.start()
        until(lambda: romeo.resumptions >= 10 and juliet.resumptions >= 10 or romeo.trouble or juliet.trouble, "too few cuts")
        join(romeo)
        juliet.last = romeo.number
        join(juliet)
        equal((romeo.sessions, juliet.sessions), (1, 1))
        everything = list(range(1, romeo.number + 1))
        equal(romeo.acked, everything)
        equal(juliet.numbers, everything)
        for user in ("romeo", "juliet"):
            equal(archive(server, user), everything)


@test("the database is locked for a while: nothing is acknowledged, chat goes on, all of it is kept afterwards")
def locked():
    with Server(config=CONFIG + "sqlite_busy_timeout = 0.2\n", accounts=ACCOUNTS, modules=["mam", "smacks"]) as server:
        romeo, juliet = Sender(server, "romeo", "juliet"), Receiver(server, "juliet")
        juliet.start()
        until(lambda: juliet.sessions, "juliet does not log in")
        romeo.start()
        until(lambda: len(romeo.acked) > 20, "nothing is acknowledged")
        with sqlite3.connect(server.dir / "data/couplet.sqlite", isolation_level=None) as db:
            db.execute("begin immediate")
            until(lambda: len(romeo.unacked) >= Sender.WINDOW, "the window does not fill")
            until(lambda: "messages cannot be archived" in server.log(), "the log does not say it")
            until(lambda: juliet.numbers[-1] == romeo.number, "delivery waits for the disk")
            time.sleep(2)                            # <r/> is answered after a second with what is settled by then
            acked = romeo.acked[-1]
            time.sleep(2)
            equal(romeo.acked[-1], acked)
            db.execute("rollback")
        until(lambda: romeo.acked[-1] > acked + 60, "it does not recover")
        join(romeo)
        juliet.last = romeo.number
        join(juliet)
        for user in ("romeo", "juliet"):
            equal(check_archive(archive(server, user), romeo.acked, user), 0)
        equal(server.log().count("messages cannot be archived"), 1)


@test("a disk that syncs nothing for seconds: nothing is acknowledged, chat and logins go on, all of it is kept afterwards")
def slow():
    wrap = sanitizer_environment().get("COUPLET_WRAP", "env LD_PRELOAD=") + ":%s/tests/slow_sync.so" % BUILD
    with tempfile.TemporaryDirectory() as directory:
        flag = pathlib.Path(directory) / "slow"
        with Server(config=CONFIG, accounts=ACCOUNTS, modules=["mam", "smacks"],
                    env={"COUPLET_WRAP": wrap, "SLOW_SYNC": str(flag)}) as server:
            romeo, juliet = Sender(server, "romeo", "juliet"), Receiver(server, "juliet")
            juliet.start()
            until(lambda: juliet.sessions, "juliet does not log in")
            romeo.start()
            until(lambda: len(romeo.acked) > 20, "nothing is acknowledged")
            flag.touch()
            until(lambda: len(romeo.unacked) >= Sender.WINDOW, "the window does not fill")
            until(lambda: juliet.numbers[-1] == romeo.number, "delivery waits for the disk")
            time.sleep(2)                            # <r/> is answered after a second with what is settled by then
            acked = romeo.acked[-1]
            mercutio, nurse = Sender(server, "mercutio", "nurse"), Receiver(server, "nurse")
            nurse.start()
            until(lambda: nurse.sessions, "nobody can log in")
            mercutio.start()
            until(lambda: len(nurse.numbers) >= Sender.WINDOW, "others cannot chat")
            time.sleep(2)
            equal((romeo.acked[-1], mercutio.acked), (acked, []))
            flag.unlink()
            until(lambda: romeo.acked[-1] > acked + 60 and len(mercutio.acked) > 60, "it does not recover")
            for sender, receiver in ((romeo, juliet), (mercutio, nurse)):
                join(sender)
                receiver.last = sender.number
                join(receiver)
                equal(receiver.numbers, list(range(1, sender.number + 1)))
                for user in (sender.user, receiver.user):
                    equal(check_archive(archive(server, user), sender.acked, user), 0)


sys.exit(done() != 0)
