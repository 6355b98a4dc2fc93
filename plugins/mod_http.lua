-- SPDX-License-Identifier: MIT
-- mod_http: routes that plugins offer (provider "http") become handlers of net.http.server, by host and path. Nothing listens for
-- HTTP connections yet: the handlers are reached through the bus only.

module:set_global()

local server = require "net.http.server"
local normalize_path = require "util.http".normalize_path

local told = false

-- Where an app lives: http_paths = { app = "/x/$host" }, its default_path, or its name.
local function path_of(host_module, app)
  local paths = host_module:get_option("http_paths")
  local path = type(paths) == "table" and paths[app.name] or app.default_path or "/" .. app.name
  path = path:gsub("%$(%w+)", { host = host_module.host == "*" and "" or host_module.host })
  return normalize_path(path)
end

local function host_of(host_module)
  return host_module:get_option_string("http_host", host_module.host ~= "*" and host_module.host or "")
end

-- What follows the route's path, for handlers of "/…/*".
local function wrap(handler, base)
  if type(handler) ~= "function" then return function() return handler end end
  return function(event)
    local path = event.request.path or ""
    return handler(event, base and path:sub(#base + 1) or nil)
  end
end

function module.add_host(host_module)
  local handlers = {}                   -- app -> { { event, fn }, … }

  local function added(event)
    local app, source = event.item, event.source or host_module
    app.name = app.name or source.name:gsub("^http_", "")
    local base, host = path_of(source, app), host_of(host_module)
    local list = {}
    handlers[app] = list
    for key, handler in pairs(app.route or {}) do
      local method, path = key:match "^(%S+)%s*(.*)$"
      if method and method:find "^%u+$" then
        if path == "" then path = base else path = (base == "/" and "" or base) .. path end
        local name = method .. " " .. host .. path
        local fn = wrap(handler, path:match "^(.*/)%*$")
        server.add_handler(name, fn, app.priority)
        list[#list + 1] = { name, fn }
      else
        source:log("error", "%q is no route: \"METHOD\" or \"METHOD /path\" expected", key)
      end
    end
    if not told then
      told = true
      module:log("info", "plugins offer web pages; this server does not listen for HTTP yet")
    end
  end

  local function removed(event)
    for _, entry in ipairs(handlers[event.item] or {}) do server.remove_handler(entry[1], entry[2]) end
    handlers[event.item] = nil
  end

  server.add_host(host_of(host_module))
  host_module:handle_items("http-provider", added, removed, true)

  function host_module.unload()
    for app in pairs(handlers) do removed { item = app } end
    server.remove_host(host_of(host_module))
  end
end

module.add_host(module)                 -- apps of global plugins
