#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Talks whose plugins store something, once more with everything in PostgreSQL."""
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import check  # noqa: E402
from postgres import Postgres  # noqa: E402

TALKS = ["roster", "subscription", "offline", "register", "questions", "blocklist", "mam"]


def talk(pg, name):
    env = {**os.environ, "COUPLET_TEST_STORAGE": "postgres", "COUPLET_TEST_POSTGRES": str(pg.dir)}
    r = subprocess.run([sys.executable, HERE / "talk.py", HERE / (name + ".talk")], env=env, stdin=subprocess.DEVNULL,
                       capture_output=True, text=True)
    found = re.findall(r"^(\d+) passed, 0 failed$", r.stdout, re.M)
    assert r.returncode == 0 and found and int(found[-1]) > 0, r.stdout[-6000:] + r.stderr


for name in TALKS:
    check.test("%s.talk on PostgreSQL" % name)(lambda pg, name=name: talk(pg, name))


@check.test("they did store there")
def stored(pg):
    check.equal(int(pg.query("SELECT count(*) FROM pg_database WHERE datname LIKE 'test%'")), len(TALKS))


with Postgres() as server:
    failed = check.done(server)
sys.exit(failed)
