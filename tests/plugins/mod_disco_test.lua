-- SPDX-License-Identifier: MIT
-- XEP-0030 and XEP-0115 §8.

local check = require "check"
local fake = require "fakehost"
local st = require "couplet.stanza"

local INFO, ITEMS = "http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items"

local function ask(client, to, xmlns, node)
  client:send(st.iq{ type = "get", id = "d", to = to }:tag("query", { xmlns = xmlns, node = node }))
  local reply = client:expect{ name = "iq", id = "d" }
  return reply:get_child("query", xmlns), reply
end

local function features(query)
  local out = {}
  for f in query:childtags "feature" do out[f.attr.var] = true end
  return out
end

check.test("the host tells identities and features, also those that come and go later", function()
  local host = fake.new{ plugins = { "iq", "disco", "ping" } }
  local romeo = host:client "romeo@example.org/orchard"
  local query = ask(romeo, "example.org", INFO)
  check.equal(query:get_child "identity".attr.category, "server")
  check.ok(features(query)["urn:xmpp:ping"])
  host:unload "ping"
  check.ok(not features(ask(romeo, "example.org", INFO))["urn:xmpp:ping"])
  host:load("later", [[module:add_feature "urn:example:later"; module:add_identity("gateway", "irc", "IRC")]])
  query = ask(romeo, "example.org", INFO)
  check.ok(features(query)["urn:example:later"])
  host:close()
end)

check.test("§3.2: a node nobody knows is item-not-found; plugins answer for theirs", function()
  local host = fake.new{ plugins = { "iq", "disco" } }
  local romeo = host:client "romeo@example.org/orchard"
  local _, reply = ask(romeo, "example.org", INFO, "urn:example:no")
  check.equal(select(2, reply:get_error()), "item-not-found")
  host:load("node", [[
    module:hook("host-disco-info-node", function(event)
      if event.node ~= "urn:example:yes" then return end
      event.reply:tag("feature", { var = "urn:example:in" }):up()
      event.exists = true
    end)]])
  local query = ask(romeo, "example.org", INFO, "urn:example:yes")
  check.equal(query.attr.node, "urn:example:yes")
  check.ok(features(query)["urn:example:in"])
  host:close()
end)

check.test("§4: items are the components below the host and those configured, never hidden ones", function()
  local host = fake.new{ plugins = { "iq", "disco" }, options = { disco_items = { { "irc.example.net", "IRC" } } } }
  host:component("rooms.example.org", nil, { name = "Rooms" })
  host:component("secret.example.org", nil, { disco_hidden = true })
  local found = {}
  for item in ask(host:client "romeo@example.org/orchard", "example.org", ITEMS):childtags "item" do
    found[#found + 1] = item.attr.jid .. " " .. tostring(item.attr.name)
  end
  check.equal(found, { "irc.example.net IRC", "rooms.example.org Rooms" })
  host:close()
end)

check.test("an account answers its user, not a stranger", function()
  local host = fake.new{ plugins = { "iq", "disco" } }
  local romeo, juliet = host:client "romeo@example.org/orchard", host:client "juliet@example.org/balcony"
  local query = ask(romeo, "romeo@example.org", INFO)
  check.equal(query:get_child "identity".attr.category, "account")
  local _, reply = ask(juliet, "romeo@example.org", INFO)
  check.equal(select(2, reply:get_error()), "service-unavailable")
  host:close()
end)

check.test("disco_expose_admins: who an administrator is may be asked by strangers, if the configuration says so", function()
  for i, row in ipairs { { false, "service-unavailable" }, { true, "admin" } } do
    local host = fake.new{ plugins = { "iq", "disco" },
      options = { disco_expose_admins = row[1], admins = { "romeo@example.org" } } }
    local romeo, juliet = host:client "romeo@example.org/orchard", host:client "juliet@example.org/balcony"
    local query, reply = ask(juliet, "romeo@example.org", INFO)
    check.equal({ i, query and query:get_child "identity".attr.type or select(2, reply:get_error()) }, { i, row[2] })
    local own = ask(romeo, "romeo@example.org", INFO):get_child "identity".attr.type
    check.equal({ i, own }, { i, row[1] and "admin" or "registered" })
    check.equal({ i, select(2, select(2, ask(romeo, "juliet@example.org", INFO)):get_error()) }, { i, "service-unavailable" })
    host:close()
  end
end)

check.test("XEP-0115 §5.2: the verification string of the example", function()
  local hash = require "couplet.util.caps".calculate_hash
  local query = st.stanza("query", { xmlns = INFO }):tag("identity",
    { category = "client", name = "Exodus 0.9.1", type = "pc" }):up()
  for _, var in ipairs{ "http://jabber.org/protocol/caps", INFO, ITEMS, "http://jabber.org/protocol/muc" } do
    query:tag("feature", { var = var }):up()
  end
  check.equal(hash(query), "QgayPKawpkPSDYmwT/WM94uAlu0=")
end)

check.done()
