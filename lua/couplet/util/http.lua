-- SPDX-License-Identifier: MIT
-- util.http: small things of HTTP.
--
--   urlencode(s) urldecode(s)                    RFC 3986: everything but unreserved characters
--   formencode(map | array of {name=, value=}) formdecode(s) -> array with both forms of access; a string without "=" is decoded
--   contains_token(field, token) -> bool         "close, Upgrade"
--   normalize_path(path, is_directory?) -> path  one slash at the start, none (or one) at the end, "." and ".." resolved
--   parse_forwarded(header) -> array of { for =, by =, host =, proto = } | nil, message           RFC 7239
--   parse_params(header) -> value, map           "text/html; charset=utf-8"

local http = {}

function http.urlencode(s)
  return s and (tostring(s):gsub("[^%w%-._~]", function(c) return ("%%%02x"):format(c:byte()) end))
end

function http.urldecode(s)
  return s and (s:gsub("%%(%x%x)", function(x) return string.char(tonumber(x, 16)) end))
end

local function encode_form(s)
  return (tostring(s):gsub("[^%w%-._~ ]", function(c) return ("%%%02x"):format(c:byte()) end):gsub(" ", "+"))
end

local function decode_form(s)
  return http.urldecode((s:gsub("+", " ")))
end

function http.formencode(form)
  local out = {}
  if form[1] ~= nil then
    for _, field in ipairs(form) do out[#out + 1] = encode_form(field.name) .. "=" .. encode_form(field.value) end
  else
    local names = {}
    for name in pairs(form) do names[#names + 1] = name end
    table.sort(names, function(a, b) return tostring(a) < tostring(b) end)
    for _, name in ipairs(names) do out[#out + 1] = encode_form(name) .. "=" .. encode_form(form[name]) end
  end
  return table.concat(out, "&")
end

function http.formdecode(s)
  if not s:find("=", 1, true) then return decode_form(s) end
  local out = {}
  for name, value in s:gmatch "([^=&]*)=([^&]*)" do
    name, value = decode_form(name), decode_form(value)
    out[#out + 1] = { name = name, value = value }
    out[name] = value
  end
  return out
end

function http.contains_token(field, token)
  field = "," .. field:gsub("[ \t]", ""):lower() .. ","
  return field:find("," .. token:lower() .. ",", 1, true) ~= nil
end

function http.normalize_path(path, is_directory)
  local out = {}
  for step in path:gmatch "[^/]+" do
    if step == ".." then
      out[#out] = nil
    elseif step ~= "." then
      out[#out + 1] = step
    end
  end
  path = "/" .. table.concat(out, "/")
  if is_directory and path ~= "/" then path = path .. "/" end
  return path
end

-- name=value or name="quoted \" value" from position `at` on
local function parameter(s, at)
  local name, next_at = s:match("^%s*([%w!#$%%&'*+.^_`|~-]+)%s*=%s*()", at)
  if not name then return nil end
  if s:sub(next_at, next_at) == '"' then
    local i = next_at + 1
    while true do
      local c = s:sub(i, i)
      if c == "" then return nil end
      if c == '"' then break end
      i = i + (c == "\\" and 2 or 1)
    end
    return name:lower(), s:sub(next_at + 1, i - 1):gsub("\\(.)", "%1"), s:match("^%s*()", i + 1)
  end
  local value, after = s:match("^([^%s;,]*)%s*()", next_at)
  return name:lower(), value, after
end

function http.parse_forwarded(s)
  if type(s) ~= "string" then return nil, "no text" end
  local out, current, at = {}, {}, 1
  while at <= #s do
    local name, value, after = parameter(s, at)
    if not name then return nil, "no valid Forwarded header" end
    current[name] = value
    local separator = s:sub(after, after)
    if separator == "," then
      out[#out + 1], current = current, {}
    elseif separator ~= ";" and separator ~= "" then
      return nil, "no valid Forwarded header"
    end
    at = after + 1
  end
  out[#out + 1] = current
  return out
end

function http.parse_params(s)
  local value, at = s:match "^%s*([^;]-)%s*;()"
  if not value then return s:match "^%s*(.-)%s*$", {} end
  local out = {}
  while at <= #s do
    local name, v, after = parameter(s, at)
    if not name then break end
    out[name] = v
    at = after + 1
  end
  return value, out
end

return http
