-- SPDX-License-Identifier: MIT
-- match.lua: conditions a handler may name when it hooks a stanza event, checked before the handler is called.
--
--   compile{ xmlns =, name =, type =, has = "{ns}el" | "el", from_local = bool } -> function(event data) -> bool
--
-- xmlns and name look at the stanza's first child element, type at its type attribute ("" stands for none; a list means
-- any of them), has at any child.

local native = require "couplet.core".stanza
local attr_of = native.attr

local match = {}

local known = { xmlns = true, name = true, type = true, has = true, from_local = true }

local function one_of(want)
  if type(want) ~= "table" then return function(v) return v == want end end
  local set = {}
  for _, v in ipairs(want) do set[v] = true end
  return function(v) return set[v] == true end
end

function match.compile(m)
  if type(m) == "function" then return m end
  for key in pairs(m) do
    if not known[key] then error("unknown match condition: " .. tostring(key), 3) end
  end
  local xmlns, name = m.xmlns and one_of(m.xmlns), m.name and one_of(m.name)
  local kind, has, from_local = m.type and one_of(m.type), m.has, m.from_local
  return function(data)
    local stanza = data and data.stanza
    if not stanza then return false end
    if kind and not kind(attr_of(stanza, "type") or "") then return false end
    if xmlns or name then
      local child = stanza.tags[1]
      if not child then return false end
      if xmlns and not xmlns(attr_of(child, "xmlns") or attr_of(stanza, "xmlns") or "jabber:client") then return false end
      if name and not name(child.name) then return false end
    end
    if has and not stanza:has(has) then return false end
    if from_local ~= nil then
      local origin = data.origin
      local is = origin ~= nil and (origin.type == "c2s" or origin.type == "local" or origin.type == "component")
      if is ~= from_local then return false end
    end
    return true
  end
end

return match
