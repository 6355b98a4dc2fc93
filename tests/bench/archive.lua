-- SPDX-License-Identifier: MIT
-- archive.lua: what the message archive costs. build/bin/lua tests/bench/archive.lua [messages] [directory | postgres]
--
-- Fills the archive of one account (default: a million messages) and those it talks to, then reads pages of 50 as mod_mam answers
-- them, up to the stanzas as they would be sent: the first, the last, those at random depths, those of one conversation.

local database = require "couplet.storage.database"
local task = require "couplet.task"
local temp = require "temp"

local messages, dir = math.tointeger(tonumber(arg[1] or "1000000")), arg[2]
local pg = dir == "postgres" and require "postgres".new{ shared_buffers = "128MB", autovacuum = "on" }
local made = not dir and temp.dir()
local options = pg and pg.options() or { file = (dir or made) .. "/archive.sqlite", synchronous = "off" }
local driver = database.driver("bench.example", options)
local store = driver:open("archive", "archive")
local now = require "socket".gettime

local function append_all(items)
  return assert(task.await(function(done) store:append_all(items, done) end))
end

local function message(i, from, to)
  return ("<message to='%s' from='%s/phone' type='chat' id='%08x'><body>%s</body><origin-id xmlns='urn:xmpp:sid:0' id='%08x'/>"
    .. "</message>"):format(to, from, i, ("x"):rep(100 + i % 200), i)
end

local function fill(n)
  local began, cpu, done = now(), os.clock(), 0
  local batch = {}
  for i = 1, n do
    local peer = "peer" .. i % 50
    local xml = message(i, peer .. "@example.org", "romeo@example.org")
    local id, number = store:new_id()
    batch[#batch + 1] = { user = "romeo", id = id, number = number, with = peer .. "@example.org", xml = xml }
    id, number = store:new_id()
    batch[#batch + 1] = { user = peer .. i % 7, id = id, number = number, with = "romeo@example.org", xml = xml }
    if #batch >= 200 or i == n then
      append_all(batch)
      batch = {}
    end
    done = done + 1
  end
  local took = now() - began
  print(("%-40s %9.0f messages/s, both copies; CPU %5.1f us each"):format("fill, not durable", done / took,
    (os.clock() - cpu) / done * 1e6))
end

-- The plugin's query, without a server.
local mam = setmetatable({ module = { config = {} } }, { __index = _G })
local query = assert(loadfile((os.getenv "COUPLET_PLUGINS" or "plugins") .. "/mam/query.lib.lua", "t", mam))()

local function page(q)
  q.limit = q.limit or 50
  local began = now()
  local found = assert(query.run(store, "romeo", q, false))
  found.took = now() - began
  local sent = 0
  local st = require "couplet.stanza"
  query.answer({ origin = { send = function(s) sent = sent + 1 return tostring(s) ~= "" end },
    stanza = st.iq { type = "set", id = "q", from = "romeo@example.org/phone" } }, found, q, "romeo@example.org")
  assert(sent == #found.items + 1)
  return found
end

local function measure(name, n, make)
  local waits, rows, cpu = {}, {}, os.clock()
  for i = 1, n do
    local start = now()
    rows[i] = page(make(i)).took
    waits[i] = now() - start
  end
  table.sort(waits)
  table.sort(rows)
  print(("%-40s p50 %6.2f ms, of it the rows %5.2f ms  p99 %6.2f ms  CPU %6.2f ms"):format(name, waits[n // 2 + 1] * 1000,
    rows[n // 2 + 1] * 1000, waits[math.max(1, n * 99 // 100)] * 1000, (os.clock() - cpu) / n * 1000))
end

task.failed = function(_, text)
  io.stderr:write(text, "\n")
  os.exit(1)
end

task.spawn(function()
  fill(messages)
  if pg then pg.query "ANALYZE" end
  local first = page {}.items[50].id
  local newest = page { reverse = true }.items[1].id
  local oldest_number, newest_number = tonumber(first, 16), tonumber(newest, 16)
  -- ids to go on from, at random depths
  local ids = {}
  for i = 1, 200 do
    local when = (oldest_number + math.random(0, newest_number - oldest_number) >> 20) / 1000
    ids[i] = page { start = when, limit = 1 }.items[1].id
  end
  measure("page 1", 200, function() return {} end)
  measure("last page", 200, function() return { reverse = true } end)
  measure("page at a random depth, forwards", 200, function(i) return { after = ids[i] } end)
  measure("page at a random depth, backwards", 200, function(i) return { before = ids[i], reverse = true } end)
  measure("page of a conversation, random depth", 200, function(i) return { after = ids[i], with = "peer7@example.org" } end)
  measure("page from a time on", 200, function(i) return { start = (tonumber(ids[i], 16) >> 20) / 1000 } end)
  local start = now()
  page { limit = 0 }
  print(("%-40s %6.1f ms"):format("counted, because asked (max = 0)", (now() - start) * 1000))
  database.close()
  if pg then pg.close() end
  if made then temp.remove(made) end
  os.exit(0)
end)
require "couplet.core".loop.run()
