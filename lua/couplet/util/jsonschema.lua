-- SPDX-License-Identifier: MIT
-- util.jsonschema: validate(schema, value) -> true | false, array of { schemaLocation =, instanceLocation =, error = }
--
-- JSON Schema, draft 2020-12, as far as plugins go: true and false; type const enum; properties patternProperties
-- additionalProperties propertyNames required minProperties maxProperties dependentRequired dependentSchemas; items prefixItems
-- contains minContains maxContains minItems maxItems uniqueItems; minLength maxLength; minimum maximum exclusive… multipleOf;
-- allOf anyOf oneOf not if then else;
-- $ref into the same document (#/…). Annotations, format and pattern (a regular expression) are not checked.
-- util.json's arrays are tables: an empty one is both an array and an object.

local json_null = require "couplet.util.json".null
local resolve = require "couplet.util.jsonpointer".resolve

local DEPTH_MAX = 100

local function is_array(v)
  return type(v) == "table" and v ~= json_null and (next(v) == nil or v[1] ~= nil)
end

local function is_object(v)
  return type(v) == "table" and v ~= json_null and (next(v) == nil or v[1] == nil)
end

local is = {
  object = is_object, array = is_array,
  null = function(v) return v == nil or v == json_null end,
  string = function(v) return type(v) == "string" end,
  number = function(v) return type(v) == "number" end,
  boolean = function(v) return type(v) == "boolean" end,
  integer = function(v) return math.type(v) == "integer" or math.type(v) == "float" and math.tointeger(v) ~= nil end,
}

local function equal(a, b)
  if a == b then return true end
  if type(a) ~= "table" or type(b) ~= "table" then return false end
  for k, v in pairs(a) do if not equal(v, b[k]) then return false end end
  for k in pairs(b) do if a[k] == nil then return false end end
  return true
end

local function token(key) return (tostring(key):gsub("~", "~0"):gsub("/", "~1")) end

local check

-- A validation in progress: the root, what was found wrong, how deep it is.
local function fails(ctx, at, where, text)
  table.insert(ctx.errors, { schemaLocation = at, instanceLocation = where, error = text })
  return false
end

-- Without telling the errors of branches that need not hold.
local function holds(ctx, schema, value, at, where)
  return check({ root = ctx.root, errors = {}, depth = ctx.depth }, schema, value, at, where)
end

local function scalar(ctx, schema, value, at, where)
  local ok = true
  local function want(condition, keyword, text)
    if not condition then ok = fails(ctx, at .. "/" .. keyword, where, text) end
  end
  if type(value) == "number" then
    if schema.minimum then want(value >= schema.minimum, "minimum", "number less than minimum") end
    if schema.maximum then want(value <= schema.maximum, "maximum", "number more than maximum") end
    if schema.exclusiveMinimum then
      want(value > schema.exclusiveMinimum, "exclusiveMinimum", "number less than exclusiveMinimum")
    end
    if schema.exclusiveMaximum then
      want(value < schema.exclusiveMaximum, "exclusiveMaximum", "number more than exclusiveMaximum")
    end
    if schema.multipleOf then want(value % schema.multipleOf == 0, "multipleOf", "not a multiple") end
  elseif type(value) == "string" then
    local length = utf8.len(value) or #value
    if schema.minLength then want(length >= schema.minLength, "minLength", "string too short") end
    if schema.maxLength then want(length <= schema.maxLength, "maxLength", "string too long") end
  end
  return ok
end

local function object(ctx, schema, value, at, where)
  local ok, count = true, 0
  for key, item in pairs(value) do
    if type(key) == "string" then
      count = count + 1
      local here, known = where .. "/" .. token(key), false
      if schema.properties and schema.properties[key] ~= nil then
        known = true
        ok = check(ctx, schema.properties[key], item, at .. "/properties/" .. token(key), here) and ok
      end
      for pattern, sub in pairs(schema.luaPatternProperties or {}) do
        if key:find(pattern) then
          known = true
          ok = check(ctx, sub, item, at .. "/luaPatternProperties/" .. token(pattern), here) and ok
        end
      end
      if not known and schema.additionalProperties ~= nil and not schema.patternProperties then
        ok = check(ctx, schema.additionalProperties, item, at .. "/additionalProperties", here) and ok
      end
      if schema.propertyNames ~= nil then ok = check(ctx, schema.propertyNames, key, at .. "/propertyNames", here) and ok end
      for _, other in ipairs(schema.dependentRequired and schema.dependentRequired[key] or {}) do
        if value[other] == nil then ok = fails(ctx, at .. "/dependentRequired", where, "missing property '" .. other .. "'") end
      end
      local dependent = schema.dependentSchemas and schema.dependentSchemas[key]
      if dependent ~= nil then ok = check(ctx, dependent, value, at .. "/dependentSchemas/" .. token(key), where) and ok end
    end
  end
  for _, name in ipairs(schema.required or {}) do
    if value[name] == nil then ok = fails(ctx, at .. "/required", where .. "/" .. token(name), "missing required property") end
  end
  if schema.minProperties and count < schema.minProperties then
    ok = fails(ctx, at .. "/minProperties", where, "too few properties")
  end
  if schema.maxProperties and count > schema.maxProperties then
    ok = fails(ctx, at .. "/maxProperties", where, "too many properties")
  end
  return ok
end

local function unique(list)
  for i = 1, #list do
    for j = i + 1, #list do if equal(list[i], list[j]) then return false end end
  end
  return true
end

local function array(ctx, schema, value, at, where)
  local ok, n = true, #value
  if schema.minItems and n < schema.minItems then ok = fails(ctx, at .. "/minItems", where, "array not long enough") end
  if schema.maxItems and n > schema.maxItems then ok = fails(ctx, at .. "/maxItems", where, "array too long") end
  if schema.uniqueItems and not unique(value) then ok = fails(ctx, at .. "/uniqueItems", where, "items must be unique") end
  local prefix = schema.prefixItems or {}
  for i = 1, n do
    local here = where .. "/" .. i - 1
    if prefix[i] ~= nil then
      ok = check(ctx, prefix[i], value[i], at .. "/prefixItems/" .. i - 1, here) and ok
    elseif schema.items ~= nil then
      ok = check(ctx, schema.items, value[i], at .. "/items", here) and ok
    end
  end
  if schema.contains ~= nil then
    local found = 0
    for i = 1, n do if holds(ctx, schema.contains, value[i], at, where) then found = found + 1 end end
    if found < (schema.minContains or 1) then ok = fails(ctx, at .. "/contains", where, "too few items that fit") end
    if found > (schema.maxContains or math.huge) then ok = fails(ctx, at .. "/contains", where, "too many items that fit") end
  end
  return ok
end

local function combined(ctx, schema, value, at, where)
  local ok = true
  for i, sub in ipairs(schema.allOf or {}) do ok = check(ctx, sub, value, at .. "/allOf/" .. i - 1, where) and ok end
  for _, keyword in ipairs { "anyOf", "oneOf" } do
    if schema[keyword] then
      local fit = 0
      for _, sub in ipairs(schema[keyword]) do if holds(ctx, sub, value, at, where) then fit = fit + 1 end end
      if fit == 0 then ok = fails(ctx, at .. "/" .. keyword, where, "none fits") end
      if keyword == "oneOf" and fit > 1 then ok = fails(ctx, at .. "/oneOf", where, "more than one fits") end
    end
  end
  if schema["not"] ~= nil and holds(ctx, schema["not"], value, at, where) then
    ok = fails(ctx, at .. "/not", where, "must not fit")
  end
  if schema["if"] ~= nil then
    local branch = holds(ctx, schema["if"], value, at, where) and "then" or "else"
    if schema[branch] ~= nil then ok = check(ctx, schema[branch], value, at .. "/" .. branch, where) and ok end
  end
  return ok
end

local function of_type(wanted, value)
  if wanted == nil then return true end
  if type(wanted) == "string" then wanted = { wanted } end
  for _, name in ipairs(wanted) do if is[name] and is[name](value) then return true end end
  return false
end

local function checked(ctx, schema, value, at, where)
  local ok = true
  local ref = schema["$ref"]
  if ref then
    local target = ref:sub(1, 1) == "#" and resolve(ctx.root, ref:sub(2))
    if target == nil or target == false and ref:sub(1, 1) ~= "#" then
      return fails(ctx, at .. "/$ref", where, "unresolved reference " .. ref)
    end
    ok = check(ctx, target, value, ref, where)
  end
  if not of_type(schema.type, value) then
    local names = type(schema.type) == "table" and table.concat(schema.type, " or ") or schema.type
    return fails(ctx, at .. "/type", where, "unexpected type, want " .. names)
  end
  if schema.const ~= nil and not equal(schema.const, value) then
    ok = fails(ctx, at .. "/const", where, "const value mismatch")
  end
  if schema.enum then
    local found = false
    for _, v in ipairs(schema.enum) do found = found or equal(v, value) end
    if not found then ok = fails(ctx, at .. "/enum", where, "not one of the enumerated values") end
  end
  ok = scalar(ctx, schema, value, at, where) and ok
  if is_object(value) then ok = object(ctx, schema, value, at, where) and ok end
  if is_array(value) then ok = array(ctx, schema, value, at, where) and ok end
  return combined(ctx, schema, value, at, where) and ok
end

function check(ctx, schema, value, at, where)
  if schema == true then return true end
  if type(schema) ~= "table" then return fails(ctx, at, where, "nothing is allowed here") end
  if ctx.depth >= DEPTH_MAX then return fails(ctx, at, where, "nested too deeply") end
  ctx.depth = ctx.depth + 1
  local ok = checked(ctx, schema, value, at, where)
  ctx.depth = ctx.depth - 1
  return ok
end

local function validate(schema, value, root)
  local ctx = { root = root or schema, errors = {}, depth = 0 }
  local ok = check(ctx, schema, value, "", "")
  if ok then return true end
  return false, ctx.errors
end

return { validate = validate }
