-- SPDX-License-Identifier: MIT
-- mod_vcard: vcard-temp (XEP-0054). Anybody may read a user's card; only the user writes it.

local st = require "util.stanza"
local jid = require "util.jid"

module:config{
  vcard_max_size = { type = "integer", default = 262144, min = 1024, doc = "bytes a card may have, photo included" },
}
local max_size = module:get_option_integer("vcard_max_size", 262144, 1024)
local vcards = module:open_store("vcard")

module:add_feature("vcard-temp")

local function get(event, username)
  local origin, stanza = event.origin, event.stanza
  local card, err = vcards:get(username)
  if err then
    origin.send(st.error_reply(stanza, "wait", "internal-server-error"))
  elseif card then
    origin.send(st.reply(stanza):add_child(st.deserialize(card)))
  elseif event.to_self then
    origin.send(st.reply(stanza):tag("vCard", { xmlns = "vcard-temp" }))      -- §3.1: an empty card for oneself
  else
    origin.send(st.error_reply(stanza, "cancel", "item-not-found"))           -- whether there is such a user or not
  end
  return true
end

local function set(event)
  local origin, stanza = event.origin, event.stanza
  local card = stanza.tags[1]
  if #tostring(card) > max_size then
    origin.send(st.error_reply(stanza, "modify", "not-acceptable", "The card is too large"))
    return true
  end
  local ok, err = vcards:set(origin.username, st.preserialize(card))
  if not ok then
    module:log("error", "cannot keep the vCard of %s: %s", origin.username, err)
    origin.send(st.error_reply(stanza, "wait", "internal-server-error"))
    return true
  end
  origin.send(st.reply(stanza))
  module:fire_event("vcard-updated", event)
  return true
end

module:hook("iq/bare/vcard-temp:vCard", function(event)
  if event.stanza.attr.type == "get" then return get(event, jid.node(event.stanza.attr.to) or event.origin.username) end
  if event.to_self then return set(event) end
  event.origin.send(st.error_reply(event.stanza, "auth", "forbidden"))
  return true
end)

-- The host's own card, as an administrator may have put it there.
module:hook("iq-get/host/vcard-temp:vCard", function(event) return get(event, nil) end)
