-- SPDX-License-Identifier: MIT
-- datetime.lua: XEP-0082 dates and times, always UTC.
--
--   date(t?) "2024-01-31"  datetime(t?) "2024-01-31T12:00:00Z"  time(t?) "12:00:00"  legacy(t?) "20240131T12:00:00"
--   parse(text) -> seconds since 1970 | nil        with fractions and offsets; strict about ranges
-- A t with a fraction gives six digits of it.

local floor = math.floor

local datetime = {}

local function now() return os.time() end

local function fraction(t)
  local whole = floor(t)
  if t == whole then return whole, "" end
  local micro = floor((t - whole) * 1e6 + 0.5)
  if micro == 1000000 then return whole + 1, "" end
  if micro == 0 then return whole, "" end
  return whole, (".%06d"):format(micro)
end

function datetime.date(t)
  return os.date("!%Y-%m-%d", floor(t or now()))
end

function datetime.datetime(t)
  local whole, rest = fraction(t or now())
  return os.date("!%Y-%m-%dT%H:%M:%S", whole) .. rest .. "Z"
end

function datetime.time(t)
  local whole, rest = fraction(t or now())
  return os.date("!%H:%M:%S", whole) .. rest
end

function datetime.legacy(t)
  return os.date("!%Y%m%dT%H:%M:%S", floor(t or now()))
end

-- days since 1970-01-01 of a date of the Gregorian calendar
local function days(y, m, d)
  if m <= 2 then y = y - 1 end
  local era = y // 400
  local yoe = y - era * 400
  local doy = (153 * (m + (m > 2 and -3 or 9)) + 2) // 5 + d - 1
  return era * 146097 + yoe * 365 + yoe // 4 - yoe // 100 + doy - 719468
end

local month_days = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local function int(s) return math.tointeger(tonumber(s)) end

function datetime.parse(text)
  if type(text) ~= "string" then return nil end
  local y, m, d, h, min, s, frac, zone = text:match "^(%d%d%d%d)%-?(%d%d)%-?(%d%d)T(%d%d):(%d%d):(%d%d)(%.?%d*)(.*)$"
  if not y then return nil end
  y, m, d, h, min, s = int(y), int(m), int(d), int(h), int(min), int(s)
  if m < 1 or m > 12 or h > 24 or min > 59 or s > 60 then return nil end
  local leap = y % 4 == 0 and (y % 100 ~= 0 or y % 400 == 0)
  if d < 1 or d > (m == 2 and leap and 29 or month_days[m]) then return nil end
  if h == 24 and (min > 0 or s > 0) then return nil end
  if frac ~= "" and not frac:find "^%.%d+$" then return nil end
  local offset = 0
  if zone ~= "" and zone ~= "Z" then
    local sign, zh, zm = zone:match "^([+-])(%d%d):?(%d%d)$"
    if not sign or int(zm) > 59 then return nil end
    offset = (int(zh) * 3600 + int(zm) * 60) * (sign == "-" and -1 or 1)
  end
  local t = days(y, m, d) * 86400 + h * 3600 + min * 60 + s - offset
  if frac ~= "" then t = t + tonumber("0" .. frac) end
  return t
end

return datetime
