-- SPDX-License-Identifier: MIT
-- The life of a session: PLUGIN-API §5 and §8.4, RFC 6120 §7.
local check = require "check"
local fixture = require "client_fixture"
local directory = require "couplet.directory"
local filters = require "couplet.filters"
local sessions = require "couplet.sessions"
local st = require "couplet.stanza"
local task = require "couplet.task"
local host = fixture.host "h.example"

local function new()
  local conn = fixture.conn()
  local session = sessions.new_session(conn)
  conn:session(session)
  session.host, session.notopen = "h.example", nil
  return session, conn
end

local function bind(username, resource)
  local session, conn = new()
  assert(sessions.make_authenticated(session, username))
  local results
  task.spawn(function() results = table.pack(sessions.bind_resource(session, resource)) end)
  return session, conn, table.unpack(results, 1, results.n)
end

check.test("authentication makes a user of a session", function()
  local session = new()
  check.equal(session.type, "c2s_unauthed")
  check.equal({ sessions.make_authenticated(session, "") }, { nil, "Invalid username" })
  check.equal({ sessions.make_authenticated(session, "a b") }, { nil, "Invalid username" })
  check.equal(session.type, "c2s_unauthed")
  check.ok(sessions.make_authenticated(session, "ROMEO"))
  check.equal({ session.type, session.username, session.role.name }, { "c2s_unbound", "romeo", "prosody:member" })
  check.ok(sessions.make_authenticated(session, "romeo", "prosody:admin"))
  check.equal(session.role.name, "prosody:admin")
end)

check.test("binding: a wish, none, and what is refused", function()
  fixture.reset()
  local session, _, ok = bind("romeo", "orchard")
  check.ok(ok)
  check.equal({ session.type, session.resource, session.full_jid }, { "c2s", "orchard", "romeo@h.example/orchard" })
  check.ok(directory.session "romeo@h.example/orchard" == session)
  check.ok(session.roster == directory.user "romeo@h.example".roster)
  check.equal({ sessions.bind_resource(session, "again") },
    { nil, "cancel", "not-allowed", "Cannot bind multiple resources on a single connection" })
  local seen = {}
  for _ = 1, 20 do
    local other = bind("romeo", nil)
    check.ok(#other.resource >= 8 and not seen[other.resource])
    seen[other.resource] = true
  end
  check.ok(bind("romeo", "").resource ~= "")
  check.ok(bind("romeo", ("x"):rep(1023)).resource)
  for _, wish in ipairs { ("x"):rep(1024), ("x"):rep(5000), "a\0b", "\xff" } do
    local _, _, bad, kind, condition = bind("romeo", wish)
    check.equal({ bad, kind, condition }, { nil, "modify", "bad-request" })
  end
  local unauthed = new()
  check.equal(select(3, sessions.bind_resource(unauthed, "x")), "not-authorized")
end)

check.test("conflicts, policy by policy (RFC 6120 §7.7.2.2)", function()
  local rows = { { false, "kick_old" }, { "kick_old", "kick_old" }, { "kick_new", "kick_new" }, { "random", "both" },
    { "increment", "both" }, { "nonsense", "kick_old" } }
  for _, row in ipairs(rows) do
    fixture.reset()
    fixture.option("h.example", "conflict_resolve", row[1] or nil)
    local old, old_conn = bind("romeo", "orchard")
    local new_session, _, ok, kind, condition = bind("romeo", "orchard")
    local what = tostring(row[1])
    if row[2] == "kick_old" then
      check.ok(ok, what)
      check.ok(old.destroyed, what)
      check.ok(tostring(old_conn.out[1]):find("<conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>", 1, true), what)
      check.ok(old_conn.is_closed)
      check.ok(directory.session "romeo@h.example/orchard" == new_session)
    elseif row[2] == "kick_new" then
      check.equal({ ok, kind, condition }, { nil, "cancel", "conflict" })
      check.ok(directory.session "romeo@h.example/orchard" == old)
    else
      check.ok(ok and not old.destroyed and new_session.resource ~= "orchard", what)
      if what == "increment" then check.equal(new_session.resource, "orchard #2") end
    end
  end
  fixture.option("h.example", "conflict_resolve", "kick_old")
end)

check.test("no more sessions of one user than allowed", function()
  fixture.reset()
  fixture.option("h.example", "max_sessions_per_user", 3)
  for i = 1, 3 do check.ok((select(3, bind("romeo", "r" .. i)))) end
  local _, _, ok, kind, condition = bind("romeo", "r4")
  check.equal({ ok, kind, condition }, { nil, "wait", "resource-constraint" })
  check.ok((select(3, bind("romeo", "r1"))), "replacing one is no more")
  check.ok((select(3, bind("juliet", "r1"))))
  fixture.option("h.example", "max_sessions_per_user", 100)
end)

check.test("plugins may refuse or change the resource, and keep a session that lost its connection", function()
  fixture.reset()
  local function change(event) event.resource = "chosen" end
  host.events.add_handler("pre-resource-bind", change)
  check.equal(bind("romeo", "x").resource, "chosen")
  host.events.remove_handler("pre-resource-bind", change)
  local function refuse(event)
    event.error = { type = "auth", condition = "forbidden", text = "not you" }
    return false
  end
  host.events.add_handler("pre-resource-bind", refuse)
  local _, _, ok, kind, condition, text = bind("romeo", "x")
  check.equal({ ok, kind, condition, text }, { nil, "auth", "forbidden", "not you" })
  host.events.remove_handler("pre-resource-bind", refuse)

  local session = bind("romeo", "kept")
  local function keep() return true end
  host.events.add_handler("pre-resource-unbind", keep)
  sessions.destroy_session(session, "lost")
  check.ok(not session.destroyed)
  check.equal(session.send "x", false)
  check.ok(directory.session "romeo@h.example/kept" == session)
  host.events.remove_handler("pre-resource-unbind", keep)

  local closed = bind("romeo", "closed")           -- while somebody who keeps it waits
  local rounds = 0
  local function keep_and_wait(event)
    rounds = rounds + 1
    if event.session.closing then return nil end
    event.session:close "not-authorized"
    return true
  end
  host.events.add_handler("pre-resource-unbind", keep_and_wait)
  sessions.destroy_session(closed, "lost")
  check.equal({ closed.destroyed, rounds, directory.session "romeo@h.example/closed" }, { true, 2, nil })
  host.events.remove_handler("pre-resource-unbind", keep_and_wait)

  local fresh, conn = new()
  sessions.make_authenticated(fresh, "romeo")
  local updated
  local bus = require "couplet.prosody".events
  local function look(event) updated = event end
  bus.add_handler("c2s-session-updated", look)
  sessions.update_session(session, fresh)
  bus.remove_handler("c2s-session-updated", look)
  check.ok(updated.session == session and updated.from_session == fresh)
  check.ok(session.send "hello" and conn.out[1] == "hello")
  check.ok(conn:session() == session)
  check.ok(fresh.destroyed)
end)

check.test("the end: told once, then nothing works and nothing is held", function()
  fixture.reset()
  local events = {}
  local function note(event) events[#events + 1] = event.error or "none" end
  host.events.add_handler("resource-unbind", note)
  local session, conn = bind("romeo", "orchard")
  local log = session.log
  sessions.destroy_session(session, "connection reset")
  sessions.destroy_session(session, "again")
  host.events.remove_handler("resource-unbind", note)
  check.equal(events, { "connection reset" })
  check.equal({ session.destroyed, session.type, session.full_jid }, { true, "c2s_destroyed", "romeo@h.example/orchard" })
  check.equal(session.send "x", false)
  check.equal(session.close(session), false)
  check.equal({ session.net, session.conn, session.roster, session.presence }, {})
  check.ok(session.log == log)
  check.equal({ directory.count() }, { 0, 0 })
  check.equal(#conn.out, 0)
end)

check.test("close: cleanly, with each form of a reason, before the stream is open", function()
  local rows = {
    { "policy-violation", "<policy%-violation xmlns='urn:ietf:params:xml:ns:xmpp%-streams'/></stream:error>" },
    { { condition = "reset", text = "a < b" }, "<reset [^>]*/><text [^>]*>a &lt; b</text></stream:error>" },
    { { condition = "see-other-host", extra = st.stanza("x", { xmlns = "y" }) },
      "<see%-other%-host [^>]*/><x xmlns='y'/></stream:error>" },
    { st.stanza("host-gone", { xmlns = "urn:ietf:params:xml:ns:xmpp-streams" }),
      "<stream:error><host%-gone [^>]*/></stream:error>" },
  }
  for i, row in ipairs(rows) do
    for _, unopened in ipairs { false, true } do
      local session, conn = new()
      if unopened then session.notopen = true end
      session:close(row[1])
      local out = table.concat(conn.out)
      check.ok(out:find(row[2]), out)
      check.ok(out:find "</stream:stream>$", "row " .. i)
      check.equal(out:find "^<%?xml version='1.0'%?><stream:stream [^>]*id='[^']+'[^>]*>" ~= nil, unopened)
      check.ok(conn.is_closed and session.destroyed)
      session:close()
      check.equal(table.concat(conn.out), out)
    end
  end
  local session, conn = new()
  session:close()
  check.equal(conn.out, { "</stream:stream>" })
  check.ok(not conn.is_closed and conn.calls.deadline[1] == 5, "the client closes its side first")
end)

check.test("what plugins put in place of send and log is used; unknown keys stay", function()
  fixture.reset()
  local session, conn = bind("romeo", "orchard")
  check.ok(session.send == session.send and session.log == session.log and session.conn == session.conn)
  session.send "one"
  local old = session.send
  session.send = function(x) return old("[" .. x .. "]") end
  session.send "two"
  check.equal(conn.out, { "one", "[two]" })
  check.equal(session.my_plugin, nil)
  session.my_plugin = { 1 }
  check.equal(session.my_plugin, { 1 })
  check.equal({ session.base_type, session.ip, session.conn:ip(), session.conn:clientport() },
    { "c2s", "192.0.2.1", "192.0.2.1", conn:port() })
  check.equal({ session.conn:socket():getpeerfinished() }, {})
end)

check.test("filters see what goes out, and may drop it", function()
  fixture.reset()
  local session, conn = bind("romeo", "orchard")
  local function upper(data) return data:upper() end
  filters.add_filter(session, "bytes/out", upper)
  session.send(st.message())
  session.rawsend "x"
  check.equal(conn.out, { "<MESSAGE/>", "X" })
  filters.remove_filter(session, "bytes/out", upper)
  local function drop(stanza) if stanza.name == "presence" then return nil end return stanza end
  filters.add_filter(session, "stanzas/out", drop)
  check.equal({ session.send(st.presence()), session.send(st.message()) }, { true, true })
  check.equal(#conn.out, 3)
  check.equal(session.filter("stanzas/out", st.presence()), nil)
end)

check.test("to the available, to the interested", function()
  fixture.reset()
  local a = fixture.login("romeo@h.example/a")
  local b = fixture.connect "romeo@h.example/b"
  check.equal(sessions.send_to_available_resources("romeo", "h.example", st.message()), 1)
  a:expect "message"
  b:nothing()
  b.session.interested = true
  check.equal(sessions.send_to_interested_resources("romeo", "h.example", st.message()), 2)
  b:expect "message"
  check.equal(sessions.send_to_available_resources("nobody", "h.example", st.message()), 0)
end)

check.test("many: gathered with the address of each, the lists used again", function()
  fixture.reset()
  local a, b = fixture.login "romeo@h.example/a", fixture.login "juliet@h.example/b"
  for _, ones in ipairs { { a, b }, { b }, { a } } do              -- nothing of the one before is in the next
    local many = sessions.many()
    for _, one in ipairs(ones) do sessions.add(many, one.session, one.session.full_jid) end
    check.equal(sessions.send_to(many, st.message()), #ones)
    for _, one in ipairs { a, b } do
      if one == ones[1] or one == ones[2] then check.equal(one:expect("message").attr.to, one.session.full_jid) end
      one:nothing()
    end
  end
  check.equal(sessions.send_to(sessions.many(), st.message()), 0)
  local one, other = sessions.many(), sessions.many()              -- two at once
  sessions.add(one, a.session, "x")
  sessions.add(other, b.session, "y")
  check.equal({ sessions.send_to(one, st.message()), sessions.send_to(other, st.message()) }, { 1, 1 })
  check.equal({ a:expect("message").attr.to, b:expect("message").attr.to }, { "x", "y" })
end)

check.test("who of an account listens: those that are here and want to hear of something", function()
  fixture.reset()
  local session = bind("romeo", "a")
  local other, set, more = bind("romeo", "b"), { tune = true }, { mood = true }
  local user = directory.user "romeo@h.example"
  local rows = {
    { function() sessions.set_interest(session, set) end, {} },    -- not available
    { function() sessions.add_presence(session, st.presence(), -1) end, { [session] = set } },
    { function() sessions.add_presence(other, st.presence(), 1) end, { [session] = set } },
    { function() sessions.set_interest(other, set) end, { [session] = set, [other] = set } },
    { function() sessions.set_interest(session, more) end, { [session] = more, [other] = set } },
    { function() sessions.remove_presence(session) end, { [other] = set } },
    { function() sessions.add_presence(session, st.presence(), 0) end, { [session] = more, [other] = set } },
    { function() sessions.destroy_session(other) end, { [session] = more } },
    { function() sessions.set_interest(session, nil) end, {} },
  }
  for i, row in ipairs(rows) do
    row[1]()
    local seen, list = {}, user.listening or {}
    for at = 1, #list, 3 do
      seen[list[at]] = list[at + 2]
      check.equal(list[at + 1], list[at].full_jid)
    end
    for who, wants in pairs(row[2]) do check.ok(seen[who] == wants, i) end
    for who in pairs(seen) do check.ok(row[2][who], i) end
  end
end)

check.test("an idle session is small", function()
  fixture.reset()
  local list = {}
  local presence = st.presence()
  for _ = 1, 2 do collectgarbage() end
  local before = collectgarbage "count"
  for i = 1, 2000 do
    local username = "user" .. i
    fixture.account(username .. "@h.example")
    local session = bind(username, "phone")
    session.queue = task.queue(print)
    sessions.add_presence(session, st.clone(presence), 0)
    list[i] = session
  end
  for _ = 1, 2 do collectgarbage() end
  local each = (collectgarbage "count" - before) * 1024 / 2000
  print(("# %.0f bytes a session, roster, user and the test's own connection included"):format(each))
  check.ok(each < 4500 and #list == 2000, each)
end)

check.done()
