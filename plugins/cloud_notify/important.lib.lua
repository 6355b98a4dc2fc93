-- SPDX-License-Identifier: MIT
-- important.lib.lua: is a stanza worth waking a device for? mod_cloud_notify.
--
--   look(stanza) -> worth, urgent       worth: a silent notification; urgent: one the user should see
--   unwrap(stanza) -> stanza            the message inside a carbon copy

local important = {}

local CARBON = "{urn:xmpp:carbons:2}received/{urn:xmpp:forward:0}forwarded/{jabber:client}message"

-- Namespaces of children that are urgent without a body.
local urgent = {
  ["eu.siacs.conversations.axolotl"] = true, ["urn:xmpp:omemo:1"] = true, ["urn:xmpp:omemo:2"] = true,
  ["urn:xmpp:openpgp:0"] = true, ["jabber:x:encrypted"] = true, ["urn:xmpp:eme:0"] = true, ["jabber:x:conference"] = true,
}
-- Those that nobody is waked for.
local trifles = {
  ["http://jabber.org/protocol/chatstates"] = true, ["urn:xmpp:receipts"] = true, ["urn:xmpp:chat-markers:0"] = true,
  ["urn:xmpp:hints"] = true, ["urn:xmpp:sid:0"] = true, ["urn:xmpp:delay"] = true,
}

function important.unwrap(stanza)
  return stanza:find(CARBON) or stanza
end

local function message(stanza)
  local type = stanza.attr.type
  if type == "headline" or type == "error" then return false, false end
  local body = stanza:get_child_text "body"
  if body and body ~= "" then return true, true end
  if type == "groupchat" and stanza:get_child "subject" then return false, false end
  if stanza:get_child("propose", "urn:xmpp:jingle-message:0") then return true, true end       -- a call
  local x = stanza:get_child("x", "http://jabber.org/protocol/muc#user")
  if x and x:get_child "invite" then return true, true end
  local worth = false
  for _, child in ipairs(stanza.tags) do
    local xmlns = child.attr.xmlns
    if urgent[xmlns] then return true, true end
    if xmlns and not trifles[xmlns] then worth = true end
  end
  return worth, false
end

function important.look(stanza)
  local name = stanza.name
  if name == "presence" then return stanza.attr.type == "subscribe", false end
  if name ~= "message" or stanza:get_child("sent", "urn:xmpp:carbons:2") then return false, false end
  return message(important.unwrap(stanza))
end

return important
