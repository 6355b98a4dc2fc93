-- SPDX-License-Identifier: MIT
-- muc/messages: what is said in a room, to all and to single occupants: messages, history, subject, invitations, requests for
-- voice, and questions passed on (XEP-0045 §7.4 to §7.9, §8.6, §17.4). Adds methods to room_mt.

local base64 = require "util.encodings".base64
local dataforms = require "util.dataforms"
local datetime = require "util.datetime"
local hashes = require "util.hashes"
local id = require "util.id"
local jid = require "util.jid"
local st = require "util.stanza"

local util = module:require "muc/util"

local USER = "http://jabber.org/protocol/muc#user"
local ranks, role_ranks = util.valid_affiliations, util.valid_roles

return function(room_mt)
  local function refuse(origin, stanza, ...)
    origin.send(st.error_reply(stanza, ...))
    return true
  end

  -- Without what only the room itself says: its words about occupants, its ids (XEP-0359 §5), and when it heard something.
  local function unsigned(self, stanza)
    return util.filter_muc_x(stanza):maptags(function(child)
      local attr = child.attr
      if attr.xmlns == "urn:xmpp:sid:0" and child.name == "stanza-id" and attr.by == self.jid
        or attr.xmlns == "urn:xmpp:delay" and attr.from and jid.bare(attr.from) == self.jid then return nil end
      return child
    end)
  end

  -- To all --------------------------------------------------------------------------------------------------------------------

  local HISTORY_BYTES = 256 * 1024             -- of one room

  function room_mt:broadcast_message(stanza)
    local event = { room = self, stanza = stanza, type = stanza.attr.type,
      occupant = self:get_occupant_by_nick(stanza.attr.from) }
    if module:fire_event("muc-broadcast-message", event) then return true end
    self:broadcast(event.stanza)
    return true
  end

  module:hook("muc-message-is-historic", function(event)
    local stanza = event.stanza
    if stanza:get_child("no-store", "urn:xmpp:hints") or stanza:get_child("no-permanent-store", "urn:xmpp:hints") then
      return false
    end
    if stanza:get_child "subject" and not stanza:get_child "body" then return false end    -- it is kept as the subject
    if stanza:get_child("store", "urn:xmpp:hints") then return true end
    return stanza:get_child "body" ~= nil or stanza:get_child("encrypted", "eu.siacs.conversations.axolotl") ~= nil
  end, -1)

  -- After plugins have had their say about the message.
  module:hook("muc-broadcast-message", function(event)
    local room, stanza = event.room, event.stanza
    if room:get_historylength() == 0 or not module:fire_event("muc-message-is-historic", { room = room,
      stanza = stanza }) then return end
    module:fire_event("muc-add-history", { room = room, stanza = stanza })
  end, -100)

  module:hook("muc-add-history", function(event)
    local room, list = event.room, event.room._history
    local stanza = st.clone(event.stanza)
    stanza.attr.to = nil
    local entry = { stanza = stanza, timestamp = os.time(), stamp = datetime.datetime(), size = #tostring(stanza) }
    list[#list + 1] = entry
    room._history_bytes = (room._history_bytes or 0) + entry.size
    while #list > room:get_historylength() or room._history_bytes > HISTORY_BYTES and #list > 0 do
      room._history_bytes = room._history_bytes - table.remove(list, 1).size
    end
    return true
  end, -1)

  local function limits_of(stanza)
    local tag = stanza:get_child("x", "http://jabber.org/protocol/muc")
    tag = tag and tag:get_child "history"
    local function number(name)
      local n = tag and tag.attr[name] and math.tointeger(tonumber(tag.attr[name], 10))
      return n and n >= 0 and n or nil
    end
    local since = tag and tag.attr.since and datetime.parse(tag.attr.since)
    local seconds = number "seconds"
    if seconds then since = math.max(since or 0, os.time() - seconds) end
    return number "maxchars", number "maxstanzas", since
  end

  -- The newest that fit: whole messages only (§7.2.14).
  module:hook("muc-get-history", function(event)
    local list = event.room._history
    local first, chars, n = #list + 1, 0, 0
    while first > 1 do
      local entry = list[first - 1]
      chars, n = chars + entry.size, n + 1
      if event.maxchars and chars > event.maxchars or event.maxstanzas and n > event.maxstanzas
        or event.since and entry.timestamp < event.since then break end
      first = first - 1
    end
    local entries, i = table.move(list, first, #list, 1, {}), 0    -- as they are now, whatever is said meanwhile
    event.next_stanza = function()
      i = i + 1
      local entry = entries[i]
      if not entry then return nil end
      local stanza = st.clone(entry.stanza)
      stanza.attr.to = event.to
      stanza:tag("delay", { xmlns = "urn:xmpp:delay", from = event.room.jid, stamp = entry.stamp }):up()
      return stanza
    end
    return true
  end, -1)

  function room_mt:send_history(stanza)
    local maxchars, maxstanzas, since = limits_of(stanza)
    local event = { room = self, stanza = stanza, to = stanza.attr.from, maxchars = maxchars, maxstanzas = maxstanzas,
      since = since,
      next_stanza = function() end }
    module:fire_event("muc-get-history", event)
    for message in event.next_stanza, event do self:route_stanza(message) end
  end

  -- Subject -------------------------------------------------------------------------------------------------------------------

  function room_mt:get_subject() return self._data.subject_from or self.jid, self._data.subject or "" end

  function room_mt:set_subject(from, subject)
    if subject == "" then subject = nil end
    local data, occupant = self._data, self:get_occupant_by_nick(from)
    data.subject, data.subject_from, data.subject_time = subject, from, os.time()
    data.subject_occupant_id = occupant and self:get_occupant_id(occupant) or nil
    return (self:save())
  end

  function room_mt:send_subject(to, when)
    local from, subject = self:get_subject()
    local stanza = st.message({ from = from, to = to, type = "groupchat" }):text_tag("subject", subject)
    local author = self._data.subject_occupant_id                -- who set it is perhaps no longer here (XEP-0421)
    if author then stanza:tag("occupant-id", { xmlns = "urn:xmpp:occupant-id:0", id = author }):up() end
    when = when or self._data.subject_time
    if when then stanza:tag("delay", { xmlns = "urn:xmpp:delay", from = self.jid, stamp = datetime.datetime(when) }):up() end
    self:route_stanza(stanza)
  end

  module:hook("muc-occupant-session-new", function(event)
    event.room:send_history(event.stanza)
    event.room:send_subject(event.stanza.attr.from)
  end, -10)

  local SUBJECT_BYTES = 2048

  local function is_subject(stanza)
    return stanza:get_child "subject" and not stanza:get_child "body" and not stanza:get_child "thread"
  end

  local function change_subject(self, origin, stanza, copy, occupant)
    local subject = stanza:get_child_text "subject"
    if not subject then return refuse(origin, stanza, "modify", "bad-request", "A subject is text") end
    if #subject > SUBJECT_BYTES then return refuse(origin, stanza, "modify", "policy-violation", "The subject is too long") end
    local event = { room = self, origin = origin, stanza = stanza, occupant = occupant }
    local verdict = module:fire_event("muc-subject-change", event)
    if verdict ~= nil then return verdict end
    local may = occupant.role == "moderator" or self:get_changesubject() and role_ranks[occupant.role] >= role_ranks.participant
    if not may then return refuse(origin, stanza, "auth", "forbidden", "You may not change the subject") end
    if not util.may_change(self, occupant.bare_jid) then
      return refuse(origin, stanza, "wait", "policy-violation", "Enough changes for now")
    end
    if not self:set_subject(occupant.nick, subject) then return refuse(origin, stanza, "wait", "internal-server-error") end
    self:broadcast_message(copy)
    return true
  end

  -- groupchat -----------------------------------------------------------------------------------------------------------------

  function room_mt:handle_groupchat_to_room(origin, stanza)
    local real_jid = stanza.attr.from
    local occupant = self:get_occupant_by_real_jid(real_jid)
    if module:fire_event("muc-occupant-groupchat", { room = self, origin = origin, stanza = stanza, from = real_jid,
      occupant = occupant }) then return true end
    if not occupant then
      if self:is_locked() then return refuse(origin, stanza, "cancel", "item-not-found", "There is no such room") end     -- §17.2
      return refuse(origin, stanza, "modify", "not-acceptable", "You are not in this room")
    end
    if role_ranks[occupant.role] <= role_ranks.visitor then
      return refuse(origin, stanza, "auth", "forbidden", "You have no voice here")
    end
    local copy = unsigned(self, st.clone(stanza))
    copy.attr.from, copy.attr.to = occupant.nick, nil
    if is_subject(copy) then return change_subject(self, origin, stanza, copy, occupant) end
    return self:broadcast_message(copy)
  end

  -- Single occupants (§7.5) ---------------------------------------------------------------------------------------------------

  local function may_write(self, from, to)
    local policy = self:get_allow_pm()
    if from.role == "moderator" or policy == "anyone" then return true end
    if to.role == "moderator" and self:get_allow_modpm() then return true end
    if policy == "participants" then return role_ranks[from.role] >= role_ranks.participant end
    return false
  end

  function room_mt:handle_message_to_occupant(origin, stanza)
    local kind = stanza.attr.type
    local from, to = self:get_occupant_by_real_jid(stanza.attr.from), self:get_occupant_by_nick(stanza.attr.to)
    if kind == "error" then
      if from and util.is_kickable_error(stanza) then self:handle_kickable(origin, stanza) end
      return true
    end
    if kind == "groupchat" then return refuse(origin, stanza, "modify", "bad-request") end
    if not from then return refuse(origin, stanza, "modify", "not-acceptable", "You are not in this room") end
    if not to then return refuse(origin, stanza, "cancel", "item-not-found", "There is nobody of that name here") end
    if not may_write(self, from, to) then
      return refuse(origin, stanza, "cancel", "policy-violation", "Private messages are not allowed here")
    end
    local copy = st.clone(stanza)
    copy.attr.from = from.nick
    unsigned(self, copy):tag("x", { xmlns = USER }):up()
    if module:fire_event("muc-private-message", { room = self, origin = origin, stanza = copy }) then return true end
    self:route_to_occupant(to, copy)
    return true
  end

  -- Questions (§17.4, XEP-0410) -----------------------------------------------------------------------------------------------
  -- The answer finds its way back by its id, which says who asked and proves that this room has said so.

  local secret = require "util.random".bytes(32)

  local function seal(self, who, stanza_id, nick, answerer)
    local text = who .. "\0" .. nick .. "\0" .. stanza_id
    return base64.encode(text .. "\0" .. hashes.hmac_sha256(secret, self.jid .. "\0" .. answerer .. "\0" .. text):sub(1, 16))
  end

  local function unseal(self, sealed, answerer)
    local plain = base64.decode(sealed or "") or ""
    local text, mac = plain:sub(1, -18), plain:sub(-16)
    if #plain < 19 or not hashes.equals(mac, hashes.hmac_sha256(secret, self.jid .. "\0" .. answerer .. "\0" .. text):sub(1,
      16)) then
      return nil
    end
    return text:match "^(%Z*)%z(%Z*)%z(.*)$"
  end

  function room_mt:handle_iq_to_occupant(origin, stanza)
    local kind, real_jid = stanza.attr.type, stanza.attr.from
    local from = self:get_occupant_by_real_jid(real_jid)
    if kind == "result" or kind == "error" then
      local asker, nick, stanza_id = unseal(self, stanza.attr.id, real_jid)
      if not asker then return true end
      local copy = st.clone(stanza)
      copy.attr.to, copy.attr.id, copy.attr.from = asker, stanza_id, nick
      self:route_stanza(copy)
      return true
    end
    if not from then
      return refuse(origin, stanza, "modify", stanza:get_child("query", "http://jabber.org/protocol/disco#info") and "bad-request"
        or "not-acceptable", nil, self.jid)
    end
    local to = self:get_occupant_by_nick(stanza.attr.to)
    if stanza:get_child("ping", "urn:xmpp:ping") and (not to or to == from) then
      if not to then return refuse(origin, stanza, "cancel", "item-not-found", nil, self.jid) end
      origin.send(st.reply(stanza))            -- XEP-0410 §4: the room itself answers whoever asks whether he is still in
      return true
    end
    if not to then return refuse(origin, stanza, "cancel", "item-not-found") end
    local target = to.jid
    if stanza:get_child("vCard", "vcard-temp") then target = jid.bare(target) end    -- cards are kept by the account's server
    local copy = st.clone(stanza)
    copy.attr.from, copy.attr.to, copy.attr.id = from.nick, target, seal(self, real_jid, stanza.attr.id or "", to.nick, target)
    self:route_stanza(copy)
    return true
  end

  -- Invitations (§7.8.2) ------------------------------------------------------------------------------------------------------

  local INVITES_MAX = 20                       -- in one message
  local REASON_BYTES = 1024

  -- As much of it as a message bears, in whole characters.
  local function reason_of(element)
    local reason = element and element:get_child_text "reason"
    return reason and reason:sub(1, utf8.offset(reason, 0, math.min(#reason, REASON_BYTES) + 1) - 1)
  end

  -- From the room; shown: who invites. invite: what that one has sent, in a message from origin.
  function room_mt:_invite(who, shown, invite, origin, incoming)
    local reason = reason_of(invite)
    local continue = invite and invite:get_child "continue"
    local message = st.message({ from = self.jid, to = who, id = id.medium() }):tag("x", { xmlns = USER })
      :tag("invite", { from = shown })
    if reason then message:text_tag("reason", reason) end
    if continue then message:tag("continue", { thread = continue.attr.thread }):up() end
    message:up()
    if self:get_password() then message:text_tag("password", self:get_password()) end
    message:up():tag("x", { xmlns = "jabber:x:conference", jid = self.jid, reason = reason }):up()
    if not module:fire_event("muc-invite", { room = self, stanza = message, origin = origin, incoming = incoming }) then
      self:route_stanza(message)
    end
  end

  function room_mt:handle_mediated_invite(origin, stanza)
    local inviter, bare = stanza.attr.from, jid.bare(stanza.attr.from)
    local x = stanza:get_child("x", USER)
    if module:fire_event("muc-pre-invite", { room = self, origin = origin, stanza = stanza }) then return true end
    local occupant = self:get_occupant_by_real_jid(inviter)
    local affiliation = self:affiliation_of(bare)
    if not occupant and (ranks[affiliation] < ranks.member or not self:has_passed(inviter)) then
      return refuse(origin, stanza, "modify", "not-acceptable", "You are not in this room")
    end
    if self:get_members_only() and ranks[affiliation] < ranks.admin and not (self:get_allow_member_invites()
      and affiliation == "member") then
      return refuse(origin, stanza, "auth", "forbidden", "You may not invite to this room")
    end
    local n = 0
    for invite in x:childtags "invite" do
      local who = invite.attr.to and jid.prep(invite.attr.to)
      if not who then return refuse(origin, stanza, "modify", "jid-malformed") end
      n = n + 1
      if n > INVITES_MAX then return refuse(origin, stanza, "modify", "policy-violation", "Too many at a time") end
    end
    for invite in x:childtags "invite" do
      local who = jid.prep(invite.attr.to)
      if not util.may_write_to_strangers(bare) then
        return refuse(origin, stanza, "wait", "policy-violation", "Enough invitations for now")
      end
      if self:get_members_only() and self:affiliation_of(who) == "none" then
        if not util.may_change(self, bare) then
          return refuse(origin, stanza, "wait", "policy-violation", "Enough changes for now")
        end
        local ok, kind, condition = self:set_affiliation(true, jid.bare(who), "member", "Invited by " .. bare)
        if not ok then return refuse(origin, stanza, kind, condition) end
      end
      self:_invite(who, self:get_whois() == "anyone" and bare or occupant and occupant.nick or self.jid, invite, origin, stanza)
    end
    return true
  end

  function room_mt:handle_mediated_decline(origin, stanza)
    local decline = stanza:get_child("x", USER):get_child "decline"
    local who = decline.attr.to and jid.prep(decline.attr.to)
    if not who then return refuse(origin, stanza, "modify", "jid-malformed") end
    local bare = jid.bare(stanza.attr.from)
    if self:affiliation_of(bare) == "outcast" then return refuse(origin, stanza, "auth", "forbidden") end
    if module:fire_event("muc-pre-decline", { room = self, origin = origin, stanza = stanza }) then return true end
    -- Before all occupants are gone through.
    if not util.may_write_to_strangers(bare) then
      return refuse(origin, stanza, "wait", "policy-violation", "Enough refusals for now")
    end
    -- Only to somebody who belongs here: the room is no way to write to anybody.
    local inviter = self:get_occupant_by_nick(who)
    if not inviter and ranks[self:affiliation_of(who)] < ranks.member and not self:_any_session_of(who) then return true end
    local reason = reason_of(decline)
    local message = st.message({ from = self.jid, to = inviter and inviter.jid or who, id = id.medium() })
      :tag("x", { xmlns = USER }):tag("decline", { from = bare })
    if reason then message:text_tag("reason", reason) end
    message:up():up()
    if not module:fire_event("muc-decline", { room = self, stanza = message, origin = origin, incoming = stanza }) then
      self:route_stanza(message)
    end
    return true
  end

  function room_mt:_any_session_of(who)
    local bare = jid.bare(who)
    for _, occupant in self:each_occupant() do
      if occupant.bare_jid == bare then return true end
    end
    return false
  end

  -- Voice (§7.13, §8.6) -------------------------------------------------------------------------------------------------------

  local voice = dataforms.new {
    title = "Request for voice",
    { name = "FORM_TYPE", type = "hidden", value = "http://jabber.org/protocol/muc#request" },
    { name = "muc#role", type = "list-single", label = "Role asked for", options = { "participant" }, value = "participant" },
    { name = "muc#jid", type = "jid-single", label = "Who asks" },
    { name = "muc#roomnick", type = "text-single", label = "Nickname" },
    { name = "muc#request_allow", type = "boolean", label = "Allow it?", value = false },
  }

  function room_mt:handle_role_request(origin, stanza, form)
    local occupant = self:get_occupant_by_real_jid(stanza.attr.from)
    if not occupant then return refuse(origin, stanza, "modify", "not-acceptable") end
    if form.attr.type == "cancel" then return true end
    local unclear = util.unclear(form, voice, "http://jabber.org/protocol/muc#request")
    local values, problems = voice:data(form)
    if unclear or problems then
      return refuse(origin, stanza, "modify", "bad-request", unclear or select(2, next(problems)))
    end
    if values["muc#request_allow"] ~= nil and occupant.role == "moderator" then
      if module:fire_event("muc-voice-response", { room = self, origin = origin, stanza = stanza, occupant = occupant,
        fields = values }) then
        return true
      end
      local nick = values["muc#roomnick"]
      local target = nick and self:get_occupant_by_nick(self.jid .. "/" .. nick)
      if values["muc#request_allow"] and target and target.role == "visitor" then
        local ok, kind, condition = self:set_role(stanza.attr.from, target.nick, "participant")
        if not ok then return refuse(origin, stanza, kind, condition) end
      end
      return true
    end
    if (values["muc#role"] or "participant") ~= "participant" then
      return refuse(origin, stanza, "modify", "bad-request", "That role cannot be asked for")
    end
    if occupant.role ~= "visitor" then return true end
    if not util.may_write_to_strangers(occupant.bare_jid) then
      return refuse(origin, stanza, "wait", "policy-violation", "Enough requests for now")
    end
    if module:fire_event("muc-voice-request", { room = self, origin = origin, stanza = stanza, occupant = occupant }) then
      return true
    end
    local message = st.message({ from = self.jid }):add_child(voice:form({ ["muc#jid"] = occupant.jid,
      ["muc#roomnick"] = select(3, jid.split(occupant.nick)) }))
    self:broadcast(message, util.only_with_min_role "moderator")
    return true
  end

  -- Messages to the room that are not groupchat -------------------------------------------------------------------------------

  function room_mt:handle_message_to_room(origin, stanza)
    local kind = stanza.attr.type
    if kind == "groupchat" then return self:handle_groupchat_to_room(origin, stanza) end
    if kind == "error" then return self:handle_kickable(origin, stanza) end
    local x = stanza:get_child("x", USER)
    if x and (not kind or kind == "normal") then
      if x:get_child "invite" then return self:handle_mediated_invite(origin, stanza) end
      if x:get_child "decline" then return self:handle_mediated_decline(origin, stanza) end
    end
    local form = stanza:get_child("x", "jabber:x:data")
    local form_type = form and dataforms.get_type(form)
    if form_type == "http://jabber.org/protocol/muc#request" then return self:handle_role_request(origin, stanza, form) end
    if form_type == "http://jabber.org/protocol/muc#register" then
      return self:handle_registration_answer(origin, stanza, form)
    end
    return nil
  end
end
