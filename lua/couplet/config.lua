-- SPDX-License-Identifier: MIT
-- config: reads config.lua, a Lua chunk in which every assignment is an option (known to plugins as core.configmanager).
--
--   config.load(path)       -> true | nil, message, part       the old configuration stays on failure
--   config.parse(path, text?, lua?)  -> configuration | nil, message, part       without touching the loaded one
--   config.salvage(part)    uses what a broken file said before it broke, for those who look for the running server
--   config.use(configuration)        makes a parsed one the loaded one
--   config.get(host, key)   the host's value, else the global one; rawget(host, key): only that section's
--   config.set(host, key, value)     for this run only
--   config.hosts()          -> names in the order of the file; config.kind(host) -> "local" | "component"
--   config.getconfig()      -> host -> options (sections inherit from "*"); config.files() -> files read
--   config.place(host, key) -> "file:line" where an option was set | nil; place(host): where the host begins
--   config.again()          -> array of { host =, place = }: hosts that are begun once more
--   config.once(text)       -> true the first time since the file was read: complaints about it are made once
--   config.warnings()       -> array of "file:line: text"
--
-- What may stand in the file: docs/config.md.

local core = require "couplet.core"
local reader = require "couplet.config_reader"

local config = {}
local loaded = reader.empty()

config.parse = reader.parse
config.resolve_relative_path = reader.resolve

function config.use(new)
  loaded = new
end

function config.load(path)
  local new, err, part = reader.parse(path)
  if not new then return nil, err, part end
  loaded = new
  return true
end

function config.salvage(part)
  for _, key in ipairs { "data_path", "control_socket" } do
    local value = part.options["*"][key]
    if type(value) ~= "string" then part.options["*"][key] = reader.written(part, key) end
  end
  loaded = part
end

-- the directory relative paths start from, and the file itself
function config.directory() return loaded.directory end
function config.file() return loaded.file end

function config.get(host, key)
  if key == nil then host, key = "*", host end
  local section = loaded.options[host or "*"]
  local value = section and rawget(section, key)
  if value == nil then value = rawget(loaded.options["*"], key) end
  return value
end

function config.rawget(host, key)
  local section = loaded.options[host]
  if section then return rawget(section, key) end
end

function config.set(host, key, value)
  if type(host) ~= "string" or type(key) ~= "string" then return false end
  if not loaded.options[host] then reader.section(loaded, host) end
  loaded.options[host][key] = value
  return true
end

function config.getconfig() return loaded.options end
function config.current() return loaded end
function config.files() return { table.unpack(loaded.files) } end
function config.warnings() return loaded.warnings end

function config.again() return loaded.again end

function config.once(text)
  loaded.said = loaded.said or {}
  local first = not loaded.said[text]
  loaded.said[text] = true
  return first
end

function config.hosts() return { table.unpack(loaded.order) } end

function config.kind(host)
  local section = loaded.options[host]
  if not section or host == "*" then return nil end
  return rawget(section, "component_module") and "component" or "local"
end

function config.place(host, key)
  return reader.place(loaded, host, key)
end

-- An absolute path: relative ones start from `base`, by default the directory of the configuration file.
function config.path(path, base)
  return reader.resolve(base or loaded.directory or core.system.cwd(), path)
end

function config.data_path()
  local path = config.get("*", "data_path")
  if path then return config.path(tostring(path)) end
  local directory = loaded.directory or core.system.cwd()
  if directory:match("^/etc/prosody") then return "/var/lib/prosody" end       -- an installation taken over as it is
  if directory:match("^/etc/") or directory:match("^/usr/") then return "/var/lib/couplet" end
  return config.path("data")
end

return config
