-- SPDX-License-Identifier: MIT
-- What `require "cjson.safe"` gives where it is not installed: encode(v) -> text | nil, message; decode(text) -> value | nil,
-- message; null

local json = require "couplet.util.json"

local cjson = { _NAME = "cjson", _VERSION = "Couplet's JSON", null = json.null, empty_array = json.array {} }

function cjson.encode(value)
  local ok, text = pcall(json.encode, value)
  if not ok then return nil, text end
  return text
end

function cjson.decode(text)
  local value, err = json.decode(text)
  if value == nil then return nil, err or "no JSON" end
  return value
end

-- Settings: there is one way.
for _, name in ipairs { "encode_sparse_array", "encode_max_depth", "decode_max_depth", "encode_number_precision",
  "encode_keep_buffer", "encode_invalid_numbers", "decode_invalid_numbers", "decode_array_with_array_mt" } do
  cjson[name] = function(...) return ... end
end

function cjson.new() return cjson end

return cjson
