-- SPDX-License-Identifier: MIT
-- format.lua: string.format that never raises: any value for any letter, missing and surplus arguments shown.

local type, tostring, select, pcall = type, tostring, select, pcall
local sformat, unpack = string.format, table.unpack
local line = require "couplet.plain".line

-- Of the new lines in an argument only those of a traceback stay: else whoever chose the text would write lines of his own.
local function clean(s)
  if not s:find "[^\32-\126]" then return s end
  if not s:find "^stack traceback:\n" and not s:find("\nstack traceback:\n", 1, true) then
    s = line(s)
  elseif s:find "[%c\127]" then
    s = s:gsub("[^\n\t]+", line)
  end
  if not utf8.len(s) then
    s = sformat("%q", s):gsub("\\\n", "\\n"):gsub("[\128-\255]", function(c) return sformat("\\%03d", c:byte()) end)
  end
  return s
end

local numeric = { d = true, i = true, c = true, x = true, X = true, o = true, u = true }
local floating = { e = true, E = true, f = true, g = true, G = true, a = true, A = true }

-- The directive that can show this value, and the value.
local function fit(directive, letter, value)
  local kind = type(value)
  if numeric[letter] then
    if kind == "number" then
      local int = math.tointeger(value)
      if int and letter ~= "c" then return directive, int end
      if int and letter == "c" and int >= 0 and int < 256 then return "%s", clean(string.char(int)) end
      if not int then return "%s", tostring(value) end
    end
    return "[%s]", value == nil and "nil" or clean(tostring(value))
  elseif floating[letter] then
    if kind == "number" then return directive, value end
    return "[%s]", value == nil and "nil" or clean(tostring(value))
  elseif letter == "q" then
    if kind == "number" or kind == "boolean" or value == nil then return "%q", value end
    if kind == "string" then return "%q", line(value) end
    return "%q", tostring(value)
  elseif letter == "s" then
    if value == nil then return "(%s)", "nil" end
    return directive, clean(tostring(value))
  end
  return "[%s]", clean(tostring(value))
end

local function format(fmt, ...)
  if type(fmt) ~= "string" then fmt = clean(tostring(fmt)):gsub("%%", "%%%%") end
  local n = select("#", ...)
  if n == 0 and not fmt:find("%", 1, true) then return fmt end
  local args, used = { ... }, 0
  fmt = fmt:gsub("(%%[-+ #0]*%d*%.?%d*)(.?)", function(head, letter)
    if letter == "%" then return "%%" end
    if letter == "" or not letter:find "[%a]" then return "%" .. head .. letter end
    used = used + 1
    if used > n then
      args[used] = head .. letter
      return "(missing %s)"
    end
    local directive
    directive, args[used] = fit(head .. letter, letter, args[used])
    return directive
  end)
  for i = used + 1, n do
    fmt = fmt .. " [%s]"
    args[i] = args[i] == nil and "(nil)" or clean(tostring(args[i]))
  end
  local total = used > n and used or n
  local ok, text = pcall(sformat, fmt, unpack(args, 1, total))
  if ok then return text end
  return "[bad format " .. sformat("%q", fmt) .. ": " .. tostring(text) .. "]"
end

return { format = format }
