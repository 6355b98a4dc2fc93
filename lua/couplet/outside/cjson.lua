-- SPDX-License-Identifier: MIT
-- What `require "cjson"` gives where it is not installed: encode and decode raise.

local safe = require "couplet.outside.cjson_safe"

local cjson = {}
for k, v in pairs(safe) do cjson[k] = v end

local function check(value, err)
  if value == nil and err then error(err, 3) end
  return value
end

function cjson.encode(value) return check(safe.encode(value)) end
function cjson.decode(text) return check(safe.decode(text)) end
function cjson.new() return cjson end

return cjson
