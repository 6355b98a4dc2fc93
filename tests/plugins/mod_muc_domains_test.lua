-- SPDX-License-Identifier: MIT
-- Another server may make up as many accounts as it likes: what they may do to rooms together is bounded, and what accounts of
-- this server and of others may do is not touched by it.

local check = require "check"
local rooms = require "rooms_fixture"
local plugin = require "couplet.plugin"
local router = require "couplet.router"
local parse = require "couplet.util.xml".parse
local ROOM, USER = rooms.ROOM, rooms.USER
local MUC = "http://jabber.org/protocol/muc"

local JOIN = "<presence %s><x xmlns='" .. MUC .. "'/></presence>"

local function new(options, plugins)
  options.muc_room_locking = false
  local host = rooms.new(options, nil, plugins)
  return host, rooms.person(host, "romeo"), rooms.person(host, "juliet"), rooms.stranger(host)
end

check.test("the share of one server of a room, and of all rooms; the last place is for others", function()
  local host, romeo, juliet, far = new { muc_max_occupants = 10, muc_max_occupants_per_domain = 8 }
  rooms.join(romeo, "Romeo")
  for i = 1, 5 do check.equal({ i, far(("u%d@far.example/x"):format(i), JOIN, ROOM .. "/F" .. i)[1] }, { i, "presence" }) end
  check.equal(far("u6@far.example/x", JOIN, ROOM .. "/F6"), { "wait resource-constraint" })
  check.equal(far("u1@near.example/x", JOIN, ROOM .. "/N")[1], "presence")
  rooms.join(juliet, "Juliet")
  check.equal(rooms.told(juliet)[8], "+Juliet none/participant 110")
  local other = "mantua@" .. rooms.ROOMS
  rooms.join(romeo, "Romeo", nil, nil, other)
  for i = 1, 3 do far(("v%d@far.example/x"):format(i), JOIN, other .. "/F" .. i) end
  check.equal(far("v4@far.example/x", JOIN, other .. "/F4"), { "wait resource-constraint" })
  -- what they say about themselves counts, too
  local long = "<presence %s><status>" .. ("x"):rep(3000) .. "</status></presence>"
  check.equal(far("u1@far.example/x", long, ROOM .. "/F1"), { "wait resource-constraint" })
  check.equal(far("u1@far.example/x", "<presence %s><show>away</show></presence>", ROOM .. "/F1")[1], "presence")
  far("v1@far.example/x", "<presence type='unavailable' %s/>", other .. "/F1")
  far("v2@far.example/x", "<presence type='unavailable' %s/>", other .. "/F2")
  far("v3@far.example/x", "<presence type='unavailable' %s/>", other .. "/F3")
  check.equal(far("u1@far.example/x", long, ROOM .. "/F1")[1], "presence")
  check.equal(far("u2@far.example/x", long, ROOM .. "/F2"), { "wait resource-constraint" })
  host:run(function() plugin.reload(rooms.ROOMS, "muc") end)           -- they are still there
  check.equal(far("u2@far.example/x", long, ROOM .. "/F2"), { "wait resource-constraint" })
  check.equal(host:close(), {})
end)

check.test("thirty resources under one nickname, by coming and by changing it", function()
  local host, romeo, _, far = new {}
  rooms.join(romeo, "Romeo")
  for i = 1, 30 do check.equal({ i, far("u@far.example/" .. i, JOIN, ROOM .. "/F")[1] }, { i, "presence" }) end
  check.equal(far("u@far.example/31", JOIN, ROOM .. "/F"), { "wait resource-constraint" })
  check.equal(far("u@far.example/31", JOIN, ROOM .. "/G")[1], "presence")
  check.equal(far("u@far.example/31", "<presence %s/>", ROOM .. "/F"), { "wait resource-constraint" })
  check.equal(far("u@far.example/30", JOIN, ROOM .. "/F")[1], "presence")        -- it is there already
  check.equal(host:close(), {})
end)

check.test("rooms made by accounts of one server, in all and in ten minutes", function()
  local host, romeo, _, far = new { muc_max_rooms_per_domain = 20, muc_room_default_persistent = true }
  local function make(from, name)
    local at = name .. "@" .. rooms.ROOMS
    return far(from, JOIN, at .. "/me")[1]
  end
  for i = 1, 20 do check.equal({ i, make(("u%d@far.example/x"):format(i), "r" .. i) }, { i, "presence" }) end
  check.equal(make("u21@far.example/x", "r21"), "wait resource-constraint")
  check.equal(make("u21@near.example/x", "r21"), "presence")
  rooms.join(romeo, "Romeo")
  check.equal(rooms.told(romeo)[1], "+Romeo owner/moderator 110,201")
  host:run(function() assert(plugin.unload(rooms.ROOMS, "muc")) assert(plugin.load(rooms.ROOMS, "muc")) end)
  check.equal(make("u22@far.example/x", "r22"), "wait resource-constraint")      -- known after a restart
  check.equal(host:close(), {})

  host, romeo, _, far = new {}
  local util = plugin.get_module(rooms.ROOMS, "muc").module:require "muc/util"
  for i = 1, 1000 do check.equal({ i, util.may_make_rooms(("u%d@far.example"):format(i)) }, { i, true }) end
  check.equal(far("v@far.example/x", JOIN, "new@" .. rooms.ROOMS .. "/me"), { "wait policy-violation" })
  check.equal(far("v@near.example/x", JOIN, "new@" .. rooms.ROOMS .. "/me")[1], "presence")
  rooms.join(romeo, "Romeo")
  check.equal(rooms.told(romeo)[1], "+Romeo owner/moderator 110,201")
  host:advance(600)
  check.equal(far("v@far.example/x", JOIN, "newer@" .. rooms.ROOMS .. "/me")[1], "presence")
  check.equal(host:close(), {})
end)

check.test("passwords are not guessed by accounts of one server in turn; who is on a list of the room is not held up", function()
  local host, romeo, juliet, far = new {}
  rooms.join(romeo, "Romeo")
  rooms.configure(romeo, { passwordprotectedroom = "1", roomsecret = "sesame", persistentroom = "1" })
  rooms.admin(romeo, "<item affiliation='member' jid='friend@far.example'/>")
  local function guess(from, word)
    return far(from, ("<presence %%s><x xmlns='%s'><password>%s</password></x></presence>"):format(MUC, word), ROOM .. "/G")[1]
  end
  for i = 1, 200 do check.equal({ i, guess(("u%d@far.example/x"):format(i), "no") }, { i, "auth not-authorized" }) end
  check.equal(guess("v@far.example/x", "sesame"), "wait policy-violation")
  check.equal(guess("v@near.example/x", "no"), "auth not-authorized")
  check.equal(guess("friend@far.example/x", "sesame"), "presence")
  rooms.join(juliet, "Juliet", "<password>sesame</password>")
  local told = rooms.told(juliet)
  check.equal(told[#told], "subject (room): ")
  check.equal(host:close(), {})
end)

local REGISTER = "<iq type='set' id='1' %s><query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'>"
  .. "<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#register</value></field>"
  .. "<field var='muc#register_roomnick'><value>NICK</value></field></x></query></iq>"

check.test("registrations of accounts of one server leave room on the lists, and among those who wait", function()
  local host, romeo, _, far = new { muc_max_affiliations = 20, muc_room_default_persistent = true }
  rooms.join(romeo, "Romeo")
  local function register(from, nick) return far(from, (REGISTER:gsub("NICK", nick)))[1] end
  for i = 1, 10 do check.equal({ i, register(("u%d@far.example/x"):format(i), "F" .. i) }, { i, "ok" }) end
  check.equal(register("u11@far.example/x", "F11"), "wait resource-constraint")
  check.equal(register("u10@far.example/x", "F12"), "ok")              -- another nickname takes no more place
  check.equal(register("u1@near.example/x", "N1"), "ok")
  check.equal(rooms.result(rooms.admin(romeo, "<item affiliation='outcast' jid='far.example'/>")), "ok")

  local garden = "garden@" .. rooms.ROOMS
  rooms.join(romeo, "Romeo", nil, nil, garden)
  check.equal(rooms.result(rooms.ask(romeo, "set", ([[<query xmlns='%s#owner'><x xmlns='jabber:x:data' type='submit'>
    <field var='FORM_TYPE'><value>%s#roomconfig</value></field>
    <field var='x-roomconfig_registration'><value>approval</value></field></x></query>]]):format(MUC, MUC), garden)), "ok")
  local function ask(from, nick) return far(from, (REGISTER:gsub("NICK", nick)), garden)[1] end
  for i = 1, 50 do check.equal({ i, ask(("w%d@else.example/x"):format(i), "W" .. i) }, { i, "ok" }) end
  check.equal(ask("w51@else.example/x", "W51"), "wait resource-constraint")
  check.equal(ask("w51@near.example/x", "W51"), "ok")
  check.equal(host:close(), {})
end)

local INVITE = "<message %s><x xmlns='" .. USER .. "'><invite to='victim@else.example'/></x></message>"

check.test("invitations in the name of one server: six hundred in ten minutes", function()
  local host, romeo, _, far, sent = new {}
  rooms.join(romeo, "Romeo")
  local n, last = 0, nil
  for i = 1, 13 do
    local from = ("u%d@far.example/x"):format(i)
    far(from, JOIN, ROOM .. "/F" .. i)
    for _ = 1, 50 do
      sent()
      last = far(from, INVITE)[1]
      if not last then n = n + 1 end
    end
  end
  check.equal({ n, last }, { 600, "wait policy-violation" })
  check.equal(host:close(), {})
end)

check.test("a server that cannot be reached: its people leave at once, each is told to those who stay", function()
  local host, romeo, juliet, far, sent = new {}
  rooms.join(romeo, "Romeo")
  for i = 1, 100 do far(("u%d@far.example/x"):format(i), JOIN, ROOM .. "/F" .. i) end
  rooms.join(juliet, "Juliet")
  romeo:received()
  juliet:received()
  local function lost(origin, condition)
    sent()
    host:run(function()
      router.core_post_stanza(origin, parse(("<message type='error' from='u1@far.example/x' to='%s/Romeo'><error type='cancel'>"
        .. "<%s xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"):format(ROOM, condition)), false)
    end)
    host:advance(1)
    return #rooms.told(romeo), #sent()
  end
  local here = require "couplet.hosts".get(rooms.ROOMS)
  -- what somebody there says is about himself
  local told, out = lost({ type = "s2sin", host = rooms.ROOMS, from_host = "far.example", to_host = rooms.ROOMS,
    send = function() end }, "remote-server-not-found")
  check.equal({ told, out }, { 1, 100 })
  far("u1@far.example/x", JOIN, ROOM .. "/F1")
  romeo:received()
  told, out = lost(here, "service-unavailable")                       -- one who is not there
  check.equal({ told, out }, { 1, 100 })
  far("u1@far.example/x", JOIN, ROOM .. "/F1")
  romeo:received()
  juliet:received()
  told, out = lost(here, "remote-server-timeout")
  check.equal({ told, out }, { 100, 100 })
  check.equal(#rooms.told(juliet), 100)
  check.equal(host:close(), {})
end)

check.done()
