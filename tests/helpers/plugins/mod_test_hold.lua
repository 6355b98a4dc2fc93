-- SPDX-License-Identifier: MIT
-- mod_test_hold: a slow disk for tests. A message with <hold xmlns='urn:example:hold'/> is kept only when one with <release/>
-- comes; one with <fail/> says that it could not be.

local durable = require "couplet.durable"

local XMLNS = "urn:example:hold"
local held = {}

local function release(ok, why)
  local list = held
  held = {}
  for _, fn in ipairs(list) do fn(ok, why) end
  return true
end

local function look(event)
  local stanza = event.stanza
  if stanza:get_child("hold", XMLNS) then held[#held + 1] = durable.hold() end
  if stanza:get_child("release", XMLNS) then return release(true) end
  if stanza:get_child("fail", XMLNS) then return release(false, "a test says so") end
end

module:hook("pre-message/bare", look, 100)
module:hook("pre-message/full", look, 100)
