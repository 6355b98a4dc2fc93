-- SPDX-License-Identifier: MIT
-- clock.lua: where the Lua half gets its time from. The loop of couplet.core, unless a test brings its own.
--
--   clock.mono(), clock.wall()      seconds with fractions
--   clock.cpu()                     seconds this thread has worked: what somebody's stanza took, whoever else wants the processor
--   clock.timer(seconds, fn) -> t   fn() once; a number it returns starts it again; t:stop(), t:start(seconds), t:active()
--   clock.once()                    one turn of the loop, waiting for something to happen
--   clock.use(source) -> previous   source has the functions above; without cpu, mono is taken; nil: the real one

local clock = {}
local source

local function real()
  local loop = require "couplet.core".loop
  return { mono = loop.mono, wall = loop.wall, cpu = loop.cpu, timer = loop.timer, once = loop.once }
end

function clock.use(new)
  local old = source
  source = new or real()
  clock.mono, clock.wall, clock.once = source.mono, source.wall, source.once
  clock.timer, clock.cpu = source.timer, source.cpu or source.mono
  return old
end

clock.use()

return clock
