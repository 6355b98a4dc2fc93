# SPDX-License-Identifier: MIT
"""profanity in a terminal (tmux), for tests: what is typed, what its screen shows."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from server import DEADLINE  # noqa: E402


class Terminal:
    """profanity in a tmux server of its own."""

    def __init__(self):
        self.home = tempfile.mkdtemp(prefix="couplet-profanity-")
        self.socket = self.home + "/tmux"
        env = {k: v for k, v in os.environ.items() if k != "TMUX"}
        env.update(HOME=self.home, XDG_CONFIG_HOME=self.home + "/config", XDG_DATA_HOME=self.home + "/data", LANG="C.UTF-8", TERM="xterm")
        subprocess.run(["tmux", "-S", self.socket, "-f", "/dev/null", "new-session", "-d", "-x", "140", "-y", "40", "profanity"],
                       check=True, env=env)

    def type(self, text):
        subprocess.run(["tmux", "-S", self.socket, "send-keys", "-l", text], check=True)
        subprocess.run(["tmux", "-S", self.socket, "send-keys", "Enter"], check=True)

    def screen(self):
        return subprocess.run(["tmux", "-S", self.socket, "capture-pane", "-p", "-J"], check=True, capture_output=True, text=True).stdout

    def shows(self, text):
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            screen = self.screen()
            if text in screen:
                return
            time.sleep(0.05)              # tmux has no way to wait for a text: look again, until the deadline
        raise AssertionError("profanity never showed %r:\n%s" % (text, screen))

    def close(self):
        subprocess.run(["tmux", "-S", self.socket, "kill-server"])
        shutil.rmtree(self.home, ignore_errors=True)
