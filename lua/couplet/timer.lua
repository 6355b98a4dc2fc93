-- SPDX-License-Identifier: MIT
-- timer.lua: timers by id (util.timer). Plugins rather use module:add_timer, which ends with them.
--
--   timer.add_task(delay, fn(now, id, param), param?) -> id        a number fn returns starts it again
--   timer.stop(id) -> bool      timer.reschedule(id, delay) -> bool

local clock = require "couplet.clock"
local events = require "couplet.events"
local task = require "couplet.task"
local xpcall = xpcall

local timer = {}

local Id = { __name = "timer" }
Id.__index = Id

local function run(id)
  id.running = true
  local ok, again = xpcall(id.fn, events.explain, clock.wall(), id, id.param)
  id.running = nil
  if not ok then events.report(nil, "timer", again) end
  if id.moved then
    id.moved = nil
  elseif ok and type(again) == "number" and not id.stopped then
    id.native:start(again)
  else
    id.stopped = true
  end
end

function timer.add_task(delay, fn, param)
  local id = setmetatable({ fn = fn, param = param }, Id)
  id.native = clock.timer(delay, function() task.spawn(run, id) end)
  return id
end

function timer.stop(id)
  if getmetatable(id) ~= Id or id.stopped then return false end
  id.stopped = true
  id.native:stop()
  return true
end

function timer.reschedule(id, delay)
  if getmetatable(id) ~= Id then return false end
  id.stopped = nil
  id.moved = id.running
  id.native:start(delay)
  return true
end

Id.stop, Id.reschedule = timer.stop, timer.reschedule

return timer
