-- SPDX-License-Identifier: MIT
-- budget.lua: so much per period for each of many: accounts, addresses.
--
--   local take, left = budget.new(size, max, period)      take(key, cost?) -> bool: is that much (1) left? Then it is taken
--                                                         left(key, cost?) -> bool: the same, and nothing is taken
--
-- Those of the last `size` keys at least are remembered.

local recent = require "couplet.recent"
local throttle = require "couplet.util.throttle"

local budget = {}

function budget.new(size, max, period)
  local get, set = recent.new(size)
  local function of(key)
    local limit = get(key)
    if not limit then
      limit = throttle.create(max, period)
      set(key, limit)
    end
    return limit
  end
  return function(key, cost) return (of(key):poll(cost)) end, function(key, cost) return of(key):peek(cost) end
end

return budget
