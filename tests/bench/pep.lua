-- SPDX-License-Identifier: MIT
-- What a PEP notification costs in Lua: one account publishes, and N contacts who are here hear of it.
-- build/bin/lua tests/bench/pep.lua [contacts, 1000] [rounds, 40]
-- CPU time. On a busy machine count instructions (valgrind --trace-children=yes --tool=callgrind), for two numbers of rounds.

local fixture = require "client_fixture"
package.loaded["couplet.certs"] = { context = function() end }
local CONTACTS, ROUNDS = tonumber(arg[1]) or 1000, tonumber(arg[2]) or 40
local NODE = "http://jabber.org/protocol/tune"
fixture.host("h.example", { "c2s", "iq", "message", "presence", "roster", "disco", "blocklist", "pep" })
local on = fixture.handlers.c2s
local directory = require "couplet.directory"
local roster = require "couplet.roster"
local sessions = require "couplet.sessions"
local heard, n = 0, 1
while debug.getupvalue(sessions.send_to, n) ~= "multicast" do n = n + 1 end          -- C's: measured elsewhere
debug.setupvalue(sessions.send_to, n, function(conns) heard = heard + #conns end)
require "couplet.client_session".plain = function() return true end
local st = require "couplet.stanza"
local task = require "couplet.task"
local xml = require "couplet.util.xml"
require "couplet.clock".mono = function() return 0 end      -- who is kept from the processor for long need not rest (mod_c2s)

local function client(username)
  fixture.account(username .. "@h.example")
  local conn = fixture.conn()
  on.opened(conn)
  local session = conn:session()
  session.host, session.notopen = "h.example", nil
  assert(sessions.make_authenticated(session, username))
  assert(sessions.bind_resource(session, "r"))
  sessions.add_presence(session, st.presence(), 0)
  function conn.send() return true end
  function conn.done() end
  return conn, session
end

local romeo, his = client "romeo"
local list = roster.load_roster("romeo", "h.example")
for i = 1, CONTACTS do
  local _, session = client("c" .. i)
  sessions.set_interest(session, { [NODE] = true })
  list[session.username .. "@h.example"] = { subscription = "both", groups = {} }
end
assert(directory.user "romeo@h.example".roster == list and his)
local text = "<iq type='set' id='1'><pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='" .. NODE
  .. "'><item id='current'><tune xmlns='" .. NODE .. "'><title>Dance of the Knights</title></tune></item></publish></pubsub></iq>"

local function publish() task.spawn(on.element, romeo, xml.parse(text)) end
publish()
assert(heard == CONTACTS, heard)
collectgarbage()
local best, total = math.huge, 0
for _ = 1, ROUNDS do
  local t = os.clock()
  publish()
  local each = (os.clock() - t) / CONTACTS * 1e9
  total, best = total + each, math.min(best, each)
end
assert(heard == CONTACTS * (ROUNDS + 1))
print(("%d contacts, each notification: best %.0f ns, mean %.0f ns"):format(CONTACTS, best, total / ROUNDS))
