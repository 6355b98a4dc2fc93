-- SPDX-License-Identifier: MIT
-- util.termcolours: getstyle("bold", "red") -> code; getstring(code, text) -> coloured text; setstyle(code) writes it.

local names = {
  reset = 0, bright = 1, bold = 1, dim = 2, underscore = 4, underline = 4, blink = 5, reverse = 7, hidden = 8,
  black = 30, red = 31, green = 32, yellow = 33, blue = 34, magenta = 35, cyan = 36, white = 37,
  ["black background"] = 40, ["red background"] = 41, ["green background"] = 42, ["yellow background"] = 43,
  ["blue background"] = 44, ["magenta background"] = 45, ["cyan background"] = 46, ["white background"] = 47,
}

local colours = {}

function colours.getstyle(...)
  local out = {}
  for i = 1, select("#", ...) do
    local code = names[(select(i, ...))]
    if code then out[#out + 1] = code end
  end
  return table.concat(out, ";")
end

function colours.getstring(style, text)
  if not style or style == "" then return text end
  return "\27[" .. style .. "m" .. text .. "\27[0m"
end

function colours.setstyle(style)
  if not style or style == "" then io.write "\27[0m" else io.write("\27[", style, "m") end
end

-- SGR by RGB, the nearest of the 6x6x6 cube
function colours.rgb_to_hex(r, g, b) return ("%02x%02x%02x"):format(r, g, b) end

function colours.ansi256(r, g, b)
  local function level(x) return math.floor(x / 255 * 5 + 0.5) end
  return ("38;5;%d"):format(16 + 36 * level(r) + 6 * level(g) + level(b))
end

return colours
