-- SPDX-License-Identifier: MIT
-- mod_roster: the contact list as clients read and edit it (RFC 6121 §2), with versions (§2.6).
--
-- Exports for plugins that act for an account; owner: a session, or what looks like one: { type = "c2s", username =, host =,
-- full_jid =, roster = }
--   handle_get(event, owner), handle_set(event, owner) -> true      answer the request of event.origin about owner's roster

local jid = require "couplet.jid"
local roster = require "couplet.roster"
local router = require "couplet.router"
local st = require "couplet.stanza"

local host = module.host
local NS = "jabber:iq:roster"

module:config {
  roster_items_max = { type = "integer", default = 5000, min = 1, doc = "contacts of one account" },
  roster_bytes_max = { type = "integer", default = 1048576, min = 10000,
    doc = "bytes of addresses, names and groups of all contacts of one account" },
  roster_name_length_max = { type = "integer", default = 1023, min = 1, doc = "bytes of a contact's name or group" },
  roster_groups_max = { type = "integer", default = 100, min = 1, doc = "groups of one contact" },
}
local config = module.config

local ver = st.stanza("ver", { xmlns = "urn:xmpp:features:rosterver" })
local preapproval = st.stanza("sub", { xmlns = "urn:xmpp:features:pre-approval" })

module:hook("stream-features", function(event)
  if event.origin.username then
    event.features:add_child(ver)
    event.features:add_child(preapproval)
  end
end)

local function refuse(event, kind, condition, text)
  return router.reply_error(event.origin, event.stanza, kind, condition, text)
end

-- Reading -----------------------------------------------------------------------------------------------------------------------

function handle_get(event, owner)
  local stanza = event.stanza
  local list = owner.roster
  local have = stanza.tags[1].attr.ver
  local now = tostring(list[false] and list[false].version or 1)
  local reply = st.reply(stanza)
  if have ~= now then
    reply:tag("query", { xmlns = NS, ver = have and now or nil })
    for contact, item in pairs(list) do
      if contact then roster.add_item(reply, contact, item) end
    end
    reply:reset()
  end
  event.origin.send(reply)
  return true
end

module:hook("iq-get/self/" .. NS .. ":query", function(event)
  event.origin.interested = true               -- from now on it gets pushes
  return handle_get(event, event.origin)
end)

-- Editing -----------------------------------------------------------------------------------------------------------------------

-- What the client wishes, or nil and an error (RFC 6121 §2.3.3).
local function read_item(item)
  local name = item.attr.name
  if name and #name > config.roster_name_length_max then return nil, "modify", "not-acceptable", "The name is too long" end
  if name == "" then name = nil end
  local groups, n = {}, 0
  for group in item:childtags "group" do
    local text = group:get_text() or ""
    if text == "" then return nil, "modify", "not-acceptable", "A group needs a name" end
    if #text > config.roster_name_length_max then return nil, "modify", "not-acceptable", "The name of a group is too long" end
    if groups[text] then return nil, "modify", "bad-request", "A group is named twice" end
    n = n + 1
    if n > config.roster_groups_max then return nil, "modify", "not-acceptable", "Too many groups" end
    groups[text] = true
  end
  return { name = name, groups = groups }
end

-- Ends what the contact and the user see of each other; the item is gone already, so nothing of this changes it.
local function end_subscriptions(owner, contact, item, asked)
  local bare = owner.username .. "@" .. host
  local s = item and item.subscription or "none"
  if s == "from" or s == "both" then
    module:depends "presence".send_unavailable(owner.username, host, contact)
  end
  if s == "from" or s == "both" or asked then
    router.core_post_stanza(owner, st.presence { type = "unsubscribed", from = bare, to = contact }, false)
  end
  if s == "to" or s == "both" or item and item.ask then
    router.core_post_stanza(owner, st.presence { type = "unsubscribe", from = bare, to = contact }, false)
  end
end

local function remove(event, owner, contact)
  local list = owner.roster
  local item, asked = list[contact], list[false].pending[contact] ~= nil
  if not item then return refuse(event, "cancel", "item-not-found", "No such contact") end
  local ok, kind, condition, text, err = roster.remove_from_roster(owner, contact)
  if not ok then
    if type(err) == "table" then return router.fail(event.origin, event.stanza, err) end
    return refuse(event, kind, condition, text)
  end
  event.origin.send(st.reply(event.stanza))
  roster.roster_push(owner.username, host, contact)
  end_subscriptions(owner, contact, item, asked)
  module:fire_event("roster-item-removed", {
    username = owner.username, host = host, roster = list, jid = contact, item = item, origin = owner, stanza = event.stanza,
  })
  return true
end

function handle_set(event, owner)
  local stanza = event.stanza
  local query = stanza.tags[1]
  local item = query.tags[1]
  if #query.tags ~= 1 or item.name ~= "item" or (item.attr.xmlns or NS) ~= NS then
    return refuse(event, "modify", "bad-request", "Exactly one item, please")
  end
  local node, domain, resource = jid.prepped_split(item.attr.jid or "")
  if not domain or resource then return refuse(event, "modify", "bad-request", "The contact's address must be a bare JID") end
  local contact = node and node .. "@" .. domain or domain
  if contact == owner.username .. "@" .. host then
    return refuse(event, "cancel", "not-allowed", "You are not a contact of yourself")
  end
  if item.attr.subscription == "remove" then return remove(event, owner, contact) end

  local wish, kind, condition, text = read_item(item)
  if not wish then return refuse(event, kind, condition, text) end
  local ok, err
  ok, kind, condition, text, err = roster.add_to_roster(owner, contact, wish)
  if not ok then
    if type(err) == "table" then return router.fail(event.origin, stanza, err) end
    return refuse(event, kind, condition, text)
  end
  event.origin.send(st.reply(stanza))
  roster.roster_push(owner.username, host, contact)
  return true
end

module:hook("iq-set/self/" .. NS .. ":query", function(event) return handle_set(event, event.origin) end)

-- Nobody else's business (§2.3.3), whether the account exists or not.
local function forbid(event)
  if event.to_self then return nil end
  return refuse(event, "auth", "forbidden")
end
module:hook("iq-get/bare/" .. NS .. ":query", forbid, -1)
module:hook("iq-set/bare/" .. NS .. ":query", forbid, -1)

-- An account that is deleted takes its subscriptions along.
module:hook_global("user-deleted", function(event)
  if event.host ~= host then return end
  local username, bare = event.username, event.username .. "@" .. host
  local list = roster.load_roster(username, host)
  if not list then return end
  local origin = { type = "c2s", host = host, username = username, full_jid = bare, send = function() return false end }
  for contact, item in pairs(list) do
    if contact then end_subscriptions(origin, contact, item, false) end
  end
  local store = require "couplet.store".open(host, "roster", "keyval+")
  if store then store:set(username, nil) end
  roster.forget(bare)
end, 10)
