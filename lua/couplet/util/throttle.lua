-- SPDX-License-Identifier: MIT
-- throttle.lua: so much per period, evenly refilled.
--
--   throttle.create(max, period) -> t
--   t:poll(cost?, split?) -> true | false, balance, still owed      takes cost; with split, takes what there is
--   t:peek(cost?) -> bool       t:update() -> balance

local clock = require "couplet.clock"

local methods = {}
local mt = { __index = methods, __name = "throttle" }

local function create(max, period)
  max = tonumber(max)
  return setmetatable({ rate = max / (tonumber(period) or 1), max = max, t = clock.mono(), balance = max }, mt)
end

function methods:update()
  local now = clock.mono()
  local balance = self.balance + (now - self.t) * self.rate
  self.t = now
  self.balance = balance > self.max and self.max or balance
  return self.balance
end

-- Up to now first: else what was left before a silence would come on top of a full measure.
function methods:peek(cost)
  return self:update() >= (cost or 1)
end

function methods:poll(cost, split)
  cost = cost or 1
  if self:peek(cost) then
    self.balance = self.balance - cost
    return true
  end
  local balance = self.balance
  if split then self.balance = 0 end
  return false, balance, cost - balance
end

return { create = create }
