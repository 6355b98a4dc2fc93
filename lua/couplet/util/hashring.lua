-- SPDX-License-Identifier: MIT
-- util.hashring: consistent hashing.
--
--   new(replicas, hash(text) -> text) -> ring     add_node(name, value?) add_nodes(list | map) remove_node(name)
--   remove_nodes(list)
--   ring:get_node(key) -> name, value | nil       clone()

local methods = {}
local mt = { __index = methods, __name = "hashring" }

local function new(replicas, hash)
  if type(replicas) ~= "number" or replicas < 1 then error("replicas: a positive number", 2) end
  return setmetatable({ replicas = replicas, hash = hash, nodes = {}, points = {}, ring = {} }, mt)
end

local function sort(ring)
  local out = {}
  for point in pairs(ring.ring) do out[#out + 1] = point end
  table.sort(out)
  ring.points = out
end

local function add(ring, name, value)
  if ring.nodes[name] ~= nil then return end
  ring.nodes[name] = value == nil and true or value
  for i = 1, ring.replicas do ring.ring[ring.hash(name .. ":" .. i)] = name end
end

function methods:add_node(name, value)
  add(self, name, value)
  sort(self)
  return true
end

function methods:add_nodes(nodes)
  for key, value in pairs(nodes) do
    if math.type(key) == "integer" then add(self, value) else add(self, key, value) end
  end
  sort(self)
  return true
end

function methods:remove_node(name) return self:remove_nodes { name } end

function methods:remove_nodes(nodes)
  for _, name in ipairs(nodes) do
    self.nodes[name] = nil
    for point, owner in pairs(self.ring) do
      if owner == name then self.ring[point] = nil end
    end
  end
  sort(self)
  return true
end

function methods:clone()
  local copy = new(self.replicas, self.hash)
  copy:add_nodes(self.nodes)
  return copy
end

-- The first point not before the key's.
function methods:get_node(key)
  local points, at = self.points, self.hash(key)
  if #points == 0 then return nil end
  local low, high = 1, #points + 1
  while low < high do
    local middle = (low + high) // 2
    if points[middle] < at then low = middle + 1 else high = middle end
  end
  local name = self.ring[points[low] or points[1]]
  return name, self.nodes[name]
end

return { new = new }
