-- SPDX-License-Identifier: MIT
-- util.xtemplate: text from a stanza: render("{@from|default{someone}} says {body#}", stanza, escape?, filters?) -> text
--
-- A block is a path as stanza:find takes it ({ns}name/child#, @attr), then filters: |name or |name(args) or |name{args}.
-- Filters of the caller come first: filters[name](value, args, root). Built in:
--   upper lower  sub(from,to)  len  default(text)  round  esc  tostring
--   each(path){text}    for each child that path's last step names, text with the child as root
--   first  last         of a stanza's children        find(path){…}  and(text)  or(text)
-- Text goes through escape; the result of each() does not again.

local escape_xml = require "couplet.stanza".xml_escape
local st = require "couplet.stanza"

local function unwrap(arg) return arg and arg:sub(2, -2) end

-- Splits "path|f(a){b}|g" at the bars outside of brackets.
local function split(block)
  local parts, depth, from = {}, 0, 1
  for at, c in block:gmatch "()([{}()|])" do
    if c == "{" or c == "(" then depth = depth + 1
    elseif c == "}" or c == ")" then depth = depth - 1
    elseif depth == 0 then
      parts[#parts + 1] = block:sub(from, at - 1)
      from = at + 1
    end
  end
  parts[#parts + 1] = block:sub(from)
  return parts
end

local render

-- The elements a path like "field" or "{ns}field" or "x/field" leads to.
local function elements(root, path)
  local before, last = path:match "^(.*)/([^/{}]*)$"
  if not before then
    before, last = path:match "^(.*[^/])/({.*)$"
    if not before then before, last = "", path end
  end
  local parent = before ~= "" and root:find(before) or root
  if not st.is_stanza(parent) then return function() end end
  local ns, name = last:match "^{([^}]*)}(.*)$"
  name = name or last
  if name == "" then name = nil end
  return parent:childtags(name, ns)
end

local built_in = {}

function built_in.default(value, arg) return (value == nil or value == "") and arg or value end
function built_in.lower(value) return value and tostring(value):lower() end
function built_in.upper(value) return value and tostring(value):upper() end
function built_in.len(value) return value and tostring(#value) end
function built_in.esc(value) return value and escape_xml(tostring(value)) end
built_in.tostring = function(value) return value ~= nil and tostring(value) or nil end

function built_in.sub(value, arg)
  local from, to = (arg or ""):match "^%s*(-?%d+)%s*,?%s*(-?%d*)"
  return value and tostring(value):sub(math.tointeger(from) or 1, math.tointeger(to) or -1)
end

function built_in.round(value)
  local n = tonumber(value)
  return n and tostring(math.floor(n + 0.5))
end

built_in["and"] = function(value, arg) return value and arg or nil end
built_in["or"] = function(value, arg) return value or arg end

local function evaluate(block, root, escape, filters)
  local parts = split(block)
  local path = parts[1]
  local value, raw
  if path == "" or path == "." then value = root
  elseif path == "#" then value = root:get_text()
  else value = root:find(path) end
  for i = 2, #parts do
    local name, first, second = parts[i]:match "^([%w_]+)(%b())(%b{})$"
    if not name then name, first = parts[i]:match "^([%w_]+)(%b())$" end
    if not name then name, second = parts[i]:match "^([%w_]+)(%b{})$" end
    if not name then name = parts[i]:match "^([%w_]+)$" end
    if not name then return nil end
    first, second = unwrap(first), unwrap(second)
    local own = filters and filters[name]
    if own then
      value, raw = own(value, first or second, root)
    elseif name == "each" then
      local out = {}
      if st.is_stanza(value) then
        for child in elements(value, first or "") do out[#out + 1] = render(second or "", child, escape, filters) end
      end
      value, raw = table.concat(out), true
    elseif name == "find" then
      value = st.is_stanza(value) and value:find(first or second) or nil
    elseif name == "first" or name == "last" then
      value = st.is_stanza(value) and value.tags[name == "first" and 1 or #value.tags] or nil
    elseif built_in[name] then
      value = built_in[name](value, first or second)
    end
  end
  if value == nil then return "" end
  if st.is_stanza(value) then value = value:get_text() or "" end
  value = tostring(value)
  return raw and value or escape(value)
end

function render(template, root, escape, filters)
  escape = escape or escape_xml
  return (template:gsub("%b{}", function(block) return evaluate(block:sub(2, -2), root, escape, filters) end))
end

return { render = render }
