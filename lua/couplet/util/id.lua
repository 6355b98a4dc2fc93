-- SPDX-License-Identifier: MIT
-- util.id: unpredictable names that fit into URLs and file names.

local crypto = require "couplet.core".crypto
local url, bytes = crypto.base64url_encode, crypto.random_bytes

return {
  tiny = function() return url(bytes(3)) end,     --  4 letters
  short = function() return url(bytes(9)) end,    -- 12
  medium = function() return url(bytes(18)) end,  -- 24: nobody guesses it
  long = function() return url(bytes(33)) end,    -- 44
  custom = function(n) return function() return url(bytes(n)) end end,
}
