-- SPDX-License-Identifier: MIT
-- conn.lua: session.conn as plugins know it (PLUGIN-API §5), over a connection of couplet.core.net.
--
--   conn.wrap(native) -> object       what the core's connection can do is passed on to it (send, tls, window, …)

local task = require "couplet.task"
local x509 = require "couplet.util.x509"

local conn = {}
local Conn = {}

-- Methods of the native connection, called on it.
local passed = {
  "ip", "port", "serverip", "serverport", "class", "id", "send", "abort", "starttls", "restart", "window", "limits", "deadline",
  "idle_after", "compress", "tls", "export_key", "pause", "resume", "done",
}
for _, name in ipairs(passed) do
  Conn[name] = function(self, ...)
    local native = self.native
    return native[name](native, ...)
  end
end

Conn.__index = Conn
Conn.__tostring = function(self) return ("connection %s"):format(tostring(self.native:id())) end

function conn.wrap(native)
  return setmetatable({ native = native }, Conn)
end

Conn.clientport = Conn.port

function Conn:server() return self.listener end
function Conn:write(data) return self.native:send(data) end
function Conn:close(...) return self.native:close(...) end

function Conn:setlimit(bytes_per_second)
  self.native:limits { rate = bytes_per_second }
end

-- The core reads and writes by itself; there is nothing to set.
function Conn:set_mode() return true end
function Conn:setoption() return true end
function Conn:setlistener() return true end
function Conn:pause_writes() return true end
function Conn:resume_writes() return true end

-- TLS -----------------------------------------------------------------------------------------------------------------

local function certificate(der)
  return der and x509.load(der) or nil
end

function Conn:ssl_info(what)
  local tls = self.native:tls()
  if not tls then return nil, "no TLS" end
  local info = {
    protocol = tls.version, cipher = tls.cipher, bits = tls.bits, alpn = tls.alpn, sni = tls.sni, compression = false,
  }
  if what then return info[what] end
  return info
end

function Conn:ssl_peercertificate()
  local tls = self.native:tls()
  return tls and certificate(tls.peer_cert)
end

function Conn:ssl_peerchain()
  local tls, chain = self.native:tls(), {}
  for i, der in ipairs(tls and tls.peer_chain or {}) do chain[i] = certificate(der) end
  return chain
end

local function finished(self)
  local tls = self.native:tls()
  return tls and tls.bindings and tls.bindings["tls-unique"] or nil
end

Conn.ssl_peerfinished = finished
Conn.ssl_getfinished = finished

function Conn:ssl_exportkeyingmaterial(label, length, context)
  return task.await(function(done) self.native:export_key(label, length, context, done) end)
end

-- conn:socket(): the same under the names of a TLS socket.
local Socket = {
  getpeercertificate = Conn.ssl_peercertificate, getpeerchain = Conn.ssl_peerchain, getpeerfinished = finished,
  getfinished = finished, info = Conn.ssl_info, exportkeyingmaterial = Conn.ssl_exportkeyingmaterial,
}
Socket.__index = Socket

function Socket:getpeerverification()
  local tls = self.native:tls()
  local errors = tls and tls.verify_errors or {}
  return #errors == 0, { errors }
end

function Socket:getpeername() return self.native:ip(), self.native:port() end
function Socket:getsockname() return self.native:serverip(), self.native:serverport() end

function Conn:socket()
  return setmetatable({ native = self.native }, Socket)
end

return conn
