-- SPDX-License-Identifier: MIT
-- mod_welcome: greets new accounts with a message.

local st = require "util.stanza"

module:config {
  welcome_message = { type = "string", default = "Hello $username, welcome to the $host IM server!",
    doc = "greeting; $username, $host are filled in" },
}

module:hook("user-registered", function(event)
  local values = { username = event.username, host = event.host }
  local text = module.config.welcome_message:gsub("$(%w+)", values)
  module:send(st.message({ to = event.username .. "@" .. event.host, from = module.host }, text))
end)
