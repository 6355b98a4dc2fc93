-- SPDX-License-Identifier: MIT
-- options.lua: typed reading of the configuration (module:get_option_*), and declared options (module:config).
-- PLUGIN-API §3.2, §3.9.
--
-- Each getter is (self, name, default, ...) with self = a module, or any { host =, log = method, path? }. A value that does
-- not fit is named with option, host, place and what was expected, and the default taken.

local array = require "couplet.util.array"
local set = require "couplet.util.set"
local config = require "couplet.config"
local parse_duration = require "couplet.util.human.io".parse_duration

local options = {}
local convert = {}                      -- kind -> fn(value, ...) -> value | nil, expected, warning; also for declarations

local function host_of(self)
  if self.host == "*" or not self.host then return "*" end
  return self.host
end

local function show(value)
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) == "table" then return "a table" end
  return tostring(value)
end

-- Once, until the next reload: an option above the first host is read by each of its plugins on each host.
local function complain(self, level, name, text, ...)
  local host = host_of(self)
  local whose = host ~= "*" and config.rawget(host, name) ~= nil and host or "the server"
  local line = ("%s: option %s of %s " .. text):format(config.place(host, name) or "configuration", name, whose, ...)
  if config.once(line) then self:log(level, "%s", line) end
end

local function raw(self, name)
  if self._declared_only and not self._declared_only[name] then
    error("option " .. tostring(name) .. " is not declared with module:config", 4)
  end
  if self._option_used then self._option_used[name] = true end
  local host = host_of(self)
  if host == "*" then return config.get("*", name) end
  return config.get(host, name)
end

function options.get_option(self, name, default)
  local value = raw(self, name)
  if value == nil then return default end
  return value
end

-- a list gives its first element
local function scalar(self, name)
  local value = raw(self, name)
  if type(value) == "table" then
    if value[1] ~= nil then
      complain(self, "error", name, "is a list, but one value is expected; taking the first, %s", show(value[1]))
    else
      complain(self, "error", name, "is a table, but one value is expected")
    end
    return value[1]
  end
  return value
end

function options.get_option_scalar(self, name, default)
  local value = scalar(self, name)
  if value == nil then return default end
  return value
end

local function clamp(value, min, max)
  if min and value < min then return min, ("below the least value %s; using that"):format(min) end
  if max and value > max then return max, ("above the greatest value %s; using that"):format(max) end
  return value
end

function convert.string(value)
  if type(value) == "string" then return value end
  if type(value) == "number" or type(value) == "boolean" then return tostring(value) end
  return nil, "a string"
end

function convert.number(value, min, max)
  local number = tonumber(value)
  if not number or type(value) == "boolean" then return nil, "a number" end
  local fitted, why = clamp(number, min, max)
  return fitted, nil, why
end

function convert.integer(value, min, max)
  local number = tonumber(value)
  if not number then return nil, "a whole number" end
  local int, why = math.tointeger(number), nil
  if not int then
    if number ~= number or number == math.huge or number == -math.huge then return nil, "a whole number" end
    int = math.floor(number)
    why = ("%s is not a whole number; using %d"):format(number, int)
  end
  local fitted, outside = clamp(int, min, max)
  return fitted, nil, outside or why
end

function convert.boolean(value)
  if type(value) == "boolean" then return value end
  if value == "true" or value == 1 then return true end
  if value == "false" or value == 0 then return false end
  return nil, "true or false"
end

local function seconds(value)
  if value == false or value == "never" then return math.huge end
  if type(value) == "number" then return value >= 0 and value or nil end
  return parse_duration(value)
end

function convert.period(value, min, max)
  local period = seconds(value)
  if not period then return nil, "a time such as 90, \"2 days\", \"1h 30m\" or \"never\"" end
  local fitted, why = clamp(period, min and seconds(min), max and seconds(max))
  return fitted, nil, why
end

function convert.enum(value, ...)
  for i = 1, select("#", ...) do
    if value == select(i, ...) then return value end
  end
  local names, seen = {}, {}
  for i = 1, select("#", ...) do
    local name = show((select(i, ...)))
    if not seen[name] then names[#names + 1] = name end
    seen[name] = true
  end
  return nil, "one of " .. table.concat(names, ", ")
end

local function list_of(value)
  if type(value) ~= "table" then return { value } end
  if set.is_set(value) then
    local out = {}
    for x in value:items() do out[#out + 1] = x end
    return out
  end
  return value
end

function convert.array(value)
  local list = list_of(value)
  if #list == 0 and next(list) ~= nil then return nil, "a list" end
  return array { table.unpack(list) }
end

function convert.set(value)
  local list = list_of(value)
  if #list == 0 and next(list) ~= nil then return nil, "a list" end
  return set.new(list)
end

function convert.table(value)
  if type(value) == "table" then return value end
  return nil, "a table"
end

function convert.any(value) return value end

local function getter(kind, read)
  return function(self, name, default, ...)
    local value = read(self, name)
    if value == nil then return default end
    local result, expected, warning = convert[kind](value, ...)
    if result == nil then
      complain(self, "error", name, "is %s, but %s is expected", show(value), expected)
      return default
    end
    if warning then complain(self, "warn", name, "is %s", warning) end
    return result
  end
end

options.get_option_string = getter("string", scalar)
options.get_option_number = getter("number", scalar)
options.get_option_integer = getter("integer", scalar)
options.get_option_boolean = getter("boolean", scalar)

function options.get_option_period(self, name, default, min, max)
  local value = scalar(self, name)
  if value == nil then
    if default == nil then return nil end
    return seconds(default)             -- "2 days" as a default is given back in seconds as well
  end
  local result, expected, warning = convert.period(value, min, max)
  if result == nil then
    complain(self, "error", name, "is %s, but %s is expected", show(value), expected)
    return default and seconds(default)
  end
  if warning then complain(self, "warn", name, "is %s", warning) end
  return result
end

function options.get_option_enum(self, name, default, ...)
  local value = scalar(self, name)
  if value == nil then return default end
  local result, expected = convert.enum(value, default, ...)
  if result == nil then complain(self, "error", name, "is %s, but %s is expected", show(value), expected) end
  return result
end

local function as_list(kind, make)
  return function(self, name, default, ...)
    local value = raw(self, name)
    if value == nil then
      if type(default) == "table" then return make(list_of(default)) end
      return default
    end
    local result, expected = convert[kind](value, ...)
    if result == nil then
      complain(self, "error", name, "is %s, but %s is expected", show(value), expected)
      if type(default) == "table" then return make(list_of(default)) end
      return default
    end
    return result
  end
end

options.get_option_array = as_list("array", function(list) return array { table.unpack(list) } end)
options.get_option_set = as_list("set", set.new)

function options.get_option_inherited_set(self, name, default)
  raw(self, name)
  local host = host_of(self)
  local global = config.rawget("*", name)
  local own = host ~= "*" and config.rawget(host, name) or nil
  if global == nil and own == nil then
    if type(default) == "table" then return set.new(list_of(default)) end
    return default
  end
  local out = set.new()
  if global ~= nil then out:add_list(list_of(global)) end
  if own ~= nil then out:add_list(list_of(own)) end
  return out
end

local function join(dir, path)
  if path:find "^/" then return path end
  if path == "." then return dir end
  return (dir:gsub("/+$", "")) .. "/" .. (path:gsub("^%./", ""))
end

local function absolute(path)
  if path:find "^/" then return path end
  local cwd = os.getenv "PWD" or "."
  return join(cwd, path)
end

function options.directory(self, parent)
  local paths = require "couplet.prosody".paths
  if parent == nil then
    local dir = self.path and self.path:match "^(.*)/[^/]*$" or "."
    return absolute(dir)
  end
  return absolute(paths[parent] or parent)
end

function options.get_option_path(self, name, default, parent)
  local value = options.get_option_string(self, name, default)
  if type(value) ~= "string" then return nil end
  return join(options.directory(self, parent), value)
end

-- --- declared options ---

local fields = { type = true, default = true, min = true, max = true, enum = true, secret = true, doc = true, parent = true }
local kinds = { string = 1, number = 1, integer = 1, boolean = 1, period = 1, enum = 1, array = 1, set = 1, path = 1, table = 1,
  any = 1 }

-- Everything declared so far: plugin -> option -> declaration; for `coupletctl check config`.
options.declared = {}

function options.declare(self, declarations)
  local mine = options.declared[self.name] or {}
  options.declared[self.name] = mine
  for name, d in pairs(declarations) do
    for field in pairs(d) do
      if not fields[field] then error(("option %s: unknown field %s in its declaration"):format(name, field), 3) end
    end
    local kind = d.type or d.enum and "enum" or "string"
    if not kinds[kind] then error(("option %s: unknown type %s"):format(name, tostring(kind)), 3) end
    mine[name] = { type = kind, default = d.default, min = d.min, max = d.max, enum = d.enum, secret = d.secret, doc = d.doc,
      parent = d.parent, name = name, plugin = self.name }
    if self._declared_only then self._declared_only[name] = true end
  end
  return mine
end

-- The value of a declared option now.
function options.value(self, d)
  if d.type == "enum" then
    local got = options.get_option_enum(self, d.name, d.default, table.unpack(d.enum))
    if got == nil then return d.default end
    return got
  elseif d.type == "path" then
    return options.get_option_path(self, d.name, d.default, d.parent)
  elseif d.type == "table" or d.type == "any" then
    local value = raw(self, d.name)
    if value == nil or d.type == "table" and type(value) ~= "table" then return d.default end
    return value
  end
  return options["get_option_" .. d.type](self, d.name, d.default, d.min, d.max)
end

-- Checks a raw value against a declaration: true | nil, what was expected.
function options.check(d, value)
  if d.type == "enum" then
    local got, expected = convert.enum(value, table.unpack(d.enum))
    return got ~= nil or nil, expected
  end
  local kind = d.type == "path" and "string" or d.type
  local got, expected, warning = convert[kind](value, d.min, d.max)
  if got == nil then return nil, expected end
  if warning then return nil, "a value in range (" .. warning .. ")" end
  return true
end

return options
