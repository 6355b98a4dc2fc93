-- SPDX-License-Identifier: MIT
-- vcard/convert: one card as clients of two ages write it: vcard-temp (XEP-0054) and vCard4 (XEP-0292). Pictures are apart.
--
--   convert.to4(vCard) -> <vcard/>       convert.to_temp(vcard) -> <vCard/>      the other's, as a new element

local st = require "util.stanza"

local convert = {}

local TEMP, FOUR = "vcard-temp", "urn:ietf:params:xml:ns:vcard-4.0"

-- vcard-temp, vCard4, kind of value, what stands before the value in vCard4. Of two with one name there, the first is what it
-- becomes on the way back.
local simple = {
  { "FN", "fn", "text" }, { "NICKNAME", "nickname", "text" }, { "BDAY", "bday", "date" }, { "JABBERID", "impp", "uri", "xmpp:" },
  { "TZ", "tz", "text" }, { "TITLE", "title", "text" }, { "ROLE", "role", "text" }, { "DESC", "note", "text" },
  { "NOTE", "note", "text" }, { "REV", "rev", "timestamp" }, { "UID", "uid", "uri" }, { "URL", "url", "uri" },
}
-- … of several parts: the parts here and there; typed: with words like HOME and CELL
local structured = {
  { "N", "n", { "FAMILY", "GIVEN", "MIDDLE", "PREFIX", "SUFFIX" }, { "surname", "given", "additional", "prefix", "suffix" } },
  { "ADR", "adr", { "POBOX", "EXTADD", "STREET", "LOCALITY", "REGION", "PCODE", "CTRY" },
    { "pobox", "ext", "street", "locality", "region", "code", "country" }, typed = true },
  { "TEL", "tel", { "NUMBER" }, { "text" }, typed = true },
  { "EMAIL", "email", { "USERID" }, { "text" }, typed = true },
}
-- … of any number of texts; more: the name of the second and later ones
local lists = {
  { "ORG", "org", "ORGNAME", more = "ORGUNIT" },
  { "CATEGORIES", "categories", "KEYWORD" },
}

local from_temp, from_four = {}, {}
for kind, rows in pairs { simple = simple, structured = structured, list = lists } do
  for _, row in ipairs(rows) do
    from_temp[row[1]] = { kind = kind, row = row }
    from_four[row[2]] = from_four[row[2]] or { kind = kind, row = row }
  end
end

local function text_of(tag, name)
  local text = tag:get_child_text(name)
  return text and text ~= "" and text or nil
end

local to4, to_temp = {}, {}

function to4.simple(out, row, tag)
  local text = tag:get_text()
  if text and text ~= "" then out:tag(row[2]):text_tag(row[3], (row[4] or "") .. text):up() end
end

function to4.structured(out, row, tag)
  out:tag(row[2])
  if row.typed then
    local words = {}
    for _, word in ipairs(tag.tags) do
      if #word == 0 and word.name:match "^%u+$" and word.name ~= row[3][1] then words[#words + 1] = word.name:lower() end
    end
    if words[1] then
      out:tag("parameters"):tag("type")
      for _, word in ipairs(words) do out:text_tag("text", word) end
      out:up():up()
    end
  end
  for i, name in ipairs(row[3]) do
    local text = text_of(tag, name)
    if text then out:text_tag(row[4][i], text) end
  end
  out:up()
end

function to4.list(out, row, tag)
  out:tag(row[2])
  for _, part in ipairs(tag.tags) do
    local text = (part.name == row[3] or part.name == row.more) and part:get_text()
    if text and text ~= "" then out:text_tag("text", text) end
  end
  out:up()
end

function convert.to4(card)
  local out = st.stanza("vcard", { xmlns = FOUR })
  for _, tag in ipairs(card.tags) do
    local known = from_temp[tag.name]
    if known then
      to4[known.kind](out, known.row, tag)
    elseif tag.name == "GEO" and text_of(tag, "LAT") and text_of(tag, "LON") then
      out:tag("geo"):text_tag("uri", ("geo:%s,%s"):format(text_of(tag, "LAT"), text_of(tag, "LON"))):up()
    end
  end
  return out
end

-- The value, whatever its kind.
local function value_of(tag)
  for _, child in ipairs(tag.tags) do
    if child.name ~= "parameters" then return child:get_text() end
  end
end

function to_temp.simple(out, row, tag)
  local text = value_of(tag)
  if text and row[4] and text:sub(1, #row[4]) == row[4] then text = text:sub(#row[4] + 1) elseif row[4] then return end
  if text then out:text_tag(row[1], text) end
end

function to_temp.structured(out, row, tag)
  out:tag(row[1])
  local kinds = row.typed and tag:get_child "parameters"
  kinds = kinds and kinds:get_child "type"
  for _, word in ipairs(kinds and kinds.tags or {}) do
    local name = (word:get_text() or ""):upper()
    if name:match "^%u+$" and #name < 20 then out:tag(name):up() end
  end
  for i, name in ipairs(row[4]) do
    local text = text_of(tag, name)
    if not text and row[2] == "tel" then text = (text_of(tag, "uri") or ""):match "^tel:(.+)" end
    if text then out:text_tag(row[3][i], text) end
  end
  out:up()
end

function to_temp.list(out, row, tag)
  out:tag(row[1])
  local first = true
  for text in tag:childtags "text" do
    out:text_tag(not first and row.more or row[3], text:get_text() or "")
    first = false
  end
  out:up()
end

function convert.to_temp(card)
  local out = st.stanza("vCard", { xmlns = TEMP })
  for _, tag in ipairs(card.tags) do
    local known = from_four[tag.name]
    if known then
      to_temp[known.kind](out, known.row, tag)
    elseif tag.name == "geo" then
      local lat, lon = (text_of(tag, "uri") or ""):match "^geo:([^,;]+),([^,;]+)"
      if lat then out:tag("GEO"):text_tag("LAT", lat):text_tag("LON", lon):up() end
    end
  end
  return out
end

return convert
