-- SPDX-License-Identifier: MIT
-- server_session.lua: the session of another server: what it can do (PLUGIN-API §5). couplet.s2s knows what becomes of it.
--
--   server_session.new(direction, net | nil) -> session          direction "incoming" or "outgoing"; net: connection of the core
--   server_session.attach(session, net)                           an outgoing session has its connection
--   server_session.multicast(session, stanza, tos) -> bool        to all { to } of that server, serialised once; false: send each
--   server_session.retire(session)                                over; who still holds it may read what it was
--
-- session.sends2s(x) writes to the connection. session.send(x) is for answers to a stanza that came in on it: they go their
-- own way back, for the stream they came on has one direction.

local conn = require "couplet.conn"
local core = require "couplet.core"
local filters = require "couplet.filters"
local hosts = require "couplet.hosts"
local id = require "couplet.util.id"
local logger = require "couplet.logger"
local st = require "couplet.stanza"
local stream_error = require "couplet.stream_error"
local task = require "couplet.task"

local class = {}                       -- methods all sessions share
local server_session = { methods = class }

local CLOSE_TIMEOUT = 5                -- seconds the peer has for its own </stream:stream>
local PART_TIMEOUT = 2                 -- seconds it has for its last acknowledgement

local attr_of = core.stanza.attr
local escape = st.xml_escape

-- Sending ---------------------------------------------------------------------------------------------------------------

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

-- The connection is broken, and nobody has noticed yet: stream management keeps it for the next one.
local function keep(session, x)
  local link = session.sm
  return link and not session.closing and link.queue:add(x, nil, "jabber:server") or false
end

local function sends2s(session, x)
  if session.leaving then return false end
  if not session.net then return keep(session, x) end
  if st.is_stanza(x) then
    if attr_of(x, "xmlns") == "jabber:client" then         -- what a plugin wrote out; here it is the stream's own
      x = st.clone(x)
      x.attr.xmlns = nil
    end
    local all = session.filters
    if all and all["stanzas/out"] then
      x = filters.run(session, "stanzas/out", x)
      if x == nil then return true end
    end
  end
  session.active = os.time()
  return rawsend(session, x) or keep(session, x)
end

function server_session.multicast(session, stanza, tos)
  local net = session.net
  if not net or session.leaving or session.filters or session.sends2s ~= session.own_sends2s
    or attr_of(stanza, "xmlns") == "jabber:client" then return false end
  local conns = {}
  for i = 1, #tos do conns[i] = net end
  if core.net.multicast(conns, stanza, tos) == 0 then return false end
  session.active = os.time()
  return true
end

local ROUTED = { message = true, presence = true, iq = true }

local function answer(session, x)
  if not st.is_stanza(x) or not ROUTED[x.name] or not attr_of(x, "to") then return session.sends2s(x) end
  local router = require "couplet.router"
  return router.core_route_stanza(hosts.get(session.host), x)
end

-- Sessions --------------------------------------------------------------------------------------------------------------

local function index(session, key)
  if key == "conn" then
    local net = rawget(session, "net")
    if not net then return nil end
    local wrapped = conn.wrap(net)
    session.conn = wrapped
    return wrapped
  end
  return class[key]
end

local metatable = { __index = index, __name = "session" }
metatable.__tostring = function(session)
  return ("%s session %s to %s"):format(session.type, tostring(session.from_host), tostring(session.to_host))
end

local function nothing() return false end
local remains = { __name = "session" }
remains.__index = { destroyed = true, send = nothing, sends2s = nothing, rawsend = nothing, close = nothing }
function remains.__index.filter(_, data) return data end

local count = 0

function server_session.new(direction, net)
  local incoming = direction == "incoming"
  count = count + 1
  local session = {
    type = incoming and "s2sin_unauthed" or "s2sout_unauthed", base_type = incoming and "s2sin" or "s2sout",
    direction = direction, id = ("s2s%s%x"):format(incoming and "in" or "out", count), conntime = os.time(), active = os.time(),
    notopen = true, hosts = {}, elements = 0, sm = false,
  }
  session.log = logger.init(session.id)
  session.rawsend = function(bytes) return rawsend(session, bytes) end
  session.sends2s = function(x) return sends2s(session, x) end
  session.own_sends2s = session.sends2s        -- so that a replacement can be told from it
  session.send = function(x) return answer(session, x) end
  session.filter = filters.runner(session)
  setmetatable(session, metatable)
  if net then server_session.attach(session, net) end
  return session
end

function server_session.attach(session, net)
  session.net, session.conn, session.ip = net, nil, net:ip()
  net:session(session)
  filters.initialize(session)
end

function server_session.retire(session)
  for _, key in ipairs { "net", "conn", "send", "sends2s", "own_sends2s", "rawsend", "filter", "filters", "queue", "race",
    "timer", "features" } do
    session[key] = nil
  end
  session.type = session.base_type .. "_destroyed"
  session.destroyed = true
  return setmetatable(session, remains)
end

-- The stream ------------------------------------------------------------------------------------------------------------

-- Our stream header (RFC 6120 §4.7). The side that was called names the stream.
function class:open_stream(from, to)
  if self.direction == "incoming" then self.streamid = self.streamid or id.long() end
  self.header_sent = true
  local function attribute(name, value) return value and (" %s='%s'"):format(name, escape(value)) or "" end
  return self.rawsend("<?xml version='1.0'?><stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams'"
    .. " xmlns:db='jabber:server:dialback'" .. attribute("id", self.direction == "incoming" and self.streamid or nil)
    .. attribute("from", from) .. attribute("to", to) .. " version='1.0' xml:lang='en'>")
end

-- A new stream is to come on the same connection (after SASL).
function class:reset_stream()
  self.notopen, self.header_sent, self.streamid = true, nil, nil
  self.net:restart()
end

local function error_text(reason)
  local xml, text, condition = stream_error(reason)
  if condition and text then text = condition .. ": " .. tostring(text) end
  return xml, text or condition
end

-- The last <a/>, that the other side need not send again what is handled (XEP-0198 §4).
local function tell(session)
  if session.sm and session.sm.received > 0 then session.sm:tell() end
end

-- A clean end with stream management: first what came is settled and what went is acknowledged, else it would go twice. What is
-- to go out meanwhile waits for the next stream.
local function part(session, said, bounce)
  if session.parting then return session.sm:hurry() end
  session.parting = true
  task.spawn(function()
    session.sm:quiet(PART_TIMEOUT)
    session:close(nil, said, bounce, true)
  end)
end

-- We have said all: what the other side has under way is still heard, up to its own end tag (RFC 6120 §4.4). Not with stream
-- management: what we could not acknowledge any more comes again, on the next stream.
local function leave(session, said, bounce)
  session.leaving = said or "closed"
  session.rawsend("</stream:stream>")
  session.net:deadline(CLOSE_TIMEOUT)
  server_session.left(session, said, bounce)
end

-- Ends the stream: reason as for clients; said: what is logged, if not that; bounce: { condition, text } for what waits in
-- the queue; parted: whatever is to be waited for has been.
function class:close(reason, said, bounce, parted)
  if self.closing then return end
  local net, text = self.net, nil
  if net and self.sm and not (reason or parted or self.notopen) and self.sm:open() then return part(self, said, bounce) end
  local hears = not self.sm and (self.type == "s2sin" or self.incoming and self.type == "s2sout")
  if net and hears and not (reason or self.peer_ended or self.notopen or self.leaving) then return leave(self, said, bounce) end
  self.closing = true
  if net then
    if not self.header_sent and (reason or not self.peer_ended) then
      self:open_stream(self.host, self.direction == "incoming" and self.from_host or self.to_host)
    end
    if not self.leaving then tell(self) end
    if reason and not self.leaving then
      local xml
      xml, text = error_text(reason)
      self.rawsend(xml)
    end
    if self.header_sent and not self.leaving then self.rawsend("</stream:stream>") end
    net:session(nil)
    if not reason and not self.peer_ended and not self.notopen and not self.leaving then
      net:window(1024)                     -- what still comes is taken off unseen, up to the peer's end tag
      net:deadline(CLOSE_TIMEOUT)
    else
      net:close(CLOSE_TIMEOUT)
    end
  elseif reason then
    text = select(2, error_text(reason))
  end
  server_session.destroy(self, self.leaving or said or text, bounce)
end

-- Set by couplet.s2s.
function server_session.left() end
function server_session.destroy() end

return server_session
