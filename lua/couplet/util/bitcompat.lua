-- SPDX-License-Identifier: MIT
-- util.bitcompat (bit32): band bor bxor bnot lshift rshift arshift lrotate rrotate extract replace btest, on 32 bits.

local bit = {}
local MASK = 0xffffffff

local function int(n)
  local i = math.tointeger(n)
  if not i then i = math.tointeger(math.floor(n + 0.5)) or error("number has no integer representation", 3) end
  return i & MASK
end

function bit.band(...)
  local r = MASK
  for i = 1, select("#", ...) do r = r & int((select(i, ...))) end
  return r
end

function bit.bor(...)
  local r = 0
  for i = 1, select("#", ...) do r = r | int((select(i, ...))) end
  return r
end

function bit.bxor(...)
  local r = 0
  for i = 1, select("#", ...) do r = r ~ int((select(i, ...))) end
  return r
end

function bit.bnot(a) return ~int(a) & MASK end
function bit.btest(...) return bit.band(...) ~= 0 end

function bit.lshift(a, n)
  if n < 0 then return bit.rshift(a, -n) end
  return n > 31 and 0 or int(a) << n & MASK
end

function bit.rshift(a, n)
  if n < 0 then return bit.lshift(a, -n) end
  return n > 31 and 0 or int(a) >> n
end

function bit.arshift(a, n)
  a = int(a)
  if n < 0 then return bit.lshift(a, -n) end
  if a & 0x80000000 == 0 then return bit.rshift(a, n) end
  if n > 31 then return MASK end
  return a >> n | ~(MASK >> n) & MASK
end

function bit.lrotate(a, n)
  a, n = int(a), n % 32
  return (a << n | a >> 32 - n) & MASK
end

function bit.rrotate(a, n) return bit.lrotate(a, -n) end

function bit.extract(a, field, width) return int(a) >> field & ((1 << (width or 1)) - 1) end

function bit.replace(a, v, field, width)
  local mask = (1 << (width or 1)) - 1
  return int(a) & ~(mask << field) & MASK | (int(v) & mask) << field
end

bit.rol, bit.ror = bit.lrotate, bit.rrotate           -- the names of library "bit"
function bit.tobit(a) return int(a) end
function bit.tohex(a, n)
  n = n or 8
  local s = (n < 0 and "%08X" or "%08x"):format(int(a))
  return s:sub(-math.min(8, math.abs(n)))
end

return bit
