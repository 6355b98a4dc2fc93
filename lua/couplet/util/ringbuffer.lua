-- SPDX-License-Identifier: MIT
-- util.ringbuffer: bytes, at most so many.
--
--   new(size = 4096) -> b    b:write(s) -> #s | nil if there is no room    b:read(n, peek?) -> s | nil    b:discard(n) -> bool
--   b:readuntil(s) -> text up to and with s | nil    b:find(s) -> position of its last byte    b:sub(i, j) b:byte(i, j) from the
--   first
--   #b, b:length() b:size() b:free() b:clear() tostring(b)

local methods = {}
local mt = { __index = methods, __name = "ringbuffer" }

local function text_of(b)
  if #b.parts > 1 then b.parts = { table.concat(b.parts) } end
  return (b.parts[1] or ""):sub(b.taken + 1)
end

-- One string again, without what was taken.
local function settle(b)
  local s = text_of(b)
  b.parts, b.taken = { s }, 0
  return s
end

local function new(size)
  size = size or 4096
  if math.type(size) ~= "integer" or size < 1 then error("bad argument #1 to 'new' (positive integer expected)", 2) end
  return setmetatable({ limit = size, count = 0, parts = {}, taken = 0 }, mt)
end

function methods:write(s)
  if #s > self.limit - self.count then return nil end
  self.parts[#self.parts + 1] = s
  self.count = self.count + #s
  return #s
end

function methods:read(n, peek)
  if n < 1 or n > self.count then return nil end
  if #self.parts > 1 or self.taken > self.limit then settle(self) end
  local s = self.parts[1]:sub(self.taken + 1, self.taken + n)
  if not peek then
    self.taken, self.count = self.taken + n, self.count - n
  end
  return s
end

function methods:discard(n)
  if n < 0 or n > self.count then return false end
  if n > 0 then self:read(n) end
  return true
end

function methods:find(s)
  local _, last = settle(self):find(s, 1, true)
  return last
end

function methods:readuntil(s)
  local last = self:find(s)
  return last and self:read(last) or nil
end

function methods:sub(i, j) return settle(self):sub(i, j) end
function methods:byte(i, j) return settle(self):byte(i, j) end
function methods:length() return self.count end
function methods:size() return self.limit end
function methods:free() return self.limit - self.count end
function methods:clear() self.parts, self.taken, self.count = {}, 0, 0 end

mt.__len = methods.length
mt.__tostring = settle

return { new = new }
