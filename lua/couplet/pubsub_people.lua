-- SPDX-License-Identifier: MIT
-- pubsub_people.lua: who is in the lists of a node of util.pubsub: subscribers, those who wait to be allowed, affiliations.
--
-- Adds to a service's methods; lib: what it needs of the object's inside. All that a stranger may do costs the same whether a
-- node has ten subscribers or a hundred thousand.

local clock = require "couplet.clock"
local count = require "couplet.util.iterators".count

local RESOURCES = 20                   -- subscriptions of one account to one node
local PAUSE = 10                       -- seconds between two counts of lists that are full

-- Changes that §4.1 has no way for, but over "none".
local unreachable = {
  owner = { publisher = true, ["publish-only"] = true, member = true, outcast = true },
  publisher = { member = true },
}

-- How many are in the two lists, and how many subscriptions each account has: counted once, then kept.
local function tally(service, object)
  local all = object.tally
  if all then return all end
  all = { n = count(pairs(object.pending)), subscribers = 0, accounts = {} }
  for who in pairs(object.subscribers) do
    local bare = service:normalize(who)
    all.accounts[bare] = (all.accounts[bare] or 0) + 1
    all.n, all.subscribers = all.n + 1, all.subscribers + 1
  end
  object.tally = all
  return all
end

-- list: "subscribers" | "pending"
local function put(service, object, list, who, value)
  local all = tally(service, object)
  local diff = (value and 1 or 0) - (object[list][who] and 1 or 0)
  object[list][who] = value
  all.n = all.n + diff
  if list ~= "subscribers" or diff == 0 then return end
  local bare = service:normalize(who)
  local left = (all.accounts[bare] or 0) + diff
  all.subscribers, all.accounts[bare] = all.subscribers + diff, left > 0 and left or nil
end

return function(service_mt, lib)
  function service_mt:count_subscribers(object) return tally(self, object).subscribers end

  -- Is the account, or one of its resources, among the subscribers?
  function service_mt:subscribes(object, bare) return tally(self, object).accounts[bare] ~= nil end

  -- Subscriptions ----------------------------------------------------------------------------------------------------------

  -- Is there no room for one more in the lists of all nodes together? What comes in is added up; what has gone is not known until
  -- they are counted anew, which is done when the sum says that they are full.
  local function crowded(service)
    local most, now = service.config.max_people, clock.mono()
    if not most then return false end
    if not service.people or service.people >= most and now - service.counted >= PAUSE then
      local n = 0
      for _, object in pairs(service.nodes) do
        n = n + count(pairs(object.affiliations)) + count(pairs(object.subscribers)) + count(pairs(object.pending))
      end
      service.people, service.counted = n, now
    end
    if service.people >= most then return true end
    service.people = service.people + 1
    return false
  end

  -- A node for one who subscribes to what is not there. It has no owner, so that it counts for who is subscribed; and half of all
  -- nodes are left for those who may make some.
  local function make_for(service, name, actor)
    local most, most_each = service.config.max_nodes or math.huge, service.config.max_nodes_each or math.huge
    if service:why_not(name, actor, "create") then
      local n, bare = 0, service:normalize(actor)
      for _, object in pairs(service.nodes) do
        n = n + (next(object.subscribers) and not next(object.affiliations) and service:subscribes(object, bare) and 1 or 0)
      end
      if service.n_nodes >= most / 2 or n >= most_each then return false, "max-nodes-exceeded" end
    end
    return service:create(name, true)
  end

  -- Only for oneself, unless one may do it for others.
  local function for_self(service, name, actor, who)
    return actor == true or service:jids_equal(actor, who) or service:may(name, actor, "subscribe_other")
  end

  function service_mt:add_subscription(name, actor, who, options)
    if not self.nodes[name] and not self.config.autocreate_on_subscribe then return false, "item-not-found" end
    if not for_self(self, name, actor, who) then return false, "invalid-jid" end
    local object = self.nodes[name]
    if not object then
      local ok, condition = make_for(self, name, actor)
      if not ok then return false, condition end
      object = self.nodes[name]
    end
    local bare = self:normalize(who)
    local affiliation = self:get_affiliation(who, name)
    if affiliation == "outcast" then return false, "forbidden" end
    if not object.config.subscribe and affiliation ~= "owner" then return false, "subscribe-unsupported" end
    local pending = object.config.access_model == "authorize" and actor ~= true and not lib.capabilities[affiliation].access
      and not object.subscribers[who]
    if not pending and actor ~= true and self:jids_equal(actor, who) then
      local condition = self:why_not(name, actor, "subscribe")
      if condition and not object.subscribers[who] then return false, condition end
    end
    if pending and object.pending[bare] then return false, "pending-subscription" end
    local list, key = pending and "pending" or "subscribers", pending and bare or who
    local old, all = object[list][key], tally(self, object)
    if not old and (all.n >= (self.config.max_subscriptions or 100000) or (all.accounts[bare] or 0) >= RESOURCES
      or crowded(self)) then
      return false, "too-many-subscriptions"
    end
    put(self, object, list, key, options or old or true)
    local ok, err = lib.saved(self, object, function() put(self, object, list, key, old) end, key)
    if not ok then return false, err end
    if old then return true, "subscribed" end                -- other options: nothing to tell anybody
    local what = pending and "subscription-requested" or "subscription-added"
    lib.fire(self, what, { node = name, actor = actor, jid = key, options = options, object = object, normalized_jid = bare })
    return true, pending and "pending" or "subscribed"
  end

  function service_mt:remove_subscription(name, actor, who)
    local object = self.nodes[name]
    if not object then return false, "item-not-found" end
    if not for_self(self, name, actor, who) then return false, "forbidden" end
    local bare = self:normalize(who)
    local list, key = "subscribers", who
    if not object[list][key] then list, key = "pending", bare end
    local old = object[list][key]
    if not old then return false, "not-subscribed" end
    put(self, object, list, key, nil)
    local ok, err = lib.saved(self, object, function() put(self, object, list, key, old) end, key)
    if not ok then return false, err end
    lib.fire(self, "subscription-removed", { node = name, actor = actor, jid = key, normalized_jid = bare, object = object })
    return true
  end

  function service_mt:approve_subscription(name, actor, who, allow)
    local object, condition = lib.permitted(self, name, actor, "subscribe_other")
    if not object then return false, condition end
    local bare = self:normalize(who)
    local options = object.pending[bare]
    if not options then return false, "item-not-found" end
    local before = object.subscribers[bare]
    put(self, object, "pending", bare, nil)
    if allow then put(self, object, "subscribers", bare, options) end
    local ok, err = lib.saved(self, object, function()
      put(self, object, "pending", bare, options)
      put(self, object, "subscribers", bare, before)
    end, bare)
    if not ok then return false, err end
    lib.fire(self, allow and "subscription-added" or "subscription-removed",
      { node = name, actor = actor, jid = bare, options = options, object = object, normalized_jid = bare })
    return true
  end

  function service_mt:get_subscription(name, actor, who)
    local object = self.nodes[name]
    if not object then return false, "item-not-found" end
    if not for_self(self, name, actor, who) then return false, "forbidden" end
    local options = object.subscribers[who]
    if options then return true, options, "subscribed" end
    options = object.pending[self:normalize(who)]
    return true, options, options and "pending" or nil
  end

  local function add_matching(service, out, object, bare)
    for _, state in ipairs { "subscribed", "pending" } do
      for who, options in pairs(state == "subscribed" and object.subscribers or object.pending) do
        if not bare or service:normalize(who) == bare then
          out[#out + 1] = { node = object.name, jid = who, state = state, subscription = options }
        end
      end
    end
  end

  -- jid nil: everybody's, for owners.
  function service_mt:get_subscriptions(name, actor, who)
    local out = {}
    if name and not self.nodes[name] then return false, "item-not-found" end
    if not who then
      if not name then return false, "bad-request" end
      local condition = self:why_not(name, actor, "get_subscriptions")
      if condition then return false, condition end
      add_matching(self, out, self.nodes[name], nil)
      return true, out
    end
    if actor ~= true and not self:jids_equal(actor, who) then return false, "forbidden" end
    local bare = self:normalize(who)
    if name then
      add_matching(self, out, self.nodes[name], bare)
    else
      for _, object in pairs(self.nodes) do
        if object.pending[bare] or next(object.subscribers) and self:subscribes(object, bare) then
          add_matching(self, out, object, bare)
        end
      end
    end
    return true, out
  end

  -- Affiliations -----------------------------------------------------------------------------------------------------------

  function service_mt:get_affiliations(name, actor)
    local object, condition = lib.permitted(self, name, actor, "get_affiliations")
    if not object then return false, condition end
    local out = {}
    for who, affiliation in pairs(object.affiliations) do out[who] = affiliation end
    return true, out
  end

  function service_mt:set_affiliation(name, actor, who, affiliation)
    local object, condition = lib.permitted(self, name, actor, "set_affiliation")
    if not object then return false, condition end
    if not lib.capabilities[affiliation] then return false, "not-acceptable" end
    who = self:normalize(who)
    local old = object.affiliations[who]
    if (unreachable[old] or {})[affiliation] and actor ~= true then return false, "not-acceptable" end
    if old == "owner" and affiliation ~= "owner" then
      local owners = 0
      for _, other in pairs(object.affiliations) do owners = owners + (other == "owner" and 1 or 0) end
      if owners == 1 and actor ~= true then return false, "not-acceptable" end          -- §8.9.2.4: the only owner stays one
    end
    if affiliation ~= "none" and not old
      and (count(pairs(object.affiliations)) >= (self.config.max_affiliations or 10000) or crowded(self)) then
      return false, "resource-constraint"
    end
    object.affiliations[who] = affiliation ~= "none" and affiliation or nil
    local ok, err = lib.saved(self, object, function() object.affiliations[who] = old end)
    if not ok then return false, err end
    if object.pending[who] and (lib.capabilities[affiliation].access or affiliation == "outcast") then          -- §8.7.4
      self:approve_subscription(name, true, who, affiliation ~= "outcast")
    end
    self:drop_strangers(object)
    return true
  end

  function service_mt:forget_person(who)
    local bare, found = self:normalize(who), {}
    for _, object in pairs(self.nodes) do
      if object.affiliations[bare] or object.pending[bare] or self:subscribes(object, bare) then found[#found + 1] = object end
    end
    for _, object in ipairs(found) do
      local gone = {}
      for _, name in ipairs { "pending", "subscribers" } do
        for other in pairs(object[name]) do
          if self:normalize(other) == bare then gone[#gone + 1] = { name, other } end
        end
      end
      for _, one in ipairs(gone) do put(self, object, one[1], one[2], nil) end
      local listed = object.affiliations[bare]
      object.affiliations[bare] = nil
      if listed or not object.rows then lib.save(self, object) end
      for _, one in ipairs(object.rows and gone or {}) do lib.save(self, object, one[2]) end
    end
  end
end
