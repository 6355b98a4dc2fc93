-- SPDX-License-Identifier: MIT
-- watchdog.lua: fn is called unless reset() comes in time.
--
--   watchdog.new(seconds, fn(dog)) -> dog      dog:reset(seconds?)   dog:cancel()

local timer = require "couplet.timer"

local methods = {}
local mt = { __index = methods, __name = "watchdog" }

-- A number makes it bark again; reset() moves that, or wakes a dog that has barked.
local function bark(_, _, dog)
  return dog.callback(dog)
end

local function new(seconds, callback)
  local dog = setmetatable({ timeout = seconds, callback = callback }, mt)
  dog.timer_id = timer.add_task(seconds, bark, dog)
  return dog
end

function methods:reset(seconds)
  self.timeout = seconds or self.timeout
  if self.timer_id then
    timer.reschedule(self.timer_id, self.timeout)
  else
    self.timer_id = timer.add_task(self.timeout, bark, self)
  end
end

function methods:cancel()
  if self.timer_id then
    timer.stop(self.timer_id)
    self.timer_id = nil
  end
end

return { new = new }
