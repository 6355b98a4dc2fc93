-- SPDX-License-Identifier: MIT
-- util.serialization: values as Lua text and back.
--
--   serialize(value, preset? | options?) -> text     preset: "debug" (never fails), "oneline", "compact", "pretty"
--   new(options) -> serialize function                options: preset, fatal, unquoted, indentwith, itemstart, itemsep,
--                                                     itemlast, equals, maxdepth, freeze, fallback, custom
--   deserialize(text) -> value | nil, message         reads data only: nothing in the text is run

local serialization = {}

local keywords = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true until
  while]]):gmatch "%S+" do keywords[word] = true end

local defaults = {
  fatal = true, unquoted = true, indentwith = "\t", itemstart = "\n", itemsep = ";", itemlast = ";\n", equals = " = ",
  maxdepth = 127,
}
local presets = {
  debug = { fatal = false, freeze = true },
  oneline = { indentwith = "", itemstart = " ", itemsep = ",", itemlast = " " },
  compact = { indentwith = "", itemstart = "", itemsep = ",", itemlast = "", equals = "=" },
  pretty = { fatal = false, freeze = true },
}

local escapes = { ["\\"] = "\\\\", ["\""] = "\\\"", ["\n"] = "\\n", ["\r"] = "\\r" }
local function quote(text)
  text = text:gsub("[\\\"\n\r]", escapes)
  return "\"" .. text:gsub("%c", function(c) return ("\\%03d"):format(c:byte()) end) .. "\""
end

local function number(n)
  if math.type(n) == "integer" then
    if n == math.mininteger then return "math.mininteger" end
    return ("%d"):format(n)
  end
  if n ~= n then return "(0/0)" end
  if n == 1 / 0 then return "(1/0)" end
  if n == -1 / 0 then return "(-1/0)" end
  local text = ("%.17g"):format(n)
  for digits = 15, 16 do
    local shorter = ("%." .. digits .. "g"):format(n)
    if tonumber(shorter) == n then text = shorter break end
  end
  if not text:find "[%.eE]" then text = text .. ".0" end
  return text
end

local function order(a, b)
  local ta, tb = math.type(a) and "number" or type(a), math.type(b) and "number" or type(b)
  if ta ~= tb then return ta < tb end
  if ta == "boolean" then return a and not b end
  if ta == "number" or ta == "string" then return a < b end
  return tostring(a) < tostring(b)
end

function serialization.new(opt)
  if type(opt) == "string" then opt = { preset = opt } end
  opt = opt or {}
  local preset = opt.preset and presets[opt.preset] or {}
  local o = setmetatable({}, { __index = function(_, key)
    if opt[key] ~= nil then return opt[key] end
    if preset[key] ~= nil then return preset[key] end
    return defaults[key]
  end })
  local fatal, freeze, custom, maxdepth = o.fatal, o.freeze, o.custom, o.maxdepth

  local function fallback(v, why)
    if o.fallback then return o.fallback(v, why) end
    if fatal then error(("cannot serialize %s: %s"):format(type(v), why), 0) end
    return ("nil --[[%s: %s]]"):format(tostring(v):gsub("%]%]", "]-]"), why)
  end

  local emit
  local function key_text(k, out, seen, depth)
    if o.unquoted and type(k) == "string" and k:find "^[%a_][%w_]*$" and not keywords[k] then
      out[#out + 1] = k
    else
      out[#out + 1] = "["
      emit(k, out, seen, depth)
      out[#out + 1] = "]"
    end
  end

  function emit(v, out, seen, depth)
    if custom then
      local text = custom(v)
      if text ~= nil then out[#out + 1] = text return end
    end
    local kind = type(v)
    if kind == "nil" or kind == "boolean" then
      out[#out + 1] = tostring(v)
    elseif kind == "number" then
      out[#out + 1] = number(v)
    elseif kind == "string" then
      out[#out + 1] = quote(v)
    elseif kind == "table" or kind == "userdata" and (getmetatable(v) or {}).__pairs then
      if seen[v] then out[#out + 1] = fallback(v, "recursion") return end
      if depth > maxdepth then out[#out + 1] = fallback(v, "maximum depth") return end
      local frozen = freeze and kind == "table" and (getmetatable(v) or {}).__freeze
      if type(frozen) == "function" then v = frozen(v) end
      seen[v] = true
      local keys = {}
      for k in pairs(v) do keys[#keys + 1] = k end
      if #keys == 0 then
        out[#out + 1] = "{}"
      else
        table.sort(keys, order)
        local indent = o.indentwith:rep(depth)
        out[#out + 1] = "{"
        local array = 0
        for i, k in ipairs(keys) do
          out[#out + 1] = o.itemstart .. (o.indentwith ~= "" and indent .. o.indentwith or "")
          if k == array + 1 then
            array = k
          else
            key_text(k, out, seen, depth + 1)
            out[#out + 1] = o.equals
          end
          emit(v[k], out, seen, depth + 1)
          if i < #keys then out[#out + 1] = o.itemsep end
        end
        out[#out + 1] = o.itemlast .. indent .. "}"
      end
      seen[v] = nil
    else
      out[#out + 1] = fallback(v, "no data")
    end
  end

  return function(v)
    local out = {}
    emit(v, out, {}, 0)
    return table.concat(out)
  end
end

local default = serialization.new()

function serialization.serialize(v, opt)
  if opt then return serialization.new(opt)(v) end
  return default(v)
end

--- Reading: a parser of Lua's table constructors and literals

local unescape = { n = "\n", r = "\r", t = "\t", a = "\a", b = "\b", f = "\f", v = "\v", ["\\"] = "\\", ["\""] = "\"",
  ["'"] = "'", ["\n"] = "\n" }

local function parse(text)
  local at = 1

  local function fail(what)
    local _, line = text:sub(1, at):gsub("\n", "\n")
    error(("line %d: %s"):format(line + 1, what), 0)
  end

  local function space()
    while true do
      at = text:match("^%s*()", at)
      local level = text:match("^%-%-%[(=*)%[", at)
      if level then
        local _, stop = text:find("]" .. level .. "]", at, true)
        if not stop then fail "unfinished comment" end
        at = stop + 1
      elseif text:find("^%-%-", at) then
        at = text:find("\n", at, true) or #text + 1
      else
        return
      end
    end
  end

  local function take(pattern)
    space()
    local found, after = text:match("^(" .. pattern .. ")()", at)
    if found then at = after end
    return found
  end

  local function string_literal(mark)
    local out = {}
    while true do
      local plain, c, after = text:match("^([^\\\"'\n]*)(.)()", at)
      if not c then fail "unfinished string" end
      out[#out + 1] = plain
      at = after
      if c == mark then return table.concat(out) end
      if c == "\n" then fail "unfinished string" end
      if c ~= "\\" then
        out[#out + 1] = c
      else
        local hex, digits, unicode = text:match("^x(%x%x)", at), text:match("^%d%d?%d?", at), text:match("^u{(%x+)}", at)
        c = text:sub(at, at)
        if hex then
          out[#out + 1] = string.char(tonumber(hex, 16))
          at = at + 3
        elseif digits then
          if tonumber(digits) > 255 then fail "escape too large" end
          out[#out + 1] = string.char(tonumber(digits))
          at = at + #digits
        elseif unicode and #unicode <= 8 then
          out[#out + 1] = utf8.char(tonumber(unicode, 16))
          at = at + #unicode + 3
        elseif c == "z" then
          at = text:match("^%s*()", at + 1)
        elseif unescape[c] then
          out[#out + 1] = unescape[c]
          at = at + 1
        else
          fail "unknown escape"
        end
      end
    end
  end

  local value

  local function table_literal(depth)
    if depth > 200 then fail "nested too deep" end
    local t, n = {}, 0
    while not take "}" do
      space()
      local name, after = text:match("^([%a_][%w_]*)%s*=()", at)
      if name and text:sub(after, after) ~= "=" and not keywords[name] then
        at = after
        t[name] = value(depth)
      elseif text:find("^%[[^%[=]", at) then
        at = at + 1
        local key = value(depth)
        if key == nil or key ~= key then fail "a key is nil" end
        if not take "%]" then fail "] expected" end
        if not take "=" then fail "= expected" end
        t[key] = value(depth)
      else
        n = n + 1
        t[n] = value(depth)
      end
      if not take "[,;]" then
        if take "}" then return t end
        fail "} expected"
      end
    end
    return t
  end

  local function numeral()
    local sign = take "%-" and -1 or 1
    space()
    local text_, after = text:match("^(0[xX][%x%.]+[pP]?[%+%-]?%d*)()", at)
    if not text_ then text_, after = text:match("^([%d%.]+[eE][%+%-]?%d+)()", at) end
    if not text_ then text_, after = text:match("^([%d%.]+)()", at) end
    local n = text_ and tonumber(text_)
    if not n then fail "value expected" end
    at = after
    if sign < 0 then n = -n end
    return n
  end

  local constants = {
    ["nil"] = function() return nil end, ["true"] = function() return true end, ["false"] = function() return false end,
    ["math.huge"] = function() return math.huge end, ["math.mininteger"] = function() return math.mininteger end,
    ["math.maxinteger"] = function() return math.maxinteger end,
  }

  function value(depth)
    space()
    local c = text:sub(at, at)
    if c == "{" then
      at = at + 1
      return table_literal((depth or 0) + 1)
    elseif c == "\"" or c == "'" then
      at = at + 1
      return string_literal(c)
    elseif c == "(" then               -- (0/0), (1/0), (-1/0)
      local top, bottom, after = text:match("^%(%s*(%-?%d+)%s*/%s*(%d+)%s*%)()", at)
      if not top then fail "value expected" end
      at = after
      return tonumber(top) / tonumber(bottom)
    elseif c == "[" then
      local level = text:match("^%[(=*)%[", at)
      local start = level and at + #level + 2
      local stop, last = text:find("]" .. (level or "") .. "]", start or at, true)
      if not level or not stop then fail "value expected" end
      at = last + 1
      return (text:sub(start, stop - 1):gsub("^\n", ""))
    end
    local word, after = text:match("^([%a_][%w_%.]*)()", at)
    if word then
      if not constants[word] then fail("unknown word " .. word) end
      at = after
      return constants[word]()
    end
    return numeral()
  end

  take "return"
  local result = value()
  take ";"
  space()
  if at <= #text then fail "end expected" end
  return result
end

function serialization.deserialize(text)
  if type(text) ~= "string" then return nil, "not a string" end
  local ok, result = pcall(parse, text)
  if not ok then return nil, result end
  return result
end

return serialization
