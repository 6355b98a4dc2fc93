-- SPDX-License-Identifier: MIT
-- pep/interest: which resources want to hear of which nodes: the "+notify" features behind the entity capabilities in their
-- presence (XEP-0115, XEP-0163 §4.3). Asked once for each hash; what does not prove its hash counts for that resource alone.
--
--   interest.setup(changed)       changed(session | nil, username, full_jid, set): a resource has come, or wants other things
--   interest.of(session) -> set of node names | nil            (of all of an account: `listening`, see couplet.directory)
--   interest.save() -> table, interest.restore(table): over a reload
--   interest.remote(username) -> { full_jid = set }        resources elsewhere that see this account's presence, and sent theirs

local calculate_hash = require "util.caps".calculate_hash
local directory = require "couplet.directory"
local jid = require "util.jid"
local recent = require "couplet.recent"
local rostermanager = require "core.rostermanager"
local sessions = require "couplet.sessions"
local st = require "util.stanza"

local CAPS, INFO = "http://jabber.org/protocol/caps", "http://jabber.org/protocol/disco#info"
local HASHES, REMOTE_MAX, ASK_SECONDS = 5000, 2000, 10
local ASKED_MAX, WAITING_MAX = 5000, 1000        -- hashes asked for at once, resources that wait for one of them
local ASKED_OF_USER, ASKED_OF_SERVER = 100, 1000 -- … of one account here, of another server: some are left for everybody else
local NODES_MAX, NAMES_BYTES = 200, 8192         -- that one resource may want to hear of

local interest = {}
local host = module.host
local known, learn = recent.new(HASHES)          -- hash -> set
local told, note_told = recent.new(HASHES)       -- account \0 full_jid -> set: they have got what was there while nobody was
local asked, n_asked = {}, 0                     -- hash -> { those who wait for the answer, how many are asked, … }
local asked_of = {}                              -- account or server -> how many of these it has brought
local got, note_got = recent.new(HASHES)         -- account \0 full_jid -> set of nodes it was told the last item of
local remote = {}                                -- username -> { full_jid = set }, while the account is online
local changed = function() end

-- What is new in the set since the resource came. Names of one resource, whatever it says in how many presences, have a bound;
-- whoever goes to and fro is not told again (XEP-0163 §4.3.3).
local function news(key, set)
  local before = got(key)
  if not before then
    note_got(key, set)                           -- shared with all whose clients say the same
    return set
  end
  local both, out, n = {}, {}, 0
  for node in pairs(before) do both[node], n = true, n + 1 end
  for node in pairs(set) do
    if not before[node] and n < 2 * NODES_MAX then out[node], both[node], n = true, true, n + 1 end
  end
  if next(out) then note_got(key, both) end
  return out
end

function interest.of(session) return session.pep_interest end
function interest.remote(username) return remote[username] or {} end

local function set_of(query)
  local set, n, bytes = {}, 0, 0
  for feature in query:childtags "feature" do
    local node = (feature.attr.var or ""):match "^(.+)%+notify$"
    if node and not set[node] and n < NODES_MAX and bytes + #node <= NAMES_BYTES then
      set[node], n, bytes = true, n + 1, bytes + #node
    end
  end
  return set
end

-- Is this the answer behind the hash? Features may hide in what else is hashed (an identity, a form) and give the same hash:
-- all that ends in "+notify" must be features, or somebody robs others of what their clients want to hear.
local function proves(query, ver)
  local hash, text = calculate_hash(query)
  if hash ~= ver then return false end
  local _, hashed = text:gsub("%+notify<", "")
  local features = 0
  for feature in query:childtags "feature" do
    if (feature.attr.var or ""):find "%+notify$" then features = features + 1 end
  end
  return hashed == features
end

local ask

-- Those who wait are asked in their turn, twice as many each time nobody has proved the hash: no crowd that keeps silent makes
-- the honest ones wait for long.
local function answered(ver, who, set, proved)
  local open = asked[ver]
  open.in_flight = open.in_flight - 1
  if set then who.done(set) end
  if proved and not open.proved then
    open.proved = set
    learn(ver, set)
    for _, other in ipairs(open.waiting) do other.done(set) end
    open.waiting = {}
  end
  if open.in_flight > 0 then return end
  open.width = open.width * 2
  local next_ones = table.move(open.waiting, 1, math.min(open.width, #open.waiting), 1, {})
  open.waiting = table.move(open.waiting, #next_ones + 1, #open.waiting, 1, {})
  if not next_ones[1] then
    asked[ver], n_asked = nil, n_asked - 1
    asked_of[open.of] = asked_of[open.of] > 1 and asked_of[open.of] - 1 or nil
    return
  end
  open.in_flight = #next_ones
  for _, other in ipairs(next_ones) do ask(ver, other) end
end

function ask(ver, who)
  local query = st.iq { type = "get", id = module.name .. tostring(math.random(0, 2 ^ 53)), from = who.from, to = who.to }
    :tag("query", { xmlns = INFO, node = who.node .. "#" .. ver })
  module:send_iq(query, nil, ASK_SECONDS):next(function(event)
    local reply = event.stanza:get_child("query", INFO)
    if not reply then return answered(ver, who) end
    answered(ver, who, set_of(reply), proves(reply, ver))
  end, function() answered(ver, who) end)
end

-- done(set), now or later
local function find(stanza, from, to, done)
  local caps = stanza:get_child("c", CAPS)
  local ver, node = caps and caps.attr.ver, caps and caps.attr.node
  if not ver or not node or caps.attr.hash ~= "sha-1" or #ver > 64 or #node > 1024 then return done(nil) end
  local set = known(ver)
  if set then return done(set) end
  local who = { node = node, from = from, to = to, done = done }
  local open = asked[ver]
  if open and open.proved then return done(open.proved) end
  if open then
    if #open.waiting < WAITING_MAX then table.insert(open.waiting, who) end
    return
  end
  local _, domain = jid.split(to)
  local of = domain == host and jid.bare(to) or domain
  local n = asked_of[of] or 0
  if n_asked >= ASKED_MAX or n >= (domain == host and ASKED_OF_USER or ASKED_OF_SERVER) then return done(nil) end
  asked[ver], n_asked, asked_of[of] = { waiting = {}, in_flight = 1, width = 1, of = of }, n_asked + 1, n + 1
  ask(ver, who)
end

-- Ours: mod_presence tells of each broadcast.
module:hook("presence/broadcast", function(event)
  local session, stanza = event.origin, event.stanza
  local caps = stanza:get_child("c", CAPS)
  local ver = caps and caps.attr.ver
  if not event.initial and ver == session.pep_ver then return end
  session.pep_ver = ver
  if event.initial then
    sessions.set_interest(session, nil)
    note_got(session.full_jid, nil)
  end
  find(stanza, session.username .. "@" .. host, session.full_jid, function(set)
    if session.destroyed or session.pep_ver ~= ver then return end
    sessions.set_interest(session, set)
    if set and session.presence then changed(session, session.username, session.full_jid, news(session.full_jid, set)) end
  end)
end)

-- Theirs: presence that other servers send, of contacts who see this account's.
local function note_remote(username, from, set)
  if not directory.user(username .. "@" .. host) then
    local key = username .. "\0" .. from
    if told(key) ~= set then changed(nil, username, from, set) end
    note_told(key, set)
    return
  end
  local all = remote[username] or {}
  if all[from] == set then return end
  if not all[from] then
    local n = 0
    for _ in pairs(all) do n = n + 1 end
    if n >= REMOTE_MAX then return end
  end
  remote[username] = all
  all[from] = set
  changed(nil, username, from, news(username .. "\0" .. from, set))
end

local function in_roster(username, contact)
  return rostermanager.is_contact_subscribed(username, host, contact) or rostermanager.is_user_subscribed(username, host, contact)
end

module:hook("presence/bare", function(event)
  local attr = event.stanza.attr
  local from, kind, username = attr.from, attr.type, jid.node(attr.to)
  local _, _, resource = jid.split(from)
  if not username or not resource then return end
  if kind == "unavailable" then
    local list = remote[username]
    note_told(username .. "\0" .. from, nil)
    note_got(username .. "\0" .. from, nil)
    if list then
      list[from] = nil
      if not next(list) then remote[username] = nil end
    end
  elseif not kind and in_roster(username, jid.bare(from)) then
    find(event.stanza, username .. "@" .. host, from, function(set)
      if set and next(set) then note_remote(username, from, set) end
    end)
  end
end, { priority = 10, match = { from_local = false } })

-- Nobody of the account is here any more: probes bring it all back at the next login.
module:hook("resource-unbind", function(event)
  local session = event.session
  local user = directory.user(session.username .. "@" .. host)
  for _, other in pairs(user and user.sessions or {}) do
    if other ~= session then return end
  end
  remote[session.username] = nil
end)

function interest.setup(fn) changed = fn end
function interest.save() return remote end
function interest.restore(saved)
  for username, list in pairs(saved or {}) do remote[username] = remote[username] or list end
end

return interest
