-- SPDX-License-Identifier: MIT
-- util.rsm: result sets, page by page (XEP-0059).
--
--   rsm.get(stanza)        -> { max =, before = id|true, after =, index = } of the <set/> in it, or nil
--   rsm.parse(set)         the same of the <set/> itself; also first, last, count of a result
--   rsm.generate{ … }      -> <set/>. first = id or { index =, "id" }

local st = require "couplet.stanza"

local rsm = { xmlns = "http://jabber.org/protocol/rsm" }

local MOST = 4294967295                -- xs:unsignedInt (§5); whoever asks for more means the last there is

local function number(text)
  local digits = text and text:match "^%s*(%d+)%s*$"
  return digits and math.tointeger(math.min(tonumber(digits), MOST)) or nil
end

local NUMBERS = { max = true, index = true, count = true }

function rsm.parse(set)
  local out = {}
  for tag in set:childtags() do
    local name, text = tag.name, tag:get_text()
    if NUMBERS[name] then
      out[name] = number(text)
    elseif name == "before" then
      out.before = text and text ~= "" and text or true       -- §2.5: an empty one asks for the last page
    elseif name == "after" or name == "last" then
      out[name] = text
    elseif name == "first" then
      out.first = text and { index = number(tag.attr.index), text } or nil
    end
  end
  return out
end

function rsm.get(stanza)
  local set = stanza:get_child("set", rsm.xmlns)
  return set and rsm.parse(set) or nil
end

function rsm.generate(t)
  local set = st.stanza("set", { xmlns = rsm.xmlns })
  for _, name in ipairs{ "max", "after", "before", "index", "first", "last", "count" } do
    local value = t[name]
    if name == "first" and type(value) == "table" then
      set:tag("first", { index = value.index and ("%d"):format(value.index) }):text(value[1]):up()
    elseif value == true then
      set:tag(name):up()
    elseif value then
      set:text_tag(name, NUMBERS[name] and ("%d"):format(value) or tostring(value))
    end
  end
  return set
end

return rsm
