-- SPDX-License-Identifier: MIT
-- What `require "socket.url"` gives where LuaSocket is not installed (RFC 3986).
--
--   parse(url, default?) -> { scheme, authority, userinfo, user, password, host, port, path, params, query, fragment } | nil,
--   message
--   build(parts) -> url    absolute(base, relative) -> url    escape(s) unescape(s)
--   parse_path(path) -> steps with is_absolute, is_directory    build_path(steps, unsafe?)

local url = { _VERSION = "Couplet's URLs" }

function url.escape(s)
  return (s:gsub("[^A-Za-z0-9_]", function(c) return ("%%%02x"):format(c:byte()) end))
end

function url.unescape(s)
  return (s:gsub("%%(%x%x)", function(x) return string.char(tonumber(x, 16)) end))
end

local function escape_step(s)
  return (s:gsub("[^%w%-_.!~*'():@&=+$,]", function(c) return ("%%%02x"):format(c:byte()) end))
end

local function parse_authority(out, authority)
  out.authority = authority
  local userinfo, rest = authority:match "^(.-)@(.*)$"
  rest = rest or authority
  local host, port = rest:match "^(.-):(%d*)$"
  if host and (not host:find ":" or host:find "^%[.*%]$") then
    out.port = port ~= "" and port or nil
  else
    host = rest
  end
  if host ~= "" then out.host = host:match "^%[(.*)%]$" or host end
  if userinfo then
    out.userinfo = userinfo
    local user, password = userinfo:match "^(.-):(.*)$"
    out.user, out.password = user or userinfo, password
  end
end

function url.parse(text, default)
  local out = {}
  for k, v in pairs(default or {}) do out[k] = v end
  if not text or text == "" then return nil, "invalid url" end
  local rest = text:gsub("#(.*)$", function(f) out.fragment = f return "" end)
  local part = rest:match "^([%w][%w+.-]*):"
  if part then out.scheme, rest = part, rest:sub(#part + 2) end
  part = rest:match "^//([^/?]*)"
  if part then
    rest = rest:sub(#part + 3)
    parse_authority(out, part)
  end
  rest = rest:gsub("%?(.*)$", function(q) out.query = q return "" end)
  rest = rest:gsub(";(.*)$", function(p) out.params = p return "" end)
  if rest ~= "" then out.path = rest end
  return out
end

function url.build(parts)
  local out = parts.path or ""
  if parts.params then out = out .. ";" .. parts.params end
  if parts.query then out = out .. "?" .. parts.query end
  local authority = parts.authority
  if parts.host then
    authority = parts.host:find(":", 1, true) and "[" .. parts.host .. "]" or parts.host
    if parts.port then authority = authority .. ":" .. parts.port end
    local userinfo = parts.userinfo
    if parts.user then userinfo = parts.password and parts.user .. ":" .. parts.password or parts.user end
    if userinfo then authority = userinfo .. "@" .. authority end
  end
  if authority then out = "//" .. authority .. out end
  if parts.scheme then out = parts.scheme .. ":" .. out end
  if parts.fragment then out = out .. "#" .. parts.fragment end
  return out
end

-- RFC 3986 §5.2.4
local function remove_dots(path)
  local out = {}
  local absolute = path:find "^/"
  local directory = path:find "/%.?%.?$" or path:find "^%.%.?$"
  for step in path:gmatch "[^/]+" do
    if step == ".." then out[#out] = nil elseif step ~= "." then out[#out + 1] = step end
  end
  path = (absolute and "/" or "") .. table.concat(out, "/")
  if directory and #out > 0 then path = path .. "/" end
  return path
end

function url.absolute(base, relative)
  local b = type(base) == "table" and base or url.parse(base)
  local r = type(relative) == "table" and relative or url.parse(relative)
  if not b then return relative end
  if not r then return type(base) == "string" and base or url.build(base) end
  if r.scheme then return type(relative) == "string" and relative or url.build(r) end
  local out = { scheme = b.scheme, fragment = r.fragment }
  if r.authority then
    out.authority, out.path, out.params, out.query = r.authority, r.path, r.params, r.query
  else
    out.authority = b.authority
    if not r.path then
      out.path, out.params, out.query = b.path, r.params or b.params, r.query or b.query
    else
      local path = r.path
      if not path:find "^/" then path = (b.path and b.path:match "^(.*/)" or "/") .. path end
      out.path, out.params, out.query = remove_dots(path), r.params, r.query
    end
  end
  return url.build(out)
end

function url.parse_path(path)
  path = path or ""
  local out = {}
  for step in path:gmatch "[^/]+" do out[#out + 1] = url.unescape(step) end
  if path:find "^/" then out.is_absolute = 1 end
  if path:find "/$" then out.is_directory = 1 end
  return out
end

function url.build_path(steps, unsafe)
  local out = {}
  for i, step in ipairs(steps) do out[i] = unsafe and step or escape_step(step) end
  local path = table.concat(out, "/")
  if #out > 0 and steps.is_directory then path = path .. "/" end
  if steps.is_absolute then path = "/" .. path end
  return path
end

return url
