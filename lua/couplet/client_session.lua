-- SPDX-License-Identifier: MIT
-- client_session.lua: the session of a client on a connection of couplet.core.net: what it can do (PLUGIN-API §5).
--
--   client_session.new(native | nil, type) -> session
--   client_session.send(session, x)      what session.send(x) does, without making that function first
--   client_session.plain(session)        may its output be written past Lua? (no filters, send not replaced)
--   client_session.flush(session) -> bool          waits until what was sent has left; false: the session is over
--   client_session.flushed(session, left)          says so (mod_c2s: only clients' sessions can be waited for)
--   client_session.kind(methods) -> new(native, type)      sessions of others who speak much like clients: methods and
--                                        constants that differ; base_type is needed, and over(session, text): it has been closed
--
-- An idle session is one small table. What plugins call as session.send, .rawsend, .log, .filter and session.conn is made
-- when first asked for; a plugin may put its own in its place. The core's connection is session.net.

local conn = require "couplet.conn"
local filters = require "couplet.filters"
local logger = require "couplet.logger"
local st = require "couplet.stanza"
local stream_error = require "couplet.stream_error"
local task = require "couplet.task"
local id = require "couplet.util.id"

local client_session = {}
local class = {}                       -- methods and constants all sessions share

local CLOSE_TIMEOUT = 5                -- seconds the peer has for its own </stream:stream>

class.base_type = "c2s"

local function error_text(reason)
  local xml, text, condition = stream_error(reason)
  return xml, text or condition
end

-- Sending -------------------------------------------------------------------------------------------------------------

-- There is no connection, or it is broken and nobody has noticed yet: stream management keeps it for the next one.
local function keep(session, x)
  local link = rawget(session, "sm")
  if not link or session.closing or not link.queue:add(x) then return false end
  if link.on_kept then link:on_kept(x) end
  return true
end

local function rawsend(session, bytes)
  local net = session.net
  if not net then return false end
  local all = session.filters
  if all and all["bytes/out"] then
    bytes = filters.run(session, "bytes/out", tostring(bytes))
    if bytes == nil then return true end
  end
  return net:send(bytes)
end

local function send(session, x)
  local net = session.net
  local all = session.filters
  if not all then return net and net:send(x) or keep(session, x) end
  if all["stanzas/out"] and type(x) ~= "string" then
    x = filters.run(session, "stanzas/out", x)
    if x == nil then return true end
  end
  return rawsend(session, x) or keep(session, x)
end

function client_session.send(session, x)
  local own = rawget(session, "send")
  if own and own ~= session.own_send then return own(x) end
  return send(session, x)
end

function client_session.plain(session)
  if not session.net or session.filters or session.closing then return false end
  local fn = rawget(session, "send")
  return not fn or fn == session.own_send
end

-- What is a lot goes out in pieces, with this between them: a connection owes no more than max_send_buffer.
-- With stream management it has left when the client has acknowledged it, on this connection or a later one.
function client_session.flush(session)
  local link = session.sm
  if link then return link:delivered() end
  return client_session.drain(session)
end

-- As flush, but never for acknowledgements (XEP-0198): those do not come while the handler of the session's own stanza waits.
function client_session.drain(session)
  local net = session.net
  if not net or not net:connected() then return false end
  if not net:owes() then return true end
  return task.await(function(done)
    local before = rawget(session, "flushing")
    session.flushing = before and function(left)
      before(left)
      done(left)
    end or done
  end)
end

function client_session.flushed(session, left)
  local waits = rawget(session, "flushing")
  if not waits then return end
  session.flushing = nil
  waits(left)
end

-- Made when asked for ---------------------------------------------------------------------------------------------------

local made = {
  -- under a key of its own too, so that a replacement can be told from it
  send = function(session)
    local fn = function(x) return send(session, x) end
    session.send, session.own_send = fn, fn
    return fn
  end,
  rawsend = function(session)
    local fn = function(bytes) return rawsend(session, bytes) end
    session.rawsend = fn
    return fn
  end,
  filter = function(session)
    local fn = filters.runner(session)
    session.filter = fn
    return fn
  end,
  log = function(session)
    local fn = logger.init(session.id)
    session.log = fn
    return fn
  end,
  conn = function(session)
    local net = session.net
    if not net then return nil end
    local wrapped = conn.wrap(net)
    session.conn = wrapped
    return wrapped
  end,
  stream = function(session)               -- plugins look for it to ask whether there is one
    local object = { notopen = session.notopen, session = session, set_session = function() end, reset = function() end }
    session.stream = object
    return object
  end,
}

-- What plugins know stream management by (mod_smacks), as it is now.
local function of_link(get)
  return function(session)
    local link = rawget(session, "sm")
    if link then return get(link) end
  end
end
made.handled_stanza_count = of_link(function(link) return link:h() end)
made.last_acknowledged_stanza = of_link(function(link) return link.queue:acked() end)
made.last_requested_h = of_link(function(link) return link.queue:sent() end)
made.outgoing_stanza_queue = of_link(function(link) return link:stanzas() end)

local function lazily(session, key)
  local make = made[key]
  if not make then return nil end
  return make(session)
end

local function show(session)
  return ("%s session %s"):format(rawget(session, "type"), rawget(session, "full_jid") or rawget(session, "id") or "")
end

local function metatable_of(methods)
  return { __name = "session", __tostring = show, __index = function(session, key)
    local value = methods[key]
    if value ~= nil then return value end
    return lazily(session, key)
  end }
end

local metatable = metatable_of(class)

-- What is left of a session when it is over: sending does nothing.
local function nothing() return false end
local remains = { destroyed = true, send = nothing, rawsend = nothing, close = nothing }
function remains.filter(_, data) return data end
local remains_metatable = {
  __index = function(session, key)
    local value = remains[key]
    if value == nil and key == "log" then value = made.log(session) end
    return value
  end,
  __name = "session",
}

local function new(net, kind, base, meta)
  return setmetatable({
    type = kind, id = net and ("%s%x"):format(base, net:id()) or base .. id.short(), net = net, ip = net and net:ip(),
    conntime = os.time(), notopen = true,
    destroyed = false, closing = false, filters = false, sm = false,     -- asked for each stanza: found without a search
  }, meta)
end

function client_session.new(net, kind) return new(net, kind, "c2s", metatable) end

function client_session.kind(methods)
  for key, value in pairs(class) do
    if methods[key] == nil then methods[key] = value end
  end
  local meta = metatable_of(methods)
  return function(net, kind) return new(net, kind, methods.base_type, meta) end
end

-- Turns a session into one that is over; who still holds it may read what it was.
function client_session.retire(session)
  local base = session.base_type
  for _, key in ipairs { "net", "conn", "own_send", "send", "rawsend", "filter", "filters", "close", "stream", "sasl_handler",
    "roster", "presence", "directed", "queue", "sm" } do
    session[key] = nil
  end
  session.type, session.base_type = base .. "_destroyed", base
  session.destroyed = true
  setmetatable(session, remains_metatable)
  client_session.flushed(session, false)
  return session
end

-- The stream ----------------------------------------------------------------------------------------------------------------

local escape = st.xml_escape

-- Our stream header (RFC 6120 §4.7). `from` is the host it claims to be, `to` the client if it told its name.
function class:open_stream(from, to)
  from = from or self.host
  self.streamid = self.streamid or id.medium()
  self.notopen = nil
  return self.rawsend(("<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"
    .. " id='%s'%s%s version='1.0' xml:lang='en'>"):format(
      self.streamid, from and (" from='%s'"):format(escape(from)) or "", to and (" to='%s'"):format(escape(to)) or ""))
end

-- A new stream is to come on the same connection (after SASL or compression).
function class:reset_stream()
  self.notopen = true
  self.streamid = nil
  self.net:restart()
end

-- Ends the stream: nil cleanly, else with an error (a condition, { condition, text, extra }, an error object, or a stanza, which
-- is the content of the error). The session is over when this returns; the connection lives on until the peer has closed its
-- side too.
function class:close(reason)
  local net = self.net
  if self.closing then return end
  if not net then                          -- without a connection, but alive (stream management)
    if not self.hibernating and not self.resuming then return end
    self.closing = true
    return self:over(reason and select(2, error_text(reason)))
  end
  self.closing = true
  local text
  if self.notopen and (reason or not self.host) then self:open_stream(self.host or client_session.default_host()) end
  if self.sm and self.sm.received > 0 then self.sm:tell() end      -- that nobody sends again what is handled (XEP-0198 §4)
  if reason then
    local xml
    xml, text = error_text(reason)
    self.log("debug", "closing the stream: %s", text)
    self.rawsend(xml)
  end
  if not self.notopen then self.rawsend("</stream:stream>") end
  local polite = not reason and not self.peer_ended and not self.notopen
  net:session(nil)
  if polite then
    net:window(1024)                       -- what still comes is taken off unseen, up to the peer's end tag;
    net:deadline(CLOSE_TIMEOUT)            -- then the listener closes the connection
  else
    net:close(CLOSE_TIMEOUT)
  end
  client_session.flushed(self, false)      -- whoever waits goes on at once: behind the end tag nothing may be sent
  self:over(text)
end

function class:over(text) return client_session.destroy(self, text) end

-- Set by couplet.sessions and mod_c2s: who is told that a session is over, and which host speaks before one is known.
function client_session.destroy() end
function client_session.default_host() end

return client_session
