-- SPDX-License-Identifier: MIT
-- muc/list: the occupants of a room as those who come see them, all in one piece. A thousand who come see a thousand each, so
-- what is shown of an occupant is built and serialised once, until something about it or the room changes. Adds to room_mt.
--
-- Field: _rows, lists beside one another: { who = { occupant }, at = { [nick] = place }, and under each of KINDS what was made }.

local client_session = require "couplet.client_session"
local net = require "couplet.core".net
local directory = require "couplet.directory"
local hosts = require "couplet.hosts"
local st = require "util.stanza"

local PIECE = 256 * 1024                       -- bytes that are sent at once

local KINDS = { "full", "anonymous", "full block", "anonymous block" }

return function(room_mt)
  local function rows(self)
    local all = self._rows
    if not all then
      all = { who = {}, at = {} }
      for _, kind in ipairs(KINDS) do all[kind] = {} end
      for nick, occupant in pairs(self._occupants) do
        all.who[#all.who + 1] = occupant
        all.at[nick] = #all.who
      end
      self._rows = all
    end
    return all
  end

  function room_mt:_forget_shown(nick)
    local all = self._rows
    if not all then return end
    local i = nick and all.at[nick]
    for _, kind in ipairs(KINDS) do
      if i then all[kind][i] = false elseif not nick then all[kind] = {} end
    end
  end

  -- Whoever has that nickname now, or nobody, takes its row.
  function room_mt:_list(nick)
    local all, occupant = rows(self), self._occupants[nick]
    local i, last = all.at[nick], #all.who
    if occupant then
      i = i or last + 1
      all.who[i], all.at[nick] = occupant, i
      for _, kind in ipairs(KINDS) do all[kind][i] = false end
    elseif i then                              -- the last one takes its place
      all.at[all.who[last].nick] = i
      all.who[i] = all.who[last]
      all.who[last], all.at[nick] = nil, nil   -- it may be the last itself
      for _, kind in ipairs(KINDS) do
        local list = all[kind]
        list[i] = list[last] or false
        list[last] = nil
      end
    end
  end

  -- What is shown of an occupant, as stanza or as block.
  local function shown(self, occupant, kind, block)
    local key = block and kind .. " block" or kind
    local all = rows(self)
    local i = all.at[occupant.nick]
    local kept = i and all.who[i] == occupant and all[key][i]
    if kept then return kept end
    local made = self:_shown_presence(occupant, kind == "anonymous")
    if block then made = net.block(made, "jabber:client", true) end
    i = rows(self).at[occupant.nick]           -- handlers may have waited
    if i and all.who[i] == occupant then all[key][i] = made end
    return made
  end

  -- The session of one who may be given many presences at once.
  local function straight(self, to)
    local session = directory.session(to)
    local home = session and hosts.get(session.host)
    if home and client_session.plain(session) and self:_direct(home, "presence/full")
      and not self:_who_blocks(home)(session.username, self.jid) then
      return session
    end
  end

  -- The first piece to a session that may be given it straight: nothing is copied. -> place to go on from | nil
  local function head(self, session, to, kind, skip)
    local all = rows(self)
    local who, made = all.who, all[kind .. " block"]
    for k = 1, #who do
      if k ~= skip and not made[k] then made[k] = shown(self, who[k], kind, true) end
    end
    local own
    if skip then own, made[skip] = made[skip], false end
    local i = net.batch(session.net, made, to, 1, PIECE)
    if skip then made[skip] = own end
    return i
  end

  -- list { occupant | false }; made: their blocks, as far as they are there. From the i-th on.
  local function send(self, to, list, made, kind, waits, i)
    local session = straight(self, to)
    i = i or 1
    while session and i do
      if i > 1 and waits then                  -- no faster than the connection takes it; who has left meanwhile is left out
        session = client_session.drain(session) and straight(self, to)
        for k = i, #list do
          if list[k] and self._occupants[list[k].nick] ~= list[k] then list[k] = false end
          made[k] = false
        end
        if not session then break end
      end
      for k = i, #list do
        local occupant = list[k]
        if occupant and not made[k] then made[k] = shown(self, occupant, kind, true) end
      end
      if not session.net then break end        -- handlers may have waited
      i = net.batch(session.net, made, to, i, PIECE)
    end
    for k = i or #list + 1, #list do
      local occupant = list[k]
      if occupant and self._occupants[occupant.nick] == occupant then
        local copy = st.clone(shown(self, occupant, kind))
        copy.attr.to = to
        self:route_stanza(copy)
      end
    end
  end

  local function kind_for(self, to) return self:is_anonymous_for(to) and "anonymous" or "full" end

  -- All whose presence is shown, but for one nickname. waits: to one who comes.
  function room_mt:_send_others(to, but, waits)
    if not self:_shows_all(to) then return self:send_occupant_list(to, function(nick) return nick ~= but end, waits) end
    if not self._may_keep_shown() then self:_forget_shown() end
    local all, kind = rows(self), kind_for(self, to)
    local skip, i = all.at[but], 1
    local session = self._may_keep_shown() and straight(self, to)      -- then no handler waits
    if session then
      i = head(self, session, to, kind, skip)
      if not i then return end
    end
    local n = #all.who
    local list, made = table.move(all.who, 1, n, 1, {}), table.move(all[kind .. " block"], 1, n, 1, {})
    if skip then list[skip], made[skip] = false, false end
    send(self, to, list, made, kind, waits, i)
  end

  function room_mt:send_occupant_list(to, filter, waits)
    if not self._may_keep_shown() then self:_forget_shown() end
    local shows, all = self:shown_roles(), self:_shows_all(to)
    local list, made = {}, {}
    for nick, occupant in pairs(self._occupants) do
      if (not filter or filter(nick, occupant)) and (all or shows[occupant.role]) then
        list[#list + 1], made[#made + 1] = occupant, false
      end
    end
    send(self, to, list, made, kind_for(self, to), waits)
  end

  -- Does that address see the presence of everybody?
  function room_mt:_shows_all(to)
    local asker = self:get_occupant_by_real_jid(to)
    if asker and asker.role == "moderator" then return true end
    local shows = self:shown_roles()
    return shows.visitor and shows.participant and shows.moderator
  end
end
