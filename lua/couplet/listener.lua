-- SPDX-License-Identifier: MIT
-- listener.lua: what happens on a connection, brought to its session in the order it happened, waits included.
--
--   listener.new(kind) -> handlers for core.net.on      kind: what differs; each function runs in the session's own queue:
--     opened(conn) -> session | nil                     its session, already known to the connection; here no queue yet
--     header(session, header, xmlns)                    the other side's stream header
--     turn(session)?                                    before each element; may wait
--     element(session, stanza)                          filtered, and complete
--     error(session, condition, text)                   what the reader does not take
--     closed(session, reason)                           the connection is gone
--     idle(session)                                     silence for as long as idle_after said; a task of its own
--     secured(session)?  ended(session)?                TLS is there; the other side has closed its stream (default: so do we)
--     log(level, fmt, …)                                for errors of ours; those of plugins were caught before
--   listener.push(conn, counted, fn, …) -> session | nil      fn(session, a, b) in its turn; counted: it holds a place in the
--                                                       connection's window, which it gives back
--
-- A stanza whose handling fails by an error of ours is answered, and the stream goes on.

local durable = require "couplet.durable"
local filters = require "couplet.filters"
local router = require "couplet.router"
local task = require "couplet.task"

local listener = {}
local explain, xpcall, finish_ticket = debug.traceback, xpcall, durable.finish
local STANZAS = { message = true, presence = true, iq = true }

function listener.push(conn, counted, fn, ...)
  local session = conn:session()
  if session then session.queue:push { session, fn, counted = counted, ... } end
  return session
end
local push = listener.push

-- Is the session over? What still comes is not handled then, nor is what comes behind it before the stream is resumed
-- (couplet.sm): else the other side would send again what follows a gap.
local function over(session)
  if session.destroyed then return true end
  local link = session.sm
  if not session.closing then return link and link.broken end
  if link then link.broken = true end
  return true
end

-- One queue's worth of steps: a stanza with its session; or, without one, what = { session, function, arguments }.
local function steps(kind)
  local element, turn = kind.element, kind.turn

  local function filtered(session, stanza)
    stanza = filters.run(session, "stanzas/in", stanza)
    if stanza == nil then return end
    return element(session, stanza)
  end

  local function finish(session, native, ok, err)
    if not ok then kind.log("error", "%s: %s", session.full_jid or session.host or session.ip, err) end
    if native then native:done() end
    return ok
  end

  return function(session, stanza)
    if stanza then
      if over(session) then return end
      if turn then
        turn(session)
        if over(session) then return end
      end
      local native, all, link = session.net, session.filters, session.sm
      local fn = all and all["stanzas/in"] and filtered or element
      local ticket = link and link:begin(stanza)
      local ok, err = xpcall(fn, explain, session, stanza)
      if not ok and not session.destroyed and STANZAS[stanza.name] then
        pcall(router.reply_error, session, stanza, "wait", "internal-server-error")
      end
      if ticket then
        finish_ticket(ticket)
        link:room()
      end
      finish(session, native, ok, err)
    else
      local what = session
      session = what[1]
      if session.destroyed then return end
      finish(session, what.counted and session.net, xpcall(what[2], explain, session, what[3], what[4]))
    end
  end
end

local function end_too(session)
  session.peer_ended = true
  session:close()
end

function listener.new(kind)
  local step, secured, idle = steps(kind), kind.secured, kind.idle
  local header, ended, trouble, closed = kind.header, kind.ended or end_too, kind.error, kind.closed
  local on = { bytes = filters.bytes_in }

  local function now_secure(session)
    session.secure, session.encrypted = true, true
    if secured then secured(session) end
  end

  function on.opened(conn)
    local session = kind.opened(conn)
    if not session then return end
    session.queue = task.queue(step)
    if conn:tls() then now_secure(session) end
  end

  function on.secured(conn)
    local session = conn:session()
    if session then now_secure(session) end
  end

  function on.element(conn, stanza)
    local session = conn:session()
    if session then return session.queue:push(session, stanza) end
    conn:done()                                -- our stream is closed: nobody listens
  end

  function on.stream(conn, element, xmlns)
    if not push(conn, true, header, element, xmlns) then conn:done() end
  end

  function on.ended(conn)
    if not push(conn, true, ended) then conn:close() end       -- the answer to our own end
  end

  function on.error(conn, condition, text)
    if not push(conn, true, trouble, condition, text) then conn:close() end
  end

  function on.closed(conn, reason) push(conn, false, closed, reason) end

  function on.idle(conn)
    local session = conn:session()
    if not session then return conn:close() end
    task.spawn(idle, session)
  end

  return on
end

-- The queue of a session whose connection is yet to come.
function listener.queue(kind) return task.queue(steps(kind)) end

return listener
