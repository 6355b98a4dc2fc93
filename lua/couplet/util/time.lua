-- SPDX-License-Identifier: MIT
-- util.time: now() since 1970, monotonic() never going back; seconds with fractions.

local loop = require "couplet.core".loop

return { now = loop.wall, monotonic = loop.mono }
