-- SPDX-License-Identifier: MIT
-- What strangers, occupants and owners can try with a room: each is answered, and nobody else notices.

local check = require "check"
local rooms = require "rooms_fixture"
local plugin = require "couplet.plugin"
local ROOM, MUC = rooms.ROOM, "http://jabber.org/protocol/muc"

local function pair(options, plugins)
  local host = rooms.new(options, nil, plugins)
  local romeo, juliet = rooms.person(host, "romeo"), rooms.person(host, "juliet")
  rooms.join(romeo, "Romeo")
  rooms.join(juliet, "Juliet")
  romeo:received()
  juliet:received()
  return host, romeo, juliet
end

check.test("absurd nicknames", function()
  local rows = {
    -- nickname as it is in XML, how it appears; false: refused
    { "plain", "plain" }, { "🌹&#x301;", "🌹\u{301}" }, { "&apos;&quot;&lt;&amp;&gt;", "'\"<&>" }, { "a/b@c", "a/b@c" },
    { "  x  ", "  x  " },
    { ("n"):rep(100), ("n"):rep(100) }, { ("n"):rep(101), false }, { ("&#xe9;"):rep(51), false }, { " ", false },
    { "&#x3000;", false },
    { "&#x200b;", false }, { "&#x202e;x", false }, { "x&#xad;y", "xy" }, { "a&#x9;b", false },
    { "&#x2800;", false }, { "x&#x2800;", false }, { "&#x115f;", false }, { "x&#x1160;y", false }, { "&#x17b4;", false },
    { "&#x3164;", false }, { "x&#x3164;", false }, { "&#xffa0;", false }, { "x&#x200b;y", "xy" }, { "x&#xfe0f;", "x" },
    -- Resourceprep keeps blanks at the ends (§17.1), so these are other names than Romeo, who sits there
    { "Romeo ", "Romeo " }, { " Romeo", " Romeo" }, { "Romeo&#xa0;", "Romeo " }, { "Rom&#xad;eo", false },
  }
  for i, row in ipairs(rows) do
    local host, romeo = pair()
    local stranger = rooms.person(host, "stranger")
    stranger:send(("<presence to='%s/%s'><x xmlns='%s'/></presence>"):format(ROOM, row[1], MUC))
    local seen = romeo:received()[1]
    if row[2] then
      check.equal(seen and seen.attr.from, ROOM .. "/" .. row[2], tostring(i))
    else
      check.equal(seen, nil, i .. ": " .. tostring(seen))
      check.equal(stranger:received()[1].attr.type, "error", tostring(i))
    end
    host:close()
  end
end)

check.test("a subject that is no text is refused, and the old one stays", function()
  local host, romeo, juliet = pair()
  romeo:send(("<message to='%s' type='groupchat'><subject>a<b xmlns='urn:x'/></subject></message>"):format(ROOM))
  local answer = romeo:received()[1]
  check.equal(answer.attr.type, "error")
  check.equal(select(2, answer:get_error()), "bad-request")
  check.equal(juliet:received()[1], nil)
  host:close()
end)

check.test("history asked for with absurd numbers", function()
  local rows = {
    -- attributes of <history/>, messages
    { "maxstanzas='0'", 0 }, { "maxstanzas='-1'", 3 }, { "maxstanzas='99999999999999999999999999'", 3 },
    { "maxstanzas='1e9'", 3 },
    { "maxstanzas='0x2'", 3 }, { "maxstanzas='2.5'", 3 }, { "maxstanzas='2'", 2 }, { "maxchars='1'", 0 }, { "seconds='-5'", 3 },
    { "seconds='99999999999999999'", 3 }, { "since='yesterday'", 3 }, { "since='9999-12-31T23:59:59Z'", 0 },
    { "since='0001-01-01T00:00:00Z'", 3 }, { "maxchars='NaN' maxstanzas='' seconds='inf'", 3 },
  }
  local host, romeo = pair()
  for i = 1, 3 do rooms.say(romeo, "word " .. i) end
  for i, row in ipairs(rows) do
    local stranger = rooms.person(host, "stranger" .. i)
    rooms.join(stranger, "S" .. i, "<history " .. row[1] .. "/>")
    local n = 0
    for _, line in ipairs(rooms.told(stranger)) do n = n + (line:find "^groupchat" and 1 or 0) end
    check.equal(n, row[2], row[1])
  end
  host:close()
end)

check.test("what is missing, malformed, doubled or too much: the exact error, at once, and nobody else hears of it", function()
  local host, romeo, juliet = pair()
  check.equal(rooms.result(rooms.configure(romeo, { persistentroom = "1" })), "ok")
  local function long(n) return ("x"):rep(n) end
  local function many(n, text) return (text:rep(n):gsub("%%", function() n = n - 1 return n end)) end
  local function admin(items) return ("<query xmlns='%s#admin'>%s</query>"):format(MUC, items) end
  local function owner(inner) return ("<query xmlns='%s#owner'>%s</query>"):format(MUC, inner) end
  local function register(...)
    local out = { ("<query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'>"
      .. "<field var='FORM_TYPE'><value>%s#register</value></field>"):format(MUC) }
    for _, nick in ipairs { ... } do
      out[#out + 1] = ("<field var='muc#register_roomnick'><value>%s</value></field>"):format(nick)
    end
    return table.concat(out) .. "</x></query>"
  end
  local rows = {
    -- who, kind of iq or message, content, answer
    { romeo, "set", admin "", "modify bad-request" },
    { romeo, "set", admin "<item/>", "modify bad-request" },
    { romeo, "set", admin "<item affiliation='member'/>", "modify bad-request" },
    { romeo, "set", admin "<item affiliation='member' role='visitor' nick='Juliet'/>", "modify bad-request" },
    { romeo, "set", admin "<item affiliation='king' jid='a@example.org'/>", "modify not-acceptable" },
    { romeo, "set", admin "<item role='king' nick='Juliet'/>", "modify not-acceptable" },
    { romeo, "set", admin "<item role='visitor' nick='Nobody'/>", "cancel item-not-found" },
    { romeo, "set", admin "<item role='visitor'/>", "modify bad-request" },
    { romeo, "set", admin "<item affiliation='member' jid='@@@'/>", "modify jid-malformed" },
    { romeo, "set", admin "<item affiliation='member' jid=''/>", "modify jid-malformed" },
    { romeo, "set", admin "<item affiliation='member' jid='a@example.org/'/>", "modify jid-malformed" },
    { romeo, "set", admin("<item affiliation='member' jid='" .. long(1100) .. "@example.org'/>"), "modify jid-malformed" },
    { romeo, "set", admin("<item affiliation='member' jid='a@example.org'><reason>" .. long(2000) .. "</reason></item>"),
      "modify not-acceptable" },
    { romeo, "set", admin("<item affiliation='member' jid='a@example.org' nick='" .. long(101) .. "'/>"),
      "modify not-acceptable" },
    { romeo, "set", admin "<item affiliation='member' jid='a@example.org' nick=' '/>", "modify not-acceptable" },
    { romeo, "set", admin(many(10000, "<item affiliation='member' jid='p%%@example.org'/>")), "modify policy-violation" },
    { romeo, "set", admin(many(10000, "<item role='visitor' nick='Juliet'/>")), "modify policy-violation" },
    { romeo, "get", admin(many(10000, "<item affiliation='member'/>")), "modify bad-request" },
    { romeo, "get", admin "<item/>", "modify bad-request" },
    { romeo, "set", owner "", "modify bad-request" },
    { romeo, "set", owner "<destroy jid='@@@'/>", "modify jid-malformed" },
    { romeo, "set", owner "<x xmlns='jabber:x:data' type='form'/>", "modify bad-request" },
    { juliet, "set", "<query xmlns='jabber:iq:register'/>", "modify bad-request" },
    { juliet, "set", register(), "modify bad-request" },
    { juliet, "set", register "", "modify bad-request" },
    { juliet, "set", register " ", "modify not-acceptable" },
    { juliet, "set", register(long(101)), "modify not-acceptable" },
    { juliet, "set", register "Romeo", "cancel conflict" },
    { romeo, "groupchat", "<subject>" .. long(2049) .. "</subject>", "modify policy-violation" },
    { juliet, "groupchat", "<subject/>", "auth forbidden" },
    { juliet, "normal", ("<x xmlns='%s#user'><invite/></x>"):format(MUC), "modify jid-malformed" },
    { juliet, "normal", ("<x xmlns='%s#user'><invite to='@@@'/></x>"):format(MUC), "modify jid-malformed" },
    { juliet, "normal", ("<x xmlns='%s#user'>%s</x>"):format(MUC, many(21, "<invite to='p%%@example.org'/>")),
      "modify policy-violation" },
    { juliet, "normal", ("<x xmlns='%s#user'><decline/></x>"):format(MUC), "modify jid-malformed" },
    { juliet, "normal", ("<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>%s#register</value></field></x>")
      :format(MUC), "auth forbidden" },
  }
  for i, row in ipairs(rows) do
    local client, kind, inner = row[1], row[2], row[3]
    romeo:received()
    juliet:received()
    local began = os.clock()
    if kind == "get" or kind == "set" then
      check.equal({ i, rooms.result(rooms.ask(client, kind, inner)) }, { i, row[4] })
    else
      client:send(("<message to='%s' type='%s'>%s</message>"):format(ROOM, kind, inner))
      local answers = client:received()
      check.equal({ i, #answers, table.concat({ answers[1]:get_error() }, " ", 1, 2) }, { i, 1, row[4] })
    end
    check.ok(os.clock() - began < 1, i .. ": " .. os.clock() - began)
    check.equal({ i, #(client == romeo and juliet or romeo):received() }, { i, 0 })
  end
  check.equal(#rooms.ask(romeo, "get", admin "<item affiliation='member'/>").tags[1].tags, 0)     -- nothing of it was done
  check.equal(host:close(), {})
end)

check.test("lists of ten thousand: told now and then, whoever asks", function()
  local host, romeo, juliet = pair()
  for i = 0, 9 do
    local items = {}
    for k = 1, 999 do items[k] = ("<item affiliation='outcast' jid='p%d@example.net'/>"):format(i * 1000 + k) end
    check.equal(rooms.result(rooms.admin(romeo, table.concat(items))), "ok")
  end
  local function ask()
    return rooms.ask(romeo, "get", ("<query xmlns='%s#admin'><item affiliation='outcast'/></query>"):format(MUC))
  end
  check.equal(#ask().tags[1].tags, 9990)
  check.equal(rooms.result(ask()), "ok")
  check.equal(rooms.result(ask()), "wait resource-constraint")
  rooms.say(juliet, "still here")
  check.equal(rooms.told(romeo), { "groupchat Juliet: still here" })
  host:advance(10)
  check.equal(rooms.result(ask()), "ok")
  local items = {}
  for k = 1, 100 do items[k] = ("<item affiliation='outcast' jid='q%d@example.net'/>"):format(k) end
  check.equal(rooms.result(rooms.admin(romeo, table.concat(items))), "wait resource-constraint")
  host:close()
end)

check.test("a room is no way to write to everybody", function()
  local host, romeo = pair()
  local n = 0
  host:run(function()
    plugin.get_module(rooms.ROOMS, "muc").module:hook("muc-invite", function() n = n + 1 end)
  end)
  local invite = {}
  for i = 1, 20 do invite[i] = ("<invite to='p%d@example.net'/>"):format(i) end
  for _ = 1, 10 do
    romeo:send(("<message to='%s'><x xmlns='%s#user'>%s</x></message>"):format(ROOM, MUC, table.concat(invite)))
  end
  check.equal(n, 60)
  check.equal(#rooms.told(romeo), 7)
  romeo:send(("<message to='%s'><x xmlns='%s#user'>%s</x></message>"):format(ROOM, MUC, ("<invite to='p@example.net'/>"):rep(21)))
  check.equal(rooms.told(romeo), { "message error modify policy-violation" })
  host:advance(600)
  romeo:send(("<message to='%s'><x xmlns='%s#user'><invite to='p@example.net'/></x></message>"):format(ROOM, MUC))
  check.equal(n, 61)
  host:close()
end)

check.test("closed to all but members, and a domain shut out: who goes hears of himself alone, the others of each", function()
  local host, romeo, juliet = pair()
  rooms.admin(romeo, "<item affiliation='member' jid='juliet@example.org'/>")
  local function crowd()
    local guests = {}
    for i = 1, 120 do
      guests[i] = rooms.person(host, "g" .. i)
      rooms.join(guests[i], "G" .. i)
    end
    host:advance(1)
    for _, guest in ipairs(guests) do guest:received() end
    romeo:received()
    juliet:received()
    return guests
  end
  local guests = crowd()
  check.equal(rooms.result(rooms.configure(romeo, { membersonly = "1" })), "ok")
  for i, guest in ipairs(guests) do check.equal(rooms.told(guest), { ("-G%d none/none 110,322"):format(i) }) end
  check.equal(#rooms.told(juliet), 121)          -- and 104
  rooms.configure(romeo, { membersonly = "0" })
  guests = crowd()
  check.equal(rooms.result(rooms.admin(romeo, "<item affiliation='outcast' jid='example.org'/>")), "ok")
  for i, guest in ipairs(guests) do check.equal(rooms.told(guest), { ("-G%d outcast/none 110,301"):format(i) }) end
  check.equal(#rooms.told(juliet), 120)          -- she is a member herself, and stays
  host:close()
end)

check.test("a flood of coming, going and renaming in a room of many is let through by and by, others between", function()
  local host, romeo, juliet = pair()
  for i = 1, 60 do rooms.join(rooms.person(host, "g" .. i), "G" .. i) end
  host:advance(1)
  romeo:received()
  local flood = rooms.person(host, "flood")
  for i = 1, 50 do
    rooms.join(flood, "F" .. i)
    flood:send(("<presence to='%s/F%d-'/>"):format(ROOM, i))
    flood:send(("<presence to='%s/F%d-' type='unavailable'/>"):format(ROOM, i))
  end
  host:advance(1)
  check.equal(#romeo:received(), 200)            -- comes, goes and comes under another name, goes
  rooms.say(juliet, "still here")
  check.equal(rooms.told(romeo), { "groupchat Juliet: still here" })
  check.equal(host:close(), {})
end)

local function at(name) return name .. "@" .. rooms.ROOMS end

check.test("rooms made and left, again and again: so many in ten minutes of one account", function()
  local host = rooms.new()
  local romeo, juliet, boss = rooms.person(host, "romeo"), rooms.person(host, "juliet"), rooms.person(host, "admin")
  local function make(client, name)
    rooms.join(client, "me", nil, nil, at(name))
    local told = rooms.told(client)[1]
    client:send(("<presence type='unavailable' to='%s/me'/>"):format(at(name)))
    client:received()
    return told
  end
  for i = 1, 100 do check.equal({ i, make(romeo, "r" .. i) }, { i, "+me owner/moderator 110,201" }) end
  check.equal(make(romeo, "r101"), "presence error wait policy-violation")
  check.equal(make(juliet, "r101"), "+me owner/moderator 110,201")
  for i = 1, 101 do check.equal({ i, make(boss, "b" .. i) }, { i, "+me owner/moderator 110,201" }) end
  host:advance(6)
  check.equal(make(romeo, "r101"), "+me owner/moderator 110,201")
  check.equal(host:close(), {})
end)

check.test("rooms kept and destroyed, again and again: tombstones of one account are bounded, and others' stay", function()
  local host = rooms.new { muc_room_locking = false, muc_room_default_persistent = true, muc_max_rooms_per_account = 3,
    muc_tombstone_expiry = 7200 }
  local romeo, juliet = rooms.person(host, "romeo"), rooms.person(host, "juliet")
  local function destroy(client, name)
    rooms.join(client, "me", nil, nil, at(name))
    check.equal(rooms.result(rooms.ask(client, "set", ("<query xmlns='%s#owner'><destroy/></query>"):format(MUC), at(name))),
      "ok")
    client:received()
    host:advance(1)
  end
  local function stones()
    local out = {}
    host:run(function()
      local till = require "couplet.store".open(rooms.ROOMS, "tombstones", "map"):get_all "till"
      for name in pairs(till or {}) do out[#out + 1] = name end
    end)
    table.sort(out)
    return table.concat(out, " ")
  end
  destroy(juliet, "garden")
  for i = 1, 5 do destroy(romeo, "r" .. i) end
  check.equal(stones(), "garden r3 r4 r5")
  host:run(function() assert(plugin.unload(rooms.ROOMS, "muc")) assert(plugin.load(rooms.ROOMS, "muc")) end)
  destroy(romeo, "r6")                           -- and it is known whose they are after a restart
  check.equal(stones(), "garden r4 r5 r6")
  destroy(romeo, "r3")
  check.equal(stones(), "garden r3 r5 r6")
  host:advance(7200 + 3600)                      -- nobody has asked for them: they go by themselves
  check.equal(stones(), "")
  check.equal(host:close(), {})
end)

check.test("who has no voice finds no other way to be heard by all", function()
  local host, romeo, juliet = pair({ muc_room_locking = false }, { "muc_mam", "muc_moderation" })
  local nurse = rooms.person(host, "nurse")
  rooms.join(nurse, "Nurse")
  check.equal(rooms.result(rooms.configure(romeo, { moderatedroom = "1", changesubject = "1", allowpm = "participants" })), "ok")
  check.equal(rooms.result(rooms.admin(romeo, "<item nick='Juliet' role='visitor'/>")), "ok")
  rooms.say(romeo, "mine")
  local mine
  for _, s in ipairs(romeo:received()) do
    local mark = s:get_child("stanza-id", "urn:xmpp:sid:0")
    mine = mark and mark.attr.id or mine
  end
  juliet:received()
  nurse:received()
  local FORBIDDEN, PRIVATE = "message error auth forbidden", "message error cancel policy-violation"
  local RETRACT = "<retract xmlns='urn:xmpp:message-retract:1'%s/>"
  local rows = {
    -- to, type, content, what she is told
    { ROOM, "groupchat", "<body>x</body>", FORBIDDEN },
    { ROOM, "groupchat", "<subject>x</subject>", FORBIDDEN },
    { ROOM, "groupchat", "<subject>x</subject><body>x</body>", FORBIDDEN },
    { ROOM, "groupchat", "<subject>x</subject><thread>x</thread>", FORBIDDEN },
    { ROOM, "groupchat", RETRACT:format(" id='" .. mine .. "'") .. "<store xmlns='urn:xmpp:hints'/>", FORBIDDEN },
    { ROOM, "groupchat", "<composing xmlns='http://jabber.org/protocol/chatstates'/>", FORBIDDEN },
    { ROOM, "groupchat", "<x xmlns='" .. MUC .. "#user'><status code='104'/></x>", FORBIDDEN },
    { ROOM, "headline", "<body>x</body>", nil }, { ROOM, "chat", "<body>x</body>", nil },
    { ROOM, "normal", "<body>x</body>", nil },
    { ROOM .. "/Nurse", "groupchat", "<body>x</body>", "message error modify bad-request" },
    { ROOM .. "/Nurse", "chat", "<body>x</body>", PRIVATE }, { ROOM .. "/Nurse", "headline", "<body>x</body>", PRIVATE },
    { ROOM .. "/Juliet", "groupchat", "<body>x</body>", "message error modify bad-request" },
  }
  for i, row in ipairs(rows) do
    juliet:send(("<message to='%s' type='%s'>%s</message>"):format(row[1], row[2], row[3]))
    local told = rooms.told(juliet)
    if row[4] then check.equal({ i, told }, { i, { row[4] } }) end
    check.equal({ i, rooms.told(nurse), rooms.told(romeo) }, { i, {}, {} })
  end
  local moderate = "<moderate xmlns='urn:xmpp:message-moderate:1' id='" .. mine .. "'>" .. RETRACT:format "" .. "</moderate>"
  check.equal(rooms.result(rooms.ask(juliet, "set", moderate)), "auth forbidden")
  check.equal(rooms.result(rooms.admin(juliet, "<item nick='Juliet' role='participant'/>")), "auth forbidden")
  -- she answers her own request: it is no more than one
  juliet:send(("<message to='%s'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>%s#request</value></field>"
    .. "<field var='muc#roomnick'><value>Juliet</value></field><field var='muc#request_allow'><value>1</value></field></x>"
    .. "</message>"):format(ROOM, MUC))
  check.equal(#romeo:received(), 1)
  check.equal(rooms.told(nurse), {})
  -- another nickname, and another resource under one, have no voice either
  juliet:send(("<presence to='%s/Capulet'/>"):format(ROOM))
  local phone = host:client "juliet@example.org/phone"
  rooms.join(phone, "Balcony")
  nurse:received()
  for _, client in ipairs { juliet, phone } do
    client:received()
    rooms.say(client, "x")
    check.equal(rooms.told(client), { FORBIDDEN })
  end
  check.equal(rooms.told(nurse), {})
  host:close()
end)

check.test("ids of occupants tell nobody that two in two rooms are one", function()
  local host, romeo, juliet = pair()
  rooms.join(romeo, "Romeo", nil, nil, at "mantua")
  rooms.join(juliet, "Juliet", nil, nil, at "mantua")
  local ids, n = {}, 0
  for _, s in ipairs(romeo:received()) do
    local mark = s:get_child("occupant-id", "urn:xmpp:occupant-id:0")
    if mark then ids[mark.attr.id] = s.attr.from end
  end
  rooms.say(juliet, "x")
  local said = romeo:received()[1]
  ids[said:get_child("occupant-id", "urn:xmpp:occupant-id:0").attr.id] = said.attr.from
  for _ in pairs(ids) do n = n + 1 end
  check.equal(n, 3)                              -- himself and her there, her here
  host:close()
end)

check.done()
