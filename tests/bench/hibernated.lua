-- SPDX-License-Identifier: MIT
-- What a session without connection costs that has ten messages waiting: build/bin/lua tests/bench/hibernated.lua [sessions]
-- The whole process is measured: the session, its place in the directory, the queue and its blocks, and what Lua adds.

local n = math.tointeger(tonumber(arg and arg[1])) or 20000
local client_session = require "couplet.client_session"
local clock = require "couplet.clock"
local directory = require "couplet.directory"
local id = require "couplet.util.id"
local sm = require "couplet.sm"
local st = require "couplet.stanza"

local function resident()
  for line in io.lines "/proc/self/status" do
    local kb = line:match "^VmRSS:%s+(%d+)"
    if kb then return tonumber(kb) end
  end
end

local presence = "<presence from='user%d@example.org/phone'><show>away</show><c xmlns='http://jabber.org/protocol/caps' "
  .. "hash='sha-1' node='https://example.org/client' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/></presence>"

local function hibernate(i)
  local session = client_session.new(nil, "c2s")
  session.host, session.username, session.resource, session.notopen = "example.org", "user" .. i, "phone", nil
  session.full_jid = ("user%d@example.org/phone"):format(i)
  session.hibernating, session.priority, session.interested = clock.wall(), 0, true
  session.presence = sm.stanza(presence:format(i))
  session.resumption_token, session.original_smacks_timeout = id.medium(), 600
  session.hibernation_timer = clock.timer(600, function() end)
  directory.add(session)
  session.sm = sm.new(session, { max_stanzas = 500, max_bytes = 1 << 20 })
  for k = 1, 10 do
    client_session.send(session, st.message({ from = ("friend%d@example.org/laptop"):format(k), to = session.full_jid,
      type = "chat", id = id.medium() }, ("A message of some length, as people write them. "):rep(4)))
  end
end

collectgarbage "collect"
local before, lua_before = resident(), collectgarbage "count"
for i = 1, n do hibernate(i) end
collectgarbage "collect"
collectgarbage "collect"
print(("%d sessions: %.2f KB each resident, %.2f KB of it Lua's"):format(n, (resident() - before) / n,
  (collectgarbage "count" - lua_before) / n))
