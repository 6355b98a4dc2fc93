-- SPDX-License-Identifier: MIT
-- store.lua: which driver keeps which store (core.storagemanager). PLUGIN-API §7.
--
--   store.open(host, name, type?) -> store | nil, message      type: keyval (default), map, keyval+, archive
--   store.get_driver(host, name?) -> driver | nil, message
--   store.load_driver(host, driver name) -> driver | nil, message
--   store.purge(username, host) -> true | nil, message          everything of a user, from all drivers of the host
--   store.stores(username, host) -> iterator                    names of stores that hold something of a user
--   store.close()                                               waits for all writes; what comes later opens anew
--   store.olddm                                                 couplet.datamanager
--
-- A driver is a plugin mod_storage_X. Which: storage = "X", or storage = { name of store = "X" }, else default_storage,
-- else internal.

local config = require "couplet.config"
local prosody = require "couplet.prosody"
local log = require "couplet.logger".init "storagemanager"

local store = {}

local synonyms = { null = "none" }

local function driver_name(host, name)
  local storage = config.get(host, "storage")
  local chosen
  if type(storage) == "string" then
    chosen = storage
  elseif type(storage) == "table" then
    chosen = name and storage[name]
  end
  chosen = chosen or config.get(host, "default_storage") or "internal"
  return synonyms[chosen] or chosen
end

local function provided(host, name)
  for _, item in ipairs(require "couplet.plugin".get_items("storage-provider", host)) do
    if item.name == name then return item end
  end
end

function store.load_driver(host, name)
  local driver = provided(host, name)
  if driver then return driver end
  local ok, err = require "couplet.plugin".load(host, "storage_" .. name)
  driver = provided(host, name)
  if driver then return driver end
  err = ("storage driver %s cannot be used on %s: %s"):format(name, host, ok and "it provides no storage" or tostring(err))
  log("error", "%s", err)
  return nil, err
end

function store.get_driver(host, name)
  return store.load_driver(host, driver_name(host, name))
end

-- All drivers the configuration names for a host, each once.
local function drivers(host)
  local names, out = { driver_name(host) }, {}
  local storage = config.get(host, "storage")
  if type(storage) == "table" then
    for _, name in pairs(storage) do names[#names + 1] = synonyms[name] or name end
  end
  local seen = {}
  for _, name in ipairs(names) do
    if not seen[name] then
      seen[name] = true
      out[#out + 1] = store.load_driver(host, name)
    end
  end
  return out
end

--- What a driver lacks

local remove = {}

-- map from keyval: reads and writes the whole
local map_over = {}
map_over.__index = map_over
map_over.remove = remove

function map_over:get(user, key)
  local t, err = self.keyval:get(user)
  if not t then return nil, err end
  return t[key]
end

function map_over:set_keys(user, changes)
  local t, err = self.keyval:get(user)
  if not t then
    if err then return nil, err end
    t = {}
  end
  for k, v in pairs(changes) do
    if v == remove then t[k] = nil else t[k] = v end
  end
  return self.keyval:set(user, next(t) ~= nil and t or nil)
end

function map_over:set(user, key, value)
  if value == nil then value = remove end
  return self:set_keys(user, { [key] = value })
end

function map_over:users() return self.keyval:users() end

function map_over:get_all(key)
  local out = {}
  local iterate, state, user = self:users()
  if not iterate then return nil, state end
  for name in iterate, state, user do
    local v, err = self:get(name, key)
    if v == nil and err then return nil, err end
    out[name] = v
  end
  return out
end

function map_over:delete_all(key)
  local all, err = self:get_all(key)
  if not all then return nil, err end
  for user in pairs(all) do
    local ok
    ok, err = self:set(user, key, nil)
    if not ok then return nil, err end
  end
  return true
end

-- keyval+ from keyval and map
local function both(keyval, map)
  return {
    get = function(_, user) return keyval:get(user) end,
    set = function(_, user, data) return keyval:set(user, data) end,
    items = function() return keyval:users() end,
    users = function() return keyval:users() end,
    get_key = function(_, user, key) return map:get(user, key) end,
    set_key = function(_, user, key, value) return map:set(user, key, value) end,
    set_keys = function(_, user, changes) return map:set_keys(user, changes) end,
    get_key_from_all = function(_, key) return map:get_all(key) end,
    delete_key_from_all = function(_, key) return map:delete_all(key) end,
    remove = map.remove or remove,
    keyval_store = keyval, map_store = map,
  }
end

local function open_with(driver, name, kind)
  local opened, err = driver:open(name, kind)
  if opened or err ~= "unsupported-store" then return opened, err end
  if kind == "map" then
    local keyval
    keyval, err = driver:open(name, "keyval")
    if not keyval then return nil, err end
    return setmetatable({ keyval = keyval }, map_over)
  elseif kind == "keyval+" then
    local keyval, map
    keyval, err = driver:open(name, "keyval")
    if not keyval then return nil, err end
    map, err = open_with(driver, name, "map")
    if not map then return nil, err end
    return both(keyval, map)
  end
  return nil, err
end

function store.open(host, name, kind)
  if not prosody.hosts[host] then return nil, "unknown-host" end
  kind = kind or "keyval"
  local driver, err = store.get_driver(host, name)
  local opened
  if driver then opened, err = open_with(driver, name, kind) end
  local event = { host = host, store_name = name, store_type = kind, store = opened, store_err = err }
  prosody.hosts[host].events.fire_event("store-opened", event)
  if not event.store then return nil, event.store_err or "unsupported-store" end
  return event.store, event.store_err
end

function store.purge(username, host)
  if not prosody.hosts[host] then return nil, "unknown-host" end
  local failure
  for _, driver in ipairs(drivers(host)) do
    local ok, err = driver:purge(username)
    if not ok then failure = err or "failed" end
  end
  if failure then return nil, failure end
  return true
end

function store.stores(username, host)
  local names = {}
  for _, driver in ipairs(drivers(host)) do
    local iterate = driver:stores(username)
    for name in iterate or function() end do names[name] = true end
  end
  local name
  return function()
    name = next(names, name)
    return name
  end
end

function store.initialize_host() end       -- drivers are looked up when a store is opened

function store.close()
  require "couplet.storage.database".close()
end

prosody.events.add_handler("server-cleanup", store.close, -1e9)

return setmetatable(store, { __index = function(_, key)
  if key == "olddm" then return require "couplet.datamanager" end
end })
