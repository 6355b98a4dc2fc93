-- SPDX-License-Identifier: MIT
-- muc/affiliations: who is what in a room for long (affiliations) and for now (roles), who may change that, and the requests
-- of muc#admin (XEP-0045 §5, §8, §9). Adds methods to room_mt.

local budget = require "couplet.budget"
local count = require "util.iterators".count
local jid = require "util.jid"
local st = require "util.stanza"

local occupants = module:require "muc/occupant"
local pace = module:require "muc/pace"
local util = module:require "muc/util"

local ADMIN = "http://jabber.org/protocol/muc#admin"
local ranks, role_ranks = util.valid_affiliations, util.valid_roles

-- Those the configuration names: no store is asked, since this is asked for every recipient.
local admins = module:get_option_boolean("component_admins_as_room_owners", true)
  and module:get_option_inherited_set("admins", {}) or require "util.set".new()

return function(room_mt)
  -- Affiliations --------------------------------------------------------------------------------------------------------------

  -- nil: none. Plugins may put functions of their own in its place.
  function room_mt:get_affiliation(who)
    local node, domain = jid.split(who)
    if not domain then return nil end
    local bare = node and node .. "@" .. domain or domain
    if admins:contains(bare) then return "owner" end
    local own = self._affiliations[bare]
    if own then return own end
    if self._affiliations[domain] == "outcast" then return "outcast" end      -- whole domains may be shut out (§9.1)
    return nil
  end

  -- The same as a word.
  function room_mt:affiliation_of(who) return self:get_affiliation(who) or "none" end

  -- Is the password no secret for that address? Invitations carry it, and it guards what is said behind it.
  function room_mt:has_passed(who)
    return not self:get_password() or ranks[self:affiliation_of(who)] >= ranks.admin or self:_any_session_of(jid.bare(who))
  end

  function room_mt:each_affiliation(affiliation)
    local last
    return function()
      local who, value
      repeat
        who, value = next(self._affiliations, last)
        last = who
      until not who or not affiliation or value == affiliation
      return who, value, who and self._affiliation_data[who] or nil
    end
  end

  function room_mt:get_affiliation_data(who, key)
    local data = self._affiliation_data[jid.bare(who)]
    if not data then return nil end
    if key == nil then return data end
    return data[key]
  end

  function room_mt:set_affiliation_data(who, key, value)
    who = jid.bare(who)
    local data = self._affiliation_data[who] or {}
    local old = data[key]
    data[key] = value
    self._affiliation_data[who] = next(data) ~= nil and data or nil
    if old ~= value then
      self:_recount_lists()
      module:fire_event("muc-set-affiliation-data/" .. tostring(key), { room = self, jid = who, key = key, value = value,
        data_prev = old })
      self:save()
    end
    return true
  end

  function room_mt:get_default_role(affiliation)
    if affiliation == "none" then affiliation = nil end
    local role = module:fire_event("muc-get-default-role", { room = self, affiliation = affiliation,
      affiliation_rank = ranks[affiliation or "none"] })
    if role ~= nil then return role end
    if affiliation == "owner" or affiliation == "admin" then return "moderator" end
    if affiliation == "member" then return "participant" end
    if affiliation == "outcast" then return nil end
    if self:get_members_only() then return nil end
    return self:get_moderated() and "visitor" or "participant"
  end

  local function owners(self)
    local n = 0
    for _, affiliation in pairs(self._affiliations) do n = n + (affiliation == "owner" and 1 or 0) end
    return n
  end

  -- §5.2.2, §9, §10: an admin changes what is below admins, an owner everything. others_stay: somebody else has looked whether an
  -- owner is left. -> nil | type, condition, text
  local function refused(self, actor, old, new, others_stay)
    if actor == true then return nil end
    local mine = self:affiliation_of(actor)
    if mine == "owner" then
      if old == "owner" and new ~= "owner" and not others_stay and owners(self) == 1 then
        return "cancel", "conflict", util.NEEDS_OWNER
      end
      return nil
    end
    if ranks[mine] < ranks.admin then return "auth", "forbidden", "Only admins and owners may do that" end
    if ranks[old] >= ranks.admin or ranks[new] >= ranks.admin then       -- §9.1: a ban; §10.3 to §10.8: the lists of owners
      if new == "outcast" then return "cancel", "not-allowed", "Only owners may do that to admins and owners" end
      return "auth", "forbidden", "Only owners may make, or unmake, admins and owners"
    end
    return nil
  end

  -- To a new moderator: the others again, since their addresses are now to be seen.
  local function show_all(self, occupant)
    for full in pairs(occupants.copy(occupant).sessions) do
      self:_send_others(full, occupant.nick)
    end
  end

  -- Occupants of those addresses, accounts or domains: { address = { occupant } }, gone through once for all of them.
  local function of_addresses(self, events)
    local found = {}
    for _, event in ipairs(events) do found[event.jid] = {} end
    for _, occupant in self:each_occupant() do
      local bare, host = occupant.bare_jid, jid.host(occupant.bare_jid)
      if found[bare] then table.insert(found[bare], occupant) end
      if found[host] then table.insert(found[host], occupant) end
    end
    return found
  end

  -- They go, all at once and before anybody is told, so that those who stay alone hear of each.
  -- list { { occupant, code } }
  function room_mt:_put_out(list, actor, reason, hold)
    local gone = {}
    for _, item in ipairs(list) do
      local occupant = item[1]
      if self._occupants[occupant.nick] == occupant then
        local copy = occupants.copy(occupant)
        copy.role = nil
        gone[#gone + 1] = { copy, item[2], occupant.role }
        self:drop_occupant(occupant)
      end
    end
    for _, item in ipairs(gone) do
      if not hold then pace(self:occupant_count()) end
      local occupant = item[1]
      self:publicise_occupant_status(occupant, util.x(nil, { item[2] }), nil, actor, reason, item[3], true, nil, hold)
      module:fire_event("muc-occupant-left", { room = self, nick = occupant.nick, occupant = occupant })
    end
  end

  -- What others are told of a change waits for the answer to who has asked for it, if there is one (hold).
  local function publicise(self, hold, occupant, actor, reason, prev_role)
    local function tell()
      if self._occupants[occupant.nick] ~= occupant then return end    -- gone meanwhile
      self:publicise_occupant_status(occupant, util.x(), nil, actor, reason, prev_role)
      if occupant.role == "moderator" and prev_role ~= "moderator" and self:get_whois() ~= "anyone" then
        show_all(self, occupant)
      end
    end
    if hold then hold[#hold + 1] = tell else tell() end
  end

  -- Occupants whose affiliation has changed: what they are now, and why they must go.
  local function apply(self, event, changed, hold)
    local actor, reason, old, new = event.actor, event.reason, event.previous_affiliation, event.affiliation
    local leave, n = {}, 0
    for _, occupant in ipairs(changed) do
      -- Else a handler has waited and it is gone, or a whole domain has changed and the account is on a list itself.
      if self._occupants[occupant.nick] == occupant and self:affiliation_of(occupant.bare_jid) == new then
        n = n + 1
        local prev_role = occupant.role
        local role = self:get_default_role(new)
        -- A role given by hand stays, unless the new affiliation takes more or gives more (§5.2.2 table).
        if role and prev_role and ranks[new] < ranks.admin and ranks[old] < ranks.admin
          and role_ranks[role] < role_ranks[prev_role] and not self:get_moderated() then
          role = prev_role
        end
        if role then
          if not hold then pace(self:occupant_count()) end
          occupant.role = role
          self:save_occupant(occupant)
          publicise(self, hold, occupant, actor, reason, prev_role)
        else
          leave[#leave + 1] = { occupant, new == "outcast" and 301 or self:get_members_only() and 321 or nil }
        end
      end
    end
    self:_put_out(leave, actor, reason, hold)
    return n > 0
  end

  -- What a change would be, once everybody has been asked. -> event | nil, type, condition, text
  local function prepare(self, actor, who, affiliation, reason, data, others_stay)
    if not actor then return nil, "modify", "not-acceptable" end
    local prepped = jid.prep(who)
    if not prepped or not jid.bare(prepped) or select(3, jid.split(prepped)) then return nil, "modify", "jid-malformed" end
    who = prepped
    if not ranks[affiliation] then return nil, "modify", "not-acceptable" end
    if admins:contains(who) and affiliation ~= "owner" then return nil, "cancel", "not-allowed" end
    local old = self._affiliations[who] or "none"
    if affiliation == "outcast" and actor ~= true and jid.bare(actor) == who then
      return nil, "cancel", "conflict", "You cannot ban yourself"
    end
    local event = { room = self, actor = actor, jid = who, affiliation = affiliation, reason = reason, previous_affiliation = old,
      data = data, allowed = nil }
    module:fire_event("muc-pre-set-affiliation", event)
    if event.allowed == false then
      local err = event.error or { type = "cancel", condition = "not-allowed" }
      return nil, err.type, err.condition, err.text
    elseif not event.allowed then
      local kind, condition, text = refused(self, actor, old, affiliation, others_stay)
      if kind then return nil, kind, condition, text end
    end
    return event
  end

  local function merged(old, data)
    local both = {}
    for k, v in pairs(old or {}) do both[k] = v end
    for k, v in pairs(data or {}) do both[k] = v end
    return both
  end

  local TOLD_MAX = 20                          -- people outside, of one request

  -- Who is not here hears of it too: of the list of members by an invitation, where only members may enter (§9.3, SHOULD), of any
  -- other change by code 101 (§14.1, MAY).
  local function tell_absent(self, events)
    local n = 0
    for _, event in ipairs(events) do
      local old, new = event.previous_affiliation, event.affiliation
      if not event.in_room and event.actor ~= true and old ~= new and jid.node(event.jid) and n < TOLD_MAX
        and util.may_write_to_strangers(jid.bare(event.actor)) then
        n = n + 1
        if new == "member" and old == "none" and self:get_members_only() then
          self:_invite(event.jid, jid.bare(event.actor))
        else
          self:route_stanza(st.message({ from = self.jid, to = event.jid })
            :add_child(util.x({ affiliation = new, jid = event.jid }, { 101 }, event.reason)))
        end
      end
    end
  end

  -- Those inside see no presence of who is not (§10.3, §10.6, §10.7, MAY). Where addresses are known clients encrypt for all on
  -- the lists, and would leave out who is new there.
  local function tell_occupants(self, events)
    if self:get_whois() ~= "anyone" then return end
    local n = 0
    for _, event in ipairs(events) do
      if not event.in_room and event.previous_affiliation ~= event.affiliation and n < TOLD_MAX then
        n = n + 1
        if n > 1 then pace(self:occupant_count()) end
        local item = { affiliation = event.affiliation, role = "none", jid = event.jid }
        self:broadcast(st.message { from = self.jid }:add_child(util.x(item, nil, event.reason)))
      end
    end
  end

  -- What is known of the lists beside them is found anew when it is asked for.
  function room_mt:_recount_lists()
    self._reserved, self._list_bytes, self._members = nil, nil, nil
  end

  -- Bytes the lists take in the store, about.
  local function text_in(data)
    local n = 0
    for key, value in pairs(data or {}) do
      n = n + #tostring(key) + (type(value) == "table" and text_in(value) or #tostring(value))
    end
    return n
  end

  local function takes(self, who)
    local data = self._affiliation_data[who]
    return (self._affiliations[who] and #who + 30 or 0) + (data and #who + text_in(data) or 0)
  end

  function room_mt:list_bytes()
    local n = self._list_bytes
    if not n then
      n = 0
      for who in pairs(self._affiliations) do n = n + takes(self, who) end
      for who in pairs(self._affiliation_data) do      -- hats are for everybody
        if not self._affiliations[who] then n = n + takes(self, who) end
      end
      self._list_bytes = n
    end
    return n
  end

  -- An address on a list has some hundred bytes, one with the other.
  function room_mt:max_list_bytes() return math.max(65536, 100 * self:max_affiliations()) end

  -- That address among the members of its server, or (sign -1) not any more.
  local function tally(self, members, who, sign)
    if self._affiliations[who] ~= "member" then return end
    util.count(members.heads, jid.host(who), sign)
    util.count(members.bytes, jid.host(who), sign * takes(self, who))
  end

  -- On the lists in memory, with what is known of them beside.
  local function put(self, who, affiliation, data)
    local members, by_nick = self._members, self._reserved
    local bytes = self:list_bytes() - takes(self, who)
    local nick, had = data and affiliation ~= "outcast" and data.reserved_nickname, self:get_registered_nick(who)
    if members then tally(self, members, who, -1) end
    self._affiliations[who], self._affiliation_data[who] = affiliation, data
    self._list_bytes = bytes + takes(self, who)
    if members then tally(self, members, who, 1) end
    if had and had ~= nick then
      self._reserved = nil                     -- somebody else may have it, too
    elseif by_nick and nick then
      by_nick[nick] = who
    end
  end

  -- Members of that server. -> how many, bytes they take on the lists
  function room_mt:members_of(domain)
    local members = self._members
    if not members then
      members = { heads = {}, bytes = {} }
      for who in self:each_affiliation "member" do tally(self, members, who, 1) end
      self._members = members
    end
    return members.heads[domain] or 0, members.bytes[domain] or 0
  end

  -- All of them, in one write with what also() changes, then to the occupants. -> true | nil, type, condition, text
  local function commit(self, events, also, hold)
    local new = 0
    for _, event in ipairs(events) do
      if event.affiliation ~= "none" and not self._affiliations[event.jid] then new = new + 1 end
    end
    if new > 0 and self:affiliation_count() + new > self:max_affiliations() then
      return nil, "wait", "resource-constraint", "Too many addresses on the lists of this room"
    end
    local before, bytes = {}, self:list_bytes()
    local function undo()
      for i = #before, 1, -1 do put(self, table.unpack(before[i], 1, 3)) end
    end
    for i, event in ipairs(events) do
      local who = event.jid
      before[i] = { who, self._affiliations[who], self._affiliation_data[who] }
      event.previous_affiliation = self._affiliations[who] or "none"
      if event.affiliation == "none" then
        put(self, who, nil, nil)
      else
        local data = merged(self._affiliation_data[who], event.data)
        if event.affiliation == "outcast" or data.reserved_nickname == "" then data.reserved_nickname = nil end    -- §9.1, §9.5
        put(self, who, event.affiliation, next(data) ~= nil and data or nil)
      end
    end
    if self:list_bytes() > math.max(bytes, self:max_list_bytes()) then
      undo()
      return nil, "wait", "resource-constraint", "Too much on the lists of this room"
    end
    if also then also() end
    local ok, err = self:save()
    if ok == nil and err then
      undo()
      return nil, "wait", "internal-server-error"
    end
    local changed = of_addresses(self, events)
    for _, event in ipairs(events) do
      event.in_room = apply(self, event, changed[event.jid], hold)
      module:fire_event("muc-set-affiliation", event)
    end
    tell_absent(self, events)
    if hold then hold[#hold + 1] = function() tell_occupants(self, events) end else tell_occupants(self, events) end
    return true
  end

  -- hold: see publicise_occupant_status. -> true | nil, type, condition, text
  function room_mt:set_affiliation(actor, who, affiliation, reason, data, hold)
    local event, kind, condition, text = prepare(self, actor, who, affiliation, reason, data)
    if not event then return nil, kind, condition, text end
    return commit(self, { event }, nil, hold)
  end

  function room_mt:affiliation_count()
    return count(pairs(self._affiliations))
  end

  -- Roles ---------------------------------------------------------------------------------------------------------------------

  function room_mt:get_role(nick)
    local occupant = self:get_occupant_by_nick(nick)
    return occupant and occupant.role or nil
  end

  -- §8.4, §9.6: -> bool, and why not
  function room_mt:may_set_role(actor, occupant, role)
    if actor == true then return true end
    local me = self:get_occupant_by_real_jid(actor)
    local mine, theirs = ranks[self:affiliation_of(actor)], ranks[self:affiliation_of(occupant.bare_jid)]
    local my_role = me and me.role or "none"
    if my_role ~= "moderator" and mine < ranks.admin then
      return false, "auth", "forbidden", "Only moderators may do that"
    end
    -- Nobody is kicked or silenced by those below him (§8.2, §8.4).
    if theirs > mine and role_ranks[role or "none"] < role_ranks[occupant.role or "none"] then
      return false, "cancel", "not-allowed", "You may not do that to somebody above you"
    end
    local granting = role == "moderator" or occupant.role == "moderator"
    if granting and mine < ranks.admin then                                      -- §9.6, §9.7
      return false, "auth", "forbidden", "Only admins and owners may make, or unmake, moderators"
    end
    if theirs >= ranks.admin and (role == "visitor" or role == "participant") then
      return false, "cancel", "not-allowed", "Admins and owners are moderators"
    end
    return true
  end

  -- role nil: out. -> true | nil, type, condition, text
  function room_mt:set_role(actor, nick, role, reason, hold)
    if role == "none" then role = nil end
    if role and not role_ranks[role] then return nil, "modify", "not-acceptable" end
    local occupant = self:get_occupant_by_nick(nick)
    if not occupant then return nil, "cancel", "item-not-found", "Nobody here has this nickname" end
    local event = { room = self, actor = actor, occupant = occupant, nick = nick, role = role, reason = reason, allowed = nil }
    module:fire_event("muc-pre-set-role", event)
    if event.allowed == false then return nil, "cancel", "not-allowed" end
    if self._occupants[nick] ~= occupant then return nil, "cancel", "item-not-found" end   -- left while a handler waited
    if not event.allowed then
      local ok, kind, condition, text = self:may_set_role(actor, occupant, role)
      if not ok then return nil, kind, condition, text end
    end
    local prev_role = occupant.role
    if role then
      occupant.role = role
      self:save_occupant(occupant)
      publicise(self, hold, occupant, actor, reason, prev_role)
      return true
    end
    self:_put_out({ { occupant, 307 } }, actor, reason, hold)
    return true
  end

  -- muc#admin -----------------------------------------------------------------------------------------------------------------

  local LIST_BIG, LIST_BUDGET = 500, 20000     -- items; of the large lists of a room, in ten seconds, to people of one server

  -- How long the lists are, in items of some hundred bytes.
  function room_mt:list_length() return math.max(self:affiliation_count(), self:list_bytes() // 100) end

  -- May a list of so many be told to that address now? The large ones cost, and anybody may ask for some of them. No stranger
  -- keeps those from it who run the room: each of this server has a measure of his own, those of another share one.
  function room_mt:may_tell_list(n, who)
    if n < LIST_BIG then return true end
    self._list_budget = self._list_budget or budget.new(20, LIST_BUDGET, 10)
    local domain = util.elsewhere(who)
    local key = domain or ""
    if ranks[self:affiliation_of(who)] >= ranks.admin then key = domain and "@" .. domain or jid.bare(who) end
    return self._list_budget(key, math.min(n, LIST_BUDGET))                    -- what is longer can be had as well
  end

  local function error_to(origin, stanza, kind, condition, text)
    origin.send(st.error_reply(stanza, kind, condition, text))
    return true
  end

  local function may_list(self, actor, affiliation, role)
    local mine, me = ranks[self:affiliation_of(actor)], self:get_occupant_by_real_jid(actor)
    if role then return mine >= ranks.admin or me ~= nil and me.role == "moderator" end
    if mine == ranks.owner then return true end
    -- §10.5, §10.8: in semi-anonymous rooms these two are for owners alone
    if ranks[affiliation] >= ranks.admin and self:get_whois() ~= "anyone" then return false end
    if mine >= ranks.admin then return true end
    -- muc#roomconfig_getmemberlist; §9.4: members may even from outside, where everybody's address is seen anyway
    if affiliation == "outcast" then return false end
    local allowed = self:get_member_list_roles()
    if me then return allowed[me.role] == true end
    return mine >= ranks.member and allowed.participant and self:get_whois() == "anyone" and self:has_passed(actor)
  end

  function room_mt:handle_admin_query_get_command(origin, stanza)
    local actor = stanza.attr.from
    local query = stanza.tags[1]
    local reply = st.reply(stanza):query(ADMIN)
    local items = 0
    for item in query:childtags "item" do
      local affiliation, role = item.attr.affiliation, item.attr.role
      items = items + 1
      if items > 10 or affiliation and role then return error_to(origin, stanza, "modify", "bad-request") end
      if affiliation and ranks[affiliation] and affiliation ~= "none" then
        if not may_list(self, actor, affiliation) then
          return error_to(origin, stanza, "auth", "forbidden", "You may not see this list")
        end
        if not self:may_tell_list(self:list_length(), actor) then
          return error_to(origin, stanza, "wait", "resource-constraint")
        end
        for who, _, data in self:each_affiliation(affiliation) do
          reply:tag("item", { affiliation = affiliation, jid = who, nick = data and data.reserved_nickname or nil })
          if data and data.reason then reply:text_tag("reason", data.reason) end
          reply:up()
        end
      elseif role and role_ranks[role] and role ~= "none" then
        if not may_list(self, actor, nil, role) then
          return error_to(origin, stanza, "auth", "forbidden", "You may not see this list")
        end
        if not self:may_tell_list(self:occupant_count(), actor) then
          return error_to(origin, stanza, "wait", "resource-constraint")
        end
        for nick, occupant in self:each_occupant() do
          if occupant.role == role then
            reply:tag("item", { nick = select(3, jid.split(nick)), role = role,
              affiliation = self:affiliation_of(occupant.bare_jid),
              jid = occupant.jid }):up()
          end
        end
      else
        return error_to(origin, stanza, "modify", "bad-request")
      end
    end
    if items == 0 then return error_to(origin, stanza, "modify", "bad-request") end
    origin.send(reply)
    return true
  end

  local REASON_BYTES = 1024

  -- What one <item/> asks for: { affiliation, jid } or { role, nick } | nil, type, condition
  local function read_item(self, item)
    local attr = item.attr
    local reason = item:get_child_text "reason"
    if reason and #reason > REASON_BYTES then return nil, "modify", "not-acceptable" end
    if attr.affiliation and attr.role or not attr.affiliation and not attr.role then return nil, "modify", "bad-request" end
    if attr.affiliation then
      local who = attr.jid and jid.prep(attr.jid)
      if not attr.jid and attr.nick then                   -- a nickname will do where the address is hidden
        local occupant = self:get_occupant_by_nick(self.jid .. "/" .. attr.nick)
        who = occupant and occupant.bare_jid
      end
      if not who then return nil, "modify", attr.jid and "jid-malformed" or "bad-request" end
      if not ranks[attr.affiliation] then return nil, "modify", "not-acceptable" end
      who = jid.bare(who)
      local kept = ranks[attr.affiliation] > 0 and attr.nick
      if kept and kept ~= "" then                          -- it is kept for him, so it must be one; "": none any more
        kept = select(3, jid.prepped_split(self.jid .. "/" .. kept))
        if not kept or not util.is_nick(kept) then return nil, "modify", "not-acceptable" end
      end
      local owner = kept and self:get_registered_jid(kept)
      if owner and owner ~= who then return nil, "cancel", "conflict", util.NICK_TAKEN end
      return { affiliation = attr.affiliation, jid = who, reason = reason,
        data = kept and { reserved_nickname = kept } or attr.affiliation == "outcast" and reason and { reason = reason } or nil }
    end
    local nick = attr.nick and jid.prep(self.jid .. "/" .. attr.nick)
    if not nick and attr.jid then
      local occupant = self:get_occupant_by_real_jid(attr.jid)
      nick = occupant and occupant.nick
    end
    if not nick then return nil, "modify", "bad-request" end
    if not role_ranks[attr.role] then return nil, "modify", "not-acceptable" end
    return { role = attr.role, nick = nick, reason = reason }
  end

  -- Would it be allowed? The same questions as when it is done, so that several changes are done all or not at all (§9.2).
  local function check_item(self, actor, want)
    if want.affiliation then
      local old = self._affiliations[want.jid] or "none"
      if want.affiliation == "outcast" and jid.bare(actor) == want.jid then
        return nil, "cancel", "conflict", "You cannot ban yourself"
      end
      local kind, condition, text = refused(self, actor, old, want.affiliation)
      if kind then return nil, kind, condition, text end
      return true
    end
    local occupant = self:get_occupant_by_nick(want.nick)
    if not occupant then return nil, "cancel", "item-not-found", "Nobody here has this nickname" end
    local ok, kind, condition, text = self:may_set_role(actor, occupant, want.role ~= "none" and want.role or nil)
    if not ok then return nil, kind, condition, text end
    return true
  end

  local ITEMS_MAX = 1000

  -- Many at once, so that all of them are kept or none; with them what also() does in memory.
  -- list { { jid, affiliation, reason?, data? } } -> true | nil, type, condition, text
  function room_mt:set_affiliations(actor, list, also, hold)
    local left, events = {}, {}                -- one by one each may be fine, and together leave no owner
    for who in self:each_affiliation "owner" do left[who] = true end
    local had = next(left)
    for _, want in ipairs(list) do left[want.jid] = want.affiliation == "owner" or nil end
    if had and not next(left) and actor ~= true then return nil, "cancel", "conflict", util.NEEDS_OWNER end
    for i, want in ipairs(list) do
      local event, kind, condition, text = prepare(self, actor, want.jid, want.affiliation, want.reason, want.data, true)
      if not event then return nil, kind, condition, text end
      events[i] = event
    end
    return commit(self, events, also, hold)
  end

  -- One by the method, which plugins may have replaced.
  local function set_lists(self, actor, list, hold)
    local want = list[1]
    if not want then return true end
    if list[2] then return self:set_affiliations(actor, list, nil, hold) end
    return self:set_affiliation(actor, want.jid, want.affiliation, want.reason, want.data, hold)
  end

  function room_mt:handle_admin_query_set_command(origin, stanza)
    local actor = stanza.attr.from
    local wanted = {}
    for item in stanza.tags[1]:childtags "item" do
      local want, kind, condition, text = read_item(self, item)
      if not want then return error_to(origin, stanza, kind, condition, text) end
      wanted[#wanted + 1] = want
      if #wanted > ITEMS_MAX then return error_to(origin, stanza, "modify", "policy-violation") end
    end
    if not wanted[1] then return error_to(origin, stanza, "modify", "bad-request") end
    for _, want in ipairs(wanted) do
      local ok, kind, condition, text = check_item(self, actor, want)
      if not ok then return error_to(origin, stanza, kind, condition, text) end
    end
    local lists = {}
    for _, want in ipairs(wanted) do if want.affiliation then lists[#lists + 1] = want end end
    if lists[1] and not util.may_change(self, jid.bare(actor)) then
      return error_to(origin, stanza, "wait", "policy-violation", "Enough changes for now")
    end
    -- Who leaves hears of it, then who has asked, then all others (§8.2).
    local hold = {}
    local ok, kind, condition, text = set_lists(self, actor, lists, hold)
    for _, want in ipairs(ok and wanted or {}) do
      if ok and want.role then ok, kind, condition, text = self:set_role(actor, want.nick, want.role, want.reason, hold) end
    end
    if ok then origin.send(st.reply(stanza)) else error_to(origin, stanza, kind, condition, text) end
    for _, tell in ipairs(hold) do
      pace(self:occupant_count())
      tell()
    end
    return true
  end

  -- Nicknames kept for somebody (§7.10, §7.13) --------------------------------------------------------------------------------

  local function reserved(self)
    if self._reserved then return self._reserved end
    local by_nick = {}
    for who, data in pairs(self._affiliation_data) do
      local nick = data.reserved_nickname
      if nick and self._affiliations[who] ~= "outcast" then by_nick[nick] = who end
    end
    self._reserved = by_nick
    return by_nick
  end

  function room_mt:get_registered_nick(who) return self:get_affiliation_data(who, "reserved_nickname") end
  function room_mt:get_registered_jid(nick) return nick and reserved(self)[nick] end

  -- Does somebody else than that account use the nickname, or has reserved it?
  function room_mt:_nick_taken(nick, bare)
    local other, registered = self:get_occupant_by_nick(self.jid .. "/" .. nick), self:get_registered_jid(nick)
    return other ~= nil and other.bare_jid ~= bare or registered ~= nil and registered ~= bare
  end
end
