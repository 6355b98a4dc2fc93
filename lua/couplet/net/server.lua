-- SPDX-License-Identifier: MIT
-- net.server: connections and listeners for plugins, over couplet.core.net. Listeners are tables of functions: onconnect(conn),
-- onincoming(conn, data), ondisconnect(conn, reason), ondrain(conn), onreadtimeout(conn), onattach(conn, data), onfail(data,
-- reason).
--
--   addclient(address, port, listeners, mode?, tls_context?, kind?, extra?) -> conn | nil, message     address: numeric
--   addserver(address, port, listeners, mode?, tls_context?) -> listener | nil, message
--   listen(address, port, listeners, { tls_ctx =, tls_direct = }?) -> the same
--   wrapclient(socket, address, port, listeners, mode?, tls_context?) -> conn       a socket of LuaSocket
--   watchfd(fd, on_readable, on_writable?) -> watcher: close(), setflags(r, w)
--   addtimer(delay, fn) / add_task(delay, fn) -> timer     fn's number starts it again       hook_signal(name, fn)
--   setquitting(true) shuts down       get_backend() -> "couplet"      link(from, to, buffer?)

local clock = require "couplet.clock"
local core = require "couplet.core"
local lua_listener = require "couplet.lua_listener"
local prosody = require "couplet.prosody"
local task = require "couplet.task"

local server = {}

function server.get_backend() return "couplet" end

local function number(port)
  return math.tointeger(tonumber(port)) or error("port: number expected", 3)
end

function server.addclient(address, port, listeners, _, tls, _, extra)
  extra = extra or {}
  return lua_listener.dial({ address = address, port = number(port), tls = tls or nil, server_name = extra.servername,
    alpn = extra.alpn, deadline = extra.connect_timeout }, listeners, extra.data)
end

local serial = 0

function server.listen(address, port, listeners, options)
  options = options or {}
  serial = serial + 1
  local class = lua_listener.class("plugin" .. serial, listeners)
  local listener, err = core.net.listen { address = address == "*" and "0.0.0.0" or address, port = number(port), class = class,
    mode = "raw", tls = options.tls_direct and options.tls_ctx or nil }
  if not listener then return nil, err end
  return setmetatable({ close = function() listener:close() end, ip = function() return listener:address() end,
    port = function() return listener:port() end, serverport = function() return listener:port() end }, { __name = "listener" })
end

function server.addserver(address, port, listeners, _, tls)
  return server.listen(address, port, listeners, { tls_ctx = tls, tls_direct = tls ~= nil })
end

-- --- descriptors and sockets of others ---

local Watch = {}
Watch.__index = Watch

function Watch:setflags(r, w)
  if r ~= nil then self.r = r end
  if w ~= nil then self.w = w end
  local mode = (self.r and "r" or "") .. (self.w and "w" or "")
  if self.watcher then self.watcher:stop() end
  self.watcher = nil
  if mode ~= "" and not self.closed then
    self.watcher = core.loop.watch(self.fd, mode, function(readable, writable)
      if readable and self.onreadable then task.spawn(self.onreadable, self) end
      if writable and self.onwritable and not self.closed then task.spawn(self.onwritable, self) end
    end)
  end
end

function Watch:close()
  self.closed = true
  self:setflags(false, false)
end
Watch.destroy = Watch.close

function server.watchfd(fd, on_readable, on_writable)
  local source = fd
  if type(fd) ~= "number" then fd = fd:getfd() end
  local w = setmetatable({ fd = fd, conn = source, onreadable = on_readable, onwritable = on_writable }, Watch)
  w:setflags(on_readable ~= nil, on_writable ~= nil)
  return w
end

-- A LuaSocket connection with the methods of ours.
local Wrapped = {}
Wrapped.__index = Wrapped
local CHUNK, SEND_MAX = 8192, 1 << 20

local function finish(self, reason)
  if self.over then return end
  self.over = true
  self.watch:close()
  self.socket:close()
  self.queue:push("ondisconnect", reason)
end

local function write_out(self)
  while self.out ~= "" do
    local sent, err, partial = self.socket:send(self.out)
    self.out = self.out:sub((sent or partial or 0) + 1)
    if not sent then
      if err ~= "timeout" then return finish(self, err) end
      return self.watch:setflags(nil, true)
    end
  end
  self.watch:setflags(nil, false)
  if self.closing then return finish(self) end
  self.queue:push "ondrain"
end

function Wrapped:write(data)
  if self.over or self.closing or #self.out + #data > SEND_MAX then return false end
  self.out = self.out .. data
  self.watch:setflags(nil, true)
  return true
end
Wrapped.send = Wrapped.write

function Wrapped:close()
  self.closing = true
  if self.out == "" then finish(self) end
end

function Wrapped:ip() return self.address end
function Wrapped:port() return self.peer_port end
Wrapped.clientport = Wrapped.port
function Wrapped:serverport() return (select(2, self.socket:getsockname())) end
function Wrapped:setlistener(listeners, data)
  self.listener = listeners
  self.queue:push("onattach", data)
end
function Wrapped:pause() self.watch:setflags(false) end
function Wrapped:resume() self.watch:setflags(true) end
function Wrapped:set_mode() return true end
function Wrapped:setoption() return true end
function Wrapped:starttls() return nil, "TLS on a wrapped socket is not possible; use addclient" end

function server.wrapclient(socket, address, port, listeners)
  socket:settimeout(0)
  local self = setmetatable({ socket = socket, address = address, peer_port = port, listener = listeners, out = "" }, Wrapped)
  self.queue = task.queue(function(name, value)
    local fn = self.listener[name]
    if fn then fn(self, value) end
  end)
  local connected = false
  local function connect()
    if connected then return end
    connected = true
    self.queue:push "onconnect"
  end
  self.watch = server.watchfd(socket, function()
    connect()
    local data, err, partial = socket:receive(CHUNK)
    data = data or partial
    if data and data ~= "" then self.queue:push("onincoming", data) end
    if err and err ~= "timeout" then finish(self, err) end
  end, function()
    connect()
    write_out(self)
  end)
  return self
end

-- Whatever comes from one goes to the other.
function server.link(from, to)
  from:setlistener { onincoming = function(_, data) to:write(data) end, ondisconnect = function() to:close() end }
end

-- --- time, signals ---

function server.add_task(delay, fn)
  if type(delay) == "function" then              -- once a second, as it used to be
    local every = delay
    return server.add_task(1, function(now)
      every(now)
      return 1
    end)
  end
  local timer
  timer = clock.timer(delay, function()
    task.spawn(function()
      local again = fn(clock.wall(), timer)
      if type(again) == "number" and not timer.stopped then timer.native:start(again) end
    end)
  end)
  local native = timer
  timer = setmetatable({ native = native }, { __index = {
    stop = function(self) self.stopped = true native:stop() end,
    close = function(self) self:stop() end,
    reschedule = function(_, seconds) native:start(seconds) end,
  } })
  return timer
end
server.addtimer = server.add_task

function server.hook_signal(name, fn)
  if type(name) == "number" then return nil, "signals are known by name" end
  return core.loop.signal(name, function() task.spawn(fn, name) end)
end

function server.setquitting(quitting)
  if quitting and prosody.shutdown then prosody.shutdown() end
end

function server.tls_builder()
  local tls = {}
  local settings = {}
  function tls:set_option(key, value) settings[key] = value return self end
  function tls:apply(config)
    for k, v in pairs(config) do settings[k] = v end
    return self
  end
  function tls.build() return require "couplet.certs".create_context("*", settings.mode or "client", settings) end
  return tls
end

function server.closeall() end
function server.loop() end
function server.get_selects() return 0, 0 end

-- Names of the libevent backend; there is none.
server.event, server.addevent, server.event_base = nil, nil, nil

return server
