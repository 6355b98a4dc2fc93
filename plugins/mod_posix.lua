-- SPDX-License-Identifier: MIT
-- mod_posix: a name in existing configurations; signals, pid file, syslog and giving up root are the server's own.

module:set_global()

function module.add_host() end
