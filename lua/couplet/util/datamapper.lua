-- SPDX-License-Identifier: MIT
-- util.datamapper: stanzas to tables and back, by a JSON Schema with OpenAPI's `xml` annotations.
--
--   parse(schema, stanza) -> table          unparse(schema, table, name?, xmlns?) -> stanza
--
-- Where a property is, by its `xml`: { name =, namespace =, prefix = } rename it;
--   (nothing)              strings, numbers, booleans: text of a child element; objects, arrays: child elements
--   attribute = true       an attribute              text = true             the element's own text
--   wrapped = true         an array inside an element of its own
--   x_name_is_value        the name of a child       x_single_attribute = a  attribute a of an otherwise empty child
-- $ref = "#/…" names another place in the same schema.

local st = require "couplet.stanza"
local resolve = require "couplet.util.jsonpointer".resolve

local DEPTH_MAX = 32

local function follow(schema, root)
  local n = 0
  while type(schema) == "table" and schema["$ref"] and n < DEPTH_MAX do
    schema, n = resolve(root, schema["$ref"]:gsub("^#", "")), n + 1
  end
  return schema
end

local function kind_of(schema)
  if type(schema) ~= "table" then return "string" end
  local kind = schema.type
  if type(kind) == "table" then kind = kind[1] ~= "null" and kind[1] or kind[2] end
  if kind then return kind end
  if schema.properties then return "object" end
  if schema.items then return "array" end
  local constant = schema.const ~= nil and schema.const or schema.enum and schema.enum[1]
  return constant ~= nil and (type(constant) == "table" and "object" or type(constant)) or "string"
end

-- What a schema says about the place of a property called `key` in an element of namespace `ns`.
local function place_of(schema, key, ns, root)
  schema = follow(schema, root)
  local kind = kind_of(schema)
  local p = { schema = schema, kind = kind, name = key, ns = ns, own_ns = false,
    where = (kind == "object" or kind == "array") and "children" or "text_tag" }
  local xml = type(schema) == "table" and schema.xml
  if type(xml) == "table" then
    p.name, p.prefix, p.single = xml.name or key, xml.prefix, xml.x_single_attribute
    if xml.namespace then p.ns, p.own_ns = xml.namespace, true end
    if xml.attribute then p.where = "attribute"
    elseif xml.text then p.where = "text"
    elseif xml.x_name_is_value then p.where = "name"
    elseif xml.x_single_attribute then p.where = "single"
    elseif xml.wrapped and kind == "array" then p.where = "wrapper" end
  end
  return p
end

local function to_type(kind, text)
  if text == nil then return nil end
  if kind == "string" then return text end
  if kind == "boolean" then
    if text == "false" or text == "0" then return false end
    return true
  end
  local n = tonumber(text)
  if kind == "integer" then return n and math.tointeger(n) end
  if kind == "number" then return n end
  return text
end

local function to_text(kind, value)
  if type(value) == "string" then return value end
  if kind == "integer" and type(value) == "number" then return ("%d"):format(math.floor(value)) end
  return tostring(value)
end

local function attribute_name(p)
  if p.prefix then return p.prefix .. ":" .. p.name end
  if p.own_ns then return p.ns .. "\1" .. p.name end
  return p.name
end

-- --- from XML ---

local from_element

local function allowed(schema)
  if schema.const ~= nil then return { [schema.const] = true } end
  if not schema.enum then return nil end
  local set = {}
  for _, v in ipairs(schema.enum) do set[v] = true end
  return set
end

local function from_array(p, element, ctx)
  local item = place_of(p.schema.items or { type = "string" }, p.name,
    p.where == "children" and p.ns or element.attr.xmlns or p.ns, ctx.root)
  local out = {}
  if item.where == "attribute" or item.where == "text" then
    out[1] = to_type(item.kind, item.where == "text" and element:get_text() or element.attr[attribute_name(item)])
  elseif item.where == "name" then
    local set = allowed(item.schema)
    for child in element:childtags(nil, item.ns) do
      if not set or set[child.name] then out[#out + 1] = child.name end
    end
  else
    for child in element:childtags(item.name, item.ns) do
      local value
      if item.where == "single" then value = to_type(item.kind, child.attr[item.single])
      elseif item.kind == "object" then value = from_element(item, child, ctx)
      elseif item.kind == "array" then value = from_array(item, child, ctx)
      else value = to_type(item.kind, child:get_text() or "") end
      out[#out + 1] = value
    end
  end
  return out[1] ~= nil and out or nil
end

local function property(p, element, ctx)
  if p.where == "attribute" then
    return to_type(p.kind, element.attr[attribute_name(p)])
  elseif p.where == "text" then
    return to_type(p.kind, element:get_text())
  elseif p.where == "name" then
    if p.kind == "boolean" then return element:get_child(p.name, p.ns) and true or nil end
    local set = allowed(p.schema)
    for child in element:childtags(nil, p.ns) do
      if not set or set[child.name] then return to_type(p.kind, child.name) end
    end
    return nil
  elseif p.where == "single" then
    local child = element:get_child(p.name, p.ns)
    return child and to_type(p.kind, child.attr[p.single])
  elseif p.where == "text_tag" then
    local child = element:get_child(p.name, p.ns)
    return child and to_type(p.kind, child:get_text() or "")
  elseif p.where == "wrapper" then
    local child = element:get_child(p.name, p.ns)
    return child and from_array(p, child, ctx)
  elseif p.kind == "array" then
    return from_array(p, element, ctx)
  end
  local child = element:get_child(p.name, p.ns)
  return child and from_element(p, child, ctx)
end

function from_element(p, element, ctx)
  if ctx.depth >= DEPTH_MAX then return nil end
  ctx.depth = ctx.depth + 1
  local out = {}
  for key, schema in pairs(p.schema.properties or {}) do
    out[key] = property(place_of(schema, key, element.attr.xmlns or p.ns, ctx.root), element, ctx)
  end
  ctx.depth = ctx.depth - 1
  return out
end

local function parse(schema, stanza)
  local ctx = { root = schema, depth = 0 }
  local p = place_of(schema, stanza.name, stanza.attr.xmlns, schema)
  if p.kind == "object" then return from_element(p, stanza, ctx) end
  if p.kind == "array" then return from_array(p, stanza, ctx) or {} end
  return to_type(p.kind, stanza:get_text())
end

-- --- to XML ---

local fill

local function attr_for(p, ns)
  if p.own_ns and p.ns ~= ns then return { xmlns = p.ns } end
  return nil
end

local function put_array(p, value, into, ns, ctx)
  if type(value) ~= "table" then return end
  local item = place_of(p.schema.items or { type = "string" }, p.name, ns, ctx.root)
  for _, one in ipairs(value) do
    if item.where == "text" then into:text(to_text(item.kind, one))
    elseif item.where == "attribute" then into.attr[attribute_name(item)] = to_text(item.kind, one)
    elseif item.where == "name" then into:tag(tostring(one), attr_for(item, ns)):up()
    elseif item.where == "single" then
      local attr = attr_for(item, ns) or {}
      attr[item.single] = to_text(item.kind, one)
      into:tag(item.name, attr):up()
    elseif item.kind == "object" then into:add_child(fill(item, one, ns, ctx))
    elseif item.kind == "array" then
      into:tag(item.name, attr_for(item, ns))
      put_array(item, one, into, item.ns, ctx)
      into:up()
    else into:text_tag(item.name, to_text(item.kind, one), attr_for(item, ns)) end
  end
end

local function put(p, value, out, ns, ctx)
  if p.where == "attribute" then
    out.attr[attribute_name(p)] = to_text(p.kind, value)
  elseif p.where == "text" then
    out:text(to_text(p.kind, value))
  elseif p.where == "name" then
    if p.kind ~= "boolean" then out:tag(tostring(value), attr_for(p, ns)):up()
    elseif value then out:tag(p.name, attr_for(p, ns)):up() end
  elseif p.where == "single" then
    local attr = attr_for(p, ns) or {}
    attr[p.single] = to_text(p.kind, value)
    out:tag(p.name, attr):up()
  elseif p.where == "text_tag" then
    out:text_tag(p.name, to_text(p.kind, value), attr_for(p, ns))
  elseif p.where == "wrapper" then
    out:tag(p.name, attr_for(p, ns))
    put_array(p, value, out, p.ns, ctx)
    out:up()
  elseif p.kind == "array" then
    put_array(p, value, out, ns, ctx)
  elseif type(value) == "table" then
    out:add_child(fill(p, value, ns, ctx))
  end
end

-- An element for an object, its properties in the order of their names.
function fill(p, value, outer, ctx)
  local out = st.stanza(p.name, p.ns and p.ns ~= outer and { xmlns = p.ns } or nil)
  if ctx.depth >= DEPTH_MAX or type(value) ~= "table" then return out end
  ctx.depth = ctx.depth + 1
  local keys = {}
  for key in pairs(p.schema.properties or {}) do keys[#keys + 1] = key end
  table.sort(keys)
  for _, key in ipairs(keys) do
    if value[key] ~= nil then put(place_of(p.schema.properties[key], key, p.ns, ctx.root), value[key], out, p.ns, ctx) end
  end
  ctx.depth = ctx.depth - 1
  return out
end

local function unparse(schema, value, name, ns)
  local ctx = { root = schema, depth = 0 }
  local p = place_of(schema, name, ns, schema)
  if p.kind == "object" then return fill(p, value, nil, ctx) end
  local out = st.stanza(p.name, p.ns and { xmlns = p.ns } or nil)
  if p.kind == "array" then put_array(p, value, out, p.ns, ctx) else out:text(to_text(p.kind, value)) end
  return out
end

return { parse = parse, unparse = unparse }
