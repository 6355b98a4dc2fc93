-- SPDX-License-Identifier: MIT
-- XEP-0045 §9.5 to §10.9: what admins and owners change, and who hears what of it. Headings and rows name the sections.

local check = require "check"
local rooms = require "rooms_fixture"
local plugin = require "couplet.plugin"
local ROOM, MUC = rooms.ROOM, "http://jabber.org/protocol/muc"

local function list(client, what, value)
  local reply = rooms.ask(client, "get", ("<query xmlns='%s#admin'><item %s='%s'/></query>"):format(MUC, what, value))
  if reply.attr.type == "error" then return rooms.result(reply) end
  local out = {}
  for item in reply.tags[1]:childtags "item" do
    local a = item.attr
    out[#out + 1] = ("%s %s %s"):format(a.affiliation, a.jid and a.jid:match "^[^@]+" or "-", a.nick or "-")
  end
  table.sort(out)
  return table.concat(out, "; ")
end

local function affiliation(who, value, more) return ("<item jid='%s@example.org' affiliation='%s'%s/>"):format(who, value,
  more or "") end
local function role(nick, value) return ("<item nick='%s' role='%s'/>"):format(nick, value) end

-- Each change of one who is inside is shown to all who are, by presence from him, after its sender has been answered.
check.test("§9.3 to §10.8: what those inside see of a change", function()
  local rows = {
    -- section, who asks, items, what the guest sees; items before
    { "9.3", "boss", affiliation("guest", "member"), "+Guest member/participant 110" },
    { "9.4", "boss", affiliation("member", "none"), "+Member none/participant" },
    { "9.5", "boss", affiliation("member", "none") .. affiliation("mod", "member"),
      "+Member none/participant | +Mod member/moderator" },
    { "9.6", "boss", role("Member", "moderator"), "+Member member/moderator" },
    { "9.7", "boss", role("Mod", "participant"), "+Mod none/participant" },
    { "9.8", "boss", role("Mod", "participant") .. role("Member", "moderator"),
      "+Mod none/participant | +Member member/moderator" },
    { "10.3", "owner", affiliation("boss", "owner"), "+Boss owner/moderator" },
    { "10.3", "owner", "<item jid='member@example.org/home' affiliation='owner'/>", "+Member owner/moderator" },
    { "10.4", "owner", affiliation("owner", "admin"), "+Owner admin/moderator", affiliation("boss", "owner") },
    { "10.5", "owner", affiliation("boss", "member") .. affiliation("member", "owner"),
      "+Boss member/participant | +Member owner/moderator", affiliation("boss", "owner") },
    { "10.6", "owner", affiliation("member", "admin"), "+Member admin/moderator" },
    { "10.7", "owner", affiliation("boss", "member"), "+Boss member/participant" },
    { "10.8", "owner", affiliation("boss", "none") .. affiliation("member", "admin"),
      "+Boss none/participant | +Member admin/moderator" },
  }
  for i, row in ipairs(rows) do
    local host, who = rooms.cast()
    if row[5] then check.equal(rooms.result(rooms.admin(who.owner, row[5])), "ok") end
    who.guest:received()
    check.equal({ i, rooms.result(rooms.admin(who[row[2]], row[3])) }, { i, "ok" })
    check.equal({ i, row[1], table.concat(rooms.told(who.guest), " | ") }, { i, row[1], row[4] })
    check.equal(rooms.told(who.outside), {})
    check.equal(host:close(), {})
  end
end)

check.test("§9.5: the list of members: changes alone are sent, a nickname is kept with one, and none with nick=''", function()
  local host, who = rooms.cast { persistentroom = "1" }
  check.equal(rooms.result(rooms.admin(who.boss, affiliation("guest", "member", " nick='Ghost'"))), "ok")
  check.equal(list(who.boss, "affiliation", "member"), "member guest Ghost; member member -")
  rooms.join(who.outside, "Ghost")
  check.equal(rooms.told(who.outside), { "presence error cancel conflict" })
  check.equal(rooms.result(rooms.admin(who.boss, affiliation("guest", "member"))), "ok")       -- nothing said of it: it stays
  check.equal(list(who.boss, "affiliation", "member"), "member guest Ghost; member member -")
  check.equal(rooms.result(rooms.admin(who.boss, affiliation("guest", "member", " nick=''"))), "ok")
  check.equal(list(who.boss, "affiliation", "member"), "member guest -; member member -")
  rooms.join(who.outside, "Ghost")
  check.equal(rooms.told(who.outside)[6], "+Ghost none/participant 110")
  host:close()
end)

check.test("§9.5: in a room for members alone who is taken off the list goes and stays out; who is put on it may come", function()
  local host, who = rooms.cast()
  check.equal(rooms.result(rooms.admin(who.boss, affiliation("mod", "member"))), "ok")
  check.equal(rooms.result(rooms.configure(who.owner, { membersonly = "1" })), "ok")
  for _, client in pairs(who) do client:received() end
  check.equal(rooms.result(rooms.admin(who.boss, affiliation("member", "none") .. affiliation("outside", "member"))), "ok")
  check.equal(rooms.told(who.member), { "-Member none/none 110,321" })     -- one presence, not two
  check.equal(rooms.told(who.mod), { "-Member none/none 321" })
  check.equal(rooms.told(who.outside), { "normal (room): invite" })
  rooms.join(who.member, "Member")
  check.equal(rooms.told(who.member), { "presence error auth registration-required" })
  rooms.join(who.outside, "Outside")
  check.equal(rooms.told(who.outside)[4], "+Outside member/participant 110")
  host:close()
end)

check.test("§9.5: invitations by members: forbidden, or, if owners let them, a way onto the list; never in open ones", function()
  local rows = {
    -- configuration, who invites, answer, what is outside then
    { { membersonly = "1" }, "member", "message error auth forbidden", "" },
    { { membersonly = "1", allowinvites = "1" }, "member", nil, "member outside -" },
    { { membersonly = "1" }, "boss", nil, "member outside -" },
    { {}, "guest", nil, "" }, { { allowinvites = "1" }, "boss", nil, "" },
  }
  for i, row in ipairs(rows) do
    local host, who = rooms.cast(row[1])
    who[row[2]]:send(("<message to='%s'><x xmlns='%s#user'><invite to='outside@example.org'/></x></message>"):format(ROOM, MUC))
    if row[3] then
      check.equal({ i, rooms.told(who[row[2]]) }, { i, { row[3] } })
    else
      check.equal({ i, rooms.told(who.outside) }, { i, { "normal (room): invite" } })
    end
    check.equal({ i, list(who.owner, "affiliation", "member"):match "member outside %-" or "" }, { i, row[4] })
    host:close()
  end
end)

check.test("§10.1.1 to §10.1.3: locked until it is configured; who leaves or cancels before takes it with him", function()
  local rows = {
    -- what the owner does, what he hears, is there a room then?
    { "<presence type='unavailable' to='%s/Owner'/>", { "-Owner none/none destroyed 110" }, false },
    { "<presence type='unavailable' to='%s'/>", { "-Owner owner/none 110" }, false },
    { "<iq type='set' id='c' to='%s'><query xmlns='http://jabber.org/protocol/muc#owner'>"
      .. "<x xmlns='jabber:x:data' type='cancel'/></query></iq>", { "-Owner none/none destroyed 110", "iq result" }, false },
    { "<iq type='set' id='c' to='%s'><query xmlns='http://jabber.org/protocol/muc#owner'>"
      .. "<x xmlns='jabber:x:data' type='submit'/></query></iq>", { "iq result" }, true },
    { "<iq type='get' id='c' to='%s'><query xmlns='http://jabber.org/protocol/muc#owner'/></iq>", { "iq result" }, "locked" },
  }
  for _, persistent in ipairs { false, true } do
    for i, row in ipairs(rows) do
      local host = rooms.new { muc_room_default_persistent = persistent }
      local owner, outside = rooms.person(host, "owner"), rooms.person(host, "outside")
      rooms.join(owner, "Owner")
      check.equal(rooms.told(owner)[1], "+Owner owner/moderator 110,201")
      rooms.join(outside, "Outside")
      check.equal(rooms.told(outside), { "presence error cancel item-not-found" })
      owner:send((row[1]:gsub("%%s", ROOM)))
      local told = rooms.told(owner)
      table.sort(told)
      check.equal({ i, told }, { i, row[2] })
      rooms.join(outside, "Outside")           -- gone without a tombstone: the name is free
      check.equal({ i, persistent, rooms.told(outside)[row[3] == true and 2 or 1] }, { i, persistent,
        row[3] == "locked" and "presence error cancel item-not-found" or row[3] and "+Outside none/participant 110"
        or "+Outside owner/moderator 110,201" })
      check.equal(host:close(), {})
    end
  end
end)

check.test("§10.2: owners and admins by the form: what becomes of who is not named any more, and what is seen of it", function()
  local function named(...)
    local out = { ... }
    for i, name in ipairs(out) do out[i] = name .. "@example.org" end
    return out
  end
  local rows = {
    -- before, form, answer, what the member sees
    { nil, { roomadmins = named() }, "ok", "+Boss none/participant" },
    { nil, { roomadmins = named("boss", "guest") }, "ok", "+Guest admin/moderator" },
    { nil, { roomowners = named("owner", "boss") }, "ok", "+Boss owner/moderator" },
    { nil, { roomowners = named("boss") }, "ok", "+Boss owner/moderator | +Owner admin/moderator" },
    { nil, { roomowners = named("boss"), roomadmins = named("mod") }, "ok",
      "+Boss owner/moderator | +Mod admin/moderator | +Owner none/participant" },
    { nil, { roomowners = named() }, "cancel conflict", "" },
    { nil, { roomowners = named("boss"), roomname = ("x"):rep(2000) }, "modify not-acceptable", "" },
    { { moderatedroom = "1" }, { roomadmins = named() }, "ok", "+Boss none/visitor" },
    { nil, { roomadmins = named("boss", "guest"), membersonly = "1" }, "ok", "+Guest admin/moderator | -Mod none/none 322" },
    { nil, { roomadmins = named("guest"), membersonly = "1" }, "ok",
      "+Boss member/participant | +Guest admin/moderator | -Mod none/none 322" },
  }
  for i, row in ipairs(rows) do
    local host, who = rooms.cast(row[1])
    check.equal({ i, rooms.result(rooms.configure(who.owner, row[2])) }, { i, row[3] })
    local seen = {}
    for _, line in ipairs(rooms.told(who.member)) do seen[#seen + 1] = line:find "^[+-]" and line or nil end
    table.sort(seen)
    check.equal({ i, table.concat(seen, " | ") }, { i, row[4] })
    host:close()
  end
end)

check.test("§10.2: the form says what is; cancelled, everything is as before", function()
  local host, who = rooms.cast { roomname = "Verona", moderatedroom = "1", allowpm = "moderators" }
  local function form() return tostring(rooms.ask(who.owner, "get", ("<query xmlns='%s#owner'/>"):format(MUC)).tags[1]) end
  local before = form()
  for field, value in pairs { roomname = "Verona", moderatedroom = "1", allowpm = "moderators", membersonly = "0",
    roomadmins = "boss@example.org", roomowners = "owner@example.org" } do
    local text = before:match("<field[^>]-var='muc#roomconfig_" .. field .. "'.-</field>")
    check.equal(text and text:match "<value>(.-)</value>", value, field)
  end
  check.equal(rooms.result(rooms.ask(who.owner, "set",
    ("<query xmlns='%s#owner'><x xmlns='jabber:x:data' type='cancel'/></query>"):format(MUC))), "ok")
  check.equal(form(), before)
  check.equal(rooms.told(who.guest), {})
  check.equal(rooms.result(rooms.ask(who.boss, "set",
    ("<query xmlns='%s#owner'><x xmlns='jabber:x:data' type='cancel'/></query>"):format(MUC))), "auth forbidden")
  host:close()
end)

check.test("§10.5, §10.8: in rooms where all see addresses, admins see these lists", function()
  local host, who = rooms.cast { whois = "anyone" }
  check.equal(list(who.boss, "affiliation", "owner"), "owner owner -")
  check.equal(list(who.boss, "affiliation", "admin"), "admin boss -")
  check.equal(list(who.outside, "affiliation", "owner"), "auth forbidden")
  check.equal(rooms.result(rooms.admin(who.boss, affiliation("guest", "owner"))), "auth forbidden")
  host:close()
end)

check.test("§10.9: destroyed: one presence to each, with everything the owner has said, within bounds", function()
  local host, who = rooms.cast { persistentroom = "1" }
  local function destroy(inner)
    return rooms.result(rooms.ask(who.owner, "set", ("<query xmlns='%s#owner'>%s</query>"):format(MUC, inner)))
  end
  check.equal(destroy("<destroy><reason>" .. ("x"):rep(1025) .. "</reason></destroy>"), "modify not-acceptable")
  check.equal(destroy("<destroy><password>" .. ("x"):rep(1025) .. "</password></destroy>"), "modify not-acceptable")
  check.equal(destroy "<destroy jid='@'/>", "modify jid-malformed")
  check.equal(rooms.told(who.guest), {})
  check.equal(destroy "<destroy jid='mantua@rooms.example.org'><reason>plague</reason><password>x</password></destroy>", "ok")
  local got = who.guest:received()
  check.equal(#got, 1)
  local told = got[1]:get_child("x", rooms.USER):get_child "destroy"
  check.equal({ got[1].attr.type, told.attr.jid, told:get_child_text "reason", told:get_child_text "password" },
    { "unavailable", "mantua@rooms.example.org", "plague", "x" })
  check.equal(#rooms.told(who.owner), 1)
  check.equal(host:run(function() return plugin.get_module(rooms.ROOMS, "muc").get_room_from_jid(ROOM) end), nil)
  host:close()
end)

check.done()
