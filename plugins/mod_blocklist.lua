-- SPDX-License-Identifier: MIT
-- mod_blocklist: accounts block addresses, whole domains too (XEP-0191). Stored as { [jid] = true } in the store "blocklist".
--
-- Fires blocklist/blocked and blocklist/unblocked { origin, stanza, username, jids } when a list has changed.
-- Exports is_blocked(username, jid).

local core_stanza = require "couplet.core".stanza
local blocking = require "couplet.blocking"
local directory = require "couplet.directory"
local id = require "couplet.util.id"
local priority = require "couplet.priority"
local router = require "couplet.router"
local sparse = require "couplet.sparse"
local st = require "couplet.stanza"

local route_of, set_attr = core_stanza.route, core_stanza.set_attr
local address, post = router.address, router.core_post_stanza
local host = module.host

local BLOCKING, ERRORS, MUC_USER = "urn:xmpp:blocking", "urn:xmpp:blocking:errors", "http://jabber.org/protocol/muc#user"
local BYTES_MAX = 65536                        -- of the addresses of one list
local from_states, to_states = { from = true, both = true }, { to = true, both = true }

module:config {
  blocklist_cache_size = { type = "integer", default = 256, min = 1, doc = "lists kept in memory" },
  bounce_blocked_messages = { type = "boolean", default = true,
    doc = "whoever is blocked hears that a message has not arrived (XEP-0191 §3.3); false: nothing" },
  blocklist_items_max = { type = "integer", default = 1000, min = 1, doc = "addresses one account may block" },
}
module:add_feature(BLOCKING)

-- Lists, and whom they cover --------------------------------------------------------------------------------------------------

local lists = sparse.new(module:open_store(), module.config.blocklist_cache_size, module._log)

module:hook_global("user-deleted", function(event)
  if event.host == host then lists.forget(event.username) end
end)

-- §5: the address itself, its account, its domain.
local function matches(list, place)
  return list[place.jid] or list[place.bare] or list[place.host]
end

function is_blocked(username, jid)
  local list = lists.get(username)
  local place = list and address(jid)
  if not place or place.host == host and (not place.node or place.node == username) then      -- §4, note: never oneself;
    return false                               -- nor one's own server, without which nothing could be unblocked
  end
  return matches(list, place) and true or false
end
blocking.provide(host, is_blocked, lists)
module:on_unload(function() blocking.provide(host) end)

-- What the contacts see of it --------------------------------------------------------------------------------------------------

-- Addresses that see the account's presence and fall under the set. left: what is blocked still.
local function watching(roster, set, states, left)
  local out = {}
  for contact, item in pairs(roster or {}) do
    local place = contact and states[item.subscription] and address(contact)
    if place and matches(set, place) and not (left and matches(left, place)) then out[contact] = true end
  end
  for jid in pairs(set) do
    local place = address(jid)
    local item = place and place.node and place.resource and roster and roster[place.bare]
    if item and states[item.subscription] and not (left and matches(left, place)) then out[jid] = true end
  end
  return out
end

local function available(username)
  local user, list = directory.user(username .. "@" .. host), {}
  for _, session in pairs(user and user.sessions or {}) do
    if session.presence or session.directed then list[#list + 1] = session end
  end
  return list
end

local function disappear(origin, set)
  local known = watching(origin.roster, set, from_states)
  for _, session in ipairs(available(origin.username)) do
    local targets = {}
    if session.presence then
      for to in pairs(known) do targets[to] = true end
    end
    for to in pairs(session.directed or {}) do
      local place = address(to)
      if place and matches(set, place) then targets[to] = true end
    end
    for to in pairs(targets) do
      post(session, st.presence { type = "unavailable", from = session.full_jid, to = to }, false)
    end
  end
end

-- … and asks how they are: what they said meanwhile was not let in.
local function appear(origin, set, left)
  local watchers, watched = watching(origin.roster, set, from_states, left), watching(origin.roster, set, to_states, left)
  for _, session in ipairs(available(origin.username)) do
    if session.presence then
      for to in pairs(watchers) do
        local copy = st.clone(session.presence)
        set_attr(copy, "to", to)
        post(session, copy, false)
      end
      for to in pairs(watched) do post(session, st.presence { type = "probe", from = session.full_jid, to = to }, false) end
    end
  end
end

-- Requests ---------------------------------------------------------------------------------------------------------------------

local function push(username, name, jids)
  local payload = st.stanza(name, { xmlns = BLOCKING })
  for _, jid in ipairs(jids) do payload:tag("item", { jid = jid }):up() end
  local user = directory.user(username .. "@" .. host)
  for _, session in pairs(user and user.sessions or {}) do
    if session.interested_blocklist then
      session.send(st.iq { type = "set", id = id.short(), to = session.full_jid }:add_child(payload))
    end
  end
end

-- The addresses named -> array, or nil, condition, text
local function read_items(payload)
  local jids, seen = {}, {}
  for item in payload:childtags "item" do
    local place = item.attr.jid and address(item.attr.jid)
    if not place then return nil, item.attr.jid and "jid-malformed" or "bad-request", "An item is an address" end
    if not seen[place.jid] then
      seen[place.jid] = true
      jids[#jids + 1] = place.jid
    end
  end
  return jids
end

local function room_for(list)
  local n, bytes = 0, 0
  for jid in pairs(list) do
    if jid then n, bytes = n + 1, bytes + #jid end
  end
  return n <= module.config.blocklist_items_max and bytes <= BYTES_MAX
end

local function edit(event, name, all_without_items)
  local origin, stanza = event.origin, event.stanza
  local jids, condition, text = read_items(stanza.tags[1])
  if jids and not jids[1] and not all_without_items then
    jids, condition, text = nil, "bad-request", "Whom?"
  end
  if not jids then return router.reply_error(origin, stanza, "modify", condition, text) end
  local username = origin.username
  local old, err = lists.get(username)
  if err then return router.fail(origin, stanza, err) end
  local new, touched = {}, {}
  for jid, value in pairs(old or {}) do new[jid] = value end
  if not jids[1] then
    for jid in pairs(new) do
      if jid then new[jid], touched[jid] = nil, true end
    end
  end
  for _, jid in ipairs(jids) do
    if (new[jid] ~= nil) ~= (name == "block") then touched[jid] = true end
    new[jid] = name == "block" or nil
  end
  if name == "block" and not room_for(new) then
    return router.reply_error(origin, stanza, "wait", "resource-constraint", "The list is too long")
  end
  if next(touched) then
    local ok
    ok, err = lists.set(username, new)
    if not ok then return router.fail(origin, stanza, err) end
  end
  origin.send(st.reply(stanza))
  push(username, name, jids)
  if name == "block" then disappear(origin, touched) else appear(origin, touched, new) end
  module:fire_event("blocklist/" .. name .. "ed", { origin = origin, stanza = stanza, username = username, jids = jids })
  return true
end

module:hook("iq-get/self/urn:xmpp:blocking:blocklist", function(event)
  local origin, stanza = event.origin, event.stanza
  local list, err = lists.get(origin.username)
  if err then return router.fail(origin, stanza, err) end
  origin.interested_blocklist = true           -- hears of changes from now on
  local jids = {}
  for jid in pairs(list or {}) do
    if jid then jids[#jids + 1] = jid end
  end
  table.sort(jids)
  local reply = st.reply(stanza):tag("blocklist", { xmlns = BLOCKING })
  for _, jid in ipairs(jids) do reply:tag("item", { jid = jid }):up() end
  origin.send(reply:reset())
  return true
end)
module:hook("smacks/save", function(event) event.state.blocklist = event.session.interested_blocklist end)
module:hook("smacks/restore", function(event) event.session.interested_blocklist = event.state.blocklist end)
module:hook("iq-set/self/urn:xmpp:blocking:block", function(event) return edit(event, "block", false) end)
module:hook("iq-set/self/urn:xmpp:blocking:unblock", function(event) return edit(event, "unblock", true) end)

-- What comes in ----------------------------------------------------------------------------------------------------------------

-- Is the stanza from somebody the account it is for has blocked?
local function unwanted(event)
  local _, to, from = route_of(event.stanza)
  local place = to and from and address(to)
  return place and is_blocked(place.node, from)
end

local function is_chat(type) return type ~= "error" and type ~= "groupchat" and type ~= "headline" end

-- A room is not told: it would take the account for gone, and close the door.
local function message_in(event)
  local stanza = event.stanza
  local _, to, _, type = route_of(stanza)
  local place = to and address(to)
  if not place or not lists.has(place.node) then return end
  local x = stanza:get_child("x", MUC_USER)
  if unwanted(event) then
    if not x and is_chat(type) and module.config.bounce_blocked_messages then
      return router.reply_error(event.origin, stanza, "cancel", "service-unavailable")
    end
    return true
  end
  local inviter = x and x:get_child_attr("invite", nil, "from")
  if inviter and is_blocked(place.node, inviter) then return true end
end

local function presence_in(event)
  if unwanted(event) then return true end
end

local function iq_in(event)
  if unwanted(event) then return router.reply_error(event.origin, event.stanza, "cancel", "service-unavailable") end
end

-- What goes out ----------------------------------------------------------------------------------------------------------------

local silently = { iq = { result = true }, presence = { unavailable = true, probe = true } }

-- Our own presence is not broadcast to them in the first place (mod_presence); this was meant for them.
local function out(event)
  local origin, stanza = event.origin, event.stanza
  if origin.type ~= "c2s" or not lists.has(origin.username) then return end
  local name, to, _, type = route_of(stanza)
  if not to or not is_blocked(origin.username, to) then return end
  local silent = silently[name]
  if type == "error" or silent and silent[type] then return true end
  local blocked = st.stanza("blocked", { xmlns = ERRORS })
  origin.send(st.error_reply(stanza, "cancel", "not-acceptable", "You have blocked this address", blocked))
  return true
end

for _, target in ipairs { "bare", "full" } do
  module:hook("message/" .. target, message_in, priority.early)
  module:hook("presence/" .. target, presence_in, priority.early)
  module:hook("iq/" .. target, iq_in, priority.early)
end
for _, kind in ipairs { "message", "presence", "iq" } do
  for _, target in ipairs { "bare", "full", "host" } do module:hook(("pre-%s/%s"):format(kind, target), out, priority.early) end
end
