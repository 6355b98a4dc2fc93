-- SPDX-License-Identifier: MIT
-- XEP-0133: who may, the forms, and what the commands do.

local check = require "check"
local fake = require "fakehost"
local prosody = require "couplet.prosody"
local st = require "couplet.stanza"
local users = require "couplet.users"

local NS, ADMIN = "http://jabber.org/protocol/commands", "http://jabber.org/protocol/admin"

local function step(client, node, sessionid, fields)
  local command = st.stanza("command", { xmlns = NS, node = node, sessionid = sessionid })
  if fields then
    command:tag("x", { xmlns = "jabber:x:data", type = "submit" })
    for name, values in pairs(fields) do
      command:tag("field", { var = name })
      for _, value in ipairs(type(values) == "table" and values or { values }) do command:text_tag("value", value) end
      command:up()
    end
  end
  client:send(st.iq { type = "set", id = "c", to = "example.org" }:add_child(command:reset()))
  local reply = client:expect { name = "iq", id = "c" }
  return reply:get_child("command", NS), reply
end

-- A command with its form filled in -> command, reply
local function run(client, node, fields)
  if not node:find(":", 1, true) then node = ADMIN .. "#" .. node end
  local first, reply = step(client, node)
  if not fields then return first, reply end
  check.equal(first and first.attr.status, "executing", node .. " " .. tostring(reply))
  local type = first:get_child("x", "jabber:x:data")
  for field in type:childtags "field" do
    if field.attr.var == "FORM_TYPE" and node:find(ADMIN, 1, true) then check.equal(field:get_child_text "value", ADMIN) end
  end
  return step(client, node, first.attr.sessionid, fields)
end

local function values(command, name)
  local x = command:get_child("x", "jabber:x:data")
  check.equal(x.attr.type, "result")
  local out = {}
  for field in x:childtags "field" do
    if field.attr.var == name then
      for value in field:childtags "value" do out[#out + 1] = value:get_text() or "" end
    end
  end
  return out
end

local function notes(command)
  local out = {}
  for note in command:childtags "note" do out[note.attr.type] = note:get_text() end
  return out
end

local function setup()
  local host = fake.new { plugins = { "iq", "disco", "roster", "presence", "message", "lastactivity", "admin_adhoc" },
    options = { admins = { "bard@example.org" } }, global = { admins = { "root@example.org" } },
    hosts = { ["other.example"] = {} } }
  for _, name in ipairs { "bard", "root", "romeo" } do host:run(users.create_user, name, "secret", "example.org") end
  host:run(users.create_user, "iago", "secret", "other.example")
  return host, host:client "bard@example.org/globe", host:client "root@example.org/console"
end

check.test("only for administrators; some only for those of the server", function()
  local host, bard, root = setup()
  local romeo = host:client "romeo@example.org/orchard"
  check.equal({ select(2, step(romeo, ADMIN .. "#add-user")):get_error() },
    { "auth", "forbidden", "You may not run this command" })
  check.equal(select(2, select(2, step(bard, ADMIN .. "#shutdown")):get_error()), "forbidden")
  local function listed(client)
    client:send(st.iq { type = "get", id = "l", to = "example.org" }:tag("query",
      { xmlns = "http://jabber.org/protocol/disco#items", node = NS }))
    local n = 0
    for _ in client:expect { id = "l" }.tags[1]:childtags "item" do n = n + 1 end
    return n
  end
  check.equal(listed(romeo), 0)
  check.equal(listed(bard), 20)
  check.equal(listed(root), 25)
  check.equal(step(root, ADMIN .. "#shutdown").attr.status, "executing")
  check.equal(select(2, select(2, step(root, ADMIN .. "#get-user-password")):get_error()), "item-not-found")
  host:close()
end)

check.test("§4.1, §4.2: accounts are added and deleted", function()
  local host, bard = setup()
  local add = { accountjid = "juliet@example.org", password = "R0m30", ["password-verify"] = "R0m30" }
  check.equal(run(bard, "add-user", add).attr.status, "completed")
  check.equal(host:run(users.test_password, "juliet", "example.org", "R0m30"), true)
  check.equal({ select(2, run(bard, "add-user", add)):get_error() },
    { "cancel", "conflict", "juliet@example.org exists already" })
  local rows = {
    { { accountjid = "x@example.org", password = "a", ["password-verify"] = "b" }, "The passwords differ" },
    { { accountjid = "x@other.example", password = "a", ["password-verify"] = "a" },
      "x@other.example is no account of example.org" },
    { { accountjid = "x@example.org" }, "password-verify: Required value missing\npassword: Required value missing" },
    { { accountjid = "@", password = "a", ["password-verify"] = "a" }, "accountjid: Invalid JID: @" },
  }
  for i, row in ipairs(rows) do check.equal(notes(run(bard, "add-user", row[1])).error, row[2], "row " .. i) end
  local juliet = host:client "juliet@example.org/balcony"
  local told = notes(run(bard, "delete-user",
    { accountjids = { "juliet@example.org", "nobody@example.org", "iago@other.example" } }))
  check.equal(told, { info = "juliet@example.org and its data are gone",
    error = "there is no account nobody@example.org\niago@other.example is no account of example.org" })
  check.equal(juliet.close_reason.condition, "not-authorized")
  check.ok(not host:run(users.user_exists, "juliet", "example.org"))
  check.ok(host:run(users.user_exists, "iago", "other.example"))
  host:close()
end)

check.test("§4.3 to §4.5, §4.7: disable, enable, disconnect, new password", function()
  local host, bard = setup()
  local romeo, phone = host:client "romeo@example.org/orchard", host:client "romeo@example.org/phone"
  run(bard, "end-user-session", { accountjids = "romeo@example.org/phone" })
  check.ok(phone.closed)
  check.equal(romeo.closed, nil)
  run(bard, "disable-user", { accountjids = "romeo@example.org" })
  check.ok(romeo.closed)
  check.equal(host:run(users.user_is_enabled, "romeo", "example.org"), false)
  check.equal(values(run(bard, "get-disabled-users-num"), "disabledusersnum"), { "1" })
  check.equal(values(run(bard, "get-disabled-users-list", { max_items = "25" }), "disableduserjids"), { "romeo@example.org" })
  run(bard, "reenable-user", { accountjids = "romeo@example.org" })
  check.equal(host:run(users.user_is_enabled, "romeo", "example.org"), true)
  run(bard, "change-user-password", { accountjid = "romeo@example.org", password = "new" })
  check.equal(host:run(users.test_password, "romeo", "example.org", "new"), true)
  check.equal(notes(run(bard, "change-user-password", { accountjid = "nobody@example.org", password = "new" })).error,
    "there is no account nobody@example.org")
  host:close()
end)

check.test("§4.8 to §4.10: roster, last login, statistics", function()
  local host, bard = setup()
  local romeo = host:client "romeo@example.org/orchard"
  romeo:send("<iq xmlns='jabber:client' type='set' id='1'><query xmlns='jabber:iq:roster'><item jid='juliet@example.com' "
    .. "name='J'><group>Lovers</group></item></query></iq>")
  local x = run(bard, "get-user-roster", { accountjids = "romeo@example.org" }):get_child("x", "jabber:x:data")
  local item = x:get_child("query", "jabber:iq:roster"):get_child "item"
  check.equal({ item.attr.jid, item.attr.name, item:get_child_text "group" }, { "juliet@example.com", "J", "Lovers" })
  check.equal(values(run(bard, "get-user-lastlogin", { accountjids = "romeo@example.org" }), "lastlogin"),
    { "2023-11-14T22:13:20Z" })
  check.equal(values(run(bard, "get-user-lastlogin", { accountjids = "root@example.org" }), "lastlogin"),
    { "2023-11-14T22:13:20Z" })
  local stats = run(bard, "user-stats", { accountjid = "romeo@example.org" })
  check.equal(values(stats, "rostersize"), { "1" })
  check.equal(values(stats, "onlineresources"), { "orchard" })
  check.equal(values(stats, "ipaddresses"), { "127.0.0.1" })
  host:close()
end)

check.test("§4.13 to §4.20: numbers and lists", function()
  local host, bard = setup()
  check.equal(values(run(bard, "get-registered-users-num"), "registeredusersnum"), { "3" })
  check.equal(values(run(bard, "get-online-users-num"), "onlineusersnum"), { "2" })
  check.equal(values(run(bard, "get-registered-users-list", { max_items = "none" }), "registereduserjids"),
    { "bard@example.org", "romeo@example.org", "root@example.org" })
  check.equal(values(run(bard, "get-online-users-list", { max_items = "1" }), "onlineuserjids"), { "bard@example.org" })
  check.equal(select(2, select(2, run(bard, "get-online-users-list", { max_items = "many" })):get_error()), "not-acceptable")
  host:close()
end)

check.test("§4.23: an announcement reaches who is online; others may not make any", function()
  local host, bard, root = setup()
  local romeo = host:client "romeo@example.org/orchard"
  for _, client in ipairs { bard, romeo } do
    client:send "<presence xmlns='jabber:client'/>"
    client:received()
  end
  root:received()
  check.equal(notes(run(bard, "announce", { announcement = { "Attention!", "Log off now." } })).info,
    "Announcement sent to 2 users")
  check.equal(romeo:expect { name = "message", from = "example.org" }:get_child_text "body", "Attention!\nLog off now.")
  bard:expect { name = "message" }
  root:nothing()
  romeo:send "<message xmlns='jabber:client' to='example.org/announce/online'><body>hi</body></message>"
  check.equal(select(2, romeo:expect { name = "message", type = "error" }:get_error()), "forbidden")
  bard:send "<message xmlns='jabber:client' to='example.org/announce/online'><subject>S</subject><body>hi</body></message>"
  check.equal(romeo:expect { name = "message" }:get_child_text "subject", "S")
  host:close()
end)

check.test("plugins are listed, loaded, reloaded and unloaded", function()
  local host, bard = setup()
  local modules = "http://prosody.im/protocol/modules"
  check.equal(notes(run(bard, modules .. "#load", { module = "time" })).info, "time: loaded on example.org")
  check.ok(table.concat(values(run(bard, modules .. "#list"), "modules"), " "):find("time", 1, true))
  check.equal(notes(run(bard, modules .. "#reload", { modules = { "time" } })).info, "time: reloaded on example.org")
  check.equal(notes(run(bard, modules .. "#unload", { modules = { "time", "nothing" } })).info, "time: unloaded on example.org")
  check.ok(notes(run(bard, modules .. "#load", { module = "nothing" })).error)
  host:close()
end)

check.test("§4.30: the server is shut down, after a word of warning", function()
  local host, _, root = setup()
  local reason
  prosody.shutdown = function(text) reason = text end
  root:send "<presence xmlns='jabber:client'/>"
  root:received()
  run(root, "shutdown", { delay = "30", announcement = "Good night" })
  check.equal(root:expect { name = "message" }:get_child_text "body", "Good night")
  host:advance(29)
  check.equal(reason, nil)
  host:advance(1)
  check.equal(reason, "Good night")
  prosody.shutdown = nil
  host:close()
end)

check.done()
