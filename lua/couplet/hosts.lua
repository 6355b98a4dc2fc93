-- SPDX-License-Identifier: MIT
-- hosts.lua: the hosts we serve and their buses (core.hostmanager). PLUGIN-API §5, row "host".
--
--   hosts.activate(name) -> host | nil, message      fires host-activated (the plugins follow that event)
--   hosts.deactivate(name, reason?) -> true | nil, message       fires host-deactivating, host-deactivated
--   hosts.load()                 activates what the configuration says; hosts-activated after all
--   hosts.reconcile() -> added, removed       after a reload of the configuration
--   hosts.get(name) -> host | nil
--   hosts.each() -> iterator (name, host)
--   hosts.get_children(name) -> array of names of hosts below it (x.NAME)
--   hosts.send(host, stanza)     routes a stanza as from that host; set by the router

local config = require "couplet.config"
local directory = require "couplet.directory"
local events = require "couplet.events"
local prosody = require "couplet.prosody"
local log = require "couplet.logger".init "hostmanager"

local hosts = {}
local all = prosody.hosts

function hosts.send(stanza)
  return require "couplet.router".core_route_stanza(nil, stanza)
end

function hosts.get(name)
  return all[name]
end

function hosts.each()
  return next, all
end

local function copy(map)               -- to go through while it changes
  local out = {}
  for k, v in pairs(map) do out[k] = v end
  return out
end

local function component(name)
  return config.get(name, "component_module")
end

function hosts.activate(name)
  if all[name] then return nil, "The host " .. name .. " is already activated" end
  if config.get(name, "enabled") == false then return nil, "disabled" end
  local is_component = component(name)
  local host = {
    host = name,
    type = is_component and "component" or "local",
    is_component = is_component ~= nil,
    events = events.new(),
    modules = {},
    sessions = directory.of_host(name),
    s2sout = {},
    component_module = is_component,
    dialback_secret = config.get(name, "dialback_secret"),
    send = function(stanza) return hosts.send(stanza) end,
  }
  all[name] = host
  log("debug", "activated %s %s", host.type, name)
  prosody.events.fire_event("host-activated", name)
  return host
end

function hosts.deactivate(name, reason)
  local host = all[name]
  if not host then return nil, "The host " .. tostring(name) .. " is not activated" end
  reason = reason or { condition = "host-gone", text = "This server has stopped serving " .. name }
  prosody.events.fire_event("host-deactivating", { host = name, host_session = host, reason = reason })
  for _, user in pairs(copy(host.sessions)) do
    for _, session in pairs(copy(user.sessions or {})) do
      if session.close then session:close(reason) end
    end
  end
  for _, session in pairs(copy(host.s2sout)) do
    if session.close then session:close(reason) end
  end
  require "couplet.plugin".unload_host(name)
  all[name] = nil
  prosody.events.fire_event("host-deactivated", name)
  log("info", "deactivated host %s", name)
  return true
end

local function configured()
  local names = {}
  for name in pairs(config.getconfig()) do
    if name ~= "*" then names[#names + 1] = name end
  end
  table.sort(names, function(a, b)
    local ca, cb = component(a) and 1 or 0, component(b) and 1 or 0
    if ca ~= cb then return ca < cb end         -- accounts before what leans on them
    return a < b
  end)
  return names
end

function hosts.load()
  local any = false
  for _, name in ipairs(configured()) do
    if config.get(name, "enabled") ~= false then
      local ok, err = hosts.activate(name)
      if not ok then log("error", "host %s: %s", name, err) end
      any = any or ok ~= nil
    end
  end
  if not any then log("error", "no host is configured: add VirtualHost \"example.org\" to the configuration") end
  prosody.events.fire_event("hosts-activated", all)
end

function hosts.reconcile()
  local added, removed, wanted = {}, {}, {}
  for _, name in ipairs(configured()) do
    if config.get(name, "enabled") ~= false then wanted[name] = true end
  end
  for name, host in pairs(copy(all)) do
    local kind = component(name) and "component" or "local"
    if not wanted[name] or kind ~= host.type or component(name) ~= host.component_module then
      hosts.deactivate(name)
      removed[#removed + 1] = name
    end
  end
  for _, name in ipairs(configured()) do
    if wanted[name] and not all[name] then
      if hosts.activate(name) then added[#added + 1] = name end
    end
  end
  return added, removed
end

function hosts.get_children(name)
  local out = {}
  for other in pairs(all) do
    if other ~= name and other:sub(-#name - 1) == "." .. name then out[#out + 1] = other end
  end
  table.sort(out)
  return out
end

return hosts
