-- SPDX-License-Identifier: MIT
-- mod_version: which software this is (XEP-0092).

local st = require "util.stanza"

module:config{
  hide_os_type = { type = "boolean", default = false, doc = "do not tell the operating system's name" },
}
module:add_feature("jabber:iq:version")

module:hook("iq-get/host/jabber:iq:version:query", function(event)
  local reply = st.reply(event.stanza):query("jabber:iq:version")
    :text_tag("name", "Couplet")
    :text_tag("version", prosody.version)
  if not module:get_option_boolean("hide_os_type", false) then reply:text_tag("os", "Linux") end
  event.origin.send(reply)
  return true
end)
