-- SPDX-License-Identifier: MIT
-- module.lua: the methods of every plugin's `module` object (core.moduleapi); a function added here is a method of all.
-- PLUGIN-API §3. The groups live in lua/couplet/module/*.lua; plugin.lua makes the objects.
--
-- Everything a plugin gets through its object is noted in module._owned[kind][handle] = release, so that unloading gives
-- all of it back: api._own(module, kind, handle, release) and api._disown(module, kind, handle).

local events = require "couplet.events"
local options = require "couplet.options"
local clock = require "couplet.clock"
local xpcall = xpcall

local api = {}

for name, fn in pairs(options) do
  if name:find "^get_option" then api[name] = fn end
end

-- --- identity, log, status ---

function api:get_name() return self.name end
function api:get_host() return self.host end

function api:get_host_type()
  if self.host == "*" then return "global" end
  local host = require "couplet.prosody".hosts[self.host]
  return host and host.type or nil
end

function api:log(level, fmt, ...)
  return self._log(level, fmt, ...)
end

local kinds = { error = true, warn = true, info = true, core = true }

function api:set_status(kind, text, override)
  if not kinds[kind] then
    self:log("warn", "%s is not a kind of status", kind)
    return false
  end
  if self.status_type == "error" and kind ~= "error" and not override then return false end
  self.status_type, self.status_message, self.status_time = kind, text, clock.wall()
  self:fire_event("module-status/updated", { name = self.name })
  return true
end

function api:log_status(level, fmt, ...)
  self:set_status(level, require "couplet.util.format".format(fmt, ...))
  return self:log(level, fmt, ...)
end

function api:get_status()
  return self.status_type, self.status_message, self.status_time
end

function api:get_directory()
  return self.resource_path or self.path and (self.path:match "^(.*)/[^/]*$" or ".") or nil
end

function api:load_resource(path, mode)
  local dir = self:get_directory()
  if not path:find "^/" and dir then path = dir .. "/" .. path end
  return io.open(path, mode or "r")
end

-- --- what belongs to the plugin ---

function api._own(self, kind, handle, release)
  local owned = self._owned
  local of_kind = owned[kind]
  if not of_kind then
    of_kind = {}
    owned[kind] = of_kind
  end
  of_kind[handle] = release or true
  return handle
end

function api._disown(self, kind, handle)
  local of_kind = self._owned[kind]
  if of_kind then of_kind[handle] = nil end
end

function api:_count(kind)
  local n = 0
  for _ in pairs(self._owned[kind] or {}) do n = n + 1 end
  return n
end

-- An error in one of the plugin's functions: logged, counted; too many a minute may unload it.
function api:_failed(what, text)
  local stats = self._stats
  stats.errors = stats.errors + 1
  self._log("error", "%s: %s", what, text)
  local policy = self._error_policy
  if policy then
    local minute = clock.mono() // 60
    if stats.minute ~= minute then stats.minute, stats.recent = minute, 0 end
    stats.recent = stats.recent + 1
    if stats.recent == policy then
      self._log("error", "unloading after %d errors in a minute (plugin_error_policy)", policy)
      local task, plugin = require "couplet.task", require "couplet.plugin"
      clock.timer(0, function() task.spawn(plugin.unload, self.host, self.name) end)
    end
  end
end

-- Calls fn with the plugin's errors caught: true, results... | false, text.
local function outcome(self, what, ok, ...)
  if not ok then self:_failed(what, (...)) end
  return ok, ...
end

function api:_call(what, fn, ...)
  return outcome(self, what, xpcall(fn, events.explain, ...))
end

-- The same module acting on another host.
function api:context(host)
  return setmetatable({ host = host or "*", global = host == nil or host == "*" },
    { __index = self, __tostring = getmetatable(self).__tostring })
end

for _, group in ipairs { "hooks", "cross", "send", "time", "data", "native" } do
  for name, fn in pairs(require("couplet.module." .. group)) do api[name] = fn end
end

return api
