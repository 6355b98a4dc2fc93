-- SPDX-License-Identifier: MIT
-- mod_pubsub: a publish-subscribe service on a domain (XEP-0060): `Component "pubsub.example.com" "pubsub"`.
--
-- Exports: service, get_service(), set_service(new), handle_pubsub_iq(event), check_node_config, is_item_stanza.
-- Administrators of the host own every node; others do what nodes allow. Event pubsub-publish-item as pep-publish-item, without
-- user. Data: stores "pubsub_nodes" (keyval: node -> configuration, affiliations), "pubsub_people" (keyval+: node -> subscribers,
-- those who wait), archives "pubsub_NODE" (items).

local jid = require "util.jid"
local pubsub = require "util.pubsub"
local router = require "couplet.router"
local st = require "util.stanza"
local task = require "couplet.task"
local usermanager = require "core.usermanager"

local lib = module:require "pubsub"

module:config {
  pubsub_max_items = { type = "integer", default = 256, min = 1, doc = "items of one node; what \"max\" means there" },
  pubsub_max_nodes = { type = "integer", default = 10000, min = 1, doc = "nodes of the service" },
  pubsub_max_nodes_per_user = { type = "integer", default = 1000, min = 1, doc = "nodes made by one who is no administrator" },
  pubsub_max_payload_size = { type = "integer", default = 262144, min = 1024, doc = "bytes of one item" },
  pubsub_max_subscriptions = { type = "integer", default = 100000, min = 1, doc = "subscribers of one node" },
  pubsub_max_people = { type = "integer", default = 1000000, min = 1,
    doc = "subscribers, those who wait to be one, and affiliations of all nodes together" },
  autocreate_on_publish = { type = "boolean", default = false, doc = "who may create nodes does so by publishing" },
  autocreate_on_subscribe = { type = "boolean", default = false, doc = "subscribing to a node that is not there creates it" },
  expose_publisher = { type = "boolean", default = false, doc = "say with each item who has published it" },
  pubsub_create = { type = "enum", enum = { "admin", "local", "any" }, default = "admin",
    doc = "who may create nodes: administrators, accounts of this server, anybody" },
}
local config = module.config
local host = module.host
local nodes = module:open_store("pubsub_nodes", "keyval")
local people = module:open_store("pubsub_people", "keyval+")
local SLICE = 200                                          -- notifications before others have their turn

function is_item_stanza(item)
  return st.is_stanza(item) and item.name == "item" and #item.tags <= 1
end

function check_node_config(_, _, new)                      -- luacheck: ignore 131
  if new.max_items ~= "max" and (tonumber(new.max_items) or 0) > config.pubsub_max_items then return false, "not-acceptable" end
  if new.max_payload_size and new.max_payload_size > config.pubsub_max_payload_size then return false, "not-acceptable" end
  if new.access_model == "presence" or new.access_model == "roster" then return false, "unsupported-access-model" end
  return true
end

local function post(message, to)
  message.attr.to = to
  router.core_post_stanza(prosody.hosts[host], message, false)
end

local function broadcaster(kind, node, _, item, _, object, service, id)
  local extra = kind == "config" and lib.forms.told(object.config) or object.redirect
  local message = lib.notification(lib.event(kind, node, item, id, object.config, extra), object.config, host)
  lib.note_sent(message, service, node)
  task.spawn(function()
    local n = 0
    lib.each_subscriber(service, object, message, item, function(to, copy)
      post(st.clone(copy), to)
      n = n + 1
      if n % SLICE == 0 then task.sleep(0) end
    end)
  end)
end

local function set_limits(service)
  local to = service.config
  to.autocreate_on_publish, to.autocreate_on_subscribe = config.autocreate_on_publish, config.autocreate_on_subscribe
  to.max_nodes, to.max_nodes_each = config.pubsub_max_nodes, config.pubsub_max_nodes_per_user
  to.max_subscriptions, to.max_people = config.pubsub_max_subscriptions, config.pubsub_max_people
end

local function new_service()
  local new = pubsub.new {
    jid = host, normalize_jid = jid.bare,
    itemcheck = is_item_stanza, check_node_config = check_node_config,
    broadcaster = broadcaster,
    node_defaults = { max_payload_size = config.pubsub_max_payload_size, max_items = math.min(20, config.pubsub_max_items),
      itemreply = config.expose_publisher and "publisher" or "owner" },
    owns_all = function(who) return usermanager.is_admin(who, host) end,
    may_create = function(who)
      if config.pubsub_create == "any" then return true end
      local home = prosody.hosts[jid.host(who)]
      return config.pubsub_create == "local" and home ~= nil and home.type == "local"
    end,
    itemstore = function(node_config, node)
      if not node_config.persist_items then return lib.nothing end
      return lib.items(module:open_store("pubsub_" .. node, "archive"), nil, node_config, config.pubsub_max_items)
    end,
    nodestore = {
      set = function(_, node, data)
        if not data then
          local ok, err = people:set(node, nil)
          if not ok then return nil, err end
        end
        return nodes:set(node, data)
      end,
      set_person = function(_, node, who, data) return people:set_key(node, who, data) end,
    },
  }
  lib.watch(new, host, post)
  lib.follow(new, function() return new end)
  set_limits(new)
  return new
end

local exports = module.environment
local loaded = false

function set_service(new)                                  -- luacheck: ignore 131
  exports.service = new
end

-- All nodes, once: whoever asks while they are read gets the answer after it.
local function load()
  if loaded then return true end
  local names, err = nodes:users()
  if not names then return nil, err end
  local all = {}
  for name in names do
    local data
    data, err = nodes:get(name)
    if err then return nil, err end
    if data and data.rows then
      local rows
      rows, err = people:get(name)
      if err then return nil, err end
      data.subscribers, data.pending = {}, {}
      for who, row in pairs(rows or {}) do data.subscribers[who], data.pending[who] = row.subscription, row.pending end
    end
    all[name] = data
  end
  if not loaded then
    loaded = true
    exports.service:load(all)
    lib.note_loaded(exports.service)
  end
  return true
end

function get_service() return exports.service end                -- luacheck: ignore 131

function handle_pubsub_iq(event)                           -- luacheck: ignore 131
  if not load() then
    event.origin.send(st.error_reply(event.stanza, "wait", "internal-server-error"))
    return true
  end
  return lib.handle(event, exports.service)
end

for _, ns in ipairs { lib.NS, lib.OWNER } do
  module:hook("iq/host/" .. ns .. ":pubsub", function(event) return handle_pubsub_iq(event) end)
end

module:hook("iq-set/host/" .. lib.COMMANDS .. ":command", function(event)
  return load() and lib.on_command(event, exports.service)
end, 1)

module:hook("message/host", function(event)
  return load() and lib.on_authorization(event, exports.service)
end, { match = { xmlns = "jabber:x:data" } })

module:hook("message/host", function(event)
  return load() and lib.on_bounce(event, exports.service)
end, { match = { type = "error" } })

module:hook("presence/host", lib.on_presence, { match = { from_local = false } })

module:hook_global("user-deleted", function(event)
  if load() then exports.service:forget_person(event.username .. "@" .. event.host) end
end)

-- Discovery --------------------------------------------------------------------------------------------------------------------

module:depends "disco"
module:add_identity("pubsub", "service", module:get_option_string("name", "Couplet PubSub"))
local without = { ["auto-create"] = not config.autocreate_on_publish, ["last-published"] = true }
for _, feature in ipairs(lib.features(without)) do module:add_feature(feature) end

module:hook("host-disco-items", function(event)
  if load() then lib.disco_nodes(event, exports.service, host) end
end)

module:add_feature(lib.COMMANDS)
module:hook("host-disco-items-node", function(event) return lib.list_commands(event, host) end, 1)
module:hook("host-disco-info-node", lib.describe_command, 1)

module:hook("host-disco-info-node", function(event)
  if load() then lib.disco_node(event, exports.service) end
end)

module:hook("host-disco-items-node", function(event)
  if load() then lib.disco_items(event, exports.service, host) end
end)

local ours = new_service()
set_service(ours)
module:hook_global("config-reloaded", function() set_limits(ours) end)
local ok, err = load()                                     -- before plugins that stand on the service make what is there already
if not ok then module:log("error", "the nodes cannot be read, so it will be tried at the next request: %s", err) end
