-- SPDX-License-Identifier: MIT
-- plugin_env.lua: the globals a plugin sees. PLUGIN-API §2.2, §16.
--
--   environment.new(module) -> env       own assignments stay in it (its exports); below it the table of globals
--   environment.strict(env)              `--% api: 1`: nothing shared can be written

local alias = require "couplet.alias"
local logger = require "couplet.logger"
local prosody = require "couplet.prosody"
local task = require "couplet.task"

local environment = {}
local native_type = type

-- For plugins that know stanzas as tables.
local is_stanza

local function type_of(...)
  local kind = native_type(...)
  if kind == "userdata" then
    is_stanza = is_stanza or require "couplet.stanza".is_stanza
    if is_stanza((...)) then return "table" end
  end
  return kind
end

-- import("util.jid", "split", "bare") -> the two functions
local function import(name, ...)
  local lib, out = alias.require(name), {}
  local n = select("#", ...)
  for i = 1, n do out[i] = lib[(select(i, ...))] end
  if n == 0 then return lib end
  return table.unpack(out, 1, n)
end
environment.import = import

-- log() and print() of a plugin: the shared functions tell by the file who calls.
local loggers = {}

local function caller()
  for level = 3, 6 do
    local info = debug.getinfo(level, "S")
    if not info then break end
    local name = info.short_src:match "mod_([%w_%-]+)%.lua$"
    if name then return name end
  end
  return "general"
end

local function log_as_caller(level, fmt, ...)
  if not logger.wanted(level) then return end
  local name = caller()
  loggers[name] = loggers[name] or logger.init(name)
  return loggers[name](level, fmt, ...)
end

local function print_to_log(...)
  local out = table.pack(...)
  for i = 1, out.n do out[i] = tostring(out[i]) end
  log_as_caller("info", "%s", table.concat(out, "\t"))
end

-- One flat table, so that a global costs two look-ups.
local function globals()
  local g = setmetatable({}, { __index = _G })
  for name, value in pairs(_G) do g[name] = value end
  g.require = alias.require
  g.import = import
  g.unpack = table.unpack
  g.loadstring = load
  g.coroutine = task.coroutine
  g.prosody, g.couplet = prosody, prosody
  g.hosts, g.bare_sessions, g.full_sessions = prosody.hosts, prosody.bare_sessions, prosody.full_sessions
  g.type = type_of
  g.log = log_as_caller
  g._G = g
  if prosody.process_type ~= "prosodyctl" then g.print = print_to_log end
  return g
end

local shared, shared_for                -- all plugins have the same

function environment.new(module)
  if not shared or shared_for ~= prosody.process_type then
    shared, shared_for = { __index = globals() }, prosody.process_type
  end
  return setmetatable({ module = module }, shared)
end

-- --- strict native mode ---

local views = setmetatable({}, { __mode = "k" })

-- A view of a table: read and iterated like it, never written through. Tables inside are views too.
local function view(t, deep)
  local known = views[t]
  if known then return known end
  local v = setmetatable({}, {
    __index = deep and function(_, key)
      local value = t[key]
      if native_type(value) == "table" and getmetatable(value) == nil then return view(value, true) end
      return value
    end or t,
    __newindex = function(_, key) error("read-only: " .. tostring(key) .. " cannot be set here", 2) end,
    __pairs = function() return pairs(t) end,
    __len = function() return #t end,
    __metatable = false,
  })
  views[t] = v
  return v
end
environment.view = view

function environment.strict(env)
  local g = globals()
  g.type = native_type
  for name, value in pairs(g) do
    if native_type(value) == "table" then g[name] = view(value, name == "prosody" or name == "couplet") end
  end
  g.require = function(name)
    local lib = alias.require(name)
    if native_type(lib) == "table" and getmetatable(lib) == nil then return view(lib) end
    return lib
  end
  setmetatable(g, nil)
  g._G = view(g)
  setmetatable(env, { __index = g })
end

return environment
