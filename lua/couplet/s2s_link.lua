-- SPDX-License-Identifier: MIT
-- s2s_link.lua: links: the way from a domain of ours to another server's domain: what carries it, what waits for it, when to
-- try again after failure.
--
-- A link is { here, remote, session, open, queue, shared, timer }. It is carried by one session: usually one that was made for
-- it; one made for another pair of domains (shared: XEP-0220 §2.6); or one the other side has made, if it may be used both
-- ways (XEP-0288). Until it is open, that is, the other side knows us as `here`, stanzas wait in its queue; later nothing
-- waits, and order is kept because a link has one carrier at a time. hosts[here].s2sout[remote] shows the carrier.
--
--   link.get(here, remote) -> link | nil              make(here, remote, session) -> link
--   link.of(session) -> array                         the links a session carries
--   link.move(l, session)                             another session will carry it; not open any more
--   link.opened(l)                                    what waits is sent
--   link.drop(l, bounce | nil)                        is no more; what waits goes back with that { condition, text, type, told };
--     type: if not the condition's own; told: the log knows why
--   link.enqueue(l, stanza) -> bool                   false: no room
--   link.multicast(here, remote, stanza, tos) -> bool to all { to } there, serialised once, if the link is open; else route each
--   link.offer(here, remote, session)  link.offered(here, remote) -> session | nil      what could carry one at once
--   link.take_back(here, remote, session)             it could not any more
--   link.takes(session) -> bool                       is it not about to end?
--   link.withdraw(session)                            the same for all it offers
--   link.bounce(queue, condition, text, type?)             errors to the senders, a few at a time
--   link.strand(session, l)                           the carrier ends, and something waits for the next one: the link is no more
--   link.send_again(session)                          what waited so goes out, behind what was not acknowledged
--   link.refuse(stanza, condition, text, type?)             one error, from the domain that cannot be reached
--   link.failed(here, remote, bounce) -> seconds to wait
--   link.backing_off(here, remote) -> condition, text, type | nil      the last attempt failed, and it is too early for another
--   link.forget_failures(here, remote)                the next attempt may be made at once; without names: to everybody
--
-- A stanza is answered with an error at most once, because it leaves the queue before.

local clock = require "couplet.clock"
local config = require "couplet.config"
local hosts = require "couplet.hosts"
local prosody = require "couplet.prosody"
local recent = require "couplet.recent"
local router = require "couplet.router"
local server_session = require "couplet.server_session"
local st = require "couplet.stanza"
local task = require "couplet.task"

local link = {}

local SLICE = 50                       -- stanzas bounced before others have their turn
local RETRY_MIN, RETRY_MAX = 2, 600    -- seconds before another attempt, doubled with each failure
local QUEUE_STANZAS, QUEUE_BYTES, ALL_BYTES = 10000, 8 * 1024 * 1024, 64 * 1024 * 1024

-- Links -----------------------------------------------------------------------------------------------------------------

local links = {}                       -- here -> remote -> link
local offers = {}                      -- "here remote" -> session

local function pair(here, remote) return here .. " " .. remote end

function link.get(here, remote)
  local all = links[here]
  return all and all[remote]
end

local function show(here, remote, session, instead)
  local home = hosts.get(here)
  if home and (instead == nil or home.s2sout[remote] == instead) then home.s2sout[remote] = session end
end

local function carry(l, session)
  l.session, l.open, l.proving = session, false, nil
  session.links = session.links or {}
  session.links[l] = true
  show(l.here, l.remote, session)
end

function link.make(here, remote, session)
  local l = { here = here, remote = remote }
  links[here] = links[here] or {}
  links[here][remote] = l
  carry(l, session)
  return l
end

function link.of(session)
  local list = {}
  for l in pairs(session.links or {}) do list[#list + 1] = l end
  return list
end

function link.move(l, session)
  local before = l.session
  if before.links then before.links[l] = nil end
  before.sendq = nil
  carry(l, session)
end

function link.multicast(here, remote, stanza, tos)
  local l = link.get(here, remote)
  return l and l.open and not l.queue and not l.session.parting and server_session.multicast(l.session, stanza, tos) or false
end

-- May it carry more?
function link.takes(session) return not (session.destroyed or session.closing or session.leaving or session.parting) end

function link.offer(here, remote, session) offers[pair(here, remote)] = session end

function link.offered(here, remote)
  local session = offers[pair(here, remote)]
  return session and link.takes(session) and session or nil
end

function link.take_back(here, remote, session)
  if offers[pair(here, remote)] == session then offers[pair(here, remote)] = nil end
end

-- What could not be carried by that session any more.
function link.withdraw(session)
  for remote, known in pairs(session.hosts) do
    for here in pairs(known.locals or {}) do link.take_back(here, remote, session) end
  end
end

-- Back-off --------------------------------------------------------------------------------------------------------------

local FAILURES_KEPT = 10000

local failure_of, note_failure = recent.new(FAILURES_KEPT)      -- "here remote" -> { count, free_at, condition, text }

function link.failed(here, remote, bounce)
  local key = pair(here, remote)
  local last = failure_of(key)
  local count = last and clock.mono() - last.free_at < RETRY_MAX and last.count + 1 or 1
  local wait = math.min(RETRY_MIN * 2.0 ^ (count - 1), RETRY_MAX) * (0.5 + math.random())
  note_failure(key, { count = count, free_at = clock.mono() + wait, condition = bounce.condition or "remote-server-timeout",
    text = bounce.text, type = bounce.type })
  return wait
end

function link.backing_off(here, remote)
  local last = failure_of(pair(here, remote))
  if last and clock.mono() < last.free_at then return last.condition, last.text, last.type end
end

function link.forget_failures(here, remote)
  if not here then
    failure_of, note_failure = recent.new(FAILURES_KEPT)
  else
    note_failure(pair(here, remote), nil)
  end
end

-- The queue -------------------------------------------------------------------------------------------------------------

local all_bytes = 0

function link.enqueue(l, stanza)
  local queue = l.queue
  if not queue then
    queue = { first = 1, last = 0, bytes = 0 }
    l.queue = queue
    if not l.shared then l.session.sendq = queue end
  end
  local size = stanza:size()
  local most = config.get(l.here, "s2s_send_queue_size") or QUEUE_STANZAS
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

local function put_back(queue, stanza)
  local size = stanza:size()
  queue.first = queue.first - 1
  queue[queue.first] = { stanza, size }
  queue.bytes, all_bytes = queue.bytes + size, all_bytes + size
end

function link.opened(l)
  local session, queue = l.session, l.queue
  l.open, l.proving = true, nil
  if l.timer then l.timer:stop() end
  while queue and l.session == session and not session.destroyed do
    local stanza = take(queue)
    if not stanza then
      l.queue, session.sendq = nil, nil
      break
    end
    if session.sends2s(stanza) == false then return put_back(queue, stanza) end      -- the connection is gone: its end gives back
  end
end

local types = { ["remote-server-timeout"] = "wait", ["resource-constraint"] = "wait" }

-- The answer comes from the domain that cannot be reached.
function link.refuse(stanza, condition, text, kind)
  local here = hosts.get((router.address(stanza.attr.from) or {}).host)
  if not here then return end
  local origin = { host = here.host, type = "local", send = function(reply) router.core_post_stanza(here, reply, false) end }
  return router.reply_error(origin, stanza, kind or types[condition] or "cancel", condition, text)
end

-- When Lua begins to sweep it frees without a pause all that is newer than the newest object that lives: here is one.
local newest                           -- luacheck: ignore

function link.bounce(queue, condition, text, kind)
  task.spawn(function()
    local n = 0
    while true do
      local stanza = take(queue)
      if not stanza then break end
      local ok, err = xpcall(link.refuse, debug.traceback, stanza, condition, text, kind)
      if not ok then prosody.log("error", "bounce: %s", err) end
      n = n + 1
      if n % SLICE == 0 then
        newest = {}
        task.sleep(0.001)
      end
    end
  end)
end

-- What waits goes back: the link stays.
function link.give_back(l, reason)
  local queue = l.queue
  if not queue then return 0 end
  l.queue, l.session.sendq = nil, nil
  local condition, text = reason and reason.condition or "remote-server-timeout", reason and reason.text
  local n = queue.last - queue.first + 1
  if n > 0 then
    l.session.log("info", "%d %s to %s%s", n, n == 1 and "stanza goes back" or "stanzas go back", l.remote,
      reason and reason.told and "" or ": " .. (text or condition))
  end
  link.bounce(queue, condition, text, reason and reason.type)
  return n
end

function link.strand(session, l)
  session.stranded = session.stranded or {}
  table.insert(session.stranded, l)
  local queue = l.queue
  l.queue = nil
  link.drop(l)
  l.queue = queue
end

function link.send_again(session)
  for _, l in ipairs(session.stranded or {}) do
    local home = hosts.get(l.here)
    while true do
      local stanza = take(l.queue)
      if not stanza then break end
      if home then
        home.events.fire_event("route/remote", { origin = home, stanza = stanza, from_host = l.here, to_host = l.remote })
      end
    end
  end
  session.stranded = nil
end

function link.drop(l, reason)
  if links[l.here] and links[l.here][l.remote] == l then
    links[l.here][l.remote] = nil
    if not next(links[l.here]) then links[l.here] = nil end
  end
  if l.session.links then l.session.links[l] = nil end
  if l.timer then l.timer:stop() end
  show(l.here, l.remote, nil, l.session)
  link.give_back(l, reason)
end

return link
