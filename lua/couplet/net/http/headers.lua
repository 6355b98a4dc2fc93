-- SPDX-License-Identifier: MIT
-- Header fields by name in any case, "-" or "_" alike: headers.content_type == headers["Content-Type"].
--
--   new(map?) -> headers       pairs() gives names as content_type; several fields of one name are joined by ", "
--   add(headers, name, value)   wire(name) -> "Content-Type"

local headers = {}

local function fold(name)
  return type(name) == "string" and name:lower():gsub("-", "_") or name
end

local mt = {
  __index = function(h, name)
    local folded = fold(name)
    if folded ~= name then return rawget(h, folded) end
  end,
  __newindex = function(h, name, value) rawset(h, fold(name), value) end,
}

function headers.new(map)
  local h = setmetatable({}, mt)
  for name, value in pairs(map or {}) do h[name] = value end
  return h
end

function headers.add(h, name, value)
  local old = h[name]
  h[name] = old and old .. ", " .. value or value
end

function headers.wire(name)
  return (name:gsub("_", "-"):gsub("%f[%a]%a", string.upper))
end

return headers
