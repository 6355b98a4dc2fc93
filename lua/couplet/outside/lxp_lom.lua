-- SPDX-License-Identifier: MIT
-- What `require "lxp.lom"` gives where LuaExpat is not installed: parse(text) -> { tag =, attr = { [i] = name, [name] = value },
-- … children } | nil, message

local parse = require "couplet.util.xml".parse

local function convert(element, outer)
  local out = { tag = element.name, attr = {} }
  local names = {}
  for name, value in pairs(element.attr) do
    if name ~= "xmlns" or value ~= outer then
      names[#names + 1] = name
      out.attr[name] = value
    end
  end
  table.sort(names)
  for i, name in ipairs(names) do out.attr[i] = name end
  for i = 1, #element do
    local child = element[i]
    out[i] = type(child) == "string" and child or convert(child, element.attr.xmlns or outer)
  end
  return out
end

return {
  parse = function(text)
    if type(text) == "function" then
      local parts = {}
      for part in text do parts[#parts + 1] = part end
      text = table.concat(parts)
    end
    local element, err = parse(text)
    if not element then return nil, err end
    return convert(element)
  end,
}
