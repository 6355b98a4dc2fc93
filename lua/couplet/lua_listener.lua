-- SPDX-License-Identifier: MIT
-- lua_listener: services that plugins write against the listener tables of net.server: onconnect(conn), onincoming(conn, data),
-- ondrain(conn), ondisconnect(conn, reason), onreadtimeout(conn). Each connection's events come one after the other, waits
-- included.
--
--   lua_listener.class(name, listener) -> class for core.net.listen
--   lua_listener.dial(settings, listener, data?) -> object | nil, message     a connection of our own:
--   core.net.connect(settings).
--                  onconnect comes when it stands (TLS from the start included), ondisconnect also if it never does

local core = require "couplet.core"
local conn = require "couplet.conn"
local task = require "couplet.task"

local lua_listener = {}

local function call(object, name, ...)
  local fn = object.listener[name]
  if fn then return fn(object, ...) end
end

-- To close when bytes are handled, whatever became of the handler: more may come.
local function done_with(native)
  return setmetatable({}, { __close = function() native:done() end })
end

local methods = {}

function methods:setlistener(listener, data)
  if self.listener ~= listener then
    self.queue:push "ondetach"
    self.listener = listener
  end
  self.queue:push("onattach", data)
  return true
end

local function attach(native, listener)
  local object = conn.wrap(native)
  object.listener = listener
  object.setlistener = methods.setlistener
  local handled = done_with(native)
  object.queue = task.queue(function(name, value)
    local _ <close> = name == "onincoming" and handled or nil
    local result = call(object, name, value)
    if name == "onreadtimeout" and not result then native:close() end
  end)
  native:session(object)
  return object
end

local function push(native, name, value)
  local object = native:session()
  if object then object.queue:push(name, value) end
end

local function handle(class, opened, secured, drained)
  core.net.every_drained(class, drained)
  core.net.on(class, {
    opened = opened,
    secured = secured,
    data = function(native, bytes) push(native, "onincoming", bytes) end,
    drained = drained and function(native) push(native, "ondrain") end or nil,
    idle = function(native) push(native, "onreadtimeout") end,
    closed = function(native, reason) push(native, "ondisconnect", reason) end,
  })
end

function lua_listener.class(name, listener)
  local class = "lua:" .. name
  handle(class, function(native) attach(native, listener).queue:push "onconnect" end,
    function(native) push(native, "onsecured") end, listener.ondrain ~= nil)
  return class
end

-- --- connections of our own ---

local function dialled(native)
  local object = native:session()
  if not object.secure_first then object.queue:push "onconnect" end
end

local function secured(native)
  local object = native:session()
  object.queue:push(object.secure_first and "onconnect" or "onsecured")
  object.secure_first = false
end

local known

function lua_listener.dial(settings, listener, data)
  if not known then
    known = true
    handle("lua-dial", dialled, secured, false)
    handle("lua-dial-drain", dialled, secured, true)
  end
  settings.class = listener.ondrain and "lua-dial-drain" or "lua-dial"
  settings.mode = "raw"
  local native, err = core.net.connect(settings)
  if not native then return nil, err end
  local object = attach(native, listener)
  object.secure_first = settings.tls ~= nil
  if data ~= nil or listener.onattach then object.queue:push("onattach", data) end
  return object
end

return lua_listener
