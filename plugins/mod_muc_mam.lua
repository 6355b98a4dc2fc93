-- SPDX-License-Identifier: MIT
-- mod_muc_mam: the archive of each room (XEP-0313 on the room's address), for `Component "…" "muc"`.
--
-- What the room passes on is archived once, under the id everybody sees with it (XEP-0359); the sender's message is acknowledged
-- when it is committed. With each message goes who said it, which only those hear who may know addresses at the time they ask.
-- History at the door comes from here when the room has just been read from the store.
--
-- Exports: flush(), the store (owner: the room's node), forget(room, id): takes a message out of the history in memory.

module:config {
  muc_log_by_default = { type = "boolean", default = true, doc = "new rooms are archived" },
  muc_log_all_rooms = { type = "boolean", default = false, doc = "all rooms are archived, whatever their owners say" },
  muc_log_presences = { type = "boolean", default = false, doc = "who comes and who goes is archived too" },
  muc_log_expires_after = { type = "period", default = "1w", min = 60, doc = "messages older than this are deleted; \"never\"" },
  muc_log_cleanup_interval = { type = "period", default = "4h", min = 1, doc = "how often old messages are looked for" },
  max_archive_query_results = { type = "integer", default = 50, min = 1, max = 1000, doc = "messages in one answer" },
  mam_include_total = { type = "boolean", default = false,
    doc = "tell with each page how many messages there are; this reads the index of the whole archive" },
  muc_log_include_total = { type = "boolean", doc = "the same for rooms' archives alone; default: mam_include_total" },
  dont_archive_namespaces = { type = "set", default = { "http://jabber.org/protocol/chatstates" },
    doc = "elements of these namespaces are no reason to archive a message" },
}
local config = module.config

local archiver = require "couplet.archiver"
local datetime = require "couplet.util.datetime"
local jid = require "couplet.jid"
local st = require "couplet.stanza"
local task = require "couplet.task"
local parse_xml = require "couplet.util.xml".parse

local query = module:require "mam/query"
local rules = module:require "mam/rules"
local muc = module:depends "muc"
local room_mt = muc.room_mt

local MAM, SID, RETRACTION = query.xmlns, "urn:xmpp:sid:0", "urn:xmpp:message-retract:1"
local USER = "http://jabber.org/protocol/muc#user"

store = assert(module:open_store("muc_log", "archive"))    -- luacheck: ignore 111 113
local store = store                                        -- luacheck: ignore 113
local writer = archiver.new(store, module._log)
module:on_unload(function() writer:close() end)
module:hook_global("server-cleanup", function() writer:flush() end)

function module.environment.flush() writer:flush() end

module:add_timer(config.muc_log_cleanup_interval, function(now)
  if config.muc_log_expires_after ~= math.huge then
    local n, err = store:delete(true, { ["end"] = now - config.muc_log_expires_after })
    if not n then module:log("error", "old messages of rooms cannot be deleted: %s", err) end
  end
  return config.muc_log_cleanup_interval
end)

-- Which rooms -----------------------------------------------------------------------------------------------------------------

function room_mt:is_logged()
  if config.muc_log_all_rooms then return true end
  local value = self._data.archiving
  if value == nil then return config.muc_log_by_default end
  return value
end
module:on_unload(function() room_mt.is_logged = nil end)

module:hook("muc-config-form", function(event)
  if config.muc_log_all_rooms then return end
  table.insert(event.form, { name = "muc#roomconfig_enablelogging", type = "boolean", label = "What is said is archived",
    value = event.room:is_logged() })
end)

module:hook("muc-config-submitted/muc#roomconfig_enablelogging", function(event)
  local room, on = event.room, event.value == true
  if config.muc_log_all_rooms or room:is_logged() == on then return end
  room._data.archiving = on
  event.changed["muc#roomconfig_enablelogging"] = true
  event.status_codes[on and "170" or "171"] = true
end)

module:hook("muc-disco#info", function(event)
  if not event.room:is_logged() then return end
  for _, var in ipairs { MAM, MAM .. "#extended", SID } do event.reply:tag("feature", { var = var }):up() end
end)

-- A room that is gone takes its archive along, and a new one of that name does not find what another has left.
local function forget_all(event)
  local node = jid.split(event.room.jid)
  writer:flush()
  local ok, err = store:delete(node)
  if not ok then module:log("error", "the archive of %s cannot be deleted: %s", event.room.jid, err) end
end
module:hook("muc-room-destroyed", forget_all)
module:hook("muc-room-created", forget_all, 100)

-- Writing ---------------------------------------------------------------------------------------------------------------------

local function without(stanza, name, xmlns, test)
  return stanza:maptags(function(child)
    if child.name == name and child.attr.xmlns == xmlns and (not test or test(child)) then return nil end
    return child
  end)
end

local function subject_only(stanza) return stanza:get_child "subject" and not stanza:get_child "body" end

module:hook("muc-message-is-historic", function(event)
  if subject_only(event.stanza) or not event.room:is_logged() then return nil end
  local worthy = rules.worth("normal", rules.look(event.stanza))
  return worthy
end, -0.5)

-- Its author takes a message back (XEP-0424 §5): what is left says that it was there. `moderated` is said along (XEP-0425).
function module.environment.bury(room, id, original, retraction, moderated, reason)
  local stone = st.stanza("message", { from = original.attr.from, type = "groupchat", id = original.attr.id })
  local author = original:get_child("occupant-id", "urn:xmpp:occupant-id:0")
  if author then stone:add_child(st.clone(author)) end
  stone:tag("retracted", { xmlns = RETRACTION, id = retraction, stamp = datetime.datetime() })
  if moderated then stone:add_child(moderated) end
  if reason then stone:text_tag("reason", reason) end
  local ok, err = store:set(jid.split(room.jid), id, stone)
  if not ok then
    module:log("error", "a message of %s cannot be replaced: %s", room.jid, err)
    return nil, err
  end
  local history = room._history
  for i = #history, 1, -1 do
    local mark = history[i].stanza:get_child_with_attr("stanza-id", SID, "id", id)
    if mark and mark.attr.by == room.jid then
      room._history_bytes = (room._history_bytes or 0) - history[i].size
      table.remove(history, i)
    end
  end
  return true
end

local function author_of(stanza)
  local x = stanza:get_child("x", USER)
  local item = x and x:get_child "item"
  return item and item.attr.jid and jid.bare(item.attr.jid)
end

local function retract(room, stanza, author)
  local id = stanza:get_child("retract", RETRACTION).attr.id
  if not id then return end
  task.spawn(function()
    writer:flush()
    local original = store:get(jid.split(room.jid), id)
    if original and author_of(original) == author and not original:get_child("retracted", RETRACTION) then
      module.environment.bury(room, id, original, stanza.attr.id)
    end
  end)
end

-- After plugins have had their say, before the history in memory, which so has the ids.
module:hook("muc-broadcast-message", function(event)
  local room, stanza = event.room, event.stanza
  if not room:is_logged() then return end
  local historic = subject_only(stanza) or module:fire_event("muc-message-is-historic", { room = room, stanza = stanza })
  if not historic then return end
  writer:room()
  local node, id, number = jid.split(room.jid), writer:new_id()
  local copy = st.clone(stanza)
  copy.attr.to = nil
  without(copy, "x", USER)
  local occupant = event.occupant
  if occupant then
    copy:reset():tag("x", { xmlns = USER }):tag("item", { jid = occupant.jid or occupant.bare_jid, role = occupant.role,
      affiliation = room:affiliation_of(occupant.bare_jid) }):up():up()
  end
  if not writer:keep { id = id, number = number, user = node, with = room.jid, xml = tostring(copy) } then return end
  stanza:reset():tag("stanza-id", { xmlns = SID, by = room.jid, id = id }):up()
  if occupant and rules.look(stanza) & rules.RETRACT ~= 0 then retract(room, stanza, occupant.bare_jid) end
end, -90)

-- Who comes and goes, in few words; codes and <status/> are for those who were there.
local function log_presence(kind)
  return function(event)
    local room, occupant = event.room, event.occupant
    if not config.muc_log_presences or room.destroying or not room:is_logged() then return end
    writer:room()
    local node, id, number = jid.split(room.jid), writer:new_id()
    local stanza, who = st.presence { from = event.nick, type = kind }, room:get_occupant_id(occupant)
    if who then stanza:tag("occupant-id", { xmlns = "urn:xmpp:occupant-id:0", id = who }):up() end
    stanza:tag("x", { xmlns = USER }):tag("item", { jid = occupant.jid or occupant.bare_jid,
        role = not kind and occupant.role or "none", affiliation = room:affiliation_of(occupant.bare_jid) }):up():up()
    writer:keep { id = id, number = number, user = node, with = room.jid, xml = tostring(stanza) }
  end
end
module:hook("muc-occupant-joined", log_presence())
module:hook("muc-occupant-left", log_presence "unavailable", 100)       -- before the room may go with the last one

-- Reading ---------------------------------------------------------------------------------------------------------------------

-- Who may enter may read (XEP-0313 §Business rules).
local function may_read(room, who)
  local affiliation = room:affiliation_of(who)
  if affiliation == "outcast" then return false end
  if affiliation == "none" and room:get_members_only() and not room:get_occupant_by_real_jid(who) then return false end
  return room:has_passed(who)
end

local function room_of(event)
  local room = muc.get_room_from_jid(jid.bare(event.stanza.attr.to))
  if not room or not room:is_logged() then return nil end
  if not may_read(room, event.stanza.attr.from) then
    event.origin.send(st.error_reply(event.stanza, "auth", "forbidden", "You may not enter this room"))
    return nil, true
  end
  return room
end

local function handle(kind, name, fn)
  module:hook(("iq-%s/bare/%s:%s"):format(kind, MAM, name), function(event)
    local room, answered = room_of(event)
    if not room then return answered end
    local element, error_kind, condition, text = fn(room, event.stanza.tags[1], event)
    if element == true then return true end
    event.origin.send(element and st.reply(event.stanza):add_child(element)
      or st.error_reply(event.stanza, error_kind, condition, text))
    return true
  end)
end

handle("get", "query", function() return query.form() end)

-- Without who said it.
local function anonymous(value)
  local stanza = type(value) == "string" and parse_xml(value) or st.clone(value)
  return stanza and tostring(without(stanza, "x", USER)) or value
end

handle("set", "query", function(room, element, event)
  local q, kind, condition, text = query.parse(element, config.max_archive_query_results)
  if not q then return nil, kind, condition, text end
  writer:flush()
  local total = config.muc_log_include_total
  if total == nil then total = config.mam_include_total end
  local page
  page, kind, condition, text = query.run(store, jid.split(room.jid), q, total)
  if not page then
    if kind == "wait" then module:log("error", "the archive of %s cannot be read", room.jid) end
    return nil, kind, condition, text
  end
  if room:is_anonymous_for(event.stanza.attr.from) then
    for _, item in ipairs(page.items) do item.value = anonymous(item.value) end
  end
  return query.answer(event, page, q, room.jid)
end)

handle("get", "metadata", function(room)
  writer:flush()
  local found, err = query.metadata(store, jid.split(room.jid))
  if found then return found end
  module:log("error", "the archive of %s cannot be read: %s", room.jid, err)
  return nil, "wait", "internal-server-error"
end)

-- History in memory begins where the archive ends, once for each time the room is read from the store.
local function remember(room)
  local most, list = room:get_historylength(), room._history
  if #list >= most then return end
  writer:flush()
  local look = most * (config.muc_log_presences and 10 or 2)
  local iterate, err = store:find(jid.split(room.jid), { reverse = true, limit = look })
  if not iterate then return module:log("error", "the archive of %s cannot be read: %s", room.jid, err) end
  local known = {}
  for _, entry in ipairs(room._history) do
    local mark = entry.stanza:get_child_with_attr("stanza-id", SID, "by", room.jid)
    if mark then known[mark.attr.id] = true end
  end
  for id, stanza, when in iterate do
    if #room._history >= most then break end
    if stanza.name == "message" and not known[id] and not subject_only(stanza)
      and not stanza:get_child("retracted", RETRACTION) then
      stanza = without(st.clone(stanza), "x", USER)
      stanza:reset():tag("stanza-id", { xmlns = SID, by = room.jid, id = id }):up()
      local entry = { stanza = stanza, timestamp = math.floor(when), stamp = datetime.datetime(when), size = #tostring(stanza) }
      table.insert(room._history, 1, entry)
      room._history_bytes = (room._history_bytes or 0) + entry.size
    end
  end
end

module:hook("muc-get-history", function(event)
  local room = event.room
  if room._remembered or not room:is_logged() then return nil end
  room._remembered = true
  remember(room)
end, 10)
module:hook("muc-room-created", function(event) event.room._remembered = true end)
