-- SPDX-License-Identifier: MIT
-- muc/register: becoming a member with a nickname of one's own (XEP-0045 §7.10), at once or when an admin has said yes (§9.9).
-- Adds methods to room_mt.
--
-- Field: _data.registrations { [bare address] = what was submitted }: they wait for an admin, also over a restart.

local dataforms = require "util.dataforms"
local id = require "util.id"
local jid = require "util.jid"
local st = require "util.stanza"

local util = module:require "muc/util"

local REGISTER, FORM = "jabber:iq:register", "http://jabber.org/protocol/muc#register"
local WHO = "x-register_jid"
local WAITING_MAX = 100                        -- requests of one room …
local WAITING_OF_ONE = 50                      -- … and of all of one other server
local FORM_BYTES = 4096                        -- of a form that is kept until an admin decides
local OUTSIDE_MAX = 20                         -- admins who are not here and are written to

local DEFAULT = module:get_option_boolean("allow_unaffiliated_register", true) and "open" or "closed"

return function(room_mt)
  -- "open": everybody; "approval": whom an admin lets; "closed": nobody. A room for members alone is never open, whatever its
  -- form said before it became one.
  function room_mt:get_registration()
    local value = self._data.registration
    if self:get_members_only() then return value == "approval" and value or "closed" end
    return value or DEFAULT
  end

  -- What admins may want to know of somebody before they decide (§15.5.1); in other rooms nobody reads it, so nobody is asked.
  local ABOUT = { { "first", "First name" }, { "last", "Family name" }, { "url", "A web page" }, { "email", "E-mail address" },
    { "faqentry", "About you, for the others", "text-multi" } }

  local function layout(room, for_admins)
    local form = dataforms.new {
      title = "Registration with " .. room.jid,
      { name = "FORM_TYPE", type = "hidden", value = FORM },
      { name = "muc#register_roomnick", type = "text-single", required = true, label = "Nickname" },
    }
    for _, field in ipairs(for_admins and ABOUT or {}) do
      form[#form + 1] = { name = "muc#register_" .. field[1], type = field[3] or "text-single", label = field[2] }
    end
    module:fire_event("muc-registration-form", { room = room, form = form })
    return form
  end

  -- To those who may decide, here or elsewhere.
  local function ask_admins(room, who, values)
    local form = layout(room, true)
    form.title = "Registration request"
    table.insert(form, 2, { name = WHO, type = "jid-single", label = "Who asks" })
    form[#form + 1] = { name = "muc#register_allow", type = "boolean", label = "Allow this person to register with the room?",
      value = false }
    local shown = { [WHO] = who }
    for k, v in pairs(values) do shown[k] = v end
    local message = st.message({ from = room.jid, id = id.medium() }):add_child(form:form(shown))
    local here, outside = {}, 0
    room:broadcast(message, function(_, occupant)
      local decides = util.valid_affiliations[room:affiliation_of(occupant.bare_jid)] >= util.valid_affiliations.admin
      here[occupant.bare_jid] = decides or nil
      return decides
    end)
    for admin, affiliation in room:each_affiliation() do
      if (affiliation == "owner" or affiliation == "admin") and not here[admin] and outside < OUTSIDE_MAX then
        outside = outside + 1
        local copy = st.clone(message)
        copy.attr.to = admin
        room:route_stanza(copy)
      end
    end
  end

  -- -> true | nil, type, condition, text
  local function wait_for_admins(room, who, values)
    local waiting, n, same, domain = room._data.registrations or {}, 0, 0, util.elsewhere(who)
    for other in pairs(waiting) do
      n, same = n + 1, same + (domain and jid.host(other) == domain and 1 or 0)
    end
    if not waiting[who] and (n >= WAITING_MAX or same >= WAITING_OF_ONE) then
      return nil, "wait", "resource-constraint", "Too many wait already"
    end
    if not util.may_write_to_strangers(who) then return nil, "wait", "policy-violation", "Enough requests for now" end
    room._data.registrations = waiting
    local before = waiting[who]
    waiting[who] = values
    if not room:save() then
      waiting[who] = before
      return nil, "wait", "internal-server-error"
    end
    ask_admins(room, who, values)
    return true
  end

  -- All who have made up an account on one other server leave half of the lists to others, of the lines as of the bytes.
  -- longer: the nickname is, than the one there was.
  local function room_for(room, who, affiliation, longer)
    local domain = util.elsewhere(who)
    if not domain or affiliation ~= "none" and affiliation ~= "member" then return true end
    local heads, bytes = room:members_of(domain)
    return (affiliation == "member" or heads < room:max_affiliations() // 2)
      and (not longer or bytes < room:max_list_bytes() // 2)
  end

  local function done_with(room, who)
    local waiting = room._data.registrations
    if not waiting or not waiting[who] then return end
    waiting[who] = nil
    if not next(waiting) then room._data.registrations = nil end
    return true
  end

  -- Whoever has been put on a list does not wait any more.
  module:hook("muc-set-affiliation", function(event)
    if event.affiliation ~= "none" and done_with(event.room, event.jid) then event.room:save() end
  end)

  local decision = dataforms.new {
    { name = "FORM_TYPE", type = "hidden", value = FORM }, { name = WHO, type = "jid-single" },
    { name = "muc#register_roomnick", type = "text-single" },
    { name = "muc#register_allow", type = "boolean", required = true },
  }

  -- An admin's answer (§9.9).
  function room_mt:handle_registration_answer(origin, stanza, x)
    local function refuse(...)
      origin.send(st.error_reply(stanza, ...))
      return true
    end
    local actor = jid.bare(stanza.attr.from)
    if util.valid_affiliations[self:affiliation_of(actor)] < util.valid_affiliations.admin then
      return refuse("auth", "forbidden")
    end
    if x.attr.type == "cancel" then return true end                    -- it waits on, for another admin
    local unclear = util.unclear(x, decision, FORM)
    if unclear then return refuse("modify", "bad-request", unclear) end
    local values, problems = decision:data(x)
    if problems then return refuse("modify", "bad-request", select(2, next(problems))) end
    local who = values[WHO]
    local waiting = self._data.registrations or {}
    for asker, wanted in pairs(waiting) do
      if not who and wanted["muc#register_roomnick"] == values["muc#register_roomnick"] then who = asker end
    end
    local wanted = who and waiting[who]
    if not wanted then return refuse("cancel", "item-not-found", "Nobody of that name waits") end
    if values["muc#register_allow"] then
      local nick = wanted["muc#register_roomnick"]
      if self:_nick_taken(nick, who) then return refuse("cancel", "conflict", util.NICK_TAKEN) end
      local affiliation = self:affiliation_of(who)
      local ok, kind, condition, text = self:set_affiliation(stanza.attr.from, who,
        affiliation == "none" and "member" or affiliation, nil, { reserved_nickname = nick })
      if not ok then return refuse(kind, condition, text) end
    end
    if done_with(self, who) and not self:save() then return refuse("wait", "internal-server-error") end
    return true
  end

  function room_mt:handle_register_iq(origin, stanza)
    local who = jid.bare(stanza.attr.from)
    local affiliation = self:affiliation_of(who)
    local query = stanza.tags[1]
    local function refuse(...)
      origin.send(st.error_reply(stanza, ...))
      return true
    end
    if affiliation == "outcast" then return refuse("auth", "forbidden") end
    if not self:get_persistent() then return refuse("cancel", "service-unavailable", "This room does not stay") end
    if module:fire_event("muc-register-iq", { room = self, origin = origin, stanza = stanza }) then return true end
    local nick, rule = self:get_registered_nick(who), self:get_registration()
    local for_admins = affiliation == "none" and rule == "approval"
    if affiliation == "none" and (rule == "closed" or not self:has_passed(who)) then
      return refuse("cancel", "not-allowed", "Ask an owner")
    end
    local runs = util.valid_affiliations[affiliation] >= util.valid_affiliations.admin
    if stanza.attr.type == "set" and not ((runs or util.may_register(who)) and util.may_change(self, who)) then
      return refuse("wait", "policy-violation", "Enough registrations for now")
    end
    if stanza.attr.type == "get" then
      local reply = st.reply(stanza):query(REGISTER)
      if nick then
        reply:tag("registered"):up():text_tag("username", nick)
      end
      reply:add_child(layout(self, for_admins):form { ["muc#register_roomnick"] = nick })
      origin.send(reply)
      return true
    end
    if query:get_child "remove" then
      if affiliation == "member" then
        local ok, kind, condition = self:set_affiliation(true, who, "none")
        if not ok then return refuse(kind, condition) end
      elseif nick then
        self:set_affiliation_data(who, "reserved_nickname", nil)
      end
      if done_with(self, who) and not self:save() then return refuse("wait", "internal-server-error") end
      origin.send(st.reply(stanza))
      return true
    end
    local x = query:get_child("x", "jabber:x:data")
    if not x then return refuse("modify", "bad-request") end
    local form = layout(self, for_admins)
    local unclear = util.unclear(x, form, FORM)
    if unclear then return refuse("modify", "bad-request", unclear) end
    if #tostring(x) > FORM_BYTES then return refuse("modify", "not-acceptable", "That is too much") end
    local values, problems = form:data(x)
    if problems then return refuse("modify", "bad-request", select(2, next(problems))) end
    local want = select(3, jid.prepped_split(self.jid .. "/" .. (values["muc#register_roomnick"] or "")))
    if not want or not util.is_nick(want) then
      return refuse("modify", "not-acceptable", "That is no nickname")
    end
    if self:_nick_taken(want, who) then return refuse("cancel", "conflict", util.NICK_TAKEN) end
    if not room_for(self, who, affiliation, #want > #(nick or "")) then
      return refuse("wait", "resource-constraint", "Too many of your server are registered")
    end
    local data = { reserved_nickname = want }
    local event = { room = self, origin = origin, stanza = stanza, submission = values, affiliation_data = data, allowed = true }
    module:fire_event("muc-registration-submitted", event)
    if event.allowed == false then
      return refuse(event.error and event.error.type or "cancel", event.error and event.error.condition or "not-allowed")
    end
    local ok, kind, condition, text
    if affiliation == "none" and rule == "approval" then
      values["muc#register_roomnick"] = want
      ok, kind, condition, text = wait_for_admins(self, who, values)
    else
      ok, kind, condition, text = self:set_affiliation(true, who, affiliation == "none" and "member" or affiliation, nil, data)
    end
    if not ok then return refuse(kind, condition, text) end
    origin.send(st.reply(stanza))
    return true
  end
end
