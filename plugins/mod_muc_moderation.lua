-- SPDX-License-Identifier: MIT
-- mod_muc_moderation: moderators take back what others have said (XEP-0425), in rooms that are archived (mod_muc_mam). Clients
-- that know only the older version 0.2 (:0, inside of XEP-0422's <apply-to/>) may ask and are told, too.

local id = require "couplet.util.id"
local jid = require "couplet.jid"
local st = require "couplet.stanza"

local muc = module:depends "muc"
local archive = module:depends "muc_mam"

local NS, RETRACTION, OCCUPANT = "urn:xmpp:message-moderate:1", "urn:xmpp:message-retract:1", "urn:xmpp:occupant-id:0"
local OLD, OLD_RETRACTION, FASTEN = "urn:xmpp:message-moderate:0", "urn:xmpp:message-retract:0", "urn:xmpp:fasten:0"
local REASON_BYTES = 1024

module:hook("muc-disco#info", function(event)
  if not event.room:is_logged() then return end
  for _, ns in ipairs { NS, OLD } do event.reply:tag("feature", { var = ns }):up() end
end)

-- Only the room says that something was moderated (§5): what an occupant says so is not passed on, nor kept.
module:hook("muc-occupant-groupchat", function(event)
  local stanza = event.stanza
  local new, old = stanza:get_child("retract", RETRACTION), stanza:get_child("apply-to", FASTEN)
  if not (new and new:get_child("moderated", NS) or old and old:get_child("moderated", OLD)) then return nil end
  event.origin.send(st.error_reply(stanza, "auth", "forbidden", "Moderators ask the room, and the room says so"))
  return true
end, 10)

local function moderated_by(room, occupant, ns)
  local stanza = st.stanza("moderated", { xmlns = ns or NS, by = occupant.nick })
  local who = room:get_occupant_id(occupant)
  return who and stanza:tag("occupant-id", { xmlns = OCCUPANT, id = who }):up() or stanza
end

-- moderate: the element with the reason; retracts: what is asked for is this, and not something else
local function handle(event, target, moderate, retracts)
  local origin, stanza = event.origin, event.stanza
  local room = muc.get_room_from_jid(jid.bare(stanza.attr.to))
  if not room or not room:is_logged() then return nil end
  local function refuse(...)
    origin.send(st.error_reply(stanza, ...))
    return true
  end
  local actor = room:get_occupant_by_real_jid(stanza.attr.from)
  if not actor or actor.role ~= "moderator" then
    return refuse("auth", "forbidden", "Only moderators may take back what others have said")
  end
  local reason = moderate:get_child_text "reason"
  if not target or not retracts then return refuse("modify", "bad-request") end
  if reason and #reason > REASON_BYTES then return refuse("modify", "not-acceptable", "The reason is too long") end
  archive.flush()
  local original, err = archive.store:get(jid.split(room.jid), target)
  if not original then
    if err and err ~= "item-not-found" then return refuse("wait", "internal-server-error") end
    return refuse("cancel", "item-not-found", "There is no such message")
  end
  if original:get_child("retracted", RETRACTION) then                      -- somebody was quicker
    origin.send(st.reply(stanza))
    return true
  end
  local message = st.message({ from = room.jid, type = "groupchat", id = id.medium() })
    :tag("retract", { xmlns = RETRACTION, id = target }):add_child(moderated_by(room, actor))
  if reason then message:text_tag("reason", reason) end
  local old = moderated_by(room, actor, OLD):tag("retract", { xmlns = OLD_RETRACTION }):up()
  if reason then old:text_tag("reason", reason) end
  message:reset():tag("apply-to", { xmlns = FASTEN, id = target }):add_child(old:reset())
  if not archive.bury(room, target, original, message.attr.id, moderated_by(room, actor), reason) then
    return refuse("wait", "internal-server-error")
  end
  room:broadcast_message(message:reset())
  origin.send(st.reply(stanza))
  return true
end

module:hook(("iq-set/bare/%s:moderate"):format(NS), function(event)
  local moderate = event.stanza.tags[1]
  return handle(event, moderate.attr.id, moderate, moderate:get_child("retract", RETRACTION))
end)

module:hook(("iq-set/bare/%s:apply-to"):format(FASTEN), function(event)
  local apply = event.stanza.tags[1]
  local moderate = apply:get_child("moderate", OLD)
  return moderate and handle(event, apply.attr.id, moderate, moderate:get_child("retract", OLD_RETRACTION))
end)
