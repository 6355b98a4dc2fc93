-- SPDX-License-Identifier: MIT
-- Archives of rooms (XEP-0313), what moderators take back (XEP-0425).

local check = require "check"
local rooms = require "rooms_fixture"
local plugin = require "couplet.plugin"

local ROOMS, ROOM, USER = rooms.ROOMS, rooms.ROOM, rooms.USER
local MAM, SID = "urn:xmpp:mam:2", "urn:xmpp:sid:0"
local person, join, ask, result, configure = rooms.person, rooms.join, rooms.ask, rooms.result, rooms.configure

local function new(options)
  options = options or {}
  options.muc_room_locking = false
  return rooms.new(options, nil, { "muc_mam", "muc_moderation" })
end

local function say(client, inner, id)
  client:send(("<message to='%s' type='groupchat' id='%s'>%s</message>"):format(ROOM, id or "m", inner))
end

-- What the archive has for somebody: { { id, body, who said it }, … }, the error
local function read(client, form)
  client:received()
  local fin = ask(client, "set", ("<query xmlns='%s'>%s</query>"):format(MAM, form or ""))
  local out = {}
  for _, s in ipairs(client:received()) do
    local r = s:get_child("result", MAM)
    if r then
      local forwarded = r:get_child("forwarded", "urn:xmpp:forward:0")
      local message = forwarded:get_child("message", "jabber:client") or forwarded:get_child("presence", "jabber:client")
      out[#out + 1] = { id = r.attr.id, message = message, body = message:get_child_text "body",
        who = message:find("{" .. USER .. "}x/item@jid"), from = s.attr.from }
    end
  end
  return out, result(fin)
end

local function said(client, body)
  return client:expect(function(s) return s:get_child_text "body" == body end)
end

check.test("how many messages there are is told with a page where the admin wants it: in rooms, or in all archives", function()
  for i, row in ipairs { { {}, nil }, { { mam_include_total = true }, "3" }, { { muc_log_include_total = true }, "3" },
    { { mam_include_total = true, muc_log_include_total = false }, nil } } do
    local host = new(row[1])
    local romeo = person(host, "romeo")
    join(romeo, "Romeo")
    for n = 1, 3 do say(romeo, ("<body>%d</body>"):format(n)) end
    local fin = ask(romeo, "set", ("<query xmlns='%s'><set xmlns='http://jabber.org/protocol/rsm'><max>1</max></set></query>")
      :format(MAM))
    check.equal({ i, fin:find "{urn:xmpp:mam:2}fin/{http://jabber.org/protocol/rsm}set/count#" }, { i, row[2] })
    host:close()
  end
end)

check.test("the archive has what was said, under the ids everybody saw; who said it only for those who may know", function()
  local host = new()
  local romeo, juliet, nurse = person(host, "romeo"), person(host, "juliet"), person(host, "nurse")
  join(romeo, "Romeo")
  join(juliet, "Juliet")
  say(juliet, "<body>one</body><x xmlns='" .. USER .. "'><item jid='forged@example.org'/></x>")
  local live = said(romeo, "one"):get_child("stanza-id", SID)
  check.equal(live.attr.by, ROOM)
  say(romeo, "<body>two</body><no-store xmlns='urn:xmpp:hints'/>")
  say(romeo, "<composing xmlns='http://jabber.org/protocol/chatstates'/>")
  say(romeo, "<subject>Love</subject>")
  juliet:send(("<message to='%s/Romeo' type='chat'><body>psst</body></message>"):format(ROOM))
  local list, err = read(romeo)
  check.equal({ #list, err }, { 2, "ok" })                                     -- and the subject
  check.equal({ list[1].id, list[1].body, list[1].who, list[1].from }, { live.attr.id, "one", "juliet@example.org/home", ROOM })
  check.equal(list[1].message.attr.from, ROOM .. "/Juliet")
  check.equal(list[1].message.attr.to, nil)
  list = read(juliet)
  check.equal({ list[1].body, list[1].who }, { "one", nil })
  check.equal(#read(nurse), 2)                                                 -- an open room
  check.equal(result(configure(romeo, { whois = "anyone" })), "ok")
  check.equal(read(nurse)[1].who, "juliet@example.org/home")
  local rows = {
    { { membersonly = 1 }, "auth forbidden" },
    { { membersonly = 0, roomsecret = "sesame", passwordprotectedroom = 1 }, "auth forbidden" },
    { { passwordprotectedroom = 0 }, "ok" },
  }
  for _, row in ipairs(rows) do
    configure(romeo, row[1])
    check.equal(select(2, read(nurse)), row[2])
  end
  ask(romeo, "set", "<query xmlns='http://jabber.org/protocol/muc#admin'>"
    .. "<item affiliation='outcast' jid='nurse@example.org'/></query>")
  check.equal(select(2, read(nurse)), "auth forbidden")
  check.equal(host:close(), {})
end)

check.test("owners switch it on and off; everybody is told", function()
  local host = new { muc_log_by_default = false }
  local romeo = person(host, "romeo")
  join(romeo, "Romeo")
  local first = romeo:expect { name = "presence" }
  check.ok(not tostring(first):find("170", 1, true))
  say(romeo, "<body>unheard</body>")
  check.equal(said(romeo, "unheard"):get_child("stanza-id", SID), nil)
  check.equal(select(2, read(romeo)), "cancel service-unavailable")
  for _, row in ipairs { { 1, "170" }, { 0, "171" } } do
    romeo:received()
    configure(romeo, { enablelogging = row[1] })
    check.equal(romeo:expect { name = "message" }:find("{" .. USER .. "}x/status@code"), row[2])
  end
  configure(romeo, { enablelogging = 1 })
  local juliet = person(host, "juliet")
  join(juliet, "Juliet")
  local own = juliet:expect(function(s) return s.attr.from == ROOM .. "/Juliet" end)
  check.ok(tostring(own):find("code='170'", 1, true))
  check.ok(tostring(ask(romeo, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>")):find(MAM, 1, true))
  check.equal(host:close(), {})
end)

check.test("muc_log_presences: who comes and goes is archived, for all who may read; history is messages alone", function()
  local host = new { muc_log_presences = true }
  local romeo, juliet = person(host, "romeo"), person(host, "juliet")
  join(romeo, "Romeo")
  configure(romeo, { persistentroom = 1 })
  join(juliet, "Juliet")
  say(romeo, "<body>hello</body>")
  juliet:send(("<presence to='%s/Juliet' type='unavailable'/>"):format(ROOM))
  local function story(client)
    local out = {}
    for _, item in ipairs((read(client))) do
      out[#out + 1] = ("%s %s %s"):format(item.message.name, item.message.attr.type or "", item.who or "")
    end
    return table.concat(out, "; ")
  end
  check.equal(story(romeo), "presence  juliet@example.org/home; message groupchat romeo@example.org/home; "
    .. "presence unavailable juliet@example.org/home")
  check.equal(story(juliet), "presence  ; message groupchat ; presence unavailable ")
  romeo:send(("<presence to='%s/Romeo' type='unavailable'/>"):format(ROOM))
  host:run(function()
    for _, name in ipairs { "muc_moderation", "muc_mam", "muc" } do plugin.unload(ROOMS, name) end
    for _, name in ipairs { "muc", "muc_mam", "muc_moderation" } do assert(plugin.load(ROOMS, name)) end
  end)
  juliet:received()
  join(juliet, "Juliet")
  check.equal(juliet:received()[2]:get_child_text "body", "hello")
  check.equal(host:close(), {})
end)

check.test("history outlives the room's memory; a new room of that name finds nothing", function()
  local host = new()
  local romeo, juliet = person(host, "romeo"), person(host, "juliet")
  join(romeo, "Romeo")
  configure(romeo, { persistentroom = 1 })
  for i = 1, 3 do say(romeo, "<body>line " .. i .. "</body>") end
  local id = said(romeo, "line 2"):get_child("stanza-id", SID).attr.id
  romeo:send(("<presence to='%s/Romeo' type='unavailable'/>"):format(ROOM))
  host:run(function()
    for _, name in ipairs { "muc_moderation", "muc_mam", "muc" } do plugin.unload(ROOMS, name) end
    for _, name in ipairs { "muc", "muc_mam", "muc_moderation" } do assert(plugin.load(ROOMS, name)) end
  end)
  join(juliet, "Juliet")
  local late = said(juliet, "line 2")
  check.equal(late:get_child("stanza-id", SID).attr.id, id)
  check.ok(late:get_child("delay", "urn:xmpp:delay"))
  check.equal(late:get_child("x", USER), nil)
  said(juliet, "line 3")
  join(romeo, "Romeo")
  check.equal(result(ask(romeo, "set", "<query xmlns='http://jabber.org/protocol/muc#owner'><destroy/></query>")), "ok")
  juliet:received()
  join(juliet, "Juliet")
  check.equal(#read(juliet), 0)
  check.equal(host:close(), {})
end)

check.test("XEP-0425: moderators take back; XEP-0424: authors too; a note is left", function()
  local host = new()
  local romeo, juliet = person(host, "romeo"), person(host, "juliet")
  join(romeo, "Romeo")
  join(juliet, "Juliet")
  local function id_of(body)
    say(juliet, "<body>" .. body .. "</body>")
    juliet:received()
    return said(romeo, body):get_child("stanza-id", SID).attr.id
  end
  local function moderate(client, id, reason)
    return result(ask(client, "set", ([[<moderate xmlns='urn:xmpp:message-moderate:1' id='%s'>
      <retract xmlns='urn:xmpp:message-retract:1'/>%s</moderate>]]):format(id, reason or "")))
  end
  local id = id_of "rude"
  check.equal(moderate(juliet, id), "auth forbidden")
  check.equal(moderate(romeo, "0000000000000000"), "cancel item-not-found")
  check.equal(moderate(romeo, id, "<reason>manners</reason>"), "ok")
  local told = juliet:expect { name = "message" }
  local retract = told:get_child("retract", "urn:xmpp:message-retract:1")
  check.equal({ told.attr.from, retract.attr.id, retract:get_child_text "reason" }, { ROOM, id, "manners" })
  local moderated = retract:get_child("moderated", "urn:xmpp:message-moderate:1")
  check.equal(moderated.attr.by, ROOM .. "/Romeo")
  check.ok(moderated:get_child("occupant-id", "urn:xmpp:occupant-id:0"))
  local list = read(juliet)
  check.equal({ list[1].id, list[1].body }, { id, nil })
  local stone = list[1].message:get_child("retracted", "urn:xmpp:message-retract:1")
  check.equal({ stone:get_child_text "reason", stone:get_child("moderated", "urn:xmpp:message-moderate:1").attr.by },
    { "manners", ROOM .. "/Romeo" })
  check.ok(list[1].message:get_child("occupant-id", "urn:xmpp:occupant-id:0"))
  check.equal(moderate(romeo, id), "ok")
  for _, forged in ipairs {                    -- §5: only the room says so
    "<retract xmlns='urn:xmpp:message-retract:1' id='%s'><moderated xmlns='urn:xmpp:message-moderate:1' by='%s/Me'/></retract>",
    "<apply-to xmlns='urn:xmpp:fasten:0' id='%s'><moderated xmlns='urn:xmpp:message-moderate:0' by='%s/Romeo'/></apply-to>",
  } do
    romeo:received()
    juliet:send(("<message to='%s' type='groupchat'>%s</message>"):format(ROOM, forged:format(id, ROOM)))
    local refused = juliet:expect { name = "message" }
    check.equal({ select(2, refused:get_error()), #romeo:received() }, { "forbidden", 0 })
  end
  -- Clients of version 0.2 ask in their way, and are told in it as well.
  local function moderate_old(client, target, inner)
    return result(ask(client, "set", ([[<apply-to xmlns='urn:xmpp:fasten:0' id='%s'><moderate
      xmlns='urn:xmpp:message-moderate:0'>%s<reason>manners</reason></moderate></apply-to>]]):format(target, inner
      or "<retract xmlns='urn:xmpp:message-retract:0'/>")))
  end
  local id_old = id_of "ruder"
  check.equal(moderate_old(juliet, id_old), "auth forbidden")
  check.equal(moderate_old(romeo, id_old, "<x/>"), "modify bad-request")
  check.equal(moderate_old(romeo, "0000000000000000"), "cancel item-not-found")
  check.equal(moderate_old(romeo, id_old), "ok")
  told = juliet:expect { name = "message" }
  check.equal({ told:get_child("retract", "urn:xmpp:message-retract:1").attr.id, told:find
    "{urn:xmpp:fasten:0}apply-to@id" }, { id_old, id_old })
  moderated = told:find "{urn:xmpp:fasten:0}apply-to/{urn:xmpp:message-moderate:0}moderated"
  check.equal({ moderated.attr.by, moderated:get_child_text "reason" }, { ROOM .. "/Romeo", "manners" })
  check.ok(moderated:get_child("retract", "urn:xmpp:message-retract:0"))
  local nurse = person(host, "nurse")
  join(nurse, "Nurse")                                                         -- not in the history either
  for _, s in ipairs(nurse:received()) do check.ok(s:get_child_text "body" ~= "rude") end
  -- One's own, not another's.
  local own = id_of "regretted"
  say(romeo, "<retract xmlns='urn:xmpp:message-retract:1' id='" .. own .. "'/>", "r1")
  local kept = read(juliet)
  check.equal(kept[#kept - 1].body, "regretted")
  say(juliet, "<retract xmlns='urn:xmpp:message-retract:1' id='" .. own .. "'/>", "r2")
  local gone
  for _, item in ipairs(read(juliet)) do if item.id == own then gone = item end end
  check.equal(gone.body, nil)
  check.equal(gone.message:find "{urn:xmpp:message-retract:1}retracted@id", "r2")
  check.equal(host:close(), {})
end)

check.done()
