-- SPDX-License-Identifier: MIT
-- set.lua: sets of values.
--
--   set.new(list?)  set.union(a, b)  set.difference  set.intersection  set.xor  set.is_set(x)
--   s:add(x) s:remove(x) s:contains(x) s:contains_set(s2) s:items() s:add_list(t) s:include(s2) s:exclude(s2) s:empty()
--   a + b union, a - b difference, a / fn maps and keeps what is not nil, a == b, for x in s do, tostring

local set_mt = { __name = "set" }
local methods = {}
set_mt.__index = methods

local set = {}

local function new(list)
  local items = {}
  for i = 1, list and #list or 0 do items[list[i]] = true end
  return setmetatable({ _items = items }, set_mt)
end
set.new = new

function set.is_set(x)
  return getmetatable(x) == set_mt
end

function methods:add(x)
  self._items[x] = true
end

function methods:contains(x)
  return self._items[x]
end

function methods:contains_set(other)
  for x in pairs(other._items) do
    if not self._items[x] then return false end
  end
  return true
end

function methods:remove(x)
  self._items[x] = nil
end

function methods:items()
  return next, self._items
end

function methods:add_list(list)
  for _, x in ipairs(list or {}) do self._items[x] = true end
end

function methods:include(other)
  for x in pairs(other._items) do self._items[x] = true end
end

function methods:exclude(other)
  for x in pairs(other._items) do self._items[x] = nil end
end

function methods:empty()
  return next(self._items) == nil
end

function methods:size()
  local n = 0
  for _ in pairs(self._items) do n = n + 1 end
  return n
end

local function collect(keep)
  return function(a, b)
    local out = new()
    keep(out._items, a._items, b._items)
    return out
  end
end

set.union = collect(function(out, a, b)
  for x in pairs(a) do out[x] = true end
  for x in pairs(b) do out[x] = true end
end)
set.difference = collect(function(out, a, b)
  for x in pairs(a) do if not b[x] then out[x] = true end end
end)
set.intersection = collect(function(out, a, b)
  for x in pairs(a) do if b[x] then out[x] = true end end
end)
set.xor = collect(function(out, a, b)
  for x in pairs(a) do if not b[x] then out[x] = true end end
  for x in pairs(b) do if not a[x] then out[x] = true end end
end)

set_mt.__add = set.union
set_mt.__sub = set.difference

function set_mt.__div(a, fn)
  local out = new()
  for x in pairs(a._items) do
    local y = fn(x)
    if y ~= nil then out._items[y] = true end
  end
  return out
end

function set_mt.__eq(a, b)
  if getmetatable(a) ~= set_mt or getmetatable(b) ~= set_mt then return false end
  return a:contains_set(b) and b:contains_set(a)
end

function set_mt.__call(self, _, last)
  return (next(self._items, last))
end

function set_mt.__tostring(self)
  local out = {}
  for x in pairs(self._items) do out[#out + 1] = tostring(x) end
  table.sort(out)
  return table.concat(out, ", ")
end

function set_mt.__freeze(self)         -- for util.serialization
  local out = {}
  for x in pairs(self._items) do out[#out + 1] = x end
  return out
end

return set
