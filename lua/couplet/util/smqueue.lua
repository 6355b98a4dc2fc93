-- SPDX-License-Identifier: MIT
-- util.smqueue: stanzas that wait for an acknowledgement (XEP-0198).
--
--   new(size) -> q    q:push(x) drops the oldest beyond size     q:ack(h) -> array of those acknowledged | nil, error object
--   q:count_unacked() q:count_acked() q:resumable() -> nothing was dropped   q:resume() iterates   q:consume()   q:table()

local errors = require "couplet.errors".init("smqueue", {
  tail = { type = "cancel", condition = "undefined-condition", text = "Client acknowledged more stanzas than sent by server" },
  head = { type = "cancel", condition = "undefined-condition",
    text = "Client acknowledged less stanzas than already acknowledged" },
  pop = { type = "cancel", condition = "internal-server-error", text = "Acknowledged stanzas are gone" },
})

local methods = {}
local mt = { __index = methods, __name = "smqueue" }

local function new(size)
  if math.type(size) ~= "integer" or size < 1 then error("size: a positive integer", 2) end
  return setmetatable({ size = size, _head = 0, _tail = 0, _queue = {} }, mt)
end

function methods:push(x)
  self._head = self._head + 1
  self._queue[self._head] = x
  local old = self._head - self.size
  if old >= 1 then self._queue[old] = nil end
end

function methods:ack(h)
  if h < self._tail then return nil, errors.new "tail" end
  if h > self._head then return nil, errors.new "head" end
  local acked = {}
  for i = self._tail + 1, h do
    acked[#acked + 1] = self._queue[i]
    self._queue[i] = nil
  end
  self._tail = h
  return acked
end

function methods:count_unacked() return self._head - self._tail end
function methods:count_acked() return self._tail end

function methods:resumable()
  return self:count_unacked() <= self.size
end

local function each(q)
  local i = math.max(q._tail, q._head - q.size)
  return function()
    i = i + 1
    if i <= q._head then return i, q._queue[i] end
  end
end

methods.resume = each

function methods:consume()
  local out = {}
  for _, x in each(self) do out[#out + 1] = x end
  self._queue, self._tail = {}, self._head
  local i = 0
  return function()
    i = i + 1
    if out[i] ~= nil then return i, out[i] end
  end
end

function methods:table()
  local out = {}
  for _, x in each(self) do out[#out + 1] = x end
  return out
end

return { new = new }
