-- SPDX-License-Identifier: MIT
-- Random lives of a room beside a small model of one: after every step all who are inside agree with it who is there, under which
-- nickname and with which role; who is outside is told nothing more. Who has lost his connection is inside all the same, and
-- knows everything once he has resumed (XEP-0198), or is gone when his time is over. Fixed seeds; COUPLET_SEEDS: how many
-- instead of 8.

local check = require "check"
local fake = require "fakehost"
local plugin = require "couplet.plugin"

local SM, AWAY = "urn:xmpp:sm:3", 60
local ROOMS, ROOM = "rooms.example.org", "verona@rooms.example.org"
local USER = "http://jabber.org/protocol/muc#user"
local RANK = { visitor = 1, participant = 2, moderator = 3 }

local function default_role(model, affiliation)
  if affiliation == "owner" or affiliation == "admin" then return "moderator" end
  if affiliation == "member" then return "participant" end
  return model.moderated and "visitor" or "participant"
end

-- A connection stream management can be put on; what is sent again on it comes to the client as well.
local function net_of(c)
  return { track = function(_, queue) c.queue = queue end, session = function() end, close = function() end,
    abort = function() end,
    send = function(_, x)
      local stanza = type(x) ~= "string" and x or x:find "^<[pmi]" and require "couplet.util.xml".parse(x)
      if stanza then table.insert(c.client.inbox, stanza) end
      return true
    end }
end

local function connect(host, c)
  c.client, c.view, c.inside, c.away = host:client(c.name .. "@example.org/x"), {}, false, nil
  local session = c.client.session
  local plain = session.send
  session.net, c.queue = net_of(c), nil
  session.send = function(x)
    if c.queue then c.queue:add(x) end
    return plain(x)
  end
  c.client:send "<presence/>"
  c.client:send(("<enable xmlns='%s' resume='true'/>"):format(SM))
  c.token = c.client:expect { name = "enabled", xmlns = SM }.attr.id
  c.client:received()
end

-- What this client believes: { nick = role }, and whether it is inside.
local function listen(c)
  if c.away then return end
  for _, s in ipairs(c.client:received()) do
    local x = s.name == "presence" and s.attr.type ~= "error" and s:get_child("x", USER)
    if x then
      local nick, item, own = s.attr.from:match "/(.*)$", x:get_child "item", false
      for status in x:childtags "status" do own = own or status.attr.code == "110" end
      if s.attr.type == "unavailable" then
        c.view[nick] = nil
        if own and not item.attr.nick then c.view, c.inside = {}, false end
      else
        if own then c.inside = true end
        c.view[nick] = item.attr.role
      end
    end
  end
end

-- The lists a room sends by say what its tables say (muc/delivery, muc/list).
local function consistent(room)
  local audience, rows, n = room._audience, room._rows, 0
  for full, nick in pairs(room._jid_nick) do
    n = n + 1
    local i = audience and audience.at[full]
    if audience and not (audience.full[i] == full and audience.who[i] == room._occupants[nick]
      and audience.who[i].sessions[full]) then return "audience: " .. full end
  end
  if audience and n ~= #audience.full then return "audience: too many" end
  n = 0
  for nick, occupant in pairs(room._occupants) do
    n = n + 1
    if rows and rows.who[rows.at[nick]] ~= occupant then return "rows: " .. nick end
  end
  if rows and n ~= #rows.who or n ~= room:occupant_count() then return "rows: too many" end
  for i in pairs(rows and rows.full or {}) do if i > n then return "rows: what nobody is shown by" end end
  return "consistent"
end

local function fresh()
  return fake.new { plugins = { "iq", "presence", "message", "disco", "smacks" }, options = { smacks_hibernation_time = AWAY } }
end

do                                             -- stream management starts its clock once, and no life leaves it behind
  local host = fresh()
  connect(host, { name = "nobody" })
  host:close()
end

local function life(seed, steps)
  math.randomseed(seed)
  local host = fresh()
  host:component(ROOMS, "muc", { muc_room_locking = false })
  host:run(function() assert(plugin.load(ROOMS, "iq")) end)
  local people, resumed, model, serial = {}, 0, { moderated = false, affiliation = { owner = "owner" }, inside = {} }, 0
  for i, name in ipairs { "owner", "ann", "ben", "cleo", "dan", "eve" } do
    people[i] = { name = name }
    connect(host, people[i])
  end
  local owner = people[1]
  local function at(nick)
    for name, who in pairs(model.inside) do if who.nick == nick then return name, who end end
  end
  local function join(c, nick, x)
    c.client:send(("<presence to='%s/%s'>%s</presence>"):format(ROOM, nick,
      x and "<x xmlns='http://jabber.org/protocol/muc'/>" or ""))
    local affiliation, taken = model.affiliation[c.name] or "none", at(nick)
    if taken and taken ~= c.name or affiliation == "outcast" then return end
    local me = model.inside[c.name]
    if model.members_only and affiliation == "none" and not me then return end
    if me then me.nick = nick
    elseif x then model.inside[c.name] = { nick = nick, role = default_role(model, affiliation) } end
  end
  local function ask(inner, ns)
    serial = serial + 1
    owner.client:send(("<iq type='set' id='s%d' to='%s'><query xmlns='http://jabber.org/protocol/muc#%s'>%s</query></iq>")
      :format(serial, ROOM, ns or "admin", inner))
  end
  local function configure(field, value)
    ask(("<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value>"
      .. "</field><field var='muc#roomconfig_%s'><value>%d</value></field></x>"):format(field, value and 1 or 0), "owner")
  end
  local steps_of = {
    join = function(c) join(c, c == owner and "O" or "n" .. math.random(4), true) end,
    rename = function(c) if c ~= owner then join(c, "n" .. math.random(4)) end end,
    leave = function(c)
      if c == owner then return end
      c.client:send(("<presence type='unavailable' to='%s/any'/>"):format(ROOM))
      model.inside[c.name] = nil
    end,
    fall = function(c)                         -- the connection breaks, and nobody has noticed yet
      if c == owner then return end
      c.away, c.h = "deaf", c.queue:sent()
    end,
    notice = function(c)
      if c.away ~= "deaf" then return end
      c.away = "waiting"
      host:run(require "couplet.sessions".destroy_session, c.client.session, "connection lost")
    end,
    resume = function(c)
      if not c.away then return end
      c.away = nil
      c.client:received()                      -- what was written meanwhile has gone nowhere
      local new = host:client(c.name .. "@example.org")
      new.session.net = net_of(c)
      new:send(("<resume xmlns='%s' previd='%s' h='%d'/>"):format(SM, c.token, c.h))
      c.client:expect { name = "resumed", xmlns = SM }
      resumed = resumed + 1
    end,
    expire = function()
      host:advance(AWAY + 1)
      for _, c in ipairs(people) do
        if c.away == "waiting" then
          model.inside[c.name] = nil
          connect(host, c)                     -- and knows nothing
        end
      end
    end,
    affiliate = function(c)
      if c == owner then return end
      local new = ({ "none", "member", "admin", "outcast", "none" })[math.random(5)]
      ask(("<item affiliation='%s' jid='%s@example.org'/>"):format(new, c.name))
      local old, me = model.affiliation[c.name] or "none", model.inside[c.name]
      model.affiliation[c.name] = new ~= "none" and new or nil
      if not me then return end
      if new == "outcast" or new == "none" and model.members_only then model.inside[c.name] = nil return end
      local role = default_role(model, new)
      local lower = new ~= "admin" and old ~= "admin" and RANK[role] < RANK[me.role]
      if not (lower and not model.moderated) then me.role = role end
    end,
    role = function()
      local nick, role = "n" .. math.random(4), ({ "none", "visitor", "participant", "moderator" })[math.random(4)]
      ask(("<item nick='%s' role='%s'/>"):format(nick, role))
      local name, who = at(nick)
      if not who then return end
      if role == "none" then model.inside[name] = nil
      elseif not (model.affiliation[name] == "admin" and role ~= "moderator") then who.role = role end
    end,
    moderate = function()
      model.moderated = not model.moderated
      configure("moderatedroom", model.moderated)
    end,
    seclude = function()
      model.members_only = not model.members_only
      configure("membersonly", model.members_only)
      for name in pairs(model.members_only and model.inside or {}) do
        if not model.affiliation[name] then model.inside[name] = nil end
      end
    end,
    reload = function() host:run(function() assert(plugin.reload(ROOMS, "muc")) end) end,
  }
  local names = { "join", "join", "join", "rename", "leave", "fall", "fall", "notice", "resume", "resume", "resume", "expire",
    "affiliate", "affiliate", "role", "role", "moderate", "seclude", "reload" }
  join(owner, "O", true)
  model.inside.owner.role = "moderator"
  local trail = {}
  for step = 1, steps do
    local what, who = names[math.random(#names)], people[math.random(#people)]
    local its_own = what == "join" or what == "rename" or what == "leave" or what == "fall"
    if not (its_own and who.away) then steps_of[what](who) end
    trail[#trail + 1] = what .. " " .. who.name
    check.equal(consistent(plugin.get_module(ROOMS, "muc").get_room_from_jid(ROOM)), "consistent",
      ("seed %d, step %d: %s"):format(seed, step, what))
    local want = {}
    for _, inside in pairs(model.inside) do want[inside.nick] = inside.role end
    for _, c in ipairs(people) do
      listen(c)
      if c.away then goto next end             -- he does not know it yet; all others see him
      local where = ("seed %d, step %d, %s: %s"):format(seed, step, c.name, table.concat(trail, ", ", math.max(1, step - 5)))
      check.equal({ where, c.inside, c.view }, { where, model.inside[c.name] ~= nil, model.inside[c.name] and want or {} })
      ::next::
    end
  end
  for _, c in ipairs(people) do steps_of.notice(c) end
  steps_of.expire()
  check.ok(resumed > 0)
  check.equal(host:close(), {})
end

for seed = 1, tonumber(os.getenv "COUPLET_SEEDS") or 8 do
  check.test("150 steps of a room, seed " .. seed, function() life(seed, 150) end)
end

check.done()
