-- SPDX-License-Identifier: MIT
-- rooms_fixture.lua: a host with rooms, people and what they do there, for the tests of mod_muc and of plugins beside it.
--
--   local rooms = require "rooms_fixture"               ROOMS, ROOM: addresses of the service and of a room
--   rooms.new(options?, global?, plugins?) -> host      options of the component; plugins: more of them there
--   rooms.people(host, names) -> { name = client }, each available
--   rooms.cast(fields?) -> host, people                 fields: of the room's configuration. In it: owner, boss (an admin), mod
--                                                       (moderator, no affiliation), member, guest; outside: nobody
--   rooms.person(host, "romeo") -> client               rooms.join(client, nick, inside <x/>?, beside it?, room?)
--   rooms.say(client, text)   rooms.ask(client, type, payload, to?) -> iq   rooms.result(iq) -> "ok" | "type condition"
--   rooms.admin(client, items) -> iq   rooms.configure(client, { field = value | list }) -> iq
--   rooms.told(client) -> { "presence nick affiliation/role codes", "message nick: body", … }: what came, in short
--   rooms.stranger(host) -> far, sent, post             people of other servers: far(address, XML with %s for attributes, to?)
--                                                       -> what came to that address: { "ok" | "type condition" | name };
--                                                       sent() -> what left for other servers since that was asked;
--                                                       post(like far): inside of host:run

local check = require "check"
local fake = require "fakehost"
local hosts = require "couplet.hosts"
local parse = require "couplet.util.xml".parse
local plugin = require "couplet.plugin"
local router = require "couplet.router"

local ROOMS, ROOM = "rooms.example.org", "verona@rooms.example.org"
local USER = "http://jabber.org/protocol/muc#user"

local rooms = { ROOMS = ROOMS, ROOM = ROOM, USER = USER }

function rooms.new(options, global, plugins)
  global = global or {}
  global.admins = { "admin@example.org" }
  local host = fake.new { plugins = { "iq", "presence", "message", "disco" }, global = global }
  host:component(ROOMS, "muc", options or { muc_room_locking = false })
  host:run(function()
    assert(plugin.load(ROOMS, "iq"))
    for _, name in ipairs(plugins or {}) do assert(plugin.load(ROOMS, name)) end
  end)
  return host
end

function rooms.person(host, name) return host:client(name .. "@example.org/home") end

function rooms.people(host, names)
  local who = {}
  for _, name in ipairs(names) do
    who[name] = rooms.person(host, name)
    who[name]:send "<presence/>"
  end
  return who
end

function rooms.join(client, nick, inner, extra, room)
  client:send(("<presence to='%s/%s'>%s<x xmlns='http://jabber.org/protocol/muc'>%s</x></presence>"):format(room or ROOM, nick,
    extra or "",
    inner or ""))
end

-- What came, in short: "presence nick affiliation/role codes", "message nick: body", …
function rooms.told(client)
  local out = {}
  for _, stanza in ipairs(client:received()) do
    local from = (stanza.attr.from or ""):match "/(.*)$" or "(room)"
    local x = stanza:get_child("x", USER)
    local codes = {}
    for status in (x or stanza):childtags("status", USER) do codes[#codes + 1] = status.attr.code end
    table.sort(codes)
    local item = x and x:get_child "item"
    local line
    if stanza.attr.type == "error" then
      if stanza.name == "presence" then check.ok(stanza:get_child("x", "http://jabber.org/protocol/muc"), "§7.2: by <x/>") end
      local kind, condition = stanza:get_error()
      line = ("%s error %s %s"):format(stanza.name, kind, condition)
    elseif stanza.name == "presence" then
      line = ("%s%s %s/%s%s"):format(stanza.attr.type == "unavailable" and "-" or "+", from, item
        and item.attr.affiliation or "?",
        item and item.attr.role or "?", item and item.attr.nick and " ->" .. item.attr.nick or "")
      if x and x:get_child "destroy" then line = line .. " destroyed" end
    elseif stanza:get_child "subject" and not stanza:get_child "body" then
      line = ("subject %s: %s"):format(from, stanza:get_child_text "subject")
    elseif stanza.name == "message" then
      line = ("%s %s: %s"):format(stanza.attr.type or "normal", from, stanza:get_child_text "body" or
        x and (x:get_child "invite" and "invite" or x:get_child "decline" and "decline") or "")
    else
      line = stanza.name .. " " .. stanza.attr.type
    end
    out[#out + 1] = line .. (#codes > 0 and " " .. table.concat(codes, ",") or "")
  end
  return out
end

function rooms.stranger(host)
  local away, here = {}, hosts.get(ROOMS)
  here.events.add_handler("route/remote", function(event)
    away[#away + 1] = event.stanza
    return true
  end)
  local function sent()
    local list = away
    away = {}
    return list
  end
  local function post(from, xml, to)
    local stanza = parse((xml:gsub("%%s", function() return ("from='%s' to='%s'"):format(from, to or ROOM) end)))
    router.core_post_stanza({ type = "s2sin", host = ROOMS, from_host = from:match "@([^/]+)", to_host = ROOMS,
      send = function(reply) router.core_post_stanza(here, reply, false) end }, stanza)
  end
  return function(from, xml, to)
    sent()
    host:run(post, from, xml, to)
    local told = {}
    for _, stanza in ipairs(sent()) do
      if stanza.attr.to == from then
        local kind, condition = stanza:get_error()
        told[#told + 1] = kind and kind .. " " .. condition or stanza.attr.type == "result" and "ok" or stanza.name
      end
    end
    return told
  end, sent, post
end

local serial = 0
function rooms.ask(client, kind, inner, to)
  serial = serial + 1
  local id = "q" .. serial
  client:send(("<iq type='%s' id='%s' to='%s'>%s</iq>"):format(kind, id, to or ROOM, inner))
  return client:expect { name = "iq", id = id }
end

function rooms.result(reply)
  if reply.attr.type == "result" then return "ok" end
  local kind, condition = reply:get_error()
  return kind .. " " .. condition
end

function rooms.admin(client, items) return rooms.ask(client, "set", "<query xmlns='http://jabber.org/protocol/muc#admin'>"
  .. items .. "</query>") end

function rooms.configure(client, fields)
  local out = { "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'>" ..
    "<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>" }
  for name, value in pairs(fields) do
    local whole = name:find("#", 1, true) or name:find "^x%-"
    out[#out + 1] = ("<field var='%s'>"):format(whole and name or "muc#roomconfig_" .. name)
    for _, one in ipairs(type(value) == "table" and value or { value }) do out[#out + 1] = "<value>" .. one .. "</value>" end
    out[#out + 1] = "</field>"
  end
  return rooms.ask(client, "set", table.concat(out) .. "</x></query>")
end

function rooms.say(client, text) client:send(("<message to='%s' type='groupchat'><body>%s</body></message>"):format(ROOM,
  text)) end

function rooms.cast(fields)
  local host = rooms.new()
  local who = rooms.people(host, { "owner", "boss", "mod", "member", "guest", "outside" })
  rooms.join(who.owner, "Owner")
  rooms.admin(who.owner, "<item affiliation='admin' jid='boss@example.org'/>"
    .. "<item affiliation='member' jid='member@example.org'/>")
  for name, nick in pairs { boss = "Boss", mod = "Mod", member = "Member", guest = "Guest" } do rooms.join(who[name], nick) end
  rooms.admin(who.owner, "<item role='moderator' nick='Mod'/>")
  if fields then check.equal(rooms.result(rooms.configure(who.owner, fields)), "ok") end
  for _, client in pairs(who) do client:received() end
  return host, who
end

return rooms
