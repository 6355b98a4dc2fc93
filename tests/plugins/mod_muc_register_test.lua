-- SPDX-License-Identifier: MIT
-- Registration with a room (XEP-0045 §7.10), and admins who are asked first (§9.9).

local check = require "check"
local rooms = require "rooms_fixture"
local plugin = require "couplet.plugin"

local ROOM, FORM = rooms.ROOM, "http://jabber.org/protocol/muc#register"

local function form(fields, kind)
  local out = { ("<x xmlns='jabber:x:data' type='%s'><field var='FORM_TYPE'><value>%s</value></field>"):format(kind or "submit",
    FORM) }
  for name, value in pairs(fields) do out[#out + 1] = ("<field var='%s'><value>%s</value></field>"):format(name, value) end
  return table.concat(out) .. "</x>"
end

local function register(client, nick)
  return rooms.result(rooms.ask(client, "set", "<query xmlns='jabber:iq:register'>" .. form { ["muc#register_roomnick"] = nick }
    .. "</query>"))
end

local function answer(client, fields, kind)
  client:send(("<message to='%s' id='answer'>%s</message>"):format(ROOM, form(fields, kind)))
end

-- What an admin gets: { who, nick, allow }, or nil.
local function asked(client)
  local out
  for _, stanza in ipairs(client:received()) do
    local x = stanza.name == "message" and stanza:get_child("x", "jabber:x:data")
    if x then
      check.equal(out, nil)
      out = {}
      for field in x:childtags "field" do out[field.attr.var] = field:get_child_text "value" end
      check.equal({ x.attr.type, out.FORM_TYPE }, { "form", FORM })
      out = { out["x-register_jid"], out["muc#register_roomnick"], out["muc#register_allow"] }
    end
  end
  return out
end

local function errors(client)
  for _, stanza in ipairs(client:received()) do
    if stanza.name == "message" and stanza.attr.type == "error" then
      local kind, condition = stanza:get_error()
      return kind .. " " .. condition
    end
  end
end

local function garden(fields)
  local host = rooms.new()
  local who = rooms.people(host, { "romeo", "admin2", "away", "juliet", "nurse", "guest" })
  rooms.join(who.romeo, "Romeo")
  fields.persistentroom = "1"
  check.equal(rooms.result(rooms.configure(who.romeo, fields)), "ok")
  check.equal(rooms.result(rooms.admin(who.romeo, "<item jid='admin2@example.org' affiliation='admin'/>"
    .. "<item jid='away@example.org' affiliation='admin'/>")), "ok")
  rooms.join(who.admin2, "Admin")
  rooms.join(who.guest, fields.membersonly and "Nobody" or "Guest")
  for _, client in pairs(who) do client:received() end
  return host, who
end

check.test("who may register, as the room says", function()
  local rows = {                               -- fields, what a stranger hears who asks for the form, and who sends it
    { {}, "ok", "ok" },
    { { ["x-roomconfig_registration"] = "closed" }, "cancel not-allowed", "cancel not-allowed" },
    { { ["x-roomconfig_registration"] = "approval" }, "ok", "ok" },
    { { membersonly = "1" }, "cancel not-allowed", "cancel not-allowed" },
    { { membersonly = "1", ["x-roomconfig_registration"] = "open" }, "cancel not-allowed", "cancel not-allowed" },
    { { membersonly = "1", ["x-roomconfig_registration"] = "approval" }, "ok", "ok" },
  }
  for i, row in ipairs(rows) do
    local host, who = garden(row[1])
    check.equal({ i, rooms.result(rooms.ask(who.juliet, "get", "<query xmlns='jabber:iq:register'/>")) }, { i, row[2] })
    check.equal({ i, register(who.juliet, "Juliet") }, { i, row[3] })
    host:close()
  end
  local host, who = garden {}
  check.equal(rooms.result(rooms.configure(who.romeo, { ["x-roomconfig_registration"] = "anything" })), "modify not-acceptable")
  host:close()
end)

check.test("§15.5.1: who has to be let in may say who he is, and admins read it; elsewhere nobody is asked", function()
  local about = { first = "Juliet", last = "Capulet", url = "http://example.org/~juliet", email = "juliet@example.org",
    faqentry = "Two\nlines" }
  local function values(x)
    local out = {}
    for field in x:childtags "field" do
      local name, lines = field.attr.var:match "^muc#register_(.*)", {}
      for value in field:childtags "value" do lines[#lines + 1] = value:get_text() end
      if name and name ~= "roomnick" and name ~= "allow" then out[name] = table.concat(lines, "\n") end
    end
    return out
  end
  local function offered(client)
    return values(rooms.ask(client, "get", "<query xmlns='jabber:iq:register'/>").tags[1]:get_child("x", "jabber:x:data"))
  end
  local host, who = garden {}
  check.equal(offered(who.juliet), {})
  host:close()
  host, who = garden { ["x-roomconfig_registration"] = "approval" }
  check.equal(offered(who.juliet), { first = "", last = "", url = "", email = "", faqentry = "" })
  check.equal(offered(who.admin2), {})
  local xml = { "<field var='muc#register_roomnick'><value>Juliet</value></field>" }
  for name, value in pairs(about) do
    xml[#xml + 1] = ("<field var='muc#register_%s'><value>%s</value></field>"):format(name, (value:gsub("\n", "</value><value>")))
  end
  check.equal(rooms.result(rooms.ask(who.juliet, "set", "<query xmlns='jabber:iq:register'>"
    .. (form {}:gsub("</x>", table.concat(xml) .. "</x>")) .. "</query>")), "ok")
  local seen
  for _, stanza in ipairs(who.away:received()) do
    local x = stanza:get_child("x", "jabber:x:data")
    seen = x and values(x) or seen
  end
  check.equal(seen, about)
  host:close()
end)

check.test("§9.9: admins are asked, here and elsewhere; what they say is done", function()
  local host, who = garden { membersonly = "1", ["x-roomconfig_registration"] = "approval" }
  check.equal(register(who.juliet, "Juliet"), "ok")
  for _, name in ipairs { "romeo", "admin2", "away" } do
    check.equal({ name, asked(who[name]) }, { name, { "juliet@example.org", "Juliet", "0" } })
  end
  check.equal(asked(who.guest), nil)
  rooms.join(who.juliet, "Juliet")             -- not yet
  check.equal(rooms.told(who.juliet), { "presence error auth registration-required" })
  local yes = { ["x-register_jid"] = "juliet@example.org", ["muc#register_roomnick"] = "Juliet", ["muc#register_allow"] = "1" }
  for _, row in ipairs {
    { "guest", yes, nil, "auth forbidden" },
    { "romeo", { ["muc#register_roomnick"] = "Juliet" }, nil, "modify bad-request" },
    { "romeo", { ["muc#register_roomnick"] = "Rosaline", ["muc#register_allow"] = "1" }, nil, "cancel item-not-found" },
    { "romeo", { ["x-register_jid"] = "guest@example.org", ["muc#register_allow"] = "1" }, nil, "cancel item-not-found" },
    { "romeo", yes, "result", "modify bad-request" },
    { "romeo", {}, "cancel", nil },            -- it waits on
  } do
    answer(who[row[1]], row[2], row[3])
    check.equal({ row[1], errors(who[row[1]]) }, { row[1], row[4] })
  end
  answer(who.admin2, yes)
  check.equal(errors(who.admin2), nil)
  check.equal(rooms.told(who.juliet), { "normal (room): invite" })     -- §9.3: who has become a member hears of it
  answer(who.romeo, yes)
  check.equal(errors(who.romeo), "cancel item-not-found")              -- somebody was quicker
  rooms.join(who.juliet, "Juliet")
  check.equal(rooms.told(who.juliet)[3], "+Juliet member/participant 110")
  check.equal(register(who.nurse, "Juliet"), "cancel conflict")

  check.equal(register(who.nurse, "Nurse"), "ok")
  check.equal(asked(who.romeo), { "nurse@example.org", "Nurse", "0" })
  answer(who.romeo, { ["muc#register_roomnick"] = "Nurse", ["muc#register_allow"] = "0" })     -- a form without our own field
  check.equal(errors(who.romeo), nil)
  answer(who.romeo, { ["muc#register_roomnick"] = "Nurse", ["muc#register_allow"] = "1" })
  check.equal(errors(who.romeo), "cancel item-not-found")
  rooms.join(who.nurse, "Nurse")
  check.equal(rooms.told(who.nurse), { "presence error auth registration-required" })
  check.equal(host:close(), {})
end)

check.test("a nickname taken meanwhile; who is made a member otherwise, or takes it back, does not wait", function()
  local host, who = garden { ["x-roomconfig_registration"] = "approval" }
  check.equal(register(who.juliet, "Juliet"), "ok")
  check.equal(register(who.juliet, "Capulet"), "ok")                   -- the last one counts
  rooms.join(who.nurse, "Capulet")
  answer(who.romeo, { ["x-register_jid"] = "juliet@example.org", ["muc#register_allow"] = "1" })
  check.equal(errors(who.romeo), "cancel conflict")
  check.equal(rooms.result(rooms.admin(who.romeo, "<item jid='juliet@example.org' affiliation='member'/>")), "ok")
  answer(who.romeo, { ["x-register_jid"] = "juliet@example.org", ["muc#register_allow"] = "1" })
  check.equal(errors(who.romeo), "cancel item-not-found")
  check.equal(register(who.guest, "Guest"), "ok")
  check.equal(rooms.result(rooms.ask(who.guest, "set", "<query xmlns='jabber:iq:register'><remove/></query>")), "ok")
  answer(who.romeo, { ["x-register_jid"] = "guest@example.org", ["muc#register_allow"] = "1" })
  check.equal(errors(who.romeo), "cancel item-not-found")
  check.equal(host:close(), {})
end)

check.test("requests outlive a restart; a hundred wait in one room, sixty of one account in ten minutes", function()
  local host, who = garden { membersonly = "1", ["x-roomconfig_registration"] = "approval" }
  for i = 1, 100 do check.equal({ i, register(rooms.person(host, "p" .. i), "P" .. i) }, { i, "ok" }) end
  check.equal(register(who.juliet, "Juliet"), "wait resource-constraint")
  local again = rooms.person(host, "p1")
  for _ = 1, 59 do check.equal(register(again, "P1"), "ok") end
  check.equal(register(again, "P1"), "wait policy-violation")
  host:run(function()
    assert(plugin.unload(rooms.ROOMS, "muc"))
    assert(plugin.load(rooms.ROOMS, "muc"))
  end)
  who.romeo:received()
  answer(who.romeo, { ["x-register_jid"] = "p77@example.org", ["muc#register_allow"] = "1" })
  check.equal(errors(who.romeo), nil)
  check.equal(plugin.get_module(rooms.ROOMS, "muc").get_room_from_jid(ROOM):get_affiliation "p77@example.org", "member")
  host:close()
end)

check.done()
