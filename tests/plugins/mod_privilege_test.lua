-- SPDX-License-Identifier: MIT
-- XEP-0356: components that act for accounts; what they may not.
local check = require "check"
local component = require "component_fixture"
local fake = require "fakehost"
local st = require "couplet.stanza"
local xml = require "couplet.util.xml"

local on, written = component.on, component.written
local NS = "urn:xmpp:privilege:2"
local ALL = { roster = "both", message = "outgoing", presence = "roster", iq = { ["urn:x"] = "both", ["urn:get"] = "get" } }

-- fn(host, say, romeo): say(conn, xml) lets the component speak and returns what it is sent.
local function with(entities, fn)
  local host = fake.new { plugins = { "iq", "message", "presence", "roster", "disco", "limits" },
    options = { privileged_entities = entities } }
  local users = require "couplet.users"
  for _, name in ipairs { "romeo", "juliet" } do
    check.ok(host:run(users.create_user, name, "secret-" .. name, "example.org"))
  end
  for _, name in ipairs { "pubsub.example.org", "other.example.org" } do
    host:component(name, "component", { component_secret = "prospero", component_validate_from = name ~= "other.example.org" })
    host:load("iq", nil, name)
  end
  host:load "privilege"
  local function say(conn, text)
    written(conn)
    on.element(conn, xml.parse(text))
    host:advance(0)
    return written(conn)
  end
  local ok, err = pcall(fn, host, say)
  host:close()
  if not ok then error(err, 0) end
end

local function enter(name)
  local conn = component.handshake(component.connect(name), "prospero")
  local out = written(conn)
  check.ok(out:find "^<handshake/>", out)
  return conn, out
end

local function condition(text)
  local error = text:match "<error.-</error>" or ""
  return error:match "<([%w-]+) xmlns='urn:ietf:params:xml:ns:xmpp%-stanzas'"
end

local GET = "<iq type='get' id='r' from='pubsub.example.org' to='%s'><query xmlns='jabber:iq:roster'/></iq>"
local SET = "<iq type='set' id='s' from='pubsub.example.org' to='%s'><query xmlns='jabber:iq:roster'>"
  .. "<item jid='nurse@example.net' name='Nurse'><group>Servants</group></item></query></iq>"

check.test("what is granted is said when the component comes (4.2)", function()
  with({ ["pubsub.example.org"] = ALL }, function(host)
    local _, out = enter "pubsub.example.org"
    for _, want in ipairs {
      "<message[^>]*from='example.org'", "<privilege xmlns='urn:xmpp:privilege:2'>", "<privilege xmlns='urn:xmpp:privilege:1'>",
      "<perm [^>]*access='roster'", "<perm [^>]*type='both'", "<perm [^>]*push='true'", "<perm [^>]*type='outgoing'",
      "<namespace [^>]*ns='urn:x'", "<perm [^>]*type='roster'" } do check.ok(out:find(want), want .. " in " .. out) end
    local _, nothing = enter "other.example.org"
    check.ok(not nothing:find "privilege", nothing)
    check.ok(host)
  end)
end)

check.test("what cannot be granted is said in the log, and not granted", function()
  with({ ["pubsub.example.org"] = { roster = "set", message = "incoming", presence = "roster", iq = { ["urn:x"] = "all" } } },
    function(_, say)
      local conn, out = enter "pubsub.example.org"
      check.ok(out:find "type='set' push='false'" or out:find "push='false'", out)
      for _, never in ipairs { "outgoing", "access='presence'", "ns='urn:x'", "access='iq'" } do
        check.ok(not out:find(never), never)
      end
      check.ok(fake.logged("message cannot be \"incoming\"", "error"))
      check.ok(fake.logged("presence = \"roster\" needs roster", "error"))
      check.ok(fake.logged("iq for urn:x cannot be \"all\"", "error"))
      check.equal(condition(say(conn, GET:format "juliet@example.org")), "forbidden")
      check.ok(say(conn, SET:format "juliet@example.org"):find "type='result'")
    end)
end)

check.test("rosters are read and edited; who changes them is pushed to clients and the component (4.3, 4.4)", function()
  with({ ["pubsub.example.org"] = ALL }, function(host, say)
    local conn = enter "pubsub.example.org"
    local juliet = host:client "juliet@example.org/balcony"
    juliet:send "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>"
    juliet:received()
    local out = say(conn, SET:format "juliet@example.org")
    check.ok(out:find "<iq[^>]*id='s'[^>]*type='result'" or out:find "<iq[^>]*type='result'[^>]*id='s'", out)
    check.ok(out:find "from='juliet@example.org'" and out:find "<item [^>]*jid='nurse@example.net'", out)    -- the push
    check.equal(juliet:expect { type = "set" }.tags[1].tags[1].attr.name, "Nurse")
    out = say(conn, GET:format "juliet@example.org")
    check.ok(out:find "from='juliet@example.org'" and out:find "<group>Servants</group>", out)
    juliet:send "<iq type='set' id='x'><query xmlns='jabber:iq:roster'><item jid='romeo@example.org'/></query></iq>"
    check.ok(written(conn):find "<item [^>]*jid='romeo@example.org'")
    juliet:close()
    check.ok(say(conn, SET:format "romeo@example.org"):find "type='result'")      -- nobody is connected
    check.ok(say(conn, GET:format "romeo@example.org"):find "nurse@example.net")
    check.equal(condition(say(conn, GET:format "nobody@example.org")), "item-not-found")
    check.equal(condition(say(conn, GET:format "juliet@example.org/balcony")), "service-unavailable")
    out = say(conn, [[<iq type='set' id='s' from='pubsub.example.org' to='juliet@example.org'><query xmlns='jabber:iq:roster'>
      <item jid='nurse@example.net' subscription='remove'/></query></iq>]])
    check.ok(out:find "subscription='remove'", out)
    host:sent()
  end)
  with({ ["pubsub.example.org"] = { roster = "get", roster_push = false } }, function(_, say)
    local conn, out = enter "pubsub.example.org"
    check.ok(out:find "push='false'", out)
    check.ok(say(conn, GET:format "juliet@example.org"):find "type='result'")
    check.equal(condition(say(conn, SET:format "juliet@example.org")), "forbidden")
  end)
end)

local MESSAGE = "<message from='%s' to='%s' id='n'><privilege xmlns='" .. NS .. "'><forwarded xmlns='urn:xmpp:forward:0'>"
  .. "<message xmlns='jabber:client' from='%s' to='%s' id='f'><body>hi</body></message></forwarded></privilege></message>"

check.test("messages in the name of the server and its accounts, and nobody else's (5)", function()
  with({ ["pubsub.example.org"] = ALL }, function(host, say)
    local conn = enter "pubsub.example.org"
    local romeo = host:client "romeo@example.org/orchard"
    for _, from in ipairs { "juliet@example.org", "example.org" } do
      check.equal(say(conn, MESSAGE:format("pubsub.example.org", "example.org", from, "romeo@example.org/orchard")), "")
      local got = romeo:expect { name = "message", from = from, id = "f" }
      check.equal(got:get_child_text "body", "hi")
      check.equal(got.attr.xmlns, nil)
    end
    say(conn, MESSAGE:format("a@pubsub.example.org", "example.org", "juliet@example.org", "benvolio@example.net"))
    check.equal(host:expect_sent { name = "message", from = "juliet@example.org" }.attr.to, "benvolio@example.net")
    -- written with the namespace of clients
    say(conn, (MESSAGE:format("pubsub.example.org", "example.org", "juliet@example.org", "romeo@example.org/orchard")
      :gsub("^<message", "<message xmlns='jabber:client'")))
    romeo:expect { name = "message", from = "juliet@example.org" }
    for _, row in ipairs {
      { "juliet@example.org/balcony", "romeo@example.org", "forbidden" },
      { "juliet@example.net", "romeo@example.org", "forbidden" },
      { "other.example.org", "romeo@example.org", "forbidden" },
      { "nobody@example.org", "romeo@example.org", "forbidden" },
      { "juliet@example.org", "@", "jid-malformed" },
    } do
      local out = say(conn, MESSAGE:format("pubsub.example.org", "example.org", row[1], row[2]))
      check.equal(condition(out), row[3], row[1])
      check.ok(out:find "<message[^>]*to='pubsub.example.org'", out)
    end
    local empty = "<message from='pubsub.example.org' to='example.org'><privilege xmlns='%s'/></message>"
    check.equal(condition(say(conn, empty:format(NS))), "bad-request")
    local other = enter "other.example.org"
    local text = MESSAGE:format("other.example.org", "example.org", "juliet@example.org", "romeo@example.org")
    check.equal(condition(say(other, text)), "forbidden")
    romeo:send(MESSAGE:format("romeo@example.org/orchard", "example.org", "juliet@example.org", "romeo@example.org"))
    check.equal(select(2, romeo:expect { type = "error" }:get_error()), "forbidden")
    romeo:nothing()
    check.equal(host:sent(), {})
  end)
end)

local IQ = "<iq type='%s' id='p' from='pubsub.example.org' to='%s'><privileged_iq xmlns='" .. NS .. "'>%s</privileged_iq></iq>"
local INNER = "<iq xmlns='jabber:client' type='%s' id='sub_1' to='%s'%s><q xmlns='%s'/></iq>"

check.test("iqs in the name of accounts; the answer comes back in an envelope (6)", function()
  with({ ["pubsub.example.org"] = ALL }, function(host, say)
    local conn = enter "pubsub.example.org"
    check.equal(say(conn, IQ:format("set", "juliet@example.org", INNER:format("set", "romeo@example.net", "", "urn:x"))), "")
    local sent = host:expect_sent { name = "iq", from = "juliet@example.org", to = "romeo@example.net" }
    check.ok(sent.attr.id ~= "sub_1" and sent:get_child("q", "urn:x"))
    local network = { type = "s2sin", host = "example.org", send = function() end }
    local reply = st.reply(sent):tag("ok", { xmlns = "urn:x" }):reset()
    host:run(require "couplet.router".core_post_stanza, network, reply, false)
    host:advance(0)
    local out = written(conn)
    for _, want in ipairs { "^<iq[^>]*id='p'", "^<iq[^>]*type='result'", "^<iq[^>]*from='juliet@example.org'",
      "<privilege xmlns='urn:xmpp:privilege:2'><forwarded xmlns='urn:xmpp:forward:0'><iq[^>]*id='sub_1'",
      "<iq[^>]*from='romeo@example.net'", "<ok xmlns='urn:x'/>" } do check.ok(out:find(want), want .. " in " .. out) end
    -- an error travels in the same way; a server of ours answers too
    local inner = INNER:format("get", "example.org", " from='juliet@example.org'", "urn:get")
    out = say(conn, IQ:format("get", "juliet@example.org", inner))
    check.ok(out:find "^<iq[^>]*type='result'" and out:find "type='error'" and out:find "<service%-unavailable", out)
    -- silence
    say(conn, IQ:format("get", "juliet@example.org", INNER:format("get", "romeo@example.net", "", "urn:get")))
    host:advance(121)
    check.equal(condition(written(conn)), "remote-server-timeout")
    host:sent()
    for name, text in pairs {
      ["another namespace"] = IQ:format("set", "juliet@example.org", INNER:format("set", "a@example.net", "", "urn:y")),
      ["another type"] = IQ:format("set", "juliet@example.org", INNER:format("set", "a@example.net", "", "urn:get")),
      ["types differ"] = IQ:format("get", "juliet@example.org", INNER:format("set", "a@example.net", "", "urn:x")),
      ["a full address"] = IQ:format("set", "juliet@example.org", INNER:format("set", "a@example.net",
        " from='juliet@example.org/x'", "urn:x")),
      ["somebody else"] = IQ:format("set", "juliet@example.org", INNER:format("set", "a@example.net", " from='romeo@example.org'",
        "urn:x")),
      ["no account"] = IQ:format("set", "nobody@example.org", INNER:format("set", "a@example.net", "", "urn:x")),
      ["the server itself"] = IQ:format("set", "example.org", INNER:format("set", "a@example.net", "", "urn:x")),
      ["no namespace"] = IQ:format("set", "juliet@example.org",
        "<iq type='set' id='1' to='a@example.net'><q xmlns='urn:x'/></iq>"),
      ["nothing inside"] = IQ:format("set", "juliet@example.org", ""),
      ["two"] = IQ:format("set", "juliet@example.org", INNER:format("set", "a@example.net", "", "urn:x"):rep(2)),
    } do check.equal(condition(say(conn, text)), "forbidden", name) end
    local other = enter "other.example.org"
    check.equal(condition(say(other, (IQ:format("set", "juliet@example.org", INNER:format("set", "a@example.net", "", "urn:x"))
      :gsub("pubsub", "other")))), "forbidden")
    check.equal(host:sent(), {})
  end)
end)

check.test("presence of accounts: the first and the last, and those who are there already (7.1, 8)", function()
  with({ ["pubsub.example.org"] = { presence = "managed_entity" } }, function(host)
    local juliet = host:client "juliet@example.org/balcony"
    juliet:send "<presence><show>chat</show></presence>"
    local conn = enter "pubsub.example.org"
    host:advance(0)
    local romeo = host:client "romeo@example.org/orchard"
    romeo:send "<presence/>"
    romeo:send "<presence><show>away</show></presence>"
    juliet:send "<presence type='unavailable'/>"
    romeo:close()
    local out = written(conn)
    local seen = {}
    for tag in out:gmatch "<presence[^>]*>" do
      check.ok(tag:find "to='pubsub.example.org'", tag)
      seen[#seen + 1] = tag:match "from='(.-)@" .. (tag:find "unavailable" and "-" or "+")
    end
    table.sort(seen)
    check.equal(seen, { "juliet-", "romeo+", "romeo-" })
  end)
end)

check.test("presence of contacts, once, also while the account is away (7.4, 8)", function()
  with({ ["pubsub.example.org"] = ALL }, function(host)
    for _, name in ipairs { "romeo", "juliet" } do
      host:store("roster", "keyval+"):set(name, { ["nurse@example.net"] = { subscription = "to", groups = {} },
        ["tybalt@example.net"] = { subscription = "from", groups = {} } })
    end
    local conn = enter "pubsub.example.org"
    local network = { type = "s2sin", host = "example.org", send = function() end }
    local function comes(text)
      host:run(require "couplet.router".core_post_stanza, network, xml.parse(text), false)
      host:advance(0)
      return select(2, written(conn):gsub("<presence", ""))
    end
    check.equal(comes "<presence from='nurse@example.net/a' to='romeo@example.org'/>", 1)
    check.equal(comes "<presence from='nurse@example.net/a' to='juliet@example.org'/>", 0)
    check.equal(comes "<presence from='nurse@example.net/a' to='juliet@example.org'><show>dnd</show></presence>", 1)
    check.equal(comes "<presence from='tybalt@example.net/a' to='juliet@example.org'/>", 0)        -- is nobody's to know
    check.equal(comes "<presence from='nurse@example.net/a' to='juliet@example.org' type='subscribe'/>", 0)
    on.closed(conn, "gone")
    conn = enter "pubsub.example.org"
    host:advance(0)
    check.ok(fake.logged "connected from" and conn)
    check.equal(comes "<presence from='nurse@example.net/a' to='romeo@example.org' type='unavailable'/>", 1)
    check.equal(comes "<presence from='nurse@example.net/a' to='juliet@example.org' type='unavailable'/>", 0)
  end)
end)

check.test("who comes later hears of contacts that were there before (8, rule 1)", function()
  with({ ["pubsub.example.org"] = ALL }, function(host)
    host:store("roster", "keyval+"):set("romeo", { ["nurse@example.net"] = { subscription = "both", groups = {} } })
    local network = { type = "s2sin", host = "example.org", send = function() end }
    host:run(require "couplet.router".core_post_stanza, network,
      st.presence { from = "nurse@example.net/a", to = "romeo@example.org" }, false)
    local conn = component.handshake(component.connect "pubsub.example.org", "prospero")
    host:advance(0)
    check.ok(written(conn):find "<presence[^>]*from='nurse@example.net/a'")
  end)
end)

check.test("a component that may write any `from` has not the privileges of another", function()
  with({ ["pubsub.example.org"] = ALL }, function(host, say)
    local conn = enter "other.example.org"
    check.equal(condition(say(conn, GET:format "juliet@example.org")), "forbidden")
    local out = say(conn, MESSAGE:format("pubsub.example.org", "example.org", "juliet@example.org", "a@example.net"))
    check.equal(condition(out), "forbidden")
    check.equal(host:sent(), {})
  end)
end)

check.test("a new configuration grants and takes at once", function()
  with({ ["pubsub.example.org"] = { roster = "get" } }, function(host, say)
    local conn = enter "pubsub.example.org"
    host:configure { host = { privileged_entities = { ["pubsub.example.org"] = { roster = "set", message = "outgoing" } } } }
    check.ok(written(conn):find "type='outgoing'")
    check.equal(condition(say(conn, GET:format "juliet@example.org")), "forbidden")
    host:configure { host = { privileged_entities = {} } }
    check.equal(condition(say(conn, SET:format "juliet@example.org")), "forbidden")
  end)
end)

check.done()
