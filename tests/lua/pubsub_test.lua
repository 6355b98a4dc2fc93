-- SPDX-License-Identifier: MIT
-- util.pubsub against a small model: random requests of random people to one node; who may do what (XEP-0060 §4.1, §4.5) is
-- written down here once more, as simply as can be, and both must agree after each step.

local check = require "check"
local pubsub = require "couplet.util.pubsub"
local st = require "couplet.stanza"

local PEOPLE = { "romeo@a", "juliet@a", "nurse@a", "tybalt@b", "paris@c" }
local AFFILIATIONS = { "owner", "publisher", "publish-only", "member", "none", "outcast" }
local MODELS, PUBLISH = { "open", "whitelist", "authorize" }, { "publishers", "subscribers", "open" }
local ITEMS = { "1", "2", "3" }

-- A random sequence that is the same everywhere.
local function dice(seed)
  return function(list)
    seed = (seed * 1103515245 + 12345) % 2147483648
    return list[seed // 65536 % #list + 1]
  end
end

local function memory()
  local store = { list = {}, by = {} }
  local function drop(id)
    for i, other in ipairs(store.list) do
      if other == id then return table.remove(store.list, i) end
    end
  end
  function store:set(id, item, publisher)
    local had = drop(id)
    self.by[id] = item and { item, publisher }
    if item then self.list[#self.list + 1] = id end
    return item ~= nil or had ~= nil
  end
  function store:get(id) if self.by[id] then return table.unpack(self.by[id]) end end
  function store:items()
    local out = {}
    for i, id in ipairs(self.list) do out[i], out[id] = id, self.by[id][1] end
    return out
  end
  function store:last() local id = self.list[#self.list] return id, id and self.by[id][1] end
  function store:clear() self.list, self.by = {}, {} return true end
  function store.resize() return true end
  function store.full() return false end
  return store
end

-- The model ------------------------------------------------------------------------------------------------------------------

local Model = {}
Model.__index = Model

local function affiliation(m, who) return m.affiliations[who] or "none" end
local can_read = { owner = true, publisher = true, member = true }
local can_publish = { owner = true, publisher = true, ["publish-only"] = true }

function Model:reads(who)
  local a = affiliation(self, who)
  if can_read[a] then return true end
  if a == "outcast" or a == "publish-only" then return false end
  return self.access == "open" or self.access == "authorize" and self.subscribed[who] ~= nil
end

function Model:publishes(who)
  local a = affiliation(self, who)
  if a == "outcast" then return false end
  return self.publish == "open" or can_publish[a] or self.publish == "subscribers" and self.subscribed[who] ~= nil
end

function Model:drop()
  for who in pairs(self.subscribed) do
    if not self:reads(who) then self.subscribed[who] = nil end
  end
end

local steps = {}

function steps.publish(m, s, who, pick)
  local id = pick(ITEMS)
  local ok = m:publishes(who)
  if ok then m.items[id] = who end
  return ok, (s:publish("n", who, id, st.stanza("item", { id = id }):tag("x", { xmlns = "urn:x" }):up()))
end

function steps.retract(m, s, who, pick)
  local id = pick(ITEMS)
  local a = affiliation(m, who)
  local ok = m.items[id] ~= nil and (a == "owner" or a == "publisher" or m.items[id] == who)
  if ok then m.items[id] = nil end
  return ok, (s:retract("n", who, id, true))
end

function steps.read(m, s, who)
  local ok, items = s:get_items("n", who)
  if ok then
    local n = 0
    for id in pairs(m.items) do
      n = n + 1
      check.ok(items[id], id)
    end
    check.equal(#items, n)
  end
  return m:reads(who), ok
end

function steps.subscribe(m, s, who)
  local a = affiliation(m, who)
  local ok, asks = false, false
  if a ~= "outcast" and m.access == "authorize" and not can_read[a] and not m.subscribed[who] then
    asks = not m.pending[who]
    ok = asks
  elseif a ~= "outcast" then
    ok = m:reads(who) or m.subscribed[who] ~= nil
  end
  if asks then m.pending[who] = true elseif ok then m.subscribed[who] = true end
  return ok, (s:add_subscription("n", who, who))
end

function steps.unsubscribe(m, s, who)
  local ok = m.subscribed[who] ~= nil or m.pending[who] ~= nil
  if m.subscribed[who] then m.subscribed[who] = nil else m.pending[who] = nil end
  return ok, (s:remove_subscription("n", who, who))
end

function steps.approve(m, s, who, pick)
  local other, allow = pick(PEOPLE), pick { true, false }
  local ok = affiliation(m, who) == "owner" and m.pending[other] ~= nil
  if ok then
    m.pending[other] = nil
    if allow then m.subscribed[other] = true end
  end
  return ok, (s:approve_subscription("n", who, other, allow))
end

function steps.affiliate(m, s, who, pick)
  local other, new = pick(PEOPLE), pick(AFFILIATIONS)
  local owners = 0
  for _, a in pairs(m.affiliations) do owners = owners + (a == "owner" and 1 or 0) end
  local last = affiliation(m, other) == "owner" and owners == 1 and new ~= "owner"
  local old = affiliation(m, other)                          -- the chart of §4.1
  local no_way = old == "owner" and new ~= "owner" and new ~= "none" or old == "publisher" and new == "member"
  local ok = affiliation(m, who) == "owner" and not last and not no_way
  if ok then
    m.affiliations[other] = new ~= "none" and new or nil
    if m.pending[other] and can_read[new] then m.pending[other], m.subscribed[other] = nil, true end
    if new == "outcast" then m.pending[other] = nil end
    m:drop()
  end
  return ok, (s:set_affiliation("n", who, other, new))
end

function steps.configure(m, s, who, pick)
  local access, publish = pick(MODELS), pick(PUBLISH)
  local ok = affiliation(m, who) == "owner"
  if ok then
    local changed = access ~= m.access
    m.access, m.publish = access, publish
    if changed then m:drop() end
  end
  return ok, (s:set_node_config("n", who, { access_model = access, publish_model = publish }))
end

function steps.purge(m, s, who)
  local ok = affiliation(m, who) == "owner"
  if ok then m.items = {} end
  return ok, (s:purge("n", who))
end

local names = {}
for name in pairs(steps) do names[#names + 1] = name end
table.sort(names)

check.test("random requests: service and model agree on who may what, and on what there is", function()
  for seed = 1, 40 do
    local pick = dice(seed)
    local heard
    local kept = memory()
    local s = pubsub.new {
      itemstore = function() return kept end, may_create = function() return true end,
      nodestore = { set = function() return true end },
      broadcaster = function(kind, _, subscribers)
        if kind ~= "items" then return end
        heard = {}
        for who in pairs(subscribers) do heard[who] = true end
      end,
    }
    assert(s:create("n", "romeo@a", { access_model = "open", publish_model = "publishers" }))
    local m = setmetatable({ affiliations = { ["romeo@a"] = "owner" }, subscribed = {}, pending = {}, items = {}, access = "open",
      publish = "publishers" }, Model)
    for n = 1, 300 do
      local name, who = pick(names), pick(PEOPLE)
      local where = ("seed %d, step %d: %s by %s"):format(seed, n, name, who)
      heard = nil
      local want, got = steps[name](m, s, who, pick)
      check.equal(where .. " " .. tostring(got or false), where .. " " .. tostring(want or false))
      local object = s.nodes.n
      for _, list in ipairs { { object.subscribers, m.subscribed }, { object.pending, m.pending } } do
        for _, person in ipairs(PEOPLE) do
          check.equal(list[1][person] ~= nil, list[2][person] ~= nil, where .. ": " .. person)
        end
      end
      for _, person in ipairs(PEOPLE) do
        check.equal(s:get_affiliation(person, "n"), affiliation(m, person), where)
        check.equal(s:may("n", person, "get_items"), m:reads(person) or false, where .. ": " .. person)
        check.equal(s:may("n", person, "publish"), m:publishes(person) or false, where .. ": " .. person)
      end
      if heard then check.equal(heard, m.subscribed, where) end
    end
  end
end)

check.test("100 000 nodes of one owner: refused after the bound, and the service is as it was", function()
  local s = pubsub.new { itemstore = memory, may_create = function() return true end, max_nodes = 1000,
    autocreate_on_publish = true }
  local made, refused = 0, {}
  for i = 1, 100000 do
    local ok, why = s:create("n" .. i, "romeo@a")
    if ok then made = made + 1 else refused[why] = (refused[why] or 0) + 1 end
  end
  check.equal(made, 1000)
  check.equal(refused, { ["max-nodes-exceeded"] = 99000 })
  check.equal({ s:publish("new", "romeo@a", "1", st.stanza "item") }, { false, "max-nodes-exceeded" })
  check.equal((s:publish("n1", "romeo@a", "1", st.stanza "item")), true)
  check.equal((s:delete("n1", "romeo@a")), true)
  check.equal((s:create("n1", "romeo@a")), true)
end)

check.done()
