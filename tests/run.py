#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""run.py - the whole suite: builds what it needs, runs every test file as a process of its own, sums up.

usage: ./dev test [--list] [--jobs N] [STAGE | FILE …]

A test is a program whose last line is "N passed, N failed" (", N skipped" may follow) and whose exit code agrees.
Stages run one after another; the files of a stage run side by side. What failed there is run once more alone, because a machine
that others use can starve a test: if it passes then, it is named as unsteady at the end and should be looked into. What a
sanitizer reported stays failed, and so does everything if many files fail. Tests wait a third of the time, so in a run of everything
the fuzzers take what they leave of the processor: one at a time, with low priority, for twice as long.
"""
import argparse
import concurrent.futures
import functools
import json
import os
import pathlib
import re
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
    "asan": ("asan", ["unit", "lua", "plugins", "wire", "hostile", "peers"]),
    "tsan": ("tsan", ["unit", "tsan"]),
    "fuzz": ("fuzz", ["fuzz"]),
}
SLOW = ["luarocks_test", "daemon_test", "prosody_config_test", "abuse_test", "chaos_test", "time.talk", "hostile_test", "net_", "xmppjs_test",
        "federation_test", "postgres_trouble", "crash_"]                # begin first: the stage ends with the last of them
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
        return [*(["nice", "-n", "19"] if beside else []), path, "-max_total_time=%d" % (FUZZ_SECONDS * (1 + beside)),
                "-timeout=25", "-rss_limit_mb=2048", "-verbosity=0",
                "-print_final_stats=1", "-artifact_prefix=%s/crash-%s-" % (SOURCE / build, name), str(scratch),
                *([str(corpus)] if corpus.is_dir() else [])], env
    san = {"build-asan": {"ASAN_OPTIONS": "detect_leaks=1", "LSAN_OPTIONS": "suppressions=tests/lsan.supp:print_suppressions=0"},
           "build-tsan": {"TSAN_OPTIONS": "suppressions=tests/tsan.supp"}}.get(build, {})
    return [path], {**env, **san}


def run(path, build, beside=False):
    started = time.monotonic()
    argv, env = command(path, build, beside)
    with tempfile.TemporaryFile() as output:
        p = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        limit = threading.Timer(LIMIT, p.kill)
        limit.start()
        _, status, used = os.wait4(p.pid, 0)
        limit.cancel()
        code = p.returncode = os.waitstatus_to_exitcode(status)
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
    return path, passed, failed, skipped, seconds, used.ru_utime + used.ru_stime, out


def tell(result, word=None):
    path, passed, failed, skipped, seconds, cpu, out = result
    name = os.path.relpath(path, SOURCE)
    print("%-6s %-46s %4d passed %3d failed %s%6.1f s, %.1f of a processor" % (word or ("FAILED" if failed else "ok"), name, passed,
          failed, "%3d skipped " % skipped if skipped else "", seconds, cpu), flush=True)
    if failed:
        # The end says what failed; the beginning of a long output too, if it was a check in the middle.
        lines = [line for line in out[:-15000].splitlines() if re.match(r"not ok|FAIL|Traceback|\w*Error", line)]
        print("    " + "\n    ".join(lines + [out[-15000:].replace("\n", "\n    ")]), flush=True)
    elif skipped:
        print("    " + "\n    ".join(line for line in out.splitlines() if line.startswith("skip")), flush=True)


def build_of(preset):
    return subprocess.run(["./dev", "build", preset]).returncode == 0


def fuzz_beside(build):
    """A future: the results of the fuzzers, which run beside all other stages."""
    def all_of_them():
        results = []
        for path in files("fuzz", build):
            results.append(run(path, build, beside=True))
            tell(results[-1])
        return results
    return concurrent.futures.ThreadPoolExecutor(1).submit(all_of_them)


def main():
    ap = argparse.ArgumentParser(prog="./dev test", description="Runs the whole suite, or the named stages or files.")
    ap.add_argument("--list", action="store_true", help="name the stages and their files")
    ap.add_argument("--jobs", type=int, default=0, help="files side by side (default: two per core, most of them wait; fuzzers: one per core)")
    ap.add_argument("--on", default=None, help="build preset for single files (default: release)")
    ap.add_argument("what", nargs="*")
    a = ap.parse_args()
    if a.list:
        for stage, (preset, kinds) in STAGES.items():
            print("%s (%s)" % (stage, directory(preset)))
            for kind in kinds:
                for f in files(kind, directory(preset), listing=True):
                    print("  " + os.path.relpath(f, SOURCE))
        return 0
    plan = []
    for what in a.what or list(STAGES):
        if what in STAGES:
            preset, kinds = STAGES[what]
            plan.append((what, preset, kinds))
        elif os.path.exists(what):
            if not plan or plan[-1][0] != "files":        # one build for all of them
                plan.append(("files", a.on or "release", []))
            plan[-1][2].append(os.path.abspath(what))
        else:
            print("no stage or file '%s'; stages: %s" % (what, ", ".join(STAGES)))
            return 2
    total = [0, 0, 0]
    bad, unsteady = [], []

    def count(stage, results):
        for r in results:
            for i in range(3):
                total[i] += r[1 + i]
            if r[2]:
                bad.append("%s (%s)" % (os.path.relpath(r[0], SOURCE), stage))

    beside = None
    for stage, preset, kinds in plan:
        if beside and stage == "fuzz":
            print("== fuzz: the rest of them", flush=True)
            count(stage, beside.result())
            continue
        if not build_of(preset):
            total[1] += 1
            bad.append("build " + preset)
            continue
        if not a.what and not beside and build_of("fuzz"):
            beside = fuzz_beside(directory("fuzz"))
        build = directory(preset)
        todo = [f for kind in kinds for f in ([kind] if "/" in kind else files(kind, build))]
        if stage == "asan":
            todo = [f for f in todo if not any(name in os.path.basename(f) for name in NOT_ASAN)]
        todo.sort(key=lambda f: min([i for i, name in enumerate(SLOW) if name in f], default=len(SLOW)))
        print("== %s: %d files" % (stage, len(todo)), flush=True)
        cores = os.cpu_count() or 2
        with concurrent.futures.ThreadPoolExecutor(a.jobs or (cores if "fuzz" in kinds else 2 * cores)) as pool:
            results = []
            for done in concurrent.futures.as_completed([pool.submit(run, f, build) for f in todo]):
                results.append(done.result())
                tell(results[-1])
        failures = [i for i, r in enumerate(results) if r[2] and not REPORT.search(r[6])]
        whole = stage in STAGES and "fuzz" not in kinds           # a file named by hand is run as often as asked
        for i in failures if whole and len(failures) <= AGAIN else []:
            again = run(results[i][0], build)
            tell(again, "AGAIN" if again[2] else "again")
            if not again[2]:
                unsteady.append("%s (%s)" % (os.path.relpath(again[0], SOURCE), stage))
                results[i] = again
        count(stage, results)
    for name in unsteady:
        print("unsteady: %s: failed beside others, passed alone; its output is above" % name)
    for name in bad:
        print("failed: " + name)
    print("%d passed, %d failed" % (total[0], total[1]) + (", %d skipped" % total[2] if total[2] else ""))
    return total[1] != 0


sys.exit(main())
