-- SPDX-License-Identifier: MIT
-- What rooms cost in Lua, the network left out: build/bin/lua tests/bench/rooms.lua
-- 10 000 empty persistent rooms after a start, a thousand people joining one room, and a message to them all. CPU time, heap.
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

-- Joins: what is sent is counted, not kept.
local sent = 0
package.loaded["couplet.core"].net.multicast = function(conns) sent = sent + #conns end
local people = {}
for i = 1, 1000 do
  people[i] = host:client(("p%d@example.org/x"):format(i))
  people[i].session.send = function() sent = sent + 1 return true end
end
t = os.clock()
for i = 1, 1000 do
  people[i]:send(("<presence to='big@%s/n%d'><x xmlns='http://jabber.org/protocol/muc'/></presence>"):format(ROOMS, i))
end
local spent = os.clock() - t
print(("1000 joins into one room: %.2f s, %d stanzas, %.2f µs each"):format(spent, sent, spent / sent * 1e6))
sent, t = 0, os.clock()
for i = 1, 50 do people[i]:send(("<message to='big@%s' type='groupchat'><body>hello</body></message>"):format(ROOMS)) end
spent = os.clock() - t
print(("50 messages to 1000: %.2f µs a delivery"):format(spent / sent * 1e6))
os.exit(true)
