-- SPDX-License-Identifier: MIT
-- util.jsonpointer: resolve(value, "/a/0/b~1c") -> value | nil, message. RFC 6901; arrays count from 0.

local function resolve(value, pointer)
  if pointer == "" then return value end
  if type(pointer) ~= "string" or pointer:sub(1, 1) ~= "/" then return nil, "a JSON pointer starts with /" end
  for step in pointer:sub(2):gsub("/", "\0"):gmatch "([^\0]*)" do
    step = step:gsub("~1", "/"):gsub("~0", "~")
    if type(value) ~= "table" then return nil, "nothing there" end
    local found = value[step]
    if found == nil and (step == "0" or step:find "^[1-9]%d*$") then found = value[math.tointeger(tonumber(step)) + 1] end
    if found == nil then return nil, "nothing there" end
    value = found
  end
  return value
end

return { resolve = resolve }
