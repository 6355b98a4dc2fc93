-- SPDX-License-Identifier: MIT
-- roster.lua: contact lists and subscriptions (core.rostermanager). RFC 6121 §2, §3 and appendix A.
--
-- A roster is { [jid] = item, [false] = { version = n, pending = { [jid] = true | stored stanza } } };
-- an item is { subscription = "none|to|from|both", ask = "subscribe"|nil, name =, groups = { [g] = true }, approved = true|nil }.
--
-- All copies of a user's roster in this process are one table: the user's while a resource is connected, else a cached
-- one. It is changed and handed to the store without waiting in between, so no change is lost; if the store refuses, the change
-- is taken back and the caller hears why. Items are replaced, never edited in place.

local config = require "couplet.config"
local directory = require "couplet.directory"
local hosts = require "couplet.hosts"
local sessions = require "couplet.sessions"
local store = require "couplet.store"
local st = require "couplet.stanza"
local id = require "couplet.util.id"
local log = require "couplet.logger".init("roster")
local recent = require "couplet.recent"
local count = require "couplet.util.iterators".count

local roster = {}

-- Subscription requests of strangers an account keeps at most, and the size up to which the whole request is kept.
local PENDING_MAX, PENDING_BYTES = 200, 1024
local CACHE = 1024
-- What one account may keep, unless roster_items_max and roster_bytes_max say otherwise.
local ITEMS_MAX, BYTES_MAX = 5000, 1024 * 1024

local recall, remember = recent.new(CACHE)             -- bare jid -> roster of an account without sessions

-- Bounds --------------------------------------------------------------------------------------------------------------

local weights = setmetatable({}, { __mode = "k" })     -- list -> { n =, bytes = }, from the first question on

local function bytes_of(jid, item)
  if not item then return 0 end
  local n = #jid + #(item.name or "")
  for group in pairs(item.groups or {}) do n = n + #group end
  return n
end

local function weigh(list)
  local w = weights[list]
  if w then return w end
  w = { n = 0, bytes = 0 }
  for jid, item in pairs(list) do
    if jid then w.n, w.bytes = w.n + 1, w.bytes + bytes_of(jid, item) end
  end
  weights[list] = w
  return w
end

-- May the item take its place in the list? true | nil, err
local function fits(host, list, jid, item)
  local old, w = list[jid], weigh(list)
  local more = bytes_of(jid, item) - bytes_of(jid, old)
  if old and more <= 0 then return true end
  if w.n + (old and 0 or 1) <= (config.get(host, "roster_items_max") or ITEMS_MAX)
    and w.bytes + more <= (config.get(host, "roster_bytes_max") or BYTES_MAX) then return true end
  return nil, { type = "wait", condition = "resource-constraint", text = "The contact list is full" }
end

local function place(list, jid, item)
  local w, old = weights[list], list[jid]
  if w then
    w.n = w.n + (item and 1 or 0) - (old and 1 or 0)
    w.bytes = w.bytes + bytes_of(jid, item) - bytes_of(jid, old)
  end
  list[jid] = item
end

-- Loading -------------------------------------------------------------------------------------------------------------

local function meta(list)
  local data = list[false]
  if not data then data = {} list[false] = data end
  if not data.version then data.version = 1 end
  if not data.pending then data.pending = {} end
  return data
end

local function cached(bare)
  local user = directory.user(bare)
  return user and user.roster or recall(bare), user
end

-- The roster of an account (empty if it has none), or nil, err if the store cannot tell. May wait.
function roster.load_roster(username, host)
  local bare = username .. "@" .. host
  local list, user = cached(bare)
  if not list then
    local driver, err = store.open(host, "roster", "keyval+")
    if not driver then return nil, err end
    local stored
    stored, err = driver:get(username)
    if err then
      log("error", "roster of %s cannot be read: %s", bare, err)
      return nil, err
    end
    list, user = cached(bare)                          -- somebody else may have been faster
    if not list then
      list = stored or {}
      meta(list)
      list[bare], list.pending = nil, nil
      remember(bare, list)
      local home = hosts.get(host)
      if home then home.events.fire_event("roster-load", { username = username, host = host, roster = list }) end
      user = directory.user(bare)
    end
  end
  if user and not user.roster then
    user.roster = list
    remember(bare, nil)
  end
  return list
end

-- Called when the last resource has gone: the list stays at hand for a while.
function roster.release(bare, list)
  if list then remember(bare, list) end
end

function roster.forget(bare) remember(bare, nil) end

-- Stores the list, or only what concerns jid. true | nil, err. May wait.
function roster.save_roster(username, host, list, jid)
  list = list or cached(username .. "@" .. host)
  if not list then return nil, "no roster" end
  local data = meta(list)
  data.version = data.version + 1
  local driver, err = store.open(host, "roster", "keyval+")
  if not driver then return nil, err end
  local ok
  if jid == nil then
    weights[list] = nil                                -- somebody changed it by hand
    ok, err = driver:set(username, list)
  elseif jid == false then
    ok, err = driver:set_key(username, false, data)
  else
    local item = list[jid]
    if item == nil then item = driver.remove end
    ok, err = driver:set_keys(username, { [false] = data, [jid] = item })
  end
  if not ok then
    log("error", "roster of %s@%s cannot be written: %s", username, host, err)
    return nil, err
  end
  return true
end

-- Replaces one item and stores it; takes it back if that fails.
local function put(username, host, list, jid, item)
  local old = list[jid]
  place(list, jid, item)
  local ok, err = roster.save_roster(username, host, list, jid)
  if not ok and list[jid] == item then place(list, jid, old) end
  return ok, err
end

local function copy(item)
  local new = {}
  for k, v in pairs(item or { subscription = "none", groups = {} }) do new[k] = v end
  return new
end

-- Pushing -------------------------------------------------------------------------------------------------------------

-- Appends <item/> to the stanza's cursor; an item that is nil has been removed.
function roster.add_item(stanza, jid, item)
  if not item then
    return stanza:tag("item", { jid = jid, subscription = "remove" }):up()
  end
  stanza:tag("item", {
    jid = jid, subscription = item.subscription or "none", ask = item.ask, name = item.name,
    approved = item.approved and "true" or nil,
  })
  for group in pairs(item.groups or {}) do stanza:text_tag("group", group) end
  return stanza:up()
end

-- Tells all interested resources what the item is now (RFC 6121 §2.1.6).
function roster.roster_push(username, host, jid)
  local home = hosts.get(host)
  if home then home.events.fire_event("roster-pushed", { username = username, host = host, jid = jid }) end
  local user = directory.user(username .. "@" .. host)
  local list = user and user.roster
  if not list then return end
  local recipients, addresses = {}, {}
  for _, session in pairs(user.sessions) do
    if session.interested then
      recipients[#recipients + 1] = session
      addresses[#addresses + 1] = session.full_jid
    end
  end
  if #recipients == 0 then return end
  local push = st.iq { type = "set", id = "push" .. id.short() }
    :tag("query", { xmlns = "jabber:iq:roster", ver = tostring(meta(list).version) })
  roster.add_item(push, jid, list[jid])
  push:reset()
  sessions.multicast(recipients, push, addresses)
end

-- Changing what the user chose ----------------------------------------------------------------------------------------------

-- Name and groups as wished; the subscription is not the user's to set. true | nil, type, condition, text
function roster.add_to_roster(session, jid, wish)
  local list = session.roster
  local item = copy(list[jid])
  item.name, item.groups = wish.name, wish.groups or {}
  item.subscription = item.subscription or "none"
  local ok, err = fits(session.host, list, jid, item)
  if not ok then return nil, err.type, err.condition, err.text, err end
  ok, err = put(session.username, session.host, list, jid, item)
  if not ok then return nil, "wait", "internal-server-error", "Unable to save roster", err end
  return true
end

function roster.remove_from_roster(session, jid)
  local list = session.roster
  local pending = meta(list).pending
  local request = pending[jid]
  pending[jid] = nil
  local ok, err = put(session.username, session.host, list, jid, nil)
  if not ok then
    pending[jid] = request
    return nil, "wait", "internal-server-error", "Unable to save roster", err
  end
  return true
end

-- Subscriptions (RFC 6121 appendix A) -------------------------------------------------------------------------------------------
-- A state is four facts: to, from, out (we have asked), in_ (we have been asked); approved is the promise of §3.4.
-- A transition changes the facts and says whether the stanza goes on: outbound to the contact, inbound to the user.

local function read_state(list, jid)
  local item = list[jid]
  local s = item and item.subscription or "none"
  return {
    to = s == "to" or s == "both", from = s == "from" or s == "both", out = item and item.ask == "subscribe" or false,
    in_ = meta(list).pending[jid] ~= nil, approved = item and item.approved or false,
  }
end

local transitions = {
  outbound = {
    subscribe = function(s)
      if not s.to then s.out = true end
      return true
    end,
    unsubscribe = function(s)
      s.to, s.out = false, false
      return true
    end,
    subscribed = function(s)
      if s.in_ then
        s.in_, s.from = false, true
        return true
      end
      if not s.from then s.approved = true end
      return false
    end,
    unsubscribed = function(s)
      local on = s.in_ or s.from
      s.in_, s.from, s.approved = false, false, false
      return on
    end,
  },
  inbound = {
    subscribe = function(s)
      if s.from then return false, "subscribed" end
      if s.approved then
        s.in_, s.from = false, true
        return false, "subscribed"
      end
      local news = not s.in_
      s.in_ = true
      return news
    end,
    unsubscribe = function(s)
      local on = s.in_ or s.from
      s.in_, s.from = false, false
      return on
    end,
    subscribed = function(s)
      if not s.out then return false end
      s.out, s.to = false, true
      return true
    end,
    unsubscribed = function(s)
      local on = s.out or s.to
      s.out, s.to = false, false
      return on
    end,
  },
}

local function write_item(list, jid, s)
  local old = list[jid]
  local subscription = s.to and (s.from and "both" or "to") or s.from and "from" or "none"
  if not old and subscription == "none" and not s.out and not s.approved then return nil end
  local ask, approved = s.out and "subscribe" or nil, s.approved or nil
  if old and old.subscription == subscription and old.ask == ask and (old.approved or nil) == approved then return old end
  local item = copy(old)
  item.subscription, item.ask, item.approved = subscription, ask, approved
  return item
end

local function request_of(stanza)
  if stanza and stanza:size() <= PENDING_BYTES then return st.preserialize(stanza) end
  return true
end

-- Applies a subscription stanza to an account's roster. direction: "outbound" (the account sends it) or "inbound".
-- -> { pass = bool, reply = "subscribed"|nil, before = state, after = state, changed = bool, visible = bool (push it) }
-- | nil, err, and then nothing has changed. stanza: the request, kept for redelivery. May wait.
function roster.transition(username, host, jid, direction, kind, stanza)
  local list, err = roster.load_roster(username, host)
  if not list then return nil, err end
  local before, after = read_state(list, jid), read_state(list, jid)
  local pass, reply = transitions[direction][kind](after)
  local pending = meta(list).pending
  local old_item, old_request = list[jid], pending[jid]
  local item = write_item(list, jid, after)
  local result = { pass = pass, reply = reply, before = before, after = after, visible = item ~= old_item }
  result.changed = result.visible or before.in_ ~= after.in_
  if not result.changed then return result end
  if item and not old_item then
    local room, full = fits(host, list, jid, item)
    if not room then return nil, full end
  end
  if after.in_ ~= before.in_ then
    if after.in_ and count(pairs(pending)) >= PENDING_MAX then
      log("info", "%s@%s has %d unanswered subscription requests; one from %s is dropped", username, host, PENDING_MAX, jid)
      return { pass = false, before = before, after = before, changed = false, visible = false }
    end
    pending[jid] = after.in_ and request_of(stanza) or nil
  end
  local request = pending[jid]
  local ok
  if result.visible then
    ok, err = put(username, host, list, jid, item)
  else
    ok, err = roster.save_roster(username, host, list, false)
  end
  if not ok then
    if pending[jid] == request then pending[jid] = old_request end
    return nil, err
  end
  return result
end

-- The stanzas to show again at the next login: an iterator of jid, stanza.
function roster.pending_requests(list)
  local next_jid, pending, jid = pairs(meta(list).pending)
  return function()
    local request
    jid, request = next_jid(pending, jid)
    if not jid then return nil end
    if type(request) == "table" then return jid, st.deserialize(request) end
    return jid, st.presence { from = jid, type = "subscribe" }
  end
end

-- As plugins know it ------------------------------------------------------------------------------------------------------

local function fact(name)
  return function(username, host, jid)
    local list, err = roster.load_roster(username, host)
    if not list then return nil, err end
    return read_state(list, jid)[name]
  end
end

roster.is_contact_subscribed = fact "from"             -- the contact sees the user
roster.is_user_subscribed = fact "to"                  -- the user sees the contact
roster.is_contact_pending_in = fact "in_"
roster.is_contact_pending_out = fact "out"
roster.is_contact_preapproved = fact "approved"

local function step(direction, kind)
  return function(username, host, jid, stanza)
    local result, err = roster.transition(username, host, jid, direction, kind, stanza)
    if not result then return nil, err end
    return result.changed
  end
end

roster.set_contact_pending_in = step("inbound", "subscribe")
roster.set_contact_pending_out = step("outbound", "subscribe")
roster.subscribed = step("outbound", "subscribed")
roster.unsubscribed = step("outbound", "unsubscribed")
roster.unsubscribe = step("outbound", "unsubscribe")
roster.process_outbound_subscription_request = roster.set_contact_pending_out
roster.process_outbound_subscription_approval = roster.subscribed
roster.process_outbound_subscription_cancellation = roster.unsubscribed
roster.process_inbound_subscription_approval = step("inbound", "subscribed")
roster.process_inbound_subscription_cancellation = step("inbound", "unsubscribed")
roster.process_inbound_unsubscribe = step("inbound", "unsubscribe")

return roster
