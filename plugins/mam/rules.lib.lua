-- SPDX-License-Identifier: MIT
-- mod_mam/rules: which messages are worth keeping (XEP-0313 §Storage and Retrieval Rules; XEP-0334).
--
--   rules.look(stanza) -> bits         what its children say: KEEP, STORE, NO_STORE, STANZA_ID, RETRACT, OCCUPANT
--   rules.worth(type, bits, incoming_to_resource) -> boolean, reason
--
-- normal and chat with something to read, or with what changes or answers it: reactions, corrections, retractions, receipts,
-- markers, calls, invitations, encrypted messages. Errors only where they tell a client that its own message came back.

local flags = require "couplet.core".stanza.flags

local rules = { KEEP = 1, STORE = 2, NO_STORE = 4, STANZA_ID = 8, RETRACT = 16, OCCUPANT = 32 }
local KEEP, STORE, NO_STORE = rules.KEEP, rules.STORE, rules.NO_STORE

local ANY = { ["*"] = KEEP }
local known = {
  [""] = { body = KEEP, subject = KEEP },
  ["urn:xmpp:hints"] = { store = STORE, ["no-store"] = NO_STORE, ["no-permanent-store"] = NO_STORE },
  ["urn:xmpp:sid:0"] = { ["stanza-id"] = rules.STANZA_ID },
  ["urn:xmpp:eme:0"] = { encryption = KEEP },                     -- XEP-0380
  ["urn:xmpp:reactions:0"] = ANY,                                 -- XEP-0444
  ["urn:xmpp:message-correct:0"] = ANY,                           -- XEP-0308
  ["urn:xmpp:message-retract:1"] = { retract = KEEP | rules.RETRACT, ["*"] = KEEP },       -- XEP-0424
  ["urn:xmpp:message-retract:0"] = ANY,
  ["urn:xmpp:fasten:0"] = ANY,                                    -- XEP-0422
  ["urn:xmpp:receipts"] = ANY,                                    -- XEP-0184
  ["urn:xmpp:chat-markers:0"] = ANY,                              -- XEP-0333
  ["urn:xmpp:jingle-message:0"] = ANY,                            -- XEP-0353
  ["urn:xmpp:jingle-message:1"] = ANY,
  ["urn:xmpp:call-message:1"] = ANY,
  ["jabber:x:conference"] = { x = KEEP },                         -- XEP-0249
  ["http://jabber.org/protocol/muc#user"] = { x = rules.OCCUPANT },
}

local wanted

local function choose()
  wanted = {}
  for xmlns, names in pairs(known) do wanted[xmlns] = names end
  for xmlns in module.config.dont_archive_namespaces do
    if wanted[xmlns] == ANY or known[xmlns] and not xmlns:find "^urn:xmpp:[hs]" and xmlns ~= "" then wanted[xmlns] = nil end
  end
end
choose()
module:on_config_change(choose)

local MUC_USER = "http://jabber.org/protocol/muc#user"

function rules.look(stanza)
  local bits = flags(stanza, wanted)
  if bits & rules.OCCUPANT ~= 0 and bits & KEEP == 0 then
    local x = stanza:get_child("x", MUC_USER)
    if x and (x:get_child "invite" or x:get_child "decline") then bits = bits | KEEP end       -- XEP-0045 §7.8
  end
  return bits
end

function rules.worth(kind, bits, incoming_to_resource)
  if kind == "headline" or kind == "groupchat" then return false, kind end       -- the room has an archive of its own
  if kind == "error" then return incoming_to_resource or false, "bounce" end
  if bits & (NO_STORE | STORE) ~= 0 then return bits & NO_STORE == 0, "hint" end
  return bits & KEEP ~= 0, "content"
end

return rules
