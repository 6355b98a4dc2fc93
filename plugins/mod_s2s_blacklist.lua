-- SPDX-License-Identifier: MIT
-- mod_s2s_blacklist: servers this one does not talk to.

module:config { s2s_blacklist = { type = "set", default = {}, doc = "domains this host does not talk to" } }

module:depends "s2s_access".restrict(module, function(domain) return not module.config.s2s_blacklist:contains(domain) end)
