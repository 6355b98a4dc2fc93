-- SPDX-License-Identifier: MIT
-- muc/config: what can be set about a room: getters and setters, the form of owners (muc#owner), what discovery shows, and the
-- requests of owners (XEP-0045 §10, §16.5). Adds methods to room_mt.
--
--   config.fields        list of { name, field, type, … }; each gives room:get_NAME() and room:set_NAME(value) -> changed
--   config.install(room_mt)
--   config.field(name)   { get(room), set(room, value) }: what muc/NAME is for plugins

local dataforms = require "util.dataforms"
local jid = require "util.jid"
local st = require "util.stanza"
local usermanager = require "core.usermanager"

local util = module:require "muc/util"

local OWNER, CONFIG = "http://jabber.org/protocol/muc#owner", "http://jabber.org/protocol/muc#roomconfig"
local TEXT_BYTES = 1024
local CONTACTS_MAX = 20

local config = {}

local function option(name, kind, ...) return module["get_option_" .. kind](module, name, ...) end

-- An option that forbids where it is not understood; that it is not has been complained about when it was read.
local function may(name)
  local value = module:get_option(name)
  return value == nil or value == true or value == "true" or value == 1
end

local UNSET = {}
local ROLES = { "visitor", "participant", "moderator" }
local DEFAULT_PM = ({ visitor = "anyone", participant = "participants", moderator = "moderators" })[module.config
  .muc_room_default_allow_pm] or module.config.muc_room_default_allow_pm

-- { role = true }, a list of roles, or one
local DEFAULT_BROADCAST = module.config.muc_room_default_presence_broadcast
if DEFAULT_BROADCAST ~= nil then
  local value = DEFAULT_BROADCAST
  local roles = type(value) == "table" and value or { value }
  DEFAULT_BROADCAST = {}
  for key, wanted in pairs(roles) do
    local role = type(key) == "number" and wanted or key
    if util.valid_roles[role] then
      DEFAULT_BROADCAST[role] = wanted and true
    else
      module:log("error", "muc_room_default_presence_broadcast: %s is no role; visitor, participant and moderator are", role)
    end
  end
end
local NOBODY_ELSE = { none = false }

-- name, label, key in _data, field of muc#roomconfig, type, default. code: status code when it changes (§10.2.1: 104 if none).
-- allowed: option that leaves the field to administrators.
config.fields = {
  { name = "name", label = "Name", field = "roomname", type = "text-single" },
  { name = "description", label = "Description", field = "roomdesc", type = "text-single" },
  { name = "language", label = "Language", field = "lang", type = "text-single",
    default = option("muc_room_default_language", "string") },
  { name = "persistent", label = "Stays when everybody has left", field = "persistentroom", type = "boolean",
    default = option("muc_room_default_persistent", "boolean", false), features = { "muc_persistent", "muc_temporary" },
    allowed = "muc_room_allow_persistent" },
  { name = "public", label = "Is listed", field = "publicroom", type = "boolean",
    default = option("muc_room_default_public", "boolean", may "muc_room_allow_public"),
    features = { "muc_public", "muc_hidden" }, allowed = "muc_room_allow_public" },
  { name = "members_only", label = "Only members may enter", field = "membersonly", type = "boolean",
    default = option("muc_room_default_members_only", "boolean", false), features = { "muc_membersonly", "muc_open" } },
  { name = "allow_member_invites", label = "Members may invite", field = "allowinvites", type = "boolean",
    default = option("muc_room_default_allow_member_invites", "boolean", false) },
  { name = "moderated", label = "Only those with voice may speak", field = "moderatedroom", type = "boolean",
    default = option("muc_room_default_moderated", "boolean", false), features = { "muc_moderated", "muc_unmoderated" } },
  { name = "password", label = "Password", field = "roomsecret", type = "text-private",
    features = { "muc_passwordprotected", "muc_unsecured" } },
  { name = "whois", label = "Who sees real addresses", field = "whois", type = "list-single",
    default = option("muc_room_default_public_jids", "boolean", false) and "anyone" or "moderators",
    options = { { value = "moderators", label = "Moderators" }, { value = "anyone", label = "Everybody" } },
    features = { anyone = "muc_nonanonymous", moderators = "muc_semianonymous" } },
  { name = "changesubject", label = "Everybody may change the subject", field = "changesubject", type = "boolean",
    default = option("muc_room_default_change_subject", "boolean", false) },
  { name = "historylength", label = "Messages shown to those who come", field = "historylength", type = "text-single",
    datatype = "xs:integer", range_min = 0, default = option("muc_room_default_history_length", "integer", 20) },
  { name = "presence_broadcast", label = "Whose presence is shown", field = "presencebroadcast", type = "list-multi",
    options = ROLES },
  { name = "member_list_roles", label = "Who may see the list of members", field = "getmemberlist", type = "list-multi",
    options = ROLES },
  { name = "allow_pm", label = "Who may write to single occupants", field = "allowpm", type = "list-single",
    default = DEFAULT_PM, options = { "anyone", "participants", "moderators", "none" } },
  { name = "allow_modpm", label = "Everybody may write to moderators", type = "boolean",
    var = "{http://prosody.im/protocol/muc}roomconfig_allowmodpm",
    default = module.config.muc_room_default_always_allow_moderator_pms },
  { name = "registration", label = "Who may register (in rooms for members alone nobody, or whom an admin lets)",
    type = "list-single", var = "x-roomconfig_registration", default = "open",
    options = { { value = "open", label = "Everybody" }, { value = "approval", label = "Whom an admin lets" },
      { value = "closed", label = "Nobody" } } },
  { name = "contacts", label = "Whom to ask about the room", type = "jid-multi", var = "x-roomconfig_contactjid" },
  { name = "logs", label = "Where its logs are read (URL)", type = "text-single", var = "x-roomconfig_logs" },
  { name = "ldap_group", label = "LDAP group of its members (a name to show)", type = "text-single",
    var = "x-roomconfig_ldapgroup" },
  { name = "pubsub", label = "Node of publish–subscribe that belongs to it (XMPP URI)", field = "pubsub", type = "text-single" },
  { name = "max_users", label = "Occupants at most", field = "maxusers", type = "text-single", datatype = "xs:positiveInteger" },
}

local MAX_USERS = "muc#roomconfig_maxusers"

local function says_none(x, var)
  for tag in x:childtags "field" do
    if tag.attr.var == var then return tag:get_child_text "value" == "none" end
  end
end

local function var_of(field) return field.var or "muc#roomconfig_" .. field.field end

function config.field(name)
  return { get = function(room) return room["get_" .. name](room) end,
    set = function(room, value) return room["set_" .. name](room, value) end }
end

function config.install(room_mt)
  for _, field in ipairs(config.fields) do
    local name = field.name
    room_mt["get_" .. name] = room_mt["get_" .. name] or function(self)
      local value = self._data[name]
      if value == nil then return field.default end
      return value
    end
    room_mt["set_" .. name] = room_mt["set_" .. name] or function(self, value)
      if field.type == "boolean" then value = value == true end
      if value == "" then value = nil end
      if self["get_" .. name](self) == value then return false end
      self._data[name] = value
      return true
    end
  end

  function room_mt:get_hidden() return not self:get_public() end
  function room_mt:set_hidden(hidden) return self:set_public(not hidden) end
  function room_mt:is_hidden() return self:get_hidden() end

  function room_mt:get_name() return self._data.name or jid.split(self.jid) end

  -- { role = true }
  function room_mt:get_presence_broadcast()
    local shown = self._data.presence_broadcast or DEFAULT_BROADCAST
    if not shown then return { visitor = true, participant = true, moderator = true, none = true } end
    return setmetatable(shown, { __index = NOBODY_ELSE })
  end

  function room_mt:set_presence_broadcast(shown)
    local set, all = {}, true
    for _, role in ipairs(ROLES) do
      set[role] = shown[role] == true
      all = all and set[role]
    end
    local old, changed = self:get_presence_broadcast(), false
    for _, role in ipairs(ROLES) do changed = changed or (old[role] == true) ~= set[role] end
    if changed then self._data.presence_broadcast = (not all or DEFAULT_BROADCAST) and set or nil end
    return changed
  end

  -- { role = true }. Unless the owners say so: those who see real addresses anyway.
  function room_mt:get_member_list_roles()
    local everybody = self:get_whois() == "anyone"
    return self._data.member_list_roles or { visitor = everybody, participant = everybody, moderator = true }
  end

  function room_mt:set_member_list_roles(roles)
    local old, new, changed = self:get_member_list_roles(), {}, false
    for _, role in ipairs(ROLES) do
      new[role] = roles[role] == true
      changed = changed or new[role] ~= old[role]
    end
    if changed then self._data.member_list_roles = new end
    return changed
  end

  function room_mt:set_contacts(list)
    if list and not list[1] then list = nil end
    if table.concat(self:get_contacts() or {}, "\0") == table.concat(list or {}, "\0") then return false end
    self._data.contacts = list
    return true
  end

  local set_historylength = room_mt.set_historylength
  function room_mt:set_historylength(n)
    return set_historylength(self, math.max(0, math.min(math.floor(tonumber(n) or 20), module.config.max_history_messages)))
  end

  -- Who comes in or goes when the rules change --------------------------------------------------------------------------------

  local set_members_only = room_mt.set_members_only
  function room_mt:set_members_only(on)
    if not set_members_only(self, on) then return false end
    if on then                                             -- §10.2.1: 322
      local leave = {}
      for _, occupant in self:each_occupant() do
        if self:affiliation_of(occupant.bare_jid) == "none" then leave[#leave + 1] = { occupant, 322 } end
      end
      self:_put_out(leave)
    end
    return true
  end

  -- The form ------------------------------------------------------------------------------------------------------------------

  local function offered(field, actor)
    return not field.allowed or may(field.allowed) or actor == true or usermanager.is_admin(actor, module.host)
  end

  function room_mt:get_form_layout(actor)
    local form = { title = "Configuration of " .. self.jid, { name = "FORM_TYPE", type = "hidden", value = CONFIG } }
    for _, field in ipairs(config.fields) do
      local value = self["get_" .. field.name](self)
      if field.options == ROLES then
        local list = {}
        for _, role in ipairs(ROLES) do if value[role] then list[#list + 1] = role end end
        value = list
      elseif field.name == "name" then value = self._data.name
      end
      if offered(field, actor) then
        form[#form + 1] = { name = var_of(field), type = field.type, label = field.label, options = field.options, value = value,
          datatype = field.datatype, range_min = field.range_min }
      end
    end
    form[#form + 1] = { name = "muc#roomconfig_passwordprotectedroom", type = "boolean", label = "A password is needed",
      value = self:get_password() ~= nil }
    for _, list in ipairs { { "roomadmins", "admin", "Administrators" }, { "roomowners", "owner", "Owners" } } do
      local who = {}
      for address in self:each_affiliation(list[2]) do who[#who + 1] = address end
      table.sort(who)
      form[#form + 1] = { name = "muc#roomconfig_" .. list[1], type = "jid-multi", label = list[3], value = who }
    end
    local event = { room = self, actor = actor, form = form }
    module:fire_event("muc-config-form", event)
    return dataforms.new(event.form)
  end

  function room_mt:send_form(origin, stanza)
    origin.send(st.reply(stanza):query(OWNER):add_child(self:get_form_layout(stanza.attr.from):form()))
  end

  local PRIVACY = { whois = true }

  local function valid(field, value)
    if type(value) == "string" and #value > TEXT_BYTES then return false end
    if field.type == "jid-multi" and #value > CONTACTS_MAX then return false end
    if not field.options then return true end
    local known = {}
    for _, one in ipairs(field.options) do known[type(one) == "table" and one.value or one] = true end
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      if not known[one] then return false end
    end
    return true
  end

  local OWNERS, ADMINS, MEMBERS_ONLY = "muc#roomconfig_roomowners", "muc#roomconfig_roomadmins", "muc#roomconfig_membersonly"
  local LISTS = { { OWNERS, "owner" }, { ADMINS, "admin" } }

  -- The lists of admins and owners in the form are whole lists (§10.1.2). Who is not on them any more (§10.2): an owner becomes
  -- an admin, unless that list is there as well; the others stay in a room for members alone as such.
  -- -> what changes: { { jid, affiliation } } | nil, type, condition
  local function list_changes(self, values, present)
    local becomes, out = {}, {}
    local members_only = self:get_members_only()
    if present[MEMBERS_ONLY] then members_only = values[MEMBERS_ONLY] end
    local rest = members_only and "member" or "none"
    local lower = { owner = present[ADMINS] and rest or "admin", admin = rest }
    for _, list in ipairs(LISTS) do
      local var, affiliation = list[1], list[2]
      if present[var] then
        local want = {}
        for _, who in ipairs(values[var] or {}) do want[jid.bare(who)] = true end
        if affiliation == "owner" and not next(want) then return nil, "cancel", "conflict", util.NEEDS_OWNER end
        for who in self:each_affiliation(affiliation) do
          if not want[who] then becomes[who] = becomes[who] or lower[affiliation] end
        end
        for who in pairs(want) do
          local now = becomes[who] or self._affiliations[who]
          if now ~= "owner" or affiliation == "owner" then becomes[who] = affiliation end      -- named in both lists: the higher
        end
      end
    end
    for who, affiliation in pairs(becomes) do
      if (self._affiliations[who] or "none") ~= affiliation then out[#out + 1] = { jid = who, affiliation = affiliation } end
    end
    return out
  end

  -- -> true | nil, type, condition, text
  function room_mt:process_form(x, actor)
    local layout = self:get_form_layout(actor)
    if x:get_child "field" then                            -- an empty one: an instant room, or nothing changes (§10.1.2)
      local unclear = util.unclear(x, layout, CONFIG)
      if unclear then return nil, "modify", "bad-request", unclear end
    end
    local values, problems, present = layout:data(x)
    if problems and problems[MAX_USERS] and says_none(x, MAX_USERS) then       -- §10.1.3: as many as come
      problems[MAX_USERS] = nil
      if not next(problems) then problems = nil end
    end
    if problems then
      local name, text = next(problems)
      return nil, "modify", "not-acceptable", name .. ": " .. text
    end
    for _, field in ipairs(config.fields) do
      local value = values[var_of(field)]
      if present[var_of(field)] and value ~= nil and not valid(field, value) then
        return nil, "modify", "not-acceptable", var_of(field) .. ": not one of those offered"
      end
    end
    local protect = values["muc#roomconfig_passwordprotectedroom"]
    if present["muc#roomconfig_passwordprotectedroom"] then
      if protect == false then values["muc#roomconfig_roomsecret"], present["muc#roomconfig_roomsecret"] = nil, true
      elseif protect and (values["muc#roomconfig_roomsecret"] or "") == "" and not self:get_password() then
        return nil, "modify", "not-acceptable", "A password, please"
      elseif protect and (values["muc#roomconfig_roomsecret"] or "") == "" then
        present["muc#roomconfig_roomsecret"] = nil
      end
    end
    local lists, kind, condition, why = list_changes(self, values, present)
    if not lists then return nil, kind, condition, why end
    local codes, changed = {}, {}
    local event = { room = self, actor = actor, fields = values, status_codes = codes, changed = changed }
    local before = {}
    local function apply()
      for _, field in ipairs(config.fields) do
        local name = field.name
        if present[var_of(field)] then
          local value = values[var_of(field)]
          if field.options == ROLES then
            local set = {}
            for _, role in ipairs(value or {}) do set[role] = true end
            value = set
          end
          before[name] = self._data[name] == nil and UNSET or self._data[name]
          if self["set_" .. name](self, value) then
            changed[var_of(field)] = true
            if not PRIVACY[name] then codes["104"] = true end
          end
        end
      end
      if changed["muc#roomconfig_whois"] then codes[self:get_whois() == "anyone" and "172" or "173"] = true end
      for var in pairs(values) do
        if type(var) == "string" then
          module:fire_event("muc-config-submitted/" .. var, { room = self, actor = actor, fields = values, status_codes = codes,
            changed = changed, value = values[var] })
        end
      end
      module:fire_event("muc-config-submitted", event)
    end
    local ok, text
    if lists[1] then
      ok, kind, condition, text = self:set_affiliations(actor, lists, apply)
    else
      apply()
      local err
      ok, err = self:save(true)
      if ok or not err then ok = true else kind, condition = "wait", "internal-server-error" end
    end
    if not ok then
      for name, value in pairs(before) do
        if value == UNSET then value = nil end
        self._data[name] = value
      end
      return nil, kind, condition, text
    end
    if next(codes) then
      local told = util.x()
      for code in pairs(codes) do told:tag("status", { code = code }):up() end
      self:broadcast(st.message { type = "groupchat", from = self.jid }:add_child(told))
    end
    return true
  end

  -- muc#owner -----------------------------------------------------------------------------------------------------------------

  function room_mt:handle_owner_query_get_to_room(origin, stanza)
    if self:affiliation_of(stanza.attr.from) ~= "owner" then
      origin.send(st.error_reply(stanza, "auth", "forbidden", "Only owners configure this room"))
      return true
    end
    if not self:may_tell_list(self:list_length(), stanza.attr.from) then       -- it names the owners and the admins
      origin.send(st.error_reply(stanza, "wait", "resource-constraint"))
      return true
    end
    self:send_form(origin, stanza)
    return true
  end

  function room_mt:handle_owner_query_set_to_room(origin, stanza)
    local actor = stanza.attr.from
    local function refuse(...)
      origin.send(st.error_reply(stanza, ...))
      return true
    end
    if self:affiliation_of(actor) ~= "owner" then return refuse("auth", "forbidden", "Only owners configure this room") end
    local child = stanza.tags[1].tags[1]
    if not child then return refuse("modify", "bad-request") end
    if child.name == "destroy" and child.attr.xmlns == OWNER then
      local venue = child.attr.jid and jid.prep(child.attr.jid)
      if child.attr.jid and not venue then return refuse("modify", "jid-malformed") end
      local reason, password = child:get_child_text "reason", child:get_child_text "password"
      if #(reason or "") > TEXT_BYTES or #(password or "") > TEXT_BYTES then return refuse("modify", "not-acceptable") end
      local ok, kind, condition = self:destroy(venue, reason, password)
      if not ok then return refuse(kind, condition) end
      origin.send(st.reply(stanza))
      return true
    elseif child.name == "x" and child.attr.xmlns == "jabber:x:data" then
      if child.attr.type == "cancel" then                  -- §10.1.3: nobody wants the room after all
        if self:is_locked() then self:destroy() end
        origin.send(st.reply(stanza))
        return true
      elseif child.attr.type ~= "submit" then
        return refuse("modify", "bad-request", "The form must be submitted")
      end
      if not util.may_change(self, jid.bare(actor)) then
        return refuse("wait", "policy-violation", "Enough changes for now")
      end
      local ok, kind, condition, text = self:process_form(child, actor)
      if not ok then return refuse(kind, condition, text) end
      self:unlock()
      origin.send(st.reply(stanza))
      if not self:get_persistent() and not self:has_occupant() then self:destroy() end   -- nothing keeps it any more
      return true
    end
    return refuse("modify", "bad-request")
  end

  -- Discovery -----------------------------------------------------------------------------------------------------------------

  module:hook("muc-disco#info", function(event)
    local room, reply = event.room, event.reply
    reply:tag("identity", { category = "conference", type = "text", name = room:get_name() }):up()
    reply:tag("feature", { var = "http://jabber.org/protocol/muc" }):up()
    reply:tag("feature", { var = "http://jabber.org/protocol/muc#stable_id" }):up()
    reply:tag("feature", { var = "http://jabber.org/protocol/muc#self-ping-optimization" }):up()
    for _, field in ipairs(config.fields) do
      local value, features = room["get_" .. field.name](room), field.features
      if features then
        local feature = features[value] or features[value and value ~= "" and 1 or 2]
        reply:tag("feature", { var = feature }):up()
      end
    end
    local function add(name, kind, value, label)
      table.insert(event.form, { name = name, type = kind, label = label })
      event.formdata[name] = value
    end
    local function info(name, ...) return add("muc#roominfo_" .. name, ...) end
    info("description", "text-single", room:get_description() or "", "Description")
    if room:get_language() then info("lang", "text-single", room:get_language(), "Language") end
    if room:get_contacts() then info("contactjid", "jid-multi", room:get_contacts(), "Whom to ask about it") end
    if room:get_logs() then info("logs", "text-single", room:get_logs(), "Where its logs are read") end
    if room:get_ldap_group() then info("ldapgroup", "text-single", room:get_ldap_group(), "LDAP group of its members") end
    if room:get_pubsub() then add("muc#roomconfig_pubsub", "text-single", room:get_pubsub(), "Node of publish–subscribe") end
    info("occupants", "text-single", ("%d"):format(room:occupant_count()), "Number of occupants")
    add("muc#roomconfig_changesubject", "boolean", room:get_changesubject(), "Everybody may change the subject")
    info("subjectmod", "boolean", room:get_changesubject(), "Occupants may change the subject")
    add("muc#maxhistoryfetch", "text-single", ("%d"):format(room:get_historylength()), "Messages shown to those who come")
    local asker = event.reply.attr.to
    if room:get_occupant_by_real_jid(asker) or not room:get_members_only() and not room:get_password() then
      info("subject", "text-single", select(2, room:get_subject()) or "", "Subject")
    end
  end)
end

return config
