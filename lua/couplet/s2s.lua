-- SPDX-License-Identifier: MIT
-- s2s.lua: the life of sessions with other servers (core.s2smanager): made, proved, their queues, back-off, the end.
--
--   new_incoming(native) -> session                     type s2sin_unauthed
--   new_outgoing(from_host, to_host) -> session         type s2sout_unauthed; found under hosts[from_host].s2sout[to_host]
--   make_authenticated(session, remote?, mechanism?, here?) -> bool      the remote domain is proved, for our domain `here`
--   authorized(session, remote, here) -> bool           may stanzas of that pair come in on this stream?
--   destroy_session(session, reason?, bounce?)          bounce: { condition, text } for what waits in the queue
--   enqueue(session, stanza) -> bool                    waits until the session is authenticated; false: no room
--   bounce(list, condition, text)                       errors to the senders, a few at a time
--   backing_off(from_host, to_host) -> condition, text | nil      the last attempt failed, and it is too early for another
--   needs_tls(host) -> bool                             option s2s_require_encryption
--   each() -> iterator over all sessions                incoming_s2s: set of the incoming ones
--   refuse(stanza, condition, text)                     one error, from the domain that cannot be reached
--
-- mod_s2s adds what needs the network:
--   outgoing(from_host, to_host) -> session | nil, condition, text       the one there is, or a new one
--   check_certificate(session, remote) -> bool          is what the other side shows good enough?
--   stream_ready(session)                               TLS is as it should be: prove us, ask dialback's questions
--
-- Outgoing stanzas wait in order in session.sendq until the session is authenticated; then nothing waits any more. A stanza is
-- answered with an error at most once, because it leaves the queue before.

local clock = require "couplet.clock"
local config = require "couplet.config"
local hosts = require "couplet.hosts"
local prosody = require "couplet.prosody"
local recent = require "couplet.recent"
local router = require "couplet.router"
local server_session = require "couplet.server_session"
local st = require "couplet.stanza"
local task = require "couplet.task"

local s2s = { incoming_s2s = prosody.incoming_s2s }

local SLICE = 50                       -- stanzas bounced before others have their turn
local RETRY_MIN, RETRY_MAX = 2, 600    -- seconds before another attempt, doubled with each failure
local QUEUE_STANZAS, QUEUE_BYTES, ALL_BYTES = 10000, 8 * 1024 * 1024, 64 * 1024 * 1024

local function bus_of(session)
  local home = session.host and hosts.get(session.host)
  return home and home.events or prosody.events
end
s2s.bus_of = bus_of

local function fire(session, event, data)
  data = data or {}
  data.session = session
  local fire_event = bus_of(session).fire_event
  fire_event("s2s-" .. event, data)
  return fire_event(session.base_type .. "-" .. event, data)
end

-- Making ----------------------------------------------------------------------------------------------------------------

function s2s.new_incoming(net)
  local session = server_session.new("incoming", net)
  s2s.incoming_s2s[session] = true
  fire(session, "created")
  return session
end

function s2s.new_outgoing(from_host, to_host)
  local session = server_session.new("outgoing")
  session.from_host, session.to_host, session.host = from_host, to_host, from_host
  session.hosts[to_host] = { authed = false }
  hosts.get(from_host).s2sout[to_host] = session
  fire(session, "created")
  return session
end

function s2s.each()
  local list = {}
  for session in pairs(s2s.incoming_s2s) do list[#list + 1] = session end
  for _, host in hosts.each() do
    for _, session in pairs(host.s2sout) do list[#list + 1] = session end
  end
  local i = 0
  return function()
    i = i + 1
    return list[i]
  end
end

-- The configuration of a host, as files from Prosody say it.
function s2s.needs_tls(host)
  local needed = config.get(host, "s2s_require_encryption")
  if needed == nil then needed = config.get(host, "require_encryption") end
  return needed ~= false
end

-- Back-off --------------------------------------------------------------------------------------------------------------

local failure_of, note_failure = recent.new(10000)      -- "from to" -> { count, free_at, condition, text }

local function pair(from_host, to_host) return from_host .. " " .. to_host end

local function failed(from_host, to_host, condition, text)
  local key = pair(from_host, to_host)
  local last = failure_of(key)
  local count = last and clock.mono() - last.free_at < RETRY_MAX and last.count + 1 or 1
  local wait = math.min(RETRY_MIN * 2.0 ^ (count - 1), RETRY_MAX) * (0.5 + math.random())
  note_failure(key, { count = count, free_at = clock.mono() + wait, condition = condition, text = text })
  return wait
end

function s2s.backing_off(from_host, to_host)
  local last = failure_of(pair(from_host, to_host))
  if last and clock.mono() < last.free_at then return last.condition, last.text end
end

function s2s.forget_failures(from_host, to_host)
  note_failure(pair(from_host, to_host), nil)
end

-- The queue -------------------------------------------------------------------------------------------------------------

local all_bytes = 0

function s2s.enqueue(session, stanza)
  local queue = session.sendq
  if not queue then
    queue = { first = 1, last = 0, bytes = 0 }
    session.sendq = queue
  end
  local size = stanza:size()
  local most = config.get(session.host, "s2s_send_queue_size") or QUEUE_STANZAS
  if queue.last - queue.first + 1 >= most then return false end
  if queue.bytes + size > QUEUE_BYTES or all_bytes + size > ALL_BYTES then return false end
  queue.last = queue.last + 1
  queue[queue.last] = { st.clone(stanza), size }
  queue.bytes, all_bytes = queue.bytes + size, all_bytes + size
  return true
end

-- The next stanza that waits, taken off.
local function take(queue)
  local entry = queue[queue.first]
  if not entry then return nil end
  queue[queue.first] = nil
  queue.first = queue.first + 1
  queue.bytes, all_bytes = queue.bytes - entry[2], all_bytes - entry[2]
  return entry[1]
end

local types = { ["remote-server-timeout"] = "wait", ["resource-constraint"] = "wait" }

-- The answer comes from the domain that cannot be reached.
function s2s.refuse(stanza, condition, text)
  local here = hosts.get((router.address(stanza.attr.from) or {}).host)
  if not here then return end
  local origin = { host = here.host, type = "local", send = function(reply) router.core_post_stanza(here, reply, false) end }
  return router.reply_error(origin, stanza, types[condition] or "cancel", condition, text)
end

function s2s.bounce(queue, condition, text)
  task.spawn(function()
    local n = 0
    while true do
      local stanza = take(queue)
      if not stanza then break end
      local ok, err = xpcall(s2s.refuse, debug.traceback, stanza, condition, text)
      if not ok then prosody.log("error", "bounce: %s", err) end
      n = n + 1
      if n % SLICE == 0 then task.sleep(0.001) end
    end
  end)
end

local function bounce_sendq(session, reason)
  local queue = session.sendq
  if not queue then return 0 end
  session.sendq = nil
  if type(reason) ~= "table" then reason = { text = reason } end
  local condition, text = reason.condition or "remote-server-timeout", reason.text
  local n = queue.last - queue.first + 1
  if n > 0 then session.log("info", "%d stanzas to %s go back: %s", n, session.to_host, text or condition) end
  s2s.bounce(queue, condition, text)
  return n
end
server_session.methods.bounce_sendq = bounce_sendq

-- Proved ----------------------------------------------------------------------------------------------------------------

function s2s.authorized(session, remote, here)
  local known = session.hosts[remote]
  return known ~= nil and known.authed == true and (known.locals == nil or known.locals[here] == true)
end

local function established(session)
  session.log("info", "%s%s%s, %s, proved by %s", session.direction == "incoming" and "from " or "to ",
    session.direction == "incoming" and session.from_host or session.to_host,
    session.direction == "incoming" and " for " .. session.to_host or " for " .. session.from_host,
    session.secure and "TLS" or "in the clear", session.mechanism or "?")
  fire(session, "connected")
  fire(session, "established")
  local queue = session.sendq
  while queue and not session.destroyed do
    local stanza = take(queue)
    if not stanza then break end
    session.sends2s(stanza)
  end
  if not session.destroyed then session.sendq = nil end
end

function s2s.make_authenticated(session, remote, mechanism, here)
  if session.destroyed or session.closing then return false end
  local incoming = session.direction == "incoming"
  remote = remote or (incoming and session.from_host or session.to_host)
  here = here or (incoming and session.to_host or session.from_host)
  if not remote or not here then return false end
  local home = hosts.get(here)
  if not home then return false end
  local verdict = home.events.fire_event("s2s-authenticated",
    { session = session, host = remote, mechanism = mechanism, here = here })
  if session.destroyed or session.closing then return false end
  if verdict == false then
    session.log("info", "%s is refused here", remote)
    return false
  end
  local known = session.hosts[remote] or {}
  session.hosts[remote] = known
  known.authed = true
  known.locals = known.locals or {}
  known.locals[here] = true
  s2s.forget_failures(here, remote)
  if session.type ~= session.base_type .. "_unauthed" then return true end
  session.mechanism, session.authenticated_remote = mechanism, true
  if incoming then session.from_host, session.to_host, session.host = remote, here, here end
  session.type = session.base_type
  established(session)
  return not session.destroyed
end

-- The end ---------------------------------------------------------------------------------------------------------------

function s2s.destroy_session(session, reason, bounce)
  if session.destroyed or session.destroying then return end
  session.destroying = true
  if session.race then session.race:stop() end
  if session.timer then session.timer:stop() end
  s2s.incoming_s2s[session] = nil
  local home = session.direction == "outgoing" and hosts.get(session.from_host)
  if home and home.s2sout[session.to_host] == session then home.s2sout[session.to_host] = nil end
  if session.type == "s2sout_unauthed" then
    bounce = bounce or { condition = "remote-server-timeout", text = reason }
    if session.sendq then                      -- else it was there for dialback only
      local wait = failed(session.from_host, session.to_host, bounce.condition or "remote-server-timeout", bounce.text)
      session.log("info", "no way from %s to %s: %s; the next attempt in %.0f s", session.from_host, session.to_host,
        bounce.text or reason or "closed", wait)
    end
  else
    session.log("info", "session %s %s ended: %s", session.direction == "incoming" and "from" or "to",
      session.direction == "incoming" and (session.from_host or session.ip) or session.to_host, reason or "closed")
  end
  bounce_sendq(session, bounce or reason)
  fire(session, "destroyed", { reason = reason, bounce = bounce })
  server_session.retire(session)
end
server_session.destroy = s2s.destroy_session

return s2s
