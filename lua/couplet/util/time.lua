-- SPDX-License-Identifier: MIT
-- util.time: now() since 1970, monotonic() never going back; seconds with fractions.

local clock = require "couplet.clock"

return { now = function() return clock.wall() end, monotonic = function() return clock.mono() end }
