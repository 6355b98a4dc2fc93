-- SPDX-License-Identifier: MIT
-- util.dataforms: forms as XEP-0004 carries them.
--
--   local form = dataforms.new{ title = "…", instructions = "…",
--     { name = "FORM_TYPE", type = "hidden", value = "urn:example" },
--     { name = "count", type = "text-single", label = "How many", datatype = "xs:integer", range_min = 0, required = true },
--     { name = "kind", type = "list-single", options = { { label = "One", value = "1" }, "2" }, value = "2" } }
--   form:form(values, type)      -> stanza <x/>; type defaults to "form"; values by field name override the layout's
--   form:data(x, current)        -> values by name, errors by name or nil, present (names that were in x)
--   form:unambiguous(x)          -> true | nil, name of a field that says more than one thing
--   dataforms.get_type(x)        -> the FORM_TYPE of a received form, or nil
-- `var` is the name on the wire where it differs from `name`.

local st = require "couplet.stanza"
local jid = require "couplet.jid"

local dataforms = {}
local XMLNS = "jabber:x:data"

local form_mt = { __name = "dataform" }
form_mt.__index = form_mt

function dataforms.new(layout)
  return setmetatable(layout, form_mt)
end

local function var_of(field) return field.var or field.name end

-- --- writing ---------------------------------------------------------------------------------------------------------

local MULTI = { ["list-multi"] = true, ["jid-multi"] = true, ["text-multi"] = true }

local function value_text(value)
  if math.type(value) == "float" and value == math.floor(value) and math.abs(value) < 2 ^ 53 then return ("%d"):format(value) end
  return tostring(value)
end

local function lines(text)
  local out = {}
  for line in (text .. "\n"):gmatch("([^\n]*)\n") do out[#out + 1] = (line:gsub("\r$", "")) end
  return out
end

local writers = {}

function writers.boolean(x, value)
  x:text_tag("value", value and "1" or "0")
end

local function write_many(x, value)
  if type(value) ~= "table" then value = { value } end
  for _, one in ipairs(value) do
    x:text_tag("value", value_text(type(one) == "table" and one.value or one))
  end
end
writers["jid-multi"] = write_many

writers["text-multi"] = function(x, value)
  for _, line in ipairs(lines(type(value) == "table" and table.concat(value, "\n") or tostring(value))) do
    x:text_tag("value", line)
  end
end

local function write_one(x, value)
  x:text_tag("value", value_text(value))
end

-- Options come with the field, or as its value (older plugins: { { value =, label =, default = true }, … }).
local function write_list(x, value, field, form_type)
  local options, chosen = field.options, value
  if not options and type(value) == "table" and type(value[1]) == "table" then
    options, chosen = value, {}
    for _, option in ipairs(value) do
      if type(option) == "table" and option.default then chosen[#chosen + 1] = option.value end
    end
  end
  if chosen ~= nil then write_many(x, chosen) end
  if form_type == "form" then
    for _, option in ipairs(options or {}) do
      local v, label = option, nil
      if type(option) == "table" then v, label = option.value, option.label end
      x:tag("option", { label = label or value_text(v) }):text_tag("value", value_text(v)):up()
    end
  end
end
writers["list-single"], writers["list-multi"] = write_list, write_list

local function default_of(field)
  if field.value ~= nil then return field.value end
  if field.options then
    local chosen = {}
    for _, option in ipairs(field.options) do
      if type(option) == "table" and option.default then chosen[#chosen + 1] = option.value end
    end
    if field.type == "list-single" then return chosen[1] end
    return chosen[1] ~= nil and chosen or nil
  end
end

function form_mt:form(values, form_type)
  form_type = form_type or "form"
  local x = st.stanza("x", { xmlns = XMLNS, type = form_type })
  if form_type == "cancel" then return x end
  if form_type ~= "submit" then
    if self.title then x:text_tag("title", self.title) end
    if self.instructions then x:text_tag("instructions", self.instructions) end
  end
  for _, field in ipairs(self) do
    local kind = field.type or "text-single"
    local value = values and field.name and values[field.name]
    if value == nil then value = default_of(field) end
    local skip = form_type == "submit" and kind == "fixed" or form_type == "submit" and value == nil
    if not skip then
      x:tag("field", { type = (form_type ~= "submit" or field.name == "FORM_TYPE") and kind or nil, var = var_of(field),
        label = form_type ~= "submit" and field.label or nil })
      if field.datatype and form_type ~= "submit" then
        x:tag("validate", { xmlns = "http://jabber.org/protocol/xdata-validate", datatype = field.datatype })
        if field.range_min or field.range_max then
          x:tag("range", { min = field.range_min and value_text(field.range_min),
            max = field.range_max and value_text(field.range_max) }):up()
        else
          x:tag("basic"):up()
        end
        x:up()
      end
      if kind == "list-single" or kind == "list-multi" then
        write_list(x, value, field, form_type)
      elseif value ~= nil then
        (writers[kind] or write_one)(x, value)
      end
      if form_type ~= "submit" then
        if field.media then
          x:tag("media", { xmlns = "urn:xmpp:media-element", height = field.media.height and value_text(field.media.height),
            width = field.media.width and value_text(field.media.width) })
          for _, media in ipairs(field.media) do x:tag("uri", { type = media.type }):text(media.uri):up() end
          x:up()
        end
        if field.desc then x:text_tag("desc", field.desc) end
        if field.required then x:tag("required"):up() end
      end
      x:up()
    end
  end
  return x
end

-- --- reading ---------------------------------------------------------------------------------------------------------

local function first_value(tag) return tag:get_child_text("value") end

local function all_values(tag)
  local out = {}
  for value in tag:childtags("value") do out[#out + 1] = value:get_text() or "" end
  return out
end

-- What is told of a value back to its sender, whole characters.
local function excerpt(text)
  return #text <= 100 and text or text:sub(1, (utf8.offset(text, 0, 101) or 101) - 1) .. "…"
end

local readers = {}

function readers.boolean(tag, field)
  local text = first_value(tag)
  if not text or text == "" then return nil, field.required and "Required value missing" or nil end
  if text == "1" or text == "true" then return true end
  if text == "0" or text == "false" then return false end
  return nil, "Invalid boolean representation: " .. excerpt(text)
end

local function read_text(tag, field)
  local text = first_value(tag)
  if (not text or text == "") and field.required then return nil, "Required value missing" end
  return text
end
readers["text-single"], readers["text-private"], readers.hidden = read_text, read_text, read_text
readers["list-single"] = read_text

readers["jid-single"] = function(tag, field)
  local text = first_value(tag)
  if not text or text == "" then return nil, field.required and "Required value missing" or nil end
  local prepped = jid.prep(text)
  if not prepped then return nil, "Invalid JID: " .. excerpt(text) end
  return prepped
end

readers["jid-multi"] = function(tag, field)
  local out, bad = {}, {}
  for _, text in ipairs(all_values(tag)) do
    local prepped = jid.prep(text)
    if prepped then out[#out + 1] = prepped
    elseif text ~= "" and #bad < 10 then bad[#bad + 1] = "Invalid JID: " .. excerpt(text) end
  end
  if bad[1] then return out, table.concat(bad, "\n") end
  if not out[1] then return nil, field.required and "Required value missing" or nil end
  return out
end

readers["list-multi"] = function(tag, field)
  local out = all_values(tag)
  if not out[1] and field.required then return nil, "Required value missing" end
  return out
end

readers["text-multi"] = function(tag, field)
  local out = all_values(tag)
  if not out[1] then return nil, field.required and "Required value missing" or nil end
  return table.concat(out, "\n")
end

readers.fixed = function() end

-- Range and form of typed fields (XEP-0122); strings stay strings.
local function integer(low, high)
  return function(text, field)
    local n = math.tointeger(tonumber(text, 10))
    if not n then return nil, "not an integer" end
    local min, max = math.max(low or field.range_min or math.mininteger, field.range_min or math.mininteger),
      math.min(high or field.range_max or math.maxinteger, field.range_max or math.maxinteger)
    if n < min or n > max then return nil, ("out of bounds, %d to %d"):format(min, max) end
    return n
  end
end

local datatypes = {
  ["xs:integer"] = integer(), ["xs:int"] = integer(-2 ^ 31, 2 ^ 31 - 1), ["xs:long"] = integer(),
  ["xs:short"] = integer(-2 ^ 15, 2 ^ 15 - 1),
  ["xs:byte"] = integer(-128, 127), ["xs:nonNegativeInteger"] = integer(0), ["xs:positiveInteger"] = integer(1),
  ["xs:unsignedInt"] = integer(0, 2 ^ 32 - 1), ["xs:unsignedShort"] = integer(0, 65535), ["xs:unsignedByte"] = integer(0, 255),
  ["xs:decimal"] = function(text)
    local n = text:match("^[+-]?%d*%.?%d+$") and tonumber(text)
    if not n then return nil, "not a number" end
    return n
  end,
  ["xs:dateTime"] = function(text)
    local t = require "couplet.util.datetime".parse(text)
    if not t then return nil, "invalid timestamp" end
    return t
  end,
}

function form_mt:data(x, current)
  local data, errors, present, tags = {}, {}, {}, {}
  if x then
    for tag in x:childtags("field") do
      if tag.attr.var and not tags[tag.attr.var] then tags[tag.attr.var] = tag end      -- the first of doubled fields counts
    end
  end
  for _, field in ipairs(self) do
    local name = field.name
    local tag = name and tags[var_of(field)]
    if tag then
      present[name] = true
      local value, err = (readers[field.type or "text-single"] or read_text)(tag, field)
      local convert = datatypes[field.datatype]
      if convert and type(value) == "string" and value ~= "" then value, err = convert(value, field) end
      data[name], errors[name] = value, err
    elseif name and current and current[name] ~= nil then
      data[name] = current[name]
    elseif name and field.required and field.type ~= "fixed" then
      errors[name] = "Required value missing"
    end
  end
  return data, next(errors) and errors or nil, present
end

-- A field comes once, and one that has one value has one (XEP-0004 §3.2); for who does not want data() to take the first.
function form_mt:unambiguous(x)
  local many, seen = {}, {}
  for _, field in ipairs(self) do
    local hidden = field.type == "hidden" and field.name ~= "FORM_TYPE"
    if field.name then many[var_of(field)] = MULTI[field.type] or hidden end
  end
  for tag in x:childtags("field") do
    local var, values = tag.attr.var, 0
    for _ in tag:childtags("value") do values = values + 1 end
    if var and (seen[var] or many[var] == false and values > 1) then return nil, var end
    if var then seen[var] = true end
  end
  return true
end

function dataforms.get_type(x)
  for tag in x:childtags("field") do
    if tag.attr.var == "FORM_TYPE" then return tag:get_child_text("value") end
  end
end

dataforms.from_stanza = function(x)      -- a received form as a layout of its own
  local layout = { title = x:get_child_text("title"), instructions = x:get_child_text("instructions") }
  for tag in x:childtags("field") do
    local field = { name = tag.attr.var, var = tag.attr.var, type = tag.attr.type or "text-single", label = tag.attr.label,
      desc = tag:get_child_text("desc"), required = tag:get_child("required") and true or nil }
    if MULTI[field.type] then field.value = all_values(tag) else field.value = first_value(tag) end
    if field.type:match("^list") then
      field.options = {}
      for option in tag:childtags("option") do
        field.options[#field.options + 1] = { label = option.attr.label, value = option:get_child_text("value") }
      end
    end
    layout[#layout + 1] = field
  end
  return dataforms.new(layout)
end

return dataforms
