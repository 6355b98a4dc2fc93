-- SPDX-License-Identifier: MIT
-- XEP-0045, sentence by sentence: what a service MUST and SHOULD do beyond the stories of mod_muc_test. Rows name the section.

local check = require "check"
local rooms = require "rooms_fixture"
local ROOM, USER = rooms.ROOM, rooms.USER
local MUC = "http://jabber.org/protocol/muc"

local function role(nick, value) return ("<item nick='%s' role='%s'/>"):format(nick, value) end
local function affiliation(who, value) return ("<item jid='%s@example.org' affiliation='%s'/>"):format(who, value) end

check.test("§5, §8, §9, §10: who may do what to whom", function()
  local rows = {
    -- section, actor, request, answer
    { "8.2", "mod", role("Boss", "none"), "cancel not-allowed" },
    { "8.2", "member", role("Guest", "none"), "auth forbidden" },
    { "8.2", "boss", role("Owner", "none"), "cancel not-allowed" },
    { "8.2", "mod", role("Guest", "none"), "ok" },
    { "8.3", "guest", role("Guest", "moderator"), "auth forbidden" },
    { "8.4", "mod", role("Boss", "visitor"), "cancel not-allowed" },
    { "8.4", "owner", role("Boss", "visitor"), "cancel not-allowed" },
    { "8.4", "mod", role("Member", "visitor"), "cancel not-allowed" },               -- at or above the moderator's level
    { "8.4", "boss", role("Member", "visitor"), "ok" },
    { "8.5", "boss", role("Member", "visitor") .. role("Owner", "visitor"), "cancel not-allowed" },
    { "9.1", "boss", affiliation("owner", "outcast"), "cancel not-allowed" },
    { "9.1", "boss", affiliation("boss", "outcast"), "cancel conflict" },
    { "9.1", "owner", affiliation("owner", "outcast"), "cancel conflict" },
    { "9.1", "mod", affiliation("guest", "outcast"), "auth forbidden" },
    { "9.2", "boss", affiliation("guest", "outcast") .. affiliation("owner", "outcast"), "cancel not-allowed" },
    { "9.3", "mod", affiliation("guest", "member"), "auth forbidden" },
    { "9.6", "mod", role("Guest", "moderator"), "auth forbidden" },
    { "9.6", "boss", role("Guest", "moderator"), "ok" },
    { "9.7", "boss", role("Mod", "participant"), "ok" },
    { "9.7", "boss", role("Owner", "participant"), "cancel not-allowed" },
    { "9.8", "owner", role("Boss", "participant") .. role("Mod", "participant"), "cancel not-allowed" },
    { "10.3", "boss", affiliation("guest", "owner"), "auth forbidden" },
    { "10.3", "member", affiliation("guest", "owner"), "auth forbidden" },
    { "10.4", "owner", affiliation("owner", "admin"), "cancel conflict" },
    { "10.6", "boss", affiliation("guest", "admin"), "auth forbidden" },
    { "10.7", "boss", affiliation("boss", "none"), "auth forbidden" },
    { "17.4", "owner", "<item nick='Guest' role='none' affiliation='none' jid='guest@example.org'/>", "modify bad-request" },
    { "9.1", "owner", "<item jid='guest@example.org/home' affiliation='outcast'/>", "ok" },       -- a full address is as good
  }
  for i, row in ipairs(rows) do
    local host, who = rooms.cast()
    local answer = rooms.result(rooms.admin(who[row[2]], row[3]))
    check.equal(("%d §%s %s"):format(i, row[1], answer), ("%d §%s %s"):format(i, row[1], row[4]))
    if row[4] ~= "ok" then                       -- nobody has been told of anything
      for name, client in pairs(who) do check.equal(#client:received(), 0, i .. " " .. name) end
    end
    host:close()
  end
end)

-- What each request to the room, the service or an occupant is answered with.
check.test("requests and what they are answered with", function()
  local DISCO = "http://jabber.org/protocol/disco#info"
  local function disco(node) return ("<query xmlns='%s' node='%s'/>"):format(DISCO, node) end
  local function list(what, value) return ("<query xmlns='%s#admin'><item %s='%s'/></query>"):format(MUC, what, value) end
  local register = "<query xmlns='jabber:iq:register'>%s</query>"
  local form = "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>%s</value></field>%s</x>"
  local rows = {
    -- section, who, type, payload, to, answer
    { "6.6", "outside", "get", ("<query xmlns='%s'/>"):format(DISCO), ROOM .. "/Owner", "modify bad-request" },
    { "7.12", "guest", "get", disco "x-roomuser-item", ROOM, "ok" },
    { "7.12", "outside", "get", disco "x-roomuser-item", ROOM, "ok" },
    { "18.1.1", "guest", "get", disco(MUC .. "#traffic"), ROOM, "cancel service-unavailable" },
    { "6.4", "guest", "get", disco "urn:example:nothing", ROOM, "cancel item-not-found" },
    { "7.10", "guest", "get", register:format "", ROOM, "cancel service-unavailable" },      -- a room that does not stay
    { "8.5", "mod", "get", list("role", "participant"), ROOM, "ok" },
    { "8.5", "member", "get", list("role", "participant"), ROOM, "auth forbidden" },
    { "9.2", "boss", "get", list("affiliation", "outcast"), ROOM, "ok" },
    { "9.2", "mod", "get", list("affiliation", "outcast"), ROOM, "auth forbidden" },
    { "10.5", "boss", "get", list("affiliation", "owner"), ROOM, "auth forbidden" },     -- semi-anonymous
    { "10.5", "owner", "get", list("affiliation", "owner"), ROOM, "ok" },
    { "10.8", "mod", "get", list("affiliation", "admin"), ROOM, "auth forbidden" },
    { "9.5", "boss", "get", list("affiliation", "member"), ROOM, "ok" },
    { "10.5", "guest", "get", list("affiliation", "owner"), ROOM, "auth forbidden" },
    { "9.5", "boss", "get", list("affiliation", "queen"), ROOM, "modify bad-request" },
    { "10.2", "boss", "get", ("<query xmlns='%s#owner'/>"):format(MUC), ROOM, "auth forbidden" },
    { "10.2", "boss", "set", ("<query xmlns='%s#owner'>%s</query>"):format(MUC, form:format(MUC .. "#roomconfig", "")), ROOM,
      "auth forbidden" },
    { "10.9", "boss", "set", ("<query xmlns='%s#owner'><destroy/></query>"):format(MUC), ROOM, "auth forbidden" },
    { "10.1.3", "owner", "set", ("<query xmlns='%s#owner'>%s</query>"):format(MUC, form:format(MUC .. "#roomconfig",
      "<field var='muc#roomconfig_passwordprotectedroom'><value>1</value></field>")), ROOM, "modify not-acceptable" },
    { "10.2", "owner", "set", ("<query xmlns='%s#owner'><x xmlns='jabber:x:data' type='cancel'/></query>"):format(MUC), ROOM,
      "ok" },
    { "17.2", "guest", "get", "<ping xmlns='urn:xmpp:ping'/>", "nowhere@" .. rooms.ROOMS, "cancel item-not-found" },
    { "17.4", "outside", "get", "<query xmlns='jabber:iq:version'/>", ROOM .. "/Owner", "modify not-acceptable" },
    { "17.4", "guest", "get", "<query xmlns='jabber:iq:version'/>", ROOM .. "/Nobody", "cancel item-not-found" },
  }
  for i, row in ipairs(rows) do
    local host, who = rooms.cast()
    local answer = rooms.result(rooms.ask(who[row[2]], row[3], row[4], row[5]))
    check.equal(("%d §%s %s"):format(i, row[1], answer), ("%d §%s %s"):format(i, row[1], row[6]))
    host:close()
  end
end)

check.test("who is refused is told why, for clients show the text", function()
  local rows = {
    { "owner", "<item affiliation='none' jid='%s'/>", "A room needs an owner: name another one first", "owner" },
    { "owner", "<item affiliation='outcast' jid='%s'/>", "You cannot ban yourself", "owner" },
    { "boss", "<item affiliation='outcast' jid='%s'/>", "Only owners may do that to admins and owners", "owner" },
    { "boss", "<item affiliation='admin' jid='%s'/>", "Only owners may make, or unmake, admins and owners", "guest" },
    { "mod", "<item affiliation='member' jid='%s'/>", "Only admins and owners may do that", "guest" },
    { "guest", "<item role='none' nick='Member'/>", "Only moderators may do that" },
    { "mod", "<item role='none' nick='Owner'/>", "You may not do that to somebody above you" },
    { "mod", "<item role='moderator' nick='Guest'/>", "Only admins and owners may make, or unmake, moderators" },
    { "owner", "<item role='visitor' nick='Owner'/>", "Admins and owners are moderators" },
    { "owner", "<item role='none' nick='Nurse'/>", "Nobody here has this nickname" },
  }
  local host, who = rooms.cast()
  local function text(iq) return select(3, iq:get_error()) end
  for i, row in ipairs(rows) do
    local item = row[2]:format(row[4] and row[4] .. "@example.org")
    check.equal({ i, text(rooms.admin(who[row[1]], item)) }, { i, row[3] })
  end
  check.equal(text(rooms.configure(who.owner, { roomowners = {} })), rows[1][3])
  check.equal(text(rooms.ask(who.guest, "get", "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='owner'/>"
    .. "</query>")), "You may not see this list")
  rooms.join(who.outside, "Guest")
  check.equal(text(who.outside:expect { name = "presence", type = "error" }), "This nickname is somebody else's")
  host:close()
end)

check.test("messages and presence, and what becomes of them", function()
  local rows = {
    -- section, who, stanza, what he is told, what the guest is told
    { "7.4", "outside", "<message to='%s' type='groupchat'><body>x</body></message>", "message error modify not-acceptable" },
    { "7.5", "owner", "<message to='%s/Guest' type='groupchat'><body>x</body></message>", "message error modify bad-request" },
    { "7.5", "owner", "<message to='%s/Nobody' type='chat'><body>x</body></message>", "message error cancel item-not-found" },
    { "7.5", "outside", "<message to='%s/Guest' type='chat'><body>x</body></message>", "message error modify not-acceptable" },
    { "7.5", "owner", "<message to='%s/Guest' type='chat'><body>psst</body></message>", nil, "chat Owner: psst" },
    { "7.6", "owner", "<presence to='%s/Guest'/>", "presence error cancel conflict" },
    { "7.2.1", "outside", "<presence to='%s'><x xmlns='http://jabber.org/protocol/muc'/></presence>",
      "presence error modify jid-malformed" },
    { "7.2.8", "outside", "<presence to='%s/Guest'><x xmlns='http://jabber.org/protocol/muc'/></presence>",
      "presence error cancel conflict" },
    { "7.2.18", "outside", "<presence to='%s/Outside'/>", "-Outside none/none 110,307,333" },
    { "7.14", "mod", "<presence to='%s/Mod' type='unavailable'/>", "-Mod none/none 110", "-Mod none/none" },
    { "8.1", "member", "<message to='%s' type='groupchat'><subject>x</subject></message>", "message error auth forbidden" },
    { "8.1", "mod", "<message to='%s' type='groupchat'><subject>x</subject></message>", "subject Mod: x", "subject Mod: x" },
    { "8.1", "member", "<message to='%s' type='groupchat'><subject>x</subject><body>y</body></message>", "groupchat Member: y",
      "groupchat Member: y" },
    { "8.1", "member", "<message to='%s' type='groupchat'><subject>x</subject><thread>y</thread></message>", "subject Member: x",
      "subject Member: x" },
    { "17.3", "outside", "<presence to='%s/Outside' type='unavailable'/>" },
    { "17.3", "outside", "<presence to='%s/Outside' type='subscribe'/>", "presence error modify bad-request" },
    { "17.3", "guest", "<presence to='%s/Guest' type='subscribe'/>", "presence error modify bad-request" },
    { "17.1", "outside", "<presence to='%s/ &#xa0; '><x xmlns='http://jabber.org/protocol/muc'/></presence>",
      "presence error modify not-acceptable" },
  }
  for i, row in ipairs(rows) do
    local host, who = rooms.cast()
    who[row[2]]:send((row[3]:gsub("%%s", ROOM)))
    local told = table.concat(rooms.told(who[row[2]]), " | ")
    check.equal(("%d §%s %s"):format(i, row[1], told), ("%d §%s %s"):format(i, row[1], row[4] or ""))
    if row[2] ~= "guest" then check.equal(table.concat(rooms.told(who.guest), " | "), row[5] or "", i .. " guest") end
    if row[1] == "8.1" then                    -- what those who come hear of it
      rooms.join(who.outside, "Outside")
      local last = rooms.told(who.outside)
      check.equal(last[#last], row[2] == "mod" and "subject Mod: x" or "subject (room): ", tostring(i))
    end
    host:close()
  end
end)

check.test("§7.2.9: admins find a place in a full room", function()
  local host, who = rooms.cast()
  check.equal(rooms.result(rooms.configure(who.owner, { maxusers = "5" })), "ok")
  rooms.join(who.outside, "Outside")
  check.equal(rooms.told(who.outside), { "presence error wait service-unavailable" })
  who.boss:send(("<presence type='unavailable' to='%s/Boss'/>"):format(ROOM))
  rooms.join(who.outside, "Outside")
  check.equal(#rooms.told(who.outside), 6)
  rooms.told(who.boss)
  rooms.join(who.boss, "Boss")
  check.equal(#rooms.told(who.boss), 7)
  host:close()
end)

check.test("§9.1: who is banned loses his nickname", function()
  local host, who = rooms.cast()
  rooms.configure(who.owner, { persistentroom = "1" })
  local function register(client, nick)
    return rooms.result(rooms.ask(client, "set", ([[<query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'>
      <field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#register</value></field>%s</x></query>]]):format(nick
      and ("<field var='muc#register_roomnick'><value>%s</value></field>"):format(nick) or "")))
  end
  check.equal(register(who.guest), "modify bad-request")
  check.equal(register(who.guest, "Guest"), "ok")
  check.equal(register(who.outside, "Guest"), "cancel conflict")
  rooms.admin(who.owner, affiliation("guest", "outcast"))
  check.equal(register(who.outside, "Guest"), "ok")
  rooms.admin(who.owner, affiliation("guest", "member"))
  rooms.join(who.guest, "Guest")
  check.equal(rooms.told(who.guest)[#rooms.told(who.guest)], nil)
  check.equal(register(who.guest, "Guest"), "cancel conflict")
  host:close()
end)

check.test("§17.3: who comes again with other presence is seen by the others", function()
  local host, who = rooms.cast()
  rooms.join(who.guest, "Guest", nil, "<show>away</show>")
  check.equal(#rooms.told(who.guest), 6)          -- four others, himself, the subject
  check.equal(who.owner:received()[1]:get_child_text "show", "away")
  rooms.join(who.guest, "Guest", nil, "<show>away</show>")
  check.equal(#rooms.told(who.guest), 6)
  check.equal(rooms.told(who.owner), {})
  host:close()
end)

check.test("§17.2: to a room that is locked nobody writes", function()
  local host = rooms.new { muc_room_locking = true }
  local owner, outside = rooms.person(host, "owner"), rooms.person(host, "outside")
  rooms.join(owner, "Owner")
  rooms.say(outside, "hello?")
  check.equal(rooms.told(outside), { "message error cancel item-not-found" })
  -- §10.1.3: cancelled, it is gone, with a word about it
  rooms.told(owner)
  owner:send(("<iq type='set' id='c' to='%s'><query xmlns='%s#owner'><x xmlns='jabber:x:data' type='cancel'/></query></iq>")
    :format(ROOM, MUC))
  local told = rooms.told(owner)
  table.sort(told)
  check.equal(told, { "-Owner none/none destroyed 110", "iq result" })
  host:close()
end)

check.test("§8.5, §9, §17.4: what lists say of each", function()
  local host, who = rooms.cast()
  local function items(what, value)
    local out = {}
    local reply = rooms.ask(who.owner, "get", ("<query xmlns='%s#admin'><item %s='%s'/></query>"):format(MUC, what, value))
    for item in reply.tags[1]:childtags "item" do
      local a = item.attr
      out[#out + 1] = ("%s %s %s %s"):format(a.nick or "-", a.role or "-", a.affiliation or "-", a.jid or "-")
    end
    table.sort(out)
    return table.concat(out, "; ")
  end
  check.equal(items("role", "moderator"), "Boss moderator admin boss@example.org/home; Mod moderator none mod@example.org/home; "
    .. "Owner moderator owner owner@example.org/home")
  check.equal(items("affiliation", "member"), "- - member member@example.org")
  rooms.admin(who.owner, "<item jid='x@example.org' affiliation='outcast' nick='X'/>")
  check.equal(items("affiliation", "outcast"), "- - outcast x@example.org")
  host:close()
end)

check.test("§7.14, §8.2, §8.3, §9.1: who goes is told first, then who has asked, then all others", function()
  for i, row in ipairs {                       -- items, what their sender hears in order; who goes
    { role("Guest", "none"), { "iq result", "-Guest none/none 307" }, "guest" },
    { role("Guest", "none") .. role("Member", "none"), { "iq result", "-Guest none/none 307", "-Member member/none 307" },
      "guest" },
    { affiliation("guest", "outcast"), { "iq result", "-Guest outcast/none 301" }, "guest" },
    { affiliation("guest", "outcast") .. affiliation("outside", "outcast"), { "iq result", "-Guest outcast/none 301" }, "guest" },
    { role("Guest", "visitor"), { "iq result", "+Guest none/visitor" } },
    { affiliation("guest", "member"), { "iq result", "+Guest member/participant" } },
    { nil, { "-Guest none/none" }, "guest" },                        -- §7.14: he goes himself
  } do
    local host, who = rooms.cast()
    local order = {}
    for _, name in ipairs { "boss", "guest", "owner" } do
      local session = who[name].session
      local send = session.send
      session.send = function(x)
        order[#order + 1] = name .. " " .. x.name
        return send(x)
      end
    end
    if row[1] then
      who.boss:send(("<iq type='set' id='k' to='%s'><query xmlns='%s#admin'>%s</query></iq>"):format(ROOM, MUC, row[1]))
    else
      who.guest:send(("<presence type='unavailable' to='%s/Guest'/>"):format(ROOM))
    end
    check.equal({ i, rooms.told(who.boss) }, { i, row[2] })
    if row[3] then
      check.equal({ i, order[1], row[1] and order[2] }, { i, row[3] .. " presence", row[1] and "boss iq" })
    else
      check.equal({ i, order[1] }, { i, "boss iq" })
    end
    check.equal(#rooms.told(who.owner), #row[2] - (row[1] and 1 or 0))
    host:close()
  end
end)

check.test("§16.5: fields of the configuration, and what discovery tells of them", function()
  local host, who = rooms.cast()
  check.equal(rooms.result(rooms.configure(who.owner, { roomname = "Verona", roomdesc = "Two households", lang = "it",
    pubsub = "xmpp:pubsub.example.org?;node=verona", changesubject = "1", historylength = "7",
    ["x-roomconfig_contactjid"] = { "owner@example.org", "friar@example.org" },
    ["x-roomconfig_logs"] = "https://example.org/logs/", ["x-roomconfig_ldapgroup"] = "cn=verona,dc=example,dc=org" })), "ok")
  local info = tostring(rooms.ask(who.guest, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>"))
  for field, value in pairs { roominfo_description = "Two households", roominfo_lang = "it", roominfo_occupants = "5",
    roomconfig_pubsub = "xmpp:pubsub.example.org?;node=verona", roomconfig_changesubject = "1", roominfo_subjectmod = "1",
    maxhistoryfetch = "7", roominfo_logs = "https://example.org/logs/", roominfo_ldapgroup = "cn=verona,dc=example,dc=org",
    roominfo_contactjid = "owner@example.org</value><value>friar@example.org" } do
    check.equal(info:match("'muc#" .. field .. "'[^>]*>.-<value>(.-)</value></field>"), value, field)
  end
  local crowd = {}
  for i = 1, 21 do crowd[i] = i .. "@example.org" end
  for _, row in ipairs { { ["x-roomconfig_contactjid"] = "not an address@" }, { ["x-roomconfig_logs"] = ("x"):rep(1025) },
    { ["x-roomconfig_contactjid"] = crowd } } do
    check.equal(rooms.result(rooms.configure(who.owner, row)), "modify not-acceptable")
  end
  check.equal(rooms.result(rooms.configure(who.owner, { ["x-roomconfig_contactjid"] = {}, ["x-roomconfig_logs"] = "" })), "ok")
  local bare = tostring(rooms.ask(who.guest, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>"))
  check.ok(not bare:find "contactjid" and not bare:find "roominfo_logs")
  check.ok(info:find("name='Verona'", 1, true))
  local form = tostring(rooms.ask(who.owner, "get", ("<query xmlns='%s#owner'/>"):format(MUC)))
  for _, field in ipairs { "allowinvites", "allowpm", "changesubject", "getmemberlist", "lang", "maxusers", "membersonly",
    "moderatedroom", "passwordprotectedroom", "persistentroom", "presencebroadcast", "publicroom", "pubsub", "roomadmins",
    "roomdesc", "roomname", "roomowners", "roomsecret", "whois" } do
    check.ok(form:find("var='muc#roomconfig_" .. field .. "'", 1, true), field)
  end
  host:close()
end)

check.test("§10.2.1: codes of changes that concern privacy, and of all others", function()
  local rows = {
    { { whois = "anyone" }, "172" }, { { roomname = "x" }, "104" }, { { whois = "anyone", roomname = "x" }, "104,172" },
    { { membersonly = "0" }, "" }, { { moderatedroom = "1" }, "104" },
  }
  for i, row in ipairs(rows) do
    local host, who = rooms.cast()
    rooms.configure(who.owner, row[1])
    local told = rooms.told(who.guest)
    check.equal(told, row[2] == "" and {} or { "groupchat (room):  " .. row[2] }, tostring(i))
    host:close()
  end
end)

check.test("§7.4: the id a client has chosen stays; unknown elements pass, the room's own do not", function()
  local host, who = rooms.cast()
  who.member:send(("<message to='%s' type='groupchat' id='mine'><body>x</body><x xmlns='urn:example:y'/>"
    .. "<x xmlns='%s'/></message>"):format(ROOM, USER))
  local got = who.guest:received()[1]
  check.equal(got.attr.id, "mine")
  check.ok(got:get_child("x", "urn:example:y"))
  check.equal(got:get_child("x", USER), nil)
  local info = rooms.ask(who.guest, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>").tags[1]
  for _, var in ipairs { MUC, MUC .. "#stable_id", "muc_open", "muc_unmoderated", "muc_unsecured", "muc_temporary", "muc_public",
    "muc_semianonymous" } do
    check.ok(info:get_child_with_attr("feature", nil, "var", var), var)
  end
  local service = rooms.ask(who.guest, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>", rooms.ROOMS).tags[1]
  check.ok(service:get_child_with_attr("feature", nil, "var", MUC))
  check.ok(service:get_child_with_attr("feature", nil, "var", MUC .. "#stable_id"))
  host:close()
end)

check.done()
