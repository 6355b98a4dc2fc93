-- SPDX-License-Identifier: MIT
-- The way of a stanza: PLUGIN-API §4.1, RFC 6120 §8.
local check = require "check"
local fixture = require "client_fixture"
local st = require "couplet.stanza"
local router = require "couplet.router"
local host = fixture.host "h.example"
fixture.host "other.example"

local romeo = fixture.login "romeo@h.example/orchard"
local juliet = fixture.login "juliet@h.example/balcony"

-- The events fired on the host while fn runs.
local function events_during(fn)
  local seen, fire = {}, host.events.fire_event
  local function spy(next_handler, name, data)
    seen[#seen + 1] = name
    return next_handler(name, data)
  end
  host.events.add_wrapper(false, spy)
  fn()
  host.events.remove_wrapper(false, spy)
  check.ok(fire == host.events.fire_event)
  return seen
end

check.test("events of each kind and target, in order", function()
  local rows = {
    { st.message { to = "juliet@h.example/balcony" }, { "pre-stanza", "pre-message/full", "message/full" } },
    { st.message { to = "juliet@h.example" }, { "pre-stanza", "pre-message/bare", "message/bare" } },
    { st.message { to = "h.example" }, { "pre-stanza", "pre-message/host", "message/host" } },
    { st.iq { to = "juliet@h.example/balcony", type = "get", id = "1" }:query "x:y", { "pre-stanza", "pre-iq/full", "iq/full" } },
    { st.iq { type = "get", id = "1" }:query "x:y",
      { "pre-stanza", "pre-iq/bare", "iq/bare", "iq/bare/x:y:query", "iq-get/bare/x:y:query", "iq/self", "iq/self/x:y:query",
        "iq-get/self/x:y:query" } },
    { st.iq { to = "romeo@h.example", type = "set", id = "1" }:query "x:y",
      { "pre-stanza", "pre-iq/bare", "iq/bare", "iq/bare/x:y:query", "iq-set/bare/x:y:query", "iq/self", "iq/self/x:y:query",
        "iq-set/self/x:y:query" } },
    { st.iq { to = "juliet@h.example", type = "get", id = "1" }:query "x:y",
      { "pre-stanza", "pre-iq/bare", "iq/bare", "iq/bare/x:y:query", "iq-get/bare/x:y:query" } },
    { st.iq { to = "h.example", type = "result", id = "7" }, { "pre-stanza", "pre-iq/host", "iq/host", "iq-result/host/7" } },
    { st.message { to = "a@remote.example" }, { "pre-stanza", "pre-message/bare", "route/remote" } },
    { st.message { to = "a@other.example" }, { "pre-stanza", "pre-message/bare" } },
  }
  for i, row in ipairs(rows) do
    local seen = events_during(function() romeo:send(row[1]) end)
    -- what answers and deliveries fire afterwards is not the point here
    local first = { table.unpack(seen, 1, #row[2]) }
    check.equal(first, row[2], "row " .. i)
  end
  romeo:got() juliet:got()
end)

check.test("true from an event ends the way", function()
  for _, name in ipairs { "pre-stanza", "pre-message/full", "message/full" } do
    local function stop() return true end
    host.events.add_handler(name, stop, 10)
    romeo:send(st.message { to = juliet.jid })
    juliet:nothing()
    romeo:nothing()
    host.events.remove_handler(name, stop)
  end
  romeo:send(st.message { to = juliet.jid })
  juliet:expect("message", { from = romeo.jid, to = juliet.jid })
end)

check.test("from is stamped, true ones pass, false ones end the stream (RFC 6120 §8.1.2.1)", function()
  for _, from in ipairs { false, romeo.jid, "romeo@h.example", "ROMEO@h.example/orchard" } do
    romeo:send(st.message { to = juliet.jid, from = from or nil })
    juliet:expect("message", { from = romeo.jid })
  end
  for _, from in ipairs { "juliet@h.example", "romeo@h.example/elsewhere", "@", "romeo@other.example" } do
    local mercutio = fixture.login "romeo@h.example/second"
    mercutio:send(st.message { to = juliet.jid, from = from })
    juliet:nothing()
    check.ok(mercutio.session.destroyed, from)
    local said = ""
    for _, x in ipairs(mercutio:got()) do said = said .. tostring(x) end
    check.ok(said:find("<invalid-from", 1, true))
    romeo:got()
  end
end)

check.test("addresses are brought into their normal form; what is none is jid-malformed", function()
  romeo:send(st.message { to = "JULIET@H.example/balcony" })
  juliet:expect("message", { to = juliet.jid })
  for _, to in ipairs { "@h.example", "a@b@c/", "juliet@", "a b@h.example", "h.example/" } do
    romeo:send(st.message { to = to, id = "m" })
    local err = romeo:expect("message", { type = "error", id = "m" })
    check.equal({ err:get_error() }, { "modify", "jid-malformed" }, to)
  end
  romeo:send(st.message { to = "@", type = "error" })
  romeo:nothing()
end)

check.test("an IQ that breaks RFC 6120 §8.2.3 is a bad request", function()
  local rows = {
    st.stanza("iq", { type = "get" }):query "x:y",
    st.stanza("iq", { id = "1" }):query "x:y",
    st.stanza("iq", { id = "1", type = "ask" }):query "x:y",
    st.stanza("iq", { id = "1", type = "get" }),
    st.stanza("iq", { id = "1", type = "set" }):query("x:y"):up():query("x:z"),
  }
  for i, stanza in ipairs(rows) do
    romeo:send(stanza)
    local err = romeo:expect("iq", { type = "error" })
    check.equal(select(2, err:get_error()), "bad-request", "row " .. i)
  end
  romeo:send(st.stanza("iq", { id = "1", type = "result", to = juliet.jid }):query("x:y"):up():query("x:z"))
  juliet:nothing()
end)

check.test("nobody answers: service-unavailable, never for errors and results", function()
  romeo:send(st.iq { to = "h.example", type = "get", id = "q" }:query "nobody:home")
  check.equal({ romeo:expect("iq", { type = "error", id = "q", from = "h.example" }):get_error() },
    { "cancel", "service-unavailable" })
  romeo:send(st.iq { to = "juliet@h.example/nowhere", type = "get", id = "q2" }:query "x:y")
  check.equal({ romeo:expect("iq", { type = "error", id = "q2" }):get_error() }, { "cancel", "service-unavailable" })
  for _, type in ipairs { "result", "error" } do
    romeo:send(st.iq { to = "juliet@h.example/nowhere", type = type, id = "q3" })
    romeo:send(st.iq { to = "h.example", type = type, id = "q3" })
  end
  romeo:nothing()
end)

check.test("a remote host nobody can reach", function()
  romeo:send(st.message { to = "a@remote.example", id = "r" })
  check.equal(select(2, romeo:expect("message", { type = "error", from = "a@remote.example" }):get_error()),
    "remote-server-not-found")
  local function take(event)
    check.equal({ event.from_host, event.to_host }, { "h.example", "remote.example" })
    return true
  end
  host.events.add_handler("route/remote", take)
  romeo:send(st.message { to = "a@remote.example" })
  romeo:nothing()
  host.events.remove_handler("route/remote", take)
end)

check.test("before binding only the server is spoken to (RFC 6120 §7.1)", function()
  local rows = {
    { "c2s_unauthed", st.message { to = juliet.jid }, "not-authorized" },
    { "c2s_unauthed", st.iq { type = "get", id = "1" }:query "x:y", "not-authorized" },
    { "c2s_unbound", st.message { to = juliet.jid }, "not-authorized" },
    { "c2s_unbound", st.iq { type = "get", id = "1", to = juliet.jid }:query "x:y", "not-authorized" },
    { "c2s_unbound", st.iq { type = "get", id = "1" }:query "x:y", nil },
    { "c2s_unbound", st.stanza("oops", { xmlns = "x:y" }), "unsupported-stanza-type" },
    { "c2s_unbound", st.stanza "oops", "unsupported-stanza-type" },
  }
  for i, row in ipairs(rows) do
    local conn = fixture.conn()
    local session = require "couplet.sessions".new_session(conn)
    session.host, session.notopen, session.type = "h.example", nil, row[1]
    if row[1] ~= "c2s_unauthed" then session.username = "romeo" end
    router.core_process_stanza(session, row[2])
    if row[3] then
      check.ok(session.destroyed, "row " .. i)
      check.ok(table.concat(conn.out):find("<" .. row[3], 1, true), "row " .. i)
    else
      check.equal(select(2, conn.out[1]:get_error()), "service-unavailable")
    end
  end
  local function bind(event) event.origin.send(st.reply(event.stanza)) return true end
  host.events.add_handler("stanza/iq/x:y:query", bind)
  local conn = fixture.conn()
  local session = require "couplet.sessions".new_session(conn)
  session.host, session.notopen = "h.example", nil
  router.core_process_stanza(session, st.iq { type = "set", id = "1" }:query "x:y")
  check.equal(conn.out[1].attr.type, "result")
  host.events.remove_handler("stanza/iq/x:y:query", bind)
end)

check.test("a plugin that answers itself is stopped", function()
  local n = 0
  local function echo(event)
    n = n + 1
    router.core_post_stanza(event.origin, st.message { to = "juliet@h.example", from = romeo.jid }, true)
    return true
  end
  host.events.add_handler("message/bare", echo, 50)
  romeo:send(st.message { to = "juliet@h.example" })
  host.events.remove_handler("message/bare", echo)
  check.ok(n > 10 and n <= 51, tostring(n))
  romeo:send(st.message { to = "juliet@h.example" })           -- and life goes on
  juliet:expect "message"
end)

check.test("a raising plugin does not keep the stanza", function()
  local function broken() error "oops" end
  host.events.add_handler("message/full", broken, 5)
  romeo:send(st.message { to = juliet.jid })
  juliet:expect "message"
  host.events.remove_handler("message/full", broken)
end)

check.done()
