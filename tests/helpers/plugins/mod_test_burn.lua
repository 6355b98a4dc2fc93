-- SPDX-License-Identifier: MIT
-- mod_test_burn: a request that is 20 ms of work, whatever else the machine does, and one that tells how many of these were done.

local clock = require "couplet.clock"
local st = require "util.stanza"

local count = 0

module:hook("iq-get/host/urn:couplet:test:burn:burn", function(event)
  local stop = clock.cpu() + 0.02
  repeat until clock.cpu() >= stop
  count = count + 1
  event.origin.send(st.reply(event.stanza))
  return true
end)

module:hook("iq-get/host/urn:couplet:test:burn:count", function(event)
  event.origin.send(st.reply(event.stanza):tag("count", { xmlns = "urn:couplet:test:burn" }):text(tostring(count)))
  return true
end)
