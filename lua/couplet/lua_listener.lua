-- SPDX-License-Identifier: MIT
-- lua_listener: services that plugins write against the listener tables of net.server: onconnect(conn), onincoming(conn, data),
-- ondrain(conn), ondisconnect(conn, reason), onreadtimeout(conn). Each connection's events come one after the other, waits included.
--
--   lua_listener.class(name, listener) -> class for core.net.listen

local core = require "couplet.core"
local conn = require "couplet.conn"
local task = require "couplet.task"

local lua_listener = {}

local function call(object, name, ...)
  local fn = object.listener[name]
  if fn then return fn(object, ...) end
end

local function opened(native, listener)
  local object = conn.wrap(native)
  object.listener = listener
  function object:setlistener(new) self.listener = new return true end
  object.queue = task.queue(function(name, value)
    local result = call(object, name, value)
    if name == "onincoming" then native:done() end
    if name == "onreadtimeout" and not result then native:close() end
  end)
  native:session(object)
  object.queue:push("onconnect")
end

local function push(native, name, value)
  local object = native:session()
  if object then object.queue:push(name, value) end
end

function lua_listener.class(name, listener)
  local class = "lua:" .. name
  core.net.on(class, {
    opened = function(native) opened(native, listener) end,
    data = function(native, bytes) push(native, "onincoming", bytes) end,
    drained = listener.ondrain and function(native) push(native, "ondrain") end or nil,
    idle = function(native) push(native, "onreadtimeout") end,
    closed = function(native, reason) push(native, "ondisconnect", reason) end,
  })
  return class
end

return lua_listener
