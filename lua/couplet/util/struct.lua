-- SPDX-License-Identifier: MIT
-- util.struct: pack(format, …) unpack(format, bytes, at?) size(format), in the letters of the library of that name:
--   > < =  b B h H i[n] I[n] l L  f d  x  s (ends with zero)  c[n] (n bytes; c0: as many as the value before says)

local struct = {}

local sizes = { h = 2, H = 2, i = 4, I = 4, l = 8, L = 8 }

-- fn(our letter for string.pack | nil, letter, count) for each
local function each(format, fn)
  local order = "="
  for letter, count in format:gmatch "([%a<>=!])(%d*)" do
    count = math.tointeger(tonumber(count))
    if letter == "<" or letter == ">" or letter == "=" then
      order = letter
    elseif letter == "!" then
      goto continue
    elseif letter == "b" or letter == "B" or letter == "f" or letter == "d" then
      fn(order .. letter, letter)
    elseif sizes[letter] then
      local signed = letter == "h" or letter == "i" or letter == "l"
      fn(order .. (signed and "i" or "I") .. (letter:lower() == "i" and count or sizes[letter]), letter)
    elseif letter == "x" or letter == "s" or letter == "c" then
      fn(nil, letter, count)
    else
      error("invalid format option '" .. letter .. "'", 3)
    end
    ::continue::
  end
end

function struct.pack(format, ...)
  local out, args, at = {}, table.pack(...), 0
  each(format, function(ours, letter, count)
    if letter == "x" then
      out[#out + 1] = "\0"
      return
    end
    at = at + 1
    local value = args[at]
    if letter == "s" then
      out[#out + 1] = value .. "\0"
    elseif letter == "c" then
      if count == 0 then count = #value end
      if #value < (count or 1) then error("string too short", 3) end
      out[#out + 1] = value:sub(1, count or 1)
    else
      out[#out + 1] = string.pack(ours, ours:find "[fd]" and value or math.tointeger(value) or value)
    end
  end)
  return table.concat(out)
end

function struct.unpack(format, bytes, at)
  local out, n = {}, 0
  at = at or 1
  each(format, function(ours, letter, count)
    if letter == "x" then
      at = at + 1
      return
    end
    local value
    if letter == "s" then
      value, at = string.unpack("z", bytes, at)
    elseif letter == "c" then
      if count == 0 then
        count = out[n]
        out[n], n = nil, n - 1
      end
      count = count or 1
      if at + count - 1 > #bytes then error("data string too short", 3) end
      value, at = bytes:sub(at, at + count - 1), at + count
    else
      value, at = string.unpack(ours, bytes, at)
    end
    n = n + 1
    out[n] = value
  end)
  out[n + 1] = at
  return table.unpack(out, 1, n + 1)
end

function struct.size(format)
  local total = 0
  each(format, function(ours, letter, count)
    if letter == "s" or letter == "c" and count == 0 then error("variable-size format", 3) end
    total = total + (ours and string.packsize(ours) or letter == "x" and 1 or count or 1)
  end)
  return total
end

return struct
