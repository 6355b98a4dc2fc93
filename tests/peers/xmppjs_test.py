# SPDX-License-Identifier: MIT
"""@xmpp/client on Node: see xmppjs.mjs. `./dev test` runs `npm ci` in this folder first."""
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from server import Server, certificate  # noqa: E402

here = pathlib.Path(__file__).resolve().parent
with Server(accounts={"romeo@localhost": "secret", "juliet@localhost": "secret"},
            hosts='VirtualHost "localhost"\nComponent "rooms.localhost" "muc"\nmodules_enabled = { "muc_mam" }\n',
            modules=["sasl2", "sasl2_bind2", "sasl2_fast", "sasl2_sm", "smacks", "carbons", "pep"]) as s:
    r = subprocess.run(["node", str(here / "xmppjs.mjs"), str(s.port), str(s.tls_port)], cwd=here, timeout=200,
                       env={**os.environ, "NODE_EXTRA_CA_CERTS": certificate() + "/cert.pem"})
    code, out = s.ctl("user", "clients", "romeo@localhost")
    known = code == 0 and "d4565fa7-4d72-4749-b3d3-740edbf87770" in out and "xmpp.js" in out
    if not known:
        print("not ok coupletctl user clients: %d %s" % (code, out))
sys.exit(r.returncode or not known)
