-- SPDX-License-Identifier: MIT
-- mod_sasl_ssdp: whoever logs in with SCRAM is told a hash of the mechanisms and channel bindings that were advertised on its
-- stream, and both sides' proofs cover it (XEP-0474). A client to which somebody between showed less then knows, even at its
-- first login. Loaded along with mod_saslauth and mod_sasl2, which advertise what couplet.login offers: the same list.
--
-- session.sasl_advertised: the string S of XEP-0474 §5.1; couplet.login gives it to the handler. A plugin that puts a mechanism
-- into the features by hand, or takes one out, changes it too; one that its SASL handler has needs nothing.

local priority = require "couplet.priority"
local recent = require "couplet.recent"

local BINDINGS = "urn:xmpp:sasl-cb:0"

local known, note = recent.new(100)              -- nearly every stream is told the same

-- i;octet: without a locale, and nobody sets one, Lua compares bytes.
local function joined(list)
  local key = table.concat(list, "\x1e")
  local text = known(key)
  if text then return text end
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted)
  text = table.concat(sorted, "\x1e")
  note(key, text)
  return text
end

module:hook("stream-features", function(event)
  local mechanisms, bindings = event.sasl_offer, event.sasl_bindings
  if not mechanisms then return end
  local text = joined(mechanisms)
  if event.features:get_child("sasl-channel-binding", BINDINGS) then text = text .. "\x1f" .. joined(bindings) end
  event.origin.sasl_advertised = text
end, priority.after)
