-- SPDX-License-Identifier: MIT
-- Options of rooms that admins know from Prosody: who may make, list and keep rooms, and under which nickname somebody goes. What
-- is not understood forbids, and the log names the option.

local check = require "check"
local fake = require "fakehost"
local rooms = require "rooms_fixture"
local ROOM = rooms.ROOM

local function new(options)
  options.muc_room_locking = false
  local host = rooms.new(options)
  return host, rooms.person(host, "romeo"), rooms.person(host, "admin")
end

check.test("restrict_room_creation: everybody, administrators, accounts of this server; anything else: administrators", function()
  local rows = {
    -- value, may romeo (of this server), may a stranger (of another), is there a complaint
    { nil, true, true }, { false, true, true }, { true, false, false }, { "local", true, false },
    { "locals", false, false, true }, { "false", false, false, true }, { 1, false, false, true }, { "admin", false, false, true },
  }
  for i, row in ipairs(rows) do
    local host, romeo, admin = new { restrict_room_creation = row[1] }
    rooms.join(romeo, "Romeo")
    check.equal({ i, rooms.told(romeo)[1] }, { i, row[2] and "+Romeo owner/moderator 110,201"
      or "presence error cancel not-allowed" })
    rooms.join(admin, "Admin", nil, nil, "other@" .. rooms.ROOMS)
    check.equal({ i, rooms.told(admin)[1] }, { i, "+Admin owner/moderator 110,201" })
    local made
    host:run(function()
      require "couplet.hosts".get(rooms.ROOMS).events.add_handler("route/remote", function() return true end)
      require "couplet.router".core_post_stanza({ type = "s2sin", host = rooms.ROOMS, from_host = "far.example",
        to_host = rooms.ROOMS, send = function() end },
        require "util.xml".parse(("<presence from='a@far.example/x' to='far@%s/A'><x xmlns='http://jabber.org/protocol/muc'/>"
          .. "</presence>"):format(rooms.ROOMS)))
      made = require "couplet.plugin".get_module(rooms.ROOMS, "muc").get_room_from_jid("far@" .. rooms.ROOMS) ~= nil
    end)
    check.equal({ i, made }, { i, row[3] })
    check.equal({ i, fake.logged("option restrict_room_creation of " .. rooms.ROOMS:gsub("%.", "%%.") .. " is .* but one of",
      "error") ~= nil }, { i, row[4] == true })
    host:close()
  end
end)

check.test("muc_occupant_id: who does not want them told tells of none", function()
  for i, on in ipairs { true, false } do
    local host, romeo = new { muc_occupant_id = on }
    rooms.join(romeo, "Romeo")
    local presence = romeo:expect { name = "presence" }
    check.equal({ i, presence:get_child("occupant-id", "urn:xmpp:occupant-id:0") ~= nil }, { i, on })
    rooms.say(romeo, "hello")
    local said = romeo:expect(function(s) return s:get_child_text "body" == "hello" end)
    check.equal({ i, said:get_child("occupant-id", "urn:xmpp:occupant-id:0") ~= nil }, { i, on })
    local info = rooms.ask(romeo, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>")
    check.equal({ i, tostring(info):find("occupant-id", 1, true) ~= nil }, { i, on })
    host:close()
  end
end)

check.test("a room that Prosody kept: its occupants have the ids they had there (XEP-0421 §4)", function()
  local host = rooms.new { muc_room_locking = false }
  local romeo = rooms.person(host, "romeo")
  host:run(function()
    local plugin = require "couplet.plugin"
    assert(plugin.unload(rooms.ROOMS, "muc"))
    assert(require "couplet.store".open(rooms.ROOMS, "config", "keyval"):set("moved", { _jid = "moved@" .. rooms.ROOMS,
      ["romeo@example.org"] = "owner",
      _data = { persistent = true, occupant_id_salt = "40600b09-7130-4ab7-8708-a2c396fc695e" } }))
    assert(plugin.load(rooms.ROOMS, "muc"))
  end)
  rooms.join(romeo, "Romeo", nil, nil, "moved@" .. rooms.ROOMS)
  check.equal(romeo:expect { name = "presence" }:get_child("occupant-id", "urn:xmpp:occupant-id:0").attr.id,
    "uQ7RBRHQayQ8SHQD0l5fjdkU41zFnQU30wiHVwpBFXs=")
  host:close()
end)

check.test("muc_room_allow_public, muc_room_allow_persistent: owners, or administrators alone", function()
  for _, name in ipairs { "public", "persistent" } do
    local option, var = "muc_room_allow_" .. name, name .. "room"
    local rows = {
      -- value, may an owner?, is there a complaint
      { nil, true }, { true, true }, { "true", true }, { 1, true }, { false, false }, { "false", false },
      { "perhaps", false, true }, { 7, false, true },
    }
    for i, row in ipairs(rows) do
      local host, romeo, admin = new { [option] = row[1] }
      rooms.join(romeo, "Romeo")
      local function is()
        local info = rooms.ask(romeo, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>")
        return tostring(info):find("muc_" .. name, 1, true) ~= nil
      end
      if name == "public" then check.equal({ i, is() }, { i, row[2] }) end               -- hidden by default, then
      rooms.configure(romeo, { [var] = "0" })
      check.equal({ i, is() }, { i, false })
      rooms.configure(romeo, { [var] = "1" })
      check.equal({ i, is() }, { i, row[2] })
      rooms.join(admin, "Admin")
      rooms.configure(admin, { [var] = "1" })
      check.equal({ i, is() }, { i, true })
      check.equal({ i, fake.logged("option " .. option .. " of ", "error") ~= nil }, { i, row[3] == true })
      host:close()
    end
  end
end)

local function register(client, nick)
  return rooms.result(rooms.ask(client, "set", ([[<query xmlns='jabber:iq:register'><x xmlns='jabber:x:data' type='submit'>
    <field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#register</value></field>
    <field var='muc#register_roomnick'><value>%s</value></field></x></query>]]):format(nick)))
end

check.test("allow_unaffiliated_register: everybody, or members alone, unless an owner says otherwise", function()
  for i, row in ipairs { { nil, "ok" }, { true, "ok" }, { false, "cancel not-allowed" } } do
    local host, romeo = new { allow_unaffiliated_register = row[1], muc_room_default_persistent = true }
    local juliet = rooms.person(host, "juliet")
    rooms.join(romeo, "Romeo")
    check.equal({ i, register(juliet, "Juliet") }, { i, row[2] })
    check.equal(register(romeo, "Montague"), "ok")
    check.equal(rooms.result(rooms.configure(romeo, { ["x-roomconfig_registration"] = "open" })), "ok")
    check.equal(register(juliet, "Juliet"), "ok")
    host:close()
  end
end)

check.test("enforce_registered_nickname: who has one enters under it and keeps it", function()
  for i, row in ipairs {
    { false, "+Other member/participant 110", nil }, { true, "+Juliet member/participant 110,210", "cancel not-acceptable" } } do
    local host, romeo = new { enforce_registered_nickname = row[1], muc_room_default_persistent = true }
    local juliet, nurse = rooms.person(host, "juliet"), rooms.person(host, "nurse")
    rooms.join(romeo, "Romeo")
    check.equal(register(juliet, "Juliet"), "ok")
    rooms.join(juliet, "Other")
    check.equal({ i, rooms.told(juliet)[2] }, { i, row[2] })
    juliet:send(("<presence to='%s/Capulet'/>"):format(ROOM))
    check.equal({ i, rooms.told(juliet)[1] }, { i, row[3] and "presence error " .. row[3]
      or "-Other member/participant ->Capulet 110,303" })
    rooms.join(nurse, "Nurse")                 -- who has none goes by any that is free
    nurse:received()
    nurse:send(("<presence to='%s/Angelica'/>"):format(ROOM))
    check.equal({ i, rooms.told(nurse)[2] }, { i, "+Angelica none/participant 110" })
    check.equal(host:close(), {})
  end
end)

-- What the form of owners says of a field.
local function field_of(client, name)
  local form = rooms.ask(client, "get", "<query xmlns='http://jabber.org/protocol/muc#owner'/>")
  for field in form:find "{http://jabber.org/protocol/muc#owner}query/{jabber:x:data}x":childtags "field" do
    if field.attr.var == name then return field:get_child_text "value" end
  end
end

check.test("muc_room_default_allow_pm, …_always_allow_moderator_pms: in Prosody's words and ours", function()
  local rows = {
    -- value, field, is there a complaint, may a visitor write to a participant, to a moderator
    { nil, "anyone", false, "ok", "ok" }, { "visitor", "anyone", false, "ok", "ok" },
    { "participant", "participants", false, "cancel policy-violation", "ok" },
    { "participants", "participants", false, "cancel policy-violation", "ok" },
    { "moderator", "moderators", false, "cancel policy-violation", "ok" },
    { "none", "none", false, "cancel policy-violation", "ok" }, { "all", "anyone", true, "ok", "ok" },
  }
  for i, row in ipairs(rows) do
    local host, romeo = new { muc_room_default_allow_pm = row[1], muc_room_default_moderated = true,
      muc_room_default_always_allow_moderator_pms = true }
    local juliet, nurse = rooms.person(host, "juliet"), rooms.person(host, "nurse")
    rooms.join(romeo, "Romeo")
    rooms.join(juliet, "Juliet")
    rooms.join(nurse, "Nurse")
    rooms.admin(romeo, "<item nick='Juliet' role='participant'/>")
    check.equal({ i, field_of(romeo, "muc#roomconfig_allowpm") }, { i, row[2] })
    nurse:received()
    for k, nick in ipairs { "Juliet", "Romeo" } do
      nurse:send(("<message to='%s/%s' type='chat' id='%s'><body>psst</body></message>"):format(ROOM, nick, nick))
      local errors = nurse:received()
      check.equal({ i, nick, errors[1] and rooms.result(errors[1]) or "ok" }, { i, nick, row[3 + k] })
    end
    check.equal({ i, fake.logged("option muc_room_default_allow_pm of ", "error") ~= nil }, { i, row[3] })
    host:close()
  end
end)

check.test("muc_room_default_presence_broadcast: a map, a list, one role", function()
  for i, row in ipairs {
    -- value, does a participant see that a visitor comes, is there a complaint
    { nil, true, false }, { { visitor = true, participant = true, moderator = true }, true, false },
    { { participant = true, moderator = true }, false, false }, { { "participant", "moderator" }, false, false },
    { "moderator", false, false }, { { "visitor", "king" }, true, true },
  } do
    local host, romeo = new { muc_room_default_presence_broadcast = row[1], muc_room_default_moderated = true }
    local juliet = rooms.person(host, "juliet")
    local nurse = rooms.person(host, "nurse")
    rooms.join(romeo, "Romeo")
    rooms.join(nurse, "Nurse")
    rooms.admin(romeo, "<item nick='Nurse' role='participant'/>")
    nurse:received()
    rooms.join(juliet, "Juliet")
    check.equal({ i, rooms.told(nurse)[1] }, { i, row[2] and "+Juliet none/visitor" or nil })
    check.equal({ i, fake.logged("king is no role", "error") ~= nil }, { i, row[3] })
    host:close()
  end
end)

check.test("muc_vcard, muc_avatar_advertise_hashes: whether a room has a picture, and how people hear of it", function()
  local PHOTO = "<vCard xmlns='vcard-temp'><PHOTO><TYPE>image/png</TYPE><BINVAL>Zm9v</BINVAL></PHOTO></vCard>"
  local HASH = "0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33"
  local function news(client)
    local out = {}
    for _, stanza in ipairs(client:received()) do
      local photo = stanza:find "{vcard-temp:x:update}x/photo"
      if photo then out[#out + 1] = stanza.attr.from .. " " .. photo:get_text() end
      if tostring(stanza):find("code='104'", 1, true) then out[#out + 1] = "104" end
    end
    return table.concat(out, ", ")
  end
  for i, row in ipairs {
    -- option, on change, on entering
    { nil, "104, " .. ROOM .. " " .. HASH, ROOM .. " " .. HASH }, { "presence", ROOM .. " " .. HASH, ROOM .. " " .. HASH },
    { "message", "104", "" }, { "none", "", "" },
  } do
    local host, romeo = new { muc_avatar_advertise_hashes = row[1] }
    local juliet, nurse = rooms.person(host, "juliet"), rooms.person(host, "nurse")
    rooms.join(romeo, "Romeo")
    rooms.join(juliet, "Juliet")
    check.equal({ i, news(juliet) }, { i, "" })
    check.equal(rooms.result(rooms.ask(romeo, "set", PHOTO)), "ok")
    check.equal({ i, news(juliet) }, { i, row[2] })
    rooms.join(nurse, "Nurse")
    local heard, last = nurse:received(), row[3] ~= "" and "presence" or "message"
    function nurse.received() return heard end
    check.equal({ i, news(nurse) }, { i, row[3] })
    check.equal({ i, heard[#heard].name }, { i, last })                -- XEP-0045 §7.1: the subject, then what is new
    if last == "presence" then check.ok(heard[#heard - 1]:get_child "subject") end
    juliet:received()
    check.equal(rooms.result(rooms.ask(romeo, "set", "<vCard xmlns='vcard-temp'/>")), "ok")
    check.equal({ i, news(juliet) }, { i, (row[2]:gsub(HASH, "")) })
    host:close()
  end
  local host, romeo = new { muc_vcard = false }
  rooms.join(romeo, "Romeo")
  check.equal(rooms.result(rooms.ask(romeo, "set", PHOTO)), "cancel service-unavailable")
  local info = rooms.ask(romeo, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>")
  check.equal(tostring(info):find("vcard-temp", 1, true), nil)
  host:close()
end)

check.test("a room that goes while its card is written leaves none behind", function()
  local memory, meanwhile = require "couplet.storage.memory", function() end
  local driver = memory.driver
  local _ <close> = setmetatable({}, { __close = function() memory.driver = driver end })
  function memory.driver(...)
    local made = driver(...)
    local open = made.open
    function made.open(self, name, kind)
      local store, err = open(self, name, kind)
      local set = store and store.set
      if name == "vcard_muc" then
        function store.set(...)
          local ok, why = set(...)
          meanwhile()
          return ok, why
        end
      end
      return store, err
    end
    return made
  end
  local function kept(host)
    return host:run(function() return require "couplet.store".open(rooms.ROOMS, "vcard_muc", "keyval"):get "verona" end)
  end
  for i, goes in ipairs { false, true } do
    local host, romeo = new {}
    rooms.join(romeo, "Romeo")
    function meanwhile()
      meanwhile = function() end
      if goes then require "couplet.plugin".get_module(rooms.ROOMS, "muc").get_room_from_jid(ROOM):destroy() end
    end
    local answer = rooms.result(rooms.ask(romeo, "set", "<vCard xmlns='vcard-temp'><FN>x</FN></vCard>"))
    check.equal({ i, answer, kept(host) ~= nil }, { i, goes and "cancel item-not-found" or "ok", not goes })
    host:close()
  end
end)

check.test("muc-occupant-pre-join: plugins see who comes, and may change nickname, role and affiliation", function()
  local rows = {
    { "", "+Juliet none/participant 110" },
    { "event.occupant.nick = event.room.jid .. '/Capulet'", "+Capulet none/participant 110,210" },
    { "event.occupant.role = 'visitor'", "+Juliet none/visitor 110" },
    { "event.occupant.role = nil", "presence error auth forbidden" },
    { "event.room:set_affiliation(true, event.occupant.bare_jid, 'admin')", "+Juliet admin/moderator 110" },
  }
  for i, row in ipairs(rows) do
    local host, romeo = new {}
    local juliet, seen = rooms.person(host, "juliet"), nil
    rooms.join(romeo, "Romeo")
    local bus = require "couplet.hosts".get(rooms.ROOMS).events
    local change = load("local event = ... " .. row[1])
    bus.add_handler("muc-occupant-pre-join", function(event)
      local o = event.occupant
      seen = { o.nick, o.bare_jid, o.role, event.is_first_session }
      change(event)
    end, 5)
    rooms.join(juliet, "Juliet")
    local told = rooms.told(juliet)
    check.equal({ i, told[2] or told[1] }, { i, row[2] })
    check.equal({ i, seen }, { i, { ROOM .. "/Juliet", "juliet@example.org", "participant", true } })
    host:close()
  end
end)

check.test("muc-occupant-pre-join: who comes is changed, and nobody inside", function()
  local rows = {
    -- who comes; as whom; what a handler does; what who comes hears of it, Juliet's first resource, Romeo; may she speak
    { "nurse", "Juliet", "o.role = 'visitor'", "presence error cancel conflict", {}, {} },
    { "nurse", "Juliet", "o.role = nil", "presence error cancel conflict", {}, {} },
    { "nurse", "Juliet", "o.nick = event.room.jid .. '/Capulet'", "+Capulet none/participant 110,210",
      { "+Capulet none/participant" }, { "+Capulet none/participant" } },
    { "nurse", "Romeo", "romeo:send(leave)", "+Romeo none/participant 110",           -- a moderator until then
      { "-Romeo owner/none", "+Romeo none/participant" }, { "-Romeo owner/none 110" } },
    { "juliet", "Juliet", "", "+Juliet none/participant 110", {}, {} },
    { "juliet", "Juliet", "o.role = nil", "presence error auth forbidden", {}, {} },
    { "juliet", "Juliet", "o.role = 'visitor'", "+Juliet none/visitor 110", { "+Juliet none/visitor 110" },
      { "+Juliet none/visitor" }, "message error auth forbidden" },
    { "juliet", "Juliet", "o.nick = event.room.jid .. '/Capulet'", "+Capulet none/participant 110,210",
      { "+Capulet none/participant" }, { "+Capulet none/participant" } },
  }
  for i, row in ipairs(rows) do
    local host, romeo = new {}
    local juliet, comes = rooms.person(host, "juliet"), host:client(row[1] .. "@example.org/late")
    rooms.join(romeo, "Romeo")
    rooms.join(juliet, "Juliet")
    rooms.told(romeo)
    rooms.told(juliet)
    local change = load("local event, romeo, leave = ... local o = event.occupant " .. row[3])
    require "couplet.hosts".get(rooms.ROOMS).events.add_handler("muc-occupant-pre-join", function(event)
      change(event, romeo, ("<presence type='unavailable' to='%s/Romeo'/>"):format(ROOM))
    end, 5)
    rooms.join(comes, row[2])
    local last
    for _, line in ipairs(rooms.told(comes)) do last = not line:find "^subject" and line or last end
    check.equal({ i, last, rooms.told(juliet), rooms.told(romeo) }, { i, row[4], row[5], row[6] })
    rooms.say(juliet, "still me")
    check.equal({ i, rooms.told(juliet)[1] }, { i, row[7] or "groupchat Juliet: still me" })
    host:close()
  end
end)

check.test("muc-room-pre-create: plugins give affiliations in a room that will be kept; who makes it owns it", function()
  local rows = {
    -- default, what a handler does besides, what romeo hears, is it kept
    { false, nil, "+Romeo owner/moderator 110,201", false },
    { true, nil, "+Romeo owner/moderator 110,201", true },
    { false, function(room) room:set_persistent(true) end, "+Romeo owner/moderator 110,201", true },
    { true, function(room) assert(room:save()) end, "+Romeo owner/moderator 110,201", true },
    { true, function(room, muc) muc.track_room(room) end, "+Romeo owner/moderator 110,201", true },
    { true, function() return true end, nil, false },                      -- refused: nothing is left
  }
  for i, row in ipairs(rows) do
    local host, romeo = new { muc_room_default_persistent = row[1] }
    local muc = require "couplet.plugin".get_module(rooms.ROOMS, "muc")
    local seen
    muc.module:hook("muc-room-pre-create", function(event)
      local room = event.room
      local refused = row[2] and row[2](room, muc)
      assert(room:set_affiliation(true, "juliet@example.org", "admin"))
      seen = room:get_affiliation "juliet@example.org"
      return refused
    end)
    rooms.join(romeo, "Romeo")
    check.equal({ i, rooms.told(romeo)[1], seen }, { i, row[3], "admin" })
    local stored = host:run(function() return require "couplet.store".open(rooms.ROOMS, "config", "keyval"):get "verona" end)
    check.equal({ i, stored and stored["romeo@example.org"], stored and stored["juliet@example.org"] },
      { i, row[4] and "owner" or nil, row[4] and "admin" or nil })
    check.equal({ i, host:run(function() return muc.get_room_from_jid(ROOM) ~= nil end) }, { i, row[3] ~= nil })
    check.equal(host:close(), {})
  end
end)

check.test("get_affiliation: nil is none for plugins, and what they put in its place counts", function()
  local host, romeo = new {}
  local juliet = rooms.person(host, "juliet")
  rooms.join(romeo, "Romeo")
  local room = require "couplet.plugin".get_module(rooms.ROOMS, "muc").get_room_from_jid(ROOM)
  check.equal(room:get_affiliation "romeo@example.org/home", "owner")
  check.equal({ room:get_affiliation "juliet@example.org", room:get_affiliation "" }, {})
  function room:get_affiliation(who)
    return who:find "^juliet@" and "member" or getmetatable(self).__index.get_affiliation(self, who)
  end
  rooms.join(juliet, "Juliet")
  check.equal(rooms.told(juliet)[2], "+Juliet member/participant 110")
  host:close()
end)

check.test("on a host with accounts it is not loaded: the log says where rooms belong, and presence goes on", function()
  local host = fake.new { plugins = { "iq", "presence", "roster" } }
  local loaded
  host:run(function() loaded = require "couplet.plugin".load(host.name, "muc") end)
  check.ok(not loaded)
  check.ok(fake.logged('Component "rooms.example.org" "muc"', "error"))
  local romeo = host:client "romeo@example.org/home"
  romeo:send "<presence/>"
  romeo:expect { name = "presence", from = "romeo@example.org/home" }
  host:close()
end)

check.done()
