-- SPDX-License-Identifier: MIT
-- mod_ping: answers XEP-0199 pings sent to the server or to a user's bare JID.

local st = require "util.stanza"

module:add_feature("urn:xmpp:ping")

local function answer(event)
  event.origin.send(st.reply(event.stanza))
  return true
end

module:hook("iq-get/host/urn:xmpp:ping:ping", answer)
module:hook("iq-get/bare/urn:xmpp:ping:ping", answer)
