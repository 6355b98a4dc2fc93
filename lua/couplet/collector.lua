-- SPDX-License-Identifier: MIT
-- collector.lua: how Lua's memory is kept: the option `gc`, and what is done while nobody wants anything.
--
--   collector.setup(gc)      gc: the option, a table or nil; again after a reload
--
-- Garbage is collected as it is made (incremental, a new round when the heap has doubled; at Lua's own speed of 100 a round is
-- over before 150 KB more are made, in a big room while one comes in, so that all of it is one wait: at 8 it takes the time in
-- which the heap grows by a seventh). After a burst, of logins for example,
-- up to half of the heap is garbage that nobody makes a round for: so when few tasks have run for a while, and short ones (to
-- tell a thousand contacts is one), a round is made in slices, and what is empty then goes back to the system. A server that does
-- nothing does this once.

local core = require "couplet.core"
local loop, system = core.loop, core.system
local cpu = loop.cpu                     -- of this thread: a busy I/O thread does not make its slices shorter

local collector = {}

local REST = 2                          -- seconds between two looks
local QUIET, SHORT = 100, 0.04          -- tasks, and seconds of work, in these that count as nothing
local SLICE = 0.001                     -- seconds of work at a time …
local PAUSE = 0.01                      -- … and between
local GROWN = 1.1                       -- of what the last round left: worth another

local heap_set, left, going
local started, worked                   -- tasks, and work of this thread, until the last look: the start is a burst like others
local giving                            -- a round has ended whose pages have not all gone back

local function give_back()
  if not going then return end
  giving = system.trim()
  if giving then return PAUSE end
  going = nil
end

local function slice()
  if not going then return end
  local till = cpu() + SLICE
  repeat
    if collectgarbage("step", 0) then
      left, giving = collectgarbage "count", true
      loop.timer(PAUSE, give_back)
      return
    end
  until cpu() >= till
  return PAUSE
end

local function look()
  local _, _, all = core.task.pool()
  local work = cpu()
  local quiet = all - (started or all) <= QUIET and (going or work - (worked or work) <= SHORT)      -- a round is work, too
  started, worked = all, work
  if not quiet then
    going = nil
  elseif not going and (giving or collectgarbage "count" > left * GROWN) then
    going = true
    loop.timer(PAUSE, giving and give_back or slice)         -- no task: those are counted
  end
  return REST
end

function collector.setup(gc)
  gc = type(gc) == "table" and gc or {}
  if not heap_set then
    heap_set = true
    system.heap()
    left = collectgarbage "count"
    loop.timer(REST, look)
  end
  if gc.mode == "generational" then
    collectgarbage("generational", gc.minor_threshold or 20, gc.major_threshold or 100)
  else
    collectgarbage("incremental", gc.pause or gc.threshold or 200, gc.speed or 8, gc.step_size or 10)
  end
end

return collector
