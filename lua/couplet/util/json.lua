-- SPDX-License-Identifier: MIT
-- util.json: JSON (RFC 8259).
--
--   encode(value) -> text        tables with keys 1..n become arrays, all others objects; an empty table is {}
--   encode_ordered(value)        object keys sorted
--   encode_array(list)           always an array
--   decode(text) -> value | nil, message         null becomes json.null; depth and numbers are bounded
--   null                         a light value that encodes as null
--   json.array(list)             marks a table as an array, empty or not. decode() marks the arrays it makes
--
-- Keys `__array` (a list) and `__hash` (a map, as { key, value, key, value … }) in one table describe tables with both parts.

local json = {}

local MAX_DEPTH = 200

local null = setmetatable({}, { __tostring = function() return "null" end, __metatable = "null",
  __newindex = function() error("json.null") end })
json.null = null

local array_mt = { __name = "json.array" }
function json.array(list) return setmetatable(list or {}, array_mt) end

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }
for i = 0, 31 do
  local c = string.char(i)
  escapes[c] = escapes[c] or ("\\u%04x"):format(i)
end
escapes["\127"] = "\\u007f"

local function quote(s)
  if s:find('[%c"\\\127]') then s = s:gsub('[%c"\\\127]', escapes) end
  return '"' .. s .. '"'
end

local function number(n)
  if n ~= n or n == math.huge or n == -math.huge then error("JSON has no " .. tostring(n), 0) end
  if math.type(n) == "integer" then return ("%d"):format(n) end
  local i = math.tointeger(n)
  if i and i > -1e15 and i < 1e15 then return ("%d"):format(i) end
  local short = ("%.14g"):format(n)
  return tonumber(short) == n and short or ("%.17g"):format(n)
end

local put

local function is_array(t)
  local n = 0
  for k in next, t do
    if math.type(k) ~= "integer" or k < 1 then return false end
    n = n + 1
  end
  return n > 0 and n == #t
end

local function put_array(out, t, depth, ordered)
  out[#out + 1] = "["
  for i = 1, #t do
    if i > 1 then out[#out + 1] = "," end
    put(out, t[i], depth, ordered)
  end
  out[#out + 1] = "]"
end

local function key_text(k)
  if type(k) == "string" then return k end
  if type(k) == "number" then return number(k) end
  error("JSON object keys are strings, not " .. type(k), 0)
end

local function put_object(out, t, depth, ordered)
  local keys, values = {}, {}
  for k, v in next, t do
    if k ~= "__hash" and k ~= "__array" then
      local name = key_text(k)
      keys[#keys + 1], values[name] = name, v
    end
  end
  for i = 1, #(t.__hash or {}), 2 do
    local name = key_text(t.__hash[i])
    keys[#keys + 1], values[name] = name, t.__hash[i + 1]
  end
  if ordered then table.sort(keys) end
  out[#out + 1] = "{"
  for i, name in ipairs(keys) do
    out[#out + 1] = (i > 1 and "," or "") .. quote(name) .. ":"
    put(out, values[name], depth, ordered)
  end
  if t.__array then
    out[#out + 1] = (#keys > 0 and "," or "") .. '"__array":'
    put_array(out, t.__array, depth, ordered)
  end
  out[#out + 1] = "}"
end

function put(out, v, depth, ordered)
  local kind = type(v)
  if v == nil or v == null then out[#out + 1] = "null"
  elseif kind == "string" then out[#out + 1] = quote(v)
  elseif kind == "number" then out[#out + 1] = number(v)
  elseif kind == "boolean" then out[#out + 1] = tostring(v)
  elseif kind == "table" then
    if depth >= MAX_DEPTH then error("JSON nested too deep, or a table inside itself", 0) end
    if getmetatable(v) == array_mt or rawget(v, "__hash") == nil and rawget(v, "__array") == nil and is_array(v) then
      put_array(out, v, depth + 1, ordered)
    elseif rawget(v, "__array") and next(v) == "__array" and next(v, "__array") == nil then
      put_array(out, v.__array, depth + 1, ordered)
    else
      put_object(out, v, depth + 1, ordered)
    end
  else error("JSON cannot hold a " .. kind, 0) end
end

local function encode(v, ordered)
  local out = {}
  put(out, v, 0, ordered)
  return table.concat(out)
end

function json.encode(v) return encode(v, false) end
function json.encode_ordered(v) return encode(v, true) end
function json.encode_array(list)
  local out = {}
  put_array(out, list, 1, false)
  return table.concat(out)
end

-- --- reading ---

local plain_escape = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }

local function fail(what, at)
  error({ json = ("%s at byte %d"):format(what, at) }, 0)
end

local function space(s, at)
  return s:match("^[ \t\r\n]*()", at)
end

local function read_string(s, at)       -- at: behind the opening quote
  local stop = s:match('^[^"\\%c]*"()', at)
  if stop then return s:sub(at, stop - 2), stop end
  local out = {}
  while true do
    local text, behind = s:match('^([^"\\%c]*)()', at)
    out[#out + 1] = text
    local c = s:sub(behind, behind)
    if c == '"' then return table.concat(out), behind + 1 end
    if c == "\127" then
      out[#out + 1], at = c, behind + 1
    elseif c ~= "\\" then
      fail(c == "" and "text that does not end" or "control character in a text", behind)
    else
      local e = s:sub(behind + 1, behind + 1)
      if plain_escape[e] then
        out[#out + 1], at = plain_escape[e], behind + 2
      elseif e == "u" then
        local hex = s:match("^%x%x%x%x", behind + 2) or fail("bad \\u", behind)
        local code = tonumber(hex, 16)
        at = behind + 6
        if code >= 0xd800 and code < 0xdc00 then
          local low = s:match("^\\u([dD][c-fC-F]%x%x)", at) or fail("half a surrogate pair", behind)
          code = 0x10000 + (code - 0xd800) * 0x400 + tonumber(low, 16) - 0xdc00
          at = at + 6
        elseif code >= 0xdc00 and code < 0xe000 then
          fail("half a surrogate pair", behind)
        end
        out[#out + 1] = utf8.char(code)
      else
        fail("bad escape", behind)
      end
    end
  end
end

local function read_number(s, at)
  local int, stop = s:match("^(%-?%d+)()", at)
  if not int or int:find("^%-?0%d") then fail("bad number", at) end
  local frac, stop2 = s:match("^(%.%d+)()", stop)
  local exp, stop3 = s:match("^([eE][+-]?%d+)()", stop2 or stop)
  return tonumber(int .. (frac or "") .. (exp or "")), stop3 or stop2 or stop
end

local read

local function read_array(s, at, depth)
  local list, n = setmetatable({}, array_mt), 0
  at = space(s, at)
  if s:sub(at, at) == "]" then return list, at + 1 end
  while true do
    n = n + 1
    list[n], at = read(s, at, depth)
    at = space(s, at)
    local c = s:sub(at, at)
    if c == "]" then return list, at + 1 end
    if c ~= "," then fail("expected , or ]", at) end
    at = at + 1
  end
end

local function read_object(s, at, depth)
  local map = {}
  at = space(s, at)
  if s:sub(at, at) == "}" then return map, at + 1 end
  while true do
    at = space(s, at)
    if s:sub(at, at) ~= '"' then fail("expected a key", at) end
    local key
    key, at = read_string(s, at + 1)
    at = space(s, at)
    if s:sub(at, at) ~= ":" then fail("expected :", at) end
    map[key], at = read(s, at + 1, depth)
    at = space(s, at)
    local c = s:sub(at, at)
    if c == "}" then return map, at + 1 end
    if c ~= "," then fail("expected , or }", at) end
    at = at + 1
  end
end

function read(s, at, depth)
  if depth > MAX_DEPTH then fail("nested too deep", at) end
  at = space(s, at)
  local c = s:sub(at, at)
  if c == "{" then return read_object(s, at + 1, depth + 1) end
  if c == "[" then return read_array(s, at + 1, depth + 1) end
  if c == '"' then return read_string(s, at + 1) end
  if c:find("[%-%d]") then return read_number(s, at) end
  local word = s:match("^%a+", at)
  if word == "true" then return true, at + 4 end
  if word == "false" then return false, at + 5 end
  if word == "null" then return null, at + 4 end
  fail(c == "" and "unexpected end" or "unexpected character", at)
end

function json.decode(text)
  if type(text) ~= "string" then return nil, "not a string" end
  if not utf8.len(text) then return nil, "not UTF-8" end
  local ok, value, at = pcall(read, text, 1, 0)
  if not ok then
    if type(value) == "table" and value.json then return nil, value.json end
    error(value, 0)
  end
  at = space(text, at)
  if at <= #text then return nil, "something behind the value at byte " .. at end
  return value
end

return json
