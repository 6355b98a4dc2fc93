-- SPDX-License-Identifier: MIT
-- muc/room: the room as an object: who is in it, and what they are told of each other (XEP-0045 §7.1 to §7.3, §7.14).
-- Messages are in messages.lib, lists in affiliations.lib, the configuration in config.lib, sending in delivery.lib; all add
-- methods to room_mt.
--
-- Fields: jid; _data (configuration); _affiliations { bare = affiliation }; _affiliation_data { bare = { … } };
-- _occupants { nick = occupant }; _jid_nick { full = nick }; _history (messages.lib).
-- Plugins override methods in room_mt or in one room, and hook the muc-* events.

local count = require "util.iterators".count
local hosts = require "couplet.hosts"
local jid = require "util.jid"
local st = require "util.stanza"
local task = require "couplet.task"

local occupants = module:require "muc/occupant"
local pace = module:require "muc/pace"
local util = module:require "muc/util"

local TRAFFIC = "http://jabber.org/protocol/muc#traffic"     -- what may be sent here: everything
local MUC, USER = "http://jabber.org/protocol/muc", "http://jabber.org/protocol/muc#user"
local ranks = util.valid_affiliations

local room_mt = {}
room_mt.__index = room_mt
room_mt.__tostring = function(room) return "muc room <" .. room.jid .. ">" end

local lib = { room_mt = room_mt }

function lib.new_room(room_jid, data)
  return setmetatable({ jid = room_jid, _jid_nick = {}, _occupants = {}, _data = data or {}, _affiliations = {},
    _affiliation_data = {}, _history = {} }, room_mt)
end

-- Occupants ---------------------------------------------------------------------------------------------------------------------

function room_mt:has_occupant() return next(self._occupants) ~= nil end
function room_mt:get_occupant_jid(real_jid) return self._jid_nick[real_jid] end
function room_mt:get_occupant_by_nick(nick) return self._occupants[nick] end

function room_mt:get_occupant_by_real_jid(real_jid)
  local nick = self._jid_nick[real_jid]
  return nick and self._occupants[nick]
end

function room_mt:new_occupant(bare_jid, nick)
  local occupant = occupants.new(bare_jid, nick)
  local affiliation = self:affiliation_of(bare_jid)
  occupant.role = self:get_default_role(affiliation)
  return occupant
end

function room_mt:each_occupant() return pairs(self._occupants) end

-- What is shown of an occupant, or without a nickname of all of them, is built anew, and who may see what asked again.
function room_mt:changed(nick)
  self:_forget_shown(nick)
  if not nick then self:_look_again() end
end

-- Puts what holds for the occupant in force; one without role or resources leaves.
function room_mt:save_occupant(occupant)
  local nick = occupant.nick
  self:changed(nick)
  local old = self._occupants[nick]
  for full in pairs(old and old.sessions or {}) do self:_depart(full) end
  if occupant.role ~= nil and occupant.role ~= "none" and next(occupant.sessions) then
    for full in pairs(occupant.sessions) do self:_enter(full, occupant) end
    if not old then self._count = (self._count or 0) + 1 end
    if not next(self._occupants) then self:_occupied() end
    self._occupants[nick] = occupant
  elseif old then
    self._occupants[nick], self._count = nil, self._count - 1
  end
  self:_list(nick)
end

-- Out of the lists, whatever resources it has; who is to be told still has the occupant itself.
function room_mt:drop_occupant(occupant)
  self:save_occupant(setmetatable({ role = "none", sessions = {} }, { __index = occupant }))
end

function room_mt:occupant_count() return self._count or 0 end

-- Presence ----------------------------------------------------------------------------------------------------------------------

-- Whose presence is shown now: { role = true }. In a crowd that of moderators alone.
function room_mt:shown_roles()
  local shown = self:get_presence_broadcast()
  if self:occupant_count() <= module.config.muc_max_users_presence then return shown end
  return { visitor = false, participant = false, moderator = shown.moderator, none = false }
end

function room_mt:is_anonymous_for(who)
  local whois = self:get_whois()
  if whois == "anyone" then return false end
  local affiliation = self:affiliation_of(who)
  if affiliation == "admin" or affiliation == "owner" then return false end
  local occupant = self:get_occupant_by_real_jid(who)
  return not (occupant and occupant.role == "moderator")
end

function room_mt:build_item_list(occupant, x, is_anonymous, nick, actor_nick, actor_jid, reason)
  local affiliation = self:affiliation_of(occupant.bare_jid)
  local role = occupant.role or "none"
  local function item(real)
    x:tag("item", { affiliation = affiliation, role = role, nick = nick, jid = real })
    if actor_nick or actor_jid then x:tag("actor", { nick = actor_nick, jid = actor_jid }):up() end
    if reason then x:text_tag("reason", reason) end
    x:up()
  end
  if is_anonymous then
    item(nil)
  else
    local any = false
    for full in pairs(occupant.sessions) do item(full) any = true end
    if not any then item(occupant.jid or occupant.bare_jid) end
  end
  return x
end

local function only_ours()
  local entries = hosts.get(module.host).events.entries "muc-build-occupant-presence"
  for i = 1, #entries do
    local owner = entries[i].owner
    if not owner or owner.name ~= "muc" then return false end
  end
  return not hosts.get(module.host).events.wrapped "muc-build-occupant-presence"
end

function room_mt:build_unavailable_presence(from, to)
  local stanza = st.presence { type = "unavailable", from = from, to = to }
  return stanza
end

-- XEP-0421 §4: every presence has it. Those of who is here have it from muc/occupant_id.
local function with_id(self, stanza, occupant)
  local id = self:get_occupant_id(occupant)
  if id then stanza:tag("occupant-id", { xmlns = "urn:xmpp:occupant-id:0", id = id }):up() end
  return stanza
end

-- The presence of an occupant as others get it, without <x/>.
local function base_presence(self, occupant, real_jid)
  local stanza = occupant.role ~= nil and occupant.role ~= "none" and occupant:get_presence(real_jid)
  if stanza then
    stanza = st.clone(stanza)
    stanza.attr.from = occupant.nick
    if stanza.attr.type == "unavailable" then stanza = self:build_unavailable_presence(occupant.nick) end
  else
    stanza = self:build_unavailable_presence(occupant.nick)
  end
  module:fire_event("muc-build-occupant-presence", { room = self, occupant = occupant, stanza = stanza })
  return stanza
end

-- Tells everybody what has become of an occupant. x: <x/> with status codes for all, or { base = …, self = … } where the
-- occupant itself hears more. prev_role, force_unavailable, recipient: as plugins know them. hold: a list; whoever leaves hears
-- of it now, what is said to the others is put there as a function, for after the answer to who has asked for it (§8.2).
function room_mt:publicise_occupant_status(occupant, x, nick, actor, reason, prev_role, force_unavailable, recipient, hold)
  self:changed(occupant.nick)
  local base_x, self_x = x.base or x, x.self or x.base or x
  local actor_nick = actor and actor ~= true and select(3, jid.split(self:get_occupant_jid(actor) or "")) or nil
  local event = { room = self, stanza = nil, x = x, occupant = occupant, nick = nick, actor = actor, reason = reason,
    recipient = recipient }
  local base = base_presence(self, occupant)
  if force_unavailable and base.attr.type ~= "unavailable" then
    base = with_id(self, self:build_unavailable_presence(occupant.nick), occupant)
  end
  local farewell = force_unavailable and occupant:get_presence()
  if farewell and farewell.attr.type == "unavailable" then       -- with the words it was sent with
    base = with_id(self, st.clone(farewell), occupant)
    base.attr.from, base.attr.to = occupant.nick, nil
  end
  event.stanza = base
  module:fire_event("muc-broadcast-presence", event)
  if event.stanza then base = event.stanza end

  local function build(from_x, anonymous, self_codes)
    local full_x = st.clone(from_x)
    self:build_item_list(occupant, full_x, anonymous, nick, actor_nick,
      not anonymous and actor and actor ~= true and jid.bare(actor) or nil, reason)
    if self_codes then full_x:tag("status", { code = "110" }):up() end
    return st.clone(base):add_child(full_x)
  end

  local leaving = base.attr.type == "unavailable"
  local shown = leaving and self:get_presence_broadcast() or self:shown_roles()      -- it may have been seen before
  local role = leaving and prev_role or occupant.role or "none"
  local to_all = shown[role] or leaving and prev_role and shown[prev_role]
  -- Whoever has just lost a role that is shown leaves, for all but moderators.
  local vanished = not to_all and prev_role and shown[prev_role]

  local function tell_others()
    local me = self._occupants[occupant.nick]
    local full_list, anonymous_list = self:_listeners(me, not (to_all and not recipient) and function(other)
      return (to_all or other.role == "moderator") and (not recipient or other == recipient)
    end or nil)
    local left_list = {}
    if vanished then
      local seeing, blind = self:_listeners(me, function(other)
        return other.role ~= "moderator" and (not recipient or other == recipient)
      end)
      left_list = table.move(seeing, 1, #seeing, #blind + 1, blind)
    end
    if #anonymous_list > 0 then self:multicast(build(base_x, true), anonymous_list) end
    if #full_list > 0 then self:multicast(build(base_x, false), full_list) end
    if #left_list > 0 then
      local x_left = util.x { affiliation = self:affiliation_of(occupant.bare_jid), role = "none" }
      self:multicast(with_id(self, self:build_unavailable_presence(occupant.nick), occupant):add_child(x_left), left_list)
    end
  end
  local function tell_self()
    if recipient and recipient ~= occupant then return end
    for full in pairs(occupant.sessions) do
      local stanza = build(self_x, self:is_anonymous_for(full), true)
      stanza.attr.to = full
      self:route_stanza(stanza)
    end
  end
  if hold then
    tell_self()
    hold[#hold + 1] = tell_others
  elseif force_unavailable and not nick then   -- §7.14: first to who leaves
    tell_self()
    tell_others()
  else                                         -- §7.2.2: last to who comes
    tell_others()
    tell_self()
  end
end

-- The presence of an occupant as those who come get it. It is kept, but not where a plugin has a say in it.
function room_mt:_shown_presence(occupant, anonymous)
  return base_presence(self, occupant):add_child(self:build_item_list(occupant, util.x(), anonymous))
end
room_mt._may_keep_shown = only_ours

function room_mt:get_disco_info(stanza)
  local node = stanza.tags[1].attr.node
  local reply = st.reply(stanza):tag("query", { xmlns = "http://jabber.org/protocol/disco#info", node = node })
  local event = { room = self, reply = reply, form = require "util.dataforms".new {
    { name = "FORM_TYPE", type = "hidden", value = "http://jabber.org/protocol/muc#roominfo" } }, formdata = {} }
  if node and node ~= "" then
    module:fire_event("muc-disco#info/" .. node, event)
    if not event.exists and node == TRAFFIC then return st.error_reply(stanza, "cancel", "service-unavailable") end    -- §18.1.1
    if not event.exists then return st.error_reply(stanza, "cancel", "item-not-found") end
    return reply
  end
  module:fire_event("muc-disco#info", event)
  reply:add_child(event.form:form(event.formdata, "result"))
  return reply
end

-- Coming, staying, going --------------------------------------------------------------------------------------------------------

local error_to = util.refuse_presence

local function join_codes(self, event)
  local codes = {}
  if self:get_whois() == "anyone" then codes[#codes + 1] = 100 end
  if self.is_logged and self:is_logged() then codes[#codes + 1] = 170 end      -- mod_muc_mam
  if event.is_new_room and event.created then codes[#codes + 1] = 201 end
  return codes
end

local function tell_self(self, occupant, real_jid, x)
  x = self:build_item_list(occupant, st.clone(x), self:is_anonymous_for(real_jid))
  local reply = base_presence(self, occupant):add_child(x:tag("status", { code = "110" }):up())
  reply.attr.to = real_jid
  self:route_stanza(reply)
end

local RESOURCES_MAX = 30                       -- under one nickname: what is said of it names each

-- Is the nickname this session wants free for it? -> true | nil, after an answer
local function nick_is_free(self, origin, stanza, bare, nick)
  local other, real_jid = self._occupants[nick], stanza.attr.from
  if other and other.bare_jid == bare and not other.sessions[real_jid] and count(pairs(other.sessions)) >= RESOURCES_MAX then
    error_to(origin, stanza, "wait", "resource-constraint", "Too many resources under this nickname", self.jid)
    return nil
  end
  if self:_nick_taken(select(3, jid.split(nick)), bare) then
    error_to(origin, stanza, "cancel", "conflict", util.NICK_TAKEN, self.jid)
    return nil
  end
  return true
end

local PRESENCE_BYTES = 16384                   -- everybody in the room gets it, and whoever comes

function room_mt:presence_fits(origin, stanza)
  local bytes = #tostring(stanza)
  if bytes <= PRESENCE_BYTES and not self:has_share(stanza.attr.from, bytes) then return true end
  if bytes > PRESENCE_BYTES then
    error_to(origin, stanza, "modify", "policy-violation", "Your presence is too large for a room", self.jid)
  else
    error_to(origin, stanza, "wait", "resource-constraint", "Too many of your server are in rooms here", self.jid)
  end
  return false
end

function room_mt:handle_first_presence(origin, stanza)
  local real_jid, nick = stanza.attr.from, stanza.attr.to
  if not stanza:get_child("x", MUC) then
    -- §7.2.18 (groupchat 1.0 is gone): somebody who believes to be here; he hears that he is not.
    local reply, x = self:build_unavailable_presence(nick, real_jid), util.x(nil, { 110, 307, 333 })
    reply:add_child(x:reset():tag("item", { affiliation = self:affiliation_of(real_jid), role = "none" })
      :text_tag("reason", "You are not in this room"):up())
    origin.send(reply)
    return true
  end
  local bare = jid.bare(real_jid)
  local is_new_room = self._is_new
  -- Handlers may change the role or the nickname of who comes, and of nobody inside.
  local there = self._occupants[nick]
  local mine = there ~= nil and there.bare_jid == bare
  local candidate = mine and occupants.copy(there) or self:new_occupant(bare, nick)
  local role = candidate.role
  local event = { room = self, origin = origin, stanza = stanza, occupant = candidate, is_new_room = is_new_room,
    is_first_session = not mine }
  if not self:presence_fits(origin, stanza) or module:fire_event("muc-occupant-pre-join", event) then return true end
  if self.destroying then return error_to(origin, stanza, "cancel", "item-not-found", nil, self.jid) end
  nick = event.nick or candidate.nick
  if not nick_is_free(self, origin, stanza, bare, nick) then return true end

  local occupant = self._occupants[nick]
  local first = not occupant
  if first then
    occupant = self:new_occupant(bare, nick)             -- an affiliation may have come in the meantime
    if candidate.role ~= role then occupant.role = candidate.role end
  end
  local given = first and occupant.role or candidate.role
  if not given or given == "none" then return error_to(origin, stanza, "auth", "forbidden", nil, self.jid) end
  occupant:set_session(real_jid, stanza)
  self:save_occupant(occupant)
  event.occupant, event.is_first_session, event.nick = occupant, first, nick

  local x = { base = util.x(), self = util.x(nil, join_codes(self, { is_new_room = is_new_room, created = self._created_code })) }
  self._created_code = nil
  self:_send_others(real_jid, nick, true)
  if self._occupants[nick] ~= occupant or not occupant.sessions[real_jid] then return true end     -- put out meanwhile
  if stanza.attr.to ~= nick then x.self:tag("status", { code = "210" }):up() end
  if first then
    self:publicise_occupant_status(occupant, x)
    module:fire_event("muc-occupant-joined", { room = self, nick = nick, occupant = occupant, stanza = stanza, origin = origin })
  else                                         -- one more resource: only it is told
    self:changed(nick)
    tell_self(self, occupant, real_jid, x.self)
    if given ~= role then self:set_role(true, nick, given) end           -- one role for all of them
  end
  module:fire_event("muc-occupant-session-new", { room = self, nick = nick, occupant = occupant, stanza = stanza, origin = origin,
    jid = real_jid, is_new_room = is_new_room })
  return true
end

-- One of the resources of an occupant, or all, leave under another name or for good.
local function leave_nick(self, occupant, real_jid, codes, new_nick, stanza)
  local prev_role = occupant.role
  if next(occupant.sessions, next(occupant.sessions)) then             -- others stay
    local gone = occupants.copy(occupant)
    gone.sessions, gone.role = { [real_jid] = occupant.sessions[real_jid] }, new_nick and occupant.role or nil
    occupant:remove_session(real_jid)
    self:_depart(real_jid)
    self:changed(occupant.nick)
    local reply = with_id(self, self:build_unavailable_presence(occupant.nick, real_jid), occupant)
    local x = util.x(nil, codes)
    self:build_item_list(gone, x, self:is_anonymous_for(real_jid), new_nick)
    reply:add_child(x:tag("status", { code = "110" }):up())
    self:route_stanza(reply)
    -- It was the one the others see: they see the next one.
    if gone.jid == real_jid then self:publicise_occupant_status(occupant, util.x()) end
    return
  end
  local gone = occupants.copy(occupant)
  if not new_nick then gone.role = nil end
  self:drop_occupant(occupant)
  local farewell = stanza and occupants.clean(stanza, true)
  if farewell then
    farewell.attr.from = occupant.nick
    gone.sessions[real_jid] = farewell
  end
  self:publicise_occupant_status(gone, util.x(nil, codes), new_nick, nil, nil, prev_role, true)
end

function room_mt:handle_normal_presence(origin, stanza)
  local kind, real_jid = stanza.attr.type, stanza.attr.from
  local occupant = self:get_occupant_by_real_jid(real_jid)
  local bare = jid.bare(real_jid)
  local want = stanza.attr.to
  if kind == "unavailable" then
    if not occupant then return true end                               -- §17.3: silently
    local event = { room = self, origin = origin, stanza = stanza, orig_occupant = occupant, occupant = occupant,
      nick = occupant.nick }
    if module:fire_event("muc-occupant-pre-leave", event) then return true end
    local nick = occupant.nick
    leave_nick(self, occupant, real_jid, {}, nil, stanza)
    if not self._occupants[nick] then
      module:fire_event("muc-occupant-left", { room = self, nick = nick, occupant = occupant, stanza = stanza, origin = origin })
    end
    return true
  end
  if not occupant then return self:handle_first_presence(origin, stanza) end

  if stanza:get_child("x", MUC) and want == occupant.nick then          -- §17.3: all of it again
    if not self:presence_fits(origin, stanza) then return true end
    self:_send_others(real_jid, occupant.nick)
    local before = tostring(occupant:get_presence(real_jid))
    occupant:set_session(real_jid, stanza)
    self:_enter(real_jid, occupant)
    self:changed(want)
    local x = util.x(nil, join_codes(self, {}))
    if occupant.jid == real_jid and tostring(occupant:get_presence(real_jid)) ~= before then      -- news for the others, too
      self:publicise_occupant_status(occupant, { base = util.x(), self = x })
    else
      tell_self(self, occupant, real_jid, x)
    end
    module:fire_event("muc-occupant-session-new", { room = self, nick = want, occupant = occupant, stanza = stanza,
      origin = origin, jid = real_jid })
    return true
  end

  if not self:presence_fits(origin, stanza) then return true end
  local changed = occupants.copy(occupant)
  changed.nick = want
  local event = { room = self, origin = origin, stanza = stanza, orig_occupant = occupant, dest_occupant = changed }
  if module:fire_event("muc-occupant-pre-change", event) then return true end
  if self:get_occupant_by_real_jid(real_jid) ~= occupant then return true end    -- put out while a handler waited
  if want == occupant.nick then
    occupant:set_session(real_jid, stanza)
    self:_enter(real_jid, occupant)
    if occupant.jid == real_jid then
      self:publicise_occupant_status(occupant, util.x())
    else                                       -- the others see another resource of this occupant
      self:changed(want)
      tell_self(self, occupant, real_jid, util.x())
    end
    return true
  end
  if not nick_is_free(self, origin, stanza, bare, want) then return true end
  leave_nick(self, occupant, real_jid, { 303 }, select(3, jid.split(want)))
  local target = self._occupants[want] or occupants.new(bare, want)
  target.role = target.role or occupant.role
  target:set_session(real_jid, stanza)
  self:save_occupant(target)
  local joins = stanza:get_child("x", MUC) ~= nil      -- believes to come: gets all that those get who come
  if joins then self:_send_others(real_jid, want) end
  self:publicise_occupant_status(target, util.x())
  if joins then
    module:fire_event("muc-occupant-session-new", { room = self, nick = want, occupant = target, stanza = stanza,
      origin = origin, jid = real_jid })
  end
  return true
end

function room_mt:handle_presence_to_occupant(origin, stanza)
  local kind = stanza.attr.type
  if kind == "error" then return self:handle_kickable(origin, stanza) end
  if kind == "probe" then return self:respond_to_probe(origin, stanza, self:get_occupant_by_nick(stanza.attr.to)) end
  if kind and kind ~= "unavailable" then return error_to(origin, stanza, "modify", "bad-request") end
  return self:handle_normal_presence(origin, stanza)
end

function room_mt:respond_to_probe(origin, stanza, probed)
  local asker = self:get_occupant_by_real_jid(stanza.attr.from)
  if not asker then return error_to(origin, stanza, "modify", "not-acceptable", nil, self.jid) end
  local reply
  if not probed then
    reply = self:build_unavailable_presence(stanza.attr.to, stanza.attr.from)
    reply:add_child(util.x { affiliation = "none", role = "none" })
  else
    local x = self:build_item_list(probed, util.x(), self:is_anonymous_for(stanza.attr.from))
    if probed == asker then x:tag("status", { code = "110" }):up() end
    reply = base_presence(self, probed):add_child(x)
    reply.attr.to = stanza.attr.from
  end
  self:route_stanza(reply)
  return true
end

local UNREACHABLE = { ["remote-server-not-found"] = true, ["remote-server-timeout"] = true }

-- We cannot reach that server: all its people leave before anybody is told, or what is said of one who leaves would come back
-- for each of the others.
function room_mt:_lose(domain, why)
  local gone = {}
  for nick, occupant in pairs(self._occupants) do
    if jid.host(occupant.bare_jid) == domain then gone[nick] = occupant end
  end
  module:log("debug", "all of %s leave %s: %s", domain, self.jid, why)
  local left = {}
  for nick, occupant in pairs(gone) do
    local copy = occupants.copy(occupant)
    copy.role, copy.sessions = nil, { [occupant.jid] = st.presence { type = "unavailable" }:text_tag("status", "Error: " .. why) }
    left[#left + 1] = { nick, copy, occupant.role }
    self:drop_occupant(occupant)
  end
  task.spawn(function()
    for _, one in ipairs(left) do
      pace(self:occupant_count())
      local nick, occupant = one[1], one[2]
      self:publicise_occupant_status(occupant, util.x(nil, { 333 }), nil, nil, nil, one[3], true)
      module:fire_event("muc-occupant-left", { room = self, nick = nick, occupant = occupant })
    end
  end)
  return true
end

-- An error from a client that is gone: it leaves the room (§12.8: 333).
function room_mt:handle_kickable(origin, stanza)
  local real_jid = stanza.attr.from
  local occupant = self:get_occupant_by_real_jid(real_jid)
  if not occupant or not util.is_kickable_error(stanza) then return true end
  local _, condition, text = stanza:get_error()
  if origin == hosts.get(module.host) and UNREACHABLE[condition] then return self:_lose(jid.host(real_jid), text or condition) end
  module:log("debug", "%s leaves %s: %s", real_jid, self.jid, text or condition)
  self:remove_session(occupant, real_jid, { 333 }, "Error: " .. (text or condition or "gone"), origin)
  return true
end

function room_mt:remove_session(occupant, real_jid, codes, reason, origin)
  local nick = occupant.nick
  local stanza = st.presence { type = "unavailable", from = real_jid, to = nick }
  if reason then stanza:text_tag("status", reason) end
  leave_nick(self, occupant, real_jid, codes, nil, stanza)
  if not self._occupants[nick] then
    module:fire_event("muc-occupant-left", { room = self, nick = nick, occupant = occupant, stanza = stanza, origin = origin })
  end
end

-- To the room itself: presence needs a nickname (§7.2.1).
function room_mt:handle_presence_to_room(origin, stanza)
  if stanza.attr.type == "error" then return self:handle_kickable(origin, stanza) end
  if stanza.attr.type == "unavailable" then
    local occupant = self:get_occupant_by_real_jid(stanza.attr.from)
    if occupant then self:remove_session(occupant, stanza.attr.from, {}, nil, origin) end
    return true
  end
  if stanza.attr.type == "probe" then return true end
  if stanza.attr.type then return error_to(origin, stanza, "modify", "bad-request") end       -- nobody subscribes to a room
  return error_to(origin, stanza, "modify", "jid-malformed", nil, self.jid)
end

-- Everybody goes, each told once (§10.9).
function room_mt:clear(x)
  local all = {}
  for nick, occupant in pairs(self._occupants) do all[nick] = occupant end
  for nick, occupant in pairs(all) do
    local gone = occupants.copy(occupant)
    gone.role = nil
    self:drop_occupant(occupant)
    for full in pairs(gone.sessions) do
      local stanza = with_id(self, self:build_unavailable_presence(nick, full), gone)
      local own = util.x { affiliation = "none", role = "none" }
      for _, child in ipairs(x and x.tags or {}) do own:add_child(st.clone(child)) end
      stanza:add_child(own:tag("status", { code = "110" }):up())
      self:route_stanza(stanza)
    end
    module:fire_event("muc-occupant-left", { room = self, nick = nick, occupant = gone })
  end
end

lib.ranks, lib.MUC, lib.USER, lib.error_to = ranks, MUC, USER, error_to
return lib
