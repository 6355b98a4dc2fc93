# SPDX-License-Identifier: MIT
"""check.py - the whole harness for tests in Python: `@test("name")` on functions (plain or async), then `done()`."""
import asyncio
import os
import sys
import traceback

_tests = []


def test(name):
    def add(fn):
        _tests.append((name, fn))
        return fn
    return add


def done(*args, timeout=120, last=None):
    """Runs every test with args, prints "N passed, N failed" and ends the process."""
    passed = failed = 0
    for name, fn in _tests:
        try:
            result = fn(*args)
            if asyncio.iscoroutine(result):
                asyncio.get_event_loop().run_until_complete(asyncio.wait_for(result, timeout))
            passed += 1
            print("ok", name)
        except Exception:
            failed += 1
            print("not ok", name)
            traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
    if last:
        last()
    print("%d passed, %d failed" % (passed, failed))
    sys.stdout.flush()
    if not failed:                                     # what event loops complain of when they are taken down
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    return failed


def equal(got, want):
    if got != want:
        raise AssertionError("got %r, want %r" % (got, want))
