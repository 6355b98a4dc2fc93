-- SPDX-License-Identifier: MIT
-- XEP-0050: lists, one-step and form commands, sessions, actions, permissions.

local check = require "check"
local fake = require "fakehost"
local st = require "couplet.stanza"

local NS = "http://jabber.org/protocol/commands"

local COMMANDS = [[
  local new = module:require "adhoc".new
  local dataforms = require "util.dataforms"
  local adhoc = require "util.adhoc"
  module:provides("adhoc", new("Hello", "urn:hello", function() return { status = "completed", info = "Hello" } end, "any"))
  module:provides("adhoc", new("Secret", "urn:secret", function() return { status = "completed" } end, "admin"))
  local form = dataforms.new{ title = "Add", { name = "FORM_TYPE", type = "hidden", value = "urn:add" },
    { name = "a", type = "text-single", datatype = "xs:integer", required = true },
    { name = "b", type = "text-single", datatype = "xs:integer", value = 2 } }
  module:provides("adhoc", new("Add", "urn:add", adhoc.new_simple_form(form, function(fields, err)
    if err then return { status = "completed", error = { message = next(err) .. ": " .. err[next(err)] } } end
    return { status = "completed", info = ("%d"):format(fields.a + fields.b) }
  end), "local_user"))
  module:provides("adhoc", new("Broken", "urn:broken", function() error "broken on purpose" end, "any"))
]]

local function run(client, attr, child)
  attr.xmlns = NS
  local command = st.stanza("command", attr)
  if child then command:add_child(child) end
  client:send(st.iq{ type = "set", id = "c", to = "example.org" }:add_child(command))
  local reply = client:expect{ name = "iq", id = "c" }
  return reply:get_child("command", NS), reply
end

local function submit(fields)
  local x = st.stanza("x", { xmlns = "jabber:x:data", type = "submit" })
  for name, value in pairs(fields) do x:tag("field", { var = name }):text_tag("value", value):up() end
  return x
end

local function setup()
  local host = fake.new{ plugins = { "iq", "disco", "adhoc" } }
  host:load("commands", COMMANDS)
  return host, host:client "romeo@example.org/orchard"
end

check.test("§2.2: the list shows what one may run", function()
  local host, romeo = setup()
  romeo:send(st.iq{ type = "get", id = "l", to = "example.org" }:tag("query",
    { xmlns = "http://jabber.org/protocol/disco#items", node = NS }))
  local nodes = {}
  for item in romeo:expect{ id = "l" }.tags[1]:childtags "item" do nodes[#nodes + 1] = item.attr.node end
  check.equal(nodes, { "urn:add", "urn:broken", "urn:hello" })
  host:close()
end)

check.test("§2.4: a command of one step", function()
  local host, romeo = setup()
  local command = run(romeo, { node = "urn:hello" })
  check.equal(command.attr.status, "completed")
  check.equal(command:get_child_text "note", "Hello")
  host:close()
end)

check.test("§2.4: a form, filled in; another's session and a used one are refused", function()
  local host, romeo = setup()
  local juliet = host:client "juliet@example.org/balcony"
  local command = run(romeo, { node = "urn:add" })
  check.equal(command.attr.status, "executing")
  check.ok(command:get_child("x", "jabber:x:data"))
  local id = command.attr.sessionid
  local _, refused = run(juliet, { node = "urn:add", sessionid = id, action = "complete" }, submit{ a = "1" })
  check.ok(refused:get_child("error"):get_child("bad-sessionid", NS))
  local done = run(romeo, { node = "urn:add", sessionid = id, action = "complete" }, submit{ a = "40", b = "2" })
  check.equal(done:get_child_text "note", "42")
  _, refused = run(romeo, { node = "urn:add", sessionid = id, action = "complete" }, submit{ a = "1" })
  check.ok(refused:get_child("error"):get_child("bad-sessionid", NS))
  host:close()
end)

check.test("what is missing or no number is told", function()
  local host, romeo = setup()
  for value, text in pairs{ [""] = "a: Required value missing", x = "a: not an integer" } do
    local id = run(romeo, { node = "urn:add" }).attr.sessionid
    local note = run(romeo, { node = "urn:add", sessionid = id }, submit{ a = value }):get_child "note"
    check.equal(note.attr.type, "error")
    check.equal(note:get_text(), text)
  end
  host:close()
end)

check.test("§2.4.4: cancel; actions that make no sense", function()
  local host, romeo = setup()
  local id = run(romeo, { node = "urn:add" }).attr.sessionid
  check.equal(run(romeo, { node = "urn:add", sessionid = id, action = "cancel" }).attr.status, "canceled")
  local _, reply = run(romeo, { node = "urn:add", action = "next" })
  check.ok(reply:get_child("error"):get_child("bad-action", NS))
  _, reply = run(romeo, { node = "urn:add", action = "dance" })
  check.ok(reply:get_child("error"):get_child("malformed-action", NS))
  host:close()
end)

check.test("unknown, forbidden and broken commands get an answer", function()
  local host, romeo = setup()
  local _, reply = run(romeo, { node = "urn:nowhere" })
  check.equal(select(2, reply:get_error()), "item-not-found")
  _, reply = run(romeo, { node = "urn:secret" })
  check.equal(select(2, reply:get_error()), "forbidden")
  _, reply = run(romeo, { node = "urn:broken" })
  check.equal(reply.attr.type, "error")
  host:close()
end)

check.done()
