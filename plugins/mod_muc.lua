-- SPDX-License-Identifier: MIT
-- mod_muc: rooms (XEP-0045): `Component "rooms.example.com" "muc"`. Which rooms there are, who may make them, where they are
-- kept, and the way from stanzas to the methods of a room. What a room is and does: muc/room.lib and its neighbours.
--
-- Exports (raw keys): create_room(jid, config?), get_room_from_jid(jid), each_room(live_only?), all_rooms(), live_rooms(),
-- forget_room(room), delete_room(room), track_room(room), new_room(jid, config?), room_mt.
-- Data: store "config" (keyval: name -> { _jid, _data, _affiliation_data, [bare address] = affiliation }).
--
-- Rooms nobody is in rest in a bounded cache and then in the store alone; they come back when they are addressed.

local cache = require "util.cache"
local hashes = require "util.hashes"
local jid = require "util.jid"
local router = require "couplet.router"
local st = require "util.stanza"
local usermanager = require "core.usermanager"

if module:get_host_type() ~= "component" then              -- it would take all presence of the host for itself
  error("rooms are a Component of their own: Component \"rooms." .. module.host .. "\" \"muc\"", 0)
end

local lib = module:require "muc/room"
local util = module:require "muc/util"

module:config {
  restrict_room_creation = { type = "enum", enum = { false, true, "local" }, default = false,
    doc = 'who may make rooms: false: everybody, true: administrators, "local": accounts of this server' },
  muc_room_cache_size = { type = "integer", default = 1000, min = 1, doc = "empty rooms kept in memory" },
  muc_max_rooms = { type = "integer", default = 100000, min = 1, doc = "rooms of the service, in memory and in the store" },
  muc_max_rooms_per_account = { type = "integer", default = 100, min = 1,
    doc = "rooms made by one account, administrators excepted" },
  muc_max_rooms_per_domain = { type = "integer", default = 10000, min = 1,
    doc = "rooms made by all accounts of one other server" },
  component_admins_as_room_owners = { type = "boolean", default = true, doc = "administrators are owners of every room" },
  muc_max_occupants = { type = "integer", default = 10000, min = 1, doc = "occupants of one room" },
  muc_max_occupants_per_domain = { type = "integer", default = 50000, min = 1,
    doc = "occupants from one other server in all rooms; each further kilobyte of presence counts as one more" },
  muc_max_users_presence = { type = "integer", default = 10000, min = 1,
    doc = "in rooms with more occupants moderators alone are shown to the others; all see who leaves" },
  muc_max_affiliations = { type = "integer", default = 10000, min = 10, doc = "addresses on the lists of one room" },
  muc_max_nick_length = { type = "integer", default = 100, min = 1, doc = "bytes of a nickname" },
  muc_ping_interval = { type = "period", default = "15 min", min = 1,
    doc = "occupants on other servers who have said nothing for so long are asked whether they are still there; \"never\"" },
  muc_tombstones = { type = "boolean", default = true, doc = "who comes to a room that was kept and is destroyed hears of it" },
  muc_tombstone_expiry = { type = "period", default = 86400 * 31, min = 1, doc = "for so long; nobody takes its name meanwhile" },
  muc_occupant_id = { type = "boolean", default = true,
    doc = "an occupant's presence and messages tell who it is, without telling the address (XEP-0421)" },
  max_history_messages = { type = "integer", default = 20, min = 0, doc = "messages shown to those who come" },
  muc_room_locking = { type = "boolean", default = true, doc = "a new room is closed until its owner has configured it" },
  muc_room_lock_timeout = { type = "period", default = 300, min = 5, doc = "and is gone if that does not happen for so long" },
  allow_unaffiliated_register = { type = "boolean", default = true,
    doc = "everybody may register with new rooms; else members alone, unless an owner lets others" },
  enforce_registered_nickname = { type = "boolean", default = false,
    doc = "who has registered a nickname with a room enters under it and keeps it" },
  muc_room_default_public = { type = "boolean", default = true, doc = "new rooms are listed" },
  muc_room_default_persistent = { type = "boolean", default = false, doc = "new rooms stay when everybody has left" },
  muc_room_allow_persistent = { type = "boolean", default = true, doc = "owners may keep rooms; false: administrators alone" },
  muc_room_allow_public = { type = "boolean", default = true, doc = "owners may list rooms; false: administrators alone" },
  muc_room_default_members_only = { type = "boolean", default = false, doc = "only members may enter new rooms" },
  muc_room_default_moderated = { type = "boolean", default = false, doc = "only those with voice may speak in new rooms" },
  muc_room_default_public_jids = { type = "boolean", default = false, doc = "everybody sees real addresses in new rooms" },
  muc_room_default_change_subject = { type = "boolean", default = false, doc = "everybody may change the subject" },
  muc_room_default_history_length = { type = "integer", default = 20, min = 0, doc = "messages shown to those who come" },
  muc_room_default_allow_member_invites = { type = "boolean", default = false, doc = "members may invite to members-only rooms" },
  muc_room_default_presence_broadcast = { type = "any",
    doc = "whose presence is shown in new rooms: { visitor = true, participant = true, moderator = true }, or a list of roles" },
  muc_room_default_allow_pm = { type = "enum", default = "anyone",
    enum = { "anyone", "participants", "moderators", "none", "visitor", "participant", "moderator" },
    doc = "who may write to single occupants in new rooms; the last three words are Prosody's for the first three" },
  muc_room_default_always_allow_moderator_pms = { type = "boolean", default = false,
    doc = "everybody may write to moderators in new rooms, even so" },
  muc_vcard = { type = "boolean", default = true, doc = "rooms may have a card and a picture (XEP-0486)" },
  muc_avatar_advertise_hashes = { type = "enum", enum = { "presence", "message", "none" },
    doc = "who enters, or is there when the picture of a room changes, hears of it by a presence of the room, by a message that "
      .. "its configuration has changed, or not at all. Default: both" },
  muc_hats_compat = { type = "boolean", default = false, doc = "presence shows hats in the namespace of older clients as well" },
  muc_room_default_language = { type = "string", doc = "language of new rooms" },
}
local config = module.config
local host = module.host
local exports = module.environment

local MUC = "http://jabber.org/protocol/muc"

room_mt = lib.room_mt                                      -- luacheck: ignore 111
local room_mt = lib.room_mt
module:require "muc/delivery"(room_mt)
module:require "muc/list"(room_mt)
module:require "muc/affiliations"(room_mt)
module:require "muc/config".install(room_mt)
module:require "muc/messages"(room_mt)
module:require "muc/register"(room_mt)
if config.muc_vcard then module:require "muc/vcard"(room_mt) end
module:require "muc/hats"(room_mt)
module:require "muc/occupant_id"
local listing = module:require "muc/listing"
local tombstones = module:require "muc/tombstones"

function room_mt:max_affiliations() return config.muc_max_affiliations end

-- Which rooms there are -------------------------------------------------------------------------------------------------------

local store = module:open_store("config", "keyval")
local live = {}                                            -- address -> room with occupants, or just made
local resting = cache.new(config.muc_room_cache_size)      -- address -> room nobody is in
local kept, n_kept = {}, 0                                 -- { address = true }: rooms in the store
local n_live = 0
local made = {}                                            -- bare address, and "@" with its domain -> rooms made

local function count_made(who, change)
  if not who then return end
  util.count_account(made, who, change)
end

local function note_kept(room)
  if not kept[room.jid] then kept[room.jid], n_kept = true, n_kept + 1 end
end

local function forget_kept(room_jid)
  if kept[room_jid] then kept[room_jid], n_kept = nil, n_kept - 1 end
end

-- What is told of the rooms in lists; the rooms themselves are read when somebody wants one.
do
  for name, data in pairs(module:open_store("config", "map"):get_all("_data") or {}) do
    if type(data) == "table" and data.destroyed then         -- Prosody's way to keep one
      tombstones.found(name .. "@" .. host, tonumber(data.locked) or os.time(), data.newjid, data.reason)
      store:set(name, nil)
    elseif type(data) == "table" then
      if data.public == nil and data.hidden ~= nil then data.public = not data.hidden end
      kept[name .. "@" .. host], n_kept = true, n_kept + 1
      listing.load(name .. "@" .. host, data)
      count_made(data.creator, 1)
    end
  end
  listing.sort()
end

local function relist(room) listing.update(room, live[room.jid] == room or kept[room.jid]) end

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
  relist(room)
end

function room_mt:_occupied()
  if live[self.jid] ~= self and not self.destroying then exports.track_room(self) end
end

-- Nobody is in it: out of the way, and out of memory when there are many.
local function rest(room)
  if live[room.jid] == room then live[room.jid], n_live = nil, n_live - 1 end
  if kept[room.jid] then resting:set(room.jid, room) end
end

function exports.forget_room(room)
  if live[room.jid] == room then live[room.jid], n_live = nil, n_live - 1 end
  resting:set(room.jid, nil)
  relist(room)
end

function exports.delete_room(room)
  if not room.destroying then count_made(room._data.creator, -1) end
  room.destroying = true                                   -- nothing that still holds it writes it again
  forget_kept(room.jid)
  exports.forget_room(room)
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
  local data = room._data
  if data.hidden ~= nil and data.public == nil then data.public, data.hidden = not data.hidden, nil end
  return room
end

-- -> true | nil, err. What this has answered is on disk.
function room_mt:save()
  self:changed()
  if self.destroying then return true end
  if self._is_new and live[self.jid] ~= self then return true end        -- whether it will ever be is not decided
  local name = jid.node(self.jid)
  local ok, err = true, nil
  if self:get_persistent() then
    local is_new = not kept[self.jid]
    note_kept(self)
    ok, err = store:set(name, self:freeze())
    if not ok and is_new then forget_kept(self.jid) end
  elseif kept[self.jid] then
    forget_kept(self.jid)
    ok, err = store:set(name, nil)
  end
  relist(self)
  return ok, err
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
  tombstones.forget(room_jid)
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
  relist(self)
  module:fire_event("muc-room-locked", { room = self })
end

function room_mt:unlock()
  if not self._locked then return end
  self._locked = nil
  if self._lock_timer then self._lock_timer:stop() end
  self._lock_timer = nil
  relist(self)
  module:fire_event("muc-room-unlocked", { room = self })
end

-- -> true | nil, type, condition, text
function room_mt:destroy(newjid, reason, password)
  if self.destroying then return true end
  local event = { room = self, newjid = newjid, reason = reason, password = password }
  if module:fire_event("muc-pre-room-destroy", event) then return nil, "cancel", "not-allowed" end
  if self.destroying then return true end
  self.destroying = true                                   -- from here on nothing of it is written
  if kept[self.jid] then
    local ok, err = self._locked ~= nil, nil               -- what never was a room leaves no stone
    if not ok then ok, err = tombstones.put(self.jid, newjid, reason, self._data.creator) end
    if ok then ok, err = store:set(jid.node(self.jid), nil) end
    if not ok then
      self.destroying = nil
      tombstones.forget(self.jid)
      module:log("error", "%s cannot be destroyed: %s", self.jid, err)
      return nil, "wait", "internal-server-error"
    end
    forget_kept(self.jid)
  end
  count_made(self._data.creator, -1)
  exports.forget_room(self)                                -- who comes from now on makes a new one
  self:unlock()
  local x = st.stanza("x", { xmlns = lib.USER }):tag("destroy", { jid = newjid })
  if reason then x:text_tag("reason", reason) end
  if password then x:text_tag("password", password) end
  self:clear(x:reset())
  module:fire_event("muc-room-destroyed", event)
  return true
end

module:hook("muc-occupant-left", function(event)
  local room = event.room
  if room:has_occupant() or room.destroying then return end
  if room:get_persistent() and not room:is_locked() then return rest(room) end
  room:destroy()
end, -100)

-- §10.1.3: who leaves a room before it is configured takes it with him, and hears so.
module:hook("muc-occupant-pre-leave", function(event)
  local room, sessions = event.room, event.occupant.sessions
  if not room:is_locked() or room:occupant_count() > 1 or next(sessions, next(sessions)) then return end
  room:destroy()
  return true
end, -10)

local function may_create(who)
  local rule = config.restrict_room_creation
  local open = not rule and not module:get_option "restrict_room_creation"     -- what is not understood closes
  if open or usermanager.is_admin(who, host) then return true end
  local home = rule == "local" and prosody.hosts[jid.host(who)]
  return home and home.type == "local"
end

module:hook("muc-room-pre-create", function(event)
  local origin, stanza = event.origin, event.stanza
  if not may_create(stanza.attr.from) then
    return util.refuse_presence(origin, stanza, "cancel", "not-allowed", "Only some may make rooms here", host)
  end
  if n_live + n_kept >= config.muc_max_rooms then
    return util.refuse_presence(origin, stanza, "wait", "resource-constraint", "There are too many rooms", host)
  end
  local creator = jid.bare(stanza.attr.from)
  if usermanager.is_admin(creator, host) then return nil end
  if (made[creator] or 0) >= config.muc_max_rooms_per_account then
    return util.refuse_presence(origin, stanza, "wait", "resource-constraint", "You have made too many rooms", host)
  end
  local domain = util.elsewhere(creator)
  if domain and (made["@" .. domain] or 0) >= config.muc_max_rooms_per_domain then
    return util.refuse_presence(origin, stanza, "wait", "resource-constraint", "Your server has made too many rooms", host)
  end
  if not util.may_make_rooms(creator) then
    return util.refuse_presence(origin, stanza, "wait", "policy-violation", "Enough rooms for now", host)
  end
end, -1000)

local function trouble(origin, stanza)
  if stanza.attr.type ~= "error" then origin.send(st.error_reply(stanza, "wait", "internal-server-error")) end
  return true
end

local function watch_lock(room)
  room._lock_timer = module:add_timer(config.muc_room_lock_timeout, function()
    if room._locked then room:destroy(nil, "Nobody has configured this room") end
  end)
end

-- Somebody enters a room that is not there (§10.1).
local function create(origin, stanza, room_jid)
  local room = exports.new_room(room_jid)
  room._is_new, room._created_code = true, true
  if module:fire_event("muc-room-pre-create", { room = room, origin = origin, stanza = stanza }) then return true end
  local other, err = exports.get_room_from_jid(room_jid)   -- the handlers may have waited, and somebody have been quicker
  if err then return trouble(origin, stanza) end
  if other and other ~= room then return other:handle_presence_to_occupant(origin, stanza) end
  local creator = jid.bare(stanza.attr.from)
  room._affiliations[creator], room._data.creator = "owner", creator
  room:_recount_lists()                        -- a handler may have filled them
  count_made(creator, 1)
  exports.track_room(room)
  if config.muc_room_locking then
    room:lock()
    watch_lock(room)
  end
  local result = room:handle_presence_to_occupant(origin, stanza)
  room._is_new = nil
  local occupant = room:get_occupant_by_real_jid(stanza.attr.from)
  if not occupant then
    if not room:has_occupant() then room:destroy() end
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
  local affiliation = room:affiliation_of(who)
  local function refuse(kind, condition, text)
    return util.refuse_presence(origin, stanza, kind, condition, text, room.jid)
  end
  if affiliation == "outcast" then return refuse("auth", "forbidden", "You are banned from this room") end
  if room:is_locked() and affiliation ~= "owner" then return refuse("cancel", "item-not-found", "This room is not open yet") end
  local nick = select(3, jid.split(stanza.attr.to))
  if not util.is_nick(nick) then
    return refuse("modify", "not-acceptable", "That is no nickname")
  end
  local trusted = affiliation == "owner" or affiliation == "admin"
  if room:get_members_only() and affiliation == "none" then
    return refuse("auth", "registration-required", "Only members may enter")
  end
  local password = room:get_password()
  if password and not trusted then
    local x = stanza:get_child("x", MUC)
    local given = x:get_child_text "password"
    if given and not util.may_guess(room, jid.bare(who)) then
      return refuse("wait", "policy-violation", "Enough wrong passwords for now")
    end
    if not given or not hashes.equals(given, password) then
      if given then util.guessed(room, jid.bare(who)) end
      return refuse("auth", "not-authorized", "The password is wrong")
    end
  end
  local most = room:get_max_users()
  local n = room:occupant_count()
  local same = room:get_occupant_by_nick(stanza.attr.to)
  if same and same.bare_jid == jid.bare(who) then return nil end           -- another resource takes no place
  if n >= config.muc_max_occupants or most and not trusted and n >= most then
    return refuse("wait", "service-unavailable", "The room is full")
  end
end, -10)

-- The nickname somebody has to go by, if any.
local function bound_to(room, who)
  return config.enforce_registered_nickname and room:get_registered_nick(who) or nil
end

module:hook("muc-occupant-pre-join", function(event)
  local nick = bound_to(event.room, event.stanza.attr.from)
  if nick then event.nick = event.room.jid .. "/" .. nick end              -- with 210
end, -11)

module:hook("muc-occupant-pre-change", function(event)
  local nick = select(3, jid.split(event.stanza.attr.to))
  local bound = bound_to(event.room, event.stanza.attr.from)
  if bound and nick ~= bound then
    return util.refuse_presence(event.origin, event.stanza, "cancel", "not-acceptable", "You have another nickname here",
      event.room.jid)
  end
  if not util.is_nick(nick) then
    return util.refuse_presence(event.origin, event.stanza, "modify", "not-acceptable", "That is no nickname", event.room.jid)
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

local pace = module:require "muc/pace"

-- Administrators may make a room where one was.
local function tombstone(origin, stanza, address)
  if not tombstones.has(address) then return false end
  if stanza.name == "presence" and not stanza.attr.type and usermanager.is_admin(stanza.attr.from, host) then
    tombstones.forget(address)
    return false
  end
  return tombstones.refuse(address, origin, stanza)
end

local function to_room(method)
  return function(event)
    local origin, stanza = event.origin, event.stanza
    local to = normalise(stanza)
    if not to.node then return nil end                     -- the service itself
    local room, err = exports.get_room_from_jid(to.bare)
    if room and stanza.name == "presence" and pace(2 * room:occupant_count()) then
      room, err = exports.get_room_from_jid(to.bare)
    end
    if err then return trouble(origin, stanza) end
    if not room then
      if tombstone(origin, stanza, to.bare) then return true end
      if method == "handle_presence_to_occupant" and not stanza.attr.type then
        if stanza:get_child("x", MUC) then return create(origin, stanza, to.bare) end
        return lib.new_room(to.bare):handle_presence_to_occupant(origin, stanza)     -- §7.2.1: not joined
      end
      return nobody_there(origin, stanza)
    end
    return room[method](room, origin, stanza)
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
  ["iq-get/bare/vcard-temp:vCard"] = config.muc_vcard and "handle_vcard_get" or nil,
  ["iq-set/bare/vcard-temp:vCard"] = config.muc_vcard and "handle_vcard_set" or nil,
  ["iq/bare/jabber:iq:register:query"] = "handle_register_iq",
  ["iq-get/bare/urn:xmpp:ping:ping"] = "handle_ping",
  ["iq-set/bare/http://jabber.org/protocol/commands:command"] = "handle_command",
} do
  module:hook(event, to_room(method), event == "iq/full" and 2 or -2)
end

module:hook("iq/bare", function(event)
  local to = normalise(event.stanza)
  if not to.node then return nil end
  if exports.get_room_from_jid(to.bare) then return nil end
  if tombstone(event.origin, event.stanza, to.bare) then return true end
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
  local node = stanza.tags[1].attr.node
  local reply = st.reply(stanza):tag("query", { xmlns = "http://jabber.org/protocol/disco#items", node = node })
  if node == "http://jabber.org/protocol/commands" then
    self:list_commands(reply, stanza.attr.from)
    origin.send(reply)
    return true
  end
  local asker = self:get_occupant_by_real_jid(stanza.attr.from)
  if asker or self:get_public() and not self:get_members_only() and self:has_passed(stanza.attr.from) then
    if not self:may_tell_list(self:occupant_count(), stanza.attr.from) then
      origin.send(st.error_reply(stanza, "wait", "resource-constraint"))
      return true
    end
    local shown, bytes = self:shown_roles(), 0
    for nick, occupant in self:each_occupant() do
      bytes = bytes + #nick + 16
      if bytes > 200000 then break end
      if shown[occupant.role] or asker and asker.role == "moderator" then reply:tag("item", { jid = nick }):up() end
    end
  end
  origin.send(reply)
  return true
end

module:require "muc/search"(listing, live)
module:require "muc/ghosts"(live)
for _, command in ipairs(module:require "muc/commands") do module:add_item("shell-command", command) end

module:depends "disco"
module:add_identity("conference", "text", module:get_option_string("name", "Chatrooms"))
module:add_feature(MUC)
module:add_feature(MUC .. "#stable_id")
module:add_feature "http://jabber.org/protocol/rsm"

-- The end ---------------------------------------------------------------------------------------------------------------------

-- Everybody is told, so that clients join again later (§15.6: 332).
local function close_all()
  local all = {}
  for _, room in pairs(live) do all[#all + 1] = room end
  for _, room in ipairs(all) do
    room.destroying = true                     -- nobody's leaving deletes it
    room:clear(util.x(nil, { 332 }))
  end
end
module:hook_global("server-stopping", close_all, -10)

-- Rooms and who is in them outlive a reload.
local saved
function module.save()
  saved = live
  return { rooms = live }
end

function module.unload()
  if not saved then close_all() end
end

function module.restore(state)
  local occupant_mt = (module:require "muc/occupant").mt
  for room_jid, room in pairs(state.rooms or {}) do
    setmetatable(room, room_mt)
    room._rows, room._audience = nil, nil
    for _, occupant in pairs(room._occupants) do setmetatable(occupant, occupant_mt) end
    room:_gather()
    live[room_jid], n_live = room, n_live + 1
    relist(room)
    if not kept[room_jid] then count_made(room._data.creator, 1) end
    if room._locked then watch_lock(room) end
  end
end
