-- SPDX-License-Identifier: MIT
-- mod_privilege: components that may act for the accounts of this host (XEP-0356).
--
--   VirtualHost "example.org"
--     modules_enabled = { "privilege" }
--     privileged_entities = {
--       ["pubsub.example.org"] = { roster = "both", message = "outgoing", presence = "roster",
--         iq = { ["http://jabber.org/protocol/pubsub"] = "set" } },
--     }
--
-- Privileges belong to a component of this server, as a whole, and reach as far as this host. Whoever has none is told
-- `forbidden`, whether the account exists or not. Accounts notice nothing.

local attached = require "couplet.attached"
local client_session = require "couplet.client_session"
local directory = require "couplet.directory"
local forwarded = require "couplet.forwarded"
local hosts = require "couplet.hosts"
local id = require "couplet.util.id"
local jid = require "couplet.jid"
local recent = require "couplet.recent"
local roster = require "couplet.roster"
local router = require "couplet.router"
local st = require "couplet.stanza"
local task = require "couplet.task"
local users = require "couplet.users"

local host = module.host
local NS, OLDER = "urn:xmpp:privilege:2", "urn:xmpp:privilege:1"
local CLIENT, ROSTER = "jabber:client", "jabber:iq:roster"
local CONTACTS_MAX = 10000             -- contacts whose presence is kept for a component that comes later
local ASKED_MAX = 1000                 -- iqs of one component under way
local SLICE = 100                      -- sessions told of before others have their turn

module:config {
  privileged_entities = { type = "table", default = {},
    doc = 'what components may do for accounts: { ["pubsub.example.org"] = { roster = "both", message = "outgoing", '
    .. 'presence = "roster", iq = { ["urn:x"] = "get" } } }; values of roster and iq: get, set, both; of presence: '
    .. 'managed_entity, roster' },
}
local config = module.config

local function refuse(event, kind, condition, text)
  return router.reply_error(event.origin, event.stanza, kind, condition, text)
end

-- What is granted -----------------------------------------------------------------------------------------------------------

local ACCESS = { get = { get = true }, set = { set = true }, both = { get = true, set = true }, none = {} }
local PRESENCE = { managed_entity = true, roster = true, none = true }

local function wrong(entity, what, value)
  module:log("error", "privileged_entities: %s: %s cannot be %q", entity, what, tostring(value))
end

-- -> { roster = word | nil, push = bool, message = bool, presence = word | nil, iq = { [ns] = word } }
local function read(entity, wish)
  local out = { iq = {} }
  if type(wish) ~= "table" then
    wrong(entity, "the entry", wish)
    return out
  end
  if ACCESS[wish.roster or "none"] then out.roster = wish.roster ~= "none" and wish.roster or nil
  else wrong(entity, "roster", wish.roster) end
  out.push = (out.roster == "get" or out.roster == "both") and wish.roster_push ~= false
  if wish.message == "outgoing" then out.message = true
  elseif (wish.message or "none") ~= "none" then wrong(entity, "message", wish.message) end
  if not PRESENCE[wish.presence or "none"] then wrong(entity, "presence", wish.presence)
  elseif wish.presence == "roster" and not (out.roster and ACCESS[out.roster].get) then      -- §7.4: MUST reject
    module:log("error", "privileged_entities: %s: presence = \"roster\" needs roster = \"get\" or \"both\"", entity)
  else out.presence = wish.presence ~= "none" and wish.presence or nil end
  for ns, word in pairs(type(wish.iq) == "table" and wish.iq or {}) do
    if ACCESS[word] then out.iq[ns] = word else wrong(entity, "iq for " .. tostring(ns), word) end
  end
  return out
end

local granted, sees_contacts = {}, false       -- entity -> as read
local function configure()
  granted, sees_contacts = {}, false
  for entity, wish in pairs(config.privileged_entities) do
    local name = jid.prep(entity)
    granted[name or entity] = read(entity, wish)
    sees_contacts = sees_contacts or granted[name or entity].presence == "roster"
  end
end
configure()

-- The privileges of the component that sent this, or nil.
local function privileges(event)
  local entity = attached.sender(event)
  return entity and granted[entity], entity
end

local function account_of(to)
  local place = to and router.address(to)
  return place and place.target == "bare" and place.host == host and place.node or nil
end

-- What acts in the place of a client: answers to it go to the account, where somebody waits for them.
local function owner_of(username, list)
  local bare = username .. "@" .. host
  local owner = { type = "c2s", base_type = "c2s", host = host, username = username, full_jid = bare, roster = list,
    log = module._log }
  function owner.send(reply)
    if st.is_stanza(reply) then
      reply.attr.to = reply.attr.to or bare
      router.core_post_stanza(hosts.get(host), reply)
    end
    return true
  end
  function owner.close() return false end
  return owner
end

-- Rosters (§4) ----------------------------------------------------------------------------------------------------------------

for _, kind in ipairs { "get", "set" } do
  module:hook("iq-" .. kind .. "/bare/" .. ROSTER .. ":query", function(event)
    local rights = privileges(event)
    if not rights or not rights.roster then return nil end             -- mod_roster forbids it
    if not ACCESS[rights.roster][kind] then return refuse(event, "auth", "forbidden") end
    local username = account_of(event.stanza.attr.to)
    if not username or not users.user_exists(username, host) then return refuse(event, "cancel", "item-not-found") end
    local list, err = roster.load_roster(username, host)
    if not list then return router.fail(event.origin, event.stanza, err) end
    return module:depends "roster"["handle_" .. kind](event, owner_of(username, list))
  end, 1)
end

module:hook("roster-pushed", function(event)
  for entity, rights in pairs(granted) do
    local session = rights.push and attached.session(entity)
    local list = session and roster.load_roster(event.username, event.host)
    if list then
      local push = st.iq { type = "set", id = id.short(), from = event.username .. "@" .. host, to = entity }
        :tag("query", { xmlns = ROSTER })
      roster.add_item(push, event.jid, list[event.jid])
      client_session.send(session, push:reset())
    end
  end
end)

-- Messages (§5) -----------------------------------------------------------------------------------------------------------------

module:hook("message/host", function(event)
  local stanza = event.stanza
  local wrapper = stanza:get_child("privilege", NS) or stanza:get_child("privilege", OLDER)
  if not wrapper or stanza.attr.type == "error" then return nil end
  local rights = privileges(event)
  if not rights or not rights.message then return refuse(event, "auth", "forbidden") end
  local message = #wrapper.tags == 1 and forwarded.take(wrapper, "message")
  if not message then return refuse(event, "modify", "bad-request", "One forwarded message, please") end
  local from, to = message.attr.from, message.attr.to
  local place = from and router.address(from)
  local ours = place and place.host == host and place.jid == place.bare
  if not ours or place.node and not users.user_exists(place.node, host) then
    return refuse(event, "auth", "forbidden", "from must be a bare address of this host")
  end
  if not to or not router.address(to) then return refuse(event, "modify", "jid-malformed", "The message needs a to") end
  message.attr.from = place.jid
  module:send(message)
  return true
end, 1)

-- IQs (§6) ----------------------------------------------------------------------------------------------------------------------

local asked = {}                       -- entity -> number of iqs under way

local function privileged_iq(event)
  local stanza = event.stanza
  local rights, entity = privileges(event)
  local iq = stanza.tags[1].tags[1]
  local username, payload = account_of(stanza.attr.to), iq and iq.tags[1]
  local word = payload and rights and rights.iq[payload.attr.xmlns or CLIENT]
  if not word or #stanza.tags[1].tags ~= 1 or iq.name ~= "iq" or iq.attr.xmlns ~= CLIENT or not username
    or iq.attr.type ~= stanza.attr.type or not ACCESS[word][iq.attr.type]
    or iq.attr.from and jid.prep(iq.attr.from) ~= username .. "@" .. host or not users.user_exists(username, host) then
    return refuse(event, "auth", "forbidden")
  end
  if not iq.attr.id or #iq.tags ~= 1 then return refuse(event, "modify", "bad-request") end
  if iq.attr.to and not router.address(iq.attr.to) then return refuse(event, "modify", "jid-malformed") end
  if (asked[entity] or 0) >= ASKED_MAX then return refuse(event, "wait", "resource-constraint") end
  local list = roster.load_roster(username, host)
  if not list then return refuse(event, "wait", "internal-server-error") end
  asked[entity] = (asked[entity] or 0) + 1
  local sent = st.clone(iq)
  forwarded.plain(sent)
  sent.attr.from, sent.attr.id = username .. "@" .. host, id.medium()    -- ours: nobody else's answer fits
  local function answer(got)
    asked[entity] = asked[entity] - 1
    local inner = st.clone(got)
    inner.attr.id, inner.attr.to = iq.attr.id, inner.attr.to or username .. "@" .. host
    event.origin.send(forwarded.put(st.reply(stanza):tag("privilege", { xmlns = NS }), inner))
  end
  module:send_iq(sent, owner_of(username, list)):next(function(got) answer(got.stanza) end, function(err)
    if type(err) == "table" and err.context and err.context.stanza and err.context.stanza.attr.type == "error" then
      return answer(err.context.stanza)
    end
    asked[entity] = asked[entity] - 1
    refuse(event, "wait", "remote-server-timeout")
  end)
  return true
end

for _, kind in ipairs { "get", "set" } do
  module:hook("iq-" .. kind .. "/bare/" .. NS .. ":privileged_iq", privileged_iq)
  module:hook("iq-" .. kind .. "/host/" .. NS .. ":privileged_iq", privileged_iq)       -- forbidden
end

-- Presence (§7) -----------------------------------------------------------------------------------------------------------------

local function copy_to(stanza, entity)
  local copy = st.clone(stanza)
  copy.attr.to, copy.attr.xmlns = entity, nil
  return copy
end

local function tell(stanza, of_contact)
  for entity, rights in pairs(granted) do
    local session = rights.presence and (rights.presence == "roster" or not of_contact) and attached.session(entity)
    if session then client_session.send(session, copy_to(stanza, entity)) end
  end
end

-- Accounts: the first presence, and the last.
module:hook("presence/initial", function(event) tell(event.stanza) end)
module:hook("presence/self", function(event)
  if event.stanza.attr.type == "unavailable" and event.origin.presence then tell(event.stanza) end
end, 1)

-- Their contacts: once, however many accounts have them on their rosters; also while those are away.
local contacts, count = {}, 0          -- full address -> presence
local left, note_left = recent.new(4096)

local function note_contact(stanza)
  local from = stanza.attr.from
  local copy = copy_to(stanza, nil)
  local before = contacts[from]
  if stanza.attr.type == "unavailable" then
    if not before and left(from) then return false end
    note_left(from, true)
    if before then contacts[from], count = nil, count - 1 end
    return true
  end
  if before and tostring(before) == tostring(copy) then return false end
  note_left(from, nil)
  if not before and count >= CONTACTS_MAX then return true end
  if not before then count = count + 1 end
  contacts[from] = copy
  return true
end

local FROM_CONTACT = { to = true, both = true }

local function from_contact(event)
  local stanza = event.stanza
  local kind, username = stanza.attr.type, account_of(stanza.attr.to)
  local sender = stanza.attr.from and router.address(stanza.attr.from)
  if not sees_contacts or kind and kind ~= "unavailable" or not username or not sender or granted[sender.host] then return nil end
  local list = roster.load_roster(username, host)
  local item = list and list[sender.bare]
  if item and FROM_CONTACT[item.subscription] and note_contact(stanza) then tell(stanza, true) end
end

-- A handler here makes presence between accounts of ours take the long way: only where somebody wants to see it.
local watching = false
local function watch()
  if sees_contacts == watching then return end
  watching = sees_contacts
  if watching then module:hook("presence/bare", from_contact, 1) else module:unhook("presence/bare", from_contact) end
  if not watching then contacts, count = {}, 0 end
end
watch()

-- Connected (§4.2, §8) --------------------------------------------------------------------------------------------------------

local function advertise(entity, session, rights)
  local message = st.message { from = host, to = entity, id = id.short() }
  for _, ns in ipairs { NS, OLDER } do
    message:tag("privilege", { xmlns = ns })
    if rights.roster then
      message:tag("perm", { access = "roster", type = rights.roster, push = rights.push and "true" or "false" }):up()
    end
    if rights.message then message:tag("perm", { access = "message", type = "outgoing" }):up() end
    if next(rights.iq) and ns == NS then
      message:tag("perm", { access = "iq" })
      for name, word in pairs(rights.iq) do message:tag("namespace", { ns = name, type = word }):up() end
      message:up()
    end
    if rights.presence then message:tag("perm", { access = "presence", type = rights.presence }):up() end
    message:up()
  end
  client_session.send(session, message)
end

-- Everybody who is here already (§8, rule 1).
local function tell_all(entity, session, rights)
  local list = {}
  for _, user in pairs(directory.of_host(host)) do
    for _, resource in pairs(user.sessions) do list[#list + 1] = resource end
  end
  if rights.presence == "roster" then for _, stanza in pairs(contacts) do list[#list + 1] = { presence = stanza } end end
  for i, who in ipairs(list) do
    if session.destroyed then return end
    if who.presence and not who.destroyed then client_session.send(session, copy_to(who.presence, entity)) end
    if i % SLICE == 0 then task.sleep(0.001) end
  end
end

local function connected(entity, session)
  local rights = granted[entity]
  if not rights then return end
  advertise(entity, session, rights)
  if rights.presence then module:spawn(tell_all, entity, session, rights) end
end

attached.watch(module, connected)

module:on_config_change(function()
  configure()
  watch()
  for entity in pairs(granted) do
    local session = attached.session(entity)
    if session then connected(entity, session) end
  end
end)
