-- SPDX-License-Identifier: MIT
-- module/cross.lua: plugins and each other: depends, require, shared tables, items, features. PLUGIN-API §3.4.

local array = require "couplet.util.array"
local loader = require "couplet.loader"
local prosody = require "couplet.prosody"

local api = {}

local function plugins()
  return require "couplet.plugin"
end

-- --- other plugins ---

function api:depends(name, soft)
  local modulemanager = plugins()
  local env, err = modulemanager.get_module(self.host, name) or modulemanager.get_module("*", name), nil
  if env and env.module.loaded == false then         -- being loaded: a circle
    env = nil
    err = "it depends on this plugin in turn"
  elseif env and self.host ~= "*" and env.module.host == "*" and modulemanager.module_has_method(env, "add_host") then
    env, err = modulemanager.load(self.host, name)
  elseif not env then
    env, err = modulemanager.load(self.host, name)
  end
  if not env then
    if soft then return nil, err end
    error(("plugin %s on %s needs %s, which cannot be loaded: %s"):format(self.name, self.host, name, tostring(err)), 0)
  end
  local other = env.module
  self.dependencies = self.dependencies or {}
  self.dependencies[name] = true
  rawget(other, "_dependents")[self] = true
  return env
end

-- X.lib.lua or X.lua: among this plugin's files, then among those of plugin X.
function api:require(lib)
  self._libs = rawget(self, "_libs") or {}
  local known = self._libs[lib]
  if known ~= nil then return known end
  local env = self.environment
  local chunk, err = loader.load_code_ext(self.name, lib, "lib.lua", env)
  if not chunk then
    local plugin, rest = lib:match "^([^/]+)/(.+)$"
    plugin, rest = plugin and plugin:gsub("^mod_", "") or lib, rest or lib
    local other, other_err = loader.load_code_ext(plugin, rest, "lib.lua", env)
    if not other and rest == lib then other, other_err = loader.load_code_ext(plugin, plugin, "lib.lua", env) end
    chunk = other
    if not chunk then
      err = other_err:find "^no " and err or other_err
      error(("plugin %s: cannot load library %s: %s"):format(self.name, lib, tostring(err)), 2)
    end
  end
  local result = chunk()
  if result == nil then result = true end
  self._libs[lib] = result
  return result
end

-- --- shared tables: one per path, kept while somebody holds it ---

local shared = setmetatable({}, { __mode = "v" })

function api:shared(...)
  local results, n = {}, select("#", ...)
  for i = 1, n do
    local path = (select(i, ...))
    if not path:find "^/" then
      if not path:find("/", 1, true) then path = self.name .. "/" .. path end
      path = "/" .. self.host .. "/" .. path
    end
    local found = shared[path]
    if not found then
      found = path:find "%-cache$" and setmetatable({}, { __mode = "kv" }) or {}
      shared[path] = found
    end
    self._own(self, "shared", path, found)
    results[i] = found
  end
  return table.unpack(results, 1, n)
end

-- --- items ---

function api:add_item(key, value)
  local items = self.items
  items[key] = items[key] or {}
  table.insert(items[key], value)
  self:fire_event("item-added/" .. key, { source = self, item = value })
end

function api:remove_item(key, value)
  local list = self.items[key] or {}
  for i = #list, 1, -1 do
    if list[i] == value then
      table.remove(list, i)
      if not list[1] then self.items[key] = nil end
      self:fire_event("item-removed/" .. key, { source = self, item = value })
      return value
    end
  end
end

function api:get_host_items(key)
  return array.new(plugins().get_items(key, self.host))
end

function api:handle_items(key, added, removed, existing)
  self:hook("item-added/" .. key, added)
  if removed then self:hook("item-removed/" .. key, removed) end
  if existing == false then return end
  for _, item in ipairs(self:get_host_items(key)) do
    added { source = nil, item = item }
  end
end

function api:provides(kind, item)
  local own = item ~= nil
  item = item or self.environment
  if not rawget(item, "name") then
    local name = self.name
    if name:sub(1, #kind + 1) == kind .. "_" then name = name:sub(#kind + 2) end
    item.name = name
  end
  item._provided_by = self.name
  self:add_item(kind .. "-provider", item)
  return own and item or nil
end

-- --- service discovery ---

function api:add_feature(xmlns)
  self:add_item("feature", xmlns)
end

function api:remove_feature(xmlns)
  return self:remove_item("feature", xmlns)
end

function api:add_identity(category, kind, name)
  self:add_item("identity", { category = category, type = kind, name = name })
end

function api:add_extension(form)
  self:add_item("extension", form)
end

function api:_release_items()
  for key, list in pairs(self.items) do
    for i = #list, 1, -1 do
      local value = list[i]
      list[i] = nil
      self:fire_event("item-removed/" .. key, { source = self, item = value })
    end
    self.items[key] = nil
  end
end

api._hosts = prosody.hosts

return api
