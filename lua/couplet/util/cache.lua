-- SPDX-License-Identifier: MIT
-- cache.lua: the most recently used entries, at most so many.
--
--   cache.new(size, on_evict?(key, value) → false keeps it: then set() says false)
--   c:get(key) c:set(key, value|nil) -> bool  c:items() newest first  c:values() c:count() c:head() c:tail()
--   c:resize(n) -> bool  c:table() a table view  c:clear()

local cache = {}
local methods = {}
local mt = { __index = methods, __name = "cache", __len = function(self) return self._count end }

-- entries in a ring around the cache itself: next = older, prev = newer
local function unlink(e)
  e.prev.next, e.next.prev = e.next, e.prev
end

local function to_front(self, e)
  local ring = self._ring
  e.prev, e.next = ring, ring.next
  ring.next.prev = e
  ring.next = e
end

function cache.new(size, on_evict)
  size = tonumber(size)
  if not size or size ~= size or size < 1 then error("cache size must be a positive number", 2) end
  local ring = {}
  ring.prev, ring.next = ring, ring
  return setmetatable({ size = size, _on_evict = on_evict, _count = 0, _data = {}, _ring = ring }, mt)
end

function methods:get(key)
  local e = self._data[key]
  if not e then return nil end
  if self._ring.next ~= e then
    unlink(e)
    to_front(self, e)
  end
  return e.value
end

-- The oldest must go. False if on_evict wants to keep it.
local function evict(self)
  local e = self._ring.prev
  if self._on_evict ~= nil then
    if self._on_evict == false or self._on_evict(e.key, e.value) == false then return false end
    if self._data[e.key] ~= e then return true end     -- on_evict removed it itself
  end
  unlink(e)
  self._data[e.key] = nil
  self._count = self._count - 1
  return true
end

function methods:set(key, value)
  local e = self._data[key]
  if e then
    unlink(e)
    if value == nil then
      self._data[key] = nil
      self._count = self._count - 1
    else
      e.value = value
      to_front(self, e)
    end
    return true
  end
  if value == nil then return true end
  while self._count >= self.size do
    if not evict(self) then return false end
  end
  e = { key = key, value = value }
  self._data[key] = e
  self._count = self._count + 1
  to_front(self, e)
  return true
end

function methods:items()
  local ring = self._ring
  local e = ring
  return function()
    e = e.next
    if e == ring then
      e = e.prev
      return nil
    end
    return e.key, e.value
  end
end

function methods:values()
  local nextitem = self:items()
  return function()
    local _, value = nextitem()
    return value
  end
end

function methods:count() return self._count end

function methods:head()
  local e = self._ring.next
  return e.key, e.value
end

function methods:tail()
  local e = self._ring.prev
  return e.key, e.value
end

function methods:resize(size)
  size = tonumber(size)
  if not size or size < 1 then error("cache size must be a positive number", 2) end
  self.size = size
  while self._count > size do
    if not evict(self) then return false end
  end
  return true
end

function methods:clear()
  local ring = self._ring
  ring.prev, ring.next = ring, ring
  self._data, self._count = {}, 0
end

function methods:table()
  if not self._proxy then
    self._proxy = setmetatable({}, {
      __index = function(_, key) return self:get(key) end,
      __newindex = function(_, key, value)
        if not self:set(key, value) then error("failed to insert key into cache: it is full", 2) end
      end,
      __pairs = function() return self:items() end,
      __len = function() return self._count end,
    })
  end
  return self._proxy
end

return cache
