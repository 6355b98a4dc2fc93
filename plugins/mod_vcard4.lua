-- SPDX-License-Identifier: MIT
-- mod_vcard4: cards of the newer kind (XEP-0292). They are the node urn:xmpp:vcard4 of the account (mod_pep); who asks for the
-- card itself gets what is there.

local jid = require "util.jid"
local st = require "util.stanza"

local NODE, FOUR = "urn:xmpp:vcard4", "urn:ietf:params:xml:ns:vcard-4.0"

local pep = module:depends "pep"

module:hook("account-disco-info", function(event) event.reply:tag("feature", { var = FOUR }):up() end)

local function publish(event, service)
  local stanza = event.stanza
  local item = st.stanza("item", { xmlns = "http://jabber.org/protocol/pubsub" }):add_child(stanza.tags[1])
  local ok, err = service:publish(NODE, stanza.attr.from, "current", item)
  return ok and st.reply(stanza) or pep.error_reply(stanza, err)
end

module:hook("iq/bare/" .. FOUR .. ":vcard", function(event)
  local origin, stanza = event.origin, event.stanza
  local service = pep.get_pep_service(event.to_self and origin.username or jid.node(stanza.attr.to))
  if not service then
    origin.send(st.error_reply(stanza, "wait", "internal-server-error"))
  elseif stanza.attr.type == "set" then
    origin.send(event.to_self and publish(event, service) or st.error_reply(stanza, "auth", "forbidden"))
  else
    local ok, id, item = service:get_last_item(NODE, stanza.attr.from)
    if ok and item then
      origin.send(st.reply(stanza):add_child(item.tags[1]))
    else
      origin.send(pep.error_reply(stanza, not ok and id or "item-not-found"))
    end
  end
  return true
end)
