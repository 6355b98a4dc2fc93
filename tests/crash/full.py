#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""full.py [--postgres] - the disk is full while clients send: nothing is acknowledged, chat goes on; there is room again: all of it
is kept. As root, in a mount namespace of its own: unshare -m python3 tests/crash/full.py
"""
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from crash import join  # noqa: E402
from devices import CONFIG, Receiver, Sender, archive, check_archive  # noqa: E402
from postgres import Postgres  # noqa: E402
from server import DEADLINE, Server  # noqa: E402


def until(what, why):
    end = time.monotonic() + 2 * DEADLINE
    while not what():
        if time.monotonic() > end:
            raise AssertionError(why)
        time.sleep(0.02)


def small_disk(where, size):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%s,mode=0755" % size, "none", where], check=True)


def fill(where):
    """Takes what is left, and whatever becomes free again: -> a file to remove."""
    file = pathlib.Path(where) / "filler"
    with open(file, "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"x" * 4096)
        except OSError:
            pass
    return file


def run(disk, server):
    romeo, juliet = Sender(server, "romeo", "juliet"), Receiver(server, "juliet")
    juliet.start()
    until(lambda: juliet.sessions, "juliet does not log in")
    romeo.start()
    until(lambda: len(romeo.acked) > 20, "nothing is acknowledged")
    filler = fill(disk)
    until(lambda: "messages cannot be archived" in server.log(), "the log does not say it")
    until(lambda: len(romeo.unacked) >= Sender.WINDOW, "the window does not fill")
    until(lambda: juliet.numbers[-1] == romeo.number, "delivery waits for the disk")
    time.sleep(2)                                    # <r/> is answered after a second with what is settled by then
    acked = romeo.acked[-1]
    time.sleep(2)
    assert romeo.acked[-1] == acked, "acknowledged, though the disk is full"
    filler.unlink()
    until(lambda: romeo.acked[-1] > acked + 60, "it does not recover")
    join(romeo)
    juliet.last = romeo.number
    join(juliet)
    more = [check_archive(archive(server, user), romeo.acked, user) for user in ("romeo", "juliet")]
    print("%d acknowledged, %d before the disk was full; archived beyond them: %s" % (len(romeo.acked), acked, more))
    print("\n".join(line for line in server.log().splitlines() if " store: " in line or "archived" in line))


def main():
    accounts = {name + "@localhost": "secret" for name in ("romeo", "juliet")}
    if sys.argv[1:] != ["--postgres"]:
        server = Server(config=CONFIG, accounts=accounts, modules=["mam", "smacks"])
        (server.dir / "data").mkdir(exist_ok=True)
        small_disk(server.dir / "data", "8m")
        with server:
            run(server.dir / "data", server)
            subprocess.run(["umount", "-l", server.dir / "data"], check=True)
        return
    disk = tempfile.mkdtemp(prefix="couplet-full-")
    small_disk(disk, "160m")
    os.environ["TMPDIR"] = tempfile.tempdir = disk
    with Postgres() as pg:
        os.environ.update(COUPLET_TEST_STORAGE="postgres", COUPLET_TEST_POSTGRES=str(pg.dir))
        tempfile.tempdir = "/tmp"
        with Server(config=CONFIG + "sql_timeout = 2\n", accounts=accounts, modules=["mam", "smacks"]) as server:
            run(disk, server)
    subprocess.run(["umount", "-l", disk], check=True)
    os.rmdir(disk)


main()
