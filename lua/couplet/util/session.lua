-- SPDX-License-Identifier: MIT
-- session.lua: making session objects for plugins that bring a transport of their own.
--
--   new(type) -> session        set_id set_logger set_conn set_send (session) -> session       set_role(session, role)

local id = require "couplet.util.id"
local logger = require "couplet.logger"

local session = {}

function session.new(kind)
  return { type = kind, base_type = kind:match "^[^_]+" }
end

function session.set_id(s)
  s.id = s.base_type .. id.short()
  return s
end

function session.set_logger(s)
  s.log = logger.init(s.id)
  return s
end

function session.set_conn(s, conn)
  s.conn = conn
  s.ip = conn:ip()
  return s
end

function session.set_send(s)
  local conn = s.conn
  if not conn then
    s.send = function() return false end
    return s
  end
  s.rawsend = function(data) return conn:write(data) end
  s.send = function(stanza) return conn:write(tostring(stanza)) end
  return s
end

function session.set_role(s, role)
  if s.role then return false end
  s.role = role
  return true
end

return session
