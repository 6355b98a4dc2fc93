-- SPDX-License-Identifier: MIT
-- net.resolvers.manual: new({ { "tcp", address, port, extra? }, … }) -> resolver that gives these, names resolved.

local basic = require "couplet.net.resolvers.basic"

local methods = {}
local mt = { __index = methods, __name = "resolver" }

function methods:next(cb)
  if not self.inner then
    local target = table.remove(self.targets, 1)
    if not target then return cb(nil, nil, nil, self.last_error) end
    self.inner = basic.new(target[2], target[3], target[1], target[4] or self.extra)
  end
  self.inner:next(function(kind, address, port, extra)
    if kind then return cb(kind, address, port, extra) end
    self.last_error = extra
    self.inner = nil
    return self:next(cb)
  end)
end

local function new(targets, kind, extra)
  local copy = {}
  for i, target in ipairs(targets) do
    copy[i] = type(target) == "table" and target or { kind or "tcp", target }
  end
  return setmetatable({ targets = copy, extra = extra }, mt)
end

return { new = new }
