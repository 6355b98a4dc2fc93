-- SPDX-License-Identifier: MIT
-- XEP-0045, use case by use case. Headings name the sections.

local check = require "check"
local plugin = require "couplet.plugin"

local rooms = require "rooms_fixture"
local ROOMS, ROOM, USER, new, person = rooms.ROOMS, rooms.ROOM, rooms.USER, rooms.new, rooms.person
local join, told = rooms.join, rooms.told
local ask, result, admin, configure, say = rooms.ask, rooms.result, rooms.admin, rooms.configure, rooms.say

check.test("§7.2: entering; everybody is told in the right order; leaving", function()
  local host = new()
  local romeo, juliet = person(host, "romeo"), person(host, "juliet")
  join(romeo, "Romeo")
  check.equal(told(romeo), { "+Romeo owner/moderator 110,201", "subject (room): " })
  join(juliet, "Juliet")
  check.equal(told(juliet), { "+Romeo owner/moderator", "+Juliet none/participant 110", "subject (room): " })
  check.equal(told(romeo), { "+Juliet none/participant" })
  say(juliet, "O Romeo")
  check.equal(told(romeo), { "groupchat Juliet: O Romeo" })
  check.equal(told(juliet), { "groupchat Juliet: O Romeo" })
  juliet:send(("<presence type='unavailable' to='%s/Juliet'><status>good night</status></presence>"):format(ROOM))
  check.equal(told(juliet), { "-Juliet none/none 110" })
  local seen = romeo:received()[1]
  check.equal(seen:get_child_text "status", "good night")
  check.equal(host:close(), {})
end)

check.test("who has gone is shown to nobody who comes, whether he came first or last", function()
  local host = new()
  local people = {}
  for i = 1, 4 do
    people[i] = person(host, "p" .. i)
    join(people[i], "P" .. i)
  end
  for _, gone in ipairs { 4, 2 } do
    people[gone]:send(("<presence type='unavailable' to='%s/P%d'/>"):format(ROOM, gone))
    local late = person(host, "late" .. gone)
    join(late, "Late")
    for _, line in ipairs(told(late)) do check.ok(not line:find("P" .. gone, 1, true), line) end
    late:send(("<presence type='unavailable' to='%s/Late'/>"):format(ROOM))
  end
  check.equal(host:close(), {})
end)

check.test("§7.2: who does not get in, and why", function()
  local host = new()
  local romeo, juliet, nurse = person(host, "romeo"), person(host, "juliet"), person(host, "nurse")
  join(romeo, "Romeo")
  romeo:received()
  join(juliet, "Romeo")
  check.equal(told(juliet), { "presence error cancel conflict" })
  juliet:send(("<presence to='%s'><x xmlns='http://jabber.org/protocol/muc'/></presence>"):format(ROOM))
  check.equal(told(juliet), { "presence error modify jid-malformed" })
  juliet:send(("<presence to='%s/Juliet'/>"):format(ROOM))                  -- §7.2.1: groupchat 1.0 is gone
  check.equal(told(juliet), { "-Juliet none/none 110,307,333" })
  configure(romeo, { passwordprotectedroom = "1", roomsecret = "sesame" })
  join(juliet, "Juliet")
  check.equal(told(juliet), { "presence error auth not-authorized" })
  join(juliet, "Juliet", "<password>sesame</password>")
  check.equal(told(juliet)[2], "+Juliet none/participant 110")
  admin(romeo, "<item affiliation='outcast' jid='nurse@example.org'/>")
  join(nurse, "Nurse", "<password>sesame</password>")
  check.equal(told(nurse), { "presence error auth forbidden" })
  configure(romeo, { passwordprotectedroom = "0", membersonly = "1" })
  local out = told(juliet)
  check.equal(out[#out], "-Juliet none/none 110,322")
  join(juliet, "Juliet")
  check.equal(told(juliet), { "presence error auth registration-required" })
  admin(romeo, "<item affiliation='member' jid='juliet@example.org'/>")
  join(juliet, "Juliet")
  check.equal(told(juliet)[2], "+Juliet member/participant 110")
  configure(romeo, { membersonly = "0", maxusers = "2" })
  admin(romeo, "<item affiliation='none' jid='nurse@example.org'/>")
  join(nurse, "Nurse")
  check.equal(told(nurse), { "presence error wait service-unavailable" })
  check.equal(result(configure(romeo, { maxusers = "none" })), "ok")          -- the word of §10.1.3
  join(nurse, "Nurse")
  check.ok(told(nurse)[1]:find "^%+")
  check.equal(result(configure(romeo, { maxusers = "none", whois = "nobody" })), "modify not-acceptable")
  host:close()
end)

check.test("§7.6: another nickname; §7.2.8: two resources under one", function()
  local host = new()
  local romeo, juliet = person(host, "romeo"), person(host, "juliet")
  local phone = host:client "romeo@example.org/phone"
  join(romeo, "Romeo")
  join(juliet, "Juliet")
  romeo:received()
  juliet:received()
  juliet:send(("<presence to='%s/Capulet'/>"):format(ROOM))
  check.equal(told(romeo), { "-Juliet none/participant ->Capulet 303", "+Capulet none/participant" })
  check.equal(told(juliet), { "-Juliet none/participant ->Capulet 110,303", "+Capulet none/participant 110" })
  juliet:send(("<presence to='%s/Romeo'/>"):format(ROOM))
  check.equal(told(juliet), { "presence error cancel conflict" })
  join(phone, "Romeo")
  check.equal(told(phone), { "+Capulet none/participant", "+Romeo owner/moderator 110", "subject (room): " })
  say(juliet, "hi")
  check.equal(told(phone), { "groupchat Capulet: hi" })
  romeo:received()
  phone:send(("<presence to='%s/Romeo' type='unavailable'/>"):format(ROOM))
  check.equal(told(phone), { "-Romeo owner/none 110" })
  check.equal(told(juliet), { "groupchat Capulet: hi" })                  -- nobody else sees one of two go
  say(juliet, "still there?")
  check.equal(told(romeo), { "groupchat Capulet: still there?" })
  host:close()
end)

check.test("§7.4, §7.5, §8.5: voice, private messages, who may write", function()
  local host = new()
  local romeo, juliet, nurse = person(host, "romeo"), person(host, "juliet"), person(host, "nurse")
  join(romeo, "Romeo")
  join(juliet, "Juliet")
  for _, c in ipairs { romeo, juliet } do c:received() end
  say(nurse, "let me in")
  check.equal(told(nurse), { "message error modify not-acceptable" })
  local function pm(client, nick, kind)
    client:send(("<message to='%s/%s' type='%s'><body>psst</body></message>"):format(ROOM, nick, kind or "chat"))
  end
  pm(juliet, "Romeo")
  check.equal(told(romeo), { "chat Juliet: psst" })
  pm(juliet, "Paris")
  check.equal(told(juliet), { "message error cancel item-not-found" })
  pm(juliet, "Romeo", "groupchat")
  check.equal(told(juliet), { "message error modify bad-request" })
  pm(nurse, "Romeo")
  check.equal(told(nurse), { "message error modify not-acceptable" })
  configure(romeo, { allowpm = "moderators", moderatedroom = "1" })
  juliet:received()
  pm(juliet, "Romeo")
  check.equal(told(juliet), { "message error cancel policy-violation" })
  check.equal(result(admin(romeo, "<item nick='Juliet' role='visitor'/>")), "ok")
  check.equal(told(juliet), { "+Juliet none/visitor 110" })
  say(juliet, "may I?")
  check.equal(told(juliet), { "message error auth forbidden" })
  romeo:received()
  juliet:send(([[<message to='%s'><x xmlns='jabber:x:data' type='submit'>
    <field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#request</value></field>
    <field var='muc#role'><value>participant</value></field></x></message>]]):format(ROOM))
  local form = romeo:expect(function(s) return s:get_child("x", "jabber:x:data") ~= nil end)
  check.ok(tostring(form):find("Juliet", 1, true))
  romeo:send(([[<message to='%s'><x xmlns='jabber:x:data' type='submit'>
    <field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#request</value></field>
    <field var='muc#roomnick'><value>Juliet</value></field><field var='muc#request_allow'><value>1</value></field>
    </x></message>]]):format(ROOM))
  check.equal(told(juliet), { "+Juliet none/participant 110" })
  host:close()
end)

check.test("§8.2, §9.1: out, for now and for good; what the kicked and the others are told", function()
  local host = new()
  local romeo, juliet, nurse = person(host, "romeo"), person(host, "juliet"), person(host, "nurse")
  for client, nick in pairs { [romeo] = "Romeo" } do join(client, nick) end
  join(juliet, "Juliet")
  join(nurse, "Nurse")
  for _, c in ipairs { romeo, juliet, nurse } do c:received() end
  check.equal(result(admin(juliet, "<item nick='Nurse' role='none'/>")), "auth forbidden")
  check.equal(result(admin(romeo, "<item nick='Nurse' role='none'><reason>noise</reason></item>")), "ok")
  check.equal(told(nurse), { "-Nurse none/none 110,307" })
  check.equal(told(juliet), { "-Nurse none/none 307" })
  join(nurse, "Nurse")
  nurse:received()
  juliet:received()
  check.equal(result(admin(romeo, "<item affiliation='outcast' jid='nurse@example.org'/>")), "ok")
  check.equal(told(nurse), { "-Nurse outcast/none 110,301" })
  check.equal(told(juliet), { "-Nurse outcast/none 301" })
  check.equal(result(admin(romeo, "<item nick='Nobody' role='none'/>")), "cancel item-not-found")
  check.equal(result(admin(romeo, "<item nick='Juliet' role='queen'/>")), "modify not-acceptable")
  check.equal(result(admin(romeo, "<item nick='Juliet' role='none' affiliation='none'/>")), "modify bad-request")
  check.equal(result(admin(romeo, "<item affiliation='outcast' jid='romeo@example.org'/>")), "cancel conflict")
  host:close()
end)

check.test("§5.2, §9, §10: who may change whom", function()
  local host = new()
  local owner, adm, member = person(host, "owner"), person(host, "boss"), person(host, "member")
  join(owner, "Owner")
  admin(owner, "<item affiliation='admin' jid='boss@example.org'/><item affiliation='member' jid='member@example.org'/>")
  join(adm, "Boss")
  join(member, "Member")
  local rows = {
    { adm, "<item affiliation='admin' jid='x@example.org'/>", "auth forbidden" },
    { adm, "<item affiliation='none' jid='owner@example.org'/>", "auth forbidden" },
    { adm, "<item affiliation='member' jid='x@example.org'/>", "ok" },
    { adm, "<item nick='Owner' role='none'/>", "cancel not-allowed" },
    { adm, "<item nick='Member' role='moderator'/>", "ok" },
    { member, "<item nick='Boss' role='visitor'/>", "cancel not-allowed" },
    { member, "<item affiliation='member' jid='y@example.org'/>", "auth forbidden" },
    { owner, "<item affiliation='none' jid='owner@example.org'/>", "cancel conflict" },
    { owner, "<item affiliation='owner' jid='second@example.org'/><item affiliation='none' jid='owner@example.org'/>",
      "cancel conflict" },
    { owner, "<item affiliation='owner' jid='boss@example.org'/>", "ok" },
    { owner, "<item affiliation='none' jid='owner@example.org'/>", "ok" },
    { owner, "<item affiliation='member' jid='y@example.org'/>", "auth forbidden" },
  }
  for i, row in ipairs(rows) do check.equal(i .. " " .. result(admin(row[1], row[2])), i .. " " .. row[3]) end
  -- All or nothing (§9.2): the second is refused, so the first is not done.
  check.equal(result(admin(adm, "<item affiliation='outcast' jid='z@example.org'/>"
    .. "<item affiliation='strange' jid='q@example.org'/>")),
    "modify not-acceptable")
  local list = ask(adm, "get", "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='outcast'/></query>")
  check.equal(#list.tags[1].tags, 0)
  list = ask(adm, "get", "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='member'/></query>")
  check.equal(#list.tags[1].tags, 2)
  check.equal(result(ask(member, "get",
    "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='outcast'/></query>")),
    "auth forbidden")
  host:close()
end)

check.test("§7.2.3: who sees whose address", function()
  local host = new()
  local romeo, juliet = person(host, "romeo"), person(host, "juliet")
  join(romeo, "Romeo")
  join(juliet, "Juliet")
  local function item_of(client, nick)
    local found
    for _, s in ipairs(client:received()) do
      if s.name == "presence" and s.attr.from == ROOM .. "/" .. nick then found = s:get_child("x", USER):get_child "item" end
    end
    return found
  end
  check.equal(item_of(juliet, "Romeo").attr.jid, nil)
  check.equal(item_of(romeo, "Juliet").attr.jid, "juliet@example.org/home")
  configure(romeo, { whois = "anyone" })
  local codes = told(juliet)
  check.equal(codes[#codes], "groupchat (room):  172")
  local nurse = person(host, "nurse")
  join(nurse, "Nurse")
  check.equal(item_of(juliet, "Nurse").attr.jid, "nurse@example.org/home")
  local got = told(nurse)
  check.equal(got[3], "+Nurse none/participant 100,110")
  host:close()
end)

check.test("§7.2.14, §7.2.15, §8.1: history in its bounds, then the subject, who may change it", function()
  local host = new()
  local romeo, juliet, nurse = person(host, "romeo"), person(host, "juliet"), person(host, "nurse")
  join(romeo, "Romeo")
  for i = 1, 5 do say(romeo, "line " .. i) host:advance(10) end
  romeo:send(("<message to='%s' type='groupchat'><subject>Love</subject></message>"):format(ROOM))
  local heard = told(romeo)
  check.equal(heard[#heard], "subject Romeo: Love")
  join(juliet, "Juliet", "<history maxstanzas='2'/>")
  check.equal(told(juliet), { "+Romeo owner/moderator", "+Juliet none/participant 110", "groupchat Romeo: line 4",
    "groupchat Romeo: line 5",
    "subject Romeo: Love" })
  juliet:send(("<message to='%s' type='groupchat'><subject>War</subject></message>"):format(ROOM))
  check.equal(told(juliet), { "message error auth forbidden" })
  join(nurse, "Nurse", "<history seconds='25'/>")
  check.equal(#told(nurse), 3 + 2 + 1)
  nurse:send(("<presence to='%s/Nurse' type='unavailable'/>"):format(ROOM))
  nurse:received()
  join(nurse, "Nurse", "<history maxchars='0'/>")
  check.equal(#told(nurse), 3 + 1)
  host:close()
end)

check.test("§7.8: invitations and what becomes of them", function()
  local host = new()
  local romeo, juliet = person(host, "romeo"), person(host, "juliet")
  juliet:send "<presence/>"
  juliet:received()
  join(romeo, "Romeo")
  configure(romeo, { membersonly = "1", passwordprotectedroom = "1", roomsecret = "sesame" })
  romeo:received()
  romeo:send(("<message to='%s'><x xmlns='%s'><invite to='juliet@example.org'><reason>come</reason></invite></x></message>")
    :format(ROOM, USER))
  local invite = juliet:expect { name = "message" }
  check.equal(invite:find("{" .. USER .. "}x/invite/reason#"), "come")
  check.equal(invite:find("{" .. USER .. "}x/password#"), "sesame")
  check.equal(invite:find("{" .. USER .. "}x/invite@from"), ROOM .. "/Romeo")
  juliet:send(("<message to='%s'><x xmlns='%s'><decline to='%s/Romeo'/></x></message>"):format(ROOM, USER, ROOM))
  check.equal(told(romeo), { "normal (room): decline" })
  join(juliet, "Juliet", "<password>sesame</password>")                 -- the invitation made her a member
  check.equal(told(juliet)[2], "+Juliet member/participant 110")
  juliet:send(("<message to='%s'><x xmlns='%s'><invite to='nurse@example.org'/></x></message>"):format(ROOM, USER))
  check.equal(told(juliet), { "message error auth forbidden" })
  host:close()
end)

check.test("§10.1: a new room is closed until it is configured, and gone if nobody does", function()
  local host = new {}
  local romeo, juliet = person(host, "romeo"), person(host, "juliet")
  join(romeo, "Romeo")
  check.equal(told(romeo)[1], "+Romeo owner/moderator 110,201")
  join(juliet, "Juliet")
  check.equal(told(juliet), { "presence error cancel item-not-found" })
  check.equal(result(configure(romeo, {})), "ok")                      -- an instant room
  join(juliet, "Juliet")
  check.equal(told(juliet)[2], "+Juliet none/participant 110")
  host:close()
  host = new {}
  romeo = person(host, "romeo")
  join(romeo, "Romeo")
  romeo:received()
  host:advance(301)
  check.equal(told(romeo), { "-Romeo none/none destroyed 110" })
  host:close()
end)

check.test("§10.2, §10.9: configured, kept, destroyed", function()
  local host = new()
  local romeo, juliet = person(host, "romeo"), person(host, "juliet")
  join(romeo, "Romeo")
  join(juliet, "Juliet")
  check.equal(result(configure(juliet, { roomname = "x" })), "auth forbidden")
  check.equal(result(configure(romeo, { whois = "strange" })), "modify not-acceptable")
  check.equal(result(configure(romeo, { maxusers = "-3" })), "modify not-acceptable")
  check.equal(result(configure(romeo, { persistentroom = "1", roomname = "Verona", publicroom = "0" })), "ok")
  local out = told(juliet)
  check.equal(out[#out], "groupchat (room):  104")
  for _, c in ipairs { romeo, juliet } do
    c:send(("<presence to='%s/%s' type='unavailable'/>"):format(ROOM, c == romeo and "Romeo" or "Juliet"))
  end
  host:run(function() assert(plugin.unload(ROOMS, "muc")) assert(plugin.load(ROOMS, "muc")) end)
  local info = ask(juliet, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>")
  check.equal(info:find "{http://jabber.org/protocol/disco#info}query/identity@name", "Verona")
  check.ok(tostring(info):find("muc_hidden", 1, true) and tostring(info):find("muc_persistent", 1, true))
  juliet:received()
  join(juliet, "Juliet")
  check.equal(told(juliet), { "+Juliet none/participant 110", "subject (room): " })
  join(romeo, "Romeo")
  juliet:received()
  check.equal(result(ask(juliet, "set", "<query xmlns='http://jabber.org/protocol/muc#owner'><destroy/></query>")),
    "auth forbidden")
  check.equal(result(ask(romeo, "set",
    "<query xmlns='http://jabber.org/protocol/muc#owner'><destroy jid='mantua@rooms.example.org'><reason>plague</reason>" ..
    "</destroy></query>")), "ok")
  check.equal(told(juliet), { "-Juliet none/none destroyed 110" })
  check.equal(result(ask(romeo, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>")), "cancel gone")
  check.equal(host:close(), {})
end)

check.test("a room that was kept and is destroyed leaves a tombstone: gone, why, and where to", function()
  local host = new { muc_room_locking = false, muc_tombstone_expiry = 100 }
  local romeo, juliet, boss = person(host, "romeo"), person(host, "juliet"), person(host, "admin")
  local function destroyed(inner)
    join(romeo, "Romeo")
    configure(romeo, { persistentroom = "1" })
    check.equal(result(ask(romeo, "set", "<query xmlns='http://jabber.org/protocol/muc#owner'>" .. inner .. "</query>")), "ok")
    romeo:received()
  end
  local function gone(reply)
    local kind, condition, text = reply:get_error()
    local where = reply:get_child "error":get_child_text("gone", "urn:ietf:params:xml:ns:xmpp-stanzas")
    return { kind, condition, text or "", where or "" }
  end
  local GONE = { "cancel", "gone", "plague", "xmpp:mantua@rooms.example.org?join" }
  destroyed "<destroy jid='mantua@rooms.example.org'><reason>plague</reason></destroy>"
  local INFO = "<query xmlns='http://jabber.org/protocol/disco#info'/>"
  for _ = 1, 2 do                              -- as it is, and after a restart
    join(juliet, "Juliet")
    local refused = juliet:received()[1]
    check.equal(gone(refused), GONE)
    check.ok(refused:get_child("x", "http://jabber.org/protocol/muc"))
    check.equal(gone(ask(juliet, "get", INFO)), GONE)
    check.equal(gone(ask(juliet, "get", "<query xmlns='jabber:iq:version'/>")), GONE)
    rooms.say(juliet, "hello?")
    check.equal(gone(juliet:received()[1]), GONE)
    juliet:send(("<presence to='%s/Juliet' type='unavailable'/>"):format(ROOM))
    juliet:send(("<message to='%s' type='error'><error type='cancel'/></message>"):format(ROOM))
    check.equal(#juliet:received(), 0)
    host:run(function() assert(plugin.unload(rooms.ROOMS, "muc")) assert(plugin.load(rooms.ROOMS, "muc")) end)
  end
  join(romeo, "Romeo")                         -- not even who owned it
  check.equal(gone(romeo:received()[1]), GONE)
  join(boss, "Admin")
  check.equal(told(boss)[1], "+Admin owner/moderator 110,201")
  boss:send(("<presence to='%s/Admin' type='unavailable'/>"):format(ROOM))
  destroyed "<destroy/>"                       -- one that nobody kept had left none, so the name is free
  join(juliet, "Juliet")
  check.equal(gone(juliet:received()[1]), { "cancel", "gone", "", "" })
  host:advance(101)
  join(juliet, "Juliet")
  check.equal(told(juliet)[1], "+Juliet owner/moderator 110,201")
  check.equal(host:close(), {})

  host = new { muc_room_locking = false, muc_tombstones = false }
  romeo = person(host, "romeo")
  destroyed "<destroy/>"
  join(romeo, "Romeo")
  check.equal(told(romeo)[1], "+Romeo owner/moderator 110,201")
  host:run(function()                          -- as Prosody keeps one
    assert(plugin.unload(rooms.ROOMS, "muc"))
    local store = require "couplet.store".open(rooms.ROOMS, "config", "keyval")
    assert(store:set("tomb", { _jid = "tomb@" .. rooms.ROOMS, _affiliations = {},
      _data = { destroyed = true, persistent = true, locked = os.time() + 50, reason = "moved", newjid = "x@example.org" } }))
    assert(plugin.load(rooms.ROOMS, "muc"))
  end)
  check.equal(gone(ask(romeo, "get", INFO, "tomb@" .. rooms.ROOMS)), { "cancel", "gone", "moved", "xmpp:x@example.org?join" })
  host:close()
end)

check.test("§6: the service, its rooms in pages, a room, its occupants", function()
  local host = new()
  local romeo, juliet = person(host, "romeo"), person(host, "juliet")
  host:run(function()
    local muc = plugin.get_module(ROOMS, "muc")
    for i = 1, 5 do assert(muc.create_room("r" .. i .. "@" .. ROOMS, { persistent = true, name = "Room " .. i })) end
    assert(muc.create_room("secret@" .. ROOMS, { persistent = true, public = false }))
  end)
  local items = ask(romeo, "get", "<query xmlns='http://jabber.org/protocol/disco#items'/>", ROOMS)
  check.equal(#items.tags[1].tags, 5)
  items = ask(romeo, "get", "<query xmlns='http://jabber.org/protocol/disco#items'>" ..
    "<set xmlns='http://jabber.org/protocol/rsm'><max>2</max><after>r2@rooms.example.org</after></set></query>", ROOMS)
  check.equal(items:find "{http://jabber.org/protocol/disco#items}query/item@jid", "r3@rooms.example.org")
  check.equal(items:find "{http://jabber.org/protocol/disco#items}query/{http://jabber.org/protocol/rsm}set/count#", "5")
  local info = tostring(ask(romeo, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>", ROOMS))
  check.ok(info:find("category='conference'", 1, true) and info:find("http://jabber.org/protocol/muc'", 1, true))
  join(romeo, "Romeo")
  items = ask(juliet, "get", "<query xmlns='http://jabber.org/protocol/disco#items'/>")
  check.equal(items:find "{http://jabber.org/protocol/disco#items}query/item@jid", ROOM .. "/Romeo")
  check.equal(result(ask(juliet, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>", ROOM .. "/Romeo")),
    "modify bad-request")
  check.equal(result(ask(juliet, "get", "<query xmlns='jabber:iq:version'/>", "none@" .. ROOMS)), "cancel item-not-found")
  host:close()
end)

check.test("§17.4, XEP-0410: questions between occupants; am I still here?", function()
  local host = new()
  local romeo, juliet, nurse = person(host, "romeo"), person(host, "juliet"), person(host, "nurse")
  join(romeo, "Romeo")
  join(juliet, "Juliet")
  romeo:received()
  juliet:send(("<iq type='get' id='v' to='%s/Romeo'><query xmlns='jabber:iq:version'/></iq>"):format(ROOM))
  local asked = romeo:expect { name = "iq", type = "get" }
  check.equal(asked.attr.from, ROOM .. "/Juliet")
  romeo:send(("<iq type='result' id='%s' to='%s'><query xmlns='jabber:iq:version'/></iq>"):format(asked.attr.id, asked.attr.from))
  local answer = juliet:expect { name = "iq", id = "v", type = "result" }
  juliet:received()
  check.equal(answer.attr.from, ROOM .. "/Romeo")
  romeo:send(("<iq type='result' id='bm90IHRydWU=' to='%s/Juliet'/>"):format(ROOM))       -- an answer nobody asked for
  check.equal(#juliet:received(), 0)
  check.equal(result(ask(juliet, "get", "<ping xmlns='urn:xmpp:ping'/>", ROOM .. "/Juliet")), "ok")
  check.equal(result(ask(nurse, "get", "<ping xmlns='urn:xmpp:ping'/>", ROOM .. "/Nurse")), "modify not-acceptable")
  host:close()
end)

check.test("§12.8: whose client says that it is gone, is gone", function()
  local host = new()
  local romeo, juliet = person(host, "romeo"), person(host, "juliet")
  join(romeo, "Romeo")
  join(juliet, "Juliet")
  romeo:received()
  juliet:send(("<message type='error' to='%s'><error type='cancel'>"
    .. "<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"):format(ROOM))
  check.equal(told(romeo), { "-Juliet none/none 333" })
  host:close()
end)

check.test("XEP-0410: occupants on other servers who have gone in silence are asked, and leave", function()
  local host = new { muc_ping_interval = 60, muc_room_locking = false }
  local romeo = person(host, "romeo")
  join(romeo, "Romeo")
  local function remote(xml)
    host:run(function()
      local stanza = require "util.xml".parse(xml)
      require "couplet.router".core_post_stanza({ type = "s2sin", host = ROOMS, from_host = "far.example", to_host = ROOMS,
        send = function() end }, stanza)
    end)
  end
  local out = {}
  require "couplet.hosts".get(ROOMS).events.add_handler("route/remote", function(event)
    out[#out + 1] = require "couplet.stanza".clone(event.stanza)
    return true
  end)
  local function sent()
    local list = out
    out = {}
    return list
  end
  local function asked(who)
    for _, s in ipairs(sent()) do
      if s.attr.to == who and s.name == "iq" then return s.attr.id end
      if s.attr.to == who and s.name == "message" and not s.tags[1] then return "message" end
    end
  end
  local names = { "silent", "there", "talks", "mute" }
  for _, name in ipairs(names) do
    remote(("<presence from='%s@far.example/x' to='%s/%s'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
      :format(name, ROOM, name))
  end
  host:advance(59)
  remote(("<presence from='talks@far.example/x' to='%s/talks'/>"):format(ROOM))
  sent()
  romeo:received()
  host:advance(2)                              -- all of them have been heard in the first round
  check.equal(asked "silent@far.example/x", nil)
  host:advance(10)
  remote(("<presence from='talks@far.example/x' to='%s/talks'/>"):format(ROOM))
  sent()
  host:advance(50)
  local list = sent()
  local ids = {}
  for _, s in ipairs(list) do if s.name == "iq" then ids[s.attr.to:match "^[^@]+"] = s.attr.id end end
  check.equal(ids.talks, nil)
  check.ok(ids.silent and ids.there and ids.mute)
  remote(("<iq type='result' from='there@far.example/x' to='%s' id='%s'/>"):format(ROOM, ids.there))
  remote(("<iq type='error' from='mute@far.example/x' to='%s' id='%s'><error type='cancel'><service-unavailable " ..
    "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"):format(ROOM, ids.mute))
  check.equal(asked "mute@far.example/x", "message")
  romeo:received()
  host:advance(59)                             -- silent's answer is overdue
  local heard = table.concat(told(romeo), " ")
  check.ok(heard:find("-silent none/none 333", 1, true), heard)
  check.ok(not heard:find "%-there" and not heard:find "%-mute", heard)
  check.equal(host:close(), {})
end)

check.test("§7.10: registration keeps a nickname; XEP-0421: occupants have ids that stay", function()
  local host = new()
  local romeo, juliet, nurse = person(host, "romeo"), person(host, "juliet"), person(host, "nurse")
  join(romeo, "Romeo")
  configure(romeo, { persistentroom = "1" })
  local function register(client, nick)
    return ask(client, "set", ([[<query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'>
      <field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#register</value></field>
      <field var='muc#register_roomnick'><value>%s</value></field></x></query>]]):format(nick))
  end
  check.equal(result(register(juliet, "Juliet")), "ok")
  check.equal(result(register(nurse, "Juliet")), "cancel conflict")
  join(nurse, "Juliet")
  check.equal(told(nurse), { "presence error cancel conflict" })
  local info = ask(juliet, "get", "<query xmlns='http://jabber.org/protocol/disco#info' node='x-roomuser-item'/>")
  check.equal(info:find "{http://jabber.org/protocol/disco#info}query/identity@name", "Juliet")
  join(juliet, "Juliet")
  local function id_in(client)
    for _, s in ipairs(client:received()) do
      if s.attr.from == ROOM .. "/Juliet" and s:get_child("occupant-id", "urn:xmpp:occupant-id:0") then
        return s:get_child("occupant-id", "urn:xmpp:occupant-id:0").attr.id
      end
    end
  end
  local first = id_in(romeo)
  check.ok(first and not first:find "juliet")
  juliet:send(("<message to='%s' type='groupchat'><body>x</body>"
    .. "<occupant-id xmlns='urn:xmpp:occupant-id:0' id='forged'/></message>"):format(ROOM))
  check.equal(id_in(romeo), first)
  check.equal(result(ask(juliet, "set", "<query xmlns='jabber:iq:register'><remove/></query>")), "ok")
  check.equal(result(register(nurse, "Juliet")), "cancel conflict")       -- she still sits there under that name

  -- XEP-0421 §4: every presence has one, the last as well
  local function farewell()
    local ids = {}
    for i, client in ipairs { romeo, juliet } do
      for _, s in ipairs(client:received()) do
        if s.attr.from == ROOM .. "/Juliet" and s.attr.type == "unavailable" then
          local id = s:get_child("occupant-id", "urn:xmpp:occupant-id:0")
          ids[i] = id and id.attr.id or "none"
          check.equal(select(2, tostring(s):gsub("<occupant%-id", "")), 1)
        end
      end
    end
    return ids
  end
  romeo:received()
  juliet:received()
  juliet:send(("<presence type='unavailable' to='%s/Juliet'><status>good night</status></presence>"):format(ROOM))
  check.equal(farewell(), { first, first })
  join(juliet, "Juliet")
  ask(romeo, "set", "<query xmlns='http://jabber.org/protocol/muc#admin'><item nick='Juliet' role='none'/></query>")
  check.equal(farewell(), { first, first })

  -- §4: so has all that is told at the door, the subject of somebody who has gone too, once
  join(juliet, "Juliet")
  ask(romeo, "set", "<query xmlns='http://jabber.org/protocol/muc#admin'><item nick='Juliet' role='moderator'/></query>")
  juliet:send(("<message to='%s' type='groupchat'><subject>balcony</subject></message>"):format(ROOM))
  juliet:send(("<presence type='unavailable' to='%s/Juliet'/>"):format(ROOM))
  host:run(function() assert(plugin.unload(rooms.ROOMS, "muc")) assert(plugin.load(rooms.ROOMS, "muc")) end)
  nurse:received()
  join(nurse, "Nurse")
  local marks = {}
  for _, s in ipairs(nurse:received()) do
    if s.name == "message" and s.attr.from == ROOM .. "/Juliet" then
      for mark in s:childtags("occupant-id", "urn:xmpp:occupant-id:0") do marks[#marks + 1] = mark.attr.id end
      check.equal(s:get_child_text "subject", "balcony")
    end
  end
  check.equal(marks, { first })
  host:close()
end)

check.test("XEP-0486: a room's picture", function()
  local host = new()
  local romeo, juliet = person(host, "romeo"), person(host, "juliet")
  join(romeo, "Romeo")
  join(juliet, "Juliet")
  local function card(client, inner, kind)
    return ask(client, kind or "set", "<vCard xmlns='vcard-temp'>" .. (inner or "") .. "</vCard>")
  end
  local function hash()
    local field = tostring(ask(juliet, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>"))
      :match "roominfo_avatarhash'[^>]*><value>(.-)</value></field>"
    return field and (field:gsub("</value><value>", " ")) or nil
  end
  local photo = "<PHOTO><TYPE>image/png</TYPE><BINVAL>Zm9v</BINVAL></PHOTO>"
  check.equal(result(card(juliet, photo)), "auth forbidden")
  check.equal(result(card(romeo, "<PHOTO><BINVAL>*</BINVAL></PHOTO>")), "modify bad-request")
  check.equal(result(card(romeo, "<DESC>" .. ("x"):rep(98304) .. "</DESC>")), "modify policy-violation")
  check.equal(card(juliet, nil, "get"):find "{vcard-temp}vCard/PHOTO", nil)
  juliet:received()
  check.equal(result(card(romeo, photo)), "ok")
  check.equal(told(juliet), { "groupchat (room):  104", "+(room) ?/?" })       -- and a presence with the hash (XEP-0153)
  check.equal(card(juliet, nil, "get"):find "{vcard-temp}vCard/PHOTO/BINVAL#", "Zm9v")
  check.equal(hash(), "0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33")
  check.equal(result(card(romeo, photo .. "<PHOTO><TYPE>image/gif</TYPE><BINVAL>YmFy</BINVAL></PHOTO>")), "ok")
  check.equal(hash(), "0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33 62cdb7020ff920e5aa642c3d4066950dd1f01f4d")
  check.equal(result(card(romeo)), "ok")
  check.equal(hash(), nil)
  check.equal(card(juliet, nil, "get"):find "{vcard-temp}vCard/PHOTO", nil)
  check.equal(host:close(), {})
end)

check.test("who may make rooms", function()
  local host = new { restrict_room_creation = true, muc_room_locking = false }
  local romeo, adm = person(host, "romeo"), person(host, "admin")
  join(romeo, "Romeo")
  check.equal(told(romeo), { "presence error cancel not-allowed" })
  join(adm, "Admin")
  check.equal(told(adm)[1], "+Admin owner/moderator 110,201")
  host:close()
end)

check.test("administrators alone keep rooms and list them, where the configuration says so", function()
  local host = new { muc_room_allow_persistent = false, muc_room_allow_public = false, muc_room_default_public = false,
    muc_room_locking = false }
  local romeo, adm = person(host, "romeo"), person(host, "admin")
  join(romeo, "Romeo")
  local function info()
    romeo:received()
    local text = tostring(ask(romeo, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>"))
    return (text:match "muc_persistent" or text:match "muc_temporary") .. " "
      .. (text:match "muc_public" or text:match "muc_hidden")
  end
  local form = tostring(ask(romeo, "get", "<query xmlns='http://jabber.org/protocol/muc#owner'/>"))
  check.equal({ form:find "persistentroom", form:find "publicroom", form:find "membersonly" ~= nil }, { nil, nil, true })
  check.equal(result(configure(romeo, { persistentroom = "1", publicroom = "1", membersonly = "0" })), "ok")
  check.equal(info(), "muc_temporary muc_hidden")
  check.equal(result(configure(adm, { persistentroom = "1", publicroom = "1" })), "ok")
  check.equal(info(), "muc_persistent muc_public")
  check.equal(result(configure(romeo, { persistentroom = "0", publicroom = "0" })), "ok")
  check.equal(info(), "muc_persistent muc_public")
  check.equal(host:close(), {})
end)

check.test("the service itself is no room", function()
  local host = new()
  local romeo = person(host, "romeo")
  romeo:send(("<presence to='%s/Romeo'><x xmlns='http://jabber.org/protocol/muc'/></presence>"):format(ROOMS))
  romeo:received()
  host:run(function()
    for room in plugin.get_module(ROOMS, "muc").each_room() do error("a room: " .. room.jid) end
  end)
  check.equal(host:close(), {})
end)

check.test("§7.2: who comes again hears all of it again, and nobody else hears of it", function()
  local host = new()
  local romeo, juliet = person(host, "romeo"), person(host, "juliet")
  join(romeo, "Romeo")
  join(juliet, "Juliet")
  romeo:received()
  juliet:received()
  join(juliet, "Juliet")
  check.equal(told(juliet), { "+Romeo owner/moderator", "+Juliet none/participant 110", "subject (room): " })
  check.equal(told(romeo), {})
  join(juliet, "Capulet")                      -- lost its memory, and comes under another name
  check.equal(told(juliet), { "-Juliet none/participant ->Capulet 110,303", "+Romeo owner/moderator",
    "+Capulet none/participant 110", "subject (room): " })
  check.equal(told(romeo), { "-Juliet none/participant ->Capulet 303", "+Capulet none/participant" })
  juliet:send(("<presence to='%s/Capulet'><status>%s</status></presence>"):format(ROOM, ("x"):rep(20000)))
  check.equal(told(juliet), { "presence error modify policy-violation" })
  check.equal(host:close(), {})
end)

check.test("§7.2.8: others see the resource that came first, then the next", function()
  local host = new()
  local romeo, juliet = person(host, "romeo"), person(host, "juliet")
  local phone = host:client "romeo@example.org/phone"
  join(romeo, "Romeo")
  join(phone, "Romeo", nil, "<show>away</show>")
  join(juliet, "Juliet")
  check.equal(juliet:expect(function(s) return s.attr.from == ROOM .. "/Romeo" end):get_child_text "show", nil)
  juliet:received()
  phone:send(("<presence to='%s/Romeo'><show>xa</show></presence>"):format(ROOM))
  check.equal(told(juliet), {})
  romeo:send(("<presence to='%s/Romeo' type='unavailable'/>"):format(ROOM))
  check.equal(juliet:expect { name = "presence" }:get_child_text "show", "xa")
  check.equal(host:close(), {})
end)

check.test("§10: whose presence is shown", function()
  local host = new()
  local romeo, juliet, nurse = person(host, "romeo"), person(host, "juliet"), person(host, "nurse")
  join(romeo, "Romeo")
  configure(romeo, { presencebroadcast = { "participant", "moderator" } })
  join(juliet, "Juliet")
  join(nurse, "Nurse")
  for _, c in ipairs { romeo, juliet, nurse } do c:received() end
  admin(romeo, "<item nick='Nurse' role='visitor'/>")
  check.equal(told(juliet), { "-Nurse none/none" })
  check.equal(told(nurse), { "+Nurse none/visitor 110" })
  check.equal(told(romeo), { "+Nurse none/visitor" })
  local items = ask(juliet, "get", "<query xmlns='http://jabber.org/protocol/disco#items'/>")
  check.equal(#items.tags[1].tags, 2)
  admin(romeo, "<item nick='Nurse' role='participant'/>")
  check.equal(told(juliet), { "+Nurse none/participant" })
  -- §9.6: a new moderator sees who the others are
  juliet:received()
  admin(romeo, "<item nick='Juliet' role='moderator'/>")
  local seen = juliet:expect(function(s) return s.attr.from == ROOM .. "/Nurse" end)
  check.equal(seen:get_child("x", USER):get_child "item".attr.jid, "nurse@example.org/home")
  check.equal(host:close(), {})
end)

check.test("rooms outlive a reload; unloaded, they say so", function()
  local host = new()
  local romeo, juliet = person(host, "romeo"), person(host, "juliet")
  join(romeo, "Romeo")
  join(juliet, "Juliet")
  romeo:received()
  host:run(function() assert(plugin.reload(ROOMS, "muc")) end)
  juliet:received()
  say(romeo, "still here")
  check.equal(told(juliet), { "groupchat Romeo: still here" })
  host:run(function() assert(plugin.unload(ROOMS, "muc")) end)
  check.equal(told(juliet), { "-Juliet none/none 110,332" })
  host:close()
  host = new {}
  romeo = person(host, "romeo")
  join(romeo, "Romeo")                         -- a locked room is watched after a reload as well
  host:run(function() assert(plugin.reload(ROOMS, "muc")) end)
  romeo:received()
  host:advance(301)
  check.equal(told(romeo), { "-Romeo none/none destroyed 110" })
  host:close()
end)

-- Whatever a handler that waits lets happen meanwhile happens here inside the handler.
check.test("handlers may wait: somebody else speaks, kicks or destroys meanwhile", function()
  local host = new()
  local romeo, juliet = person(host, "romeo"), person(host, "juliet")
  join(romeo, "Romeo")
  join(juliet, "Juliet")
  juliet:received()
  local events = require "couplet.hosts".get(ROOMS).events
  local room = host:run(function() return plugin.get_module(ROOMS, "muc").get_room_from_jid(ROOM) end)
  local function during(event, meanwhile, fn)
    local function handler(data)
      events.remove_handler(event, handler)
      meanwhile(data)
    end
    events.add_handler(event, handler, 1000)
    fn()
  end
  during("muc-broadcast-message", function()
    room:handle_groupchat_to_room(juliet.session, require "util.stanza".message({ from = "juliet@example.org/home", to = ROOM,
      type = "groupchat" }, "quick"))
  end, function() say(romeo, "slow") end)
  local ids = {}
  for _, s in ipairs(juliet:received()) do
    ids[s:get_child_text "body" or ""] = s:get_child("occupant-id", "urn:xmpp:occupant-id:0").attr.id
  end
  check.ok(ids.slow and ids.quick and ids.slow ~= ids.quick)
  during("muc-occupant-pre-change", function() room:set_role(true, ROOM .. "/Juliet", nil) end, function()
    juliet:send(("<presence to='%s/Capulet'/>"):format(ROOM))
  end)
  say(romeo, "alone")
  check.equal(told(juliet), { "-Juliet none/none 110,307" })
  during("muc-occupant-pre-join", function() assert(room:destroy()) end, function() join(juliet, "Juliet") end)
  check.equal(told(juliet), { "presence error cancel item-not-found" })
  check.equal(host:close(), {})
end)

check.test("limits: rooms of one account; administrators own all rooms; rooms nobody keeps", function()
  local host = new { muc_max_rooms_per_account = 2, muc_room_locking = false }
  local romeo, adm = person(host, "romeo"), person(host, "admin")
  local function enter(client, room)
    client:received()
    client:send(("<presence to='%s@%s/me'><x xmlns='http://jabber.org/protocol/muc'/></presence>"):format(room, ROOMS))
    return told(client)[1]
  end
  check.equal(enter(romeo, "one"), "+me owner/moderator 110,201")
  check.equal(enter(romeo, "two"), "+me owner/moderator 110,201")
  check.equal(enter(romeo, "three"), "presence error wait resource-constraint")
  romeo:send(("<presence to='one@%s/me' type='unavailable'/>"):format(ROOMS))
  check.equal(enter(romeo, "three"), "+me owner/moderator 110,201")
  adm:send(("<presence to='two@%s/adm'><x xmlns='http://jabber.org/protocol/muc'/></presence>"):format(ROOMS))
  check.equal(told(adm)[2], "+adm owner/moderator 110")
  local function owner(client, field, value)
    return result(ask(client, "set", ([[<query xmlns='http://jabber.org/protocol/muc#owner'>
      <x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value>
      </field><field var='muc#roomconfig_%s'><value>%s</value></field></x></query>]])
      :format(field, value), "two@" .. ROOMS))
  end
  check.equal(owner(adm, "persistentroom", 1), "ok")
  for _, c in ipairs { romeo, adm } do
    c:send(("<presence to='two@%s/%s' type='unavailable'/>"):format(ROOMS, c == romeo and "me" or "adm"))
  end
  check.equal(owner(romeo, "persistentroom", 0), "ok")
  check.equal(owner(romeo, "persistentroom", 0), "cancel item-not-found")
  check.equal(host:close(), {})
end)

check.test("forged words of the room do not pass", function()
  local host = new()
  local romeo, juliet = person(host, "romeo"), person(host, "juliet")
  join(romeo, "Romeo")
  join(juliet, "Juliet")
  juliet:received()
  romeo:send(("<message to='%s' type='groupchat'><body>x</body><x xmlns='%s'><status code='307'/></x></message>"):format(ROOM,
    USER))
  check.equal(told(juliet), { "groupchat Romeo: x" })
  romeo:send(("<message to='%s' type='groupchat'><body>x</body><stanza-id xmlns='urn:xmpp:sid:0' by='%s' id='1'/>"
    .. "<delay xmlns='urn:xmpp:delay' from='%s' stamp='2020-01-01T00:00:00Z'/></message>"):format(ROOM, ROOM, ROOM))
  local forged = juliet:expect { name = "message" }
  check.equal(forged:get_child("delay", "urn:xmpp:delay"), nil)
  for id in forged:childtags("stanza-id", "urn:xmpp:sid:0") do check.ok(id.attr.id ~= "1") end
  romeo:send(("<presence to='%s/Romeo'><x xmlns='%s'><item affiliation='none' role='none'/></x></presence>"):format(ROOM, USER))
  check.equal(told(juliet), { "+Romeo owner/moderator" })
  host:close()
end)

check.done()
