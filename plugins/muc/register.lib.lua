-- SPDX-License-Identifier: MIT
-- muc/register: becoming a member with a nickname of one's own (XEP-0045 §7.10). Adds methods to room_mt.

local dataforms = require "util.dataforms"
local jid = require "util.jid"
local st = require "util.stanza"

local REGISTER, FORM = "jabber:iq:register", "http://jabber.org/protocol/muc#register"

return function(room_mt)
  local function layout(room)
    local form = dataforms.new {
      title = "Registration with " .. room.jid,
      { name = "FORM_TYPE", type = "hidden", value = FORM },
      { name = "muc#register_roomnick", type = "text-single", required = true, label = "Nickname" },
    }
    module:fire_event("muc-registration-form", { room = room, form = form })
    return form
  end

  function room_mt:handle_register_iq(origin, stanza)
    local who = jid.bare(stanza.attr.from)
    local affiliation = self:get_affiliation(who)
    local query = stanza.tags[1]
    local function refuse(...)
      origin.send(st.error_reply(stanza, ...))
      return true
    end
    if affiliation == "outcast" then return refuse("auth", "forbidden") end
    if not self:get_persistent() then return refuse("cancel", "service-unavailable", "This room does not stay") end
    if module:fire_event("muc-register-iq", { room = self, origin = origin, stanza = stanza }) then return true end
    local nick = self:get_registered_nick(who)
    if stanza.attr.type == "get" then
      local reply = st.reply(stanza):query(REGISTER)
      if nick then
        reply:tag("registered"):up():text_tag("username", nick)
      end
      reply:add_child(layout(self):form { ["muc#register_roomnick"] = nick })
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
      origin.send(st.reply(stanza))
      return true
    end
    if self:get_members_only() and affiliation == "none" then return refuse("cancel", "not-allowed", "Ask an owner") end
    local x = query:get_child("x", "jabber:x:data")
    if not x or x.attr.type ~= "submit" then return refuse("modify", "bad-request") end
    if dataforms.get_type(x) ~= FORM then return refuse("modify", "bad-request") end
    local values, problems = layout(self):data(x)
    if problems then return refuse("modify", "bad-request", select(2, next(problems))) end
    local want = select(3, jid.prepped_split(self.jid .. "/" .. (values["muc#register_roomnick"] or "")))
    if not want or #want > module.config.muc_max_nick_length then
      return refuse("modify", "not-acceptable", "That is no nickname")
    end
    local other = self:get_occupant_by_nick(self.jid .. "/" .. want)
    local registered = self:get_registered_jid(want)
    if other and other.bare_jid ~= who or registered and registered ~= who then return refuse("cancel", "conflict") end
    local data = { reserved_nickname = want }
    local event = { room = self, origin = origin, stanza = stanza, submission = values, affiliation_data = data, allowed = true }
    module:fire_event("muc-registration-submitted", event)
    if event.allowed == false then
      return refuse(event.error and event.error.type or "cancel", event.error and event.error.condition or "not-allowed")
    end
    local ok, kind, condition = self:set_affiliation(true, who, affiliation == "none" and "member" or affiliation, nil, data)
    if not ok then return refuse(kind, condition) end
    origin.send(st.reply(stanza))
    return true
  end
end
