-- SPDX-License-Identifier: MIT
-- util.hex: bytes as hexadecimal digits, and back (white space skipped, nil for anything else).

local crypto = require "couplet.core".crypto

return { encode = crypto.hex_encode, decode = crypto.hex_decode, to = crypto.hex_encode, from = crypto.hex_decode }
