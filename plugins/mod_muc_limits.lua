-- SPDX-License-Identifier: MIT
-- mod_muc_limits: how much one person may say and do in a room, so that nobody floods it. Those on its lists are exempt.

module:config {
  muc_event_rate = { type = "number", default = 0.5, min = 0.001,
    doc = "messages and changes of presence a second, of one person in one room, that has no affiliation there" },
  muc_domain_event_rate = { type = "number", default = 20, min = 0.001,
    doc = "the same, of all such people of one other server in one room; a hundred seconds of that may come at once" },
  muc_burst_factor = { type = "number", default = 6, min = 1, doc = "seconds of that which may come at once" },
  muc_max_char_count = { type = "integer", default = 5664, min = 1, doc = "bytes of a message in a room" },
  muc_max_line_count = { type = "integer", default = 23, min = 1, doc = "lines of a message in a room" },
}
local config = module.config

local budget = require "couplet.budget"
local jid = require "couplet.jid"
local util = module:depends "muc".module:require "muc/util"
local st = require "couplet.stanza"
local throttle = require "util.throttle"

-- One account has one measure in a room, with however many resources and however often it comes: room._event_rates.
local ROOM_MAX = 5000                          -- accounts remembered in a room
local DOMAINS = 50                             -- and other servers
local TOGETHER = 100                           -- seconds

local function spend(room, who)
  local domain = util.elsewhere(who)
  if domain and not room._domain_budget then    -- it may make up as many accounts as it likes
    room._domain_budget = { budget.new(DOMAINS, math.max(1, config.muc_domain_event_rate * TOGETHER), TOGETHER) }
  end
  local take, left = table.unpack(domain and room._domain_budget or {})
  if domain and not left(domain) then return false end
  local all = room._event_rates
  if not all or all.n >= ROOM_MAX then
    all = { n = 0, of = {} }
    room._event_rates = all
  end
  if not all.of[who] then
    local burst = math.max(1, config.muc_event_rate * config.muc_burst_factor)
    all.n, all.of[who] = all.n + 1, throttle.create(burst, burst / config.muc_event_rate)
  end
  if not all.of[who]:poll(1) then return false end                     -- and what is refused is not charged to its server
  return not domain or take(domain)
end

local function exempt(room, who) return util.valid_affiliations[room:affiliation_of(who)] >= 1 end

local function presence(event)
  local room, stanza, origin = event.room, event.stanza, event.origin
  local who = stanza.attr.from
  if exempt(room, who) or spend(room, jid.bare(who)) then return nil end
  return util.refuse_presence(origin, stanza, "wait", "policy-violation", "Not so fast, please", room.jid)
end
module:hook("muc-occupant-pre-join", presence)
module:hook("muc-occupant-pre-change", presence)

local function message(event)
  local room, stanza, origin = event.room, event.stanza, event.origin
  local who, problem = stanza.attr.from, nil
  if event.occupant == nil or exempt(room, who) then return nil end
  local body = stanza:get_child_text "body" or ""
  if #body > config.muc_max_char_count then problem = "That is too long"
  elseif select(2, body:gsub("\n", "")) >= config.muc_max_line_count then problem = "That has too many lines"
  elseif spend(room, jid.bare(who)) then return nil end
  origin.send(st.error_reply(stanza, problem and "modify" or "wait", "policy-violation", problem or "Not so fast, please",
    room.jid))
  return true
end
module:hook("muc-occupant-groupchat", message)
