-- SPDX-License-Identifier: MIT
-- util.pubsub: a publish-subscribe service as an object (XEP-0060), whatever carries it: mod_pubsub makes one for a domain,
-- mod_pep one for each account.
--
--   local service = pubsub.new(config)          service.nodes, .events (a bus of its own), .config
-- Methods give true[, value …] or false, condition. The actor is an address, or true: the server itself.
--   create(node, actor, options?)  delete(node, actor)  purge(node, actor, notify?)
--   publish(node, actor, id, item, options?)         options: configuration a new node gets, and an old one must have (not if
--                                  options._defaults_only)
--   retract(node, actor, id, notify?)
--   get_items(node, actor, ids?, spec?) -> items     ids on 1…n, items under their ids; newest last. spec { max, after, before,
--                                  reverse } as RSM says; items.count then. spec.bytes:
--                                  no more are read after so many; items.more: there are
--   get_last_item(node, actor) -> id, item, when     get_nodes(actor) -> { node = object }
--   add_subscription(node, actor, jid, options?) -> state     "subscribed" | "pending"
--   remove_subscription(node, actor, jid)  get_subscription(node, actor, jid) -> options | nil, state
--   get_subscriptions(node?, actor, jid?) -> { { node, jid, state, subscription = options } }
--   approve_subscription(node, actor, jid, allow)
--   get_affiliation(jid, node)  each_affiliation(jid) -> iterator: node, affiliation, without "none"
--   node_names() -> sorted list, not to be changed                viewer(actor) -> fn(object) -> may he know of the node?
--   set_affiliation(node, actor, jid, affiliation)  get_affiliations(node, actor)
--   get_node_config(node, actor)  set_node_config(node, actor, new)  get_node_metadata(node, actor)
--   may(node, actor, action) -> bool                 why_not(node, actor, action) -> condition | nil
--   forget_person(jid)             in no list any more, nor told so: there is no such account now
--   items_of(node, publisher, n) -> ids
--   may_hear(object, jid) -> bool                    may the address see what is in the node, be it a deleted one?
--   jids_equal(a, b)
--
-- config (all optional but itemstore):
--   itemstore(config, node) -> store        set(id, item|nil, publisher) get(id) items(spec) last() full(id) clear() resize()
--                                           and each may give nil, error; of(publisher, n)? -> ids
--   nodestore { set(node, data|nil), set_person(node, jid, { subscription =, pending = }|nil)? }     data { name, config,
--       affiliations, subscribers, pending, created, creator, rows }. With set_person the two lists are not in the data, which
--       says so (rows), so that one more subscriber of many costs no more than one of few; load() wants them there again
--   broadcaster(kind, node, jids, item, actor, object, service, id)       kind: items retract purge delete config
--   may_create(jid) -> bool                           besides those who own everything
--   access_models { name = fn(object, jid, service) -> true | false, condition }
--   get_affiliation(jid, node, service) -> affiliation | nil      before the node's own list
--   owns_all(jid) -> bool                             an owner of every node
--   check_node_config(node, actor, config) -> bool | false, condition
--   defaults_for(node) -> what a new node of that name gets besides node_defaults
--   itemcheck(item) -> bool    normalize_jid(jid)    node_defaults    autocreate_on_publish    autocreate_on_subscribe
--   has_room(service, bytes) -> bool                   for one more item
--   max_nodes, max_nodes_each (of one creator), max_subscriptions (of one node), max_affiliations, max_people (of all nodes)
--
-- Events on service.events, { service, node, actor, … }: node-created { object }, node-deleted, node-purged, item-published
-- { id, item } (also item-published/NODE), item-retracted { id }, subscription-added { jid, options, notify_sub },
-- subscription-removed, subscription-requested { jid }, node-config-changed { config }.

local errors = require "couplet.errors"
local clock = require "couplet.clock"
local datetime = require "couplet.util.datetime".datetime
local events = require "couplet.events"
local id = require "couplet.util.id"
local jid = require "couplet.jid"

local pubsub = {}

local NAME_BYTES = 1024                -- of a node's name, and of an item's id

local defaults = {
  title = "", description = "", payload_type = "", access_model = "open", publish_model = "publishers", max_items = 20,
  persist_items = true, deliver_notifications = true, deliver_payloads = true, notify_delete = true, notify_retract = true,
  notify_config = false, notify_sub = false, notification_type = "headline", send_last_published_item = "never",
  publish_node_full = "retract-oldest", node_type = "leaf", subscribe = true, itemreply = "publisher",
  presence_based_delivery = false, tempsub = false, purge_offline = false, body_xslt = "", dataform_xslt = "",
}
pubsub.defaults = defaults

-- What an affiliation may do besides what the access and publish models give to everybody (§4.1).
local capabilities = {
  outcast = {},
  none = {},
  member = { access = true },
  ["publish-only"] = { publish = true },
  publisher = { access = true, publish = true, retract = true },
  owner = { access = true, publish = true, retract = true, owner = true },
}
pubsub.affiliations = capabilities

local service_mt = {}
service_mt.__index = service_mt

local access_models = {
  open = function() return true end,
  whitelist = function() return false, "closed-node" end,
  authorize = function(object, who, service)
    if service:subscribes(object, who) then return true end
    return false, "not-subscribed"
  end,
}

function pubsub.new(config)
  config = config or {}
  local node_defaults = setmetatable(config.node_defaults or {}, { __index = defaults })
  return setmetatable({
    config = config, node_defaults = node_defaults, nodes = {}, events = events.new(), n_nodes = 0,
    access_models = setmetatable(config.access_models or {}, { __index = access_models }), leaving = {},
  }, service_mt)
end

-- Nodes kept before, read when they are asked for or all at once.
local function object_of(service, name, data)
  return {
    name = name, config = setmetatable(data.config or {}, { __index = service.node_defaults }),
    affiliations = data.affiliations or {}, subscribers = data.subscribers or {}, pending = data.pending or {},
    created = data.created, creator = data.creator, rows = data.rows,
  }
end

function service_mt:load(all)
  for name, data in pairs(all) do
    if type(name) == "string" and type(data) == "table" then
      self.nodes[name] = object_of(self, name, data)
      self.n_nodes = self.n_nodes + 1
    end
  end
  self.names = nil
end

-- The names of all nodes in order, kept until one comes or goes.
function service_mt:node_names()
  if not self.names then
    local names = {}
    for name in pairs(self.nodes) do names[#names + 1] = name end
    table.sort(names)
    self.names = names
  end
  return self.names
end

local function place(service, name, object)
  service.nodes[name], service.names = object, nil
end

local function plain(t) return next(t) and t or nil end

-- who: only what is known of this subscriber has changed.
local function save(service, object, who)
  local store = service.config.nodestore
  if not store then return true end
  if who and object.rows then
    local subscription, pending = object.subscribers[who], object.pending[who]
    local row = (subscription or pending) and { subscription = subscription, pending = pending } or nil
    return store:set_person(object.name, who, row)
  end
  local copy = {}
  for k, v in pairs(object.config) do copy[k] = v end
  return store:set(object.name, {
    name = object.name, config = copy, affiliations = plain(object.affiliations), rows = object.rows,
    subscribers = not object.rows and plain(object.subscribers) or nil,
    pending = not object.rows and plain(object.pending) or nil,
    created = object.created, creator = object.creator,
  })
end

-- Keeps the node; if that fails the change is taken back.
local function saved(service, object, undo, who)
  local ok, err = save(service, object, who)
  if ok then return true end
  undo()
  return false, errors.is_error(err) and err or "internal-server-error"
end

local function store_of(service, object)
  if not object.store then object.store = service.config.itemstore(object.config, object.name) end
  return object.store
end

-- Who may what -----------------------------------------------------------------------------------------------------------

function service_mt:jids_equal(a, b) return self:normalize(a) == self:normalize(b) end

function service_mt:normalize(who)
  if type(who) ~= "string" then return who end
  local normalize = self.config.normalize_jid or jid.bare
  return normalize(who)
end

local function owns_all(service, who)
  local config = service.config
  return config.owns_all ~= nil and who ~= true and config.owns_all(who)
end

-- Of somebody who does not own all, `who` normalized.
local function in_list(service, who, name)
  local own = service.config.get_affiliation and service.config.get_affiliation(who, name, service)
  local object = service.nodes[name]
  return own or object and object.affiliations[who] or "none"
end

function service_mt:get_affiliation(who, name)
  who = self:normalize(who)
  return owns_all(self, who) and "owner" or in_list(self, who, name)
end

function service_mt:each_affiliation(who)
  who = self:normalize(who)
  local all, name = owns_all(self, who), nil
  return function()
    repeat
      name = next(self.nodes, name)
      local affiliation = name and (all and "owner" or in_list(self, who, name))
      if affiliation and affiliation ~= "none" then return name, affiliation end
    until not name
  end
end

-- May `who` see the node's items and subscribe?
local function access(service, object, who, affiliation)
  if capabilities[affiliation].access then return true end
  if affiliation == "outcast" or affiliation == "publish-only" then return false, "forbidden" end
  local model = service.access_models[object.config.access_model]
  if not model then return false, "forbidden" end
  return model(object, who, service)
end

local rules = {}

function rules.publish(service, object, who, affiliation)
  if affiliation == "outcast" then return "forbidden" end
  local model = object.config.publish_model
  if model == "open" then return nil end
  if model == "subscribers" and service:subscribes(object, who) then return nil end
  return not capabilities[affiliation].publish and "forbidden" or nil
end

local function by_access(service, object, who, affiliation)
  local ok, condition = access(service, object, who, affiliation)
  return not ok and (condition or "forbidden") or nil
end
rules.get_items, rules.subscribe, rules.get_metadata = by_access, by_access, by_access

function rules.unsubscribe() return nil end
function rules.retract(_, _, _, affiliation) return not capabilities[affiliation].retract and "forbidden" or nil end

local function owners_only(_, _, _, affiliation) return not capabilities[affiliation].owner and "forbidden" or nil end

-- -> nil if allowed, else the condition
function service_mt:why_not(name, actor, action)
  if actor == true then return nil end
  local object = self.nodes[name]
  local affiliation = self:get_affiliation(actor, name)
  if action == "create" then
    local may = capabilities[affiliation].owner or self.config.may_create and self.config.may_create(self:normalize(actor))
    return not may and "forbidden" or nil
  end
  if not object then return "item-not-found" end
  return (rules[action] or owners_only)(self, object, self:normalize(actor), affiliation)
end

function service_mt:may_hear(object, who)
  return (access(self, object, self:normalize(who), self:get_affiliation(who, object.name)))
end

function service_mt:may(name, actor, action) return self:why_not(name, actor, action) == nil end

-- The node, if the actor may; else false, condition.
local function permitted(service, name, actor, action)
  local object = service.nodes[name]
  if not object then return nil, "item-not-found" end
  local condition = service:why_not(name, actor, action)
  if condition then return nil, condition end
  return object
end

local function fire(service, event, data)
  data.service = service
  return service.events.fire_event(event, data)
end

local function tell(service, kind, object, item, actor, item_id)
  local broadcaster = service.config.broadcaster
  if broadcaster then broadcaster(kind, object.name, object.subscribers, item, actor, object, service, item_id) end
end

-- Nodes ------------------------------------------------------------------------------------------------------------------

local function check_config(service, name, actor, config)
  if not service.access_models[config.access_model] then return false, "unsupported-access-model" end
  local check = service.config.check_node_config
  if not check then return true end
  local ok, condition = check(name, actor, config)
  if ok then return true end
  return false, condition or "not-acceptable"
end

-- How many nodes has he made? Who owns everything may make as many as there can be.
local function made_by(service, actor)
  local n, who = 0, service:normalize(actor)
  if actor == true or not service.config.max_nodes_each or owns_all(service, who) then return 0 end
  for _, object in pairs(service.nodes) do n = n + (object.creator == who and 1 or 0) end
  return n
end

function service_mt:create(name, actor, options)
  local condition = self:why_not(name, actor, "create")
  if condition then return false, condition end
  if self.nodes[name] or self.leaving[name] then return false, "conflict" end
  if #name == 0 or #name > NAME_BYTES then return false, "not-acceptable" end
  local most, most_each = self.config.max_nodes or math.huge, self.config.max_nodes_each or math.huge
  if self.n_nodes >= most or made_by(self, actor) >= most_each then
    return false, "max-nodes-exceeded"
  end
  local config = {}
  for k, v in pairs(self.config.defaults_for and self.config.defaults_for(name) or {}) do config[k] = v end
  for k, v in pairs(options or {}) do
    if type(k) == "string" and k:sub(1, 1) ~= "_" then config[k] = v end
  end
  local store = self.config.nodestore
  local object = object_of(self, name, { config = config, created = clock.wall(),
    rows = store and store.set_person and true or nil, creator = actor ~= true and self:normalize(actor) or nil })
  local ok, err = check_config(self, name, actor, object.config)
  if not ok then return false, err end
  if actor ~= true then object.affiliations[self:normalize(actor)] = "owner" end
  self.n_nodes = self.n_nodes + 1
  place(self, name, object)
  ok, err = saved(self, object, function()
    if self.nodes[name] ~= object then return end
    self.n_nodes = self.n_nodes - 1
    place(self, name, nil)
  end)
  if not ok then return false, err end
  fire(self, "node-created", { node = name, actor = actor, object = object })
  return true
end

-- The node is gone for everybody from the first moment, and its name is free when nothing of it is left.
function service_mt:delete(name, actor)
  local object, condition = permitted(self, name, actor, "delete")
  if not object then return false, condition end
  self.leaving[name] = object
  place(self, name, nil)
  local ok, err = store_of(self, object):clear()
  if not (ok == nil and err) and self.config.nodestore then ok, err = self.config.nodestore:set(name, nil) end
  self.leaving[name] = nil
  if not ok and err then
    place(self, name, object)
    return false, "internal-server-error"
  end
  self.n_nodes = self.n_nodes - 1
  if object.config.notify_delete then tell(self, "delete", object, nil, actor) end
  fire(self, "node-deleted", { node = name, actor = actor, object = object })
  return true
end

function service_mt:purge(name, actor, notify)
  local object, condition = permitted(self, name, actor, "purge")
  if not object then return false, condition end
  if not object.config.persist_items then return false, "persistent-items-unsupported" end
  local ok, err = store_of(self, object):clear()
  if ok == nil and err then return false, "internal-server-error" end
  if notify ~= false then tell(self, "purge", object, nil, actor) end
  fire(self, "node-purged", { node = name, actor = actor })
  return true
end

-- For one who looks at many nodes: fn(object) -> may he know of it?
function service_mt:viewer(actor)
  local who = self:normalize(actor)
  if actor == true or owns_all(self, who) then return function() return true end end
  return function(object) return (access(self, object, who, in_list(self, who, object.name))) end
end

function service_mt:get_nodes(actor)
  local out, sees = {}, self:viewer(actor)
  for name, object in pairs(self.nodes) do
    if sees(object) then out[name] = object end
  end
  return true, out
end

-- Configuration ----------------------------------------------------------------------------------------------------------

function service_mt:get_node_config(name, actor)
  local object, condition = permitted(self, name, actor, "configure")
  if not object then return false, condition end
  return true, setmetatable({}, { __index = object.config })
end

function service_mt:set_node_config(name, actor, new)
  local object, condition = permitted(self, name, actor, "configure")
  if not object then return false, condition end
  local config = setmetatable({}, getmetatable(object.config))
  for k, v in pairs(object.config) do config[k] = v end
  for k, v in pairs(new) do
    if type(k) == "string" and k:sub(1, 1) ~= "_" then config[k] = v end
  end
  local ok, err = check_config(self, name, actor, config)
  if not ok then return false, err end
  local old = object.config
  object.config = config
  ok, err = saved(self, object, function() object.config = old end)
  if not ok then return false, err end
  if old.persist_items and not config.persist_items then store_of(self, object):clear() end        -- or they would come back
  object.store = nil
  if config.max_items ~= old.max_items and config.persist_items then store_of(self, object):resize() end
  if config.notify_config then tell(self, "config", object, nil, actor) end
  fire(self, "node-config-changed", { node = name, actor = actor, config = config, old_config = old })
  if old.access_model ~= config.access_model or config.roster_groups_allowed then self:drop_strangers(object) end
  return true
end

-- Who has lost access by a change of model or of affiliation is no subscriber any more (§4.5, §12.19).
function service_mt:drop_strangers(object)
  local strangers = {}
  for who in pairs(object.subscribers) do
    local affiliation = self:get_affiliation(who, object.name)
    if not access(self, object, self:normalize(who), affiliation) then strangers[#strangers + 1] = who end
  end
  for _, who in ipairs(strangers) do self:remove_subscription(object.name, true, who) end
end

local METADATA = { "title", "description", "payload_type", "access_model", "publish_model", "max_items", "language", "contact" }

function service_mt:get_node_metadata(name, actor)
  local object, condition = permitted(self, name, actor, "get_metadata")
  if not object then return false, condition end
  local out = {}
  for _, k in ipairs(METADATA) do out[k] = object.config[k] end
  out.num_subscribers = self:count_subscribers(object)
  out.creation_date, out.creator = object.created and datetime(object.created), object.creator
  out.owner, out.publisher = {}, {}
  for who, affiliation in pairs(object.affiliations) do
    if out[affiliation] then table.insert(out[affiliation], who) end
  end
  return true, out
end

-- Items ------------------------------------------------------------------------------------------------------------------

local function same(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return tostring(a) == tostring(b) end
  for i = 1, math.max(#a, #b) do
    if a[i] ~= b[i] then return false end
  end
  return true
end

-- §7.1.5: does an existing node have what the publisher counts on?
local function unmet(object, wanted)
  for k, v in pairs(wanted or {}) do
    if type(k) == "string" and k:sub(1, 1) ~= "_" and not same(object.config[k], v) then return true end
  end
  return false
end

function service_mt:publish(name, actor, item_id, item, options)
  local object, created = self.nodes[name], false
  if not object then
    if not self.config.autocreate_on_publish then return false, "item-not-found" end
    if self:why_not(name, actor, "create") then return false, "forbidden" end
  else
    local condition = self:why_not(name, actor, "publish")
    if condition then return false, condition end
    if options and not options._defaults_only and unmet(object, options) then return false, "precondition-not-met" end
  end
  if self.config.itemcheck and item and not self.config.itemcheck(item) then return false, "invalid-item" end
  if item_id and #item_id > NAME_BYTES then return false, "not-acceptable" end
  local will_have = object and object.config or options and options.max_payload_size and options or self.node_defaults
  local most = will_have.max_payload_size
  if most and item and #item.tags > 0 and item.tags[1]:size() > most then return false, "payload-too-big" end
  local has_room = self.config.has_room
  if has_room and item then
    if not has_room(self, item:size()) then return false, "quota-exceeded" end
    if self.nodes[name] ~= object then return self:publish(name, actor, item_id, item, options) end     -- made, gone meanwhile
  end
  if not object then
    local ok, condition = self:create(name, actor, options)
    if not ok then return false, condition end
    object, created = self.nodes[name], true
    if not object then return false, "item-not-found" end                -- deleted while it was made
  end
  local config = object.config
  item_id = item_id or item and item.attr.id or id.medium()
  if item then item.attr.id = item_id end
  local publisher = actor ~= true and self:normalize(actor) or nil
  if config.persist_items and item then
    local store = store_of(self, object)
    if config.publish_node_full == "reject" and store:full(item_id) then return false, "node-full" end
    local dropped, err = store:set(item_id, item, publisher)
    if dropped == nil and err then
      if created then self:delete(name, true) end
      return false, "internal-server-error"
    end
    if self.nodes[name] ~= object then
      store:set(item_id, nil)                              -- nobody shall find it in a node that gets the name later
      return false, "item-not-found"
    end
  end
  local data = { node = name, actor = actor, id = item_id, item = item, object = object }
  fire(self, "item-published", data)
  fire(self, "item-published/" .. name, data)
  if config.deliver_notifications then tell(self, "items", object, item, actor, item_id) end
  return true, item_id
end

function service_mt:retract(name, actor, item_id, notify)
  local object = self.nodes[name]
  if not object then return false, "item-not-found" end
  local store = store_of(self, object)
  local item, publisher = store:get(item_id)
  local condition = self:why_not(name, actor, "retract")
  -- Whoever may only publish takes back what is his own (§7.2.3).
  if condition and not (item and actor ~= true and publisher == self:normalize(actor)) then return false, condition end
  if not object.config.persist_items then return false, "persistent-items-unsupported" end
  if not item then return false, "item-not-found" end
  local ok, err = store:set(item_id, nil)
  if ok == nil and err then return false, "internal-server-error" end
  fire(self, "item-retracted", { node = name, actor = actor, id = item_id })
  if notify then tell(self, "retract", object, nil, actor, item_id) end
  return true
end

function service_mt:get_items(name, actor, ids, spec)
  local object, condition = permitted(self, name, actor, "get_items")
  if not object then return false, condition end
  if not object.config.persist_items then return false, "persistent-items-unsupported" end
  if type(ids) == "string" then ids = { ids } end
  local store = store_of(self, object)
  if ids then
    local out, bytes = {}, spec and spec.bytes or math.huge
    for _, item_id in ipairs(ids) do
      if bytes <= 0 then
        out.more = true
        break
      end
      local item, publisher = store:get(item_id)
      if not item and publisher == false then return false, "internal-server-error" end
      if item and not out[item_id] then
        out[#out + 1], out[item_id] = item_id, item
        bytes = bytes - item:size()
      end
    end
    return true, out
  end
  local items, err = store:items(spec)
  if not items then return false, err or "internal-server-error" end
  return true, items
end

-- For the server itself: ids of what one publisher has in the node, n at most.
function service_mt:items_of(name, publisher, n)
  local object = self.nodes[name]
  local store = object and store_of(self, object)
  return store and store.of and store:of(publisher, n) or {}
end

function service_mt:get_last_item(name, actor)
  local object, condition = permitted(self, name, actor, "get_items")
  if not object then return false, condition end
  return true, store_of(self, object):last()
end

-- Subscriptions and affiliations -----------------------------------------------------------------------------------------

require "couplet.pubsub_people"(service_mt, { permitted = permitted, access = access, saved = saved, save = save, fire = fire,
  capabilities = capabilities })

return pubsub
