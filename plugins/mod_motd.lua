-- SPDX-License-Identifier: MIT
-- mod_motd: a message of the day, for everyone who comes online.

local st = require "util.stanza"

module:config {
  motd_text = { type = "string", doc = "the message; without it there is none" },
  motd_jid = { type = "string", doc = "its sender. Default: the host" },
}

module:hook("presence/initial", function(event)
  local text = module.config.motd_text
  if not text then return end
  text = text:gsub("^%s+", ""):gsub("\n[ \t]+", "\n"):gsub("%s+$", "")           -- indented in the configuration
  module:send(st.message({ type = "headline", to = event.origin.full_jid, from = module.config.motd_jid or module.host }, text)
    :text_tag("subject", "Message of the day"))
end)
