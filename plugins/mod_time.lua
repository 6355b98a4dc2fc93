-- SPDX-License-Identifier: MIT
-- mod_time: the server's clock (XEP-0202).

local st = require "util.stanza"
local datetime = require "util.datetime".datetime

module:add_feature("urn:xmpp:time")

local function answer(event)
  event.origin.send(st.reply(event.stanza):tag("time", { xmlns = "urn:xmpp:time" })
    :text_tag("tzo", "+00:00")               -- what is answered is UTC, so is the zone
    :text_tag("utc", datetime()))
  return true
end

module:hook("iq-get/host/urn:xmpp:time:time", answer)
module:hook("iq-get/bare/urn:xmpp:time:time", answer)
