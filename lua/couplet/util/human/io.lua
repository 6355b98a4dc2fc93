-- SPDX-License-Identifier: MIT
-- human/io.lua: what people write and read: durations.
--
--   parse_duration("2 days") -> seconds | nil         sums: "1h 30m"; a number alone is seconds
--   parse_duration_lax(s)                             also "1 M" for minutes

local units = {
  s = 1, sec = 1, secs = 1, second = 1, seconds = 1,
  m = 60, min = 60, mins = 60, minute = 60, minutes = 60,
  h = 3600, hr = 3600, hrs = 3600, hour = 3600, hours = 3600,
  d = 86400, day = 86400, days = 86400,
  w = 604800, wk = 604800, week = 604800, weeks = 604800,
  mo = 2592000, mon = 2592000, month = 2592000, months = 2592000,
  y = 31536000, yr = 31536000, year = 31536000, years = 31536000,
}

local io_ = {}

function io_.parse_duration(text)
  if type(text) == "number" then return text end
  if type(text) ~= "string" then return nil end
  local total, rest = 0, text:lower():gsub("^%s+", ""):gsub("%s+$", "")
  if rest == "" then return nil end
  if tonumber(rest) and rest:find "^[%d.]+$" then return tonumber(rest) end
  while rest ~= "" do
    local number, unit, more = rest:match "^(%d*%.?%d+)%s*(%a+)[%s,]*(.*)$"
    if not number or not units[unit] or not tonumber(number) then return nil end
    total = total + tonumber(number) * units[unit]
    rest = more
  end
  return math.tointeger(total) or total
end

function io_.parse_duration_lax(text)
  return io_.parse_duration(text)
end

return io_
