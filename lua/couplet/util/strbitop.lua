-- SPDX-License-Identifier: MIT
-- util.strbitop: sxor sand sor (a, b) -> a with the bytes of b, repeated, applied; common_prefix_bits(a, b).

local strbitop = {}

local function each(a, b, op)
  if b == "" then return a end
  local out, n = {}, #b
  for i = 1, #a do out[i] = string.char(op(a:byte(i), b:byte((i - 1) % n + 1))) end
  return table.concat(out)
end

function strbitop.sxor(a, b) return each(a, b, function(x, y) return x ~ y end) end
function strbitop.sand(a, b) return each(a, b, function(x, y) return x & y end) end
function strbitop.sor(a, b) return each(a, b, function(x, y) return x | y end) end

function strbitop.common_prefix_bits(a, b)
  for i = 1, math.min(#a, #b) do
    local x = a:byte(i) ~ b:byte(i)
    if x ~= 0 then
      local n = (i - 1) * 8
      while x & 0x80 == 0 do
        n, x = n + 1, x << 1
      end
      return n
    end
  end
  return math.min(#a, #b) * 8
end

return strbitop
