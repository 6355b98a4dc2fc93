-- SPDX-License-Identifier: MIT
-- clock.lua: where the Lua half gets its time from. The loop of couplet.core, unless a test brings its own.
--
--   clock.mono(), clock.wall()      seconds with fractions
--   clock.timer(seconds, fn) -> t   fn() once; a number it returns starts it again; t:stop(), t:start(seconds), t:active()
--   clock.once()                    one turn of the loop, waiting for something to happen
--   clock.use(source) -> previous   source has the four functions above; nil: the real one

local clock = {}
local source

local function real()
  local loop = require "couplet.core".loop
  return { mono = loop.mono, wall = loop.wall, timer = loop.timer, once = loop.once }
end

function clock.use(new)
  local old = source
  source = new or real()
  clock.mono, clock.wall, clock.once = source.mono, source.wall, source.once
  clock.timer = source.timer
  return old
end

clock.use()

return clock
