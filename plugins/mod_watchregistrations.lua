-- SPDX-License-Identifier: MIT
-- mod_watchregistrations: tells administrators of new accounts.

local jid = require "util.jid"
local st = require "util.stanza"

module:config {
  registration_watchers = { type = "set", doc = "who is told. Default: admins" },
  registration_from = { type = "string", doc = "sender of the message. Default: the host" },
  registration_notification = { type = "string", default = "User $username just registered on $host from $ip",
    doc = "the message" },
  registration_notification_type = { type = "enum", enum = { "chat", "normal", "headline" }, default = "chat",
    doc = "its type" },
}

module:hook("user-registered", function(event)
  local values = { username = event.username, host = event.host,
    ip = event.ip or event.session and event.session.ip or "unknown address", source = event.source }
  local text = module.config.registration_notification:gsub("$(%w+)", values)
  local watchers = module:get_option_set("registration_watchers") or module:get_option_inherited_set("admins", {})
  local message = st.message({ type = module.config.registration_notification_type,
    from = module.config.registration_from or module.host }, text)
  local targets = {}
  for address in watchers:items() do
    local to = jid.prep(address)
    if to then targets[#targets + 1] = to else module:log("error", "registration_watchers: %s is no address", address) end
  end
  module:broadcast(targets, message)
end)
