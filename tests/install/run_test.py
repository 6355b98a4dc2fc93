#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""tests/run.py: what ends files, and what they have started, early."""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS))
import run  # noqa: E402
from check import done, equal, test  # noqa: E402

# a file that starts something, says as whom, and then does as told; Ctrl-C it takes for a wish
FILE = """
import pathlib, signal, subprocess, sys, time
here = pathlib.Path(__file__).parent
try:
    subprocess.Popen(["sh", "-c", "trap '' INT; sleep 1000 & echo $! > part; mv part child; wait"], cwd=here)
    while not (here / "child").exists():
        time.sleep(0.01)
    %s
except KeyboardInterrupt:
    (here / "tidied").touch()
print("1 passed, 0 failed")
"""


def alive(pid):
    try:
        return pathlib.Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(what, condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited too long for " + what
        time.sleep(0.02)


class File:
    def __init__(self, does):
        self.dir = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.dir.name)
        (self.path / "starts_test.py").write_text(FILE % does)

    def child(self):
        return int((self.path / "child").read_text())

    def ends(self):
        wait_for("the end of what it has started", lambda: not alive(self.child()))


@test("a file that takes too long ends with what it has started")
def limit():
    file, run.LIMIT = File("time.sleep(1000)"), 2
    result = run.run("files", str(file.path / "starts_test.py"), "build")
    run.LIMIT = 400
    assert "took longer than 2 s" in result.output, result.output
    equal((result.passed, result.failed), (0, 1))
    file.ends()


@test("what a file leaves behind ends with it")
def leftover():
    file = File("pass")
    result = run.run("files", str(file.path / "starts_test.py"), "build")
    equal((result.passed, result.failed), (1, 0))
    file.ends()


@test("Ctrl-C and SIGTERM: files may tidy up, and all that they have started ends")
def interrupt():
    for how in (signal.SIGINT, signal.SIGTERM):
        file = File("time.sleep(1000)")
        suite = subprocess.Popen([run.PY, str(TESTS / "run.py"), str(file.path / "starts_test.py")], stdout=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE, text=True)
        wait_for("the start", (file.path / "child").exists)
        suite.send_signal(how)
        said = suite.communicate(timeout=60)[1]
        equal(suite.returncode, 130)
        assert "interrupted" in said and "Traceback" not in said, said
        assert (file.path / "tidied").exists()
        file.ends()


@test("--list | head")
def listing():
    reader, writer = os.pipe()
    suite = subprocess.Popen([run.PY, str(TESTS / "run.py"), "--list"], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    os.close(reader)
    equal(suite.communicate(timeout=60)[1], "")


sys.exit(done())
