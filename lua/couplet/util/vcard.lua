-- SPDX-License-Identifier: MIT
-- util.vcard: vCards between text (RFC 2426), XEP-0054 and XEP-0292 elements, and tables.
--
--   from_text(text) -> array of cards          a card is an array of items { name = "TEL", TYPE = { "home" }, "+49…" }
--   to_text(card) -> text                      from_xep54(element) -> card (or array of them)    to_xep54(card) -> element
--   to_vcard4(card) -> element                 RFC 6351

local st = require "couplet.stanza"

local vcard = {}

-- XEP-0054: the children that carry the parts of a structured value, and those that are types.
local parts = {
  N = { "FAMILY", "GIVEN", "MIDDLE", "PREFIX", "SUFFIX" },
  ADR = { "POBOX", "EXTADD", "STREET", "LOCALITY", "REGION", "PCODE", "CTRY" },
  GEO = { "LAT", "LON" },
  ORG = { "ORGNAME", "ORGUNIT" },
}
local value_of = { TEL = "NUMBER", EMAIL = "USERID", CATEGORIES = "KEYWORD", LABEL = "LINE" }
local binary = { PHOTO = true, LOGO = true, SOUND = true, KEY = true }
local types = {
  ADR = "HOME WORK POSTAL PARCEL DOM INTL PREF", LABEL = "HOME WORK POSTAL PARCEL DOM INTL PREF",
  TEL = "HOME WORK VOICE FAX PAGER MSG CELL VIDEO BBS MODEM ISDN PCS PREF", EMAIL = "HOME WORK INTERNET PREF X400",
}
for name, list in pairs(types) do
  local set = {}
  for word in list:gmatch "%S+" do set[word] = true end
  types[name] = set
end

-- --- text ---

local escapes = { ["\\n"] = "\n", ["\\N"] = "\n", ["\\,"] = ",", ["\\;"] = ";", ["\\\\"] = "\\", ["\\:"] = ":" }

local function unescape(s) return (s:gsub("\\.", escapes)) end

local function escape(s)
  return (s:gsub("[,;\\]", "\\%0"):gsub("\n", "\\n"))
end

-- At unescaped separators.
local function split(s, separator)
  local out, from, i = {}, 1, 1
  while i <= #s do
    local c = s:sub(i, i)
    if c == "\\" then
      i = i + 1
    elseif c == separator then
      out[#out + 1] = s:sub(from, i - 1)
      from = i + 1
    end
    i = i + 1
  end
  out[#out + 1] = s:sub(from)
  return out
end

local function parameters(item, text)
  for p in text:gmatch ";([^;]+)" do
    local key, value = p:match "^([^=]+)=(.*)$"
    if not key then key, value = "TYPE", p end
    key = key:upper()
    for word in value:gsub('"', ""):gmatch "[^,]+" do
      item[key] = item[key] or {}
      table.insert(item[key], word)
    end
  end
end

function vcard.from_text(text)
  local cards, card = {}, nil
  text = text:gsub("\r\n", "\n"):gsub("\n[ \t]", "")
  for line in text:gmatch "[^\n]+" do
    local name, params, value = line:match "^([%w%-.]+)(.-):(.*)$"
    name = name and name:upper():match "[^.]+$"
    if name == "BEGIN" then
      card = { }
    elseif name == "END" then
      if card then cards[#cards + 1] = card end
      card = nil
    elseif card and name and name ~= "VERSION" then
      local item = { name = name }
      parameters(item, params)
      for _, part in ipairs(split(value, ";")) do item[#item + 1] = unescape(part) end
      card[#card + 1] = item
    end
  end
  return cards
end

local function item_text(item)
  local out = { item.name }
  local keys = {}
  for key in pairs(item) do
    if type(key) == "string" and key ~= "name" then keys[#keys + 1] = key end
  end
  table.sort(keys)
  for _, key in ipairs(keys) do
    local value = item[key]
    out[#out + 1] = ";" .. key .. "=" .. (type(value) == "table" and table.concat(value, ",") or tostring(value))
  end
  local values = {}
  for i, value in ipairs(item) do values[i] = escape(value) end
  return table.concat(out) .. ":" .. table.concat(values, ";")
end

function vcard.to_text(card)
  if card[1] and not card[1].name and type(card[1]) == "table" and type(card[1][1]) == "table" then
    local out = {}
    for i, one in ipairs(card) do out[i] = vcard.to_text(one) end
    return table.concat(out, "\r\n")
  end
  local out = { "BEGIN:VCARD", "VERSION:3.0" }
  for _, item in ipairs(card) do out[#out + 1] = item_text(item) end
  out[#out + 1] = "END:VCARD"
  return table.concat(out, "\r\n")
end

-- --- XEP-0054 ---

local function item_from_xep54(tag)
  local name = tag.name
  local item = { name = name }
  local set = types[name]
  for child in tag:childtags() do
    if set and set[child.name] then
      item.TYPE = item.TYPE or {}
      table.insert(item.TYPE, child.name:lower())
    end
  end
  if parts[name] then
    for i, part in ipairs(parts[name]) do item[i] = tag:get_child_text(part) or "" end
    if name == "ORG" then
      item[2] = nil
      for unit in tag:childtags "ORGUNIT" do item[#item + 1] = unit:get_text() end
    end
  elseif binary[name] then
    item.TYPE = { tag:get_child_text "TYPE" }
    local data, url = tag:get_child_text "BINVAL", tag:get_child_text "EXTVAL"
    if data then
      item.ENCODING, item[1] = { "b" }, (data:gsub("%s", ""))
    elseif url then
      item.VALUE, item[1] = { "uri" }, url
    end
  elseif value_of[name] then
    for child in tag:childtags(value_of[name]) do item[#item + 1] = child:get_text() end
  else
    item[1] = tag:get_text() or ""
  end
  return item
end

function vcard.from_xep54(element)
  if element.name ~= "vCard" then
    local cards = {}
    for child in element:childtags "vCard" do cards[#cards + 1] = vcard.from_xep54(child) end
    return cards
  end
  local card = {}
  for tag in element:childtags() do
    if tag.name ~= "VERSION" then card[#card + 1] = item_from_xep54(tag) end
  end
  return card
end

local function item_to_xep54(into, item)
  local name = item.name:upper()
  into:tag(name)
  if types[name] and type(item.TYPE) == "table" then
    for _, word in ipairs(item.TYPE) do
      word = word:upper()
      if types[name][word] then into:tag(word):up() end
    end
  end
  if parts[name] then
    for i, value in ipairs(item) do
      local part = parts[name][math.min(i, #parts[name])]
      if value ~= "" then into:text_tag(part, value) end
    end
  elseif binary[name] then
    if type(item.TYPE) == "table" and item.TYPE[1] then into:text_tag("TYPE", item.TYPE[1]) end
    local by_url = item.VALUE and (item.VALUE == "uri" or item.VALUE[1] == "uri") or (item[1] or ""):find "^https?:"
    into:text_tag(by_url and "EXTVAL" or "BINVAL", item[1] or "")
  elseif value_of[name] then
    for _, value in ipairs(item) do into:text_tag(value_of[name], value) end
  else
    into:text(item[1])
  end
  into:up()
end

function vcard.to_xep54(card)
  local out = st.stanza("vCard", { xmlns = "vcard-temp" })
  for _, item in ipairs(card) do item_to_xep54(out, item) end
  return out
end

-- --- XEP-0292 ---

local four = {
  N = { "surname", "given", "additional", "prefix", "suffix" },
  ADR = { "pobox", "ext", "street", "locality", "region", "code", "country" },
}
local uri = { URL = "uri", PHOTO = "uri", LOGO = "uri", SOUND = "uri", KEY = "uri", TEL = "text", IMPP = "uri" }

function vcard.to_vcard4(card)
  local out = st.stanza("vcard", { xmlns = "urn:ietf:params:xml:ns:vcard-4.0" })
  for _, item in ipairs(card) do
    local name = item.name:upper()
    out:tag(name:lower())
    if type(item.TYPE) == "table" and item.TYPE[1] and not binary[name] then
      out:tag("parameters"):tag("type")
      for _, word in ipairs(item.TYPE) do out:text_tag("text", word:lower()) end
      out:up():up()
    end
    if four[name] then
      for i, part in ipairs(four[name]) do out:text_tag(part, item[i] or "") end
    elseif binary[name] and item.ENCODING then
      out:text_tag("uri", ("data:%s;base64,%s"):format(item.TYPE and item.TYPE[1] or "application/octet-stream", item[1]))
    else
      for _, value in ipairs(item) do out:text_tag(uri[name] or "text", value) end
    end
    out:up()
  end
  return out
end

return vcard
