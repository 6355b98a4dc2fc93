-- SPDX-License-Identifier: MIT
-- Rooms with many in them: who comes and goes takes turns with everybody else, and not all presence has to be shown.

local check = require "check"
local clock = require "couplet.clock"
local rooms = require "rooms_fixture"
local plugin = require "couplet.plugin"
local router = require "couplet.router"
local st = require "couplet.stanza"
local task = require "couplet.task"

local ROOM = "big@" .. rooms.ROOMS

local function crowd(host, n, after)
  local people = {}
  for i = 1, n do
    people[i] = rooms.person(host, "p" .. i)
    rooms.join(people[i], "P" .. i, nil, nil, ROOM)
    if i % 50 == 0 then host:advance(1) end
  end
  host:advance(after or 1)
  return people
end

local function at_once(client, room, nick, kind)
  local stanza = st.presence { from = client.jid, to = ("%s@%s/%s"):format(room, rooms.ROOMS, nick), type = kind }
  if not kind then stanza:tag("x", { xmlns = "http://jabber.org/protocol/muc" }):up() end
  task.spawn(router.core_process_stanza, client.session, stanza)
end

check.test("a crowd at the door of a big room is let in by and by, in order; nobody elsewhere waits", function()
  local host = rooms.new()
  local people = crowd(host, 60)
  for _, person in ipairs(people) do check.equal(#person:received(), 61) end      -- all see all, and the subject
  local late = {}
  for i = 1, 60 do late[i] = rooms.person(host, "late" .. i) end
  host:advance(1)
  local elsewhere, inside = rooms.person(host, "elsewhere"), 0
  host:run(function()                            -- all at once: nobody waits for another's turn here
    for i = 1, 60 do at_once(late[i], "big", "Late" .. i) end
    for i = 1, 60 do
      local told = rooms.told(late[i])
      if #told > 0 then
        check.equal(inside, i - 1)               -- first come, first served
        inside = i
      end
    end
    at_once(elsewhere, "small", "E")
    check.equal(rooms.told(elsewhere)[1], "+E owner/moderator 110,201")
    at_once(late[60], "big", "Late60", "unavailable")              -- goes before it has come
    check.equal(rooms.told(late[60]), {})
  end)
  check.ok(inside > 10 and inside < 60, inside)
  host:advance(1)
  check.equal(#people[1]:received(), 61)         -- 60 who came, one who went
  local told = rooms.told(late[60])
  check.equal(table.concat(told, " | ", 120, 122), "+Late60 none/participant 110 | subject (room):  | -Late60 none/none 110")
  check.equal(host:close(), {})
end)

check.test("joins that take long: as many between two looks at the sockets as take 2 ms", function()
  local host = rooms.new()
  crowd(host, 60)
  local late, done, most, worked = {}, 0, 0, 0
  for i = 1, 30 do late[i] = rooms.person(host, "late" .. i) end
  local cpu, timer = clock.cpu, clock.timer
  local _ <close> = setmetatable({}, { __close = function() clock.cpu, clock.timer = cpu, timer end })
  clock.cpu = function() return worked end
  clock.timer = function(seconds, fn)
    return timer(seconds, function(...)
      local before = done
      local again = fn(...)
      most = math.max(most, done - before)
      return again
    end)
  end
  host:run(function()
    plugin.get_module(rooms.ROOMS, "iq").module:hook("muc-occupant-joined", function()
      done, worked = done + 1, worked + 0.0015
    end)
    for i = 1, 30 do at_once(late[i], "big", "Late" .. i) end
    check.equal(done, 2)                         -- and not the sixteen whose presence would be 2000
  end)
  host:advance(1)
  check.equal({ done, most }, { 30, 2 })
  check.equal(host:close(), {})
end)

check.test("the plugin goes while some wait at the door", function()
  local host = rooms.new()
  crowd(host, 60)
  local late = {}
  for i = 1, 60 do late[i] = rooms.person(host, "late" .. i) end
  host:run(function()
    local pace = plugin.get_module(rooms.ROOMS, "muc").module:require "muc/pace"
    for i = 1, 60 do at_once(late[i], "big", "Late" .. i) end
    check.ok(plugin.unload(rooms.ROOMS, "muc"))
    for _ = 1, 100 do check.equal(pace(60), false) end             -- what is still under way there waits for nobody
  end)
  for i = 1, 60 do check.ok(#late[i]:received() > 0) end
  check.equal(host:close(), {})
end)

check.test("muc_max_users_presence: above it moderators alone are shown, and all see who goes", function()
  local host = rooms.new { muc_room_locking = false, muc_max_users_presence = 3 }
  local owner, a, b = rooms.person(host, "owner"), rooms.person(host, "a"), rooms.person(host, "b")
  local c, d = rooms.person(host, "c"), rooms.person(host, "d")
  rooms.join(owner, "Owner")
  rooms.join(a, "A")
  rooms.join(b, "B")
  for _, who in ipairs { owner, a, b } do rooms.told(who) end
  rooms.join(c, "C")
  check.equal(rooms.told(c), { "+Owner owner/moderator", "+C none/participant 110", "subject (room): " })
  check.equal(rooms.told(a), {})
  check.equal(rooms.told(owner), { "+C none/participant" })
  a:send(("<presence to='%s/A'><show>away</show></presence>"):format(rooms.ROOM))
  check.equal(rooms.told(b), {})
  check.equal(rooms.told(a), { "+A none/participant 110" })
  owner:send(("<presence to='%s/Owner'><show>away</show></presence>"):format(rooms.ROOM))
  check.equal(rooms.told(b), { "+Owner owner/moderator" })
  check.equal(rooms.told(a), { "+Owner owner/moderator" })
  rooms.admin(owner, "<item nick='B' role='moderator'/>")
  check.equal(rooms.told(a), { "+B none/moderator" })
  check.equal(#rooms.told(b), 4)                 -- himself, and all the others
  rooms.admin(owner, "<item nick='B' role='participant'/>")
  check.equal(rooms.told(a), { "-B none/none" })
  for _, who in ipairs { b, c } do rooms.told(who) end
  a:send(("<presence type='unavailable' to='%s/A'/>"):format(rooms.ROOM))
  check.equal(rooms.told(b), { "-A none/none" })
  check.equal(rooms.told(c), { "-A none/none" })
  rooms.join(d, "D")
  check.equal(rooms.told(d), { "+Owner owner/moderator", "+D none/participant 110", "subject (room): " })
  c:send(("<presence type='unavailable' to='%s/C'/>"):format(rooms.ROOM))
  d:send(("<presence type='unavailable' to='%s/D'/>"):format(rooms.ROOM))
  rooms.told(a)
  rooms.join(a, "A")                             -- three are few again
  check.equal(#rooms.told(a), 4)
  check.equal(host:close(), {})
end)

check.test("muc_room_default_presence_broadcast; a plugin that comes later has its say in what is shown", function()
  local host = rooms.new { muc_room_locking = false, muc_room_default_presence_broadcast = { moderator = true } }
  local owner, a, b = rooms.person(host, "owner"), rooms.person(host, "a"), rooms.person(host, "b")
  rooms.join(owner, "Owner")
  rooms.join(a, "A")
  check.equal(rooms.told(a), { "+Owner owner/moderator", "+A none/participant 110", "subject (room): " })
  rooms.told(owner)
  local all = { presencebroadcast = { "visitor", "participant", "moderator" } }
  check.equal(rooms.result(rooms.configure(owner, all)), "ok")
  rooms.join(b, "B")
  check.equal(#rooms.told(b), 4)
  host:run(function()
    plugin.get_module(rooms.ROOMS, "iq").module:hook("muc-build-occupant-presence", function(event)
      event.stanza:tag("mark", { xmlns = "urn:example:mark" }):up()
    end)
  end)
  local late = rooms.person(host, "late")
  rooms.join(late, "Late")
  for _, stanza in ipairs(late:received()) do
    check.ok(stanza.name ~= "presence" or stanza:get_child("mark", "urn:example:mark"), tostring(stanza))
  end
  host:close()
end)

check.test("occupants of one other server get what is said in one go, unless a plugin wants to see it leave", function()
  local host = rooms.new()
  local link = require "couplet.s2s_link"
  local events = require "couplet.hosts".get(rooms.ROOMS).events
  local routed, together, open = {}, {}, true
  local function note(event)
    routed[#routed + 1] = event.stanza.attr.to
    return true
  end
  local function from_there(name, kind)
    host:run(function()
      router.core_post_stanza({ type = "s2sin", host = rooms.ROOMS, from_host = name:match "@([^/]+)", to_host = rooms.ROOMS,
        send = function() end }, st.presence { from = name, to = ROOM .. "/" .. name:match "^[^@]+", type = kind }
        :tag("x", { xmlns = "http://jabber.org/protocol/muc" }):up())
    end)
  end
  local real = link.multicast
  link.multicast = function(here, there, stanza, tos)
    if not open then return false end
    table.sort(tos)
    together[#together + 1] = ("%s > %s: %s to %s"):format(here, there, stanza:get_child_text "body" or stanza.name,
      table.concat(tos, ","))
    return true
  end
  local near = rooms.person(host, "near")
  rooms.join(near, "Near", nil, nil, ROOM)
  events.add_handler("route/remote", note, -1)
  for _, name in ipairs { "a@far.example/x", "b@far.example/x", "c@other.example/x" } do from_there(name) end
  local function say(text)
    routed, together = {}, {}
    near:send(("<message to='%s' type='groupchat'><body>%s</body></message>"):format(ROOM, text))
    table.sort(routed)
    return table.concat(together, " "), table.concat(routed, " ")
  end
  local all = "a@far.example/x b@far.example/x c@other.example/x"
  local by, one = say "seen"                   -- that handler is nobody's we know
  check.equal({ by, one }, { "", all })
  events.entries "route/remote"[1].owner = { name = "s2s" }
  by, one = say "two"
  check.equal({ by, one }, { "rooms.example.org > far.example: two to a@far.example/x,b@far.example/x", "c@other.example/x" })
  open = false                                 -- the link is not: each waits for it
  by, one = say "three"
  check.equal({ by, one }, { "", all })
  link.multicast = real
  host:close()
end)

check.done()
