-- SPDX-License-Identifier: MIT
-- pubsub.lib: what services of publish-subscribe share: items in an archive, errors, notifications, and the protocol itself in
-- handlers.lib and forms.lib (XEP-0060). For mod_pubsub and mod_pep.
--
--   lib.items(archive, user, config, limit) -> item store for util.pubsub; limit: what max_items = "max" means here
--   lib.error_reply(stanza, condition, text?)         condition as methods of a service give it
--   lib.errors.new(condition) -> error object with the pubsub condition it needs
--   lib.event(kind, node, item, id, config, extra?) -> <event/>      lib.notification(event, config, from) -> <message/>
--   lib.handle(event, service) -> true                one iq: handlers.lib
--   lib.may_walk(service, who) -> bool               not too often in a row, for requests that look through all nodes
--   lib.follow(service, find)  lib.watch(service, from, post)  lib.each_subscriber(service, object, message, item, fn)
--   lib.features(without?) -> list                    lib.forms: see forms.lib

local budget = require "couplet.budget"
local clock = require "couplet.clock"
local errors = require "util.error"
local st = require "util.stanza"
local task = require "couplet.task"
local uuid = require "util.id".medium

local lib = {}

local NS = "http://jabber.org/protocol/pubsub"
lib.NS, lib.OWNER, lib.EVENT, lib.ERRORS = NS, NS .. "#owner", NS .. "#event", NS .. "#errors"

-- Errors -----------------------------------------------------------------------------------------------------------------

local function own(kind, condition, name, text) return { type = kind, condition = condition, text = text,
  extra = name and { namespace = lib.ERRORS, condition = name } or nil } end

local function unsupported(feature)
  return { type = "cancel", condition = "feature-not-implemented",
    extra = { tag = st.stanza("unsupported", { xmlns = lib.ERRORS, feature = feature }) } }
end

local registry = {
  ["asked-too-often"] = { type = "wait", condition = "resource-constraint", text = "Slower, please" },
  ["closed-node"] = own("cancel", "not-allowed", "closed-node"),
  ["collections-unsupported"] = unsupported "collections",
  ["invalid-item"] = own("modify", "bad-request", "invalid-payload"),
  ["invalid-jid"] = own("modify", "bad-request", "invalid-jid"),
  ["invalid-options"] = own("modify", "bad-request", "invalid-options"),
  ["invalid-payload"] = own("modify", "bad-request", "invalid-payload"),
  ["item-forbidden"] = own("modify", "bad-request", "item-forbidden"),
  ["item-required"] = own("modify", "bad-request", "item-required"),
  ["jid-required"] = own("modify", "bad-request", "jid-required"),
  ["max-nodes-exceeded"] = own("wait", "resource-constraint", "max-nodes-exceeded"),
  ["node-full"] = own("cancel", "conflict", "node-full"),
  ["nodeid-required"] = own("modify", "bad-request", "nodeid-required"),
  ["not-in-roster-group"] = own("auth", "not-authorized", "not-in-roster-group"),
  ["not-subscribed"] = own("auth", "not-authorized", "not-subscribed"),
  ["not-subscribed-yet"] = own("cancel", "unexpected-request", "not-subscribed"),
  ["payload-required"] = own("modify", "bad-request", "payload-required"),
  ["payload-too-big"] = own("modify", "not-acceptable", "payload-too-big"),
  ["pending-subscription"] = own("auth", "not-authorized", "pending-subscription"),
  ["persistent-items-unsupported"] = unsupported "persistent-items",
  ["precondition-not-met"] = own("cancel", "conflict", "precondition-not-met"),
  ["presence-subscription-required"] = own("auth", "not-authorized", "presence-subscription-required"),
  ["quota-exceeded"] = own("wait", "resource-constraint", nil, "Everything together is more than may be kept"),
  ["subscribe-unsupported"] = unsupported "subscribe",
  ["too-large"] = own("wait", "resource-constraint", nil, "This is too much for one answer"),
  ["too-many-subscriptions"] = own("wait", "policy-violation", "too-many-subscriptions"),
  ["unsupported-access-model"] = own("modify", "not-acceptable", "unsupported-access-model"),
  ["internal-server-error"] = { type = "wait", condition = "internal-server-error" },
}

local made = errors.init("pubsub", registry)
lib.errors = {
  new = function(condition) return errors.is_error(condition) and condition or made.new(condition) end,
  unsupported = function(feature) return errors.new(unsupported(feature)) end,
}

function lib.error_reply(stanza, condition, text)
  local err = lib.errors.new(condition or "undefined-condition")
  local reply = st.error_reply(stanza, err.type, err.condition, text or err.text, nil)
  -- profanity publishes its first OMEMO device list only when it is told by XEP-0086's number that there is none yet.
  if err.condition == "item-not-found" then reply:get_child("error").attr.code = "404" end
  if err.extra then
    local tag = err.extra.tag or st.stanza(err.extra.condition, { xmlns = err.extra.namespace })
    reply:get_child "error":add_direct_child(st.clone(tag))
  end
  return reply
end

-- Items in an archive ------------------------------------------------------------------------------------------------------

local SLICE = 16                       -- items read at once, where their size counts
local REMEMBERED = 4096                -- bytes of a payload that is kept in memory, being the newest of its node

local Items = {}
Items.__index = Items

function lib.items(archive, user, config, limit)
  return setmetatable({ archive = archive, user = user, config = config, limit = limit, changes = 0 }, Items)
end

-- The oldest moment that counts, where items expire.
function Items:start()
  local seconds = tonumber(self.config.item_expire)
  return seconds and clock.wall() - seconds or nil
end

function Items:max() return math.min(tonumber(self.config.max_items) or self.limit, self.limit) end

-- The newest item is remembered if it is small, and nothing has changed since it was read (`as_of`).
function Items:remember(as_of, id, item, when)
  if as_of ~= self.changes then return end
  if item and #item.tags > 0 and item.tags[1]:size() > REMEMBERED then id, item = nil, nil end
  self.last_id, self.last_item, self.last_when = id, item, when
end

function Items:forget()
  self.changes = self.changes + 1
  self.last_id, self.last_item = nil, nil
end

function Items:trim()
  local old = self:start()
  self.archive:delete(self.user, { truncate = self:max() })
  if old then self.archive:delete(self.user, { ["end"] = old }) end
  return true
end

function Items:resize()
  self:forget()
  return self:trim()
end

-- What is over the bound goes in the background: nobody sees it, because pages end at the bound.
function Items:set(id, item, publisher)
  self:forget()
  if not item then
    local n, err = self.archive:delete(self.user, { key = id })
    if not n then return nil, err end
    return n > 0
  end
  local ok, err = self.archive:append(self.user, id, item, clock.wall(), publisher)
  if not ok then return nil, err or "not kept" end
  self:forget()
  self:remember(self.changes, id, self:dress(id, item, publisher), clock.wall())
  if self:max() ~= 1 or self.first ~= id then task.spawn(self.trim, self) end
  self.first = id
  return true
end

-- -> item, publisher | nil; nil, false: the store is in trouble
function Items:get(id)
  local item, when, publisher = self.archive:get(self.user, id)
  if not item then return nil, when ~= "item-not-found" and false or nil end
  local start = self:start()
  if start and when < start then return nil end
  return self:dress(id, item, publisher), publisher
end

function Items:dress(id, item, publisher)
  item.attr.id = id
  if publisher and self.config.itemreply == "publisher" then item.attr.publisher = publisher end
  return item
end

-- Oldest first. spec { max, after, before, reverse, bytes }; without one: everything up to the bound. bytes: of payloads, after
-- which no more are read, so that a node of large items costs whoever asks, and us, no more than what is sent.
function Items:items(spec)
  spec = spec or {}
  local bound = self:max()
  local query = { start = self:start(), total = spec.count }
  query.after, query.before = spec.after, type(spec.before) == "string" and spec.before or nil
  query.limit = math.min(spec.max or bound, bound)
  query.reverse = spec.before ~= nil or spec.after == nil and (spec.reverse or not spec.forward)
  if query.limit == 0 then query.limit = 1 end
  local list, items, bytes, left, total = {}, {}, spec.bytes or math.huge, query.limit, nil
  repeat
    query.limit = spec.bytes and math.min(left, SLICE) or left
    local rows, n_all = self.archive:find(self.user, query)
    if not rows and not list[1] then return nil, n_all end
    if not rows then break end                             -- the last one read is gone since
    total = total or n_all
    local n = 0
    for id, item, _, publisher in rows do
      n = n + 1
      if not items[id] then list[#list + 1] = id end
      items[id] = self:dress(id, item, publisher)
      if spec.bytes then bytes = bytes - item:size() end
    end
    left, query.total = left - n, nil
    if query.reverse then query.before = list[#list] else query.after = list[#list] end
  until n < query.limit or left <= 0 or bytes <= 0
  if spec.max == 0 then return { count = total } end
  items.more = left > 0 and bytes <= 0
  items.count = items.count or total
  local n = #list
  for i, id in ipairs(list) do items[query.reverse and n + 1 - i or i] = id end
  return items
end

function Items:last()
  local start = self:start()
  if not self.last_id or start and self.last_when < start then
    local as_of = self.changes
    local rows = self.archive:find(self.user, { limit = 1, reverse = true, start = start })
    if not rows then return nil end
    local id, item, when, publisher = rows()
    if not id then return nil end
    item = self:dress(id, item, publisher)
    self:remember(as_of, id, item, when)
    return id, item, when
  end
  return self.last_id, self.last_item, self.last_when
end

function Items:full(id)
  local rows, total = self.archive:find(self.user, { limit = 1, total = true })
  return rows ~= nil and (total or 0) >= self:max() and not self.archive:get(self.user, id)
end

function Items:clear()
  self:forget()
  local n, err = self.archive:delete(self.user)
  if not n then return nil, err or "not deleted" end
  return true
end

-- Ids of what one publisher has here, n at most.
function Items:of(publisher, n)
  local ids = {}
  for id in self.archive:find(self.user, { with = publisher, limit = n, raw = true }) or function() end do ids[#ids + 1] = id end
  return ids
end

-- For nodes that keep nothing.
local Nothing = {}
Nothing.__index = Nothing
function Nothing.get() return nil end
function Nothing.set() return true end
function Nothing.items() return {} end
function Nothing.last() return nil end
function Nothing.full() return false end
function Nothing.of() return {} end
function Nothing.clear() return true end
function Nothing.resize() return true end
lib.nothing = setmetatable({}, Nothing)

-- Notifications ------------------------------------------------------------------------------------------------------------

local function shown(item, config, id)
  if not config.deliver_payloads then return st.stanza("item", { xmlns = lib.EVENT, id = id, node = nil }) end
  item = st.clone(item)
  item.attr.xmlns = lib.EVENT
  if config.itemreply ~= "publisher" then item.attr.publisher = nil end
  return item
end

function lib.event(kind, node, item, id, config, extra)
  local event = st.stanza("event", { xmlns = lib.EVENT })
  if kind == "items" then
    event:tag("items", { node = node })
    if item then event:add_child(shown(item, config, id)) end
  elseif kind == "retract" then
    event:tag("items", { node = node }):tag("retract", { id = id }):up()
  elseif kind == "config" then
    event:tag("configuration", { node = node })
    if extra and config.deliver_payloads then event:add_child(extra) end
  else                                                     -- purge, delete
    event:tag(kind, { node = node })
    if kind == "delete" and type(extra) == "string" then event:tag("redirect", { uri = extra }):up() end
  end
  return event:reset()
end

function lib.notification(event, config, from)
  local kind = config.notification_type == "normal" and "normal" or "headline"
  return st.message({ from = from, type = kind ~= "normal" and kind or nil, id = uuid() }):add_child(event)
end

lib.forms = module:require "pubsub/forms"

-- For subscribers whose clients do not know the payload. Plugins make the text: pubsub-summary/NS { payload } -> text | nil.
-- A payload without content asks whether they could: "" is yes.
function lib.with_body(message, item)
  local payload = item and item.tags[1]
  local text = payload and module:fire_event("pubsub-summary/" .. (payload.attr.xmlns or ""), { payload = payload })
  if type(text) ~= "string" or text == "" then return message end
  local out = st.message({}, text)
  for k, v in pairs(message.attr) do out.attr[k] = v end
  return out:add_child(message.tags[1])
end

module:hook("pubsub-summary/http://www.w3.org/2005/Atom", function(event)
  return event.payload:get_child_text "title" or ""
end, -1)

-- Those who have subscribed by name: fn(jid, message) for each who wants notifications and still may have them.
function lib.each_subscriber(service, object, message, item, fn)
  local list, subscribers = {}, object.subscribers
  for who in pairs(subscribers) do list[#list + 1] = who end
  for _, who in ipairs(list) do
    local options = subscribers[who]
    options = type(options) == "table" and options or {}
    if subscribers[who] and options["pubsub#deliver"] ~= false and service:may_hear(object, who)
      and lib.hears_now(service, object, who) then
      fn(who, options["pubsub#include_body"] and lib.with_body(message, item) or message)
    end
  end
end

-- Do we have texts for what is in the node (§12.8)?
function lib.has_text(service, node)
  local object = service.nodes[node]
  local kind = object and object.config.payload_type or ""
  local _, _, item = service:get_last_item(node, true)
  local payload = item and item.tags[1] or kind ~= "" and st.stanza("payload", { xmlns = kind })
  return payload and module:fire_event("pubsub-summary/" .. (payload.attr.xmlns or ""), { payload = payload }) ~= nil
end

-- Looking through all nodes of a service that has thousands is no business for every second.
local may_look_through = budget.new(5000, 200000, 10)         -- nodes one account may look through in so long

function lib.may_walk(service, who) return may_look_through(service:normalize(who), service.n_nodes + 1) end

module:require "pubsub/online"(lib)
module:require "pubsub/watch"(lib)
module:require "pubsub/pending"(lib)
module:require "pubsub/disco"(lib)
module:require "pubsub/hidden"(lib)
lib.handle = module:require "pubsub/handlers"(lib)

local FEATURES = { "access-authorize", "access-open", "access-whitelist", "auto-create", "config-node", "config-node-max",
  "create-and-configure", "create-nodes", "delete-items", "delete-nodes", "get-pending", "instant-nodes", "item-ids",
  "last-published", "manage-subscriptions", "member-affiliation", "meta-data", "modify-affiliations", "multi-items",
  "outcast-affiliation", "persistent-items", "publish", "publish-only-affiliation", "publish-options", "publisher-affiliation",
  "purge-nodes", "retract-items", "retrieve-affiliations", "retrieve-default", "retrieve-items", "retrieve-subscriptions",
  "rsm", "subscribe", "subscription-notifications", "subscription-options", "retrieve-default-sub", "publish-node-full" }

function lib.features(without)
  local out = { NS }
  for _, name in ipairs(FEATURES) do
    if not (without and without[name]) then out[#out + 1] = NS .. "#" .. name end
  end
  return out
end

return lib
