-- SPDX-License-Identifier: MIT
-- net.connect: connect(resolver, listeners, options?, data?): tries the targets a resolver gives, one after the other.
--
-- Then as in net.server: onattach(conn, data), onconnect(conn) …; onfail(data, reason) if none answers.
-- options: { sslctx = context (TLS from the start), servername =, connect_timeout = 10 }
-- A resolver is any object with resolver:next(cb); cb("tcp", address, port, extra) or, when there are no more, cb(nil, nil, nil,
-- reason).

local lua_listener = require "couplet.lua_listener"
local task = require "couplet.task"

local TARGETS_MAX = 24

-- One attempt -> it stands | reason
local function attempt(address, port, extra, options, listeners, data)
  local stand_in = { ondrain = listeners.ondrain and function() end or nil }
  return task.await(function(done)
    local conn, err
    function stand_in.onconnect(c)
      c.listener = listeners
      if listeners.onattach then listeners.onattach(c, data) end
      done(true)
      if listeners.onconnect then return listeners.onconnect(c) end
    end
    function stand_in.ondisconnect(_, reason) done(nil, reason or "connection failed") end
    conn, err = lua_listener.dial({ address = address, port = port, tls = options.sslctx or extra.sslctx,
      server_name = extra.servername or options.servername, alpn = extra.alpn, deadline = options.connect_timeout or 10 },
      stand_in)
    if not conn then done(nil, err) end
  end)
end

local function connect(resolver, listeners, options, data)
  options = options or {}
  local self = { data = data, listeners = listeners }
  task.spawn(function()
    local last
    for _ = 1, TARGETS_MAX do
      local kind, address, port, extra = task.await(function(done) resolver:next(done) end)
      if not kind then
        last = last or extra
        break
      end
      local ok, err = attempt(address, port, extra or {}, options, listeners, data)
      if ok then return end
      last = err
    end
    if listeners.onfail then listeners.onfail(data, last or resolver.last_error or "unable to resolve service") end
  end)
  return self
end

return setmetatable({ connect = connect }, { __call = function(_, ...) return connect(...) end })
