-- SPDX-License-Identifier: MIT
-- muc/pace: coming, going and changing in big rooms takes turns, so that a thousand who come at once hold up nobody elsewhere.
--
--   pace(n) -> true: it has waited        before something that is told to n: so much goes out between two looks at the
--                                         sockets, the rest waits, first come first served

local clock = require "couplet.clock"
local task = require "couplet.task"

local SMALL = 50                               -- rooms in which nobody waits
local TURN = 2000                              -- stanzas between two looks at the sockets; some 2 ms …
local SECONDS = 0.003                          -- … and where it is known, so long

local waiting, first, last = {}, 1, 0          -- { n, done }
local spent, armed = 0, false

local function turn()
  spent = 0
  local till = clock.mono() + SECONDS
  while first <= last and spent < TURN and clock.mono() < till do
    local one = waiting[first]
    waiting[first], first = nil, first + 1
    spent = spent + one.n
    one.done()
  end
  armed = first <= last or spent > 0
  return armed and 0 or nil
end

module:on_unload(function()
  while first <= last do
    first = first + 1
    waiting[first - 1].done()
  end
end)

return function(n)
  if n < SMALL then return false end
  if not armed then
    armed = true
    module:add_timer(0, turn)
  end
  if first > last and spent < TURN then
    spent = spent + n
    return false
  end
  task.await(function(done)
    last = last + 1
    waiting[last] = { n = n, done = done }
  end)
  return true
end
