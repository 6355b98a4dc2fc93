-- SPDX-License-Identifier: MIT
-- What rooms cost in Lua, the network left out: build/bin/lua tests/bench/rooms.lua
-- 10 000 empty persistent rooms after a start, a thousand people (or the number given) who join one room, talk and leave. CPU
-- time, heap.
package.path = "tests/?.lua;" .. package.path
local fake = require "fakehost"
local plugin = require "couplet.plugin"

local ROOMS = "rooms.example.org"
local function heap()
  collectgarbage() collectgarbage()
  return collectgarbage "count" / 1024
end

local host = fake.new { plugins = { "iq", "presence", "message", "disco" } }
host:component(ROOMS, "muc", { muc_room_locking = false })
host:run(function()
  local muc = plugin.get_module(ROOMS, "muc")
  for i = 1, 10000 do
    assert(muc.create_room(("room%d@%s"):format(i, ROOMS), { persistent = true, name = "Room " .. i, description = "A room" }))
  end
end)
host:run(function() assert(plugin.unload(ROOMS, "muc")) end)
local before = heap()
local t = os.clock()
host:run(function() assert(plugin.load(ROOMS, "muc")) end)
print(("10000 empty persistent rooms: %.1f MB of heap with the plugin, %.2f s to start"):format(heap() - before, os.clock() - t))
t = os.clock()
host:run(function()
  local muc = plugin.get_module(ROOMS, "muc")
  for i = 1, 5000 do assert(muc.get_room_from_jid(("room%d@%s"):format(i, ROOMS))) end
end)
print(("5000 of them read: %.0f µs each; %.1f MB"):format((os.clock() - t) / 5000 * 1e6, heap() - before))

-- Joins: what is sent is counted, not kept; sessions look as if they were connected.
local sent = 0
local net = package.loaded["couplet.core"].net
net.multicast = function(conns) sent = sent + #conns end
net.batch = function(_, blocks) sent = sent + #blocks end
local people, n = {}, tonumber((...)) or 1000
local connection = { send = function() sent = sent + 1 return true end, owes = function() return false end,
  connected = function() return true end }
for i = 1, n do
  people[i] = host:client(("p%d@example.org/x"):format(i))
  local session = people[i].session
  session.net, session.filters = connection, false
  session.send = function() sent = sent + 1 return true end
  session.own_send = session.send
end
local function all(what)
  t, sent = os.clock(), 0
  for i = 1, n do people[i]:send(what(i)) end
  host:advance(1)
  return os.clock() - t
end
local JOIN = "<presence to='big@%s/n%d'><x xmlns='http://jabber.org/protocol/muc'/></presence>"
local spent = all(function(i) return JOIN:format(ROOMS, i) end)
print(("%d joins into one room: %.2f s, %d stanzas, %.2f µs each"):format(n, spent, sent, spent / sent * 1e6))
t, sent = os.clock(), 0
for i = 1, n // 20 do people[i]:send(("<message to='big@%s' type='groupchat'><body>hello</body></message>"):format(ROOMS)) end
spent = os.clock() - t
print(("%d messages to %d: %.2f µs a delivery"):format(n // 20, n, spent / sent * 1e6))
spent = all(function(i) return ("<presence to='big@%s/n%d' type='unavailable'/>"):format(ROOMS, i) end)
print(("all of them leave: %.2f s, %d stanzas, %.2f µs each"):format(spent, sent, spent / sent * 1e6))
os.exit(true)
