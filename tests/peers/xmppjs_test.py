# SPDX-License-Identifier: MIT
"""@xmpp/client on Node: see xmppjs.mjs. `./dev test` runs `npm ci` in this folder first."""
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from server import Server, certificate  # noqa: E402

here = pathlib.Path(__file__).resolve().parent
with Server(accounts={"romeo@localhost": "secret", "juliet@localhost": "secret"}) as s:
    r = subprocess.run(["node", str(here / "xmppjs.mjs"), str(s.port), str(s.tls_port)], cwd=here, timeout=200,
                       env={**os.environ, "NODE_EXTRA_CA_CERTS": certificate() + "/cert.pem"})
sys.exit(r.returncode)
