# SPDX-License-Identifier: MIT
"""ejabberd.py - Debian's ejabberd in the laboratory of federation.py: Lab.ejabberd(…).

It is one process without a node name: no epmd, no cookie, nothing that could meet another ejabberd on the machine; its accounts
are made by the words it is started with. What an Erlang machine starts besides (erl_child_setup, port programs) ends with it,
since their input does.

It asks the lab's DNS for SRV records because its inetrc names no other, but the system for addresses (net:getaddrinfo). So the
records of domains it must find have the target "127.0.0.1.", a name that everybody takes for the address: FINDABLE.
"""
import os
import pathlib
import shutil
import subprocess
import tempfile

from federation import Peer, addresses, wait_for_port
from server import free_port

FINDABLE = "127.0.0.1."

CONFIG = """
hosts: [{hosts}]
loglevel: info
hide_sensitive_log_data: false
certfiles: [{certificates}]
ca_file: "{ca}"
s2s_use_starttls: required
host_config: {{{of_host}}}
s2s_dns_timeout: 5
auth_method: internal
listen:
  - {{ port: {port}, ip: "127.0.0.1", module: ejabberd_c2s, starttls: true, max_stanza_size: 1048576 }}
  - {{ port: {s2s}, ip: "127.0.0.1", module: ejabberd_s2s_in, max_stanza_size: 1048576 }}
  - {{ port: {s2s_tls}, ip: "127.0.0.1", module: ejabberd_s2s_in, tls: true, max_stanza_size: 1048576 }}
access_rules: {{ local: {{ allow: all }}, c2s: {{ allow: all }} }}
shaper: {{}}
shaper_rules: {{}}
modules:
  mod_disco: {{}}
  mod_ping: {{}}
  mod_roster: {{}}
  mod_s2s_dialback: {{}}
  mod_version: {{}}
{config}
"""

INETRC = """{{lookup, [dns]}}.
clear_ns.
{{resolv_conf, ""}}.
{{hosts_file, ""}}.
{{nameserver, {{127,0,0,1}}, {dns}}}.
{{edns, 0}}.
{{cache_size, 0}}.
"""


class Ejabberd(Peer):
    def __init__(self, lab, hosts, accounts, kind, config, modules, of_host):
        config = "".join("  mod_%s: {}\n" % m for m in modules) + config
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="ejabberd-test-"))
        self.port, self.s2s, self.s2s_tls, self.hosts, self.process = free_port(), free_port(), free_port(), hosts, None
        self.accounts = addresses(accounts, hosts)
        pairs = []
        for host in hosts:
            both = self.dir / (host + ".pem")
            both.write_text("".join(part.read_text() for part in lab.authority.issue(host, kind(host))))
            pairs.append(both)
        for name in ("db", "msgs"):
            (self.dir / name).mkdir()
        (self.dir / "ejabberd.yml").write_text(CONFIG.format(
            hosts=", ".join(hosts), certificates=", ".join('"%s"' % p for p in pairs), ca=lab.authority.ca, port=self.port,
            s2s=self.s2s, s2s_tls=self.s2s_tls, config=config,
            of_host=", ".join("%s: { %s }" % (h, of_host(h)) for h in hosts if of_host(h))))
        (self.dir / "inetrc").write_text(INETRC.format(dns=lab.dns_port))

    def start(self):
        (self.dir / "ready").unlink(missing_ok=True)
        ebin = next(pathlib.Path("/usr/lib").glob("**/ejabberd-*/ebin"))
        env = {**os.environ, "ERL_LIBS": str(ebin.parent.parent), "EJABBERD_CONFIG_PATH": str(self.dir / "ejabberd.yml"),
               "EJABBERD_LOG_PATH": str(self.dir / "peer.log"), "ERL_CRASH_DUMP_BYTES": "0",
               "ERL_INETRC": str(self.dir / "inetrc"), "HOME": str(self.dir), "EJABBERD_MSGS_PATH": str(self.dir / "msgs")}        # no languages: they take seconds
        register = "".join('_ = ejabberd_auth:try_register(<<"%s">>, <<"%s">>, <<"%s">>), ' % (*jid.split("@"), word)
                           for jid, word in self.accounts.items())
        self.out = open(self.dir / "out", "ab")
        self.process = subprocess.Popen(
            [shutil.which("erl") or "/usr/bin/erl", "-noinput", "-noshell", "+S", "1", "-mnesia", "dir", '"%s/db"' % self.dir,
             "-eval",
             "{ok, _} = ejabberd:start(), " + register + 'file:write_file("%s/ready", "").' % self.dir],
            stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.out, cwd=self.dir, env=env)
        for port in (self.port, self.s2s, self.s2s_tls):
            wait_for_port(port, self)
        self.wait_for(lambda: (self.dir / "ready").exists())
        return self
