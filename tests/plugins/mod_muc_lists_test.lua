-- SPDX-License-Identifier: MIT
-- Lists of a room and its configuration: who may read them, what is changed together, who outside hears of it (XEP-0045 §9, §10).

local check = require "check"
local rooms = require "rooms_fixture"
local plugin = require "couplet.plugin"
local ROOM, USER = rooms.ROOM, rooms.USER

local function list(client, affiliation)
  local reply = rooms.ask(client, "get",
    ("<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='%s'/></query>"):format(affiliation))
  if reply.attr.type == "error" then return rooms.result(reply) end
  local out = {}
  for item in reply.tags[1]:childtags "item" do out[#out + 1] = item.attr.jid:match "^[^@]+" end
  table.sort(out)
  return table.concat(out, " ")
end

check.test("muc#roomconfig_getmemberlist: who may read the list of members", function()
  local rows = {
    -- configuration, { who = answer }
    { {}, { owner = "member", boss = "member", moderator = "member", participant = "auth forbidden", visitor = "auth forbidden",
      member = "auth forbidden", stranger = "auth forbidden" } },
    { { whois = "anyone" }, { moderator = "member", participant = "member", visitor = "member", member = "member",
      stranger = "auth forbidden" } },
    { { getmemberlist = { "participant" } }, { boss = "member", moderator = "auth forbidden", participant = "member",
      visitor = "auth forbidden", member = "auth forbidden", stranger = "auth forbidden" } },
    { { whois = "anyone", getmemberlist = {} }, { owner = "member", moderator = "auth forbidden", participant = "auth forbidden",
      member = "auth forbidden" } },
  }
  for i, row in ipairs(rows) do
    local host, who = rooms.new(), {}
    for _, name in ipairs { "owner", "boss", "moderator", "participant", "visitor", "member", "stranger" } do
      who[name] = rooms.person(host, name)
      if name ~= "member" and name ~= "stranger" then rooms.join(who[name], name) end
    end
    rooms.admin(who.owner, "<item affiliation='admin' jid='boss@example.org'/>"
      .. "<item affiliation='member' jid='member@example.org'/>")
    rooms.admin(who.owner, "<item role='moderator' nick='moderator'/>")
    rooms.admin(who.owner, "<item role='visitor' nick='visitor'/>")
    check.equal(rooms.result(rooms.configure(who.owner, row[1])), "ok")
    for name, want in pairs(row[2]) do check.equal(list(who[name], "member"), want, i .. " " .. name) end
    check.ok(list(who.participant, "outcast"):find "forbidden")
    host:close()
  end
end)

check.test("§10.1: the lists in the form are whole lists, and one write with all the rest: all or nothing", function()
  local host = rooms.new()
  local romeo = rooms.person(host, "romeo")
  rooms.join(romeo, "Romeo")
  local function state() return ("%s | %s"):format(list(romeo, "owner"), list(romeo, "admin")) end
  local function submit(fields) return rooms.result(rooms.configure(romeo, fields)) end
  local function named(...)
    local out = { ... }
    for i, name in ipairs(out) do out[i] = name .. "@example.org" end
    return out
  end
  check.equal(submit { persistentroom = "1", roomadmins = named("a", "b") }, "ok")
  check.equal(state(), "romeo | a b")
  check.equal(submit { roomadmins = named("b", "c"), roomowners = named("romeo", "a", "c") }, "ok")
  check.equal(state(), "a c romeo | b")          -- who is named in both is an owner
  check.equal(submit { roomowners = {} }, "cancel conflict")
  check.equal(submit { roomname = "new", roomowners = named("a"), roomadmins = named("b") }, "ok")    -- handed over
  check.equal(list(romeo, "owner"), "auth forbidden")
  local a = rooms.person(host, "a")
  romeo = a
  check.equal(state(), "a | b")
  -- a plugin refuses one of them, then the disk all
  host:run(function()
    plugin.get_module(rooms.ROOMS, "muc").module:hook("muc-pre-set-affiliation", function(event)
      if event.jid:find "^never" then event.allowed = false end
    end)
  end)
  check.equal(submit { roomname = "newer", roomadmins = named("b", "never", "d") }, "cancel not-allowed")
  check.equal(state(), "a | b")
  local muc, broken = plugin.get_module(rooms.ROOMS, "muc"), true
  host:run(function()
    local room = muc.get_room_from_jid(ROOM)
    local save = room.save
    function room:save(...)
      if broken then return nil, "the disk is full" end
      return save(self, ...)
    end
  end)
  check.equal(submit { roomname = "newest", moderatedroom = "1", roomadmins = named("d") }, "wait internal-server-error")
  broken = false
  check.equal(state(), "a | b")
  local info = tostring(rooms.ask(a, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>"))
  check.ok(info:find("name='new'", 1, true) and info:find("muc_unmoderated", 1, true), info)
  host:close()
end)

check.test("§10.2: an admin named in the form that closes the room to all but members stays", function()
  local host = rooms.new()
  local romeo, juliet, nurse = rooms.person(host, "romeo"), rooms.person(host, "juliet"), rooms.person(host, "nurse")
  rooms.join(romeo, "Romeo")
  rooms.join(juliet, "Juliet")
  rooms.join(nurse, "Nurse")
  for _, who in ipairs { romeo, juliet, nurse } do rooms.told(who) end
  check.equal(rooms.result(rooms.configure(romeo, { membersonly = "1", roomadmins = "juliet@example.org" })), "ok")
  check.equal(rooms.told(nurse), { "-Nurse none/none 110,322" })
  check.equal(#rooms.told(juliet), 4)            -- herself twice over: admin, then all others; the nurse; 104
  host:close()
end)

check.test("§10.3, §10.6: where addresses are known, those inside hear of changes to who is not", function()
  for _, whois in ipairs { "anyone", "moderators" } do
    local host, who = rooms.cast { whois = whois }
    local function heard(client)
      local out = {}
      for _, stanza in ipairs(client:received()) do
        local item = stanza.name == "message" and stanza:get_child("x", USER):get_child "item"
        if item then
          check.equal({ stanza.attr.from, stanza.attr.type, stanza.attr.to }, { ROOM, nil, client.jid })
          out[#out + 1] = ("%s %s %s %s"):format(item.attr.jid, item.attr.affiliation, item.attr.role,
            item:get_child_text "reason" or "")
        end
      end
      return out
    end
    check.equal(rooms.result(rooms.admin(who.owner, "<item affiliation='member' jid='nurse@example.org'/>"
      .. "<item affiliation='outcast' jid='evil.example'><reason>spam</reason></item>")), "ok")
    local all = whois == "anyone" and { "nurse@example.org member none ", "evil.example outcast none spam" } or {}
    check.equal({ heard(who.guest), heard(who.owner), heard(who.outside) }, { all, all, {} })
    check.equal(rooms.result(rooms.admin(who.owner, "<item affiliation='member' jid='nurse@example.org'/>"
      .. "<item affiliation='member' jid='guest@example.org'/>")), "ok")
    check.equal(heard(who.boss), all)                      -- what does not change, or is seen in presence, makes no message
    local many = {}
    for i = 1, 30 do many[i] = "<item affiliation='member' jid='m" .. i .. "@example.org'/>" end
    check.equal(rooms.result(rooms.admin(who.owner, table.concat(many))), "ok")
    host:advance(1)
    check.equal(#heard(who.guest), whois == "anyone" and 20 or 0)
    host:close()
  end
end)

check.test("§9.3, §14.1: who is not here hears of it: members by an invitation, others by code 101", function()
  local host = rooms.new()
  local romeo, juliet = rooms.person(host, "romeo"), rooms.person(host, "juliet")
  juliet:send "<presence/>"
  rooms.join(romeo, "Romeo")
  juliet:received()
  check.equal(rooms.result(rooms.admin(romeo, "<item affiliation='member' jid='juliet@example.org'/>")), "ok")
  local message = juliet:received()[1]
  check.equal(message.attr.from, ROOM)
  check.ok(message:get_child("x", USER):get_child_with_attr("status", nil, "code", "101"))
  check.equal(message:find("{" .. USER .. "}x/item@affiliation"), "member")
  check.equal(rooms.result(rooms.configure(romeo, { membersonly = "1", passwordprotectedroom = "1", roomsecret = "x" })), "ok")
  check.equal(rooms.result(rooms.admin(romeo, "<item affiliation='none' jid='juliet@example.org'><reason>no</reason></item>")),
    "ok")
  message = juliet:received()[1]
  check.equal(message:find("{" .. USER .. "}x/item/reason#"), "no")
  check.ok(message:get_child("x", USER):get_child_with_attr("status", nil, "code", "101"))
  check.equal(rooms.result(rooms.admin(romeo, "<item affiliation='member' jid='juliet@example.org'/>")), "ok")
  message = juliet:received()[1]
  check.equal(message:find("{" .. USER .. "}x/invite@from"), "romeo@example.org")
  check.equal(message:find("{" .. USER .. "}x/password#"), "x")
  check.equal(rooms.result(rooms.admin(romeo, "<item affiliation='member' jid='juliet@example.org'/>")), "ok")
  check.equal(juliet:received(), {})             -- nothing has changed
  juliet:send(("<message to='%s'><x xmlns='%s'><decline to='romeo@example.org'/></x></message>"):format(ROOM, USER))
  rooms.join(juliet, "Juliet", "<password>x</password>")
  for _, who in ipairs { romeo, juliet } do rooms.told(who) end
  check.equal(rooms.result(rooms.admin(romeo, "<item affiliation='admin' jid='juliet@example.org'/>")), "ok")
  check.equal(rooms.told(juliet), { "+Juliet admin/moderator 110", "+Romeo owner/moderator" })     -- she is here and sees it
  -- of a thousand in one request some twenty are written to
  local items, messages = {}, 0
  for i = 1, 100 do items[i] = ("<item affiliation='member' jid='p%d@example.org'/>"):format(i) end
  host:run(function()
    plugin.get_module(rooms.ROOMS, "muc").module:hook("muc-invite", function() messages = messages + 1 end)
  end)
  check.equal(rooms.result(rooms.admin(romeo, table.concat(items))), "ok")
  check.equal(messages, 20)
  host:close()
end)

check.done()
