-- SPDX-License-Identifier: MIT
-- util.uuid: RFC 9562, version 4 (random) and 7 (sorted by time).

local core = require "couplet.core"
local bytes, hex, wall = core.crypto.random_bytes, core.crypto.hex_encode, core.loop.wall

local uuid = {}

local function write(raw, version)
  local seven, nine = raw:byte(7) & 0x0f | version << 4, raw:byte(9) & 0x3f | 0x80
  local h = hex(raw:sub(1, 6) .. string.char(seven) .. raw:sub(8, 8) .. string.char(nine) .. raw:sub(10))
  return h:sub(1, 8) .. "-" .. h:sub(9, 12) .. "-" .. h:sub(13, 16) .. "-" .. h:sub(17, 20) .. "-" .. h:sub(21)
end

function uuid.v4()
  return write(bytes(16), 4)
end

function uuid.v7()
  return write(string.pack(">I6", math.floor(wall() * 1000)) .. bytes(10), 7)
end

-- one random hexadecimal digit
function uuid.get_nibbles(n)
  return hex(bytes((n + 1) // 2)):sub(1, n)
end

uuid.generate = uuid.v4
uuid.seed = function() end -- the kernel seeds itself

return uuid
