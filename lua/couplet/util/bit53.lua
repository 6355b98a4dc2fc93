-- SPDX-License-Identifier: MIT
-- util.bit53: band bor bxor lshift rshift on the whole integer.

return {
  band = function(a, b, ...)
    local r = a & b
    for i = 1, select("#", ...) do r = r & select(i, ...) end
    return r
  end,
  bor = function(a, b, ...)
    local r = a | b
    for i = 1, select("#", ...) do r = r | select(i, ...) end
    return r
  end,
  bxor = function(a, b, ...)
    local r = a ~ b
    for i = 1, select("#", ...) do r = r ~ select(i, ...) end
    return r
  end,
  lshift = function(a, n) return a << n end,
  rshift = function(a, n) return a >> n end,
}
