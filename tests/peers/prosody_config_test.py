# SPDX-License-Identifier: MIT
"""The prosody.cfg.lua of Debian's package starts Couplet as it is: same file, same directories, same user; an account logs in.

Runs in mount and network namespaces of its own (root needed, else skipped): /etc, /run, /var/lib and /var/log are copies or
empty, port 5222 is nobody else's. The package is downloaded and unpacked, never installed.
"""
import asyncio
import ctypes
import fcntl
import os
import pathlib
import pwd
import shutil
import socket
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from check import done, equal, test  # noqa: E402
from server import BUILD, DEADLINE, certificate, sanitizer_environment  # noqa: E402

CONFIG = "/etc/prosody/prosody.cfg.lua"
DIRECTORIES = ["/var/lib/prosody", "/var/log/prosody", "/run/prosody"]
UID = 64999


def skip(reason):
    print("skip: " + reason)
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)


def sh(*argv, **how):
    return subprocess.run(argv, check=True, capture_output=True, text=True, **how)


def package(work):
    """Debian's package, unpacked below work/deb."""
    p = subprocess.run(["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", "prosody"], cwd=work, capture_output=True, text=True)
    found = list(pathlib.Path(work).glob("prosody_*.deb"))
    if p.returncode or not found:
        skip("apt-get download prosody: " + (p.stderr or p.stdout).strip().split("\n")[-1])
    sh("dpkg-deb", "-x", str(found[0]), work + "/deb")


def loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, 0x8914, struct.pack("16sh", b"lo", 0x1 | 0x40))     # SIOCSIFFLAGS: IFF_UP | IFF_RUNNING


def prepare(work):
    """What the package's installation would have made: files, user, directories, certificate."""
    try:
        sh("mount", "--make-rprivate", "/")
    except subprocess.CalledProcessError as e:
        skip("no mounts of one's own here: " + e.stderr.strip())          # a chroot, or a container
    shutil.copytree("/etc", work + "/etc", symlinks=True, ignore_dangling_symlinks=True)
    shutil.rmtree(work + "/etc/prosody", ignore_errors=True)
    shutil.copytree(work + "/deb/etc/prosody", work + "/etc/prosody", symlinks=True)
    for name, line in (("passwd", "prosody:x:%d:%d::/var/lib/prosody:/usr/sbin/nologin" % (UID, UID)), ("group", "prosody:x:%d:" % UID)):
        path = pathlib.Path(work + "/etc/" + name)
        lines = [x for x in path.read_text().splitlines() if not x.startswith("prosody:")]
        path.write_text("\n".join([*lines, line]) + "\n")
    sh("mount", "--bind", work + "/etc", "/etc")
    for place in ("/var/lib", "/var/log", "/run"):
        sh("mount", "-t", "tmpfs", "tmpfs", place)
    certs = pathlib.Path("/etc/prosody/certs")
    certs.mkdir(exist_ok=True)
    pathlib.Path("/etc/prosody/conf.d").mkdir(exist_ok=True)
    for name, file in (("cert.pem", "localhost.crt"), ("key.pem", "localhost.key")):
        (certs / file).unlink(missing_ok=True)
        shutil.copy(certificate() + "/" + name, certs / file)
        os.chown(certs / file, 0, UID)
        os.chmod(certs / file, 0o640)
    for d in DIRECTORIES:
        os.mkdir(d, 0o750)
        os.chown(d, UID, UID)
    os.chown(CONFIG, 0, UID)
    os.chmod(CONFIG, 0o640)
    loopback_up()


class Server:
    def __init__(self, as_root):
        self.as_root = as_root
        self.env = {**os.environ, **sanitizer_environment()}
        self.env.pop("NOTIFY_SOCKET", None)

    def argv(self, program, *args):
        who = [] if self.as_root else ["setpriv", "--reuid", "prosody", "--regid", "prosody", "--clear-groups"]
        return [*who, str(BUILD / "bin" / program), "--config", CONFIG, *args]

    def ctl(self, *args, input=None):
        r = subprocess.run(self.argv("coupletctl", *args), input=input, capture_output=True, text=True, env=self.env, timeout=DEADLINE, cwd="/")
        return r.returncode, r.stdout + r.stderr

    async def __aenter__(self):
        self.process = subprocess.Popen(self.argv("couplet"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        text=True, env=self.env, cwd="/")
        end = asyncio.get_event_loop().time() + DEADLINE
        while self.ctl("status")[0] != 0:
            if self.process.poll() is not None or asyncio.get_event_loop().time() > end:
                self.process.kill()
                raise RuntimeError("couplet did not start:\n" + self.process.stdout.read() + self.log())
            await asyncio.sleep(0.1)
        return self

    async def __aexit__(self, *trouble):
        self.process.terminate()
        try:
            self.output = self.process.communicate(timeout=DEADLINE)[0]
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        if trouble[0]:
            print(self.output[-3000:], self.log()[-6000:])
        else:
            equal(self.process.returncode, 0)

    @staticmethod
    def log():
        path = pathlib.Path("/var/log/prosody/prosody.log")
        return path.read_text() if path.exists() else ""


async def login(user, password):
    import slixmpp
    client = slixmpp.ClientXMPP(user, password)
    client.ca_certs = pathlib.Path(certificate()) / "cert.pem"
    client.register_plugin("xep_0199")
    client.register_plugin("xep_0030")
    client.connect(("127.0.0.1", 5222))
    started = asyncio.get_event_loop().create_future()
    client.add_event_handler("session_start", lambda e: started.done() or started.set_result(True))
    client.add_event_handler("failed_all_auth", lambda e: started.done() or started.set_exception(PermissionError("login")))
    await asyncio.wait_for(started, DEADLINE)
    assert await client["xep_0199"].ping("localhost") is not None
    info = await client["xep_0030"].get_info(jid="localhost")
    assert "urn:xmpp:ping" in info["disco_info"]["features"]
    await client.disconnect()


@test("the file is Debian's, unedited")
def unedited(work):
    equal(pathlib.Path(CONFIG).read_bytes(), pathlib.Path(work + "/deb" + CONFIG).read_bytes())


@test("it passes the check of the configuration: what is not there yet are warnings")
def checks(work):
    code, out = Server(as_root=False).ctl("check", "config")
    equal((code, out if code else ""), (0, ""))


@test("started as user prosody: an account is made, logs in, and the directories of the package are used")
async def as_user(work):
    async with Server(as_root=False) as s:
        equal(s.ctl("adduser", "juliet@localhost", input="secret\nsecret\n")[0], 0)
        await login("juliet@localhost/balcony", "secret")
        equal(pathlib.Path("/run/prosody/prosody.pid").read_text().strip().isdigit(), True)
        errors = [x for x in s.log().splitlines() if " error" in x]
        equal(errors, [])
        for name in ("pep", "smacks", "carbons"):
            if not (BUILD.parent / "plugins" / ("mod_%s.lua" % name)).exists():
                assert "plugin %s of localhost is not installed" % name in s.log(), s.log()
        assert any(pathlib.Path("/var/lib/prosody").iterdir())
    equal(pathlib.Path("/run/prosody/prosody.pid").exists(), False)


@test("started as root: it becomes the owner of the data, whose account is still there")
async def as_root(work):
    async with Server(as_root=True) as s:
        status = dict(x.split(":", 1) for x in pathlib.Path("/proc/%d/status" % pid()).read_text().splitlines())
        equal(status["Uid"].split(), [str(UID)] * 4)
        await login("juliet@localhost/balcony", "secret")


def pid():
    return int(pathlib.Path("/run/prosody/prosody.pid").read_text())


def main():
    if os.geteuid() != 0:
        skip("needs root for namespaces of its own")
    if ctypes.CDLL(None, use_errno=True).unshare(0x00020000 | 0x40000000) != 0:       # CLONE_NEWNS | CLONE_NEWNET
        skip("no namespaces here: " + os.strerror(ctypes.get_errno()))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    prepare(work.name)
    assert pwd.getpwnam("prosody").pw_uid == UID
    return done(work.name)


work = tempfile.TemporaryDirectory(prefix="couplet-prosody-")
os.chmod(work.name, 0o755)
certificate()
if os.geteuid() == 0:
    package(work.name)
child = os.fork()                       # the namespaces end with the child; the parent removes what it made
if child == 0:
    code = 1
    try:
        code = main() != 0
    except SystemExit as e:
        code = e.code or 0
    except Exception:
        import traceback
        traceback.print_exc(file=sys.stdout)
        print("0 passed, 1 failed")
    sys.stdout.flush()
    os._exit(code)
status = os.waitpid(child, 0)[1]
work.cleanup()
sys.exit(os.waitstatus_to_exitcode(status) != 0)
