-- SPDX-License-Identifier: MIT
-- mod_ping: answers XEP-0199 pings sent to the server or to a user's bare JID.

local jid_node = require "util.jid".node
local st = require "util.stanza"
local usermanager = require "core.usermanager"

module:add_feature("urn:xmpp:ping")

local function answer(event)
  event.origin.send(st.reply(event.stanza))
  return true                              -- handled: no later handler runs
end

module:hook("iq-get/host/urn:xmpp:ping:ping", answer)
module:hook("iq-get/bare/urn:xmpp:ping:ping", function(event)
  -- RFC 6121 §8.5.1: nobody answers for an account that is not there
  if event.to_self or usermanager.user_exists(jid_node(event.stanza.attr.to), module.host) then return answer(event) end
end)
