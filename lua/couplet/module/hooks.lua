-- SPDX-License-Identifier: MIT
-- module/hooks.lua: module:hook() and its relatives. PLUGIN-API §3.3.

local prosody = require "couplet.prosody"

local api = {}

-- The bus of the host the module acts on; for a global one the server's.
local function bus_of(self)
  if self.host == "*" then return prosody.events end
  local host = prosody.hosts[self.host]
  if not host then error("no such host: " .. tostring(self.host), 3) end
  return host.events
end

local function release_hooks(bus, handle)
  for event, fns in pairs(handle) do
    for _, added in pairs(fns) do bus.remove_handler(event, added) end
  end
end

-- owned.hook: bus -> event -> fn -> what was added (differs with `once`)
local function remember(self, bus, event, fn, added)
  local owned = self._owned.hook
  if not owned then
    owned = {}
    self._owned.hook = owned
  end
  local on_bus = owned[bus]
  if not on_bus then
    on_bus = {}
    owned[bus] = on_bus
  end
  local fns = on_bus[event]
  if not fns then
    fns = {}
    on_bus[event] = fns
  end
  fns[fn] = added
end

local function add(self, bus, event, fn, priority)
  if type(priority) == "table" then
    local o = priority
    local added = bus.add_handler(event, fn, o.priority, { owner = self, match = o.match, once = o.once, name = o.name })
    return remember(self, bus, event, fn, added or fn)
  end
  bus.add_handler(event, fn, priority, self._hook_options)
  remember(self, bus, event, fn, fn)
end

function api:hook_object_event(object, event, fn, priority)
  return add(self, object, event, fn, priority)
end

function api:unhook_object_event(object, event, fn)
  local owned = self._owned.hook and self._owned.hook[object]
  local fns = owned and owned[event]
  local added = fns and fns[fn] or fn
  if fns then
    fns[fn] = nil
    if next(fns) == nil then owned[event] = nil end
    if next(owned) == nil then self._owned.hook[object] = nil end
  end
  return object.remove_handler(event, added)
end

function api:hook(event, fn, priority)
  if self._check_event then self:_check_event(event) end
  return add(self, bus_of(self), event, fn, priority)
end

function api:hook_global(event, fn, priority)
  return add(self, prosody.events, event, fn, priority)
end

function api:unhook(event, fn)
  return self:unhook_object_event(bus_of(self), event, fn)
end

function api:unhook_global(event, fn)
  return self:unhook_object_event(prosody.events, event, fn)
end

-- (xmlns, name, fn, priority?) or (name, fn, priority?): stream elements that are not routed
function api:hook_tag(xmlns, name, fn, priority)
  if fn == nil and type(name) == "function" then
    xmlns, name, fn, priority = nil, xmlns, name, nil
  elseif type(name) == "function" then
    xmlns, name, fn, priority = nil, xmlns, name, fn
  end
  local event = "stanza/" .. (xmlns and xmlns .. ":" or "") .. name
  return self:hook(event, function(data) return fn(data.origin, data.stanza, data) end, priority)
end
api.hook_stanza = api.hook_tag

function api:wrap_object_event(object, event, wrapper)
  object.add_wrapper(event, wrapper)
  local handle = {}
  self._own(self, "wrapper", handle, function() object.remove_wrapper(event, wrapper) end)
end

function api:wrap_event(event, wrapper)
  return self:wrap_object_event(bus_of(self), event, wrapper)
end

function api:wrap_global(event, wrapper)
  return self:wrap_object_event(prosody.events, event, wrapper)
end

function api:fire_event(event, data)
  return bus_of(self).fire_event(event, data)
end

function api:_release_hooks()
  for bus, handle in pairs(self._owned.hook or {}) do release_hooks(bus, handle) end
  self._owned.hook = nil
end

function api:_count_hooks()
  local n = 0
  for _, on_bus in pairs(self._owned.hook or {}) do
    for _, fns in pairs(on_bus) do
      for _ in pairs(fns) do n = n + 1 end
    end
  end
  return n
end

return api
