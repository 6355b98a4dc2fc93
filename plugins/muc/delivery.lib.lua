-- SPDX-License-Identifier: MIT
-- muc/delivery: the way from a room to those inside: serialised once for all who are connected here and may have it directly,
-- once for all of one other server, routed to the rest. Adds methods to room_mt.
--
-- Field: _audience, the addresses inside in lists beside one another, since all of them are gone through for each presence and
-- each message: { full = { address }, who = { occupant }, sees = { real addresses? }, at = { [address] = place }, session =
-- { [address] = the session it had when something was sent to it }, weight = { [address on another server] = what it takes },
-- of = { [other server] = addresses } }.

local client_session = require "couplet.client_session"
local net = require "couplet.core".net
local directory = require "couplet.directory"
local hosts = require "couplet.hosts"
local jid = require "util.jid"
local link = require "couplet.s2s_link"
local router = require "couplet.router"
local st = require "util.stanza"

local util = module:require "muc/util"

local inside = {}                              -- { [other server] = what its people take in all rooms }

local function takes(bytes) return 1 + bytes // 1024 end

local BATCH_FROM = 50                          -- occupants from which presence waits a tenth of a second for company

return function(room_mt)
  -- Who is inside -------------------------------------------------------------------------------------------------------------

  local function audience(self)
    local all = self._audience
    if not all then
      all = { full = {}, who = {}, sees = {}, at = {}, session = {}, weight = {}, of = {} }
      self._audience = all
      for _, occupant in pairs(self._occupants) do
        for full in pairs(occupant.sessions) do self:_enter(full, occupant) end
      end
    end
    return all
  end
  room_mt._gather = audience

  -- presence nil: it is not here any more.
  local function weigh(all, full, presence)
    local domain, before = util.elsewhere(full), all.weight[full]
    if not domain and not before then return end
    domain = domain or jid.host(full)
    local weight = presence and takes(#tostring(presence))
    all.weight[full] = weight
    util.count(all.of, domain, (weight and 1 or 0) - (before and 1 or 0))
    util.count(inside, domain, (weight or 0) - (before or 0))
  end

  -- Has one other server its share already, of this room (half of it) or of all? Then no more come from there, with no more to
  -- say about themselves.
  function room_mt:has_share(full, bytes)
    local domain, all = util.elsewhere(full), audience(self)
    if not domain then return false end
    local before = all.weight[full]
    local more = takes(bytes) - (before or 0)
    return not before and (all.of[domain] or 0) >= math.max(1, module.config.muc_max_occupants // 2)
      or more > 0 and (inside[domain] or 0) + more > module.config.muc_max_occupants_per_domain
  end

  function room_mt:_enter(full, occupant)
    local all = audience(self)
    weigh(all, full, occupant.sessions[full])
    local i = all.at[full] or #all.full + 1
    all.full[i], all.who[i], all.sees[i], all.at[full] = full, occupant, nil, i
    self._jid_nick[full] = occupant.nick
  end

  function room_mt:_depart(full)
    local all = audience(self)
    local i, last = all.at[full], #all.full
    if all.weight[full] then weigh(all, full, nil) end
    if i then                                  -- the last one takes its place
      all.at[all.full[last]] = i
      all.full[i], all.who[i], all.sees[i] = all.full[last], all.who[last], all.sees[last]
      all.full[last], all.who[last], all.sees[last], all.at[full] = nil, nil, nil, nil
    end
    self._jid_nick[full], all.session[full] = nil, nil
  end

  -- Who may see what has changed.
  function room_mt:_look_again()
    if self._audience then self._audience.sees = {} end
  end

  local is_anonymous_for = room_mt.is_anonymous_for

  -- Those for whom choose(occupant) says true (nil: all), but for one occupant, in two lists: who sees real addresses, and who
  -- does not. That is asked once, until something changes; a plugin's own rule each time.
  function room_mt:_listeners(but, choose)
    local seeing, blind, n_seeing, n_blind = {}, {}, 0, 0
    local anyone, ours = self:get_whois() == "anyone", self.is_anonymous_for == is_anonymous_for
    local all = audience(self)
    local full, who, known = all.full, all.who, all.sees
    for i = 1, #full do
      local other = who[i]
      if other ~= but and (not choose or choose(other)) then
        local sees = anyone or ours and known[i]
        if sees == nil or sees == false and not ours then
          sees = not self:is_anonymous_for(full[i])
          known[i] = sees
        end
        if sees then
          n_seeing = n_seeing + 1
          seeing[n_seeing] = full[i]
        else
          n_blind = n_blind + 1
          blind[n_blind] = full[i]
        end
      end
    end
    return seeing, blind
  end

  -- One ----------------------------------------------------------------------------------------------------------------------

  function room_mt:route_stanza(stanza)
    return router.core_post_stanza(hosts.get(module.host), stanza, false)
  end

  function room_mt:route_to_occupant(occupant, stanza)
    for full in pairs(occupant.sessions) do
      local copy = st.clone(stanza)
      copy.attr.to = full
      self:route_stanza(copy)
    end
  end

  -- Many ---------------------------------------------------------------------------------------------------------------------

  -- May a stanza of this room be handed to the sessions of that host directly, serialised once for all? Not if a plugin there
  -- wants to see it. What mod_blocklist would say is asked for each.
  local PASS = { message = true, presence = true, blocklist = true }

  function room_mt:_direct(home, event, data)
    local entries = home.events.entries(event)
    for i = 1, #entries do
      local entry = entries[i]
      local owner = entry.owner and entry.owner.name
      if not PASS[owner or ""] and not (data and entry.match and not entry.match(data)) then return false end
    end
    return not home.events.wrapped(event)
  end

  local function nobody() return false end

  -- -> function(username, jid) -> bool
  function room_mt:_who_blocks(home)
    local env = home.modules.blocklist
    return env and env.is_blocked or nobody
  end

  -- To some at another server. Plugins that want to see what leaves are asked for each.
  local function away(self, there, stanza, list)
    local events = hosts.get(module.host).events
    local entries, straight = events.entries "route/remote", #list > 1 and not events.wrapped "route/remote"
    for i = 1, #entries do
      local owner = entries[i].owner
      straight = straight and owner ~= nil and owner.name == "s2s"
    end
    if straight and link.multicast(module.host, there, stanza, list) then return end
    for i = 1, #list do
      local copy = st.clone(stanza)
      copy.attr.to = list[i]
      self:route_stanza(copy)
    end
  end

  local plain, session_of = client_session.plain, directory.session

  -- stanza to all of list { full_jid }, in one go where that may be.
  function room_mt:multicast(stanza, list)
    local data, event = { origin = hosts.get(module.host), stanza = stanza }, stanza.name .. "/full"
    local blocked = {}                         -- of each host: who blocks whom; false: all is routed there
    local conns, tos, n, room_jid = {}, list, 0, self.jid
    local all = audience(self)
    local known, at, elsewhere = all.session, all.at, nil
    for i = 1, #list do
      local full = list[i]
      local session = known[full]              -- with a connection it is in the directory still
      if not session or not session.net then
        session = session_of(full)
        if at[full] then known[full] = session end
      end
      local home = session and session.host
      local blocks = home and blocked[home]
      if home and blocks == nil then
        local host = hosts.get(home)
        blocks = host and self:_direct(host, event, data) and self:_who_blocks(host)
        blocked[home] = blocks or false
      end
      if blocks and plain(session) and not blocks(session.username, room_jid) then
        n = n + 1
        conns[n], tos[n] = session.net, full
      else
        if tos == list then tos = table.move(list, 1, n, 1, {}) end
        local there = not session and jid.host(full)
        if there and not hosts.get(there) then
          elsewhere = elsewhere or {}
          local others = elsewhere[there] or {}
          elsewhere[there], others[#others + 1] = others, full
        elseif not blocks or not blocks(session.username, room_jid) then
          local copy = st.clone(stanza)
          copy.attr.to = full
          if blocks then client_session.send(session, copy) else self:route_stanza(copy) end     -- send: filtered, or kept
        end
      end
    end
    if n > 0 then net.multicast(conns, stanza, tos, stanza.name == "presence" and #list >= BATCH_FROM) end
    for there, others in pairs(elsewhere or {}) do away(self, there, stanza, others) end
  end

  -- To everybody, or to those for whom cond(nick, occupant) holds.
  function room_mt:broadcast(stanza, cond)
    local list, n = {}, 0
    local all = audience(self)
    for i = 1, #all.full do
      if not cond or cond(all.who[i].nick, all.who[i]) then
        n = n + 1
        list[n] = all.full[i]
      end
    end
    self:multicast(stanza, list)
  end

end
