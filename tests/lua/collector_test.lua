-- SPDX-License-Identifier: MIT
-- When the collector makes a round by itself: its timers are turned by hand.

local check = require "check"
local loop = require "couplet.core".loop

local timers = {}
local real = loop.timer
loop.timer = function(delay, fn) timers[#timers + 1] = { delay = delay, fn = fn } end
local collector = require "couplet.collector"

local kept
local function burst()                           -- garbage, and more work than counts as nothing
  local till = loop.cpu() + 0.06
  kept = {}
  repeat
    for i = 1, 1000 do kept[#kept + 1] = { i } end
  until loop.cpu() >= till
  kept = nil
end

-- One look -> was a round begun? Rounds are turned to their end.
local function look()
  timers[1].fn()
  if not timers[2] then return false end
  repeat
    local timer = table.remove(timers)
    while timer.fn() do end
  until not timers[2]
  return true
end

check.test("what a burst has left is collected at the next rest, and that of the start at once", function()
  collectgarbage()
  collector.setup()
  collectgarbage "stop"                          -- or it would come before us
  check.equal(#timers, 1)
  burst()
  local before = collectgarbage "count"
  check.ok(look(), "after the start")
  check.ok(collectgarbage "count" < before / 2)
  check.ok(not look(), "there is nothing")
  burst()
  check.ok(not look(), "it is busy")
  check.ok(look(), "it rests")
  check.ok(not look(), "once")
end)

loop.timer = real
check.done()
