-- SPDX-License-Identifier: MIT
-- Sessions without connection: how they begin, what plugins hear of it, how they end (XEP-0198 §4, §5). The protocol itself is in
-- tests/wire/sm.talk, restarts in sm_test.py.
local check = require "check"
local fake = require "fakehost"
local st = require "couplet.stanza"

local SM = "urn:xmpp:sm:3"

local function fresh(options)
  return fake.new { plugins = { "iq", "presence", "message", "offline", "smacks" }, options = options }
end

-- A client with a connection that stream management can be put on.
local function client(host, jid, resume)
  local one = host:client(jid)
  local session = one.session
  session.net = { track = function(_, queue) one.queue = queue end, send = function(_, x) return session.send(x) end,
    session = function() end, close = function() end, abort = function() one.aborted = true end }
  local plain = session.send
  session.send = function(x)
    if one.queue then one.queue:add(x) end
    return plain(x)
  end
  one:send(("<enable xmlns='%s' resume='%s'/>"):format(SM, resume == false and "false" or "true"))
  one.enabled = one:expect { name = "enabled", xmlns = SM }
  return one
end

local function lose(host, one) return host:run(require "couplet.sessions".destroy_session, one.session, "connection lost") end

local function seen_on(host, ...)
  local seen = {}
  for _, event in ipairs { ... } do
    host.events.add_handler(event, function(e) seen[#seen + 1] = { event, e } end, 1000)
  end
  return seen
end

local function names(seen)
  local out = {}
  for i, one in ipairs(seen) do out[i] = one[1] end
  return out
end

check.test("fields plugins know a session by", function()
  local host = fresh { smacks_hibernation_time = 300 }
  local romeo = client(host, "romeo@example.org/orchard")
  local session = romeo.session
  check.equal({ session.smacks, session.resumption_token, session.original_smacks_timeout }, { SM, romeo.enabled.attr.id, 300 })
  check.equal(romeo.enabled.attr.max, "300")
  host:close()
end)

check.test("a session that lost its connection waits, and ends when its time is over", function()
  local host = fresh { smacks_hibernation_time = 60 }
  local seen = seen_on(host, "smacks-hibernation-start", "smacks-hibernation-end", "resource-unbind", "delivery/failure")
  local romeo = client(host, "romeo@example.org/orchard")
  romeo.session.send(st.message({ from = "juliet@example.org/b", to = "romeo@example.org", id = "1" }, "hello"))
  lose(host, romeo)
  check.equal(names(seen), { "smacks-hibernation-start" })
  check.equal({ seen[1][2].queue[1].attr.id, #seen[1][2].queue, romeo.session.hibernating ~= nil }, { "1", 1, true })
  host:advance(59)
  check.equal(#seen, 1)
  host:advance(2)
  check.equal(names(seen), { "smacks-hibernation-start", "resource-unbind", "smacks-hibernation-end", "delivery/failure" })
  check.equal({ seen[3][2].resumed, seen[4][2].stanza.attr.id, romeo.session.destroyed }, { false, "1", true })
  host:close()
end)

check.test("XEP-0198 §5: who may resume learns where, if the configuration says so", function()
  for _, location in ipairs { false, "[2001:db8::7]:9222" } do
    local host = fresh { smacks_location = location or nil }
    for resume, want in pairs { [true] = location or "none", [false] = "none" } do
      local romeo = client(host, "romeo@example.org/" .. tostring(resume), resume)
      check.equal({ resume, romeo.enabled.attr.location or "none" }, { resume, want })
    end
    check.equal(host:close(), {})
  end
end)

check.test("without resumption it ends at once", function()
  local host = fresh()
  local seen = seen_on(host, "smacks-hibernation-start", "resource-unbind")
  local romeo = client(host, "romeo@example.org/orchard", false)
  check.equal(romeo.enabled.attr.id, nil)
  lose(host, romeo)
  check.equal(names(seen), { "resource-unbind" })
  host:close()
end)

check.test("acknowledged stanzas are told to plugins, in order", function()
  local host = fresh()
  local romeo = client(host, "romeo@example.org/orchard")
  for n = 1, 3 do romeo.session.send(st.message({ to = "romeo@example.org", id = tostring(n) }, "x")) end
  local seen = seen_on(host, "delivery/success")
  romeo:send(("<a xmlns='%s' h='2'/>"):format(SM))
  check.equal({ #seen, seen[1][2].stanza.attr.id, seen[2][2].stanza.attr.id }, { 2, "1", "2" })
  host:close()
end)

check.test("a plugin that takes over what was not acknowledged keeps it from going elsewhere", function()
  local host = fresh()
  host.events.add_handler("delivery/failure", function() return true end, 1)
  local stored = seen_on(host, "message/offline/handle")
  local romeo = client(host, "romeo@example.org/orchard", false)
  romeo.session.send(st.message({ to = "romeo@example.org", from = "a@example.org", id = "1" }, "x"))
  lose(host, romeo)
  check.equal(#stored, 0)
  host:close()
end)

check.test("a session ends while it is resumed along with a login: what came meanwhile goes where the rest goes", function()
  local users = require "couplet.users"
  local host = fake.new { plugins = { "iq", "presence", "message", "offline", "smacks", "saslauth", "sasl2", "sasl2_sm" } }
  check.ok(host:run(users.create_user, "romeo", "secret", host.name))
  local romeo = client(host, "romeo@example.org/orchard")
  romeo.session.send(st.message({ to = romeo.jid, from = "a@example.org", id = "before" }, "x"))
  lose(host, romeo)
  local seen = seen_on(host, "delivery/failure")
  host.events.add_handler("sasl2/c2s/success", function(event)
    check.ok(event.resumed)
    romeo.session.send(st.message({ to = romeo.jid, from = "a@example.org", id = "meanwhile" }, "x"))
    romeo.session.sm.final = true
    lose(host, romeo)
  end, 60)
  local again = host:client(host.name)
  again.session.net = romeo.session.net or { track = function() end, send = function() end, session = function() end,
    close = function() end, connected = function() return true end }
  again:send(("<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>AHJvbWVvAHNlY3JldA==</initial-response>"
    .. "<resume xmlns='%s' h='0' previd='%s'/></authenticate>"):format(SM, romeo.enabled.attr.id))
  check.equal({ #seen, seen[1][2].stanza.attr.id, seen[2] and seen[2][2].stanza.attr.id }, { 2, "before", "meanwhile" })
  host:close()
end)

check.test("one account has a bounded number of them; the oldest goes", function()
  local host = fresh { smacks_max_hibernated_sessions = 2 }
  local all = {}
  for n = 1, 3 do
    all[n] = client(host, "romeo@example.org/r" .. n)
    lose(host, all[n])
    host:advance(1)
  end
  local gone = {}
  for n = 1, 3 do gone[n] = all[n].session.destroyed or false end
  check.equal(gone, { true, false, false })
  host:close()
end)

check.test("how much was handled is remembered for a bounded number of sessions", function()
  local host = fresh { smacks_max_old_sessions = 2, smacks_hibernation_time = 10 }
  local tokens = {}
  for n = 1, 4 do
    local romeo = client(host, "romeo@example.org/r" .. n)
    tokens[n] = romeo.enabled.attr.id
    lose(host, romeo)
    host:advance(20)
  end
  local known = host:store("smacks_h", "keyval"):get "romeo"
  local n = 0
  for _ in pairs(known) do n = n + 1 end
  check.equal({ n, known[tokens[4]] ~= nil, known[tokens[1]] }, { 2, true, nil })
  host:close()
end)

check.test("silence: first a question, then the end of the connection", function()
  local host = fresh()
  local romeo = client(host, "romeo@example.org/orchard")
  check.equal(host:fire("c2s-read-timeout", { session = romeo.session }), true)
  check.equal(romeo.aborted, nil)
  check.ok(romeo.written[#romeo.written]:find("<r ", 1, true))
  check.equal(host:fire("c2s-read-timeout", { session = romeo.session }), true)
  check.equal(romeo.aborted, true)
  host:close()
end)

check.test("all sessions together have a bound; over it, the greatest of whoever has most ends", function()
  local host = fresh { smacks_max_total_bytes = 1024 * 1024 }
  local all = { client(host, "romeo@example.org/a"), client(host, "romeo@example.org/b"), client(host, "juliet@example.org/c") }
  for _, one in ipairs(all) do lose(host, one) end
  local function fill(one, kib)
    for _ = 1, kib do one.session.send(st.message({ to = one.jid }, ("x"):rep(1000))) end
  end
  fill(all[1], 400)
  fill(all[2], 300)
  fill(all[3], 450)
  host:run(require "couplet.sm".tick)
  host:advance(0)
  check.equal({ all[1].session.destroyed, all[2].session.destroyed, all[3].session.destroyed }, { true, nil, nil })
  host:close()
end)

check.test("a reload changes nothing for sessions there are", function()
  local host = fresh { smacks_hibernation_time = 60 }
  local here, away = client(host, "romeo@example.org/a"), client(host, "romeo@example.org/b")
  lose(host, away)
  host:reload "smacks"
  check.equal({ here.session.destroyed, away.session.hibernating ~= nil }, { nil, true })
  local seen = seen_on(host, "smacks-hibernation-start", "delivery/success")
  here.session.send(st.message { to = here.jid, id = "1" })
  here:send(("<a xmlns='%s' h='1'/>"):format(SM))
  lose(host, here)
  check.equal(names(seen), { "delivery/success", "smacks-hibernation-start" })
  host:advance(61)
  check.equal({ here.session.destroyed, away.session.destroyed }, { true, true })
  host:close()
end)

check.done()
