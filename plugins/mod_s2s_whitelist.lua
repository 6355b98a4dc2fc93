-- SPDX-License-Identifier: MIT
-- mod_s2s_whitelist: this server talks only to the servers named.

module:config { s2s_whitelist = { type = "set", default = {}, doc = "the domains this host talks to, and no other" } }

module:depends "s2s_access".restrict(module, function(domain) return module.config.s2s_whitelist:contains(domain) end)
