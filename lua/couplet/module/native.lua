-- SPDX-License-Identifier: MIT
-- module/native.lua: what Couplet adds. PLUGIN-API §3.9.

local options = require "couplet.options"
local events = require "couplet.events"
local task = require "couplet.task"
local xpcall = xpcall

local api = {}

function api:requires(what)
  local features = require "couplet.features".available
  if what.api and what.api > 1 then
    error(("plugin %s needs plugin API %s; this server has 1"):format(self.name, what.api), 0)
  end
  local missing = {}
  for _, feature in ipairs(what.features or {}) do
    if not features:contains(feature) then missing[#missing + 1] = feature end
  end
  if missing[1] then
    error(("plugin %s needs features this server does not have: %s"):format(self.name, table.concat(missing, ", ")), 0)
  end
  return true
end

-- --- declared options ---

local function read_all(self)
  local values = {}
  for name, d in pairs(self._declared) do values[name] = options.value(self, d) end
  return values
end

-- self.config reads like a table and is called like a method: module:config{...}, module.config.opt
function api._make_config(self)
  local values
  self._declared = {}
  self._config_values = function() return values end
  return setmetatable({}, {
    __index = function(_, name)
      values = values or read_all(self)
      return values[name]
    end,
    __newindex = function() error("options are set in the configuration file", 2) end,
    __pairs = function()
      values = values or read_all(self)
      return pairs(values)
    end,
    __call = function(config, _, declarations)
      for name, d in pairs(options.declare(self, declarations)) do self._declared[name] = d end
      values = read_all(self)
      return config
    end,
  }), function() values = nil end
end

local function same(a, b)
  if a == b then return true end
  if type(a) ~= "table" or type(b) ~= "table" then return false end
  for k, v in pairs(a) do if not same(v, b[k]) then return false end end
  for k in pairs(b) do if a[k] == nil then return false end end
  return true
end

function api:on_config_change(fn)
  self:hook_global("config-reloaded", function()
    local changed = self._config_changed
    if changed and next(changed) then fn(changed) end
  end)
end

-- After a reload of the configuration: re-reads declared options. Called by plugin.lua before any handler.
function api:_refresh_config()
  local before = self._config_values() or {}
  local copy = {}
  for name, value in pairs(before) do copy[name] = value end
  self._forget_config()
  local changed = {}
  for name in pairs(self._declared) do
    if not same(copy[name], self.config[name]) then changed[name] = true end
  end
  self._config_changed = changed
end

-- --- tasks ---

function api:spawn(fn, ...)
  local t
  local function run(...)
    local ok, text = xpcall(fn, events.explain, ...)
    if not ok then self:_failed("task", text) end
  end
  t = task.new(run, ...)
  if t:status() == "waiting" then
    self._own(self, "task", t, function() t:cancel() end)
    t.ended = function() self._disown(self, "task", t) end
    local cancel = t.cancel
    t.cancel = function(handle)
      self._disown(self, "task", t)
      return cancel(handle)
    end
  end
  return t
end

function api:on_unload(fn)
  self._on_unload = rawget(self, "_on_unload") or {}
  table.insert(self._on_unload, fn)
end

-- CPU-bound work off the logic thread: kinds are couplet.core.jobs' -> promise
function api:job(kind, args)
  local promise = require "couplet.promise"
  local jobs = require "couplet.jobs"
  if not jobs.kinds[kind] then error("no such kind of job: " .. tostring(kind), 2) end
  return promise.new(function(resolve, reject)
    local handle, over, unloaded = {}, false, false
    jobs.run(kind, args, function(result, err)
      over = true
      self._disown(self, "job", handle)
      if unloaded then return end
      if result == nil then reject(err or "failed") else resolve(result) end
    end)
    if not over then self._own(self, "job", handle, function() unloaded = true end) end
  end)
end

function api:usage()
  local handles = { hook = self:_count_hooks() }
  for kind in pairs(self._owned) do
    if kind ~= "hook" then handles[kind] = self:_count(kind) end
  end
  local stats = self._stats
  return { calls = stats.calls, errors = stats.errors, seconds = stats.seconds, slow = stats.slow, handles = handles }
end

-- Own events with their payload, for the shell.
api._events_doc = {}

function api:events_doc(docs)
  for event, doc in pairs(docs) do
    api._events_doc[event] = { plugin = self.name, doc = doc }
    self._own(self, "events_doc", event, function() api._events_doc[event] = nil end)
  end
end

return api
