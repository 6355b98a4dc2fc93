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
local util = module:require "muc/util"

local AT_ONCE, OF_ONE = 200, 10                -- questions on the way, and of those to one other server
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

  -- A server that falls silent keeps its questions for TIMEOUT each, so the others do not wait for it: each has OF_ONE places in
  -- the line, and with every answer goes to the end of it.
  local of = {}                                -- { [other server] = { domain, places, todo = { { room, address } },
                                               --   asked = { ["address room"] = true } } }
  local line, first, last = {}, 1, 0           -- of those, from first to last
  local under_way, busy = 0, false

  local function stand_in_line(server)
    last = last + 1
    line[last] = server
  end

  -- On the way out the questions under way fail, which says nothing about anybody, and none may be asked any more.
  local unloaded = false
  module:on_unload(function() unloaded = true end)

  local go_on

  local function ask(server, room, full)
    local ping = st.iq({ type = "get", from = room.jid, to = full, id = id.medium() }):tag("ping", { xmlns = "urn:xmpp:ping" })
    local key = full .. " " .. room.jid
    under_way, server.asked[key] = under_way + 1, true
    local function over()
      if unloaded then return end
      under_way, server.asked[key] = under_way - 1, nil
      stand_in_line(server)
      go_on()
    end
    module:send_iq(ping:reset(), nil, TIMEOUT):next(over, function(err)
      if unloaded then return end
      over()                                   -- first: whatever goes wrong below, the place is free
      local condition = err.condition or "undefined-condition"
      if condition == "service-unavailable" then
        room:route_stanza(st.message { type = "groupchat", from = room.jid, to = full, id = id.medium() })
      elseif not THERE[condition] then
        gone(room, full, condition)
      end
    end)
  end

  function go_on()
    if busy then return end                    -- an answer that comes at once
    busy = true
    while not unloaded and under_way < AT_ONCE and first <= last do
      local server = line[first]
      line[first], first = nil, first + 1
      local room, full = table.unpack(table.remove(server.todo) or {})
      if not room then
        server.places = server.places - 1
        if server.places == 0 then of[server.domain] = nil end
      elseif room:get_occupant_by_real_jid(full) then
        ask(server, room, full)
      else
        stand_in_line(server)
      end
    end
    busy = false
  end

  -- What is left of the last round is on the new list again.
  local function ask_all(lists)
    for _, server in pairs(of) do server.todo = {} end
    for domain, list in pairs(lists) do
      of[domain] = of[domain] or { domain = domain, places = 0, todo = {}, asked = {} }
      local server = of[domain]
      for _, one in ipairs(list) do
        if not server.asked[one[2] .. " " .. one[1].jid] then table.insert(server.todo, one) end
      end
    end
    for place = 1, OF_ONE do                   -- the first of each, the second of each, …
      for _, server in pairs(of) do
        if server.places < place and #server.todo >= place then
          server.places = place
          stand_in_line(server)
        end
      end
    end
    go_on()
  end

  module:add_timer(math.max(1, module.config.muc_ping_interval), function()
    local interval = module.config.muc_ping_interval
    local known, lists = heard, {}
    heard, n_heard = {}, 0
    for _, room in pairs(live) do
      for full in pairs(room._jid_nick) do
        local domain = not known[full] and util.elsewhere(full)
        if domain then
          local list = lists[domain] or {}
          lists[domain], list[#list + 1] = list, { room, full }
        end
      end
    end
    if interval ~= math.huge then ask_all(lists) end
    return interval ~= math.huge and interval or 3600
  end)
end
