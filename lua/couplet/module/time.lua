-- SPDX-License-Identifier: MIT
-- module/time.lua: timers, periodic work, readiness. PLUGIN-API §3.6.

local clock = require "couplet.clock"
local events = require "couplet.events"
local task = require "couplet.task"
local xpcall, pack, unpack = xpcall, table.pack, table.unpack

local api = {}

-- --- timers ---

local Timer = {}
Timer.__index = Timer

local function call_timer(t, now)
  local args = t.args
  local ok, again
  if args then
    ok, again = xpcall(t.fn, events.explain, now, unpack(args, 1, args.n))
  else
    ok, again = xpcall(t.fn, events.explain, now)
  end
  if not ok then
    t.module:_failed("timer", again)
    again = nil
  end
  if t.stopped or t.rescheduled then
    t.rescheduled = nil
  elseif type(again) == "number" then
    t.native:start(again)
  else
    t:stop()
  end
end

function Timer:stop()
  if self.stopped then return end
  self.stopped = true
  self.native:stop()
  self.module._disown(self.module, "timer", self)
end
Timer.disarm = Timer.stop

function Timer:reschedule(delay)
  if self.stopped then
    self.stopped = nil
    self.module._own(self.module, "timer", self, Timer.stop)
  end
  self.rescheduled = self.running or nil
  self.native:start(delay)
end

function api:add_timer(delay, fn, ...)
  local t = setmetatable({ module = self, fn = fn, args = select("#", ...) > 0 and pack(...) or nil }, Timer)
  t.native = clock.timer(delay, function()
    task.spawn(function()
      t.running = true
      call_timer(t, clock.wall())
      t.running = nil
    end)
  end)
  self._own(self, "timer", t, Timer.stop)
  return t
end

-- --- periodic work: when it last ran is stored, so restarts neither lose nor repeat runs ---

local periods = { hourly = 3600, daily = 86400, weekly = 604800 }

local function last_runs(self)
  if self.host == "*" then
    self._cron_memory = self._cron_memory or {}
    return self._cron_memory
  end
  self._cron_store = self._cron_store or self:open_store("cron", "map") or nil
  return nil, self._cron_store
end

local function get_last(self, id)
  local memory, store = last_runs(self)
  if memory then return memory[id] end
  return store and tonumber((store:get(nil, id)))
end

local function set_last(self, id, when)
  local memory, store = last_runs(self)
  if memory then
    memory[id] = when
  elseif store then
    local ok, err = store:set(nil, id, when)
    if not ok then self:log("warn", "the last run of %s cannot be stored: %s", id, err) end
  end
end

function api:cron(item)
  local period = periods[item.when] or tonumber(item.period)
  if not period then error("cron: when must be hourly, daily or weekly", 2) end
  if type(item.run) ~= "function" then error("cron: run must be a function", 2) end
  if not item.name and item.when then item.name = item.when .. "-" .. ((self._cron_count or 0) + 1) end
  self._cron_count = (self._cron_count or 0) + 1
  local id = self.name .. "/" .. item.name
  item.id, item.owner, item.period = id, self, period
  self:add_item("task", item)

  local function due_in(now)
    local last = get_last(self, id)
    if not last then return math.random() * math.min(period, 300) end       -- not all of them at start
    return math.max(0, last + period - now)
  end
  local timer
  local function tick()
    local now = os.time()
    local last = item.last
    item.last = now
    local ok = self:_call("task " .. item.name, item.run, item, now)
    set_last(self, id, now)
    if not ok then self:log("debug", "task %s will be tried again in its next period (last run %s)", item.name, last) end
    return period
  end
  self:on_ready(function()
    local now = os.time()
    item.last = get_last(self, id)
    timer = self:add_timer(due_in(now), tick)
    item.timer = timer
  end)
  return item
end

for when in pairs(periods) do
  api[when] = function(self, name, fn)
    if type(name) == "function" then name, fn = nil, name end
    return self:cron { name = name, when = when, run = fn }
  end
end

-- --- readiness ---

function api:on_ready(fn)
  local promise, prosody = require "couplet.promise", require "couplet.prosody"
  return promise.new(function(resolve, reject)
    local done
    local function go()
      if done then return end
      done = true
      self:unhook_global("server-started", go)
      local ok, result = self:_call("on_ready", fn)
      if ok then resolve(result) else reject(result) end
    end
    if prosody.is_started then
      if task.in_task() then go() else task.spawn(go) end
    else
      self:hook_global("server-started", go)
    end
  end)
end

return api
