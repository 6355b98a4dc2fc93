-- SPDX-License-Identifier: MIT
-- xpcall.lua: Lua 5.4's takes arguments itself.

return { xpcall = xpcall, unpack = table.unpack, pack = table.pack }
