-- SPDX-License-Identifier: MIT
-- bandwidth: the words of the option limits: { c2s = { rate = "10kb/s", burst = "2s" } }.
--
--   bandwidth.rate(value) -> bytes a second | nil             a number, "5 kb/s", "1mbps"
--   bandwidth.burst(value, rate) -> bytes | nil               seconds at that rate (2, "2s"), or bytes ("64kb")

local bandwidth = {}

local UNITS = { [""] = 1, b = 1, k = 1000, kb = 1000, kib = 1024, m = 1000000, mb = 1000000, mib = 1048576 }

local function bytes(value)
  if type(value) == "number" then return value >= 0 and value < math.huge and value or nil end
  if type(value) ~= "string" then return nil end
  local number, unit = value:lower():match "^%s*(%d+%.?%d*)%s*(%a*)%s*$"
  return number and UNITS[unit] and tonumber(number) * UNITS[unit] or nil
end

function bandwidth.rate(value)
  if type(value) == "string" then value = value:gsub("%s*/%s*s%s*$", ""):gsub("%s*ps%s*$", "") end
  return bytes(value)
end

function bandwidth.burst(value, rate)
  local seconds = tonumber(type(value) == "string" and value:match "^%s*(%d+%.?%d*)%s*s%s*$" or type(value) == "number" and value)
  if seconds then return bytes(seconds) and bytes(seconds * rate) end
  return bytes(value)
end

return bandwidth
