-- SPDX-License-Identifier: MIT
-- What accounts of one other server get together of tombstones, searches, long lists, talk, registrations and questions whether
-- they are still there; and that others do not go short for it. More of this: mod_muc_domains_test.

local check = require "check"
local rooms = require "rooms_fixture"
local plugin = require "couplet.plugin"
local task = require "couplet.task"
local ROOM, ROOMS = rooms.ROOM, rooms.ROOMS
local MUC = "http://jabber.org/protocol/muc"

local JOIN = "<presence %s><x xmlns='" .. MUC .. "'/></presence>"
local LEAVE = "<presence type='unavailable' %s/>"

-- -> host, romeo (owner of ROOM), far, sent, muc, post
local function new(options, plugins)
  options = options or {}
  options.muc_room_locking = false
  local host = rooms.new(options, nil, plugins)
  local romeo = rooms.person(host, "romeo")
  rooms.join(romeo, "Romeo")
  romeo:received()
  local far, sent, post = rooms.stranger(host)
  return host, romeo, far, sent, plugin.get_module(ROOMS, "muc"), post
end

-- A part of mod_muc.
local function part(muc, name) return muc.module:require("muc/" .. name) end

check.test("tombstones: an account leaves as many as it may have rooms, a server a tenth of all; the oldest goes", function()
  local host, _, _, _, muc = new { muc_max_rooms_per_account = 3 }
  local stones = part(muc, "tombstones")
  local function at(name) return name .. "@" .. ROOMS end
  local function put(name, by)
    host:run(function() assert(stones.put(at(name), nil, nil, by)) end)
    host:advance(1)
  end
  local function standing(prefix, from, to)
    local n = 0
    for i = from, to do n = n + (stones.has(at(prefix .. i)) and 1 or 0) end
    return n
  end
  for i = 1, 4 do put("one" .. i, "one@far.example") end
  check.equal({ standing("one", 1, 1), standing("one", 2, 4) }, { 0, 3 })
  put("near1", "a@near.example")
  put("here1", "romeo@example.org")
  put("nobodys1")                              -- made by the configuration, or of a Prosody
  for i = 1, 997 do put("far" .. i, ("u%d@far.example"):format(i)) end
  check.equal({ standing("one", 2, 4), standing("far", 1, 997) }, { 3, 997 })
  put("far998", "u998@far.example")
  put("far998", "u998@far.example")            -- again: takes no more
  check.equal({ standing("one", 2, 2), standing("one", 3, 4), standing("far", 1, 998) }, { 0, 2, 998 })
  for i = 999, 1010 do put("far" .. i, ("u%d@far.example"):format(i)) end
  check.equal({ standing("one", 1, 4), standing("far", 1, 10), standing("far", 11, 1010) }, { 0, 0, 1000 })
  for _, name in ipairs { "near1", "here1", "nobodys1" } do check.ok(stones.has(at(name)), name) end
  for i = 1, 1001 do put("ours" .. i, ("u%d@example.org"):format(i)) end         -- of whom there are as many as there are
  check.equal(standing("ours", 1, 1001), 1001)
  host:run(function() assert(plugin.unload(ROOMS, "muc")) assert(plugin.load(ROOMS, "muc")) end)
  stones = part(plugin.get_module(ROOMS, "muc"), "tombstones")
  put("far1011", "u1011@far.example")          -- known after a restart
  check.equal({ standing("far", 11, 11), standing("far", 12, 1011), standing("near", 1, 1) }, { 0, 1000, 1 })
  check.equal(host:close(), {})
end)

local SEARCH = [[<iq type='get' id='1' %s><search xmlns='urn:xmpp:channel-search:0:search'><x xmlns='jabber:x:data' type='submit'>
  <field var='FORM_TYPE'><value>urn:xmpp:channel-search:0:search-params</value></field>
  <field var='q'><value>needle</value></field></x></search></iq>]]

check.test("searches that take a while: two of one server at a time, four of all", function()
  local host, _, _, sent, muc, post = new()
  local listing = part(muc, "listing")
  host:run(function()
    for i = 1, 1200 do listing.load(("hay%d@%s"):format(i, ROOMS), { persistent = true, public = true }) end
    listing.sort()
  end)
  local refused = "wait resource-constraint"
  local rows = {                               -- at once, on streams of their own -> the answers
    { { "a@far.example", "b@far.example", "c@far.example" }, { "ok", "ok", refused } },
    { { "a@far.example", "b@far.example", "a@near.example", "b@near.example", "a@else.example", "c@far.example" },
      { "ok", "ok", "ok", "ok", refused, refused } },
    { { "a@far.example", "b@far.example", "c@far.example", "a@near.example" }, { "ok", "ok", refused, "ok" } },
  }
  for i, row in ipairs(rows) do
    sent()
    host:run(function()
      for _, who in ipairs(row[1]) do task.spawn(post, who .. "/x", SEARCH, ROOMS) end
    end)
    host:advance(1)
    local got = {}
    for _, stanza in ipairs(sent()) do got[stanza.attr.to:match "^[^/]+"] = rooms.result(stanza) end
    for k, who in ipairs(row[1]) do check.equal({ i, who, got[who] }, { i, who, row[2][k] }) end
  end
  check.equal(host:close(), {})
end)

local LIST = "<iq type='get' id='1' %s><query xmlns='" .. MUC .. "#admin'><item affiliation='member'/></query></iq>"
local ITEMS = "<iq type='get' id='1' %s><query xmlns='http://jabber.org/protocol/disco#items'/></iq>"
local FORM = "<iq type='get' id='1' %s><query xmlns='" .. MUC .. "#owner'/></iq>"
local ROLES = "<iq type='get' id='1' %s><query xmlns='" .. MUC .. "#admin'><item role='participant'/></query></iq>"

check.test("long lists of a room: twenty thousand lines in ten seconds to people of one server", function()
  local host, romeo, far, _, muc = new()
  rooms.admin(romeo, "<item affiliation='admin' jid='a@far.example'/><item affiliation='admin' jid='b@far.example'/>"
    .. "<item affiliation='admin' jid='a@near.example'/>")
  host:run(function()
    local room, list = muc.get_room_from_jid(ROOM), {}
    for i = 1, 996 do list[i] = { jid = ("m%d@example.org"):format(i), affiliation = "member" } end
    assert(room:set_affiliations(true, list))
  end)
  for i = 1, 20 do
    check.equal({ i, far((i % 2 == 0 and "a" or "b") .. "@far.example/x", LIST)[1] }, { i, "ok" })
  end
  local rows = {                               -- in a room in which there seem to be so many
    -- who, question, occupants, answer, seconds later
    { "a@far.example/x", LIST, 1, "wait resource-constraint", 0 },
    { "b@far.example/x", LIST, 1, "wait resource-constraint", 0 },
    { "c@far.example/x", ITEMS, 20000, "ok", 0 },          -- those who run the room have theirs, and others theirs
    { "d@far.example/x", ITEMS, 500, "wait resource-constraint", 0 },
    { "c@far.example/x", ITEMS, 499, "ok", 0 },            -- a short one costs nothing
    { "a@far.example/x", ROLES, 500, "wait resource-constraint", 0 },
    { "a@near.example/x", LIST, 1, "ok", 0 },
    { "c@near.example/x", ITEMS, 30000, "ok", 0 },         -- longer than the measure
    { "c@near.example/x", ITEMS, 500, "wait resource-constraint", 0 },
    { "a@far.example/x", LIST, 1, "ok", 10 },
    { "c@near.example/x", ITEMS, 500, "ok", 10 },
  }
  for i, row in ipairs(rows) do
    host:advance(row[5])
    host:run(function() muc.get_room_from_jid(ROOM).occupant_count = function() return row[3] end end)
    check.equal({ i, far(row[1], row[2])[1] }, { i, row[4] })
  end
  -- of this server: nobody keeps the owner out of his form
  local juliet, full = rooms.person(host, "juliet"), "wait resource-constraint"
  host:run(function() muc.get_room_from_jid(ROOM).occupant_count = function() return 20000 end end)
  for i, row in ipairs { { juliet, ITEMS, "ok" }, { juliet, ITEMS, full }, { romeo, LIST, "ok" }, { romeo, FORM, "ok" } } do
    check.equal({ i, rooms.result(rooms.ask(row[1], "get", row[2]:match "<iq.->(.*)</iq>")) }, { i, row[3] })
  end
  check.equal(host:close(), {})
end)

local SAY = "<message type='groupchat' %s><body>hi</body></message>"

check.test("mod_muc_limits: what accounts of one server say and do in a room together", function()
  local host, romeo, far, sent = new({ muc_domain_event_rate = 0.1, muc_event_rate = 0.001, muc_burst_factor = 3000 },
    { "muc_limits" })
  local other = "mantua@" .. ROOMS
  rooms.join(romeo, "Romeo", nil, nil, other)
  rooms.admin(romeo, "<item affiliation='member' jid='friend@far.example'/>")
  -- "ok": it has been done. Three events are an account's own measure, ten the server's, in a hundred seconds.
  local function try(who, xml, to)
    local got = far(who .. "/x", xml, to)
    sent()
    return got[1] == "wait policy-violation" and got[1] or "ok"
  end
  local one, refused = "flood@far.example", "wait policy-violation"
  check.equal(try(one, JOIN, ROOM .. "/One"), "ok")
  for i = 1, 20 do check.equal({ i, try(one, SAY) }, { i, i <= 2 and "ok" or refused }) end
  -- what was refused has not been charged to the others there
  for i = 1, 7 do
    check.equal({ i, try(("u%d@far.example"):format(i), JOIN, ("%s/U%d"):format(ROOM, i)) }, { i, "ok" })
  end
  local rows = {
    -- who, what, where, answer, seconds before
    { "u8@far.example", JOIN, ROOM .. "/U8", refused, 0 },
    { "u1@far.example", SAY, ROOM, refused, 0 },
    { "u1@far.example", "<presence %s/>", ROOM .. "/V1", refused, 0 },           -- another nickname
    { "u1@far.example", LEAVE, ROOM .. "/U1", "ok", 0 },
    { "u8@far.example", JOIN, other .. "/U8", "ok", 0 },                         -- each room for itself
    { "friend@far.example", JOIN, ROOM .. "/Friend", "ok", 0 },                  -- whom the room knows
    { "friend@far.example", SAY, ROOM, "ok", 0 },
    { "u1@near.example", JOIN, ROOM .. "/N1", "ok", 0 },
    { "u1@near.example", SAY, ROOM, "ok", 0 },
    { "u8@far.example", JOIN, ROOM .. "/U8", "ok", 10 },
    { "u9@far.example", JOIN, ROOM .. "/U9", refused, 0 },
    { "u9@far.example", JOIN, ROOM .. "/U9", "ok", 100 },
  }
  for i, row in ipairs(rows) do
    host:advance(row[5])
    check.equal({ i, try(row[1], row[2], row[3]) }, { i, row[4] })
  end
  check.equal(host:close(), {})
end)

local REGISTER = "<iq type='set' id='1' %s><query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'>"
  .. "<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#register</value></field>"
  .. "<field var='muc#register_roomnick'><value>NICK</value></field></x></query></iq>"
local REMOVE = "<iq type='set' id='1' %s><query xmlns='jabber:iq:register'><remove/></query></iq>"

check.test("registrations: sixty of one account in ten minutes, six hundred of one server, whatever became of them", function()
  local host, romeo, far = new { muc_room_default_persistent = true }
  local function register(who, nick) return far(who .. "/x", (REGISTER:gsub("NICK", nick)))[1] end
  for i = 1, 60 do                             -- changed, taken back, and junk
    local xml = i % 3 == 0 and REMOVE or i % 3 == 1 and REGISTER:gsub("NICK", "One" .. i) or REGISTER:gsub("submit", "form")
    check.equal({ i, far("one@far.example/x", xml)[1] }, { i, i % 3 == 2 and "modify bad-request" or "ok" })
  end
  check.equal(register("one@far.example", "One"), "wait policy-violation")
  for i = 1, 540 do check.equal({ i, register(("u%d@far.example"):format(i), "F" .. i) }, { i, "ok" }) end
  check.equal(register("u541@far.example", "F541"), "wait policy-violation")
  check.equal(far("u541@far.example/x", (REGISTER:gsub("set", "get", 1)))[1], "ok")      -- to look costs nothing
  check.equal(register("u1@near.example", "N1"), "ok")
  check.equal(rooms.result(rooms.ask(romeo, "set", REGISTER:gsub("NICK", "R"):match "<query.*</query>")), "ok")
  rooms.admin(romeo, "<item affiliation='admin' jid='boss@far.example'/>")
  check.equal(register("boss@far.example", "Boss"), "ok")              -- those who run the room are not held up
  host:advance(600)
  check.equal(register("u541@far.example", "F541"), "ok")
  check.equal(host:close(), {})
end)

check.test("how many members of a server there are is known without counting, whatever becomes of them", function()
  local host, romeo, far, _, muc = new { muc_room_default_persistent = true, muc_max_affiliations = 20 }
  local function register(who, nick) return far(who .. "/x", (REGISTER:gsub("NICK", nick)))[1] end
  for i = 1, 10 do check.equal({ i, register(("u%d@far.example"):format(i), "F" .. i) }, { i, "ok" }) end
  local rows = {
    -- what is done, does one more member of that server find a place?
    { function() return far("u1@far.example/x", REMOVE)[1] end, "ok", true },
    { function() return rooms.result(rooms.admin(romeo, "<item affiliation='outcast' jid='u2@far.example'/>")) end, "ok", true },
    { function() return rooms.result(rooms.admin(romeo, "<item affiliation='admin' jid='u3@far.example'/>")) end, "ok", true },
    { function() return rooms.result(rooms.admin(romeo, "<item affiliation='none' jid='u2@far.example'/>")) end, "ok", false },
    { function()
      return rooms.result(rooms.admin(romeo, "<item affiliation='none' jid='u4@far.example'/>"
        .. "<item affiliation='none' jid='x y@z'/>"))
    end, "modify jid-malformed", false },
    { function()                               -- the disk refuses: all is as it was
      host:run(function() muc.get_room_from_jid(ROOM).save = function() return nil, "disk full" end end)
      local got = far("u4@far.example/x", REMOVE)[1]
      muc.get_room_from_jid(ROOM).save = nil
      return got
    end, "wait internal-server-error", false },
  }
  for i, row in ipairs(rows) do
    check.equal({ i, row[1]() }, { i, row[2] })
    local new_one = ("v%d@far.example"):format(i)
    check.equal({ i, register(new_one, "V" .. i) }, { i, row[3] and "ok" or "wait resource-constraint" })
  end
  -- nicknames go with those who had them, and not with others
  check.equal(register("u5@far.example", "F1"), "ok")
  check.equal(register("u6@far.example", "F1"), "cancel conflict")
  check.equal(register("u6@far.example", "F5"), "ok")
  check.equal(register("u7@far.example", "F4"), "cancel conflict")
  check.equal(host:close(), {})
end)

check.test("members of one other server leave half of the bytes of the lists to others", function()
  local host, romeo, far, _, muc = new { muc_room_default_persistent = true, muc_max_affiliations = 200 }
  local function long(letter, i) return ("%s%03d%s@far.example"):format(letter, i, letter:rep(1019)) end
  local function register(who, nick) return far(who .. "/x", (REGISTER:gsub("NICK", nick)))[1] end
  local n = 0
  while n < 100 and register(long("u", n + 1), "U" .. n + 1) == "ok" do n = n + 1 end
  check.equal(n, 16)                           -- two kilobytes each, of 65536 // 2
  local full = "wait resource-constraint"
  local function remove(who) return function() return far(who .. "/x", REMOVE)[1] end end
  local function keep(key, value)              -- as plugins do
    return function()
      host:run(function() muc.get_room_from_jid(ROOM):set_affiliation_data(long("u", 2), key, value) end)
      return "ok"
    end
  end
  local rows = {
    { function() return register("short@far.example", "S") end, full },
    { function() return register(long("u", 1), "Longer") end, full },          -- nor does a member take more
    { function() return register(long("u", 1), "V1") end, "ok" },
    { function() return register("a@near.example", "A") end, "ok" },
    { remove(long("u", 1)), "ok" },
    { keep("x", ("x"):rep(3000)), "ok" }, { function() return register("short@far.example", "S") end, full },
    { keep("x", nil), "ok" }, { function() return register("short@far.example", "S") end, "ok" },
    -- the owner still can shut out whom he likes
    { function()
      return rooms.result(rooms.admin(romeo, "<item affiliation='outcast' jid='" .. long("b", 1) .. "'/>"))
    end, "ok" },
  }
  for i, row in ipairs(rows) do check.equal({ i, row[1]() }, { i, row[2] }) end
  check.equal(host:close(), {})
end)

check.test("a list that was filled before the room was made is counted with its owner", function()
  local host, _, far, _, muc = new()
  local made = "made@" .. ROOMS
  muc.module:hook("muc-room-pre-create", function(event)
    assert(event.room:set_affiliation(true, "own@far.example", "member"))
    check.equal(event.room:members_of "far.example", 1)
  end)
  far("own@far.example/x", JOIN, made .. "/Me")
  local room = muc.get_room_from_jid(made)
  local told = { room:list_bytes(), room:members_of "far.example" }
  room._list_bytes, room._members = nil, nil
  check.equal(told, { room:list_bytes(), room:members_of "far.example" })
  check.equal(told[2], 0)
  check.equal(host:close(), {})
end)

local function ban(n, size, from)
  local out = {}
  for i = from or 1, (from or 1) + n - 1 do
    out[#out + 1] = ("<item affiliation='outcast' jid='b%d@q.example'><reason>%s</reason></item>"):format(i, ("r"):rep(size))
  end
  return ("<iq type='set' id='1' %%s><query xmlns='%s#admin'>%s</query></iq>"):format(MUC, table.concat(out))
end

local UNBAN = "<iq type='set' id='1' %s><query xmlns='" .. MUC .. "#admin'>"
  .. "<item affiliation='none' jid='b1@q.example'/></query></iq>"

check.test("the lists of a room have as many bytes as names would take, whatever is said with them", function()
  local host, _, far = new { muc_room_default_persistent = true, muc_max_affiliations = 1000 }
  local own, me = "own@" .. ROOMS, "owner@far.example/x"
  far(me, JOIN, own .. "/Me")
  local full = "wait resource-constraint"
  local rows = {
    { ban(90, 1000), "ok" }, { ban(10, 1000, 91), full }, { ban(3, 1000, 91), "ok" }, { ban(10, 0, 200), "ok" },
    { ban(93, 1000), "ok" },                   -- the same again is no more
    { ban(93, 1020), full }, { UNBAN, "ok" }, { ban(1, 1000), "ok" }, { ban(50, 0), "ok" }, { ban(40, 1000, 300), "ok" },
  }
  for i, row in ipairs(rows) do check.equal({ i, far(me, row[1], own)[1] }, { i, row[2] }) end
  local list, n = LIST:gsub("member", "outcast"), 0          -- some ninety with a kilobyte each: as long as one of nine hundred
  while n < 100 and far(me, list, own)[1] == "ok" do n = n + 1 end
  check.ok(n >= 20 and n <= 23, n)
  check.equal(host:close(), {})
end)

local SUBJECT = "<message type='groupchat' %s><subject>s</subject></message>"
local CONFIG = "<iq type='set' id='1' %s><query xmlns='" .. MUC .. "#owner'><x xmlns='jabber:x:data' type='submit'/></query></iq>"
local INVITE = "<message %s><x xmlns='" .. MUC .. "#user'><invite to='friend@else.example'/></x></message>"
local CARD = "<iq type='set' id='1' %s><vCard xmlns='vcard-temp'><FN>x</FN></vCard></iq>"

check.test("changes of what is kept cost what there is of the room, since all of it is written", function()
  local host, _, far, _, muc = new { muc_room_default_persistent = true }
  local small, big = "small@" .. ROOMS, "big@" .. ROOMS
  for _, at in ipairs { small, big } do
    far("owner@far.example/x", JOIN, at .. "/Me")
    far("owner@far.example/x", ("<iq type='set' id='1' %%s><query xmlns='%s#admin'>"
      .. "<item affiliation='owner' jid='other@far.example'/><item affiliation='owner' jid='a@near.example'/></query></iq>")
      :format(MUC), at)
  end
  far("a@near.example/x", JOIN, big .. "/Near")
  host:run(function() muc.get_room_from_jid(big).list_bytes = function() return 1000000 end end)
  local changes = { ban(1, 0), UNBAN, SUBJECT, CONFIG, CARD }
  for i = 1, 118 do                            -- 101 each, of 12000
    local got = far("owner@far.example/x", changes[i % #changes + 1], big)[1]
    check.ok(got == "ok" or got == "message", i .. " " .. tostring(got))
  end
  local refused = "wait policy-violation"
  local rows = {
    { "owner@far.example/x", ban(1, 0), big, refused }, { "owner@far.example/x", SUBJECT, big, refused },
    { "owner@far.example/x", CONFIG, big, refused }, { "owner@far.example/x", CARD, big, refused },
    { "owner@far.example/x", REGISTER:gsub("NICK", "Mine"), big, refused }, { "owner@far.example/x", REMOVE, big, refused },
    { "owner@far.example/x", REGISTER:gsub("NICK", "Mine"), small, "ok" },
    { "owner@far.example/x", FORM, big, "ok" }, { "owner@far.example/x", ban(1, 0), small, "ok" },
    { "other@far.example/x", ban(1, 0), big, "ok" }, { "a@near.example/x", SUBJECT, big, "message" },
  }
  for i, row in ipairs(rows) do
    local got = far(row[1], row[2], row[3])
    check.equal({ i, got[#got] }, { i, row[4] })
  end
  -- whom an owner invites is written down where only members enter
  for i, only in ipairs { true, false } do
    host:run(function() muc.get_room_from_jid(big):set_members_only(only) end)
    check.equal({ i, far("owner@far.example/x", INVITE, big)[1] }, { i, only and refused or nil })
  end
  -- a card is not in the room: it costs by its own length
  local at, who = "cards@" .. ROOMS, "cards@cards.example"
  far(who .. "/x", JOIN, at .. "/Me")
  part(muc, "util").may_change(muc.get_room_from_jid(at), who, 11979)            -- and one: twenty are left
  for i, card in ipairs { { 98304, "modify policy-violation" }, { 95000, "ok" }, { 95000, "ok" }, { 1, refused } } do
    check.equal({ i, far(who .. "/x", (CARD:gsub(">x<", ">" .. ("x"):rep(card[1]) .. "<")), at)[1] }, { i, card[2] })
  end
  -- all of a server: ten times as much
  for i = 1, 9 do
    local util = part(muc, "util")
    for _ = 1, 118 do util.may_change(muc.get_room_from_jid(big), ("u%d@far.example"):format(i)) end
  end
  check.equal(far("other@far.example/x", CONFIG, big)[1], "ok")
  for _ = 1, 118 do far("other@far.example/x", CONFIG, big) end
  check.equal(far("v@far.example/x", REGISTER:gsub("NICK", "V"), big)[1], refused)
  host:advance(60)
  check.equal(far("owner@far.example/x", SUBJECT, big)[1], "message")
  check.equal(far("a@near.example/x", CONFIG, big)[1], "ok")
  -- the form names all owners and admins
  host:advance(10)
  for i, want in ipairs { "ok", "ok", "wait resource-constraint" } do
    check.equal({ i, far("owner@far.example/x", FORM, big)[1] }, { i, want })
  end
  check.equal(host:close(), {})
end)

check.test("XEP-0410: who does not answer keeps nobody else waiting; ten questions to a server, two hundred to all", function()
  local function occupied(interval, domains)
    local host, romeo, far, sent, _, post = new { muc_ping_interval = interval }
    for domain, n in pairs(domains) do
      for i = 1, n do far(("u%d@%s/x"):format(i, domain), JOIN, ("%s/%d of %s"):format(ROOM, i, domain)) end
    end
    host:advance(interval)                     -- all have just been heard
    sent()
    romeo:received()
    -- Waits so long -> { [domain] = how many have been asked }; those of near.example answer, and are asked no more.
    local function asked(seconds)
      host:advance(seconds)
      local all, list = {}, sent()
      while list[1] do
        local stanza = table.remove(list, 1)
        if stanza.name == "iq" and stanza:get_child("ping", "urn:xmpp:ping") then
          local domain = stanza.attr.to:match "@([^/]+)"
          all[domain] = (all[domain] or 0) + 1
          if domain == "near.example" then
            host:run(post, stanza.attr.to, ("<iq type='result' id='%s' %%s/>"):format(stanza.attr.id))
            for _, more in ipairs(sent()) do list[#list + 1] = more end
          end
        end
      end
      return all
    end
    return host, romeo, asked
  end
  local host, romeo, asked = occupied(600, { ["silent.example"] = 25, ["near.example"] = 25 })
  check.equal(asked(600), { ["silent.example"] = 10, ["near.example"] = 25 })
  check.equal(rooms.told(romeo), {})
  for i, n in ipairs { 10, 5, 0 } do
    check.equal({ i, asked(60)["silent.example"] or 0 }, { i, n })
    local left = rooms.told(romeo)
    check.equal({ i, #left }, { i, ({ 10, 10, 5 })[i] })
    check.ok(left[1]:find "^%-%d+ of silent.example none/none 333", left[1])
  end
  check.equal(host:close(), {})

  host, romeo, asked = occupied(30, { ["silent.example"] = 25 })       -- rounds shorter than the wait for an answer
  for i, n in ipairs { 10, 0, 10, 0, 5, 0, 0 } do check.equal({ i, asked(30)["silent.example"] or 0 }, { i, n }) end
  check.equal(#rooms.told(romeo), 25)
  check.equal(host:close(), {})

  host, romeo, asked = occupied(600, { ["silent.example"] = 25 })      -- a reload while some are asked
  check.equal(asked(600), { ["silent.example"] = 10 })
  host:run(function() assert(plugin.reload(ROOMS, "muc")) end)
  check.equal({ asked(0), rooms.told(romeo) }, { {}, {} })             -- nobody is put out, nobody else asked on the way
  check.equal(host:close(), {})

  local many = {}
  for i = 1, 25 do many[("mute%d.example"):format(i)] = 12 end
  host, romeo, asked = occupied(600, many)
  for domain, n in pairs(asked(600)) do check.equal({ domain, n }, { domain, 8 }) end
  check.equal(rooms.told(romeo), {})
  check.equal(host:close(), {})
end)

check.done()
