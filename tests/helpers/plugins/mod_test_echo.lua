-- SPDX-License-Identifier: MIT
-- mod_test_echo: a component inside the server: sends messages back, answers one kind of iq, and is found by disco.

local st = require "util.stanza"

module:depends "disco"
module:add_identity("component", "generic", module:get_option_string("name", "Echo"))
module:add_feature "test:echo"

local function echo(event)
  local stanza = event.stanza
  if stanza.attr.type == "error" then return true end
  local reply = st.clone(stanza)
  reply.attr.to, reply.attr.from = stanza.attr.from, stanza.attr.to
  module:send(reply)
  return true
end

for _, target in ipairs { "host", "bare", "full" } do module:hook("message/" .. target, echo) end

local function answer(event)
  event.origin.send(st.reply(event.stanza):tag("echo", { xmlns = "test:echo", to = event.stanza.attr.to }))
  return true
end
module:hook("iq-get/host/test:echo:echo", answer)
module:hook("iq-get/bare/test:echo:echo", answer)
module:hook("iq/full", answer)
