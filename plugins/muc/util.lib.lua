-- SPDX-License-Identifier: MIT
-- muc/util: words and small rules of rooms (XEP-0045 §5), for mod_muc and for plugins beside it.
--
--   is_kickable_error(stanza)            an error that says that this occupant is not there any more (XEP-0045 §12.8)
--   filter_muc_x(stanza)                 takes out of a stanza what only rooms say; add_filtered_namespace(ns) adds to that
--   only_with_min_role(role) -> fn(nick, occupant) -> bool
--   refuse_presence(origin, stanza, type, condition, text, by) -> true
--   may_write_to_strangers(bare_jid) -> bool     may a room write to one more outside on behalf of that account?
--   may_make_rooms(bare_jid) -> bool             may that account make one more?
--   may_register(bare_jid) -> bool               may it register with a room once more?
--   may_change(room, bare_jid, more?) -> bool    may it change what is kept of that room once more? more: for what is not in it
--   may_guess(room, bare_jid) -> bool            may it be wrong about a password there once more?
--   guessed(room, bare_jid)                      it was
--   elsewhere(bare_jid) -> domain | nil          the other server that account is of
--   count(counts, key, change), count_account(counts, bare_jid, change)
--   is_nick(nick) -> bool                 prepared already: not too long, and none that looks like another or like nothing
--   unclear(x, layout, form_type) -> nil | why this is no submitted form of that type that says one thing
--   valid_affiliations, valid_roles      name -> rank

local budget = require "couplet.budget"
local dataforms = require "util.dataforms"
local hosts = require "couplet.hosts"
local jid = require "util.jid"
local st = require "util.stanza"

local util = {}

util.NEEDS_OWNER = "A room needs an owner: name another one first"
util.NICK_TAKEN = "This nickname is somebody else's"

util.valid_affiliations = { outcast = -1, none = 0, member = 1, admin = 2, owner = 3 }
util.valid_roles = { none = 0, visitor = 1, participant = 2, moderator = 3 }

-- Blanks that preparation leaves in: braille, Hangul fillers.
local INVISIBLE = { "\u{2800}", "\u{115F}", "\u{1160}", "\u{17B4}", "\u{17B5}" }

function util.is_nick(nick)
  for _, blank in ipairs(INVISIBLE) do
    if nick:find(blank, 1, true) then return false end
  end
  return #nick <= module.config.muc_max_nick_length and nick:find "%S" ~= nil
end

local kickable = {
  gone = true, ["internal-server-error"] = true, ["item-not-found"] = true, ["jid-malformed"] = true,
  ["recipient-unavailable"] = true, redirect = true, ["remote-server-not-found"] = true, ["remote-server-timeout"] = true,
  ["service-unavailable"] = true, ["malformed-error"] = true,
}

function util.is_kickable_error(stanza)
  local condition = select(2, stanza:get_error()) or "malformed-error"
  return kickable[condition] == true
end

local filtered = {
  ["http://jabber.org/protocol/muc"] = true, ["http://jabber.org/protocol/muc#user"] = true,
}

function util.add_filtered_namespace(ns) filtered[ns] = true end

function util.filter_muc_x(stanza)
  local clean = true
  for _, child in ipairs(stanza.tags) do clean = clean and not filtered[child.attr.xmlns] end
  if clean then return stanza end
  return stanza:maptags(function(child)
    if not filtered[child.attr.xmlns] then return child end
  end)
end

function util.only_with_min_role(role)
  local rank = util.valid_roles[role]
  return function(_, occupant) return util.valid_roles[occupant.role or "none"] >= rank end
end

-- Presence that is refused: clients know by <x/> that it was for a room (XEP-0045 §7.2).
function util.refuse_presence(origin, stanza, ...)
  origin.send(st.error_reply(stanza, ...):reset():tag("x", { xmlns = "http://jabber.org/protocol/muc" }):up())
  return true
end

local ACCOUNTS, DOMAINS = 5000, 1000           -- whose budgets are remembered

-- The other server an account is of: it may have as many of them as it makes up. nil: this server, which knows who has one.
function util.elsewhere(bare)
  local domain = jid.host(bare)
  return not hosts.get(domain) and domain or nil
end

-- One more or less in a table of counts; what there is none of is not in it.
function util.count(counts, key, change)
  local n = (counts[key] or 0) + change
  counts[key] = n > 0 and n or nil
end

-- The same for an account, and for "@" with its domain.
function util.count_account(counts, bare, change)
  util.count(counts, bare, change)
  util.count(counts, "@" .. jid.host(bare), change)
end

-- So much for one account, and for all of one other server. Nobody's account is looked at once his server has had its share.
-- -> take(bare, cost?) -> bool
local function shared(mine, ours, period)
  local take_one, one_left = budget.new(ACCOUNTS, mine, period)
  local take_all, all_left = budget.new(DOMAINS, ours, period)
  return function(bare, cost)
    local domain = util.elsewhere(bare)
    if not domain then return take_one(bare, cost) end
    return all_left(domain, cost) and one_left(bare, cost) and take_all(domain, cost) and take_one(bare, cost)
  end
end

-- Invitations and the like: a room is no way to write to anybody without end.
util.may_write_to_strangers = shared(60, 600, 600)
-- Rooms that come and go cost writes and names.
util.may_make_rooms = shared(100, 1000, 600)
util.may_register = shared(60, 600, 600)

-- With each change all of the room is written, so it costs what there is: of a room whose lists are full, 120 in ten minutes.
local take_change = shared(12000, 120000, 600)

function util.may_change(room, bare, more)
  return take_change(bare, 1 + (more or 0) + (room:get_persistent() and math.min(room:list_bytes() // 10000, 1000) or 0))
end

-- Passwords of rooms are short, and there is no end of people who may try them, nor of accounts of one other server.
local guessed_one, may_guess_one = budget.new(ACCOUNTS, 20, 600)
local guessed_all, may_guess_all = budget.new(ACCOUNTS, 200, 600)

-- Whoever is on the lists is known, and not held up by what others of his server do.
local function of_domain(room, bare)
  local domain = room:affiliation_of(bare) == "none" and util.elsewhere(bare)
  return domain and room.jid .. " " .. domain
end

function util.may_guess(room, bare)
  local all = of_domain(room, bare)
  return (not all or may_guess_all(all)) and may_guess_one(bare)
end

function util.guessed(room, bare)
  local all = of_domain(room, bare)
  if all then guessed_all(all) end
  guessed_one(bare)
end

function util.unclear(x, layout, form_type)
  if x.attr.type ~= "submit" then return "The form must be submitted" end
  if dataforms.get_type(x) ~= form_type then return "That is another form, or it has no FORM_TYPE" end
  local clear, which = layout:unambiguous(x)
  return not clear and (#which <= 100 and which or "A field") .. " says more than one thing" or nil
end

-- <x/> with the item an occupant is shown by; codes: list of status codes.
function util.x(item, codes, reason)
  local x = st.stanza("x", { xmlns = "http://jabber.org/protocol/muc#user" })
  if item then
    x:tag("item", item)
    if reason then x:text_tag("reason", reason) end
    x:up()
  end
  for _, code in ipairs(codes or {}) do x:tag("status", { code = tostring(code) }):up() end
  return x
end

return util
