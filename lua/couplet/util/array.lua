-- SPDX-License-Identifier: MIT
-- array.lua: lists with methods. array{1, 2}, array.new(t), array(iterator...), array.collect(iterator...).
--
--   a:map(fn) a:filter(fn) a:slice(i, j?) a:sort(cmp?) a:unique() a:pluck(key, default?) a:reverse() a:shuffle() a:append(b)
--   a:push(x) a:pop() a:concat(sep) a:length() a:random() a:random_other(x) a:contains(x)     they change the array and return it
--   array.map(out, a, fn) …       the same into another table; with two arguments a fresh one
--   a .. b, a + b (new array), a == b, tostring

local array = {}
local methods = {}
local array_mt = { __name = "array", __index = methods }

local function new(t)
  return setmetatable(t or {}, array_mt)
end
array.new = new

function array_mt.__add(a, b)
  local out = new()
  table.move(a, 1, #a, 1, out)
  return out:append(b)
end
array_mt.__concat = function(a, b)
  if getmetatable(a) == array_mt and type(b) == "table" then return array_mt.__add(a, b) end
  if getmetatable(b) == array_mt and type(a) == "table" then return array_mt.__add(a, b) end
  return tostring(a) .. tostring(b)
end

function array_mt.__eq(a, b)
  if #a ~= #b then return false end
  for i = 1, #a do
    if a[i] ~= b[i] then return false end
  end
  return true
end

function array_mt.__tostring(a)
  local out = {}
  for i = 1, #a do out[i] = type(a[i]) == "string" and ("%q"):format(a[i]) or tostring(a[i]) end
  return "{ " .. table.concat(out, ", ") .. " }"
end

function array_mt.__div(a, fn)          -- a / fn: map, without what maps to nil
  local out = new()
  for i = 1, #a do
    local v = fn(a[i])
    if v ~= nil then out[#out + 1] = v end
  end
  return out
end

function array_mt.__freeze(a) return a end

local function replace(out, values, n)
  for i = 1, n do out[i] = values[i] end
  for i = #out, n + 1, -1 do out[i] = nil end
  return out
end

-- Each base function takes (out, input, ...); a:f(...) is f(a, a, ...), array.f(a, ...) makes a new array.
local base = {}

function base.map(out, a, fn)
  local n = #a
  local values = {}
  for i = 1, n do values[i] = fn(a[i]) end
  return replace(out, values, n)
end

function base.filter(out, a, fn)
  local values, n = {}, 0
  for i = 1, #a do
    local v = a[i]
    if fn(v) then
      n = n + 1
      values[n] = v
    end
  end
  return replace(out, values, n)
end

function base.slice(out, a, i, j)
  local len = #a
  i, j = i or 1, j or -1
  if i < 0 then i = len + i + 1 end
  if j < 0 then j = len + j + 1 end
  if i < 1 then i = 1 end
  if j > len then j = len end
  local values, n = {}, 0
  for k = i, j do
    n = n + 1
    values[n] = a[k]
  end
  return replace(out, values, n)
end

function base.sort(out, a, cmp)
  if out ~= a then replace(out, a, #a) end
  table.sort(out, cmp)
  return out
end

function base.unique(out, a)
  local seen = {}
  return base.filter(out, a, function(v)
    if seen[v] then return false end
    seen[v] = true
    return true
  end)
end

function base.pluck(out, a, key, default)
  return base.map(out, a, function(v)
    local field = v[key]
    if field == nil then return default end
    return field
  end)
end

function base.reverse(out, a)
  local n, values = #a, {}
  for i = 1, n do values[i] = a[n - i + 1] end
  return replace(out, values, n)
end

function base.shuffle(out, a)
  if out ~= a then replace(out, a, #a) end
  for i = #out, 2, -1 do
    local j = math.random(i)
    out[i], out[j] = out[j], out[i]
  end
  return out
end

for name, fn in pairs(base) do
  methods[name] = function(a, ...) return fn(a, a, ...) end
  array[name] = function(a, ...) return fn(new(), a, ...) end
end

function methods.append(a, b)
  table.move(b, 1, #b, #a + 1, a)
  return a
end

function methods.push(a, x)
  a[#a + 1] = x
  return a
end

methods.pop = table.remove
methods.remove = table.remove
methods.insert = table.insert
methods.unpack = table.unpack

function methods.concat(a, sep)
  local out = {}
  for i = 1, #a do out[i] = tostring(a[i]) end
  return table.concat(out, sep)
end

function methods.length(a) return #a end

function methods.contains(a, x)
  for i = 1, #a do
    if a[i] == x then return true end
  end
  return false
end

function methods.random(a)
  if #a == 0 then return nil end
  return a[math.random(#a)]
end

-- not the one it was before: cheap and fair enough
function methods.random_other(a, x)
  local others = array.filter(a, function(v) return v ~= x end)
  return others:random()
end

for _, name in ipairs { "append", "push", "pop", "concat", "length", "random", "random_other", "contains" } do
  array[name] = methods[name]
end

function array.collect(iter, state, var)
  local out = new()
  while true do
    var = iter(state, var)
    if var == nil then return out end
    out[#out + 1] = var
  end
end

function array.is_array(x) return getmetatable(x) == array_mt end

return setmetatable(array, {
  __call = function(_, first, ...)
    if type(first) == "function" then return array.collect(first, ...) end
    return new(first)
  end,
})
