-- SPDX-License-Identifier: MIT
-- util.interpolation: values into text.
--
--   new(pattern?, escape?, filters?) -> render(template, values)
--
-- pattern finds the blocks ("%b{}"; its first and last character are taken off). In a block:
--   name, a.b       the value, escaped          name!          not escaped
--   name?text       the value, or else text     name&text      text if there is a value     name~text   text if there is none
--   list#text       text for each element, with {item} and {idx}             map%text   the same for each pair
--   name|filter     filters[filter](value); |filter{arg} gives it a second argument; several may follow each other
-- A block that starts with no name, or whose value is nil, stays as it is / becomes "".

local NAME = "^([%a_][%w_.]*)(%p?)()"
local FILTER = "^([%a_][%w_]*)(%b{})(%p?)()"

local function as_is(s) return s end

local function lookup(values, name)
  local value = values[name]
  if value ~= nil or not name:find(".", 2, true) then return value end
  value = values
  for word in name:gmatch "[^.]+" do
    if type(value) ~= "table" then
      local ok, inner = pcall(function() return value[word] end)       -- stanzas, strings
      value = ok and inner or nil
    else
      value = value[word]
    end
    if value == nil then return nil end
  end
  return value
end

-- The filters from position `at` on -> value, what follows them, position
local function apply(block, at, value, filters)
  local option = "|"
  while option == "|" do
    local name, arg, next_option, next_at = block:match(FILTER, at)
    if not name then
      name, next_option, next_at = block:match(NAME, at)
    end
    if not name then return value, "", at end
    local fn = filters[name]
    if fn and value ~= nil then value = fn(value, arg and arg:sub(2, -2)) end
    option, at = next_option, next_at
  end
  return value, option, at
end

local function new(pattern, escape, filters)
  pattern, escape, filters = pattern or "%b{}", escape or as_is, filters or {}
  local render

  local function each(iterate, text, list, values)
    local out = {}
    local scope = setmetatable({}, { __index = values })
    for index, item in iterate(list) do
      scope.idx, scope.item = index, item
      out[#out + 1] = render(text, scope)
    end
    return table.concat(out)
  end

  local function fill(block, values)
    block = block:sub(2, -2)
    local name, option, at = block:match(NAME)
    if not name then return nil end
    local value = lookup(values, name)
    if option == "|" then value, option, at = apply(block, at, value, filters) end
    local text = block:sub(at)
    if option == "#" or option == "%" then
      if type(value) ~= "table" then return "" end
      return each(option == "#" and ipairs or pairs, text, value, values)
    elseif option == "&" then
      return value and render(text, values) or ""
    elseif option == "~" then
      return value and "" or render(text, values)
    elseif option == "?" and not value then
      return render(text, values)
    elseif value == nil then
      return ""
    end
    value = tostring(value)
    return option == "!" and value or escape(value)
  end

  function render(template, values)
    return (template:gsub(pattern, function(block) return fill(block, values) end))
  end
  return render
end

return { new = new }
