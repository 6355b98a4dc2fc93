-- SPDX-License-Identifier: MIT
-- servers.lib.lua: stream management between servers: what the other side has not acknowledged when a connection breaks is
-- sent again, in order, on the next one. Sessions of servers are not resumed.
--
-- begin(session, xmlns) makes the link of a session.

local hosts = require "couplet.hosts"
local router = require "couplet.router"
local s2s_link = require "couplet.s2s_link"
local sm = require "couplet.sm"
local st = require "couplet.stanza"

return function(begin)
  local SM = "urn:xmpp:sm:3"
  local ROUNDS = 3                             -- connections that may break over the same stanza
  local stopping = false

  module:hook_global("server-stopping", function() stopping = true end, 1000)

  -- They call us --------------------------------------------------------------------------------------------------------------

  module:hook("s2s-stream-features", function(event)
    if event.origin.direction == "incoming" then event.features:reset():tag("sm", { xmlns = SM }):up() end
  end)

  local function answer(session, name, condition)
    local element = st.stanza(name, { xmlns = SM })
    if condition then element:tag(condition, { xmlns = "urn:ietf:params:xml:ns:xmpp-stanzas" }):up() end
    session.sends2s(element)
    return true
  end

  module:hook("stanza/" .. SM .. ":enable", function(event)
    local session = event.origin
    if session.base_type ~= "s2sin" then return nil end
    if session.type ~= "s2sin" or session.sm then return answer(session, "failed", "unexpected-request") end
    begin(session, SM)
    session.net:track(session.sm.queue)
    return answer(session, "enabled")
  end)

  module:hook("stanza/" .. SM .. ":resume", function(event)
    if event.origin.direction then return answer(event.origin, "failed", "feature-not-implemented") end
  end)

  -- We call them: stanzas count from <enable/> on, and nothing goes before it. -----------------------------------------------

  module:hook("s2sout-established", function(event)
    local session = event.session
    if session.sm or not session.features or not session.features:get_child("sm", SM) then return end
    local link = begin(session, SM)
    link.deaf = true                             -- the other side counts from its <enabled/> on, and may have sent before
    session.sends2s(st.stanza("enable", { xmlns = SM }))
    session.net:track(link.queue)
  end)

  module:hook("stanza/" .. SM .. ":enabled", function(event)
    local session = event.origin
    if session.base_type ~= "s2sout" or not session.sm then return nil end
    session.sm.deaf = false
    return true
  end)

  module:hook("stanza/" .. SM .. ":failed", function(event)
    local session = event.origin
    if session.base_type ~= "s2sout" or not session.sm then return nil end
    session.log("debug", "no stream management with %s", session.to_host)
    session.net:track(nil)
    session.sm:close()
    session.sm = false
    return true
  end)

  -- The end -------------------------------------------------------------------------------------------------------------------

  local function refuse(stanza, condition, text)
    local ok, err = xpcall(s2s_link.refuse, debug.traceback, stanza, condition, text)
    if not ok then module:log("error", "%s", err) end
  end

  local function again(stanza, round)
    local from, to = router.address(stanza.attr.from or ""), router.address(stanza.attr.to or "")
    local home = from and hosts.get(from.host)
    if not home or not to then return end
    if round > ROUNDS then return refuse(stanza, "remote-server-timeout", "The connection broke over this, more than once") end
    home.events.fire_event("route/remote", { origin = home, stanza = stanza, from_host = from.host, to_host = to.host })
    local way = s2s_link.get(from.host, to.host)
    if way then way.session.sm_round = math.max(way.session.sm_round or 0, round) end
  end

  local function over(event)
    local session = event.session
    local link = session.sm
    if not link then return end
    local queue, list = link.queue, {}
    for i = 1, #queue do list[i] = queue:get(i) end
    local round = queue:acked() > 0 and 1 or (session.sm_round or 0) + 1
    link:close()
    session.sm = false
    if #list == 0 or stopping then return end
    session.log("info", "%d stanzas were not acknowledged; they are sent again", #list)
    for _, bytes in ipairs(list) do
      local stanza = sm.stanza(bytes)
      if stanza then again(stanza, round) end
    end
  end
  module:hook("s2sin-destroyed", over)
  module:hook("s2sout-destroyed", over)
end
