-- SPDX-License-Identifier: MIT
-- queue.lua: a ring of at most so many items.
--
--   queue.new(size, wrap?)         wrap: a push into a full one drops the oldest
--   q:push(x) -> bool | nil, "queue full"  q:pop() q:peek() q:count() q:replace(x) the oldest q:items() (position, item)
--   q:consume() iterates and pops; q.size

local methods = {}
local mt = { __index = methods, __name = "queue", __len = function(q) return q._count end }

local function new(size, wrap)
  size = tonumber(size)
  if not size or size < 1 then error("queue size must be a positive number", 2) end
  return setmetatable({ size = size, _wrap = wrap, _first = 1, _count = 0, _items = {} }, mt)
end

local function slot(q, i)
  return (q._first + i - 2) % q.size + 1
end

function methods:push(x)
  if x == nil then error("cannot push nil", 2) end
  if self._count >= self.size then
    if not self._wrap then return nil, "queue full" end
    self:pop()
  end
  self._count = self._count + 1
  self._items[slot(self, self._count)] = x
  return true
end

function methods:pop()
  if self._count == 0 then return nil end
  local x = self._items[self._first]
  self._items[self._first] = nil
  self._first = self._first % self.size + 1
  self._count = self._count - 1
  return x
end

function methods:peek()
  if self._count == 0 then return nil end
  return self._items[self._first]
end

function methods:replace(x)
  if self._count == 0 then return self:push(x) end
  self._items[self._first] = x
  return true
end

function methods:count() return self._count end

function methods:items()
  local i = 0
  return function()
    i = i + 1
    if i <= self._count then return i, self._items[slot(self, i)] end
  end
end

function methods:consume()
  return function() return self:pop() end
end

return { new = new }
