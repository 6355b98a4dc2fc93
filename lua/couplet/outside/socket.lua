-- SPDX-License-Identifier: MIT
-- What `require "socket"` gives where LuaSocket is not installed: the clock. Connections: net.server, net.http.

local clock = require "couplet.clock"
local task = require "couplet.task"

return {
  _VERSION = "Couplet's clock (LuaSocket is not installed)",
  gettime = function() return clock.wall() end,
  sleep = task.sleep,
  dns = { gethostname = function() return require "couplet.core".system.hostname() end },
}
