-- SPDX-License-Identifier: MIT
-- net.resolvers.chain: new({ resolver, … }) -> resolver that asks one after the other.

local methods = {}
local mt = { __index = methods, __name = "resolver" }

function methods:next(cb)
  local first = self.resolvers[1]
  if not first then return cb(nil, nil, nil, self.last_error) end
  first:next(function(kind, address, port, extra)
    if kind then return cb(kind, address, port, extra) end
    self.last_error = extra
    table.remove(self.resolvers, 1)
    return self:next(cb)
  end)
end

return { new = function(resolvers) return setmetatable({ resolvers = { table.unpack(resolvers) } }, mt) end }
