-- SPDX-License-Identifier: MIT
-- recent.lua: remembers what was used lately, in two generations of at most `size` entries each.
--
--   local get, set = recent.new(size)       get(key) -> value | nil;  set(key, value);  set(key, nil) forgets it
--
-- When the young generation is full it becomes the old one, and what is found there is young again: no list to keep in order.

local recent = {}

function recent.new(size)
  local young, old, count = {}, {}, 0

  local function set(key, value)
    if value == nil then
      young[key], old[key] = nil, nil
      return
    end
    if young[key] == nil then
      if count >= size then old, young, count = young, {}, 0 end
      count = count + 1
    end
    young[key] = value
  end

  local function get(key)
    local value = young[key]
    if value ~= nil then return value end
    value = old[key]
    if value ~= nil then set(key, value) end
    return value
  end

  return get, set
end

return recent
