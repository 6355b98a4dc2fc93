-- SPDX-License-Identifier: MIT
-- util.template: stanzas from a text with holes: template[[<message to="{to}"><body>{text}</body></message>]].
--
--   template(xml) -> t         t.apply(values), or t(values): a new stanza with {name} in texts and attributes filled in.
--                              Raises if the text is no XML. Elements whose only content is a hole without value stay empty
-- A value that is a stanza takes the place of the hole; other values are their tostring.

local st = require "couplet.stanza"
local parse = require "couplet.util.xml".parse

local HOLE = "{([%w_.:-]+)}"

local function fill(text, values)
  return (text:gsub(HOLE, function(name)
    local value = values[name]
    return value == nil and "" or tostring(value)
  end))
end

local function copy(from, into, values)
  for i = 1, #from do
    local child = from[i]
    if type(child) == "string" then
      local name = child:match("^" .. HOLE .. "$")
      local value = name and values[name]
      if st.is_stanza(value) then into:add_child(value) else into:text(fill(child, values)) end
    else
      local attr = {}
      for k, v in pairs(child.attr) do attr[k] = fill(v, values) end
      into:tag(child.name, attr)
      copy(child, into, values)
      into:up()
    end
  end
end

local mt = { __call = function(self, values) return self.apply(values) end, __tostring = function(self) return self.text end }

local function template(text)
  local parsed, err = parse(text:match "^%s*(.-)%s*$")
  if not parsed then error("template: " .. tostring(err), 2) end
  local function apply(values)
    values = values or {}
    local attr = {}
    for k, v in pairs(parsed.attr) do attr[k] = fill(v, values) end
    local out = st.stanza(parsed.name, attr)
    copy(parsed, out, values)
    return out
  end
  return setmetatable({ text = text, apply = apply }, mt)
end

return setmetatable({ new = template }, { __call = function(_, text) return template(text) end })
