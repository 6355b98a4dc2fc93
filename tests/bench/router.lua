-- SPDX-License-Identifier: MIT
-- What a message costs in Lua, from the element event of one client to the send() of another: build/bin/lua
-- tests/bench/router.lua [more plugins of the host …]
local fixture = require "client_fixture"
local xml = require "couplet.util.xml"
package.loaded["couplet.certs"] = { context = function() end }
local host = fixture.host("h.example", { "c2s", "iq", "message", "presence", "roster", "offline", table.unpack(arg) })
host.events.add_handler("iq-get/host/urn:xmpp:ping:ping", function(event)
  event.origin.send(require "couplet.stanza".reply(event.stanza))
  return true
end)
local on = fixture.handlers.c2s
local clock = os.clock                 -- CPU time: the machine may be busy
require "couplet.clock".mono = function() return 0 end      -- who is kept from the processor for long need not rest (mod_c2s)
collectgarbage("incremental", 200, 100, 10)

local last
local function client(username, resource)
  fixture.account(username .. "@h.example")
  local conn = fixture.conn()
  on.opened(conn)
  local session = conn:session()
  session.host, session.notopen = "h.example", nil
  local sessions = require "couplet.sessions"
  assert(sessions.make_authenticated(session, username))
  assert(sessions.bind_resource(session, resource))
  sessions.add_presence(session, require "couplet.stanza".presence(), 0)
  function conn.send(_, x) last = x return true end
  function conn.done() end
  return conn
end
local a = client("romeo", "orchard")
client("juliet", "balcony")

local function texts(n, text)
  local list = {}
  for i = 1, n do list[i] = xml.parse(text) end
  return list
end

local ROUNDS, N = 40, 5000
local function measure(name, text)
  local best, total = math.huge, 0
  for _ = 1, ROUNDS do
    local list = texts(N, text)
    collectgarbage()
    collectgarbage "stop"
    local t = clock()
    for i = 1, N do on.element(a, list[i]) end
    local each = (clock() - t) / N * 1e9
    collectgarbage "restart"
    total = total + each
    if each < best then best = each end
  end
  print(("%-50s best %5.0f ns, mean %5.0f ns"):format(name, best, total / ROUNDS))
  assert(last)
end

local message = "<message to='juliet@h.example/balcony' type='chat' id='abcdef'><body>Art thou not Romeo, and a "
  .. "Montague?</body></message>"
measure("message to a full address", message)
measure("message to a bare address", (message:gsub("/balcony", "")))
measure("message that says its true sender", (message:gsub("<message", "<message from='romeo@h.example/orchard'")))
measure("ping to the host", "<iq to='h.example' type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>")
measure("presence to a full address", "<presence to='juliet@h.example/balcony'/>")
