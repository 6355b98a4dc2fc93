-- SPDX-License-Identifier: MIT
-- mod_bookmarks: bookmarks of rooms are the items of one node (XEP-0402, mod_pep); clients that know only what was before see the
-- same ones in the drawer for private XML (XEP-0049) and in the single item of the node storage:bookmarks (XEP-0048).
--
-- What an account has in the two old places is moved when it logs in and the new node is not there. Fires bookmarks/empty
-- { session } when one logs in that has no bookmarks at all.

local jid = require "util.jid"
local priority = require "couplet.priority"
local recent = require "couplet.recent"
local st = require "util.stanza"
local task = require "couplet.task"

local NODE, OLD, PUBSUB = "urn:xmpp:bookmarks:1", "storage:bookmarks", "http://jabber.org/protocol/pubsub"
local PRIVATE_KEY = "storage:" .. OLD
local ALL_BYTES = 1024 * 1024                              -- of all bookmarks, for clients that have them in one piece
local WANTED = { access_model = "whitelist", persist_items = true, max_items = "max", send_last_published_item = "never" }
local OPTIONS = { _defaults_only = true }
for k, v in pairs(WANTED) do OPTIONS[k] = v end

local pep = module:depends "pep"
local private = module:open_store("private", "map")
local max_items = module:get_option_integer("pep_max_items", 256, 1)

module:hook("account-disco-info", function(event)
  event.reply:tag("feature", { var = NODE .. "#compat" }):up():tag("feature", { var = NODE .. "#compat-pep" }):up()
end)

-- One bookmark in both forms -----------------------------------------------------------------------------------------------

local function yes(text) return text == "1" or text == "true" end

-- A <conference/> of either kind as one of the other, without what only one of them knows (extensions).
local function conference(from, ns, room)
  local out = st.stanza("conference", { xmlns = ns, jid = room, name = from.attr.name,
    autojoin = yes(from.attr.autojoin) and "true" or nil })
  for _, name in ipairs { "nick", "password" } do
    local text = from:get_child_text(name)
    if text and text ~= "" then out:text_tag(name, text) end
  end
  return out
end

-- The account's bookmarks as one element of the old kind, and the items. nil, condition. There is a bound, because all is read
-- with each change, and items may have anything in their extensions.
local function storage_of(service)
  local storage, items = st.stanza("storage", { xmlns = OLD }), {}
  if service.nodes[NODE] then
    local ok
    ok, items = service:get_items(NODE, true, nil, { forward = true, bytes = ALL_BYTES })
    if not ok then return nil, items end
    if items.more then return nil, "too-large" end         -- never a part, which an old client would take for all
  end
  for _, room in ipairs(items) do
    local new = items[room]:get_child("conference", NODE)
    if new and jid.prep(room) then storage:add_direct_child(conference(new, OLD, room)) end
  end
  return storage, items
end

-- What a client of the old kind wants them to be -------------------------------------------------------------------------------

local quiet = setmetatable({}, { __mode = "k" })           -- services in which several bookmarks change: told of once
local tell

local function replace(service, storage, items)
  local wanted, n = {}, 0
  for old in storage:childtags "conference" do
    local room = jid.prep(old.attr.jid or "")
    if room then
      n = n + (wanted[room] and 0 or 1)
      wanted[room] = conference(old, NODE)
    end
  end
  if n > max_items then return nil, "resource-constraint" end
  for room, new in pairs(wanted) do
    local before = items[room] and items[room]:get_child("conference", NODE)
    if not before or tostring(conference(before, NODE)) ~= tostring(new) then
      local extensions = before and before:get_child "extensions"
      if extensions then new:add_direct_child(extensions) end
      local item = st.stanza("item", { xmlns = PUBSUB, id = room }):add_child(new)
      local ok, err = service:publish(NODE, service.owner, room, item, OPTIONS)
      if not ok then return nil, err end
    end
  end
  for _, room in ipairs(items) do
    if not wanted[room] then
      local ok, err = service:retract(NODE, service.owner, room, true)
      if not ok and err ~= "item-not-found" then return nil, err end
    end
  end
  return true
end

-- -> true | nil, condition
local function set(service, storage)
  local kept, items = storage_of(service)
  if not kept then return nil, items end
  local object = service.nodes[NODE]
  if object and object.config.access_model ~= "whitelist" then         -- nobody else's business
    local ok, err = service:set_node_config(NODE, true, WANTED)
    if not ok then return nil, err end
  end
  quiet[service] = true
  local ok, err = replace(service, storage, items)
  quiet[service] = nil
  tell(service)
  return ok, err
end

-- From the old places ----------------------------------------------------------------------------------------------------------

local moved, note_moved = recent.new(20000)

-- The account's service, with the bookmarks in it. nil: trouble
local function service_of(username)
  local service = pep.get_pep_service(username)
  if not service or moved(username) then return service end
  if not service.nodes[NODE] then
    local kept, err = private:get(username, PRIVATE_KEY)
    if err then return nil end
    local storage = kept and st.deserialize(kept) or st.stanza("storage", { xmlns = OLD })
    if service.nodes[OLD] then
      local ok, _, item = service:get_last_item(OLD, true)
      local more = ok and item and item:get_child("storage", OLD)
      for tag in more and more:childtags "conference" or function() end do storage:add_direct_child(tag) end
    end
    if service.nodes[NODE] or moved(username) then return service end   -- somebody was quicker
    if #storage.tags > 0 then
      local ok
      ok, err = set(service, storage)
      if not ok then
        module:log("warn", "the bookmarks of %s cannot be moved: %s", username, tostring(err))
        return service
      end
    end
    if kept then private:set(username, PRIVATE_KEY, nil) end
    if service.nodes[OLD] then service:delete(OLD, true) end
  end
  note_moved(username, true)
  return service
end

module:hook("resource-bind", function(event)
  local session = event.session
  task.spawn(function()
    local service = service_of(session.username)
    if service and not service.nodes[NODE] and not session.destroyed then
      module:fire_event("bookmarks/empty", { session = session })
    end
  end)
end)

module:hook_global("user-deleted", function(event)
  if event.host == module.host then note_moved(event.username, nil) end
end)

-- Private XML (XEP-0049) -------------------------------------------------------------------------------------------------------

local function answer(event, make)
  local origin, stanza = event.origin, event.stanza
  local service, reply, err = service_of(origin.username), nil, "internal-server-error"
  if service then reply, err = make(service) end
  origin.send(reply or pep.error_reply(stanza, err))
  return true
end

module:hook("iq/self/jabber:iq:private:query", function(event)
  local stanza = event.stanza
  local query = stanza.tags[1]
  local storage = query:get_child("storage", OLD)
  if not storage or query.tags[2] then return nil end      -- mod_private's
  return answer(event, function(service)
    if stanza.attr.type == "set" then
      local ok, err = set(service, storage)
      return ok and st.reply(stanza), err
    end
    local kept, err = storage_of(service)
    return kept and st.reply(stanza):query("jabber:iq:private"):add_child(kept), err
  end)
end, priority.before)

-- One item for all (XEP-0048 1.1) ----------------------------------------------------------------------------------------------

local function item_of(storage) return st.stanza("item", { xmlns = PUBSUB, id = "current" }):add_child(storage) end

module:hook("iq/bare/" .. PUBSUB .. ":pubsub", function(event)
  local stanza = event.stanza
  local action = event.to_self and stanza.tags[1].tags[1]
  if not action or action.attr.node ~= OLD then return nil end
  if stanza.attr.type == "get" and action.name == "items" then
    return answer(event, function(service)
      local storage, err = storage_of(service)
      if not storage then return nil, err end
      if not service.nodes[NODE] then return nil, "item-not-found" end
      return st.reply(stanza):tag("pubsub", { xmlns = PUBSUB }):tag("items", { xmlns = PUBSUB, node = OLD })
        :add_child(item_of(storage))
    end)
  elseif stanza.attr.type == "set" and action.name == "publish" then
    local item = action:get_child "item"
    local storage = item and item:get_child("storage", OLD)
    return answer(event, function(service)
      if not storage then return nil, item and "invalid-payload" or "item-required" end
      local ok, err = set(service, storage)
      return ok and st.reply(stanza):tag("pubsub", { xmlns = PUBSUB }):tag("publish", { node = OLD })
        :tag("item", { id = "current" }), err
    end)
  end
end, priority.before)

-- Whoever listens to the old node hears of what changes in the new one.
function tell(service)
  local storage = not quiet[service] and storage_of(service)
  if not storage then return end
  local config = setmetatable({ access_model = "whitelist" }, { __index = service.node_defaults })
  local object = { name = OLD, config = config, affiliations = {}, subscribers = {} }
  service.config.broadcaster("items", OLD, {}, item_of(storage), service.owner, object, service, "current")
end

for _, name in ipairs { "item-published", "item-retracted", "node-purged", "node-deleted" } do
  module:hook("pep-" .. name, function(event)
    if event.node == NODE and not quiet[event.service] then task.spawn(tell, event.service) end
  end)
end
