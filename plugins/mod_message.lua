-- SPDX-License-Identifier: MIT
-- mod_message: delivers messages to accounts and resources: the table of RFC 6121 §8.5.4.

local core_stanza = require "couplet.core".stanza
local client_session = require "couplet.client_session"
local directory = require "couplet.directory"
local router = require "couplet.router"
local sessions = require "couplet.sessions"
local users = require "couplet.users"

local route_of, attr_of = core_stanza.route, core_stanza.attr
local send, session_of = client_session.send, directory.session
local host = module.host

local function refuse(event)
  return router.reply_error(event.origin, event.stanza, "cancel", "service-unavailable")
end

-- All resources that take messages for the account.
local function listening(user)
  local list = {}
  for _, session in pairs(user.sessions) do
    if session.presence and session.priority >= 0 then list[#list + 1] = session end
  end
  return list
end

local by_type = {}

function by_type.error() return true end       -- about something nobody remembers

function by_type.groupchat(event)
  if module:fire_event("message/bare/groupchat", { origin = event.origin, stanza = event.stanza }) then return true end
  return refuse(event)
end

function by_type.headline(event, _, user)      -- to all who listen now, or to nobody
  if user then sessions.multicast(listening(user), event.stanza) end
  return true
end

-- To the resources with the highest priority, else kept for later. Messages of unknown types are normal (§5.2.2). An export:
-- mod_smacks sends on this way what a session has not got.
function to_account(event, username, user)
  local stanza = event.stanza
  local top = user and user.top_resources
  if top and sessions.multicast(top, stanza) > 0 then return true end
  local exists, err = users.user_exists(username, host)
  if exists == nil and err then return router.fail(event.origin, stanza, err) end
  if exists and module:fire_event("message/offline/handle", { username = username, origin = event.origin, stanza = stanza }) then
    return true
  end
  return refuse(event)
end

local function to_bare(event, username, bare, type)
  return (by_type[type] or to_account)(event, username, directory.user(bare))
end

-- Nobody is bound to that resource (§8.5.3.2): only a chat goes on to the account.
local unmatched = {
  headline = by_type.error, error = by_type.error, groupchat = refuse,
  chat = function(event, place) return to_bare(event, place.node, place.bare, "chat") end,
}

module:hook("message/full", function(event)
  local stanza = event.stanza
  local to = attr_of(stanza, "to")
  local session = session_of(to)
  if session and send(session, stanza) then return true end
  return (unmatched[attr_of(stanza, "type")] or refuse)(event, router.address(to))
end, -1)

module:hook("message/bare", function(event)
  local _, to, _, type = route_of(event.stanza)
  if not to then
    local origin = event.origin
    return to_bare(event, origin.username, origin.username .. "@" .. origin.host, type)
  end
  local place = router.address(to)
  return to_bare(event, place.node, place.bare, type)
end, -1)
