-- SPDX-License-Identifier: MIT
-- mod_s2s_whitelist: this server talks only to the servers named.

module:config { s2s_whitelist = { type = "set", default = {},
  doc = "the domains this host talks to, and no other, \"*.example.com\": all below that one; those named for all hosts count "
    .. "as well" } }

module:depends "s2s_access".restrict(module, "s2s_whitelist", function(listed) return listed end)
