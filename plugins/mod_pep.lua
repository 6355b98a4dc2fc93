-- SPDX-License-Identifier: MIT
-- mod_pep: every account is a publish-subscribe service (XEP-0163): avatars, bookmarks, keys, what has been read.
--
-- Exports: get_pep_service(username) -> service (util.pubsub) | nil, error;  check_node_config(node, actor, config);
-- is_item_stanza(item); error_reply(stanza, condition). Data: store "pep" (node -> configuration), archives "pep_NODE".
-- Item "pep-service" { service, jid }: a service that is in memory. Event pep-publish-item { actor, user, node, item, id,
-- service, session, publish_options }: false refuses. Events pep-item-published, -item-retracted, -node-purged, -node-deleted:
-- those of every service's own bus.

local blocking = require "couplet.blocking"
local directory = require "couplet.directory"
local hosts = require "couplet.hosts"
local jid = require "util.jid"
local pubsub = require "util.pubsub"
local recent = require "couplet.recent"
local rostermanager = require "core.rostermanager"
local router = require "couplet.router"
local sessions = require "couplet.sessions"
local st = require "util.stanza"
local task = require "couplet.task"
local cache = require "util.cache"

local lib = module:require "pubsub"
local interest = module:require "pep/interest"
local quota = module:require "pep/quota"
local turns = module:require "pep/turns"
local well_known = module:require "pep/well_known"

module:config {
  pep_max_items = { type = "integer", default = 256, min = 1, doc = "items of one node; what \"max\" means there" },
  pep_max_nodes = { type = "integer", default = 1000, min = 10, doc = "nodes of one account" },
  pep_max_payload_size = { type = "integer", default = 262144, min = 1024, doc = "bytes of one item" },
  pep_max_account_size = { type = "integer", default = 67108864, min = 65536,
    doc = "bytes of all items of one account together, 512 more for each" },
  pep_service_cache_size = { type = "integer", default = 1000, min = 10, doc = "accounts whose nodes are kept in memory" },
}
local config = module.config
local host = module.host
local all_nodes, one_node = module:open_store("pep", "keyval"), module:open_store("pep", "map")

local services = cache.new(config.pep_service_cache_size, function(_, service)
  module:remove_item("pep-service", service.item)
end)
local alive = setmetatable({}, { __mode = "v" })           -- … and those somebody works with: there is one of each account
local without, note_without = recent.new(20000)            -- accounts that have no nodes

local function keep(username, service)
  if not service or services:get(username) == service then return end
  services:set(username, service)
  module:add_item("pep-service", service.item)
end

local function forget(username)
  local service = services:get(username)
  if service then module:remove_item("pep-service", service.item) end
  services:set(username, nil)
  alive[username] = nil
  note_without(username, nil)
end

error_reply = lib.error_reply                              -- luacheck: ignore 131

-- Who may what -------------------------------------------------------------------------------------------------------------

local function bare_of(username) return username .. "@" .. host end

function is_item_stanza(item)
  return st.is_stanza(item) and item.name == "item" and (item.attr.xmlns == lib.NS or item.attr.xmlns == nil)
    and #item.tags <= 1
end

function check_node_config(_, _, new)                      -- luacheck: ignore 131
  if new.max_items ~= "max" and (tonumber(new.max_items) or 0) > config.pep_max_items then return false, "not-acceptable" end
  if new.max_payload_size and new.max_payload_size > config.pep_max_payload_size then return false, "not-acceptable" end
  return true
end

local function access_models(username)
  local bare = bare_of(username)
  return {
    presence = function(_, who)
      if who == bare or rostermanager.is_contact_subscribed(username, host, who) then return true end
      return false, "presence-subscription-required"
    end,
    roster = function(object, who)
      local list = rostermanager.load_roster(username, host)
      local item = list and list[who]
      if not item or item.subscription ~= "from" and item.subscription ~= "both" then
        return false, "presence-subscription-required"
      end
      for _, group in ipairs(object.config.roster_groups_allowed or {}) do
        if item.groups and item.groups[group] then return true end
      end
      return false, "not-in-roster-group"
    end,
  }
end

-- Notifications --------------------------------------------------------------------------------------------------------------

local SEES = { from = true, both = true }
local blocks, has_list, listed = blocking.blocks, blocking.has_list, blocking.listed
local add, send_to = sessions.add, sessions.send_to

-- Has one of them blocked the other? May wait.
local function apart(username, other)
  if blocks(username, host, other) then return true end
  local node, domain = jid.split(other)
  return node ~= nil and blocks(node, domain, bare_of(username))
end

-- A contact's resources that want to hear of the node become recipients. reached: nil, or the set of those with and without
-- resource.
local function add_user(many, user, node, reached, who)
  local list = user.listening                              -- { session, full_jid, set, … }
  for i = 1, list and #list or 0, 3 do
    if list[i + 2][node] then
      local full = list[i + 1]
      add(many, list[i], full)
      if reached then reached[who], reached[full] = true, true end
    end
  end
end

-- The message goes to all who hear of a node by their presence. Most of them can be told without asking anybody: in one go, each
-- looked at once. -> addresses elsewhere that are to be told, and the set of all these (nil if nobody will ask) with and without
-- resource.
local function tell_contacts(service, object, message)
  local username, node = service.user, object.name
  local bare = bare_of(username)
  local roster = rostermanager.load_roster(username, host) or {}
  local model, affiliations = object.config.access_model, object.affiliations
  local by_presence = model == "presence" or model == "open"         -- so has who sees it, unless something is said of him
  local blockers = by_presence and not has_list(username, host) and listed()       -- false, nil: everybody has to be asked
  local reached = next(object.subscribers) and {} or nil
  local many, doubtful, theirs, elsewhere = sessions.many(), {}, {}, {}
  local user_of = directory.user

  local user = user_of(bare)
  if user then add_user(many, user, node, reached, bare) end
  for contact, item in next, roster do
    user = SEES[item.subscription] and contact and user_of(contact)
    if user then
      if blockers and not blockers[contact] and not affiliations[contact] then
        add_user(many, user, node, reached, contact)
      else
        doubtful[#doubtful + 1] = contact
      end
    end
  end
  for full, set in pairs(interest.remote(username)) do
    if set[node] then theirs[#theirs + 1] = full end
  end
  send_to(many, message)

  local function may_hear(who, address)                    -- from here on others may have their turn
    local item = roster[who]
    return item and SEES[item.subscription] and (by_presence and not affiliations[who] or service:may_hear(object, who))
      and not apart(username, address)
  end

  local allowed = {}
  for _, contact in ipairs(doubtful) do
    if may_hear(contact, contact) then allowed[#allowed + 1] = contact end
  end
  many = sessions.many()
  for _, contact in ipairs(allowed) do
    user = user_of(contact)
    if user then add_user(many, user, node, reached, contact) end
  end
  send_to(many, message)
  for _, full in ipairs(theirs) do
    local who = jid.bare(full)
    if may_hear(who, full) then
      elsewhere[#elsewhere + 1] = full
      if reached then reached[who], reached[full] = true, true end
    end
  end
  return elsewhere, reached
end

local function post(username, message, to)
  message.attr.to = to
  local origin = { type = "local", host = host, username = username, full_jid = bare_of(username), send = function() end }
  router.core_post_stanza(origin, message, false)
end

local function broadcaster(kind, node, _, item, _, object, service, id)
  local extra = kind == "config" and lib.forms.told(object.config) or object.redirect
  local event = lib.event(kind, node, item, id, object.config, extra)
  local message = lib.notification(event, object.config, bare_of(service.user))
  lib.note_sent(message, service, node)
  local elsewhere, reached = tell_contacts(service, object, message)
  for _, to in ipairs(elsewhere) do post(service.user, st.clone(message), to) end
  if not reached then return end
  lib.each_subscriber(service, object, message, item, function(to, copy)
    if not reached[to] and not apart(service.user, to) then post(service.user, st.clone(copy), to) end
  end)
end

-- The last item of each node that this resource wants and may have (XEP-0163 §4.3.4).
local function send_last_items(service, session, full, set)
  local who = jid.bare(full)
  for node in pairs(set) do
    local object = service.nodes[node]
    if object and object.config.send_last_published_item == "on_sub_and_presence" and service:may_hear(object, who) then
      local _, id, item, when = service:get_last_item(node, true)
      if item then
        local message = lib.last_item(lib.event("items", node, item, id, object.config), object, bare_of(service.user), when)
        if session and not session.destroyed then
          message.attr.to = full
          session.send(message)
        elseif not session then
          post(service.user, message, full)
        end
      end
    end
  end
end

-- The service of an account --------------------------------------------------------------------------------------------------

local function new_service(username)
  local bare = bare_of(username)
  local service = pubsub.new {
    jid = bare, normalize_jid = jid.bare, autocreate_on_publish = true, max_nodes = config.pep_max_nodes,
    max_subscriptions = 1000, max_affiliations = 1000, max_people = 10000, has_room = quota.has_room,
    itemcheck = is_item_stanza, check_node_config = check_node_config,
    access_models = access_models(username), broadcaster = broadcaster,
    node_defaults = { access_model = "presence", max_items = 1, send_last_published_item = "on_sub_and_presence",
      max_payload_size = config.pep_max_payload_size },
    defaults_for = well_known.defaults,
    owns_all = function(who) return who == bare end,
    itemstore = function(node_config, node)
      if not node_config.persist_items then return lib.nothing end
      return lib.items(module:open_store("pep_" .. node, "archive"), username, node_config, config.pep_max_items)
    end,
    nodestore = { set = function(_, node, data)
      if data then
        note_without(username, nil)
        keep(username, alive[username])
      end
      return one_node:set(username, node, data)
    end },
  }
  service.user, service.owner, service.publish_event = username, bare, "pep-publish-item"
  service.item = { service = service, jid = bare }
  function service.knows(_, who)
    return jid.bare(who) == bare or rostermanager.is_contact_subscribed(username, host, jid.bare(who))
  end
  function service.may_enlist(_, who)                      -- nobody is sent an account's news who has not asked for it
    return service:knows(who)
  end
  for _, name in ipairs { "item-published", "item-retracted", "node-purged", "node-deleted" } do
    service.events.add_handler(name, function(event) module:fire_event("pep-" .. name, event) end)
  end
  function service.sees(who)                               -- of people elsewhere: has he sent this account his presence?
    for full in pairs(interest.remote(username)) do
      if full == who or jid.bare(full) == who then return true end
    end
    return false
  end
  lib.watch(service, bare, function(message, to) post(username, message, to) end)
  lib.follow(service, function(name) return get_pep_service(name) end)
  return service
end

function get_pep_service(username)                         -- luacheck: ignore 131
  local service = services:get(username) or alive[username]
  if service then return service end
  service = new_service(username)
  if not without(username) then
    local all, err = all_nodes:get(username)
    if err then return nil, err end
    if alive[username] then return alive[username] end     -- somebody was quicker
    service:load(all or {})
    lib.note_loaded(service)
    if next(service.nodes) then keep(username, service) else note_without(username, true) end
  end
  alive[username] = service
  return service
end

function tell_last_items(username, session, full, set)     -- luacheck: ignore 131
  if without(username) or not next(set) or bare_of(username) ~= jid.bare(full) and apart(username, full) then return end
  local service = get_pep_service(username)
  if service then send_last_items(service, session, full, set) end
end

-- A resource has come: what it wants of this account, and of its contacts here; those elsewhere are other servers' work.
interest.setup(function(session, username, full, set)
  if not next(set) then return end
  turns(username, full, function()
    if session and (session.destroyed or not session.presence) then return end
    local list, contacts = rostermanager.load_roster(username, host) or {}, {}
    if not session then
      local item = list[jid.bare(full)]
      if not item or not SEES[item.subscription] then return end
    end
    tell_last_items(username, session, full, set)
    if not session then return end
    for contact, item in pairs(list) do
      if contact and (item.subscription == "to" or item.subscription == "both") then contacts[#contacts + 1] = contact end
    end
    for _, contact in ipairs(contacts) do
      local node, domain = jid.split(contact)
      local home = node and hosts.get(domain)
      local pep = home and home.modules.pep
      if session.destroyed then return end
      if pep then pep.tell_last_items(node, session, full, set) end
    end
  end)
end)

-- Somebody lets one of our accounts see his presence: its resources, here all along, get what he has published.
module:hook("presence/bare", function(event)
  local attr = event.stanza.attr
  local node, domain = jid.split(attr.from)
  local home = node and hosts.get(domain)
  local pep, user = home and home.modules.pep, directory.user(attr.to)
  if not pep or not user then return end
  for _, session in pairs(user.sessions) do
    local set = session.presence and interest.of(session)
    if set then task.spawn(pep.tell_last_items, node, session, session.full_jid, set) end
  end
end, { priority = 10, match = { type = "subscribed", from_local = true } })

function users_with_nodes() return all_nodes:users() end   -- luacheck: ignore 131

-- Requests -------------------------------------------------------------------------------------------------------------------

local function username_of(event)
  return jid.node(event.stanza.attr.to) or event.origin.username
end

local function on_iq(event)
  local origin, stanza = event.origin, event.stanza
  local service = get_pep_service(username_of(event))
  if not service then
    origin.send(st.error_reply(stanza, "wait", "internal-server-error"))
    return true
  end
  return lib.handle(event, service)
end
for _, ns in ipairs { lib.NS, lib.OWNER } do module:hook("iq/bare/" .. ns .. ":pubsub", on_iq) end

module:hook("iq/bare/" .. lib.COMMANDS .. ":command", function(event)
  if event.stanza.tags[1].attr.node ~= lib.GET_PENDING then return nil end
  local service = get_pep_service(username_of(event))
  return service and lib.on_command(event, service)
end, 1)

-- The owner's answer to a request for a subscription.
module:hook("message/bare", function(event)
  if not event.to_self and event.origin.username ~= jid.node(event.stanza.attr.to) then return end
  local service = get_pep_service(event.origin.username)
  return service and lib.on_authorization(event, service)
end, { priority = 5, match = { xmlns = "jabber:x:data", from_local = true } })

-- A notification that could not be delivered (§12.4, XEP-0163 §4.3.1).
module:hook("message/bare", function(event)
  local service = alive[jid.node(event.stanza.attr.to)]
  return service and lib.on_bounce(event, service)
end, { priority = 5, match = { type = "error" } })

-- Who has lost the owner's presence, or left a group, is no subscriber of nodes for those (XEP-0163 §7.1).
module:hook("roster-pushed", function(event)
  local username, who = event.username, event.jid
  if without(username) then return end
  task.spawn(function()
    local service, touched = get_pep_service(username), {}
    for _, object in pairs(service and service.nodes or {}) do
      local model = object.config.access_model
      if (model == "presence" or model == "roster") and service:subscribes(object, who) then touched[#touched + 1] = object end
    end
    for _, object in ipairs(touched) do service:drop_strangers(object) end
  end)
end)

-- Discovery --------------------------------------------------------------------------------------------------------------------

local features = lib.features { ["instant-nodes"] = true }
for _, more in ipairs { "access-presence", "access-roster", "auto-subscribe", "filtered-notifications", "presence-notifications",
  "presence-subscribe", "pubsub-on-a-jid" } do
  features[#features + 1] = lib.NS .. "#" .. more
end

module:add_identity("pubsub", "pep", module:get_option_string("name", "Couplet"))
module:add_feature(lib.NS .. "#publish")
module:add_feature(lib.NS .. "#publish-options")          -- profanity asks the host alone, and goes without them else

module:hook("account-disco-info", function(event)
  event.reply:tag("identity", { category = "pubsub", type = "pep" }):up()
  for _, feature in ipairs(features) do event.reply:tag("feature", { var = feature }):up() end
end)

module:hook("account-disco-items-node", function(event) return lib.list_commands(event, bare_of(username_of(event))) end, 1)
module:hook("account-disco-info-node", lib.describe_command, 1)

for event_name, answer in pairs { ["account-disco-items"] = lib.disco_nodes, ["account-disco-info-node"] = lib.disco_node,
  ["account-disco-items-node"] = lib.disco_items } do
  module:hook(event_name, function(event)
    local service = get_pep_service(username_of(event))
    if service then answer(event, service, bare_of(service.user)) end
  end)
end

module:require "pep/gone" {
  forget = forget, all_nodes = all_nodes, get_service = get_pep_service,
  in_memory = function(username) return services:get(username) or alive[username] end,
}

function module.save() return { remote = interest.save() } end
function module.restore(saved) interest.restore(saved.remote) end

module:add_item("shell-command", well_known.command)
