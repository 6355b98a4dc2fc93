-- SPDX-License-Identifier: MIT
-- component_fixture.lua: components on connections without sockets, for tests of mod_component and what stands on it. To be
-- required before fakehost and any plugin.
--
--   local conn = component.attach(name, secret?)        connected, and the handshake is over
--   component.connect(to, xmlns?) -> conn               its header only; component.handshake(conn, secret) -> conn
--   component.on.element(conn, stanza)                  it sends; component.written(conn) -> text it was sent since the last call
--   conn.is_closed, conn.calls (limits and deadlines: name -> arguments), conn.dones (stanzas handled)

local check = require "check"
local core = require "couplet.core"
local sha1 = require "couplet.util.hashes".sha1
local st = require "couplet.stanza"

local handlers                                 -- of the class "component"
core.net.on = function(class, given) if class == "component" then handlers = given end end
require "fakehost"
package.loaded["couplet.ports"] = {}           -- nothing listens

local component = { on = setmetatable({}, { __index = function(_, name) return handlers[name] end }) }
local on = component.on

-- A component's connection: what the plugin calls is written down.
local Conn = {}
Conn.__index = Conn
local numbers = 0
for _, name in ipairs { "deadline", "idle_after", "window", "limits" } do
  Conn[name] = function(self, ...) self.calls[name] = table.pack(...) end
end
function Conn:session(...)
  if select("#", ...) > 0 then self.attached = ... end
  return self.attached
end
function Conn:id() return self.number end
function Conn:ip() return "192.0.2.9" end
function Conn:tls() end
function Conn:close() self.is_closed = true end
function Conn:done() self.dones = self.dones + 1 end
function Conn:send(x)
  if self.is_closed then return false end
  self.out[#self.out + 1] = tostring(x)
  return true
end

function component.written(conn)
  local text = table.concat(conn.out)
  conn.out = {}
  return text
end

function component.connect(to, xmlns)
  numbers = numbers + 1
  local conn = setmetatable({ number = numbers, out = {}, calls = {}, dones = 0 }, Conn)
  on.opened(conn)
  on.stream(conn, st.stanza("stream", { to = to }), xmlns or "jabber:component:accept")
  return conn
end

function component.handshake(conn, secret)
  local streamid = component.written(conn):match " id='([^']+)'"
  on.element(conn, st.stanza "handshake":text(sha1(streamid .. secret, true)))
  return conn
end

function component.attach(name, secret)
  local conn = component.handshake(component.connect(name), secret or "prospero")
  check.equal(component.written(conn), "<handshake/>")
  return conn
end

return component
