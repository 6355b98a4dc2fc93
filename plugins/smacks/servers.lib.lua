-- SPDX-License-Identifier: MIT
-- servers.lib.lua: stream management between servers: what the other side has not acknowledged when a connection breaks is
-- sent again, in order, on the next one. Sessions of servers are not resumed. When our server stops, the others are asked for
-- acknowledgement; what is still without one then is kept in the store and sent after the start.
--
-- begin(session, xmlns) makes the link of a session. -> function(), to be called when the server has started: sends what is kept.

local clock = require "couplet.clock"
local hosts = require "couplet.hosts"
local router = require "couplet.router"
local s2s_link = require "couplet.s2s_link"
local sm = require "couplet.sm"
local st = require "couplet.stanza"
local task = require "couplet.task"

return function(begin)
  local SM = "urn:xmpp:sm:3"
  local ROUNDS = 3                             -- connections that may break over the same stanza
  local LAST = 1                               -- seconds for acknowledgements when the server stops
  local store = module:open_store("smacks_servers", "keyval")
  local stopping, live, kept = false, {}, {}   -- live: sessions with a link; kept: what is to be stored, in order

  module:hook_global("server-stopping", function() stopping = true end, 1000)

  local function track(session)
    local link = begin(session, SM)
    live[session] = true
    return link
  end

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
    session.net:track(track(session).queue)
    return answer(session, "enabled")
  end)

  module:hook("stanza/" .. SM .. ":resume", function(event)
    if event.origin.direction then return answer(event.origin, "failed", "feature-not-implemented") end
  end)

  -- We call them: stanzas count from <enable/> on, and nothing goes before it. -----------------------------------------------

  module:hook("s2sout-established", function(event)
    local session = event.session
    if session.sm or not session.features or not session.features:get_child("sm", SM) then return end
    local link = track(session)
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
    session.sm, live[session] = false, nil
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
    for i = 1, #queue do
      local bytes, when = queue:get(i)
      list[i] = bytes
      if stopping then kept[#kept + 1] = { bytes, when } end
    end
    local round = queue:acked() > 0 and 1 or (session.sm_round or 0) + 1
    link:close()
    session.sm, live[session] = false, nil
    if #list == 0 or stopping then return end
    session.log("info", "%d stanzas were not acknowledged; they are sent again", #list)
    for _, bytes in ipairs(list) do
      local stanza = sm.stanza(bytes)
      if stanza then again(stanza, round) end
    end
  end
  module:hook("s2sin-destroyed", over)
  module:hook("s2sout-destroyed", over)

  -- Our server stops ----------------------------------------------------------------------------------------------------------

  -- Before the streams are closed (mod_s2s, at -50): most have what we sent, and can still say so.
  module:hook_global("server-stopping", function()
    local left, done, timer = 1, nil, nil
    local function arrived()
      left = left - 1
      if left == 0 and done then
        timer:stop()
        done()
      end
    end
    for session in pairs(live) do
      if #session.sm.queue > 0 then
        left = left + 1
        task.spawn(function()
          session.sm:delivered()
          arrived()
        end)
      end
    end
    arrived()
    if left == 0 then return end
    task.await(function(finished)
      done = finished
      timer = clock.timer(LAST, function()
        done = nil
        finished()
      end)
    end)
  end, -40)

  module:hook_global("server-stopping", function()
    if #kept == 0 then return end
    local ok, err = store:set(nil, kept)
    if not ok then return module:log("error", "%d stanzas for other servers are lost: %s", #kept, err) end
    module:log("info", "%d stanzas other servers have not acknowledged are sent after the restart", #kept)
  end, -150)

  local function stamped(stanza, when)
    if stanza.name ~= "message" or stanza:get_child("delay", "urn:xmpp:delay") then return stanza end
    return stanza:reset():tag("delay", { xmlns = "urn:xmpp:delay", from = module.host,
      stamp = os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(when)) }):up()
  end

  return function()
    local list = store:get(nil)
    if not list then return end
    store:set(nil, nil)
    for _, entry in ipairs(list) do
      local stanza = sm.stanza(entry[1])
      if stanza then again(stamped(stanza, entry[2]), 1) end
    end
  end
end
