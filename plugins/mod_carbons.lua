-- SPDX-License-Identifier: MIT
-- mod_carbons: all of a user's clients see both sides of a conversation (XEP-0280, with the rules of its §6.1).
--
-- Fires carbons-should-copy { stanza, origin, user = bare JID of the account, c2s = sent by it } before the rules are asked:
-- true copies the message, false does not, nil leaves it to the rules.

local core_stanza = require "couplet.core".stanza
local directory = require "couplet.directory"
local jid = require "couplet.jid"
local router = require "couplet.router"
local sessions = require "couplet.sessions"
local st = require "couplet.stanza"

local route_of, set_attr = core_stanza.route, core_stanza.set_attr
local address, user_of = router.address, directory.user
local host = module.host

local CARBONS, FORWARD, MUC_USER = "urn:xmpp:carbons:2", "urn:xmpp:forward:0", "http://jabber.org/protocol/muc#user"
local ID_BYTES = 256                           -- longer ids are not remembered

module:add_feature(CARBONS)
module:add_feature "urn:xmpp:carbons:rules:0"

-- On and off -------------------------------------------------------------------------------------------------------------------

local function switch(value)
  return function(event)
    local origin, stanza = event.origin, event.stanza
    if not event.to_self or origin.type ~= "c2s" then                 -- §4.1, §5.1
      return router.reply_error(origin, stanza, "cancel", "not-allowed")
    end
    origin.want_carbons = value
    origin.send(st.reply(stanza))
    return true
  end
end
module:hook("iq-set/bare/urn:xmpp:carbons:2:enable", switch(CARBONS))
module:hook("iq-set/bare/urn:xmpp:carbons:2:disable", switch(nil))

-- Along with binding (XEP-0386 §3.2).
module:hook("advertise-bind-features", function(event) event.features:tag("feature", { var = CARBONS }):up() end)
module:hook("enable-bind-features", function(event)
  if event.request:get_child("enable", CARBONS) then event.session.want_carbons = CARBONS end
end)

module:hook("smacks/save", function(event) event.state.carbons = event.session.want_carbons and true or nil end)
module:hook("smacks/restore", function(event) event.session.want_carbons = event.state.carbons and CARBONS or nil end)

-- Which messages (§6.1) --------------------------------------------------------------------------------------------------------

-- Namespaces of what chats are made of, apart from text.
local of_chats = {
  ["urn:xmpp:receipts"] = true, ["http://jabber.org/protocol/chatstates"] = true, ["urn:xmpp:chat-markers:0"] = true,
  ["urn:xmpp:jingle-message:0"] = true, ["urn:xmpp:reactions:0"] = true, ["urn:xmpp:message-retract:1"] = true,
}

-- Messages that were copied: an error about one of them is copied too. Keys: account, contact, id.
local recall, remember = require "couplet.recent".new(4096)

local function key_of(user, contact, id)
  local place = id and #id <= ID_BYTES and contact and address(contact)
  return place and user .. "\0" .. place.bare .. "\0" .. id
end

local function is_invitation(stanza, x)
  return stanza:has "{jabber:x:conference}x" or x and x:get_child("invite", MUC_USER) ~= nil
end

local function eligible(stanza, type, user, c2s, from, to, id)
  if type == "groupchat" or stanza:has "{urn:xmpp:carbons:2}private" or stanza:has "{urn:xmpp:hints}no-copy" then return false end
  if type == "error" then
    local key = key_of(user, c2s and to or from, id)
    return key and recall(key) or false
  end
  local x = stanza:get_child("x", MUC_USER)
  if is_invitation(stanza, x) then return true end
  -- a room sends a private message to each of the occupant's clients by itself
  if x and not c2s and jid.resource(from) then return false end
  if type == "chat" or type ~= "headline" and stanza:get_child "body" then return true end
  for _, child in ipairs(stanza.tags) do
    if of_chats[child.attr.xmlns] then return true end
  end
  return false
end

local function should_copy(origin, stanza, user, c2s)
  local verdict = module:fire_event("carbons-should-copy", { stanza = stanza, origin = origin, user = user, c2s = c2s })
  local _, to, from, type, id = route_of(stanza)
  if verdict == nil then verdict = eligible(stanza, type, user, c2s, from, to, id) end
  if verdict and type ~= "error" then
    local key = key_of(user, c2s and to or from, id)
    if key then remember(key, true) end
  end
  return verdict
end

-- To whom ----------------------------------------------------------------------------------------------------------------------

-- Who wants copies, apart from those who have the message -> array, or nil
local function wanting(user, has)
  local list
  for _, session in pairs(user.sessions) do
    if session.want_carbons and not has[session] then
      list = list or {}
      list[#list + 1] = session
    end
  end
  return list
end

-- Only clients in the room under the same nick can make use of a private message to another occupant.
local function sharing_nick(list, origin, occupant)
  local room, mine = jid.bare(occupant), {}
  for to in pairs(origin.directed or {}) do
    if jid.resource(to) and jid.bare(to) == room then mine[#mine + 1] = to end
  end
  local out = {}
  for _, session in ipairs(list) do
    for _, nick in ipairs(mine) do
      if session.directed and session.directed[nick] then
        out[#out + 1] = session
        break
      end
    end
  end
  return out
end

local function send_copies(list, direction, bare, stanza)
  local original, tos = st.clone(stanza), {}
  set_attr(original, "xmlns", "jabber:client")
  if not original.attr.to then set_attr(original, "to", bare) end
  local copy = st.message { from = bare, type = stanza.attr.type }
    :tag(direction, { xmlns = CARBONS }):tag("forwarded", { xmlns = FORWARD }):add_child(original):reset()
  for i, session in ipairs(list) do tos[i] = session.full_jid end
  set_attr(copy, "to", tos[1])
  sessions.multicast(list, copy, tos)
end

-- Most accounts have one client at a time: nothing to do, found out at once.
local function alone(user)
  local first = next(user.sessions)
  return next(user.sessions, first) == nil
end

local function outgoing(event)
  local origin, stanza = event.origin, event.stanza
  if event.to_self or origin.type ~= "c2s" then return end
  local bare = origin.username .. "@" .. host
  local user = user_of(bare)
  if not user or alone(user) then return end
  local to = stanza.attr.to
  if address(to).bare == bare then return end  -- one's own other client: copied where it arrives
  local list = wanting(user, { [origin] = true })
  if not list or not should_copy(origin, stanza, bare, true) then return end
  local x = jid.resource(to) and stanza:get_child("x", MUC_USER)
  if x and not is_invitation(stanza, x) then
    list = sharing_nick(list, origin, to)
    if not list[1] then return end
  end
  send_copies(list, "sent", bare, stanza)
end
module:hook("pre-message/bare", outgoing, -0.5)
module:hook("pre-message/full", outgoing, -0.5)
module:hook("pre-message/host", outgoing, -0.5)

-- Those who get the message itself (mod_message, RFC 6121 §8.5.4).
local function recipients(user, origin, to, type)
  local has = { [origin] = true }
  local session = to and directory.session(to)
  if session then
    has[session] = true
  elseif type == "headline" then
    for _, one in pairs(user.sessions) do
      if one.presence and one.priority >= 0 then has[one] = true end
    end
  elseif type ~= "error" then
    for _, one in ipairs(user.top_resources or {}) do has[one] = true end
  end
  return has
end

local function incoming(event)
  local origin, stanza = event.origin, event.stanza
  local _, to, _, type = route_of(stanza)
  local bare = to and address(to).bare or origin.username .. "@" .. host
  local user = user_of(bare)
  if not user or alone(user) then return end
  local list = wanting(user, recipients(user, origin, to, type))
  if list and should_copy(origin, stanza, bare, false) then send_copies(list, "received", bare, stanza) end
end
module:hook("message/bare", incoming, -0.5)
module:hook("message/full", incoming, -0.5)
