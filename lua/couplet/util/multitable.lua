-- SPDX-License-Identifier: MIT
-- multitable.lua: tables with several keys; nil in a key of remove, search and iter stands for any.
--
--   multitable.new() -> m      m:get(k1, k2…)  m:set(k1, k2…, value)  m:add(k1, …, value) appends to a list there
--   m:remove(k1, …)  m:search(k1, …) -> list of values  m:search_add(list?, k1, …) -> list
--   m:iter(k1, …) -> key1, …, value; m.data

local pack, unpack = table.pack, table.unpack

local methods = {}
local mt = { __index = methods, __name = "multitable" }

local function new()
  return setmetatable({ data = {} }, mt)
end

function methods:get(...)
  local t = self.data
  for i = 1, select("#", ...) do
    if type(t) ~= "table" then return nil end
    t = t[(select(i, ...))]
  end
  return t
end

local function parent(self, keys, n, make)
  local t = self.data
  for i = 1, n do
    local child = t[keys[i]]
    if child == nil then
      if not make then return nil end
      child = {}
      t[keys[i]] = child
    end
    t = child
  end
  return t
end

function methods:set(...)
  local keys = pack(...)
  parent(self, keys, keys.n - 2, true)[keys[keys.n - 1]] = keys[keys.n]
end

function methods:add(...)
  local keys = pack(...)
  local list = parent(self, keys, keys.n - 1, true)
  list[#list + 1] = keys[keys.n]
end

local function remove(t, keys, i, n)
  local key = keys[i]
  if i == n then
    if key ~= nil then
      t[key] = nil
    else
      for k in pairs(t) do t[k] = nil end
    end
  elseif key ~= nil then
    local child = t[key]
    if type(child) == "table" then
      remove(child, keys, i + 1, n)
      if next(child) == nil then t[key] = nil end
    end
  else
    for k, child in pairs(t) do
      if type(child) == "table" then
        remove(child, keys, i + 1, n)
        if next(child) == nil then t[k] = nil end
      end
    end
  end
end

function methods:remove(...)
  local keys = pack(...)
  remove(self.data, keys, 1, keys.n)
end

local function collect(t, keys, i, n, path, out)
  if i > n then
    local row = { unpack(path, 1, n) }
    row[n + 1] = t
    out[#out + 1] = row
    return
  end
  if type(t) ~= "table" then return end
  if keys[i] ~= nil then
    if t[keys[i]] ~= nil then
      path[i] = keys[i]
      collect(t[keys[i]], keys, i + 1, n, path, out)
    end
  else
    for k, child in pairs(t) do
      path[i] = k
      collect(child, keys, i + 1, n, path, out)
    end
  end
end

function methods:search_add(list, ...)
  list = list or {}
  local keys, rows = pack(...), {}
  collect(self.data, keys, 1, keys.n, {}, rows)
  for _, row in ipairs(rows) do list[#list + 1] = row[keys.n + 1] end
  return list
end

function methods:search(...) return self:search_add(nil, ...) end

function methods:iter(...)
  local keys = pack(...)
  local out, i = {}, 0
  collect(self.data, keys, 1, keys.n, {}, out)
  return function()
    i = i + 1
    if out[i] then return unpack(out[i], 1, keys.n + 1) end
  end
end

return { new = new }
