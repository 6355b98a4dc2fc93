-- SPDX-License-Identifier: MIT
-- mod_s2s_blacklist: servers this one does not talk to.

module:config { s2s_blacklist = { type = "set", default = {},
  doc = "domains this host does not talk to, \"*.example.com\": all below that one; those named for all hosts count as well" } }

module:depends "s2s_access".restrict(module, "s2s_blacklist", function(listed) return not listed end)
