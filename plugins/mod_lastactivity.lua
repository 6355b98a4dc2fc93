-- SPDX-License-Identifier: MIT
-- mod_lastactivity: when a user was last seen (XEP-0012 §3), for those who may see their presence.

local st = require "util.stanza"
local jid = require "util.jid"
local rostermanager = require "core.rostermanager"

local store = module:open_store("lastactivity", "keyval")

module:add_feature("jabber:iq:last")

-- A session ends: note when, and the status it left behind.
module:hook("resource-unbind", function(event)
  local session = event.session
  if not session.username or not session.presence then return end
  local status = session.presence:get_child_text("status")
  module:spawn(function()
    local ok, err = store:set(session.username, { time = os.time(), status = status })
    if not ok then module:log("error", "cannot keep the last activity of %s: %s", session.username, err) end
  end)
end)

module:hook("iq-get/bare/jabber:iq:last:query", function(event)
  local origin, stanza = event.origin, event.stanza
  local username = jid.node(stanza.attr.to) or origin.username
  local from = jid.bare(stanza.attr.from)
  if not event.to_self and not rostermanager.is_contact_subscribed(username, module.host, from) then
    origin.send(st.error_reply(stanza, "auth", "forbidden"))      -- §3: only for who is subscribed to the presence
    return true
  end
  local seconds, text = 0, nil
  local user = prosody.bare_sessions[username .. "@" .. module.host]
  if not (user and user.top_resources and user.top_resources[1]) then
    local seen, err = store:get(username)
    if err then
      origin.send(st.error_reply(stanza, "wait", "internal-server-error"))
      return true
    end
    if not seen then
      origin.send(st.error_reply(stanza, "cancel", "item-not-found"))
      return true
    end
    seconds, text = os.time() - (tonumber(seen.time) or os.time()), seen.status
  end
  origin.send(st.reply(stanza):tag("query", { xmlns = "jabber:iq:last",
    seconds = ("%d"):format(math.max(0, seconds)) }):text(text))
  return true
end)
