#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""run.py - the whole suite: builds what it needs, runs every test file as a process of its own, sums up.

usage: ./dev test [--list] [--jobs N] [STAGE | FILE …]

A test is a program whose last line is "N passed, N failed" (", N skipped" may follow) and whose exit code agrees.
Files run side by side, stage after stage, without a pause between: while the files of one run, the next stage is built. Files that
mostly wait have places of their own, so that the others keep all cores busy. In a run of everything the fuzzers take what is left
of the processor: with the lowest priority, for twice as long. What failed is run once more alone at the end, because a
machine that others use can starve a test: if it passes then, it is named as unsteady and should be looked into. What a sanitizer
reported stays failed, and so does everything of a stage in which many files fail. A file that takes too long is ended with all it has
started, and so are all files by Ctrl-C.
"""
import argparse
import collections
import concurrent.futures
import functools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

SOURCE = pathlib.Path(__file__).resolve().parent.parent
os.chdir(SOURCE)
PY = "/usr/bin/python3"              # Debian's, which sees Debian's python3-* packages
LIMIT = 400                          # seconds one file may take
AGAIN = 3                            # files of a stage that are run once more
REPORT = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|libFuzzer")
FUZZ_SECONDS = int(os.environ.get("COUPLET_FUZZ_SECONDS", "30"))

# stage: (build preset, kinds of files)
STAGES = {
    "release": ("release", ["unit", "lua", "plugins", "wire", "hostile", "peers", "install"]),
    "fuzz": ("fuzz", ["fuzz"]),
    "asan": ("asan", ["unit", "lua", "plugins", "wire", "hostile", "peers"]),
    "tsan": ("tsan", ["unit", "tsan"]),
}
SLOW = ["luarocks_test", "daemon_test", "federation_test", "bidi_test", "prosody_config_test", "chaos_test", "net_", "xmppjs_test",
        "access_test", "proof_test", "hostile_test"]                    # begin first: the run ends with the last of them
WAITING = ["postgres_trouble", "hostile_peer_test", "crash_", "sm_test", "abuse_test", "omemo_test", "streams_test", "elements_test",
           "store_postgres_test", "time.talk"]                          # a fifth of a core or less; the longest first
TSAN = ["tests/lua/net_io2_test.lua", "tests/lua/store_sqlite_test.lua", "tests/lua/store_postgres_test.lua", "tests/wire/login.talk",
        "tests/wire/sm.talk", "tests/peers/slixmpp_test.py",
        "tests/peers/resolver_test.py", "tests/peers/dane_test.py", "tests/peers/s2s_sm_test.py", "tests/wire/chaos_test.py"]


NOT_ASAN = ["crash"]                      # a sanitizer has nothing to say of a server that is killed; it runs everywhere else


def directory(preset):
    return "build" if preset == "release" else "build-" + preset


def files(kind, build, listing=False):
    if listing and kind in ("unit", "fuzz"):          # listed before they are built
        pattern, folder = ("unit/test_*.c", "tests") if kind == "unit" else ("fuzz/fuzz_*.c", "fuzz")
        return sorted(str(SOURCE / build / folder / p.stem) for p in SOURCE.glob("tests/" + pattern))
    find = lambda pattern: sorted(str(p) for p in SOURCE.glob(pattern))
    if kind == "unit":
        built = {p.stem for p in SOURCE.glob("tests/unit/test_*.c")}
        return [str(p) for p in sorted((SOURCE / build / "tests").glob("test_*")) if p.name in built]
    if kind == "fuzz":
        built = {p.stem for p in SOURCE.glob("tests/fuzz/fuzz_*.c")}
        return [str(p) for p in sorted((SOURCE / build / "fuzz").glob("fuzz_*")) if p.name in built]
    if kind == "tsan":
        return [str(SOURCE / f) for f in TSAN if (SOURCE / f).exists()]
    return find({"lua": "tests/lua/*_test.lua", "plugins": "tests/plugins/*_test.lua", "wire": "tests/wire/*.talk", "hostile": "tests/wire/*_test.py",
                 "peers": "tests/peers/*_test.py", "install": "tests/install/*_test.py"}[kind])


@functools.cache
def of_sanitizer(build):
    """What server.py sets for a sanitizer's build: asked once, not for every file."""
    out = subprocess.run([PY, "-c", "import server, json; print(json.dumps(server.sanitizer_environment()))"],
                         env={**os.environ, "COUPLET_BUILD": build, "PYTHONPATH": str(SOURCE / "tests")}, capture_output=True,
                         text=True, check=True).stdout
    return json.loads(out)


def command(path, build, beside=False):
    env = {**os.environ, "COUPLET_BUILD": build}
    if path.endswith(".lua"):
        return [str(SOURCE / build / "bin/lua"), path], {**env, **of_sanitizer(build)}
    if path.endswith(".talk"):
        return [PY, "tests/wire/talk.py", path], env
    if path.endswith(".py"):
        return [PY, path], env
    if "/fuzz/" in path:
        name = pathlib.Path(path).name.removeprefix("fuzz_")
        # New inputs go to a scratch directory; the corpus in the tree grows by hand.
        scratch = SOURCE / build / "corpus" / name
        scratch.mkdir(parents=True, exist_ok=True)
        corpus = SOURCE / "tests/fuzz/corpus" / name
        return [*(["nice", "-n", "19"] if beside else []), path, "-max_total_time=%d" % (FUZZ_SECONDS * (2 if beside else 1)),
                "-timeout=25", "-rss_limit_mb=2048", "-verbosity=0",
                "-print_final_stats=1", "-artifact_prefix=%s/crash-%s-" % (SOURCE / build, name), str(scratch),
                *([str(corpus)] if corpus.is_dir() else [])], env
    san = {"build-asan": {"ASAN_OPTIONS": "detect_leaks=1", "LSAN_OPTIONS": "suppressions=tests/lsan.supp:print_suppressions=0"},
           "build-tsan": {"TSAN_OPTIONS": "suppressions=tests/tsan.supp"}}.get(build, {})
    return [path], {**env, **san}


running = set()                          # process groups of files: the number of one is no other's as long as it is in here
changing = threading.Condition()
interrupted = False


def end(group):
    with changing:
        if group in running:
            os.killpg(group, signal.SIGKILL)


def end_all():
    """Ctrl-C for all of them, and five seconds to tidy up."""
    global interrupted
    with changing:
        interrupted = True
        for how in (signal.SIGINT, signal.SIGKILL):
            for group in running:
                os.killpg(group, how)
            changing.wait_for(lambda: not running, 5)


def start(argv, env, output):
    with changing:
        if interrupted:
            raise KeyboardInterrupt
        p = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                             start_new_session=True)
        running.add(p.pid)
    return p


def wait(p):
    """Its exit code and what it used; what it has left behind ends with it."""
    os.waitid(os.P_PID, p.pid, os.WEXITED | os.WNOWAIT)
    with changing:
        os.killpg(p.pid, signal.SIGKILL)
        running.remove(p.pid)
        changing.notify()
        _, status, used = os.wait4(p.pid, 0)
    p.returncode = os.waitstatus_to_exitcode(status)
    return p.returncode, used


Result = collections.namedtuple("Result", "stage path passed failed skipped seconds cpu output")


def run(stage, path, build, beside=False):
    started = time.monotonic()
    argv, env = command(path, build, beside)
    with tempfile.TemporaryFile() as output:
        p = start(argv, env, output)
        limit = threading.Timer(LIMIT, end, [p.pid])
        limit.start()
        code, used = wait(p)
        limit.cancel()
        output.seek(0)
        out = output.read().decode(errors="replace")
    seconds = time.monotonic() - started
    if seconds >= LIMIT:
        out += "\ntook longer than %d s" % LIMIT
    counts = re.findall(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", out, re.M)
    if "/fuzz/" in path and not path.endswith(".lua"):
        counts = [("1", "0", "")] if code == 0 else [("0", "1", "")]
    passed, failed, skipped = (int(n or 0) for n in counts[-1]) if counts else (0, 1, 0)
    if code != 0 and failed == 0:
        failed = 1
    return Result(stage, path, passed, failed, skipped, seconds, used.ru_utime + used.ru_stime, out)


def tell(result, word=None):
    r, out = result, result.output
    text = "%-6s %-7s %-46s %4d passed %3d failed %s%6.1f s, %.1f s of a core" % (word or ("FAILED" if r.failed else "ok"), r.stage,
        name(r.path), r.passed, r.failed, "%3d skipped " % r.skipped if r.skipped else "", r.seconds, r.cpu)
    if r.failed:
        # The end says what failed; the beginning of a long output too, if it was a check in the middle.
        lines = [line for line in out[:-15000].splitlines() if re.match(r"not ok|FAIL|Traceback|\w*Error", line)]
        text += "\n    " + "\n    ".join(lines + [out[-15000:].replace("\n", "\n    ")])
    elif r.skipped:
        text += "\n    " + "\n    ".join(line for line in out.splitlines() if line.startswith("skip"))
    print(text + "\n", end="", flush=True)                   # at once: several threads tell
    return result


def name(path):
    return os.path.relpath(path, SOURCE)


def place(path, names):
    return min([i for i, part in enumerate(names) if part in os.path.basename(path)], default=len(names))


def build_of(preset, beside):
    return subprocess.run([*(["nice", "-n", "10"] if beside else []), "./dev", "build", preset]).returncode == 0


def main():
    ap = argparse.ArgumentParser(prog="./dev test", description="Runs the whole suite, or the named stages or files.")
    ap.add_argument("--list", action="store_true", help="name the stages and their files")
    ap.add_argument("--jobs", type=int, default=0,
                    help="files side by side (default: two per core, one more per core of those that wait; fuzzers: one per core)")
    ap.add_argument("--on", default=None, help="build preset for single files (default: release)")
    ap.add_argument("what", nargs="*")
    a = ap.parse_args()
    if a.list:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)           # `| head` is no reason for a traceback
        for stage, (preset, kinds) in STAGES.items():
            print("%s (%s)" % (stage, directory(preset)))
            for kind in kinds:
                for f in files(kind, directory(preset), listing=True):
                    print("  " + name(f))
        return 0
    plan = []
    for what in a.what or list(STAGES):
        if what in STAGES:
            preset, kinds = STAGES[what]
            plan.append((what, preset, kinds))
        elif os.path.exists(what):
            path, preset = pathlib.Path(what).resolve(), a.on or "release"
            if path.suffix == ".c":                       # the program that is made of it
                fuzzer = path.stem.startswith("fuzz_")
                preset = "fuzz" if fuzzer else preset
                path = SOURCE / directory(preset) / ("fuzz" if fuzzer else "tests") / path.stem
            if not plan or plan[-1][:2] != ("files", preset):        # one build for all of them
                plan.append(("files", preset, []))
            plan[-1][2].append(str(path))
        else:
            print("no stage or file '%s'; stages: %s" % (what, ", ".join(STAGES)))
            return 2
    cores = os.cpu_count() or 2
    pool = concurrent.futures.ThreadPoolExecutor(a.jobs or 2 * cores)
    waiting = concurrent.futures.ThreadPoolExecutor(cores) if not a.jobs else pool
    fuzzing = concurrent.futures.ThreadPoolExecutor(a.jobs or cores)
    started, bad, unsteady = [], [], []
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for stage, preset, kinds in plan:
        if not build_of(preset, beside=started):
            bad.append("build " + preset)
            continue
        build = directory(preset)
        todo = [f for kind in kinds for f in ([kind] if "/" in kind else files(kind, build))]
        if stage == "asan":
            todo = [f for f in todo if place(f, NOT_ASAN) == len(NOT_ASAN)]
        todo.sort(key=lambda f: (place(f, WAITING), place(f, SLOW)))
        print("== %s: %d files" % (stage, len(todo)), flush=True)
        for f in todo:
            by = fuzzing if "/fuzz/" in f else waiting if place(f, WAITING) < len(WAITING) else pool
            started.append(by.submit(lambda *args: tell(run(*args)), stage, f, build, stage == "fuzz" and len(plan) > 1))
    results = [f.result() for f in started]
    for stage in STAGES:                                      # a file named by hand is run as often as asked
        failures = [i for i, r in enumerate(results) if r.stage == stage != "fuzz" and r.failed and not REPORT.search(r.output)]
        for i in failures if len(failures) <= AGAIN else []:
            again = run(stage, results[i].path, directory(STAGES[stage][0]))
            tell(again, "AGAIN" if again.failed else "again")
            if not again.failed:
                unsteady.append("%s (%s)" % (name(again.path), stage))
                results[i] = again
    passed, failed, skipped = (sum(getattr(r, what) for r in results) for what in ("passed", "failed", "skipped"))
    failed += len(bad)
    bad += ["%s (%s)" % (name(r.path), r.stage) for r in results if r.failed]
    for what in unsteady:
        print("unsteady: %s: failed beside others, passed alone; its output is above" % what)
    for what in bad:
        print("failed: " + what)
    print("%d passed, %d failed" % (passed, failed) + (", %d skipped" % skipped if skipped else ""))
    return failed != 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        end_all()
        print("interrupted", file=sys.stderr)
        sys.stdout.flush()
        os._exit(130)                    # no waiting for threads
