-- SPDX-License-Identifier: MIT
-- muc/ghosts: occupants of other servers who are not there any more leave (XEP-0410 §"Server-side").
--
-- What cannot be delivered comes back, and whose message comes back leaves with 333 (room:handle_kickable). A link that has died
-- in silence brings nothing back: who has said nothing for muc_ping_interval is asked, and leaves if no answer comes. Whose
-- client cannot answer pings gets an empty message, which its server returns if nobody is there (RFC 6121 §8.5.3.2.1).

local hosts = require "couplet.hosts"
local id = require "util.id"
local jid = require "util.jid"
local st = require "util.stanza"

local AT_ONCE = 20                             -- questions on the way
local HEARD_MAX = 100000                       -- addresses noted between two rounds; the rest is asked without need
local TIMEOUT = 60

-- Errors that say nothing about whether somebody is there.
local THERE = { ["feature-not-implemented"] = true, ["not-allowed"] = true, ["forbidden"] = true, ["not-acceptable"] = true,
  ["bad-request"] = true, ["policy-violation"] = true }

return function(live)
  local heard, n_heard = {}, 0

  local function note(event)
    local from = event.stanza.attr.from
    if heard[from] or n_heard >= HEARD_MAX or hosts.get(jid.host(from)) then return end
    heard[from], n_heard = true, n_heard + 1
  end
  for _, name in ipairs { "presence/full", "message/bare", "message/full", "iq/full", "iq/bare" } do
    module:hook(name, note, 100)
  end

  local function gone(room, full, why)
    local occupant = room:get_occupant_by_real_jid(full)
    if not occupant or room.destroying then return end
    module:log("info", "%s leaves %s: %s", full, room.jid, why)
    room:remove_session(occupant, full, { 333 }, "Error: " .. why)
  end

  -- Asks those on the list, a few at a time.
  local function ask(list)
    local i = 0
    local function next_one()
      i = i + 1
      local room, full = table.unpack(list[i] or {})
      if not room then return end
      if not room:get_occupant_by_real_jid(full) then return next_one() end
      local ping = st.iq({ type = "get", from = room.jid, to = full, id = id.medium() }):tag("ping", { xmlns = "urn:xmpp:ping" })
      module:send_iq(ping:reset(), nil, TIMEOUT):next(next_one, function(err)
        local condition = err.condition or "undefined-condition"
        if condition == "service-unavailable" then
          room:route_stanza(st.message { type = "groupchat", from = room.jid, to = full, id = id.medium() })
        elseif not THERE[condition] then
          gone(room, full, condition)
        end
        next_one()
      end)
    end
    for _ = 1, math.min(AT_ONCE, #list) do next_one() end
  end

  module:add_timer(math.max(1, module.config.muc_ping_interval), function()
    local interval = module.config.muc_ping_interval
    local known, list = heard, {}
    heard, n_heard = {}, 0
    for _, room in pairs(live) do
      for full in pairs(room._jid_nick) do
        if not known[full] and not hosts.get(jid.host(full)) then list[#list + 1] = { room, full } end
      end
    end
    if interval ~= math.huge then ask(list) end
    return interval ~= math.huge and interval or 3600
  end)
end
