-- SPDX-License-Identifier: MIT
-- iterators.lua: making iterators out of iterators. Each takes (f, s, var) as `for` does.
--
--   keys(t) values(t) sorted_pairs(t, cmp?) range(x, y?) reverse(f, s, v) select(n, f, s, v) unique(f, s, v) count(f, s, v)
--   head(n, f, s, v) skip(n, f, s, v) tail(n, f, s, v) filter(pred | value, f, s, v) map(fn, f, s, v) ripairs(t)
--   to_array(f, s, v) to_table(f, s, v) join(f, s, v):append(f2, …):prepend(…)  it(f, s, v)

local pack, unpack = table.pack, table.unpack

local it = {}

function it.it(f, s, v) return f, s, v end

function it.keys(t)
  return function(_, k) return (next(t, k)) end, t
end

function it.values(t)
  local k, v
  return function()
    k, v = next(t, k)
    return v
  end
end

function it.reverse(f, s, var)
  local rows = {}
  while true do
    local row = pack(f(s, var))
    var = row[1]
    if var == nil then break end
    rows[#rows + 1] = row
  end
  local i = #rows + 1
  return function()
    i = i - 1
    if i > 0 then return unpack(rows[i], 1, rows[i].n) end
  end
end

function it.select(n, f, s, var)
  return function()
    local row = pack(f(s, var))
    var = row[1]
    if var ~= nil then return row[n] end
  end
end

function it.unique(f, s, var)
  local seen = {}
  return function()
    while true do
      local row = pack(f(s, var))
      var = row[1]
      if var == nil then return nil end
      if not seen[var] then
        seen[var] = true
        return unpack(row, 1, row.n)
      end
    end
  end
end

function it.count(f, s, var)
  local n = 0
  while true do
    var = f(s, var)
    if var == nil then return n end
    n = n + 1
  end
end

function it.head(n, f, s, var)
  local c = 0
  return function(_, v)
    if c >= n then return nil end
    c = c + 1
    return f(s, v)
  end, s, var
end

function it.skip(n, f, s, var)
  for _ = 1, n do
    var = f(s, var)
    if var == nil then return function() end end
  end
  return f, s, var
end

function it.tail(n, f, s, var)
  local rows, c = {}, 0
  while true do
    local row = pack(f(s, var))
    var = row[1]
    if var == nil then break end
    rows[c % n + 1] = row
    c = c + 1
  end
  local i, left = c > n and c or 0, math.min(c, n)
  return function()
    if left == 0 then return nil end
    left = left - 1
    local row = rows[i % n + 1]
    i = i + 1
    return unpack(row, 1, row.n)
  end
end

function it.filter(wanted, f, s, var)
  if type(wanted) ~= "function" then
    local value = wanted
    wanted = function(x) return x ~= value end
  end
  return function(_, v)
    while true do
      local row = pack(f(s, v))
      v = row[1]
      if v == nil then return nil end
      if wanted(unpack(row, 1, row.n)) then return unpack(row, 1, row.n) end
    end
  end, s, var
end

function it.map(fn, f, s, var)
  return function()
    local row = pack(f(s, var))
    var = row[1]
    if var ~= nil then return fn(unpack(row, 1, row.n)) end
  end
end

function it.ripairs(t)
  return function(_, i)
    i = i - 1
    if i > 0 then return i, t[i] end
  end, t, #t + 1
end

function it.range(x, y)
  if not y then x, y = 1, x end
  return function(_, i)
    i = i + 1
    if i <= y then return i end
  end, nil, x - 1
end

function it.to_array(f, s, var)
  local out = {}
  while true do
    var = f(s, var)
    if var == nil then return out end
    out[#out + 1] = var
  end
end

function it.to_table(f, s, var)
  local out = {}
  while true do
    local value
    var, value = f(s, var)
    if var == nil then return out end
    out[var] = value
  end
end

function it.sorted_pairs(t, cmp)
  local keys = {}
  for k in pairs(t) do keys[#keys + 1] = k end
  table.sort(keys, cmp)
  local i = 0
  return function()
    i = i + 1
    if keys[i] ~= nil then return keys[i], t[keys[i]] end
  end
end

-- --- join ---

local Join = {}
Join.__index = Join

function Join:append(f, s, var)
  return it.join(f, s, var, { self, "append" })
end

function Join:prepend(f, s, var)
  return it.join(f, s, var, { self, "prepend" })
end

function Join.__call(self)
  while self.i <= #self.parts do
    local part = self.parts[self.i]
    local row = pack(part[1](part[2], part[3]))
    part[3] = row[1]
    if row[1] ~= nil then return unpack(row, 1, row.n) end
    self.i = self.i + 1
  end
end

function it.join(f, s, var, to)
  if to then
    local self, where = to[1], to[2]
    table.insert(self.parts, where == "append" and #self.parts + 1 or 1, { f, s, var })
    return self
  end
  return setmetatable({ i = 1, parts = { { f, s, var } } }, Join)
end

return it
