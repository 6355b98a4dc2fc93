-- SPDX-License-Identifier: MIT
-- mod_s2s_access: for plugins that say with whom this host may talk (mod_s2s_whitelist, mod_s2s_blacklist).
--
-- Exports restrict(module, allowed): stanzas to domains for which allowed(domain) is false are refused, and so are their streams.

local link = require "couplet.s2s_link"

local TEXT = "Communication with this domain is restricted"

function restrict(owner, allowed)
  owner:hook("route/remote", function(event)
    if not allowed(event.to_host) then return link.refuse(event.stanza, "not-allowed", TEXT) or true end
  end, 100)
  owner:hook("s2s-stream-features", function(event)
    local session = event.origin
    if session.from_host and not allowed(session.from_host) then
      session:close { condition = "policy-violation", text = TEXT }
    end
  end, 1000)
  owner:hook("s2s-authenticated", function(event)
    if not allowed(event.host) then return false end
  end, 100)
end
