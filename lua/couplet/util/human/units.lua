-- SPDX-License-Identifier: MIT
-- util.human.units: numbers for people.
--
--   format(n, unit?, "b"?) -> "12.3kB"      "b": steps of 1024 (KiB)       adjust(n, "b"?) -> factor text, divisor

local units = {}

local large = { "k", "M", "G", "T", "P", "E", "Z", "Y" }
local small = { "m", "µ", "n", "p", "f", "a", "z", "y" }
local binary = { "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi" }

function units.adjust(n, base)
  local step, names = base == "b" and 1024 or 1000, base == "b" and binary or large
  local size = math.abs(n)
  if size == 0 or size ~= size or size == math.huge then return "", 1 end
  if size >= step then
    local power = math.min(math.floor(math.log(size, step) + 1e-9), #names)
    return names[power], step ^ power
  end
  if size < 1 and base ~= "b" then
    local power = math.min(-math.floor(math.log(size, 1000) + 1e-9), #small)
    return small[power], 1000.0 ^ -power
  end
  return "", 1
end

function units.format(n, unit, base)
  local name, divisor = units.adjust(n, base)
  return (("%.4g%s%s"):format(n / divisor, name, unit or ""))
end

return units
