-- SPDX-License-Identifier: MIT
-- XEP-0355: requests of a namespace answered by a component; what happens if it does not.
local check = require "check"
local component = require "component_fixture"
local fake = require "fakehost"
local xml = require "couplet.util.xml"

local on, written = component.on, component.written
local INFO, ITEMS = "http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items"
local ANY_INFO, ANY_ITEMS = "urn:xmpp:delegation:2:bare:disco#info:*", "urn:xmpp:delegation:2:bare:disco#items:*"

local function with(delegations, fn)
  local host = fake.new { plugins = { "iq", "message", "presence", "roster", "disco", "ping" },
    options = { delegations = delegations, delegation_timeout = 30 } }
  for _, name in ipairs { "svc.example.org", "other.example.org" } do
    host:component(name, "component", { component_secret = "prospero" })
    host:load("iq", nil, name)
  end
  host:load "delegation"
  local function say(conn, text)
    on.element(conn, xml.parse(text))
    host:advance(0)
  end
  local ok, err = pcall(fn, host, say, host:client "romeo@example.org/orchard")
  host:close()
  if not ok then error(err, 0) end
end

local function enter(host, name)
  local conn = component.handshake(component.connect(name), "prospero")
  host:advance(0)
  return conn, written(conn)
end

-- The request as it came to the component: its id, and the stanza inside.
local function request(conn)
  local text = written(conn)
  local stanza = xml.parse(text)
  check.ok(stanza and stanza.attr.from == "example.org" and stanza.attr.type == "set", text)
  local delegation = stanza:get_child("delegation", "urn:xmpp:delegation:2")
  local inner = delegation and delegation:get_child("forwarded", "urn:xmpp:forward:0"):get_child("iq", "jabber:client")
  check.ok(inner, text)
  return stanza.attr.id, inner
end

local ANSWER = "<iq type='result' id='%s' from='svc.example.org' to='example.org'><delegation xmlns='urn:xmpp:delegation:2'>"
  .. "<forwarded xmlns='urn:xmpp:forward:0'>%s</forwarded></delegation></iq>"

local function refused(romeo, id)
  check.equal(select(2, romeo:expect { id = id, type = "error" }:get_error()), "service-unavailable")
end

check.test("what is delegated is said when the component comes (4.2)", function()
  with({ ["urn:a"] = { jid = "svc.example.org", filtering = { "node", "x" } }, ["urn:b"] = { jid = "svc.example.org" },
    ["urn:c"] = { jid = "other.example.org" }, ["urn:xmpp:delegation:2"] = { jid = "svc.example.org" }, ["urn:d"] = {} },
    function(host)
      local _, out = enter(host, "svc.example.org")
      for _, want in ipairs { "<message[^>]*from='example.org'", "<delegation xmlns='urn:xmpp:delegation:2'>",
        "<delegated namespace='urn:a'><attribute name='node'/><attribute name='x'/></delegated>",
        "<delegated namespace='urn:b'/>" } do
        check.ok(out:find(want), want .. " in " .. out)
      end
      for _, never in ipairs { "namespace='urn:c'", "namespace='urn:d'", "namespace='urn:xmpp" } do
        check.ok(not out:find(never), never)
      end
      check.ok(fake.logged("urn:xmpp:delegation:2 is never delegated", "error"))
      check.ok(fake.logged("urn:d: jid must say", "error"))
    end)
end)

check.test("requests to the host and to accounts go there, and answers come back (4.3)", function()
  with({ ["urn:a"] = { jid = "svc.example.org" } }, function(host, say, romeo)
    local conn = enter(host, "svc.example.org")
    local answer = "<iq xmlns='jabber:client' type='result' id='1' to='romeo@example.org/orchard'%s><ok xmlns='urn:a'/></iq>"
    for _, row in ipairs { { "", nil }, { " to='example.org'", "example.org" },
      { " to='juliet@example.org'", "juliet@example.org" } } do
      romeo:send(("<iq type='set' id='1'%s><q xmlns='urn:a'><i/></q></iq>"):format(row[1]))
      romeo:nothing()
      local id, inner = request(conn)
      check.equal({ inner.attr.from, inner.attr.to, inner.attr.id }, { "romeo@example.org/orchard", row[2], "1" })
      check.ok(id ~= "1" and inner:get_child("q", "urn:a"))
      say(conn, ANSWER:format(id, answer:format(row[2] and " from='" .. row[2] .. "'" or "")))
      local got = romeo:expect { type = "result", id = "1", from = row[2] }
      check.ok(got:get_child("ok", "urn:a"))
      check.equal(got.attr.xmlns, nil)
    end
    -- what is not delegated, and addresses of resources, are answered here
    romeo:send "<iq type='get' id='2' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>"
    romeo:expect { type = "result", id = "2" }
    romeo:send "<iq type='get' id='3' to='juliet@example.org/balcony'><q xmlns='urn:a'/></iq>"
    refused(romeo, "3")
    check.equal(written(conn), "")
    -- other components' requests go there; its own do not
    local other = enter(host, "other.example.org")
    say(other, "<iq type='get' id='4' from='other.example.org' to='example.org'><q xmlns='urn:a'/></iq>")
    request(conn)
    say(conn, "<iq type='get' id='5' from='svc.example.org' to='example.org'><q xmlns='urn:a'/></iq>")
    check.ok(written(conn):find "<service%-unavailable")
  end)
end)

check.test("answers that are none: service-unavailable (4.3)", function()
  with({ ["urn:a"] = { jid = "svc.example.org" } }, function(host, say, romeo)
    romeo:send "<iq type='get' id='0' to='example.org'><q xmlns='urn:a'/></iq>"
    refused(romeo, "0")                                        -- it is away
    local conn = enter(host, "svc.example.org")
    local inner = "<iq xmlns='jabber:client' type='%s' id='%s' to='%s' from='%s'/>"
    for name, text in pairs {
      ["another id"] = inner:format("result", "2", "romeo@example.org/orchard", "example.org"),
      ["another recipient"] = inner:format("result", "1", "juliet@example.org", "example.org"),
      ["another sender"] = inner:format("result", "1", "romeo@example.org/orchard", "juliet@example.org"),
      ["another type"] = inner:format("set", "1", "romeo@example.org/orchard", "example.org"),
      ["an error"] = inner:format("error", "1", "romeo@example.org/orchard", "example.org"),
      ["no namespace"] = "<iq type='result' id='1' to='romeo@example.org/orchard' from='example.org'/>",
      ["nothing"] = "", ["two"] = inner:format("result", "1", "romeo@example.org/orchard", "example.org"):rep(2),
    } do
      romeo:send "<iq type='get' id='1' to='example.org'><q xmlns='urn:a'/></iq>"
      say(conn, ANSWER:format(request(conn), text))
      check.ok(pcall(refused, romeo, "1"), name)
      romeo:nothing()
    end
    romeo:send "<iq type='get' id='1' to='example.org'><q xmlns='urn:a'/></iq>"
    say(conn, ("<iq type='error' id='%s' from='svc.example.org' to='example.org'><error type='auth'>"
      .. "<forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"):format(request(conn)))
    refused(romeo, "1")
    -- somebody else answers: nothing happens; in the end the time is over
    romeo:send "<iq type='get' id='1' to='example.org'><q xmlns='urn:a'/></iq>"
    local id = request(conn)
    local other = enter(host, "other.example.org")
    say(other, (ANSWER:format(id, inner:format("result", "1", "romeo@example.org/orchard", "example.org")):gsub("svc", "other")))
    romeo:nothing()
    host:advance(31)
    refused(romeo, "1")
    -- it goes while it is asked
    romeo:send "<iq type='get' id='1' to='example.org'><q xmlns='urn:a'/></iq>"
    on.closed(conn, "gone")
    host:advance(31)
    refused(romeo, "1")
  end)
  with({ ["urn:a"] = { jid = "svc.example.net" } }, function(host, _, romeo)              -- no component of ours
    romeo:send "<iq type='get' id='0' to='example.org'><q xmlns='urn:a'/></iq>"
    refused(romeo, "0")
    check.equal(host:sent(), {})
  end)
end)

check.test("filtering: only requests with these attributes (4.1)", function()
  with({ ["urn:xmpp:ping"] = { jid = "svc.example.org", filtering = { "node" } } }, function(host, _, romeo)
    local conn = enter(host, "svc.example.org")
    romeo:send "<iq type='get' id='1' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>"
    romeo:expect { type = "result", id = "1" }
    check.equal(written(conn), "")
    romeo:send "<iq type='get' id='2' to='example.org'><ping xmlns='urn:xmpp:ping' node='x'/></iq>"
    romeo:nothing()
    check.equal(select(2, request(conn)).attr.id, "2")
  end)
end)

local function info(romeo, to)
  romeo:send(("<iq type='get' id='d' to='%s'><query xmlns='%s'/></iq>"):format(to, INFO))
  local features = {}
  local query = romeo:expect { type = "result", id = "d" }.tags[1]
  for _, tag in ipairs(query.tags) do features[tag.attr.var or tag.attr.category .. "/" .. tag.attr.type] = true end
  return features, query
end

check.test("features: ours of the namespace go, the component's come, as long as it is there (7.2)", function()
  with({ ["urn:b"] = { jid = "svc.example.org" } }, function(host, say, romeo)
    host:load("b", "module:add_feature 'urn:b' module:add_feature 'urn:b#more' module:add_feature 'urn:bc'"
      .. " module:hook('account-disco-info', function(e) e.reply:tag('feature', { var = 'urn:b#pep' }):up() end)")
    local before = info(romeo, "example.org")
    check.ok(before["urn:xmpp:delegation:2"] and not before["urn:b"] and not before["urn:b#more"] and before["urn:bc"])
    local conn, out = enter(host, "svc.example.org")
    for node, feature in pairs { ["urn:xmpp:delegation:2::urn:b"] = "<feature var='urn:b'/><feature var='urn:b#theirs'/>",
      ["urn:xmpp:delegation:2:bare:urn:b"] = "<identity category='pubsub' type='pep'/><feature var='urn:b#bare'/>" } do
      local id = out:match("<iq[^>]*id='([^']+)'[^>]*><query [^>]*node='" .. node .. "'")
      check.ok(id, out)
      say(conn, ("<iq type='result' id='%s' from='svc.example.org' to='example.org'><query xmlns='%s' node='%s'>%s</query></iq>")
        :format(id, INFO, node, feature))
    end
    local now = info(romeo, "example.org")
    check.ok(now["urn:b"] and now["urn:b#theirs"] and not now["urn:b#more"] and not now["urn:b#bare"])
    local bare = info(romeo, "romeo@example.org")
    check.ok(bare["urn:b#bare"] and bare["pubsub/pep"] and bare["account/registered"] and not bare["urn:b#pep"])
    -- the hash in the stream features is that of the new answer
    local features = require "couplet.stanza".stanza "features"
    host:fire("stream-features", { origin = romeo.session, features = features })
    local c = features:get_child("c", "http://jabber.org/protocol/caps")
    local _, query = info(romeo, "example.org")
    check.equal(c.attr.ver, require "couplet.util.caps".calculate_hash(query))
    on.closed(conn, "gone")
    host:advance(0)
    check.ok(not info(romeo, "example.org")["urn:b#theirs"])
  end)
end)

check.test("nodes and items of accounts that nobody here knows (7.2.4, 7.2.5)", function()
  with({ [ANY_INFO] = { jid = "svc.example.org" }, [ANY_ITEMS] = { jid = "svc.example.org" } }, function(host, say, romeo)
    host:load("node", "module:hook('account-disco-info-node', function(e) if e.node == 'ours' then e.exists = true end end)"
      .. " module:hook('account-disco-items', function(e) e.reply:tag('item', { jid = 'ours' }):up() end)")
    local conn, out = enter(host, "svc.example.org")
    check.ok(not out:find "<iq", out)
    local ask = "<iq type='get' id='%s' to='romeo@example.org'><query xmlns='%s'%s/></iq>"
    romeo:send(ask:format("1", INFO, " node='ours'"))
    romeo:expect { type = "result", id = "1" }
    check.equal(written(conn), "")
    for i, row in ipairs { { INFO, " node='theirs'" }, { ITEMS, "" }, { ITEMS, " node='theirs'" } } do
      romeo:send(ask:format("n" .. i, row[1], row[2]))
      romeo:nothing()
      local id, inner = request(conn)
      check.equal(inner.tags[1].attr.xmlns, row[1])
      say(conn, ANSWER:format(id, ("<iq xmlns='jabber:client' type='result' id='n%d' to='romeo@example.org/orchard'"
        .. " from='romeo@example.org'><query xmlns='%s'/></iq>"):format(i, row[1])))
      romeo:expect { type = "result", id = "n" .. i }
    end
    romeo:send(ask:format("2", INFO, ""))                      -- no node: ours
    romeo:expect { type = "result", id = "2" }
    romeo:send "<iq type='get' id='3' to='juliet@example.org'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>"
    refused(romeo, "3")                                        -- not his to see
    check.equal(written(conn), "")
  end)
end)

check.done()
