-- SPDX-License-Identifier: MIT
-- sessions.lua: the life of a client's session, from authentication to its end, and sending to many (core.sessionmanager).
--
--   new_session(native) -> session                         type c2s_unauthed
--   make_authenticated(session, username, role?) -> true | nil, text
--   bind_resource(session, resource?) -> true | nil, type, condition, text        may wait
--   revive(username, host, resource) -> session | nil, text  one from before a restart. May wait
--   destroy_session(session, reason?)                       may wait
--   update_session(to, from)                                `to` goes on with the connection of `from`
--   retire_session(session)                                 over, without anybody being told
--   unbound                                                 set of the sessions that have no resource yet
--   send_to_available_resources(username, host, stanza) -> count
--   send_to_interested_resources(username, host, stanza) -> count
--   multicast(sessions, stanza, tos?) -> count               serialises once; tos[i]: the `to` for sessions[i]
--   many() -> gathering, add(gathering, session, to), send_to(gathering, stanza) -> count
--                                        the same, each session looked at once; nothing may wait between first and last
--   update_top(user)                                         after a priority changed
--   set_interest(session, set | nil)                         nodes it wants to be told of, while it is available (XEP-0163 §4.3)
--   add_presence(session, stanza, priority), remove_presence(session)

local client_session = require "couplet.client_session"
local clock = require "couplet.clock"
local config = require "couplet.config"
local core = require "couplet.core"
local directory = require "couplet.directory"
local encodings = require "couplet.util.encodings"
local filters = require "couplet.filters"
local hosts = require "couplet.hosts"
local id = require "couplet.util.id"
local prosody = require "couplet.prosody"
local st = require "couplet.stanza"
local task = require "couplet.task"
local count = require "couplet.util.iterators".count

local nodeprep, resourceprep = encodings.stringprep.nodeprep, encodings.stringprep.resourceprep
local send = client_session.send

local sessions = { unbound = {} }
local unbound = sessions.unbound

local RESOURCE_BYTES = 1023
local SPARE_MAX = 4096                 -- recipients of a list that is kept
local SESSIONS_MAX = 100               -- resources of one user, unless max_sessions_per_user says otherwise

prosody.full_sessions = directory.full_sessions
prosody.bare_sessions = directory.bare_sessions

function sessions.new_session(native, kind)
  local session = client_session.new(native, kind or "c2s_unauthed")
  filters.initialize(session)
  unbound[session] = true
  return session
end

-- Authenticated -------------------------------------------------------------------------------------------------------------

function sessions.make_authenticated(session, username, role)
  username = username and nodeprep(username, true)
  if not username or #username == 0 then return nil, "Invalid username" end
  session.username = username
  if session.type == "c2s_unauthed" then session.type = "c2s_unbound" end
  local users = require "couplet.users"
  if type(role) == "table" then
    session.role = role
  elseif role then
    session.role = users.get_role_by_name(role, session.host)
  else                                     -- the roster will be wanted as soon as a resource is bound
    session.role = task.together(function() return (users.get_user_role(username, session.host)) end,
      function() require "couplet.roster".load_roster(username, session.host) end)
  end
  session.log("info", "authenticated as %s@%s from IP: %s", username, session.host, session.ip or "?")
  return true
end

-- Binding -------------------------------------------------------------------------------------------------------------------

local function fresh() return id.short() end

local replaced = { condition = "conflict", text = "Replaced by new connection" }

-- The resource to bind where somebody has it already, or nil: refuse. conflict_resolve as mod_conflict names it.
local conflict = {
  kick_old = function(resource, old)
    old:close(replaced)
    if not old.destroyed then sessions.destroy_session(old, replaced.text) end
    return resource
  end,
  kick_new = function() return nil end,
  random = function() return fresh() end,
  increment = function(resource, _, user)
    for n = 2, SESSIONS_MAX + 2 do
      local try = ("%s #%d"):format(resource, n)
      if not user.sessions[try] then return try end
    end
    return fresh()
  end,
}

local function settle_conflicts(session, resource, bare)
  local policy = conflict[config.get(session.host, "conflict_resolve") or "kick_old"] or conflict.kick_old
  for _ = 1, 10 do                         -- a plugin may wait meanwhile, and somebody else come in
    local user = directory.user(bare)
    local old = user and user.sessions[resource]
    if not old then break end
    if old.destroyed then directory.remove(old) break end
    resource = policy(resource, old, user)
    if not resource then return nil, "cancel", "conflict", "Resource already exists" end
    if #resource > RESOURCE_BYTES then resource = fresh() end
  end
  local user = directory.user(bare)
  local max = config.get(session.host, "max_sessions_per_user") or SESSIONS_MAX
  if user and count(pairs(user.sessions)) >= max then
    return nil, "wait", "resource-constraint", "Too many sessions of this account"
  end
  return resource
end

local function enter(session, resource, bare, list)
  unbound[session] = nil
  session.resource = resource
  session.full_jid = bare .. "/" .. resource
  session.type = "c2s"
  local user = directory.add(session)
  user.roster = user.roster or list
  require "couplet.roster".forget(bare)
  session.roster = user.roster
end

function sessions.bind_resource(session, resource)
  if not session.username then return nil, "auth", "not-authorized", "Cannot bind resource before authentication" end
  if session.resource then return nil, "cancel", "not-allowed", "Cannot bind multiple resources on a single connection" end
  local host = hosts.get(session.host)
  local event = { session = session, resource = resource }
  if host.events.fire_event("pre-resource-bind", event) == false then
    local err = event.error
    if err then return nil, err.type, err.condition, err.text end
    return nil, "cancel", "not-allowed"
  end
  resource = event.resource
  if resource and resource ~= "" then
    resource = #resource <= RESOURCE_BYTES and resourceprep(resource, true)
    if not resource or resource == "" or #resource > RESOURCE_BYTES then
      return nil, "modify", "bad-request", "Invalid resource"
    end
  else
    resource = fresh()
  end

  local bare = session.username .. "@" .. session.host
  local roster = require "couplet.roster"
  local list, err = roster.load_roster(session.username, session.host)
  if not list then
    if type(err) == "table" and err.condition then return nil, err.type or "wait", err.condition, err.text end
    return nil, "wait", "internal-server-error", "Unable to load roster"
  end
  local kind, condition, text
  resource, kind, condition, text = settle_conflicts(session, resource, bare)
  if not resource then return nil, kind, condition, text end
  if session.destroyed or session.resource then return nil, "cancel", "not-allowed", "The session has ended" end

  enter(session, resource, bare, list)
  session.log("debug", "bound %s", session.full_jid)
  host.events.fire_event("resource-bind", { session = session })
  return true
end

-- A session from before a restart: bound, and without a connection. nil, text: its place is taken, or there is no roster.
function sessions.revive(username, host, resource)
  local session = client_session.new(nil, "c2s_unauthed")
  session.host, session.notopen = host, nil
  local ok, err = sessions.make_authenticated(session, username)
  if not ok then return nil, err end
  local bare = session.username .. "@" .. host
  local list = require "couplet.roster".load_roster(session.username, host)
  if not list then return nil, "no roster" end
  local user = directory.user(bare)
  if user and user.sessions[resource] then return nil, "its resource is taken" end
  enter(session, resource, bare, list)
  return session
end

-- Presence and priority ---------------------------------------------------------------------------------------------------------

-- The resources that get what is sent to the account: those with the highest priority, none below 0. And those that want to hear
-- of nodes, with what is needed to tell them: side by side, because each field of each session was a miss of the cache.
function sessions.update_top(user)
  local top, best, listening = nil, 0, nil
  for _, session in pairs(user.sessions) do
    local p, set = session.presence and session.priority, session.presence and session.pep_interest
    if set then
      listening = listening or {}
      local n = #listening
      listening[n + 1], listening[n + 2], listening[n + 3] = session, session.full_jid, set
    end
    if p and p >= best then
      if not top or p > best then top, best = {}, p end
      top[#top + 1] = session
    end
  end
  user.top_resources, user.listening = top, listening
end

local function user_of(session)
  return directory.user(session.username .. "@" .. session.host)
end

function sessions.add_presence(session, stanza, level)
  if not session.presence then session.available_since = clock.wall() end
  session.presence, session.priority = stanza, level
  local user = user_of(session)
  if user then sessions.update_top(user) end
end

function sessions.remove_presence(session)
  session.presence, session.priority = nil, nil
  local user = user_of(session)
  if user then sessions.update_top(user) end
end

function sessions.set_interest(session, set)
  session.pep_interest = set
  local user = user_of(session)
  if user then sessions.update_top(user) end
end

-- The end -----------------------------------------------------------------------------------------------------------------------

function sessions.retire_session(session)
  if session.destroyed then return end
  unbound[session] = nil
  return client_session.retire(session)
end

function sessions.destroy_session(session, reason)
  if session.destroyed then return end
  if session.destroying then
    session.destroying = "again"
    return
  end
  local host = hosts.get(session.host)
  if session.full_jid and host then
    local event = { session = session, error = reason }
    session.destroying = true
    local kept = host.events.fire_event("pre-resource-unbind", event)
    if kept and session.destroying == "again" then         -- whoever has ended it meanwhile means it
      kept = host.events.fire_event("pre-resource-unbind", event)
    end
    session.destroying = nil
    if kept then
      session.net, session.conn, session.closing = nil, nil, false
      session.log("debug", "kept without a connection")
      return
    end
  end
  session.destroying = true
  local user = session.full_jid and user_of(session)
  if directory.remove(session) and user then
    sessions.update_top(user)
    if not next(user.sessions) then
      require "couplet.roster".release(session.username .. "@" .. session.host, user.roster)
    end
  end
  if session.full_jid and host then
    host.events.fire_event("resource-unbind", { session = session, error = reason })
  end
  session.log("info", "session of %s ended: %s", session.full_jid or session.ip, reason or "closed")
  unbound[session] = nil
  client_session.retire(session)
end
client_session.destroy = sessions.destroy_session

-- `to` was without a connection (hibernating) or is to get another; it goes on with that of `from`, which is over.
function sessions.update_session(to, from)
  local replaced_net = to.net
  local replaced_conn = replaced_net and to.conn
  if replaced_net then
    replaced_net:session(nil)
    replaced_net:close()
  end
  to.net, to.conn, to.queue = from.net, nil, from.queue
  if to.sm then to.net:track(to.sm.queue, true) end          -- stanzas wait until the peer has been told
  to.ip, to.secure, to.encrypted, to.compressed = from.ip, from.secure, from.encrypted, from.compressed
  to.since, to.conntime, to.streamid, to.notopen = from.since, from.conntime, from.streamid, from.notopen
  to.filters = from.filters
  to.role = from.role                    -- what this login may, not what the one before might
  to.closing = false
  to.net:session(to)
  from.net = nil
  prosody.events.fire_event("c2s-session-updated", { session = to, from_session = from, replaced_conn = replaced_conn })
  sessions.retire_session(from)
end

-- To many -----------------------------------------------------------------------------------------------------------------------

local multicast = core.net.multicast

-- One by one: output that somebody wants to see or change on its way.
local function send_own(session, stanza, to)
  if to then
    stanza = st.clone(stanza)
    stanza.attr.to = to
  end
  return send(session, stanza)
end

local plain = client_session.plain

-- Gathered: connections that get it serialised once, and sessions that get one of their own. The lists are used again.
local spare

function sessions.many()
  local many = spare or { n = 0, conns = {}, tos = {}, own = nil }
  spare = nil
  return many
end

function sessions.add(many, session, to)
  if plain(session) then
    local n = many.n + 1
    many.n, many.conns[n], many.tos[n] = n, session.net, to or false
  else
    local own = many.own or {}
    many.own, own[#own + 1] = own, { session, to }
  end
end

function sessions.send_to(many, stanza)
  local sent, n, conns, tos = 0, many.n, many.conns, many.tos
  for _, one in ipairs(many.own or {}) do
    if send_own(one[1], stanza, one[2]) then sent = sent + 1 end
  end
  if n > 0 then multicast(conns, stanza, tos) end
  if n <= SPARE_MAX then
    for i = 1, n do conns[i], tos[i] = nil, nil end
    many.n, many.own, spare = 0, nil, many
  end
  return sent + n
end

function sessions.multicast(list, stanza, tos)
  local n = #list
  if n == 0 then return 0 end
  if n == 1 then return send_own(list[1], stanza, tos and tos[1]) and 1 or 0 end
  local conns, conn_tos, sent = {}, tos and {} or nil, 0
  for i = 1, n do
    local session = list[i]
    if plain(session) then
      local k = #conns + 1
      conns[k] = session.net
      if tos then conn_tos[k] = tos[i] or false end
    elseif send_own(session, stanza, tos and tos[i]) then
      sent = sent + 1
    end
  end
  if #conns > 0 then
    multicast(conns, stanza, conn_tos)
    sent = sent + #conns
  end
  return sent
end

local function send_where(field)
  return function(username, host, stanza)
    local user = directory.user(username .. "@" .. host)
    if not user then return 0 end
    local list = {}
    for _, session in pairs(user.sessions) do
      if session[field] then list[#list + 1] = session end
    end
    return sessions.multicast(list, stanza)
  end
end

sessions.send_to_available_resources = send_where "presence"
sessions.send_to_interested_resources = send_where "interested"

return sessions
