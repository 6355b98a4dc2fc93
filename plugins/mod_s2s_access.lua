-- SPDX-License-Identifier: MIT
-- mod_s2s_access: for plugins that say with whom this host may talk (mod_s2s_whitelist, mod_s2s_blacklist).
--
-- Exports restrict(module, option, allows): option names a list of domains, the global one and the host's own taken together;
-- allows(listed) says whether the host may talk to a domain that is listed, or is not. Stanzas to others are refused, and so
-- are their streams.
-- A reload of the configuration counts at once: streams that are up and may not be any more end.

local link = require "couplet.s2s_link"
local recent = require "couplet.recent"
local s2s = require "couplet.s2s"
local throttle = require "couplet.util.throttle"

local TEXT = "Communication with this domain is restricted"
local STREAM = { condition = "policy-violation", text = TEXT }
local STANZA = { condition = "not-allowed", text = TEXT }
local QUIET = 600                                -- seconds until the same domain is logged again
local LINES, PERIOD = 10, 60                     -- lines at most, in so many seconds, whatever the domains

function restrict(owner, option, allows)
  local host, names = owner.host, nil
  local logged, note = recent.new(1000)
  local lines = throttle.create(LINES, PERIOD)

  local function allowed(domain) return allows(names(domain)) end

  local function tell(what, domain)
    local key, now = what .. domain, os.time()
    if now - (logged(key) or -QUIET) < QUIET or not lines:poll() then return end
    note(key, now)
    owner:log("info", "%s %s is refused: %s", what, domain, option)
  end

  local function read()
    names = s2s.listed(host, option)
    s2s.forbid(function(here, remote) return here == host and not allowed(remote) end, STREAM, STANZA)
  end

  owner:hook("route/remote", function(event)
    if allowed(event.to_host) then return end
    tell("a stanza to", event.to_host)
    return link.refuse(event.stanza, STANZA.condition, TEXT) or true
  end, 100)
  owner:hook("s2s-stream-features", function(event)
    local session = event.origin
    if session.from_host and not allowed(session.from_host) then session:close(STREAM) end
  end, 1000)
  owner:hook("s2s-authenticated", function(event)
    if not allowed(event.host) then return false end
  end, 100)
  owner:hook_global("config-reloaded", read)
  read()
end
