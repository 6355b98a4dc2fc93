-- SPDX-License-Identifier: MIT
-- pubsub/online: what depends on whether somebody is here (XEP-0060 §12.5, §12.6, §16.4.4). pubsub#presence_based_delivery:
-- notifications only for subscribers who are; pubsub#tempsub: so too, and a subscription ends when its subscriber goes;
-- pubsub#purge_offline: items go with who has published them.
--
--   lib.follow(service, find)          from now on; find(key) -> service: key is service.user, or true
--   lib.note_loaded(service)           its nodes have been read
--   lib.hears_now(service, object, who) -> bool          an address with or without a resource
--   lib.on_presence(event)             people elsewhere are here while they have sent their presence (mod_pubsub)
--   service.sees(who) -> bool          others that are known to be here (mod_pep: who sends the account his presence)
--
-- Who is followed is kept in memory alone: what somebody has published before a restart goes when he goes after it, if the node
-- names him as its owner or a publisher.

local directory = require "couplet.directory"
local hosts = require "couplet.hosts"
local jid = require "util.jid"
local recent = require "couplet.recent"
local task = require "couplet.task"

local FOLLOWED, ELSEWHERE = 20000, 10000       -- accounts
local RESOURCES = 20                           -- of one account elsewhere
local SLICE = 16                               -- items taken back before others have their turn

local followed, note_followed = recent.new(FOLLOWED)       -- account -> { [key of a service] = { [node] = true } }
local elsewhere, note_elsewhere = recent.new(ELSEWHERE)    -- account -> { [full address] = true }

local function is_here(service, who)
  local node, domain, resource = jid.split(who)
  local home = hosts.get(domain)
  if node and home and home.type == "local" then
    if resource then
      local session = directory.session(who)
      return session ~= nil and session.presence ~= nil
    end
    local user = directory.user(who)
    for _, session in pairs(user and user.sessions or {}) do
      if session.presence then return true end
    end
    return false
  end
  local there = elsewhere(jid.bare(who))
  return there ~= nil and (not resource or there[who] ~= nil) or service.sees ~= nil and service.sees(who)
end

return function(lib)
  local find

  local function follow(service, node, who)
    local bare = jid.bare(who)
    local services = followed(bare) or {}
    local key = service.user or true
    services[key] = services[key] or {}
    services[key][node] = true
    note_followed(bare, services)
  end

  local function forget(bare, key, node)
    local services = followed(bare)
    if not services or not services[key] then return end
    services[key][node] = nil
    if not next(services[key]) then services[key] = nil end
    if not next(services) then note_followed(bare, nil) end
  end

  local function follow_all(service, object)
    if object.config.tempsub then
      for who in pairs(object.subscribers) do follow(service, object.name, who) end
    end
    if object.config.purge_offline then
      for who, affiliation in pairs(object.affiliations) do
        if affiliation == "owner" or affiliation == "publisher" then follow(service, object.name, who) end
      end
    end
  end

  -- All that he has published in the node; the items of others stay.
  local function take_back(service, object, bare)
    local notify = object.config.notify_retract
    repeat
      local ids = service:items_of(object.name, bare, SLICE)
      for _, id in ipairs(ids) do
        if not service:retract(object.name, true, id, notify) then return end
      end
      task.sleep(0)
    until #ids < SLICE or service.nodes[object.name] ~= object
  end

  -- One resource of his has gone: the subscriptions of that, and, with the last one, what was the account's.
  local function went(full)
    local bare = jid.bare(full)
    local list = {}
    for key, names in pairs(followed(bare) or {}) do
      for name in pairs(names) do list[#list + 1] = { key, name } end
    end
    for _, what in ipairs(list) do
      local service, name = find(what[1]), what[2]
      local object = service and service.nodes[name]
      local gone = object and not is_here(service, bare)
      if object and object.config.tempsub then
        for _, who in ipairs { full, gone and bare or nil } do
          if object.subscribers[who] then service:remove_subscription(name, who, who) end
        end
      end
      if gone and object.config.purge_offline then take_back(service, object, bare) end
      if gone or not object then forget(bare, what[1], name) end
    end
  end

  module:hook_global("resource-unavailable", function(event)
    if followed(jid.bare(event.session.full_jid)) then task.spawn(went, event.session.full_jid) end
  end)

  function lib.on_presence(event)
    local attr = event.stanza.attr
    local bare, gone = jid.bare(attr.from), attr.type == "unavailable" or attr.type == "error"
    local there = elsewhere(bare)
    if attr.type == nil then
      local n = 0
      for _ in pairs(there or {}) do n = n + 1 end
      if n >= RESOURCES then return end
      there = there or {}
      there[attr.from] = true
      note_elsewhere(bare, there)
    elseif gone and there then
      there[attr.from] = nil
      if not next(there) then note_elsewhere(bare, nil) end
      went(attr.from)
    end
  end

  function lib.hears_now(service, object, who)
    local config = object.config
    return not (config.presence_based_delivery or config.tempsub) or is_here(service, who)
  end

  function lib.note_loaded(service)
    for _, object in pairs(service.nodes) do follow_all(service, object) end
  end

  function lib.follow(service, finder)
    find = finder
    local on = service.events.add_handler
    on("subscription-added", function(event)
      if event.object.config.tempsub then follow(service, event.node, event.jid) end
    end)
    on("item-published", function(event)
      if event.object.config.purge_offline and event.actor ~= true then follow(service, event.node, event.actor) end
    end)
    on("node-config-changed", function(event)
      local object = service.nodes[event.node]
      if object then follow_all(service, object) end
    end)
  end
end
