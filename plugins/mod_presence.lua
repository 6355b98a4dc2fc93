-- SPDX-License-Identifier: MIT
-- mod_presence: availability and subscriptions (RFC 6121 §3 and §4).
--
-- Exports, for plugins that act for contacts (all addresses bare unless said otherwise):
--   handle_normal_presence(origin, stanza)                             broadcast of a client's presence
--   handle_outbound_presence_subscriptions_and_probes(origin, stanza, from, to)
--   handle_inbound_presence_subscriptions_and_probes(origin, stanza, from, to)
--   send_presence_of_available_resources(username, host, to, recipient?, stanza?) -> count
--   send_unavailable(username, host, to)

local core_stanza = require "couplet.core".stanza
local blocking = require "couplet.blocking"
local client_session = require "couplet.client_session"
local directory = require "couplet.directory"
local hosts = require "couplet.hosts"
local roster = require "couplet.roster"
local router = require "couplet.router"
local sessions = require "couplet.sessions"
local st = require "couplet.stanza"
local users = require "couplet.users"

local route_of, set_attr = core_stanza.route, core_stanza.set_attr
local address, post = router.address, router.core_post_stanza
local blocks = blocking.blocks
local host = module.host

module:config {
  ignore_presence_priority = { type = "boolean", default = false,
    doc = "all resources of an account are equal, whatever priority they ask for" },
  presence_size_limit = { type = "integer", default = 16384, min = 1024, doc = "bytes of a presence that is broadcast" },
}
local DIRECTED_MAX = 2000                      -- addresses one session's directed presence is remembered for
local subscription_types = { subscribe = true, subscribed = true, unsubscribe = true, unsubscribed = true }
local from_states = { from = true, both = true }
local to_states = { to = true, both = true }

local function copy_to(stanza, to)
  local copy = st.clone(stanza)
  set_attr(copy, "to", to)
  return copy
end

-- The account's available resources.
local function available(user, except)
  local list = {}
  for _, session in pairs(user and user.sessions or {}) do
    if session.presence and session ~= except then list[#list + 1] = session end
  end
  return list
end

-- Broadcast ---------------------------------------------------------------------------------------------------------------------

-- May presence between accounts of ours be handed over without asking anybody? Not if a plugin wants to see it. What
-- mod_blocklist would say is asked here; mod_vcard_legacy has had its say when the presence came, mod_pep wants none of these.
local ours = { presence = true, blocklist = true, vcard_legacy = true, pep = true }

local function only_ours(events, event)
  local entries = events.entries(event)
  for i = 1, #entries do
    local owner = entries[i].owner
    if entries[i].from_local ~= false and (not owner or not ours[owner.name]) then return false end
  end
  return not events.wrapped(event)
end

local function nobody_looks(sender, recipient)
  return only_ours(sender.events, "pre-stanza") and only_ours(sender.events, "pre-presence/bare")
    and only_ours(recipient.events, "presence/bare")
end

-- Contacts in one of these states that the account has not blocked. A list of its own: the roster may change meanwhile.
local function contacts_of(origin, states)
  local all, list = {}, {}
  for contact, item in pairs(origin.roster or {}) do
    if contact and states[item.subscription] then all[#all + 1] = contact end
  end
  for _, contact in ipairs(all) do
    if not blocks(origin.username, host, contact) then list[#list + 1] = contact end
  end
  return list
end

-- Sends the stanza to everybody who may see it, serialised once for all who are here.
local function to_subscribers(origin, stanza)
  local list, tos, here = {}, {}, hosts.get(host)
  local shortcut = {}                          -- host -> may we hand over directly?
  for _, contact in ipairs(contacts_of(origin, from_states)) do
    local place = address(contact)
    local home = place and hosts.get(place.host)
    local direct = home and home.type == "local" and place.node
    if direct then
      if shortcut[place.host] == nil then shortcut[place.host] = nobody_looks(here, home) end
      direct = shortcut[place.host]
    end
    if not direct then
      if place then post(origin, copy_to(stanza, contact), true) end
    elseif not blocks(place.node, place.host, origin.full_jid) then
      for _, session in ipairs(available(directory.user(contact))) do
        list[#list + 1], tos[#tos + 1] = session, contact
      end
    end
  end
  sessions.multicast(list, stanza, tos)
end

-- What the contacts are, for a resource that has just come.
local function probe_contacts(origin)
  local here, shortcut = hosts.get(host), {}
  local bare = origin.username .. "@" .. host
  for _, contact in ipairs(contacts_of(origin, to_states)) do
    local place = address(contact)
    local home = place and hosts.get(place.host)
    local direct = home and home.type == "local" and place.node
    if direct then
      if shortcut[place.host] == nil then shortcut[place.host] = nobody_looks(here, home) and nobody_looks(home, here) end
      direct = shortcut[place.host]
    end
    if not direct then
      if place then post(origin, st.presence { type = "probe", from = origin.full_jid, to = contact }, true) end
    elseif not blocks(place.node, place.host, origin.full_jid) then
      local user = directory.user(contact)
      local theirs = user and user.roster and user.roster[bare]
      if theirs and from_states[theirs.subscription] then
        for _, session in ipairs(available(user)) do
          client_session.send(origin, copy_to(session.presence, bare))
        end
      end
    end
  end
end

-- Requests that wait for an answer: theirs are shown again, ours are sent again (§3.1.2, §3.1.3).
local function redeliver_requests(origin)
  local bare = origin.username .. "@" .. host
  for _, request in roster.pending_requests(origin.roster) do
    set_attr(request, "to", bare)
    if not blocks(origin.username, host, request.attr.from) then origin.send(request) end
  end
  for contact, item in pairs(origin.roster) do
    if contact and item.ask == "subscribe" and not blocks(origin.username, host, contact) then
      post(origin, st.presence { type = "subscribe", from = bare, to = contact }, false)
    end
  end
end

-- §4.7.2.3; nil: it is none.
local function read_priority(stanza)
  local text = stanza:get_child_text "priority"
  if not text then return 0 end
  local n = math.tointeger(tonumber(text:match "^%s*([+-]?%d%d?%d?)%s*$"))
  if not n or n < -128 or n > 127 then return nil end
  return n
end

local function came(origin, stanza)
  if stanza:size() > module.config.presence_size_limit then     -- kept, and given to everybody who asks or comes
    return router.reply_error(origin, stanza, "modify", "policy-violation", "Presence this large is not broadcast")
  end
  local priority = read_priority(stanza)
  if not priority then
    return router.reply_error(origin, stanza, "modify", "bad-request", "A priority is a number from -128 to 127")
  end
  if priority ~= 0 and module.config.ignore_presence_priority then
    stanza:maptags(function(tag) if tag.name ~= "priority" then return tag end end)
    priority = 0
  end
  local bare = origin.username .. "@" .. host
  local initial, before = not origin.presence, origin.priority
  sessions.add_presence(origin, stanza, priority)
  local user = directory.user(bare)
  sessions.multicast(available(user), copy_to(stanza, bare))       -- §4.2.2: to itself too
  if initial then
    for _, session in ipairs(available(user, origin)) do
      client_session.send(origin, copy_to(session.presence, bare))
    end
  end
  to_subscribers(origin, stanza)
  if origin.destroyed then return true end
  if initial then
    probe_contacts(origin)
    redeliver_requests(origin)
    module:fire_event("presence/initial", { origin = origin, stanza = stanza })
  end
  module:fire_event("presence/broadcast", { origin = origin, stanza = stanza, initial = initial })
  if priority >= 0 and not origin.destroyed and (initial or before < 0) then
    module:fire_event("message/offline/broadcast", { origin = origin })
  end
  return true
end

local function went(origin, stanza)
  if origin.presence then
    local bare = origin.username .. "@" .. host
    local list = available(directory.user(bare))
    sessions.remove_presence(origin)
    prosody.events.fire_event("resource-unavailable", { session = origin })
    sessions.multicast(list, copy_to(stanza, bare))
    to_subscribers(origin, stanza)
  end
  local directed = origin.directed                                  -- §4.6.3
  if directed then
    origin.directed, origin.directed_count = nil, nil
    for to in pairs(directed) do post(origin, copy_to(stanza, to), true) end
  end
  return true
end

function handle_normal_presence(origin, stanza)
  if not origin.full_jid then return true end
  if route_of(stanza) == "presence" and stanza.attr.type == "unavailable" then return went(origin, stanza) end
  return came(origin, stanza)
end

-- Presence of the account to one contact: each resource's own, or copies of the stanza given.
function send_presence_of_available_resources(username, at, to, recipient, stanza)
  local n = 0
  for _, session in ipairs(available(directory.user(username .. "@" .. at))) do
    local copy
    if stanza then
      copy = copy_to(stanza, to)
      set_attr(copy, "from", session.full_jid)
    else
      copy = copy_to(session.presence, to)
    end
    if recipient and recipient ~= session and recipient.type == "c2s" and recipient.full_jid == to then
      client_session.send(recipient, copy)
    else
      post(session, copy, true)
    end
    n = n + 1
  end
  return n
end

function send_unavailable(username, at, to)
  return send_presence_of_available_resources(username, at, to, nil, st.presence { type = "unavailable" })
end

-- Subscriptions -----------------------------------------------------------------------------------------------------------------

function handle_outbound_presence_subscriptions_and_probes(origin, stanza, from, to)
  local kind = stanza.attr.type
  if kind == "probe" then
    post(origin, stanza, false)
    return true
  end
  local username, at = address(from).node, address(from).host
  local result, err = roster.transition(username, at, to, "outbound", kind, nil)
  if not result then return router.fail(origin, stanza, err) end
  set_attr(stanza, "from", from)
  set_attr(stanza, "to", to)
  if result.visible and kind ~= "unsubscribed" then roster.roster_push(username, at, to) end
  if kind == "unsubscribed" and result.before.from then send_unavailable(username, at, to) end
  if result.pass then post(origin, stanza, false) end
  if kind == "subscribed" and result.after.from and not result.before.from then
    send_presence_of_available_resources(username, at, to)
  end
  if result.visible and kind == "unsubscribed" then roster.roster_push(username, at, to) end
  return true
end

-- §4.3.2
local function answer_probe(stanza, from, to, username)
  local list = roster.load_roster(username, host)
  if not list then return true end
  local full = stanza.attr.from
  local item = list[from]
  if item and from_states[item.subscription] or from == to then
    if send_presence_of_available_resources(username, host, full) == 0 then
      post(hosts.get(host), st.presence { type = "unavailable", from = to, to = full }, true)
    end
    return true
  end
  local told = false
  for _, session in ipairs(available(directory.user(to))) do
    local directed = session.directed
    if directed and (directed[full] or directed[from]) then
      told = true
      post(session, copy_to(session.presence, full), true)
    end
  end
  if not told then post(hosts.get(host), st.presence { type = "unsubscribed", from = to, to = from }, true) end
  return true
end

function handle_inbound_presence_subscriptions_and_probes(origin, stanza, from, to)
  local kind = stanza.attr.type
  local username = address(to).node
  if kind == "probe" then return answer_probe(stanza, from, to, username) end
  if kind == "subscribe" and not users.user_exists(username, host) then return true end        -- §8.5.1
  set_attr(stanza, "from", from)
  set_attr(stanza, "to", to)
  local result = roster.transition(username, host, from, "inbound", kind, stanza)
  if not result then
    return router.reply_error(origin, stanza, "wait", "internal-server-error")
  end
  if result.pass then
    if kind == "subscribe" then
      sessions.send_to_available_resources(username, host, stanza)
    else
      sessions.send_to_interested_resources(username, host, stanza)
    end
  end
  if result.visible then roster.roster_push(username, host, from) end
  if result.reply then
    post(hosts.get(host), st.presence { type = result.reply, from = to, to = from }, true)
    send_presence_of_available_resources(username, host, from)
  end
  if kind == "unsubscribe" and result.before.from then send_unavailable(username, host, from) end
  return true
end

-- Presence sent by a client to somebody -----------------------------------------------------------------------------------------

-- §4.6.2: to whom, so that they hear when it ends.
local function remember(origin, to)
  local directed = origin.directed
  if directed and directed[to] then return true end
  local item = origin.roster and origin.roster[address(to).bare]
  if origin.presence and item and from_states[item.subscription] then return true end
  if not directed then
    directed = {}
    origin.directed = directed
  end
  local n = origin.directed_count or 0
  if n >= DIRECTED_MAX then return false end
  directed[to], origin.directed_count = true, n + 1
  return true
end

local function forget(session, from)
  local directed = session.directed
  if not directed or not directed[from] then return end
  directed[from] = nil
  session.directed_count = session.directed_count - 1
  if session.directed_count <= 0 then session.directed, session.directed_count = nil, nil end
end

local function outbound(event)
  local origin, stanza = event.origin, event.stanza
  local _, to, _, kind = route_of(stanza)
  if not to or origin.type ~= "c2s" then return nil end
  if subscription_types[kind] then
    return handle_outbound_presence_subscriptions_and_probes(origin, stanza, origin.username .. "@" .. host, address(to).bare)
  elseif kind == nil then
    if not remember(origin, to) then
      return router.reply_error(origin, stanza, "wait", "resource-constraint", "Directed presence to too many addresses")
    end
  elseif kind == "unavailable" then
    forget(origin, to)
  end
end

module:hook("pre-presence/full", outbound)
module:hook("pre-presence/bare", outbound)
module:hook("pre-presence/host", outbound)

-- Presence that comes to somebody -----------------------------------------------------------------------------------------------

module:hook("presence/self", function(event)
  local kind = event.stanza.attr.type
  if kind == nil or kind == "unavailable" then return handle_normal_presence(event.origin, event.stanza) end
  return true                                  -- nobody subscribes to himself
end, -1)

local function bare_from(event)
  local from = event.stanza.attr.from
  local place = from and address(from)
  return place and place.bare
end

module:hook("presence/bare", function(event)
  local origin, stanza = event.origin, event.stanza
  local _, to, _, kind = route_of(stanza)
  if not to then return nil end                -- presence/self
  if subscription_types[kind] or kind == "probe" then
    local from = bare_from(event)
    if not from then return true end
    return handle_inbound_presence_subscriptions_and_probes(origin, stanza, from, to)
  end
  if kind ~= "error" then sessions.multicast(available(directory.user(to)), stanza) end
  return true
end, -1)

module:hook("presence/full", function(event)
  local origin, stanza = event.origin, event.stanza
  local _, to, from, kind = route_of(stanza)
  if subscription_types[kind] or kind == "probe" then
    local sender = bare_from(event)
    if not sender then return true end
    return handle_inbound_presence_subscriptions_and_probes(origin, stanza, sender, address(to).bare)
  end
  local session = directory.session(to)
  if session then
    if kind == "error" and from then forget(session, from) end
    client_session.send(session, stanza)
  end
  return true
end, -1)

-- The server itself is always there, for whoever likes to see it.
module:hook("presence/host", function(event)
  local from, kind = bare_from(event), event.stanza.attr.type
  if not from then return true end
  if kind == "subscribe" then
    post(hosts.get(host), st.presence { type = "subscribed", from = host, to = from }, true)
  end
  if kind == "subscribe" or kind == "probe" then
    post(hosts.get(host), st.presence { from = host, to = from }, true)
  end
  return true
end, -1)

-- The end of a session ----------------------------------------------------------------------------------------------------------

module:hook("resource-unbind", function(event)
  local session, reason = event.session, event.error
  if not session.presence and not session.directed then return end
  local stanza = st.presence { type = "unavailable", from = session.full_jid }
  if type(reason) == "string" then stanza:text_tag("status", "Disconnected: " .. reason) end
  post(session, stanza, true)
end)
