-- SPDX-License-Identifier: MIT
-- muc/occupant: who is in a room under one nickname, with one or several resources (XEP-0045 §7.2.8).
--
-- Fields: nick (address in the room), bare_jid, jid (the resource spoken to alone), role, sessions { full_jid = presence }.
-- Presence is kept as it was sent, without what only rooms say.

local st = require "util.stanza"
local util = module:require "muc/util"

local occupant_mt = {}
occupant_mt.__index = occupant_mt

local occupants = { mt = occupant_mt }

function occupants.new(bare_jid, nick)
  return setmetatable({ bare_jid = bare_jid, nick = nick, sessions = {}, role = nil, jid = nil }, occupant_mt)
end

-- A copy, to compare with or to change before it is saved.
function occupants.copy(occupant)
  local sessions = {}
  for full, presence in pairs(occupant.sessions) do sessions[full] = presence end
  local copy = setmetatable({}, occupant_mt)
  for k, v in pairs(occupant) do copy[k] = v end
  copy.sessions = sessions
  return copy
end

local function clean(stanza, keep_children)
  local copy = st.clone(stanza, not keep_children)
  copy.attr.to, copy.attr.from = nil, nil
  return keep_children and util.filter_muc_x(copy) or copy
end
occupants.clean = clean

function occupant_mt:set_session(real_jid, presence)
  self.sessions[real_jid] = clean(presence, true)
  if not self.jid then self.jid = real_jid end
end

function occupant_mt:remove_session(real_jid)
  self.sessions[real_jid] = nil
  if self.jid == real_jid then
    self.jid = nil
    self:choose_new_primary()
  end
end

local function first_where(sessions, wanted)
  for full, presence in pairs(sessions) do
    if wanted(presence) then return full end
  end
end

-- The one that is available, if any is.
function occupant_mt:choose_new_primary()
  self.jid = first_where(self.sessions, function(p) return p.attr.type == nil end) or next(self.sessions)
  return self.jid
end

function occupant_mt:each_session()
  return pairs(self.sessions)
end

function occupant_mt:get_presence(real_jid)
  return self.sessions[real_jid or self.jid]
end

return occupants
