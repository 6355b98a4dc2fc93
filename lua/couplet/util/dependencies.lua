-- SPDX-License-Identifier: MIT
-- dependencies.lua: softreq(name) -> library | nil, err: a library that may be missing.

local alias = require "couplet.alias"

local function softreq(...)
  local ok, lib = pcall(alias.require, ...)
  if ok then return lib end
  return nil, lib
end

return {
  softreq = softreq,
  check_dependencies = function() return true end,
  log_warnings = function() end,
}
