-- SPDX-License-Identifier: MIT
-- util.dbuffer: bytes in the pieces they came in.
--
--   new(max_bytes?, max_pieces?) -> b     b:write(s) -> true | false if it would be too much     #b, b:length()
--   b:read(n) -> exactly n bytes | nil; without n: the first piece     b:read_chunk() b:read_until(s) b:discard(n) -> bool
--   b:sub(i, j) b:byte(i, j) b:collapse(n?) tostring(b)

local methods = {}
local mt = { __index = methods, __name = "dbuffer" }

local function new(max_bytes, max_pieces)
  if max_bytes and max_bytes <= 0 or max_pieces and max_pieces <= 0 then return nil end
  return setmetatable({ max_bytes = max_bytes, max_pieces = max_pieces or 32, pieces = {}, first = 1, last = 0, skip = 0,
    count = 0 }, mt)
end

function methods:write(s)
  if s == "" then return true end
  if self.max_bytes and self.count + #s > self.max_bytes then return false end
  if self.last - self.first + 1 >= self.max_pieces then
    self:collapse()
    if self.max_pieces == 1 then
      self.pieces[self.last] = self.pieces[self.last] .. s
      self.count = self.count + #s
      return true
    end
  end
  self.last = self.last + 1
  self.pieces[self.last] = s
  self.count = self.count + #s
  return true
end

function methods:read_chunk()
  if self.first > self.last then return nil end
  local s = self.pieces[self.first]
  if self.skip > 0 then s = s:sub(self.skip + 1) end
  self.pieces[self.first] = nil
  self.first, self.skip, self.count = self.first + 1, 0, self.count - #s
  return s
end

function methods:read(n)
  if n == nil then return self:read_chunk() end
  if n > self.count or n < 0 then return nil end
  if n == 0 then return "" end
  local out, missing = {}, n
  while missing > 0 do
    local piece = self.pieces[self.first]
    local have = #piece - self.skip
    if have <= missing then
      out[#out + 1] = self:read_chunk()
      missing = missing - have
    else
      out[#out + 1] = piece:sub(self.skip + 1, self.skip + missing)
      self.skip, self.count, missing = self.skip + missing, self.count - missing, 0
    end
  end
  return table.concat(out)
end

function methods:discard(n)
  if n > self.count then return false end
  self:read(n)
  return true
end

-- The first n bytes (or all) in one piece.
function methods:collapse(n)
  local text = self:read(n or self.count)
  if not text or text == "" then return end
  if self.skip > 0 then
    self.pieces[self.first] = self.pieces[self.first]:sub(self.skip + 1)
    self.skip = 0
  end
  self.first = self.first - 1
  self.pieces[self.first] = text
  self.count = self.count + #text
end

function methods:read_until(s)
  self:collapse()
  local piece = self.pieces[self.first]
  if not piece then return nil end
  local _, last = piece:find(s, self.skip + 1, true)
  return last and self:read(last - self.skip) or nil
end

function methods:sub(i, j)
  self:collapse()
  return (self.pieces[self.first] or ""):sub(self.skip + 1):sub(i, j)
end

function methods:byte(i, j) return self:sub(i or 1, j or i or 1):byte(1, -1) end
function methods:length() return self.count end
mt.__len = methods.length
mt.__tostring = function(self) return self:sub(1, -1) end

return { new = new }
