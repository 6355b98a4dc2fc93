-- SPDX-License-Identifier: MIT
-- What a server answers by itself: ping, version, time, uptime, contact addresses.

local check = require "check"
local fake = require "fakehost"
local st = require "couplet.stanza"

local function ask(romeo, to, name, xmlns)
  romeo:send(st.iq{ type = "get", id = "q", to = to }:tag(name, { xmlns = xmlns }))
  return romeo:expect{ name = "iq", id = "q" }
end

check.test("XEP-0199: the server and the own account answer a ping", function()
  local host = fake.new{ plugins = { "iq", "ping" } }
  local romeo = host:client "romeo@example.org/orchard"
  check.equal(ask(romeo, "example.org", "ping", "urn:xmpp:ping").attr.type, "result")
  check.equal(ask(romeo, "romeo@example.org", "ping", "urn:xmpp:ping").attr.type, "result")
  host:close()
end)

check.test("XEP-0092: name and version; the system's name only if wanted", function()
  for _, hide in ipairs{ false, true } do
    local host = fake.new{ plugins = { "iq", "version" }, options = { hide_os_type = hide } }
    local query = ask(host:client "romeo@example.org/orchard", "example.org", "query", "jabber:iq:version"):get_child("query",
      "jabber:iq:version")
    check.equal(query:get_child_text "name", "Couplet")
    check.ok(query:get_child_text "version")
    check.equal(query:get_child_text "os", not hide and "Linux" or nil)
    host:close()
  end
end)

check.test("XEP-0202: a time in UTC", function()
  local host = fake.new{ plugins = { "iq", "time" } }
  local time = ask(host:client "romeo@example.org/orchard", "example.org", "time", "urn:xmpp:time"):get_child("time",
    "urn:xmpp:time")
  check.equal(time:get_child_text "tzo", "+00:00")
  check.ok(time:get_child_text "utc":match "^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d[%d.]*Z$")
  host:close()
end)

check.test("XEP-0012: the uptime in seconds", function()
  local host = fake.new{ plugins = { "iq", "uptime" } }
  local query = ask(host:client "romeo@example.org/orchard", "example.org", "query", "jabber:iq:last"):get_child("query",
    "jabber:iq:last")
  check.ok(tonumber(query.attr.seconds) >= 0)
  host:close()
end)

local function server_info(host, name)
  local query = ask(host:client("romeo@example.org/" .. name), "example.org", "query", "http://jabber.org/protocol/disco#info")
    :get_child("query", "http://jabber.org/protocol/disco#info")
  local form, found = query:get_child("x", "jabber:x:data"), {}
  for field in (form or query):childtags "field" do
    for value in field:childtags "value" do found[#found + 1] = field.attr.var .. "=" .. value:get_text() end
  end
  return found
end

check.test("XEP-0157: contact addresses in disco", function()
  local host = fake.new{ plugins = { "iq", "disco", "server_info" }, options = {
    contact_info = { admin = "mailto:admin@example.org", abuse = { "mailto:abuse@example.org", "xmpp:abuse@example.org" } } } }
  check.equal(server_info(host, "orchard"), { "FORM_TYPE=http://jabber.org/network/serverinfo",
    "abuse-addresses=mailto:abuse@example.org", "abuse-addresses=xmpp:abuse@example.org",
    "admin-addresses=mailto:admin@example.org" })
  host:close()
end)

check.test("server information: administrators if asked for, fields of the configuration and of plugins", function()
  local admins = { admins = { "bard@example.org" } }
  local host = fake.new{ plugins = { "iq", "disco", "server_info" }, global = admins }
  check.equal(server_info(host, "d"), {})
  host:load "server_contact_info"
  check.equal(server_info(host, "e"), { "FORM_TYPE=http://jabber.org/network/serverinfo",
    "admin-addresses=xmpp:bard@example.org" })
  host:close()
  host = fake.new{ plugins = { "iq", "disco", "server_info" }, global = admins, options = {
    contact_info = { admin = "mailto:a@b.c" },
    server_info_extensions = { { var = "street", type = "text-single", name = "where" }, { var = "languages", type = "list-multi",
      value = { "en", "it" } }, { var = "nothing", type = "text-single" } },
    server_info = { where = "Verona" } } }
  local want = { "FORM_TYPE=http://jabber.org/network/serverinfo", "admin-addresses=mailto:a@b.c", "street=Verona",
    "languages=en", "languages=it" }
  check.equal(server_info(host, "a"), want)
  local adds = [[module:add_item("server-info-fields", { { var = "motto", type = "text-single", value = "Be excellent" } })]]
  host:load("adds", adds)
  check.equal(server_info(host, "b"), { want[1], want[2], want[3], want[4], want[5], "motto=Be excellent" })
  host:run(function() require "couplet.plugin".unload("example.org", "adds") end)
  check.equal(server_info(host, "c"), want)
  host:close()
  host = fake.new{ plugins = { "iq", "disco", "server_info" } }
  check.equal(server_info(host, "d"), {})
  host:close()
end)

check.done()
