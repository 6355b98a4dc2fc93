-- SPDX-License-Identifier: MIT
-- mod_muc: rooms (XEP-0045): `Component "rooms.example.com" "muc"`. Which rooms there are, who may make them, where they are
-- kept,
-- and the way from stanzas to the methods of a room. What a room is and does: muc/room.lib and its neighbours.
--
-- Exports (raw keys): create_room(jid, config?), get_room_from_jid(jid), each_room(live_only?), all_rooms(), live_rooms(),
-- forget_room(room), delete_room(room), track_room(room), new_room(jid, config?), room_mt.
-- Data: store "config" (keyval: name -> { _jid, _data, _affiliation_data, [bare address] = affiliation }).
--
-- Rooms nobody is in rest in a bounded cache and then in the store alone; they come back when they are addressed.

local cache = require "util.cache"
local jid = require "util.jid"
local router = require "couplet.router"
local st = require "util.stanza"
local usermanager = require "core.usermanager"

local lib = module:require "muc/room"
local util = module:require "muc/util"

module:config {
  restrict_room_creation = { type = "any", default = false,
    doc = 'who may make rooms: false: everybody, true: administrators, "local": accounts of this server' },
  muc_room_cache_size = { type = "integer", default = 1000, min = 1, doc = "empty rooms kept in memory" },
  muc_max_rooms = { type = "integer", default = 100000, min = 1, doc = "rooms of the service, in memory and in the store" },
  muc_max_occupants = { type = "integer", default = 10000, min = 1, doc = "occupants of one room" },
  muc_max_affiliations = { type = "integer", default = 10000, min = 10, doc = "addresses on the lists of one room" },
  muc_max_nick_length = { type = "integer", default = 100, min = 1, doc = "bytes of a nickname" },
  max_history_messages = { type = "integer", default = 20, min = 0, doc = "messages shown to those who come" },
  muc_room_locking = { type = "boolean", default = true, doc = "a new room is closed until its owner has configured it" },
  muc_room_lock_timeout = { type = "period", default = 300, min = 5, doc = "and is gone if that does not happen for so long" },
  muc_room_default_public = { type = "boolean", default = true, doc = "new rooms are listed" },
  muc_room_default_persistent = { type = "boolean", default = false, doc = "new rooms stay when everybody has left" },
  muc_room_default_members_only = { type = "boolean", default = false, doc = "only members may enter new rooms" },
  muc_room_default_moderated = { type = "boolean", default = false, doc = "only those with voice may speak in new rooms" },
  muc_room_default_public_jids = { type = "boolean", default = false, doc = "everybody sees real addresses in new rooms" },
  muc_room_default_change_subject = { type = "boolean", default = false, doc = "everybody may change the subject" },
  muc_room_default_history_length = { type = "integer", default = 20, min = 0, doc = "messages shown to those who come" },
  muc_room_default_allow_member_invites = { type = "boolean", default = false, doc = "members may invite to members-only rooms" },
  muc_room_default_language = { type = "string", doc = "language of new rooms" },
}
local config = module.config
local host = module.host
local exports = module.environment

local MUC = "http://jabber.org/protocol/muc"

room_mt = lib.room_mt                                      -- luacheck: ignore 111
local room_mt = lib.room_mt
module:require "muc/affiliations"(room_mt)
module:require "muc/config".install(room_mt)
module:require "muc/messages"(room_mt)
module:require "muc/register"(room_mt)
module:require "muc/occupant_id"

function room_mt:max_affiliations() return config.muc_max_affiliations end

-- Which rooms there are -------------------------------------------------------------------------------------------------------

local store = module:open_store("config", "keyval")
local live = {}                                            -- address -> room with occupants, or just made
local resting = cache.new(config.muc_room_cache_size)      -- address -> room nobody is in
local kept, n_kept = {}, 0                                 -- address -> { name, public }: rooms in the store
local n_live = 0

local function note_kept(room)
  local entry = kept[room.jid]
  if not entry then
    entry, n_kept = {}, n_kept + 1
    kept[room.jid] = entry
  end
  entry.name, entry.public = room._data.name, room:get_public()
end

local function forget_kept(room_jid)
  if kept[room_jid] then kept[room_jid], n_kept = nil, n_kept - 1 end
end

-- The names and whether they are shown, for lists; the rooms themselves are read when somebody wants one.
do
  local by_name = module:open_store("config", "map"):get_all("_data")
  for name, data in pairs(by_name or {}) do
    if type(data) == "table" then
      local public = data.public
      if public == nil and data.hidden ~= nil then public = not data.hidden end
      if public == nil then public = config.muc_room_default_public end
      kept[name .. "@" .. host], n_kept = { name = data.name, public = public }, n_kept + 1
    end
  end
end

function exports.new_room(room_jid, data)
  local room = lib.new_room(room_jid)
  for k, v in pairs(data or {}) do
    local set = room["set_" .. k]
    if set then set(room, v) else room._data[k] = v end
  end
  return room
end

function exports.track_room(room)
  if not live[room.jid] then n_live = n_live + 1 end
  live[room.jid] = room
  resting:set(room.jid, nil)
end

-- Nobody is in it: out of the way, and out of memory when there are many.
local function rest(room)
  if live[room.jid] == room then live[room.jid], n_live = nil, n_live - 1 end
  if kept[room.jid] then resting:set(room.jid, room) end
end

function exports.forget_room(room)
  if live[room.jid] == room then live[room.jid], n_live = nil, n_live - 1 end
  resting:set(room.jid, nil)
end

function exports.delete_room(room)
  exports.forget_room(room)
  forget_kept(room.jid)
  return store:set(jid.node(room.jid), nil)
end

-- The room as stored.
function room_mt:freeze()
  local frozen = { _jid = self.jid, _data = self._data, _affiliation_data = self._affiliation_data }
  for who, affiliation in pairs(self._affiliations) do frozen[who] = affiliation end
  return frozen
end

local function thaw(room_jid, frozen)
  local room = lib.new_room(room_jid, frozen._data)
  room._affiliation_data = frozen._affiliation_data or {}
  for who, affiliation in pairs(frozen) do
    if type(who) == "string" and util.valid_affiliations[affiliation] then room._affiliations[who] = affiliation end
  end
  if room._data.hidden ~= nil and room._data.public == nil then room._data.public, room._data.hidden = not room._data.hidden,
    nil end
  return room
end

-- -> true | nil, err. What this has answered is on disk.
function room_mt:save()
  if self.destroying then return true end
  local name = jid.node(self.jid)
  if self:get_persistent() then
    note_kept(self)
    return store:set(name, self:freeze())
  elseif kept[self.jid] then
    forget_kept(self.jid)
    return store:set(name, nil)
  end
  return true
end

function exports.get_room_from_jid(room_jid)
  local room = live[room_jid] or resting:get(room_jid)
  if room or not kept[room_jid] then return room end
  local frozen, err = store:get(jid.node(room_jid))
  room = live[room_jid] or resting:get(room_jid)           -- somebody was quicker
  if room then return room end
  if not frozen then return nil, err end
  if module:fire_event("muc-room-pre-restore", { jid = room_jid, data = frozen }) then return nil end
  room = thaw(room_jid, frozen)
  resting:set(room_jid, room)
  module:fire_event("muc-room-restored", { jid = room_jid, room = room })
  return room
end

function exports.create_room(room_jid, data)
  if jid.bare(room_jid) ~= room_jid or not jid.node(room_jid) then return nil, "not a room's address" end
  if live[room_jid] or kept[room_jid] then return nil, "there is a room of that name" end
  local room = exports.new_room(room_jid, data)
  exports.track_room(room)
  local ok, err = room:save()
  if not ok then
    exports.forget_room(room)
    return nil, err
  end
  return room
end

function exports.each_room(live_only)
  local list = {}
  for room_jid in pairs(live) do list[#list + 1] = room_jid end
  if not live_only then
    for room_jid in pairs(kept) do
      if not live[room_jid] then list[#list + 1] = room_jid end
    end
  end
  local i = 0
  return function()
    while true do
      i = i + 1
      if not list[i] then return nil end
      local room = exports.get_room_from_jid(list[i])
      if room then return room end
    end
  end
end
function exports.all_rooms() return exports.each_room(false) end
function exports.live_rooms() return exports.each_room(true) end

-- Made, locked, destroyed -----------------------------------------------------------------------------------------------------

function room_mt:is_locked() return self._locked ~= nil end

function room_mt:lock()
  self._locked = os.time()
  module:fire_event("muc-room-locked", { room = self })
end

function room_mt:unlock()
  if not self._locked then return end
  self._locked = nil
  if self._lock_timer then self._lock_timer:stop() end
  self._lock_timer = nil
  module:fire_event("muc-room-unlocked", { room = self })
end

function room_mt:destroy(newjid, reason, password)
  local event = { room = self, newjid = newjid, reason = reason, password = password }
  if module:fire_event("muc-pre-room-destroy", event) then return nil, "a plugin refuses" end
  if kept[self.jid] then
    local ok, err = store:set(jid.node(self.jid), nil)
    if not ok then return nil, err end
    forget_kept(self.jid)
  end
  self.destroying = true
  self:unlock()
  local x = st.stanza("x", { xmlns = lib.USER }):tag("destroy", { jid = newjid })
  if reason then x:text_tag("reason", reason) end
  if password then x:text_tag("password", password) end
  self:clear(x:reset())
  exports.forget_room(self)
  module:fire_event("muc-room-destroyed", event)
  return true
end

module:hook("muc-occupant-left", function(event)
  local room = event.room
  if room:has_occupant() or room.destroying then return end
  if room:get_persistent() then return rest(room) end
  room:destroy()
end, -100)

local function may_create(who)
  local rule = config.restrict_room_creation
  if rule == false or usermanager.is_admin(who, host) then return true end
  local home = rule == "local" and prosody.hosts[jid.host(who)]
  return home and home.type == "local"
end

module:hook("muc-room-pre-create", function(event)
  local origin, stanza = event.origin, event.stanza
  if not may_create(stanza.attr.from) then
    origin.send(st.error_reply(stanza, "cancel", "not-allowed", "Only some may make rooms here", host))
    return true
  end
  if n_live + n_kept >= config.muc_max_rooms then
    origin.send(st.error_reply(stanza, "wait", "resource-constraint", "There are too many rooms", host))
    return true
  end
end, -1000)

-- Somebody enters a room that is not there (§10.1).
local function create(origin, stanza, room_jid)
  local room = exports.new_room(room_jid)
  room._is_new, room._created_code = true, true
  if module:fire_event("muc-room-pre-create", { room = room, origin = origin, stanza = stanza }) then return true end
  if live[room_jid] or kept[room_jid] then return live[room_jid]:handle_presence_to_occupant(origin, stanza) end
  room._affiliations[jid.bare(stanza.attr.from)] = "owner"
  exports.track_room(room)
  if config.muc_room_locking then
    room:lock()
    room._lock_timer = module:add_timer(config.muc_room_lock_timeout, function()
      if room._locked then room:destroy(nil, "Nobody has configured this room") end
    end)
  end
  local result = room:handle_presence_to_occupant(origin, stanza)
  room._is_new = nil
  local occupant = room:get_occupant_by_real_jid(stanza.attr.from)
  if not occupant then
    room:unlock()
    exports.forget_room(room)
    return result
  end
  if room:get_persistent() then room:save() end
  module:fire_event("muc-room-created", { room = room, creator = occupant, occupant = occupant, origin = origin,
    stanza = stanza })
  return result
end

-- At the door (§7.2) ----------------------------------------------------------------------------------------------------------

module:hook("muc-occupant-pre-join", function(event)
  local room, origin, stanza = event.room, event.origin, event.stanza
  local who = stanza.attr.from
  local affiliation = room:get_affiliation(who)
  local function refuse(kind, condition, text)
    origin.send(st.error_reply(stanza, kind, condition, text, room.jid):tag("x", { xmlns = MUC }))
    return true
  end
  if affiliation == "outcast" then return refuse("auth", "forbidden", "You are banned from this room") end
  if room:is_locked() and affiliation ~= "owner" then return refuse("cancel", "item-not-found", "This room is not open yet") end
  local nick = select(3, jid.split(stanza.attr.to))
  if #nick > config.muc_max_nick_length or not nick:find "%S" then
    return refuse("modify", "not-acceptable", "That is no nickname")
  end
  local trusted = affiliation == "owner" or affiliation == "admin"
  if room:get_members_only() and affiliation == "none" then
    return refuse("auth", "registration-required", "Only members may enter")
  end
  local password = room:get_password()
  if password and not trusted then
    local x = stanza:get_child("x", MUC)
    local given = x:get_child_text "password" or ""
    if not require "util.hashes".equals(given, password) then return refuse("auth", "not-authorized", "The password is wrong") end
  end
  local most = room:get_max_users()
  local n = room:occupant_count()
  if n >= config.muc_max_occupants or most and not trusted and n >= most then
    return refuse("wait", "service-unavailable", "The room is full")
  end
end, -10)

module:hook("muc-occupant-pre-change", function(event)
  local nick = select(3, jid.split(event.stanza.attr.to))
  if #nick > config.muc_max_nick_length or not nick:find "%S" then
    event.origin.send(st.error_reply(event.stanza, "modify", "not-acceptable", "That is no nickname", event.room.jid))
    return true
  end
end, -10)

-- The way in ------------------------------------------------------------------------------------------------------------------

-- Addresses as they are compared everywhere.
local function normalise(stanza)
  local to = router.address(stanza.attr.to)
  if to and to.jid ~= stanza.attr.to then stanza.attr.to = to.jid end
  return to
end

local function nobody_there(origin, stanza)
  local kind = stanza.attr.type
  if kind ~= "error" and kind ~= "result" and kind ~= "unavailable" then
    origin.send(st.error_reply(stanza, "cancel", "item-not-found", "There is no such room"))
  end
  return true
end

local function trouble(origin, stanza)
  if stanza.attr.type ~= "error" then origin.send(st.error_reply(stanza, "wait", "internal-server-error")) end
  return true
end

local function to_room(method)
  return function(event)
    local origin, stanza = event.origin, event.stanza
    local to = normalise(stanza)
    local room, err = exports.get_room_from_jid(to.bare)
    if err then return trouble(origin, stanza) end
    if not room then
      if method == "handle_presence_to_occupant" and not stanza.attr.type then
        if stanza:get_child("x", MUC) then return create(origin, stanza, to.bare) end
        return lib.new_room(to.bare):handle_presence_to_occupant(origin, stanza)     -- §7.2.1: not joined
      end
      return nobody_there(origin, stanza)
    end
    if not live[to.bare] and method == "handle_presence_to_occupant" then exports.track_room(room) end
    local result = room[method](room, origin, stanza)
    if live[to.bare] == room and not room:has_occupant() and room:get_persistent() then rest(room) end
    return result
  end
end

for event, method in pairs {
  ["presence/full"] = "handle_presence_to_occupant", ["presence/bare"] = "handle_presence_to_room",
  ["message/full"] = "handle_message_to_occupant", ["message/bare"] = "handle_message_to_room",
  ["iq/full"] = "handle_iq_to_occupant",
  ["iq-get/bare/http://jabber.org/protocol/disco#info:query"] = "handle_disco_info_get_query",
  ["iq-get/bare/http://jabber.org/protocol/disco#items:query"] = "handle_disco_items_get_query",
  ["iq-get/bare/http://jabber.org/protocol/muc#admin:query"] = "handle_admin_query_get_command",
  ["iq-set/bare/http://jabber.org/protocol/muc#admin:query"] = "handle_admin_query_set_command",
  ["iq-get/bare/http://jabber.org/protocol/muc#owner:query"] = "handle_owner_query_get_to_room",
  ["iq-set/bare/http://jabber.org/protocol/muc#owner:query"] = "handle_owner_query_set_to_room",
  ["iq/bare/jabber:iq:register:query"] = "handle_register_iq",
  ["iq-get/bare/urn:xmpp:ping:ping"] = "handle_ping",
} do
  module:hook(event, to_room(method), event == "iq/full" and 2 or -2)
end

module:hook("iq/bare", function(event)
  local to = normalise(event.stanza)
  if exports.get_room_from_jid(to.bare) then return nil end
  return nobody_there(event.origin, event.stanza)
end, -3)

function room_mt:handle_ping(origin, stanza)
  origin.send(st.reply(stanza))
  return true
end

-- Discovery -------------------------------------------------------------------------------------------------------------------

function room_mt:handle_disco_info_get_query(origin, stanza)
  origin.send(self:get_disco_info(stanza))
  return true
end

module:hook("muc-disco#info/x-roomuser-item", function(event)      -- §7.12: the nickname kept for whoever asks
  local nick = event.room:get_registered_nick(event.reply.attr.to)
  if nick then event.reply:tag("identity", { category = "conference", type = "text", name = nick }):up() end
  event.exists = true
end)

-- Who is here, for those inside and, in open rooms that are listed, for others (§6.5).
function room_mt:handle_disco_items_get_query(origin, stanza)
  local reply = st.reply(stanza):query "http://jabber.org/protocol/disco#items"
  if self:get_occupant_by_real_jid(stanza.attr.from) or self:get_public() and not self:get_members_only() then
    for nick in self:each_occupant() do
      if reply:size() > 200000 then break end
      reply:tag("item", { jid = nick }):up()
    end
  end
  origin.send(reply)
  return true
end

local rsm = require "util.rsm"

local PAGE = 1000

-- The rooms that are listed, by address, in pages (XEP-0059).
module:hook("host-disco-items", function(event)
  local list = {}
  for room_jid, entry in pairs(kept) do
    if entry.public and not live[room_jid] then list[#list + 1] = room_jid end
  end
  for room_jid, room in pairs(live) do
    if room:get_public() and not room:is_locked() then list[#list + 1] = room_jid end
  end
  table.sort(list)
  local set = rsm.get(event.stanza.tags[1])
  local first, last = 1, math.min(#list, PAGE)
  if set then
    local max = math.min(set.max or PAGE, PAGE)
    if set.after then
      for i, room_jid in ipairs(list) do if room_jid <= set.after then first = i + 1 end end
      last = math.min(#list, first + max - 1)
    elseif set.before then
      last = #list
      if set.before ~= true then
        for i = #list, 1, -1 do if list[i] >= set.before then last = i - 1 end end
      end
      first = math.max(1, last - max + 1)
    else
      last = math.min(#list, max)
    end
  end
  for i = first, last do
    local room_jid = list[i]
    local room = live[room_jid]
    local name = room and room:get_name() or not room and (kept[room_jid].name or jid.node(room_jid))
    event.reply:tag("item", { jid = room_jid, name = name }):up()
  end
  if set or #list > PAGE then
    event.reply:add_child(rsm.generate { first = list[first] and last >= first and { index = first - 1, list[first] } or nil,
      last = last >= first and list[last] or nil, count = #list })
  end
end)

module:depends "disco"
module:add_identity("conference", "text", module:get_option_string("name", "Chatrooms"))
module:add_feature(MUC)
module:add_feature "http://jabber.org/protocol/rsm"

-- The end ---------------------------------------------------------------------------------------------------------------------

-- Everybody is told, so that clients join again (§17.? 332).
module:hook_global("server-stopping", function()
  for _, room in pairs(live) do
    room.destroying = true                     -- nobody's leaving deletes it
    room:clear(util.x(nil, { 332 }))
  end
end, -10)

function module.save()
  local rooms = {}
  for room_jid, room in pairs(live) do rooms[room_jid] = setmetatable(room, nil) end
  return { rooms = rooms }
end

function module.restore(state)
  for room_jid, room in pairs(state.rooms or {}) do
    setmetatable(room, room_mt)
    for _, occupant in pairs(room._occupants) do setmetatable(occupant, (module:require "muc/occupant").mt) end
    live[room_jid], n_live = room, n_live + 1
    room._lock_timer = nil
  end
end
