-- SPDX-License-Identifier: MIT
-- mod_test_burn: a request that keeps the server busy for 20 ms.

local clock = require "couplet.clock"
local st = require "util.stanza"

module:hook("iq-get/host/urn:couplet:test:burn:burn", function(event)
  local stop = clock.mono() + 0.02
  repeat until clock.mono() >= stop
  event.origin.send(st.reply(event.stanza))
  return true
end)
