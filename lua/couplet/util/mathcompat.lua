-- SPDX-License-Identifier: MIT
-- util.mathcompat: what older Lua lacks; all there.

return { type = math.type, tointeger = math.tointeger }
