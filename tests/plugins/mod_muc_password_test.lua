-- SPDX-License-Identifier: MIT
-- A password guards what is said behind it: who has not given it, nor may know it, reads neither archive nor lists, and gets it
-- by no invitation, not even by his own; whatever his place on the lists of the room.

local check = require "check"
local rooms = require "rooms_fixture"
local ROOM, USER = rooms.ROOM, rooms.USER

-- owner and boss (an admin), inside (no affiliation) are or were let in; member, guest and outcast stand before the door.
local function cast(fields)
  local host = rooms.new({ muc_room_locking = false }, nil, { "muc_mam" })
  local who = rooms.people(host, { "owner", "boss", "member", "guest", "inside", "outcast" })
  rooms.join(who.owner, "Owner")
  rooms.admin(who.owner, "<item affiliation='admin' jid='boss@example.org'/>"
    .. "<item affiliation='member' jid='member@example.org'/><item affiliation='outcast' jid='outcast@example.org'/>")
  rooms.join(who.inside, "Inside")
  rooms.say(who.owner, "the secret")
  check.equal(rooms.result(rooms.configure(who.owner, fields)), "ok")
  for _, client in pairs(who) do client:received() end
  return host, who
end

local OPEN = { persistentroom = "1", whois = "anyone" }
local CLOSED = { persistentroom = "1", whois = "anyone", passwordprotectedroom = "1", roomsecret = "sesame" }

-- What each of them may do: -> "ok", "type condition", or what came
local deeds = {
  archive = function(client)
    client:received()
    local fin = rooms.ask(client, "set", "<query xmlns='urn:xmpp:mam:2'/>")
    local n = 0
    for _, s in ipairs(client:received()) do n = n + (s:get_child("result", "urn:xmpp:mam:2") and 1 or 0) end
    return rooms.result(fin) == "ok" and ("%d"):format(n) or rooms.result(fin)
  end,
  metadata = function(client) return rooms.result(rooms.ask(client, "get", "<metadata xmlns='urn:xmpp:mam:2'/>")) end,
  members = function(client)
    return rooms.result(rooms.ask(client, "get",
      "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='member'/></query>"))
  end,
  occupants = function(client)
    local items = rooms.ask(client, "get", "<query xmlns='http://jabber.org/protocol/disco#items'/>").tags[1]
    return ("%d"):format(#items.tags)
  end,
  subject = function(client)
    local info = rooms.ask(client, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>")
    return tostring(info):find("roominfo_subject'", 1, true) and "told" or "hidden"
  end,
  register = function(client)
    return rooms.result(rooms.ask(client, "get", "<query xmlns='jabber:iq:register'/>"))
  end,
  invite = function(client)                    -- himself: the invitation carries the password
    client:received()
    local me = client.session.username .. "@" .. client.session.host
    client:send(("<message to='%s'><x xmlns='%s'><invite to='%s'/></x></message>"):format(ROOM, USER, me))
    local got = client:received()[1]
    if not got then return "nothing" end
    if got.attr.type == "error" then return table.concat({ got:get_error() }, " ", 1, 2) end
    return got:find("{" .. USER .. "}x/password#") or "invited"
  end,
}

check.test("what a password guards, and from whom", function()
  local rows = {
    -- deed, configuration, { who = what comes of it }
    { "archive", CLOSED, { owner = "1", boss = "1", inside = "1", member = "auth forbidden", guest = "auth forbidden",
      outcast = "auth forbidden" } },
    { "archive", OPEN, { owner = "1", member = "1", guest = "1", outcast = "auth forbidden" } },
    { "metadata", CLOSED, { boss = "ok", inside = "ok", member = "auth forbidden", guest = "auth forbidden" } },
    { "members", CLOSED, { boss = "ok", inside = "ok", member = "auth forbidden", guest = "auth forbidden",
      outcast = "auth forbidden" } },
    { "members", OPEN, { member = "ok", guest = "auth forbidden" } },
    { "occupants", CLOSED, { boss = "2", inside = "2", member = "0", guest = "0", outcast = "0" } },
    { "occupants", OPEN, { member = "2", guest = "2" } },
    { "subject", CLOSED, { inside = "told", member = "hidden", guest = "hidden" } },
    { "subject", OPEN, { guest = "told" } },
    { "register", CLOSED, { boss = "ok", inside = "ok", member = "ok", guest = "cancel not-allowed",
      outcast = "auth forbidden" } },
    { "register", OPEN, { guest = "ok" } },
    { "invite", CLOSED, { boss = "sesame", inside = "sesame", member = "modify not-acceptable",
      guest = "modify not-acceptable" } },
    { "invite", OPEN, { member = "invited", guest = "modify not-acceptable" } },
  }
  for i, row in ipairs(rows) do
    local host, who = cast(row[2])
    for name, want in pairs(row[3]) do
      check.equal({ i, row[1], name, deeds[row[1]](who[name]) }, { i, row[1], name, want })
    end
    check.equal(host:close(), {})
  end
end)

check.test("who has given the password once and left stands before the door again", function()
  local host, who = cast(CLOSED)
  who.inside:send(("<presence type='unavailable' to='%s/Inside'/>"):format(ROOM))
  check.equal(deeds.archive(who.inside), "auth forbidden")
  rooms.join(who.inside, "Inside", "<password>sesame</password>")
  check.equal(deeds.archive(who.inside), "1")
  host:close()
end)

local function decline(client, inner, to)
  client:send(("<message to='%s'><x xmlns='%s'><decline to='%s'>%s</decline></x></message>"):format(ROOM, USER,
    to or ROOM .. "/Owner", inner or ""))
  local got = client:received()[1]
  return got and table.concat({ got:get_error() }, " ", 1, 2) or "ok"
end

check.test("refusals of invitations: short, to those of the room alone, none from outcasts, and not without end", function()
  local host, who = cast(OPEN)
  check.equal(decline(who.guest, "<reason>" .. ("é"):rep(600) .. "</reason>"), "ok")
  local got = who.owner:expect { name = "message" }
  check.equal(got:find("{" .. USER .. "}x/decline@from"), "guest@example.org")
  check.equal(got:find("{" .. USER .. "}x/decline/reason#"), ("é"):rep(512))
  check.equal(decline(who.outcast), "auth forbidden")
  check.equal(decline(who.guest, nil, "outcast@example.org"), "ok")            -- goes nowhere, says nothing about it, and counts
  check.equal(#who.outcast:received(), 0)
  check.equal(#who.owner:received(), 0)
  for i = 3, 61 do check.equal({ i, decline(who.guest) }, { i, i <= 60 and "ok" or "wait policy-violation" }) end
  check.equal(#who.owner:received(), 58)
  check.equal(decline(who.member), "ok")         -- others have their own bound
  host:advance(600)
  check.equal(decline(who.guest), "ok")
  check.equal(host:close(), {})
end)

check.test("passwords are not guessed without end, not even with the right one at last", function()
  local host, who = cast(CLOSED)
  local function try(client, password)
    rooms.join(client, "Guest", password and "<password>" .. password .. "</password>")
    local told = rooms.told(client)
    return told[#told]
  end
  for i = 1, 30 do check.equal({ i, try(who.guest) }, { i, "presence error auth not-authorized" }) end         -- has not tried
  for i = 1, 20 do check.equal({ i, try(who.guest, "no" .. i) }, { i, "presence error auth not-authorized" }) end
  check.equal(try(who.guest, "sesame"), "presence error wait policy-violation")
  check.equal(try(who.member, "sesame"), "subject (room): ")
  who.member:send(("<presence type='unavailable' to='%s/Guest'/>"):format(ROOM))
  host:advance(30)
  check.equal(try(who.guest, "sesame"), "subject (room): ")
  check.equal(host:close(), {})
end)

check.done()
