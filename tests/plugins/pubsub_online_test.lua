-- SPDX-License-Identifier: MIT
-- Nodes whose configuration looks at who is here (XEP-0060 §12.5, §12.6, §16.4.4): notifications for those who are, subscriptions
-- and items that go with somebody.

local check = require "check"
local fake = require "fakehost"
local hosts = require "couplet.hosts"
local plugin = require "couplet.plugin"
local parse = require "couplet.util.xml".parse
local pubsub = require "pubsub_fixture"
local router = require "couplet.router"

local SERVICE = pubsub.SERVICE

local function fresh()
  local host = fake.new { plugins = { "iq", "presence", "message", "roster", "disco", "pep" } }
  host:component(SERVICE, "pubsub", { pubsub_create = "local" })
  host:run(function() assert(plugin.load(SERVICE, "iq")) end)
  return host
end

local function person(host, full)
  local client = host:client(full)
  client:send "<presence/>"
  client:received()
  return client
end

local function config(kind, ...)
  return ("<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>%s#%s</value></field>%s</x>"):format(pubsub.NS,
    kind, table.concat { ... })
end

local function create(client, node, ...)
  check.equal(pubsub.result(pubsub.ask(client, "set", ("<create node='%s'/><configure>%s</configure>"):format(node,
    config("node_config", ...)))), "ok")
end

local function subscribe(client, node, jid)
  check.equal(pubsub.result(pubsub.ask(client, "set", ("<subscribe node='%s' jid='%s'/>"):format(node, jid))), "ok")
end

local function publish(client, node, id, to)
  check.equal(pubsub.result(pubsub.ask(client, "set", ("<publish node='%s'><item id='%s'><x xmlns='urn:x'/></item></publish>")
    :format(node, id), nil, to)), "ok")
end

-- What was told of items: { "1", "-1", "purge" }
local function told(host, client)
  host:advance(0)
  local out = {}
  for _, stanza in ipairs(client:received()) do
    local event = stanza.name == "message" and stanza:get_child("event", pubsub.NS .. "#event")
    local what = event and event.tags[1]
    local inner = what and what.tags[1]
    if inner then out[#out + 1] = (inner.name == "retract" and "-" or "") .. (inner.attr.id or inner.name) end
  end
  return out
end

local function subscribers(client, node)
  local out = {}
  local reply = pubsub.ask(client, "get", ("<subscriptions node='%s'/>"):format(node), true)
  for one in reply.tags[1].tags[1]:childtags "subscription" do out[#out + 1] = one.attr.jid end
  table.sort(out)
  return out
end

local function items(client, node, to)
  local out = {}
  local reply = pubsub.ask(client, "get", ("<items node='%s'/>"):format(node), nil, to)
  for item in reply.tags[1].tags[1]:childtags "item" do out[#out + 1] = item.attr.id end
  table.sort(out)
  return out
end

local function far(host, xml)
  local stanza = parse(xml)
  host:run(router.core_post_stanza, { type = "s2sin", host = SERVICE, from_host = "far.example", to_host = SERVICE,
    send = function(reply) router.core_post_stanza(hosts.get(SERVICE), reply, false) end }, stanza)
end

check.test("all fields of §16.4.4 but those of collections are in the form, and are kept", function()
  local host = fresh()
  local romeo = person(host, "romeo@example.org/orchard")
  create(romeo, "n", pubsub.field("presence_based_delivery", "1"), pubsub.field("tempsub", "1"),
    pubsub.field("purge_offline", "1"), pubsub.field("body_xslt", "http://example.org/body.xsl"),
    pubsub.field("dataform_xslt", "http://example.org/form.xsl"))
  local form = pubsub.ask(romeo, "get", "<configure node='n'/>", true):find(("{%s#owner}pubsub/configure/{jabber:x:data}x")
    :format(pubsub.NS))
  local seen = {}
  for field in form:childtags "field" do seen[field.attr.var] = field:get_child_text "value" end
  for name, value in pairs { presence_based_delivery = "1", tempsub = "1", purge_offline = "1",
    body_xslt = "http://example.org/body.xsl", dataform_xslt = "http://example.org/form.xsl" } do
    check.equal({ name, seen["pubsub#" .. name] }, { name, value })
  end
  host:close()
end)

check.test("presence_based_delivery: who is not here is told nothing", function()
  local host = fresh()
  local romeo, juliet = person(host, "romeo@example.org/orchard"), person(host, "juliet@example.org/balcony")
  local nurse = person(host, "nurse@example.org/kitchen")
  create(romeo, "n", pubsub.field("presence_based_delivery", "1"), pubsub.field("notification_type", "normal"))
  subscribe(juliet, "n", "juliet@example.org")
  subscribe(nurse, "n", "nurse@example.org/kitchen")
  publish(romeo, "n", "1")
  check.equal({ told(host, juliet), told(host, nurse) }, { { "1" }, { "1" } })
  juliet:send "<presence type='unavailable'/>"
  nurse:send "<presence type='unavailable'/>"
  publish(romeo, "n", "2")
  check.equal({ told(host, juliet), told(host, nurse) }, { {}, {} })
  juliet:send "<presence/>"
  publish(romeo, "n", "3")
  check.equal({ told(host, juliet), told(host, nurse) }, { { "3" }, {} })
  check.equal(subscribers(romeo, "n"), { "juliet@example.org", "nurse@example.org/kitchen" })
  host:close()
end)

check.test("tempsub: subscriptions of a resource end with it, those of an account with its last", function()
  local host = fresh()
  local romeo = person(host, "romeo@example.org/orchard")
  local desk, phone = person(host, "juliet@example.org/desk"), person(host, "juliet@example.org/phone")
  create(romeo, "n", pubsub.field("notification_type", "normal"))
  create(romeo, "other")
  for _, node in ipairs { "n", "other" } do
    subscribe(desk, node, "juliet@example.org")
    subscribe(desk, node, "juliet@example.org/desk")
  end
  check.equal(pubsub.result(pubsub.ask(romeo, "set", ("<configure node='n'>%s</configure>"):format(config("node_config",
    pubsub.field("tempsub", "1"))), true)), "ok")
  phone:send "<presence type='unavailable'/>"
  host:advance(0)
  check.equal(subscribers(romeo, "n"), { "juliet@example.org", "juliet@example.org/desk" })
  phone:send "<presence/>"
  desk:send "<presence type='unavailable'/>"
  host:advance(0)
  check.equal(subscribers(romeo, "n"), { "juliet@example.org" })
  phone:send "<presence type='unavailable'/>"
  host:advance(0)
  check.equal(subscribers(romeo, "n"), {})
  check.equal(subscribers(romeo, "other"), { "juliet@example.org", "juliet@example.org/desk" })
  host:close()
end)

check.test("purge_offline: what somebody has published goes with his last resource, in PEP too; others' stays", function()
  local host = fresh()
  local romeo, juliet = person(host, "romeo@example.org/orchard"), person(host, "juliet@example.org/balcony")
  local phone = person(host, "juliet@example.org/phone")
  create(romeo, "n", pubsub.field("purge_offline", "1"), pubsub.field("publish_model", "open"), pubsub.field("max_items", "100"))
  create(romeo, "kept", pubsub.field("publish_model", "open"))
  subscribe(romeo, "n", "romeo@example.org")
  for i = 1, 40 do publish(juliet, "n", "j" .. i) end
  publish(romeo, "n", "r")
  publish(juliet, "kept", "j")
  check.equal(pubsub.result(pubsub.ask(juliet, "set",
    "<publish node='urn:here'><item id='now'><x xmlns='urn:x'/></item></publish><publish-options>"
    .. config("publish-options", pubsub.field("purge_offline", "1"), pubsub.field("access_model", "open"))
    .. "</publish-options>", nil, "juliet@example.org")), "ok")
  told(host, romeo)
  phone:send "<presence type='unavailable'/>"
  host:advance(1)
  check.equal(#items(romeo, "n"), 41)
  juliet:send "<presence type='unavailable'/>"
  host:advance(1)
  local heard = told(host, romeo)
  check.equal({ #heard, heard[1]:sub(1, 2) }, { 40, "-j" })
  check.equal({ items(romeo, "n"), items(romeo, "kept"), items(romeo, "urn:here", "juliet@example.org") },
    { { "r" }, { "j" }, {} })
  host:close()
end)

check.test("people elsewhere are here while they have sent the service their presence", function()
  local host = fresh()
  local romeo = person(host, "romeo@example.org/orchard")
  create(romeo, "n", pubsub.field("tempsub", "1"))
  local function presence(full, kind)
    far(host, ("<presence from='%s' to='%s'%s/>"):format(full, SERVICE, kind and " type='" .. kind .. "'" or ""))
    host:advance(0)
  end
  presence "rosaline@far.example/garden"
  presence "rosaline@far.example/hall"
  far(host, ([[<iq type='set' id='s' from='rosaline@far.example/garden' to='%s'><pubsub xmlns='%s'>
    <subscribe node='n' jid='rosaline@far.example'/></pubsub></iq>]]):format(SERVICE, pubsub.NS))
  check.equal(subscribers(romeo, "n"), { "rosaline@far.example" })
  presence("rosaline@far.example/hall", "unavailable")
  check.equal(subscribers(romeo, "n"), { "rosaline@far.example" })
  presence("rosaline@far.example/garden", "unavailable")
  check.equal(subscribers(romeo, "n"), {})
  host:close()
end)

check.done()
