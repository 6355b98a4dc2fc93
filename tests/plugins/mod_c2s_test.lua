-- SPDX-License-Identifier: MIT
-- Streams of clients, on connections without sockets: RFC 6120 §4, §5; XEP-0138; the rates of mod_limits.
local check = require "check"
local clock = require "couplet.clock"
local fixture = require "client_fixture"
local config = require "couplet.config"
local plugin = require "couplet.plugin"
local prosody = require "couplet.prosody"
local st = require "couplet.stanza"

package.loaded["couplet.certs"] = { context = function() return fixture.context end }
config.set("*", "limits", { c2s = { rate = "10kb/s", burst = "3s" }, s2sin = { rate = "1 mb/s", burst = "64kb" },
  bad = { rate = "fast" } })
local host = fixture.host("h.example", {})
config.set("h.example", "modules_enabled", { "c2s", "tls", "compression", "limits" })
assert(plugin.load("h.example", "c2s"))
assert(plugin.load("h.example", "limits"))
for _, p in ipairs { "iq", "message", "presence", "roster", "offline", "compression" } do assert(plugin.load("h.example", p)) end
fixture.context = "ctx"
assert(plugin.load("h.example", "tls"))
local on = fixture.handlers.c2s

-- How much work a stanza is, is what a test says: else a busy machine would have an account rest.
local work, waited = 0, 0
local real = clock.use()
clock.use { wall = real.wall, timer = real.timer, once = real.once, mono = function() return real.mono() + work + waited end,
  cpu = function() return work end }

local function text(conn)
  local parts = {}
  for i, x in ipairs(conn.out) do parts[i] = tostring(x) end
  conn.out = {}
  return table.concat(parts)
end

local function header(attr)
  local all = { to = "h.example", version = "1.0", content = "jabber:client" }
  for k, v in pairs(attr or {}) do all[k] = v or nil end
  local content = all.content
  all.content = nil
  return st.stanza("stream", all), content
end

local function connect(values)
  local conn = fixture.conn(values)
  on.opened(conn)
  return conn, conn:session()
end

local function opened(values)
  local conn, session = connect(values)
  on.stream(conn, header())
  text(conn)
  return conn, session
end

check.test("the header is answered: from, a fresh id, version, language, features", function()
  local conn, session = connect()
  on.stream(conn, header { from = "romeo@h.example" })
  local out = text(conn)
  for _, want in ipairs { "^<%?xml version='1.0'%?><stream:stream xmlns='jabber:client' "
    .. "xmlns:stream='http://etherx.jabber.org/streams' ",
    " from='h%.example'", " to='romeo@h%.example'", " version='1%.0'", " xml:lang='en'", "<stream:features>",
    "<starttls xmlns='urn:ietf:params:xml:ns:xmpp%-tls'><required/></starttls>" } do
    check.ok(out:find(want), want .. " in " .. out)
  end
  local id = out:match " id='([^']+)'"
  check.ok(#id >= 16 and id == session.streamid)
  local other = connect()
  on.stream(other, header())
  check.ok(text(other):match " id='([^']+)'" ~= id)
  check.equal(conn.dones, 1)
end)

check.test("what is wrong with a header is said in a proper stream", function()
  local rows = {
    { { to = "nowhere.example" }, "host-unknown" },
    { { to = false }, "improper-addressing" },
    { { to = "a b" }, "improper-addressing" },
    { { version = "0.9" }, "unsupported-version" },
    { { version = false }, "unsupported-version" },
    { { version = "one" }, "unsupported-version" },
    { { version = "1.1" }, nil },
    { { version = "2.0" }, nil },
    { { content = "jabber:server" }, "invalid-namespace" },
    { { content = false }, "invalid-namespace" },
    { { from = "@" }, "invalid-from" },
    { { to = "H.Example" }, nil },
  }
  for i, row in ipairs(rows) do
    local conn, session = connect()
    on.stream(conn, header(row[1]))
    local out = text(conn)
    check.ok(out:find("^<%?xml version='1.0'%?><stream:stream .* from='h%.example'"), out)
    if row[2] then
      check.ok(out:find("<stream:error><" .. row[2] .. " xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>", 1, true), i .. out)
      check.ok(out:find "</stream:stream>$")
      check.ok(conn.is_closed and session.destroyed)
    else
      check.ok(out:find "stream:features", i .. out)
    end
  end
end)

check.test("after login the name in the header must be true, and the host the same", function()
  for _, row in ipairs { { { from = "juliet@h.example" }, "invalid-from" }, { { from = "romeo@h.example" } },
    { { to = "other.example" }, "host-unknown" } } do
    local conn, session = opened()
    session.username = "romeo"
    session:reset_stream()
    check.ok(conn.calls.restart)
    on.stream(conn, header(row[1]))
    local out = text(conn)
    check.equal(out:match "<stream:error><([%w-]+)", row[2])
  end
end)

check.test("errors of the reader, before and after the header", function()
  local conn, session = connect()
  on.error(conn, "not-well-formed", "no XML")
  local out = text(conn)
  check.ok(out:find "^<%?xml.*<stream:error><not%-well%-formed [^>]*/><text [^>]*>no XML</text></stream:error></stream:stream>$",
    out)
  check.ok(session.destroyed)
  conn = opened()
  on.error(conn, "restricted-xml")
  check.ok(text(conn):find "^<stream:error><restricted%-xml [^>]*/></stream:error></stream:stream>$")
end)

check.test("plugins hear that a buffer has emptied, and of the end", function()
  local heard = {}
  local conn, session = opened()
  local bus = session.host and require "couplet.hosts".get(session.host).events or prosody.events
  local handlers = {}
  for name, where in pairs { ["c2s-pre-ondrain"] = bus, ["c2s-ondrain"] = bus, ["c2s-closed"] = prosody.events } do
    handlers[name] = { where, function(event)
      check.equal(event.session, session)
      local over = event.session.destroyed and " destroyed " or ""
      heard[#heard + 1] = name .. over .. (event.conn and event.conn:ip() or "")
    end }
    where.add_handler(name, handlers[name][2])
  end
  on.drained(conn)
  on.closed(conn, "reset")
  for name, h in pairs(handlers) do h[1].remove_handler(name, h[2]) end
  check.equal(heard, { "c2s-pre-ondrain", "c2s-ondrain", "c2s-closed destroyed " .. conn:ip() })
  conn, session = opened()
  on.drained(conn)
  on.closed(conn, "reset")
  check.equal(#heard, 3)
end)

check.test("the end, from the client, from us, from the network", function()
  local conn, session = opened()
  on.ended(conn)
  check.equal(text(conn), "</stream:stream>")
  check.ok(conn.is_closed and session.destroyed)

  conn, session = opened()
  session:close()
  check.equal(text(conn), "</stream:stream>")
  check.ok(not conn.is_closed)
  on.element(conn, st.message())                   -- on its way already: taken off, not handled
  on.ended(conn)
  check.ok(conn.is_closed)
  on.closed(conn)

  conn, session = opened()
  on.closed(conn, "reset")
  check.ok(session.destroyed)
  check.equal(text(conn), "")
end)

check.test("stanzas are handled in order, each one acknowledged to the connection", function()
  local conn, session = opened()
  fixture.account "romeo@h.example"
  local sessions = require "couplet.sessions"
  sessions.make_authenticated(session, "romeo")
  check.ok(sessions.bind_resource(session, "orchard"))
  check.equal({ conn.calls.deadline[1], conn.calls.window[1], conn.calls.idle_after[1] }, { nil, 32, 840 })
  local task = require "couplet.task"
  local held, seen = nil, {}
  local function slow(event)
    seen[#seen + 1] = event.stanza.attr.id
    if event.stanza.attr.id == "1" then task.await(function(done) held = done end) end
    return true
  end
  host.events.add_handler("pre-message/bare", slow)
  local before = conn.dones
  for i = 1, 3 do on.element(conn, st.message { to = "romeo@h.example", id = tostring(i) }) end
  on.ended(conn)
  check.equal(seen, { "1" })
  check.equal(conn.dones, before)
  held()
  host.events.remove_handler("pre-message/bare", slow)
  check.equal(seen, { "1", "2", "3" })
  check.equal(conn.dones, before + 4)
  check.ok(session.destroyed)
end)

check.test("silence: a space, and the end for who has no stream", function()
  local conn = opened()
  on.idle(conn)
  check.equal(text(conn), " ")
  local keep
  local function decide() return keep end
  host.events.add_handler("c2s-read-timeout", decide, 10)
  keep = false
  on.idle(conn)
  check.ok(text(conn):find "<connection%-timeout")
  keep = true
  conn = opened()
  on.idle(conn)
  check.equal(text(conn), "")
  host.events.remove_handler("c2s-read-timeout", decide)
  conn = connect()
  on.idle(conn)
  check.ok(conn.is_closed)
end)

check.test("STARTTLS (RFC 6120 §5.4)", function()
  local NS = "urn:ietf:params:xml:ns:xmpp-tls"
  local conn, session = opened()
  on.element(conn, st.stanza("starttls", { xmlns = NS }))
  check.equal(text(conn), "<proceed xmlns='" .. NS .. "'/>")
  check.equal(conn.calls.starttls[1], "ctx")
  conn.tls_state = {}
  on.secured(conn)
  check.ok(session.secure and session.encrypted)
  on.stream(conn, header())
  check.ok(not text(conn):find "starttls")
  on.element(conn, st.stanza("starttls", { xmlns = NS }))           -- once is enough
  check.equal(text(conn), "<failure xmlns='" .. NS .. "'/></stream:stream>")
  check.ok(conn.is_closed)

  local direct = connect { tls_state = {} }
  check.ok(direct:session().secure)
  on.stream(direct, header())
  check.ok(not text(direct):find "starttls")

  fixture.context = nil
  prosody.events.fire_event "certificates-reloaded"
  conn = connect()
  on.stream(conn, header())
  check.ok(not text(conn):find "starttls", "nothing is offered without a certificate")
  on.element(conn, st.stanza("starttls", { xmlns = NS }))
  check.ok(text(conn):find "^<failure" and conn.is_closed)
  fixture.context = "new"
  prosody.events.fire_event "certificates-reloaded"
  conn = opened()
  on.element(conn, st.stanza("starttls", { xmlns = NS }))
  check.equal(conn.calls.starttls[1], "new")
end)

check.test("compression (XEP-0138): after login, zlib, once", function()
  local NS = "http://jabber.org/protocol/compress"
  local function ask(conn, ...)
    local s = st.stanza("compress", { xmlns = NS })
    for _, method in ipairs { ... } do s:text_tag("method", method) end
    on.element(conn, s)
    return text(conn)
  end
  local conn, session = opened()
  check.ok(ask(conn, "zlib"):find "<failure.*<setup%-failed/>")
  session.username, session.type = "romeo", "c2s_unbound"
  session:reset_stream()
  on.stream(conn, header())
  check.ok(text(conn):find("<compression xmlns='http://jabber.org/features/compress'><method>zlib</method></compression>", 1,
    true))
  check.equal(ask(conn, "lzw"), "<failure xmlns='" .. NS .. "'><unsupported-method/></failure>")
  check.equal(ask(conn), "<failure xmlns='" .. NS .. "'><setup-failed/></failure>")
  check.equal(ask(conn, "lzw", "zlib"), "<compressed xmlns='" .. NS .. "'/>")
  check.equal(conn.calls.compress[1], "zlib")
  check.ok(session.compressed and session.notopen)
  on.stream(conn, header())
  check.ok(not text(conn):find "compression")
  check.ok(ask(conn, "zlib"):find "setup%-failed")
end)

check.test("rates", function()
  local conn = connect()
  check.equal(conn.calls.limits[1], { rate = 10000, burst = 30000 })
  local read = plugin.get_module("*", "limits").read
  check.equal(read { a = { rate = "1 mb/s", burst = "64kb" }, b = { rate = 500 }, c = { rate = "2kib/s", burst = 4 } },
    { a = { rate = 1000000, burst = 1000000 }, b = { rate = 500, burst = 1000 }, c = { rate = 2048, burst = 8192 } })
  check.equal(read { a = { rate = "fast" }, b = "10kb/s", c = { rate = "1kb/s", burst = "long" } }, {})
end)

check.test("whose stanza was much work rests as long again, with all its sessions; not who waited for the machine", function()
  local sessions = require "couplet.sessions"
  local seen = {}
  local function handler(event)
    local id = event.stanza.attr.id
    seen[#seen + 1] = id
    if id:find "work" then work = work + 0.05 elseif id:find "wait" then waited = waited + 0.05 end
    return true
  end
  host.events.add_handler("pre-message/host", handler, 1000)
  local function online(username, resource)
    fixture.account(username .. "@h.example")
    local conn, session = opened()
    sessions.make_authenticated(session, username)
    check.ok(sessions.bind_resource(session, resource))
    return conn, session
  end
  local romeo, s1 = online("romeo", "orchard")
  local phone, s2 = online("romeo", "phone")
  local juliet, s3 = online("juliet", "balcony")
  local function sends(conn, id) on.element(conn, st.message({ to = "h.example", id = id })) end
  sends(romeo, "wait1")
  sends(romeo, "at once")
  check.equal(seen, { "wait1", "at once" })
  sends(romeo, "work1")
  local began = clock.mono()
  for _, conn in ipairs { romeo, phone, juliet } do sends(conn, "from " .. conn:session().resource) end
  check.equal(seen, { "wait1", "at once", "work1", "from balcony" })
  while #seen < 6 do clock.once() end
  check.ok(clock.mono() - began >= 0.049)
  table.sort(seen)
  check.equal(seen, { "at once", "from balcony", "from orchard", "from phone", "wait1", "work1" })
  host.events.remove_handler("pre-message/host", handler)
  for _, session in ipairs { s1, s2, s3 } do sessions.destroy_session(session) end
end)

check.test("the server stops: system-shutdown for everybody", function()
  local conn, session = opened()
  local unopened = connect()
  local bound, bound_session = opened()
  local sessions = require "couplet.sessions"
  sessions.make_authenticated(bound_session, "romeo")
  check.ok(sessions.bind_resource(bound_session, "orchard"))
  require "couplet.task".spawn(prosody.events.fire_event, "server-stopping", { reason = "Time to sleep" })
  for _, c in ipairs { conn, unopened, bound } do
    check.ok(text(c):find "<system%-shutdown [^>]*/><text [^>]*>Time to sleep</text></stream:error></stream:stream>$")
    check.ok(c.is_closed)
  end
  check.ok(session.destroyed and bound_session.destroyed)
end)

check.test("bytes of a session with a filter for them go through it before they are parsed", function()
  local filters = require "couplet.filters"
  local conn, session = opened()
  local change = function(data) return data end
  local function filter(data) return change(data) end
  check.equal(conn.calls.tap, nil)
  filters.add_filter(session, "bytes/in", filter)
  check.equal(conn.calls.tap[1], true)
  on.bytes(conn, "<a/>")
  check.equal(conn.calls.feed[1], "<a/>")
  change = function(data) return data:upper() end
  on.bytes(conn, "<b/>")
  check.equal(conn.calls.feed[1], "<B/>")
  change = function() return nil end
  on.bytes(conn, "<c/>")
  check.equal(conn.calls.feed[1], "")              -- dropped, and more may come
  filters.remove_filter(session, "bytes/in", filter)
  check.equal(conn.calls.tap[1], false)
  on.bytes(conn, "<d/>")                           -- was on its way
  check.equal(conn.calls.feed[1], "<d/>")
  filters.add_filter(session, "bytes/in", function() error "broken" end)
  conn.calls.feed = nil
  on.bytes(conn, "<e/>")
  check.equal({ conn.calls.feed, conn.calls.abort[1] }, { nil, "a filter failed" })
end)

check.done()
