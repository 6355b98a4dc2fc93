-- SPDX-License-Identifier: MIT
-- human/io.lua: what people write and read: durations, tables, questions on a terminal.
--
--   parse_duration("2 days") -> seconds | nil         sums: "1h 30m"; a number alone is seconds
--   parse_duration_lax(s)                             the same
--   table(columns, width?) -> row(values?) -> text, width      columns: { title=, width= (characters or "50%" or "2p"), key=,
--                                                     mapper= f(value, row), align="right" }; row() without values: the titles
--   term_width() -> columns     ellipsis(text, width)   pad_right pad_left(text, width)     utf8 aware
--   show_yesno(question) -> bool  show_prompt(question)  read_password()  show_message show_warning printf (fmt, …)

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

-- --- text of a width ---

local function length(text)
  local ok, n = pcall(utf8.len, text)
  return ok and n or #text
end

local function head(text, n)
  local ok, at = pcall(utf8.offset, text, n + 1)
  if not ok or not utf8.len(text) then return text:sub(1, n) end
  return at and text:sub(1, at - 1) or text
end

function io_.pad_right(text, width) return text .. (" "):rep(width - length(text)) end
function io_.pad_left(text, width) return (" "):rep(width - length(text)) .. text end

function io_.ellipsis(text, width)
  if length(text) <= width then return text end
  if width < 1 then return "" end
  return head(text, width - 1) .. "…"
end

function io_.term_width(default)
  return math.tointeger(tonumber(os.getenv "COLUMNS")) or default or 80
end

-- Widths in characters: fixed ones and percentages first, then what is left is shared by parts ("2p"; none = "1p").
local function widths(columns, total)
  local out, left, parts = {}, total - #columns + 1, 0
  for i, column in ipairs(columns) do
    local w = column.width
    local percent = type(w) == "string" and w:match "^(%d+)%%$"
    local part = type(w) == "string" and w:match "^(%d+)p$" or w == nil and 1
    if percent then
      out[i] = math.max(1, math.floor(total * tonumber(percent) / 100) - (i > 1 and 1 or 0))
    elseif not part then
      out[i] = math.tointeger(tonumber(w)) or 1
    else
      parts = parts + tonumber(part)
    end
    left = left - (out[i] or 0)
  end
  for i, column in ipairs(columns) do
    if not out[i] then
      local part = tonumber(column.width and column.width:match "^(%d+)p$" or 1)
      out[i] = math.max(1, math.floor(math.max(left, parts) * part / parts))
    end
  end
  return out
end

local function cell(column, value, row)
  if column.mapper then value = column.mapper(value, row) end
  if value == nil then return column.default or "" end
  return (tostring(value):gsub("[\r\n\t]", " "))
end

function io_.table(columns, width)
  width = width or io_.term_width()
  local sizes = widths(columns, width)
  return function(row)
    local out = {}
    for i, column in ipairs(columns) do
      local text
      if row == nil then
        text = column.title or ""
      else
        local value = row[column.key]
        if column.key == nil then value = row[i] end
        text = cell(column, value, row)
      end
      text = io_.ellipsis(text, sizes[i])
      out[i] = column.align == "right" and io_.pad_left(text, sizes[i]) or i < #columns and io_.pad_right(text, sizes[i]) or text
    end
    return table.concat(out, " ")
  end, width
end

-- --- a person at a terminal ---

function io_.printf(fmt, ...) print(fmt:format(...)) end
io_.show_message = io_.printf

function io_.show_warning(fmt, ...) io.stderr:write(fmt:format(...), "\n") end

function io_.show_prompt(question)
  io.stdout:write(question, " ")
  io.stdout:flush()
  return io.read "l"
end

function io_.show_yesno(question)
  local answer = (io_.show_prompt(question) or ""):lower():sub(1, 1)
  if answer == "" then answer = question:match "%[.-(%u).-%]" or "n" end
  return answer:lower() == "y"
end

function io_.read_password()
  return require "couplet.core".system.password "Enter password: "
end

return io_
