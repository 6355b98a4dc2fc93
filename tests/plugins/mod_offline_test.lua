-- SPDX-License-Identifier: MIT
-- mod_offline_test.lua: messages for an account that is away: kept, bounded, handed over once.
local check = require "check"
local fixture = require "client_fixture"
local st = require "couplet.stanza"
fixture.option("h.example", "offline_messages_max", 3)
fixture.option("h.example", "offline_bytes_max", 3000)
fixture.host "h.example"

local HINTS = "urn:xmpp:hints"

local function fresh()
  fixture.reset()
  fixture.account "juliet@h.example"
  return fixture.login "romeo@h.example/orchard"
end

local function waiting() return fixture.stored("offline", "juliet", "h.example") end

check.test("kept with the time, given at the first presence, once", function()
  local romeo = fresh()
  for i = 1, 3 do romeo:send(st.message({ to = "juliet@h.example", type = "chat", id = tostring(i) }, "hello " .. i)) end
  local juliet = fixture.login("juliet@h.example/home", "none")
  juliet:nothing()
  check.equal(#waiting(), 3)
  juliet:send(st.presence())
  for i = 1, 3 do
    local m = juliet:expect("message", { id = tostring(i), from = romeo.jid, type = "chat" })
    local delay = check.ok(m:get_child("delay", "urn:xmpp:delay"))
    check.equal(delay.attr.from, "h.example")
    check.ok(delay.attr.stamp:match "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%dZ$", delay.attr.stamp)
    check.equal(m:get_child_text "body", "hello " .. i)
  end
  check.equal(#waiting(), 0)
  juliet:got()
  fixture.login("juliet@h.example/work"):nothing "message"
end)

check.test("a negative priority gets nothing until it is raised", function()
  local romeo = fresh()
  romeo:send(st.message({ to = "juliet@h.example", type = "chat" }, "hello"))
  local juliet = fixture.login("juliet@h.example/home", "none")
  juliet:send(st.presence():text_tag("priority", "-5"))
  juliet:nothing "message"
  juliet:send(st.presence():text_tag("priority", "5"))
  juliet:expect "message"
end)

check.test("what is kept and what is not (XEP-0160 §3, XEP-0334)", function()
  local rows = {
    { st.message({ type = "chat" }, "hello"), 1 },
    { st.message({}, "hello"), 1 },
    { st.message({}):tag("x", { xmlns = "jabber:x:conference" }):up(), 1 },
    { st.message { type = "chat" }:tag("composing", { xmlns = "http://jabber.org/protocol/chatstates" }):up(), 0 },
    { st.message { type = "chat" }:tag("paused", { xmlns = "http://jabber.org/protocol/chatstates" }):up():text_tag("thread",
      "t"), 0 },
    { st.message { type = "chat" }:tag("received", { xmlns = "urn:xmpp:receipts", id = "1" }):up(), 1 },
    { st.message({ type = "chat" }, "secret"):tag("no-store", { xmlns = HINTS }):up(), 0 },
    { st.message({ type = "chat" }, "secret"):tag("no-permanent-store", { xmlns = HINTS }):up(), 0 },
    { st.message { type = "chat" }:tag("composing", { xmlns = "http://jabber.org/protocol/chatstates" }):up():tag("store",
      { xmlns = HINTS }):up(), 1 },
  }
  for i, row in ipairs(rows) do
    local romeo = fresh()
    row[1].attr.to = "juliet@h.example"
    romeo:send(row[1])
    romeo:nothing()
    check.equal(#waiting(), row[2], "row " .. i)
  end
end)

check.test("a full store refuses: nothing is lost in silence", function()
  local romeo = fresh()
  for i = 1, 4 do romeo:send(st.message({ to = "juliet@h.example", type = "chat", id = tostring(i) }, "hello")) end
  check.equal(select(2, romeo:expect("message", { type = "error", id = "4" }):get_error()), "service-unavailable")
  check.equal(#waiting(), 3)
end)

check.test("a store that fails gives the sender its reason", function()
  local romeo = fresh()
  fixture.fail "offline"
  romeo:send(st.message({ to = "juliet@h.example", type = "chat", id = "1" }, "hello"))
  check.equal({ romeo:expect("message", { type = "error", id = "1" }):get_error() },
    { "wait", "resource-constraint", "the disk is full" })
  fixture.fail("offline", "a plain text")
  romeo:send(st.message({ to = "juliet@h.example", type = "chat", id = "2" }, "hello"))
  check.equal({ romeo:expect("message", { type = "error", id = "2" }):get_error() }, { "wait", "internal-server-error" })
  fixture.fail(nil)
end)

check.test("what could not be handed over stays", function()
  local romeo = fresh()
  for i = 1, 3 do romeo:send(st.message({ to = "juliet@h.example", type = "chat", id = tostring(i) }, "hello")) end
  local juliet = fixture.login("juliet@h.example/home", "none")
  local n = 0
  juliet.session.send = function(x)
    if type(x) ~= "string" and x.name == "message" then n = n + 1 return n < 2 end
    return true
  end
  juliet:send(st.presence())
  check.equal(#waiting(), 2)
end)

check.test("the bytes kept for one account are bounded", function()
  local romeo = fresh()
  for i = 1, 2 do romeo:send(st.message({ to = "juliet@h.example", type = "chat", id = tostring(i) }, ("x"):rep(2000))) end
  romeo:expect("message", { type = "error", id = "2" })
  check.equal(#waiting(), 1)
  fixture.login "juliet@h.example/home":send(st.presence())
  check.equal(#waiting(), 0)
  fixture.reset()
  fixture.account "juliet@h.example"
  romeo = fixture.login "romeo@h.example/orchard"
  romeo:send(st.message({ to = "juliet@h.example", type = "chat", id = "3" }, ("x"):rep(2000)))
  romeo:nothing("message")
  check.equal(#waiting(), 1)
end)

check.done()
