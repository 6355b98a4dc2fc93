-- SPDX-License-Identifier: MIT
-- gc_pauses.lua: how long the collector holds the server up with many sessions in memory.
--
--   build/bin/lua tests/bench/gc_pauses.lua [SESSIONS]
--
-- Sessions are made as on login, on connections without a network; then messages are routed until the collector has gone
-- round a few times. CPU time, not time: the machine may be busy. A virtual machine may count as CPU time what its host has
-- taken, so the same number of equal pieces of work without the collector is measured too: what is over there is the machine's.
local sessions_wanted = tonumber(arg[1] or 100000)
local fixture = require "client_fixture"
local core = require "couplet.core"
local directory = require "couplet.directory"
local sessions = require "couplet.sessions"
local st = require "couplet.stanza"
package.loaded["couplet.certs"] = { context = function() end }
local heap = core.system.heap()
fixture.host("h.example", { "c2s", "iq", "message", "presence", "roster", "offline" })
assert(require "couplet.plugin".load("h.example", "c2s"))
local on = fixture.handlers.c2s
local cpu = os.clock

collectgarbage("incremental", 200, 8, 10)                        -- as couplet.collector sets it
local function measure(what, n, f)
  local slow, longest, total = 0, 0, 0
  for i = 1, n do
    local began = cpu()
    f(i)
    local took = cpu() - began
    total = total + took
    if took > longest then longest = took end
    if took > 0.002 then slow = slow + 1 end
  end
  print(("%-44s %8d, mean %8.1f us, longest %6.2f ms, %d over 2 ms"):format(what, n, total / n * 1e6, longest * 1000, slow))
end

local Conn = {}
for name in pairs(getmetatable(fixture.conn()).__index) do Conn[name] = function() end end
Conn.__index = Conn
function Conn.session(c, s) if s ~= nil then c.attached = s end return c.attached end
function Conn.id(c) return c.number end
function Conn.ip() return "192.0.2.1" end
function Conn.send() return true end

measure("session made (strings' table grows meanwhile)", sessions_wanted, function(i)
  local conn = setmetatable({ number = i }, Conn)
  on.opened(conn)
  local session = conn:session()
  session.host, session.notopen, session.streamid = "h.example", nil, ("s%015x"):format(i)
  assert(sessions.make_authenticated(session, "user" .. i))
  assert(sessions.bind_resource(session, ("r%07x"):format(i)))
  sessions.add_presence(session, st.presence(), 0)
  if i % 500 == 0 then fixture.forget() end         -- its store is one table
end)
print(("Lua heap %.0f MB, own runs: %s"):format(collectgarbage "count" / 1024, heap))

local function message(i)
  local to = i * 7919 % sessions_wanted + 1
  local from = i * 104729 % sessions_wanted + 1
  local stanza = st.message({ to = ("user%d@h.example/r%07x"):format(to, to), type = "chat", id = "m" .. i },
    "Art thou not Romeo, and a Montague?")
  on.element(directory.session(("user%d@h.example/r%07x"):format(from, from)).net, stanza)
end
measure("message, collector as it runs", 3 * sessions_wanted, message)

collectgarbage "stop"
local steps, longest, total, over, rounds = 0, 0, 0, 0, 0
repeat
  for i = 1, 20 do message(i) end
  local began = cpu()
  local done = collectgarbage("step", 0)
  local took = cpu() - began
  steps, total = steps + 1, total + took
  if took > longest then longest = took end
  if took > 0.002 then over = over + 1 end
  if done then rounds = rounds + 1 end
until rounds == 2
print(("%-44s %8d, mean %8.1f us, longest %6.2f ms, %d over 2 ms"):format("collector step", steps, total / steps * 1e6,
  longest * 1000, over))

-- As many pieces of work, each as long as a step is in the mean, that can take no longer than that.
local function work(n)
  local x = 1
  for i = 1, n do x = x * 16807 % 2147483647 + i % 3 end
  return x
end
local began, n = cpu(), 10000
for _ = 1, 100 do work(n) end
local each = n * total / steps / ((cpu() - began) / 100) // 1 | 0
measure("the same work without a collector", steps, function() work(each) end)
os.exit(true)
