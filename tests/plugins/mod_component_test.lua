-- SPDX-License-Identifier: MIT
-- XEP-0114 on connections without sockets; components inside the server.
local check = require "check"
local sha1 = require "couplet.util.hashes".sha1
local st = require "couplet.stanza"

local component = require "component_fixture"
local fake = require "fakehost"

local on, written, connect, handshake, attach = component.on, component.written, component.connect, component.handshake,
  component.attach

local function with(options, fn)
  local host = fake.new { plugins = { "iq", "message", "presence", "disco", "limits" },
    global = { limits = { component = { rate = "1mb/s" } } } }
  options.component_secret = options.component_secret or "prospero"
  host:component("irc.example.org", "component", options)
  host:load("iq", nil, "irc.example.org")
  local ok, err = pcall(fn, host, host:client "romeo@example.org/orchard")
  host:close()
  if not ok then error(err, 0) end
end

local function has_error(conn, condition)
  local out = written(conn)
  check.ok(out:find("<stream:error><" .. condition .. " xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>", 1, true), out)
  check.ok(out:find "</stream:stream>$" and conn.is_closed, out)
  return out
end

check.test("header, handshake, stanzas both ways", function()
  with({}, function(host, romeo)
    local seen = {}
    host:load("watch", [[
      module:hook("component-authenticated", function(e) e.session.test = "here" end)
      module:hook("component-disconnected", function(e) module:fire_event("watch/gone", e) end)
    ]], "irc.example.org")
    require "couplet.hosts".get "irc.example.org".events.add_handler("watch/gone", function(e) seen.gone = e end)
    local conn = connect "IRC.example.org"
    local session = conn:session()
    check.equal(session.type, "component_unauthed")
    check.equal(conn.calls.limits[1].rate, 1000000)
    local out = written(conn)
    for _, want in ipairs { "^<%?xml version='1.0'%?><stream:stream xmlns='jabber:component:accept' ",
      " xmlns:stream='http://etherx.jabber.org/streams' ",
      " from='irc%.example%.org'>$", " id='[%w_-]+'" } do check.ok(out:find(want), want .. " in " .. out) end
    check.ok(not out:find "version='1.0' " and #session.streamid >= 40)
    conn.out = { out }
    handshake(conn, "prospero")
    check.equal(written(conn), "<handshake/>")
    check.equal(session.type, "component")
    check.equal(session.host, "irc.example.org")
    check.equal(session.base_type, "component")
    check.equal(session.component_validate_from, true)
    check.equal(session.test, "here")
    check.equal(conn.calls.window[1], 256)
    check.equal(conn.calls.deadline.n, 1)
    check.equal(conn.calls.deadline[1], nil)
    check.equal(conn.calls.limits[1].stanza_bytes, 524288)
    check.equal(conn.calls.limits[1].children, 16384)

    local texts = { "<message to='%s'><body>hi</body></message>", "<presence to='%s'/>", "<message to='%s' type='error'/>",
      "<iq to='%s' id='1' type='get'><a xmlns='b'/></iq>", "<iq to='%s' id='1' type='result'/>",
      "<iq to='%s' id='1' type='error'/>" }
    for _, to in ipairs { "irc.example.org", "#c@irc.example.org", "a@irc.example.org/nick", "irc.example.org/r" } do
      for _, xml in ipairs(texts) do
        romeo:send(xml:format(to))
        local got = written(conn)
        check.ok(got:find("from='romeo@example.org/orchard'", 1, true), xml .. got)
        check.ok(got:find("to='" .. to .. "'", 1, true), xml .. got)
        romeo:nothing()
      end
    end
    local chat = st.message { from = "nick@irc.example.org/x", to = "romeo@example.org/orchard" }:text_tag("body", "yo")
    on.element(conn, chat)
    check.equal(romeo:expect { name = "message", from = "nick@irc.example.org/x" }:get_child_text "body", "yo")
    on.element(conn, st.message { to = "romeo@example.org/orchard", xmlns = "jabber:client" }:text_tag("body", "yo"))
    local got = romeo:expect { name = "message", from = "irc.example.org" }
    check.equal(got.attr.xmlns, nil)
    -- slixmpp writes the namespace on the error alone; a stanza inside another keeps its own
    on.element(conn, st.message { type = "error", from = "irc.example.org", to = "romeo@example.org/orchard" }
      :tag("error", { type = "auth", xmlns = "jabber:client" })
      :tag("forbidden", { xmlns = "urn:ietf:params:xml:ns:xmpp-stanzas" }):up():up()
      :tag("forwarded", { xmlns = "urn:xmpp:forward:0" }):tag("message", { xmlns = "jabber:client" }):reset())
    got = romeo:expect { name = "message", type = "error" }
    check.equal(select(2, got:get_error()), "forbidden")
    check.ok(got:get_child("forwarded", "urn:xmpp:forward:0"):get_child("message", "jabber:client"))
    on.element(conn, st.iq { type = "get", id = "d", to = "example.org", from = "irc.example.org" }
      :query "http://jabber.org/protocol/disco#info")
    check.ok(written(conn):find("<iq[^>]*type='result'") )
    check.equal(conn.dones, 6)

    local own
    session.on_destroy = function(s, reason) own = { s, reason } end
    on.closed(conn, "peer closed")
    check.ok(session.destroyed)
    check.equal(own[2], "peer closed")
    check.equal(seen.gone.session, session)
    check.equal(seen.gone.reason, "peer closed")
    check.equal(session.send "x", false)
    romeo:send "<message to='irc.example.org'/>"
    check.equal(select(2, romeo:expect { name = "message", type = "error" }:get_error()), "remote-server-timeout")
  end)
end)

check.test("what is wrong with a header is said in a proper stream", function()
  with({}, function()
    for _, row in ipairs {
      { "nowhere.example.org", nil, "host-unknown" },
      { "example.org", nil, "host-unknown" },                -- a host of ours, but no component
      { "a b", nil, "host-unknown" },
      { nil, nil, "improper-addressing" },
      { "irc.example.org", "jabber:client", "invalid-namespace" },
      { "irc.example.org", "jabber:component:connect", "invalid-namespace" },
    } do
      local conn = connect(row[1], row[2])
      check.ok(has_error(conn, row[3]):find "^<%?xml version='1.0'%?><stream:stream xmlns='jabber:component:accept'", row[3])
    end
    local conn = connect "irc.example.org"
    on.stream(conn, st.stanza("stream", { to = "irc.example.org" }), "jabber:component:accept")
    has_error(conn, "bad-format")
    conn = connect "irc.example.org"
    on.error(conn, "not-well-formed", "oops")
    has_error(conn, "not-well-formed")
  end)
end)

check.test("nothing without the right handshake", function()
  with({}, function(host, romeo)
    for _, element in ipairs {
      st.stanza "handshake", st.stanza "handshake":text "aaee83c26aeeafcbabeabfcbcd50df997e0a2a1e",
      st.stanza "handshake":text(sha1("prospero", true)),
      st.message { from = "irc.example.org", to = "romeo@example.org/orchard" },
      st.stanza("handshake", { xmlns = "other" }), st.stanza("auth", { xmlns = "urn:ietf:params:xml:ns:xmpp-sasl" }),
    } do
      local conn = connect "irc.example.org"
      written(conn)
      on.element(conn, element)
      has_error(conn, "not-authorized")
      on.element(conn, st.message { from = "irc.example.org", to = "romeo@example.org/orchard" })     -- nobody listens
      check.equal(conn.dones, 3)
    end
    romeo:nothing()
    check.ok(fake.logged("refused component irc.example.org from 192.0.2.9", "warn"))
    local empty = host:component("other.example.org", "component", { component_secret = "" })
    check.ok(empty)
    has_error(handshake(connect "other.example.org", ""), "not-authorized")
  end)
end)

check.test("guesses at the secret are slowed down, per component and address", function()
  with({}, function(host)
    host:component("icq.example.org", "component", { component_secret = "prospero" })
    fake.forget_log()
    for _ = 1, 5 do has_error(handshake(connect "irc.example.org", "guess"), "not-authorized") end
    local waiting = { connect "irc.example.org", connect "irc.example.org" }        -- made before it was too much
    has_error(handshake(waiting[1], "guess"), "not-authorized")
    check.ok(has_error(handshake(waiting[2], "prospero"), "policy-violation"):find "Too many failed handshakes; try again in 2 s")
    has_error(connect "irc.example.org", "policy-violation")
    check.equal(#fake.lines "warn", 6)                       -- one for each guess that was one
    attach "icq.example.org"                                 -- no other component is concerned
    local longest = 0
    for _ = 1, 12 do
      local waited = 0
      while written(connect "irc.example.org"):find "policy%-violation" do
        host:advance(1)
        waited = waited + 1
      end
      longest = math.max(longest, waited)
      has_error(handshake(connect "irc.example.org", "guess"), "not-authorized")
    end
    check.ok(longest > 32 and longest <= 61, longest)
    host:advance(60)
    attach "irc.example.org"                                 -- and what went before is forgotten
    has_error(handshake(connect "irc.example.org", "guess"), "not-authorized")
    has_error(handshake(connect "irc.example.org", "prospero"), "conflict")
  end)
end)

check.test("a second connection: kick_new or kick_old", function()
  with({}, function(_, romeo)
    local first = attach "irc.example.org"
    local second = handshake(connect "irc.example.org", "prospero")
    has_error(second, "conflict")
    romeo:send "<message to='irc.example.org'/>"
    check.ok(written(first):find "<message")
  end)
  with({ component_conflict_resolve = "kick_old" }, function(_, romeo)
    local first = attach "irc.example.org"
    local second = attach "irc.example.org"
    has_error(first, "conflict")
    on.closed(first, "closed")
    romeo:send "<message to='irc.example.org'/>"
    check.ok(written(second):find "<message")
  end)
end)

check.test("addresses of its stanzas are checked", function()
  with({}, function(host, romeo)
    local conn = attach "irc.example.org"
    on.element(conn, st.message { from = "a@irc.example.org", id = "m" })
    check.ok(written(conn):find "<bad%-request")
    on.element(conn, st.message { from = "a@irc.example.org", to = "@" })
    check.ok(written(conn):find "<jid%-malformed")
    on.element(conn, st.iq { from = "a@irc.example.org", to = "example.org", type = "get", id = "1" })
    check.ok(written(conn):find "<bad%-request")
    on.element(conn, st.message { from = "A@IRC.example.org/N", to = "romeo@example.org/orchard" })
    romeo:expect { name = "message", from = "a@irc.example.org/N" }
    on.element(conn, st.message { from = "irc.example.org.", to = "romeo@example.org/orchard" })       -- RFC 7622 §3.2
    romeo:expect { name = "message", from = "irc.example.org" }
    for _, from in ipairs { "example.org", "juliet@example.org", "x.irc.example.org", "remote.example", "@",
      "a@b@irc.example.org" } do
      conn = conn.is_closed and attach "irc.example.org" or conn
      on.element(conn, st.message { from = from, to = "romeo@example.org/orchard" })
      has_error(conn, "invalid-from")
    end
    conn = attach "irc.example.org"
    on.element(conn, st.stanza "unknown")
    has_error(conn, "unsupported-stanza-type")
    conn = attach "irc.example.org"
    on.element(conn, st.stanza("error", { xmlns = "http://etherx.jabber.org/streams" })
      :tag("internal-server-error", { xmlns = "urn:ietf:params:xml:ns:xmpp-streams" }))
    check.equal(written(conn), "</stream:stream>")
    check.ok(fake.logged("ended its stream: internal%-server%-error", "info"))
    romeo:nothing()
    check.ok(host)
  end)
  with({ component_validate_from = false }, function(_, romeo)
    local conn = attach "irc.example.org"
    on.element(conn, st.message { from = "anybody@example.org", to = "romeo@example.org/orchard" })
    romeo:expect { name = "message", from = "anybody@example.org" }
  end)
end)

check.test("while it is away: an error at once, its name for those who look around", function()
  with({ name = "Chat on IRC" }, function(_, romeo)
    for _, xml in ipairs { "<message to='a@irc.example.org'/>", "<presence to='a@irc.example.org/b'/>",
      "<iq to='irc.example.org' type='set' id='1'><a xmlns='b'/></iq>" } do
      romeo:send(xml)
      local kind, condition = romeo:expect { type = "error" }:get_error()
      check.equal({ kind, condition }, { "wait", "remote-server-timeout" })
    end
    for _, xml in ipairs { "<message to='irc.example.org' type='error'/>", "<iq to='irc.example.org' type='result' id='1'/>",
      "<presence type='unavailable' to='irc.example.org'/>" } do
      romeo:send(xml)
      romeo:nothing()
    end
    local info = st.iq { type = "get", id = "d", to = "irc.example.org" }:query "http://jabber.org/protocol/disco#info"
    romeo:send(st.clone(info))
    local identity = romeo:expect { type = "result", id = "d" }.tags[1]:get_child "identity"
    check.equal({ identity.attr.category, identity.attr.name }, { "component", "Chat on IRC" })
    local conn = attach "irc.example.org"
    romeo:send(info)
    romeo:nothing()
    check.ok(written(conn):find "disco#info")
    romeo:send(st.iq { type = "get", id = "i", to = "example.org" }:query "http://jabber.org/protocol/disco#items")
    local item = romeo:expect { type = "result", id = "i" }.tags[1]:get_child "item"
    check.equal({ item.attr.jid, item.attr.name }, { "irc.example.org", "Chat on IRC" })
  end)
end)

check.test("component_queue: so many are kept for so long", function()
  with({ component_queue = 2 }, function(host, romeo)
    for i = 1, 3 do romeo:send(("<message to='irc.example.org' id='%d'/>"):format(i)) end
    romeo:expect { type = "error", id = "3" }
    romeo:nothing()
    local conn = handshake(connect "irc.example.org", "prospero")
    local out = written(conn)
    check.ok(out:find "^<handshake/><message[^>]*id='1'[^>]*/><message[^>]*id='2'[^>]*/>$", out)
    on.closed(conn, "gone")
    host:advance(100)                            -- the old timer has nothing to say
    romeo:send "<message to='irc.example.org' id='4'/>"
    host:advance(29)
    romeo:nothing()
    host:advance(2)
    romeo:expect { type = "error", id = "4" }
    romeo:send(("<message to='irc.example.org' id='5'><body>%s</body></message>"):format(("x"):rep(4200000)))
    romeo:expect { type = "error", id = "5" }
    romeo:send "<message to='irc.example.org' id='6'/>"
    host:unload("component", "irc.example.org")
    romeo:expect { type = "error", id = "6" }
  end)
end)

check.test("silence is answered with a space, and ends it only if a plugin says so", function()
  with({}, function(host)
    local conn = attach "irc.example.org"
    check.equal(conn.calls.idle_after[1], 840)
    host:run(on.idle, conn)
    check.equal(written(conn), " ")
    host:load("strict", [[module:hook("component-read-timeout", function() return false end)]], "irc.example.org")
    host:run(on.idle, conn)
    has_error(conn, "connection-timeout")
  end)
end)

check.test("reload keeps connections; unload and shutdown end them", function()
  with({}, function(host, romeo)
    local conn = attach "irc.example.org"
    host:run(require "couplet.plugin".reload, "*", "component")
    check.ok(not conn.is_closed)
    romeo:send "<message to='irc.example.org'/>"
    check.ok(written(conn):find "<message")
    on.element(conn, st.message { from = "irc.example.org", to = "romeo@example.org/orchard" })
    romeo:expect { name = "message" }
    has_error(handshake(connect "irc.example.org", "prospero"), "conflict")
    host:run(require "couplet.hosts".deactivate, "irc.example.org")
    has_error(conn, "host-gone")
    host:component("two.example.org", "component", { component_secret = "prospero" })
    conn = attach "two.example.org"
    host:run(require "couplet.prosody".events.fire_event, "server-stopping", { reason = "over" })
    has_error(conn, "system-shutdown")
  end)
end)

check.test("a component inside the server is reached in the same way, and listed", function()
  local host = fake.new { plugins = { "iq", "message", "disco" } }
  require "couplet.loader".set_paths { "tests/helpers/plugins" }
  host:component("echo.example.org", "test_echo", { name = "Echo" })
  host:load("iq", nil, "echo.example.org")
  local romeo = host:client "romeo@example.org/orchard"
  for _, to in ipairs { "echo.example.org", "a@echo.example.org", "a@echo.example.org/b" } do
    romeo:send(("<message to='%s'><body>hello</body></message>"):format(to))
    check.equal(romeo:expect { name = "message", from = to }:get_child_text "body", "hello")
    romeo:send(("<iq type='get' id='1' to='%s'><echo xmlns='test:echo'/></iq>"):format(to))
    romeo:expect { name = "iq", type = "result", from = to }
  end
  romeo:send "<iq type='get' id='2' to='a@echo.example.org'><other xmlns='test:echo'/></iq>"
  check.equal(select(2, romeo:expect { name = "iq", type = "error" }:get_error()), "service-unavailable")
  romeo:send "<iq type='result' id='2' to='a@echo.example.org'/>"
  romeo:nothing()
  romeo:send "<iq type='get' id='i' to='example.org'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>"
  check.equal(romeo:expect { id = "i" }.tags[1].tags[1].attr, { jid = "echo.example.org", name = "Echo" })
  romeo:send "<iq type='get' id='j' to='echo.example.org'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>"
  check.ok(romeo:expect { id = "j", type = "result" })
  host:close()
end)

check.done()
