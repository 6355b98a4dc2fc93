-- SPDX-License-Identifier: MIT
-- vcard/convert: one card as clients of two ages write it: vcard-temp (XEP-0054) and vCard4 (XEP-0292 §8). Photos in the card
-- itself are apart (they are avatars). There is no vCard4 for LABEL, MAILER, CLASS, PHONETIC and cards inside of cards.
--
--   convert.to4(vCard) -> <vcard/>       convert.to_temp(vcard) -> <vCard/>      the other's, as a new element

local st = require "util.stanza"

local convert = {}

local UNKNOWN = "application/octet-stream"
local TEMP, FOUR = "vcard-temp", "urn:ietf:params:xml:ns:vcard-4.0"

-- vcard-temp, vCard4, kind of value, what stands before the value in vCard4. Of two with one name there, the first is what it
-- becomes on the way back.
local simple = {
  { "FN", "fn", "text" }, { "NICKNAME", "nickname", "text" }, { "BDAY", "bday", "date" }, { "JABBERID", "impp", "uri", "xmpp:" },
  { "TZ", "tz", "text" }, { "TITLE", "title", "text" }, { "ROLE", "role", "text" }, { "DESC", "note", "text" },
  { "NOTE", "note", "text" }, { "REV", "rev", "timestamp" }, { "UID", "uid", "uri" }, { "URL", "url", "uri" },
  { "PRODID", "prodid", "text" },
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

-- … in the card itself (BINVAL, as a data: URI) or elsewhere (EXTVAL)
local media = { { "LOGO", "logo" }, { "SOUND", "sound" }, { "PHOTO", "photo", elsewhere = true } }

local from_temp, from_four = {}, {}
for kind, rows in pairs { simple = simple, structured = structured, list = lists, medium = media } do
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
    local words, preferred = {}, tag:get_child "PREF" ~= nil
    for _, word in ipairs(tag.tags) do
      if #word == 0 and word.name:match "^%u+$" and word.name ~= row[3][1] and word.name ~= "PREF" then
        words[#words + 1] = word.name:lower()
      end
    end
    if words[1] or preferred then out:tag "parameters" end
    if words[1] then
      out:tag "type"
      for _, word in ipairs(words) do out:text_tag("text", word) end
      out:up()
    end
    if preferred then out:tag("pref"):text_tag("integer", "1"):up() end
    if words[1] or preferred then out:up() end
  elseif row.sort then
    out:tag("parameters"):tag("sort-as"):text_tag("text", row.sort):up():up()
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

-- TYPE is left out where it is not known.
function to4.medium(out, row, tag)
  local uri, data = text_of(tag, "EXTVAL"), text_of(tag, "BINVAL")
  if not uri and data and not row.elsewhere then
    local kind = text_of(tag, "TYPE")
    uri = ("data:%s;base64,%s"):format(kind and kind:match "^[%w.+-]+/[%w.+-]+$" or UNKNOWN, (data:gsub("%s+", "")))
  end
  if uri then out:tag(row[2]):text_tag("uri", uri):up() end
end

-- What has parts here that are something else there.
local special = {}

function special.GEO(out, tag)
  local lat, lon = text_of(tag, "LAT"), text_of(tag, "LON")
  if lat and lon then out:tag("geo"):text_tag("uri", ("geo:%s,%s"):format(lat, lon)):up() end
end

function special.KEY(out, tag)
  local kind, key = text_of(tag, "TYPE"), text_of(tag, "CRED")
  if not key then return end
  out:tag "key"
  if kind then out:tag("parameters"):tag("mediatype"):text_tag("text", kind):up():up() end
  out:text_tag("text", key):up()
end

function special.AGENT(out, tag)
  local uri = text_of(tag, "EXTVAL")
  if uri then
    out:tag("related"):tag("parameters"):tag("type"):text_tag("text", "agent"):up():up():text_tag("uri", uri):up()
  end
end

function convert.to4(card)
  local out = st.stanza("vcard", { xmlns = FOUR })
  local sort = text_of(card, "SORT-STRING")
  for _, tag in ipairs(card.tags) do
    local known = from_temp[tag.name]
    if known then
      local row = known.row
      if sort and tag.name == "N" then row = setmetatable({ sort = sort }, { __index = row }) end
      to4[known.kind](out, row, tag)
    elseif special[tag.name] then
      special[tag.name](out, tag)
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
  local parameters = tag:get_child "parameters"
  local kinds = row.typed and parameters and parameters:get_child "type"
  if row.typed and parameters and parameters:get_child "pref" then out:tag("PREF"):up() end
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

function to_temp.medium(out, row, tag)
  local uri = text_of(tag, "uri")
  local kind, data = (uri or ""):match "^data:([^;,]*);base64,(.*)$"
  if not uri or row.elsewhere and uri:find "^data:" then return end
  out:tag(row[1])
  if data then
    if kind ~= "" and kind ~= UNKNOWN then out:text_tag("TYPE", kind) end
    out:text_tag("BINVAL", data):up()
  else
    out:text_tag("EXTVAL", uri):up()
  end
end

local special_four = {}

function special_four.geo(out, tag)
  local lat, lon = (text_of(tag, "uri") or ""):match "^geo:([^,;]+),([^,;]+)"
  if lat then out:tag("GEO"):text_tag("LAT", lat):text_tag("LON", lon):up() end
end

function special_four.key(out, tag)
  local key, kind = text_of(tag, "text"), tag:find "parameters/mediatype/text#"
  local uri = text_of(tag, "uri")
  local in_uri, data = (uri or ""):match "^data:([^;,]*);base64,(.*)$"
  key, kind = key or data or uri, kind or in_uri
  if not key then return end
  out:tag "KEY"
  if kind and kind ~= "" then out:text_tag("TYPE", kind) end
  out:text_tag("CRED", key):up()
end

function special_four.related(out, tag)
  local uri = text_of(tag, "uri")
  if uri and tag:find "parameters/type/text#" == "agent" then out:tag("AGENT"):text_tag("EXTVAL", uri):up() end
end

function convert.to_temp(card)
  local out = st.stanza("vCard", { xmlns = TEMP })
  for _, tag in ipairs(card.tags) do
    local known = from_four[tag.name]
    if known then
      to_temp[known.kind](out, known.row, tag)
      local sort = tag.name == "n" and tag:find "parameters/sort-as/text#"
      if sort and sort ~= "" then out:text_tag("SORT-STRING", sort) end
    elseif special_four[tag.name] then
      special_four[tag.name](out, tag)
    end
  end
  return out
end

return convert
