-- SPDX-License-Identifier: MIT
-- Sessions with other servers without a network: dialback's keys, who is proved for whom, queues, errors, back-off.

local check = require "check"
local config = require "couplet.config"
local dialback = require "couplet.dialback"
local hosts = require "couplet.hosts"
local router = require "couplet.router"
local link = require "couplet.s2s_link"
local s2s = require "couplet.s2s"
local st = require "couplet.stanza"
local task = require "couplet.task"

require "couplet.log".quiet()
config.set("here.example", "defined", true)
local home = assert(hosts.activate "here.example")
assert(hosts.activate "other.example")
local came = {}
for _, event in ipairs { "message/full", "message/bare", "iq/full", "presence/bare" } do
  home.events.add_handler(event, function(data)
    came[#came + 1] = data.stanza
    return true
  end)
end

local function message(i)
  return st.message { from = "romeo@here.example/o", to = "juliet@there.example", type = "chat", id = tostring(i) }:body("hello")
end

local function conn()
  return { out = {}, session = function() end, ip = function() return "192.0.2.1" end,
    send = function(self, x) self.out[#self.out + 1] = tostring(x) return true end,
    close = function(self) self.closed = true end, window = function() end, deadline = function() end }
end

local function attach(session)
  local c = conn()
  require "couplet.server_session".attach(session, c)
  session.notopen, session.header_sent = nil, true
  return c
end

local function way()
  local session = s2s.new_outgoing("here.example", "there.example")
  return session, link.make("here.example", "there.example", session)
end

check.test("keys of dialback: the example of XEP-0185", function()
  check.equal(dialback.key("s3cr3tf0rd14lb4ck", "xmpp.example.com", "example.org", "D60000229F"),
    "37c69b1cf07a3f67c04a5ef5902fa5114f2c76fe4a2686482ba5b89323075643")
  check.equal(#dialback.secret_of "here.example", 64)
  check.equal(dialback.secret_of "here.example", dialback.secret_of "other.example")
  config.set("here.example", "dialback_secret", "mine")
  check.equal(dialback.secret_of "here.example", "mine")
end)

check.test("what waits is sent in order once the session is proved, then nothing waits", function()
  local session, l = way()
  check.ok(home.s2sout["there.example"] == session)
  for i = 1, 3 do check.ok(link.enqueue(l, message(i))) end
  check.equal(session.sendq.last, 3)
  local c = attach(session)
  check.ok(s2s.make_authenticated(session, "there.example", "EXTERNAL"))
  check.equal(session.type, "s2sout")
  check.equal(#c.out, 3)
  for i = 1, 3 do check.ok(c.out[i]:find(" id='" .. i .. "'")) end
  check.ok(l.open and not l.queue and not session.sendq)
  session:close()
  check.ok(session.destroyed and not home.s2sout["there.example"])
  check.ok(c.out[4]:find "</stream:stream>")
end)

check.test("failure: every sender hears of it once, and the next attempt has to wait", function()
  check.equal(link.backing_off("here.example", "there.example"), nil)
  local session, l = way()
  for i = 1, 120 do link.enqueue(l, message(i)) end
  link.enqueue(l, st.message { from = "romeo@here.example/o", to = "juliet@there.example", type = "error" })
  link.enqueue(l, st.presence { from = "romeo@here.example/o", to = "juliet@there.example", type = "unavailable" })
  came = {}
  s2s.destroy_session(session, "no", { condition = "remote-server-not-found", text = "nobody there" })
  local loop = require "couplet.core".loop
  local limit = loop.timer(5, loop.stop)
  while #came < 120 and limit:active() do loop.once() end
  loop.poll()
  check.equal(#came, 120)
  local kind, condition, text = came[1]:get_error()
  check.equal({ kind, condition, text }, { "cancel", "remote-server-not-found", "nobody there" })
  check.equal(came[1].attr.from, "juliet@there.example")
  check.equal(link.backing_off("here.example", "there.example"), "remote-server-not-found")
  link.forget_failures("here.example", "there.example")
  check.equal(link.backing_off("here.example", "there.example"), nil)
end)

check.test("failure: all waits are forgotten together", function()
  for _, remote in ipairs { "there.example", "elsewhere.example" } do
    link.failed("here.example", remote, { condition = "remote-server-timeout" })
    check.equal(link.backing_off("here.example", remote), "remote-server-timeout")
  end
  link.forget_failures("here.example", "there.example")
  check.equal(link.backing_off("here.example", "there.example"), nil)
  check.ok(link.backing_off("here.example", "elsewhere.example"))
  link.forget_failures()
  check.equal(link.backing_off("here.example", "elsewhere.example"), nil)
end)

check.test("what the other side refuses for good is no matter of waiting, then or at the next attempt", function()
  for condition, want in pairs {
    ["host-unknown"] = "remote-server-not-found cancel", ["item-not-found"] = "remote-server-not-found cancel",
    ["not-authorized"] = "remote-server-timeout cancel", ["policy-violation"] = "remote-server-timeout cancel",
    ["system-shutdown"] = "remote-server-timeout wait", ["resource-constraint"] = "remote-server-timeout wait",
  } do
    local session, l = way()
    link.enqueue(l, message(1))
    came = {}
    s2s.destroy_session(session, "no", s2s.refused(condition, "because"))
    check.ok(link.backing_off("here.example", "there.example"))
    link.refuse(message(2), link.backing_off("here.example", "there.example"))
    check.ok(#came == 2)
    for _, reply in ipairs(came) do
      local kind, got, text = reply:get_error()
      check.equal({ got .. " " .. kind, text }, { want, "because" })
    end
    link.forget_failures("here.example", "there.example")
  end
end)

check.test("the queue is bounded", function()
  config.set("here.example", "s2s_send_queue_size", 2)
  local session, l = way()
  check.ok(link.enqueue(l, message(1)) and link.enqueue(l, message(2)))
  check.equal(link.enqueue(l, message(3)), false)
  config.set("here.example", "s2s_send_queue_size", nil)
  local big = message(4):text_tag("x", ("x"):rep(1 << 20))
  for _ = 1, 7 do check.ok(link.enqueue(l, big)) end
  check.equal(link.enqueue(l, big), false)
  s2s.destroy_session(session)
  link.forget_failures("here.example", "there.example")
end)

check.test("a pair of domains is proved, not a domain", function()
  local c = conn()
  local session = s2s.new_incoming(c)
  session.header_sent, session.notopen = true, nil
  session.from_host, session.to_host, session.host = "there.example", "here.example", "here.example"
  check.ok(not s2s.authorized(session, "there.example", "here.example"))
  check.ok(s2s.make_authenticated(session, "there.example", "dialback", "here.example"))
  check.equal(session.type, "s2sin")
  for _, row in ipairs { { "there.example", "here.example", true }, { "there.example", "other.example", false },
    { "else.example", "here.example", false } } do
    check.equal(s2s.authorized(session, row[1], row[2]), row[3])
  end
  check.ok(s2s.make_authenticated(session, "there.example", "dialback", "other.example"))
  check.ok(s2s.authorized(session, "there.example", "other.example"))
  check.equal(s2s.make_authenticated(session, "x.example", "dialback", "nowhere.example"), false)
  home.events.add_handler("s2s-authenticated", function(event) if event.host == "unwanted.example" then return false end end)
  check.equal(s2s.make_authenticated(session, "unwanted.example", "dialback", "here.example"), false)
  check.ok(not s2s.authorized(session, "unwanted.example", "here.example"))
  -- answers go their own way, not back on this stream
  local routed
  home.events.add_handler("route/remote", function(event) routed = event.to_host return true end)
  task.spawn(session.send, st.iq { type = "result", id = "1", from = "here.example", to = "there.example" })
  check.equal(routed, "there.example")
  session:close { condition = "policy-violation", text = "<x>" }
  check.ok(table.concat(c.out):find("<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>" ..
    "<text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>&lt;x&gt;</text></stream:error></stream:stream>", 1, true))
  check.equal(session.send(message(1)), false)
  check.equal(next(s2s.incoming_s2s), nil)
end)

check.test("what a reload changed while a proof was under way counts: our own domains, pairs that are forbidden", function()
  local session = s2s.new_incoming(conn())
  session.from_host, session.to_host, session.host = "moved.example", "here.example", "here.example"
  assert(hosts.activate "moved.example")         -- after the header, before the proof
  check.equal(s2s.make_authenticated(session, "moved.example", "EXTERNAL", "here.example"), false)
  check.ok(not s2s.authorized(session, "moved.example", "here.example"))
  check.ok(s2s.make_authenticated(session, "x.example", "dialback", "here.example"))
  check.ok(s2s.make_authenticated(session, "x.example", "dialback", "other.example"))
  s2s.forbid(function(here) return here == "other.example" end, {}, {})
  s2s.adopt(session, "x.example", "other.example")
  check.equal(link.offered("other.example", "x.example"), nil)
  check.equal(link.get("other.example", "x.example"), nil)
  session:close()
  hosts.deactivate "moved.example"
end)

check.test("lists of domains: names, and all below one", function()
  config.set("here.example", "strangers", { "Evil.example", "*.wild.example", "*.", "*", "*.\u{fc}ber.example", 7 })
  local names = s2s.listed("here.example", "strangers")
  local rows = {
    { "evil.example", true }, { "a.evil.example", false }, { "wild.example", false }, { "a.wild.example", true },
    { "c.b.a.wild.example", true }, { "awild.example", false }, { "wild.example.org", false }, { "x.\u{fc}ber.example", true },
    { "example", false }, { "other.example", false }, { "127.0.0.1", false }, { "7", true },
  }
  for i, row in ipairs(rows) do check.equal({ i, names(row[1]) }, { i, row[2] }) end
end)

check.test("a stanza a plugin marked as a client's is the stream's own", function()
  local session = s2s.new_outgoing("here.example", "there.example")
  local c = attach(session)
  session.sends2s(st.message({ xmlns = "jabber:client", from = "a@here.example", to = "b@there.example" }))
  check.ok(not c.out[1]:find "jabber:client")
  session:close()
  link.forget_failures("here.example", "there.example")
  check.ok(router ~= nil)
end)

check.done()
