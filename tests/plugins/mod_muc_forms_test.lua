-- SPDX-License-Identifier: MIT
-- The forms of rooms with fields that are missing, doubled, unknown, of another kind or far too much (XEP-0004 §3.2, XEP-0045
-- §7.10, §8.6, §9.9, §10.2): the exact error, nothing of it is done, and nobody else hears of it.

local check = require "check"
local rooms = require "rooms_fixture"
local ROOM, MUC = rooms.ROOM, "http://jabber.org/protocol/muc"
local BAD, NO = "modify bad-request", "modify not-acceptable"

local function f(var, ...)
  local values = {}
  for i, value in ipairs { ... } do values[i] = "<value>" .. value .. "</value>" end
  return ("<field var='%s'>%s</field>"):format(var, table.concat(values))
end
local function x(kind, fields, type)
  return ("<x xmlns='jabber:x:data' type='%s'>%s%s</x>"):format(type or "submit", kind and f("FORM_TYPE", kind) or "", fields)
end
local function many(n, text) return (text:rep(n):gsub("%%", function() n = n - 1 return n end)) end

local MB = ("x"):rep(1024 * 1024)
local HATS = "urn:xmpp:hats:commands"

-- owner, visitor, outside; the room stays, is moderated, and an admin decides who registers.
local function cast()
  local host = rooms.new { muc_room_locking = false, muc_max_affiliations = 100 }
  local who = rooms.people(host, { "owner", "visitor", "outside" })
  rooms.join(who.owner, "Owner")
  check.equal(rooms.result(rooms.configure(who.owner, { roomname = "before", persistentroom = "1", moderatedroom = "1",
    ["x-roomconfig_registration"] = "approval" })), "ok")
  rooms.join(who.visitor, "Visitor")
  for _, client in pairs(who) do client:received() end
  return host, who
end

local function send(client, kind, payload, to)
  if kind ~= "message" then return rooms.result(rooms.ask(client, kind, payload, to)) end
  client:send(("<message to='%s'>%s</message>"):format(ROOM, payload))
  local got = client:received()[1]
  return not got and "ok" or got.attr.type == "error" and table.concat({ got:get_error() }, " ", 1, 2) or "told"
end

local C = "muc#roomconfig_"
local forms = {
  config = function(who, form) return send(who.owner, "set", ("<query xmlns='%s#owner'>%s</query>"):format(MUC, form)) end,
  register = function(who, form) return send(who.outside, "set", "<query xmlns='jabber:iq:register'>" .. form .. "</query>") end,
  answer = function(who, form) return send(who.owner, "message", form) end,
  voice = function(who, form) return send(who.visitor, "message", form) end,
  grant = function(who, form) return send(who.owner, "message", form) end,
  hat = function(who, form)
    return send(who.owner, "set", ("<command xmlns='http://jabber.org/protocol/commands' node='%s' action='execute'>%s</command>")
      :format(HATS .. ":create", form))
  end,
  search = function(who, form)
    return send(who.outside, "get", ("<search xmlns='urn:xmpp:channel-search:0:search'>%s</search>"):format(form), rooms.ROOMS)
  end,
}
local TYPES = { config = MUC .. "#roomconfig", register = MUC .. "#register", answer = MUC .. "#register",
  voice = MUC .. "#request", grant = MUC .. "#request", hat = HATS, search = "urn:xmpp:channel-search:0:search-params" }

local rows = {
  -- form, fields, answer; the type of the form if it is another, or false: none
  { "config", "", "ok", false },                                                                  -- an instant room
  { "config", "", "ok" },
  { "config", f(C .. "roomname", "after"), BAD, false },
  { "config", f(C .. "roomname", "after"), BAD, MUC .. "#register" },
  { "config", f("FORM_TYPE", MUC .. "#roomconfig") .. f(C .. "roomname", "after"), BAD },
  { "config", f(C .. "roomname", "after") .. f(C .. "roomname", "after"), BAD },
  { "config", f(C .. "roomname", "after") .. f(C .. "moderatedroom", "1", "0"), BAD },
  { "config", f(C .. "roomname", "after", "later"), BAD },
  { "config", f(C .. "whois", "anyone", "moderators"), BAD },
  { "config", f(C .. "unknown", "x", "y") .. f "unknown" .. "<field/><field/><strange/>", "ok" },
  { "config", f "unknown" .. f "unknown", BAD },
  { "config", many(5000, f(C .. "unknown%", "x")), "ok" },
  { "config", f(C .. "moderatedroom", "yes"), NO }, { "config", f(C .. "moderatedroom", MB), NO },
  { "config", f(C .. "whois", "nobody"), NO }, { "config", f(C .. "whois", ""), NO },
  { "config", f(C .. "maxusers", "-5"), NO }, { "config", f(C .. "maxusers", "1e3"), NO },
  { "config", f(C .. "maxusers", "many"), NO }, { "config", f(C .. "maxusers", ("9"):rep(400)), NO },
  { "config", f(C .. "roomname", MB), NO }, { "config", f(C .. "roomdesc", MB), NO }, { "config", f(C .. "roomsecret", MB), NO },
  { "config", f(C .. "roomname", ("x"):rep(1025)), NO },
  { "config", f(C .. "roomadmins", "a@example.org", "@@@"), NO }, { "config", f(C .. "roomadmins", "a@" .. MB), NO },
  { "config", f(C .. "roomadmins", many(200, "p%@example.org</value><value>")), "wait resource-constraint" },
  { "config", f(C .. "roomadmins", many(10000, "p%@example.org</value><value>")), "wait resource-constraint" },
  { "config", f(C .. "roomadmins", many(10000, "@@</value><value>")), NO },
  { "config", f(C .. "presencebroadcast", many(10000, "nobody%</value><value>")), NO },
  { "config", f("x-roomconfig_contactjid", many(10000, "p%@example.org</value><value>")), NO },
  { "register", f("muc#register_roomnick", "Nick"), BAD, false },
  { "register", f("muc#register_roomnick", "Nick"), BAD, MUC .. "#roomconfig" },
  { "register", "", BAD }, { "register", f "muc#register_roomnick", BAD },
  { "register", f("muc#register_roomnick", "Nick") .. f("muc#register_roomnick", "Nick"), BAD },
  { "register", f("muc#register_roomnick", "Nick", "Nack"), BAD },
  { "register", f("muc#register_roomnick", MB), NO },
  { "register", f("muc#register_roomnick", "Nick") .. many(1000, f("unknown%", "x")), NO },
  { "register", f("muc#register_roomnick", "Nick") .. f("unknown", many(10000, "p%</value><value>")), NO },
  { "answer", f("muc#register_allow", "1") .. f("muc#register_allow", "0"), BAD },
  { "answer", f("muc#register_allow", "maybe"), BAD }, { "answer", "", BAD },
  { "answer", f("muc#register_allow", "1") .. f("x-register_jid", "a@example.org", "b@example.org"), BAD },
  { "answer", f("muc#register_allow", "1") .. f("x-register_jid", MB), BAD },
  { "answer", f("muc#register_allow", "1") .. f("x-register_jid", "a@example.org"), "cancel item-not-found" },
  { "voice", f("muc#role", "participant") .. f("muc#role", "participant"), BAD },
  { "voice", f("muc#role", "participant", "moderator"), BAD },
  { "voice", f("muc#role", "moderator"), BAD }, { "voice", f("muc#role", MB), BAD },
  { "voice", f("muc#jid", "@@"), BAD }, { "voice", f("muc#request_allow", "perhaps"), BAD },
  { "grant", f("muc#roomnick", "Visitor") .. f("muc#request_allow", "0") .. f("muc#request_allow", "1"), BAD },
  { "grant", f("muc#roomnick", "Visitor") .. f("muc#roomnick", "Owner") .. f("muc#request_allow", "1"), BAD },
  { "grant", f("muc#roomnick", "Visitor") .. f("muc#request_allow", "0", "1"), BAD },
  { "grant", f("muc#roomnick", MB) .. f("muc#request_allow", "1"), "ok" },                        -- nobody of that name
  { "hat", f("hats#title", "A") .. f("hats#uri", "urn:a"), BAD, false },
  { "hat", f("hats#title", "A") .. f("hats#uri", "urn:a") .. f("hats#uri", "urn:b"), BAD },
  { "hat", f("hats#title", "A", "B") .. f("hats#uri", "urn:a"), BAD },
  { "hat", f("hats#title", "A"), NO }, { "hat", f("hats#title", MB) .. f("hats#uri", "urn:a"), NO },
  { "search", f("q", "before") .. f("q", "after"), BAD }, { "search", f("q", "a", "b"), BAD },
  { "search", f("q", "before"), BAD, false }, { "search", f("all", "perhaps"), BAD }, { "search", f("q", MB), BAD },
  { "search", f("all", "1") .. f("min_users", "-1"), BAD },
  { "search", f("all", "1") .. f("types", many(10000, "t%</value><value>")), "ok" },
}

check.test("each form, and what is wrong with it", function()
  local host, who = cast()
  local function state()
    local info = tostring(rooms.ask(who.owner, "get", "<query xmlns='http://jabber.org/protocol/disco#info'/>").tags[1])
    local form = tostring(rooms.ask(who.owner, "get", ("<query xmlns='%s#owner'/>"):format(MUC)).tags[1])
    return info .. form
  end
  local before = state()
  for i, row in ipairs(rows) do
    local kind = row[4]
    if kind == nil then kind = TYPES[row[1]] end
    local began = os.clock()
    local answer = forms[row[1]](who, x(kind, row[2]))
    check.ok(os.clock() - began < 1, i .. ": " .. os.clock() - began)
    check.equal(("%d %s %s"):format(i, row[1], answer), ("%d %s %s"):format(i, row[1], row[3]))
    for name, client in pairs(who) do check.equal({ i, name, #client:received() }, { i, name, 0 }) end
    check.ok(state() == before, "row " .. i .. " has changed the room")
  end
  check.equal(host:close(), {})
end)

check.test("an error says what is wrong, not all of it over again", function()
  local host, who = cast()
  for _, fields in ipairs { f(C .. "moderatedroom", MB), f(C .. "roomadmins", many(10000, "@@%</value><value>")),
    f(MB) .. f(MB) } do
    local reply = rooms.ask(who.owner, "set", ("<query xmlns='%s#owner'>%s</query>"):format(MUC, x(TYPES.config, fields)))
    check.ok(#tostring(reply:get_child "error") < 4096)
  end
  host:close()
end)

check.test("another form than one that is submitted; cancelled ones change nothing and say nothing", function()
  local rows_of = { config = "ok", register = BAD, answer = "ok", voice = "ok", grant = "ok" }
  for name, want in pairs(rows_of) do
    local host, who = cast()
    check.equal({ name, forms[name](who, x(TYPES[name], "", "cancel")) }, { name, want })
    check.equal({ name, forms[name](who, x(TYPES[name], "", "form")) }, { name, BAD })
    for other, client in pairs(who) do check.equal({ name, other, #client:received() }, { name, other, 0 }) end
    host:close()
  end
end)

check.test("§8.6: requests for voice reach the moderators, but not without end", function()
  local host, who = cast()
  for i = 1, 60 do check.equal({ i, forms.voice(who, x(TYPES.voice, f("muc#role", "participant"))) }, { i, "ok" }) end
  check.equal(forms.voice(who, x(TYPES.voice, f("muc#role", "participant"))), "wait policy-violation")
  check.equal(#who.owner:received(), 60)
  host:close()
end)

check.done()
