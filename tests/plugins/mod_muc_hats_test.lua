-- SPDX-License-Identifier: MIT
-- Hats (XEP-0317): made, put on, shown, taken off, by commands of the room.

local check = require "check"
local rooms = require "rooms_fixture"
local plugin = require "couplet.plugin"
local NS, FORM, COMMANDS = "urn:xmpp:hats:0", "urn:xmpp:hats:commands", "http://jabber.org/protocol/commands"
local HELPER = "http://tech.example.edu/hats#Helper"

local function run(client, node, fields, session)
  local x = {}
  for name, value in pairs(fields or {}) do x[#x + 1] = ("<field var='hats#%s'><value>%s</value></field>"):format(name, value) end
  return rooms.ask(client, "set", ("<command xmlns='%s' node='%s:%s' %s>%s</command>"):format(COMMANDS, FORM, node,
    session and ("sessionid='%s'"):format(session) or "action='execute'", fields
    and ("<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>%s</value></field>%s</x>"):format(FORM,
      table.concat(x)) or ""))
end

local function hats_in(stanza)
  local out = {}
  local hats = stanza:get_child("hats", NS)
  for hat in (hats or stanza):childtags("hat", NS) do
    out[#out + 1] = hat.attr.title .. (hat.attr.hue and "/" .. hat.attr.hue or "")
  end
  return table.concat(out, " ")
end

local function shown(client, nick)
  local last
  for _, stanza in ipairs(client:received()) do
    if stanza.name == "presence" and stanza.attr.from:find("/" .. nick, 1, true) then last = hats_in(stanza) end
  end
  return last
end

local function new()
  local host = rooms.new()
  local romeo, juliet = rooms.person(host, "romeo"), rooms.person(host, "juliet")
  rooms.join(romeo, "Romeo")
  rooms.join(juliet, "Juliet", nil, "<hats xmlns='urn:xmpp:hats:0'><hat uri='x:y' title='King'/></hats>")
  return host, romeo, juliet
end

check.test("a hat's life: made with a form, put on, seen by all and by those who come, changed, taken off, destroyed", function()
  local host, romeo, juliet = new()
  check.equal(shown(romeo, "Juliet"), "")         -- nobody makes his own
  local form = run(romeo, "create").tags[1]
  check.equal(form.attr.status, "executing")
  check.equal(form:find "{jabber:x:data}x/field@var", "FORM_TYPE")
  local answer = run(romeo, "create", { title = "Helper", uri = HELPER, hue = "327.255249" }, form.attr.sessionid)
  check.equal(answer.tags[1].attr.status, "completed")
  check.equal(rooms.told(juliet)[4], "groupchat (room):  104")
  check.equal(rooms.result(run(romeo, "assign", { jid = "juliet@example.org", uri = HELPER })), "ok")
  check.equal(shown(romeo, "Juliet"), "Helper/327.255249")
  check.equal(shown(juliet, "Juliet"), "Helper/327.255249")
  local nurse = rooms.person(host, "nurse")
  rooms.join(nurse, "Nurse")
  check.equal(shown(nurse, "Juliet"), "Helper/327.255249")
  check.equal(rooms.result(run(romeo, "create", { title = "Aide", uri = HELPER })), "ok")
  check.equal(shown(nurse, "Juliet"), "Aide")
  local list = tostring(run(nurse, "list"))
  check.ok(list:find("<value>Aide</value>", 1, true) and list:find("type='result'", 1, true), list)
  check.ok(tostring(run(romeo, "list-assigned")):find("<value>juliet@example.org</value>", 1, true))
  check.ok(tostring(run(romeo, "assign")):find("<option label='Aide'>", 1, true))
  check.equal(rooms.result(run(romeo, "unassign", { jid = "juliet@example.org", uri = HELPER })), "ok")
  check.equal(shown(nurse, "Juliet"), "")
  run(romeo, "assign", { jid = "juliet@example.org/home", uri = HELPER })
  check.equal(shown(nurse, "Juliet"), "Aide")
  check.equal(rooms.result(run(romeo, "destroy", { uri = HELPER })), "ok")
  check.equal(shown(nurse, "Juliet"), "")
  host:close()
end)

check.test("what is refused", function()
  local host, romeo, juliet = new()
  run(romeo, "create", { title = "Helper", uri = HELPER })
  local rows = {
    { juliet, "create", { title = "King", uri = "x:y" }, "auth forbidden" },
    { juliet, "assign", { jid = "juliet@example.org", uri = HELPER }, "auth forbidden" },
    { juliet, "list-assigned", nil, "auth forbidden" },
    { rooms.person(host, "outside"), "list", nil, "auth forbidden" },
    { juliet, "list", nil, "ok" },
    { romeo, "steal", nil, "cancel item-not-found" },
    { romeo, "create", { title = "King" }, "modify not-acceptable" },
    { romeo, "create", { title = "King", uri = "no uri" }, "modify not-acceptable" },
    { romeo, "create", { title = "King", uri = "x:" .. ("y"):rep(600) }, "modify not-acceptable" },
    { romeo, "create", { title = ("K"):rep(200), uri = "x:y" }, "modify not-acceptable" },
    { romeo, "create", { title = "King", uri = "x:y", hue = "red" }, "modify not-acceptable" },
    { romeo, "create", { title = "King", uri = "x:y", hue = "nan" }, "modify not-acceptable" },
    { romeo, "create", { title = "King", uri = "x:y", hue = "361" }, "modify not-acceptable" },
    { romeo, "destroy", { uri = "x:y" }, "cancel item-not-found" },
    { romeo, "assign", { jid = "juliet@example.org", uri = "x:y" }, "cancel item-not-found" },
    { romeo, "assign", { jid = "example.org", uri = HELPER }, "modify jid-malformed" },
    { romeo, "unassign", { jid = "juliet@example.org", uri = HELPER }, "cancel item-not-found" },
  }
  for i, row in ipairs(rows) do check.equal(i .. " " .. rooms.result(run(row[1], row[2], row[3])), i .. " " .. row[4]) end
  for i = 1, 99 do check.equal(rooms.result(run(romeo, "create", { title = "t", uri = "x:" .. i })), "ok") end
  check.equal(rooms.result(run(romeo, "create", { title = "t", uri = "x:100" })), "wait resource-constraint")
  check.equal(rooms.result(run(romeo, "create", { title = "u", uri = "x:99" })), "ok")
  for i = 1, 16 do check.equal(rooms.result(run(romeo, "assign", { jid = "juliet@example.org", uri = "x:" .. i })), "ok") end
  check.equal(rooms.result(run(romeo, "assign", { jid = "juliet@example.org", uri = "x:17" })), "wait resource-constraint")
  host:close()
end)

check.test("discovery: the feature, the hash of the list, the commands one may run; hats outlive a restart", function()
  local host, romeo, juliet = new()
  rooms.configure(romeo, { persistentroom = "1" })
  local function info(client, node)
    return rooms.ask(client, "get", ("<query xmlns='http://jabber.org/protocol/disco#info'%s/>"):format(node
      and (" node='%s'"):format(node) or ""))
  end
  local function hash() return tostring(info(juliet)):match "hats#hash'[^>]*><value>(%x+)" end
  check.ok(info(juliet).tags[1]:get_child_with_attr("feature", nil, "var", NS))
  check.equal(hash(), nil)
  run(romeo, "create", { title = "Helper", uri = HELPER })
  local first = hash()
  check.ok(first)
  run(romeo, "create", { title = "Aide", uri = HELPER })
  check.ok(hash() ~= first)
  run(romeo, "assign", { jid = "juliet@example.org", uri = HELPER })
  local function commands(client)
    local n = 0
    for _ in rooms.ask(client, "get", ("<query xmlns='http://jabber.org/protocol/disco#items' node='%s'/>"):format(COMMANDS))
      .tags[1]:childtags "item" do n = n + 1 end
    return n
  end
  check.equal({ commands(romeo), commands(juliet) }, { 6, 1 })
  check.equal(rooms.result(info(romeo, FORM .. ":create")), "ok")
  check.equal(rooms.result(info(juliet, FORM .. ":create")), "cancel item-not-found")
  check.equal(rooms.result(info(juliet, COMMANDS)), "ok")
  host:run(function() assert(plugin.unload(rooms.ROOMS, "muc")) assert(plugin.load(rooms.ROOMS, "muc")) end)
  rooms.join(juliet, "Juliet")
  rooms.join(romeo, "Romeo")
  check.equal(shown(romeo, "Juliet"), "Aide")
  host:close()
end)

check.test("muc_hats_compat: clients from before the XEP see them too, and nobody puts one on himself", function()
  local OLD = "xmpp:prosody.im/protocol/hats:1"
  for i, on in ipairs { false, true } do
    local host = rooms.new { muc_room_locking = false, muc_hats_compat = on }
    local romeo, juliet = rooms.person(host, "romeo"), rooms.person(host, "juliet")
    rooms.join(romeo, "Romeo")
    rooms.join(juliet, "Juliet", nil, "<hats xmlns='" .. OLD .. "'><hat uri='x:y' title='King'/></hats>")
    run(romeo, "create", { title = "Helper", uri = HELPER }, run(romeo, "create").tags[1].attr.sessionid)
    local function old_hat()
      local last
      for _, stanza in ipairs(romeo:received()) do
        local hats = stanza.attr.from == rooms.ROOM .. "/Juliet" and stanza:get_child("hats", OLD)
        if hats then last = hats:get_child("hat", OLD).attr.title end
      end
      return last
    end
    check.equal({ i, old_hat() }, { i })
    check.equal(rooms.result(run(romeo, "assign", { jid = "juliet@example.org", uri = HELPER })), "ok")
    check.equal({ i, old_hat() }, { i, on and "Helper" or nil })
    host:close()
  end
end)

check.done()
