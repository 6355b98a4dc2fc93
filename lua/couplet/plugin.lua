-- SPDX-License-Identifier: MIT
-- plugin.lua: loading, unloading and reloading plugins (core.modulemanager). PLUGIN-API §2, §13.
--
--   plugin.load(host, name) -> environment | nil, message           host "*": globally
--   plugin.unload(host, name) -> true | nil, message
--   plugin.reload(host, name) -> environment | nil, message         the old one stays if the new file does not compile
--   plugin.get_module(host, name) -> environment | nil;  get_modules(host) -> name -> environment
--   plugin.get_items(key, host) -> array
--   plugin.is_loaded(host, name);  plugin.module_has_method(env, name);  plugin.call_module_method(env, name, ...)
--   plugin.get_modules_for_host(host) -> set, component plugin | nil, ordered list
--   plugin.load_host(host), plugin.unload_host(host)                 everything enabled there
--   plugin.reconcile() -> loaded, unloaded                           after a reload of the configuration
--   plugin.start()                hooks host-activated; sets the paths from the configuration

local alias = require "couplet.alias"
local array = require "couplet.util.array"
local config = require "couplet.config"
local environment = require "couplet.plugin_env"
local events = require "couplet.events"
local loader = require "couplet.loader"
local logger = require "couplet.logger"
local prosody = require "couplet.prosody"
local set = require "couplet.util.set"
local task = require "couplet.task"
local api = require "couplet.module"
local log = logger.init "modulemanager"

local plugin = { loader = loader, api = api }

-- Loaded on every VirtualHost unless disabled; those that are not installed are skipped in silence.
local always = { "presence", "message", "iq", "offline", "c2s", "s2s", "s2s_auth_certs" }
-- What a component takes over from the global list (and from the above). Whoever looks at certificates elsewhere has global
-- plugins for it; ours are a host's own, and components are reached by other servers too. A list of who is not to be talked to
-- would protect nobody if rooms of the same server let them in.
local inherited = set.new { "tls", "saslauth", "dialback", "iq", "s2s", "s2s_bidi", "smacks", "server_contact_info",
  "s2s_auth_certs", "s2s_auth_dane_in", "s2s_blacklist", "s2s_whitelist" }

local loaded = { ["*"] = {} }           -- host -> name -> environment
local order = { ["*"] = {} }            -- host -> names as they were loaded

local function modules_of(host)
  if host == "*" then return loaded["*"] end
  local h = prosody.hosts[host]
  return h and h.modules
end

local function put(host, name, env)
  modules_of(host)[name] = env
  order[host] = order[host] or {}
  if env then
    table.insert(order[host], name)
  else
    for i = #order[host], 1, -1 do
      if order[host][i] == name then table.remove(order[host], i) end
    end
  end
end

local function bus_of(host)
  if host == "*" then return prosody.events end
  return prosody.hosts[host] and prosody.hosts[host].events
end

-- --- the object ---

local function show(self)
  return ("module (%s on %s)"):format(self.name, self.host)
end

-- Strict native mode: what is neither a method nor a field is a mistake, told at load where the source shows it.
local optional_fields = {}
for name in ([[loaded reloading saved_state resource_path dependencies meta path load unload ready save restore command add_host
  global status_type status_message status_time environment]]):gmatch "%S+" do optional_fields[name] = true end

local strict_api = setmetatable({}, { __index = function(_, key)
  local value = api[key]
  if value == nil and type(key) == "string" and key:sub(1, 1) ~= "_" and not optional_fields[key] then
    error("module has no method or field " .. key, 2)
  end
  return value
end })

local function check_methods(methods)
  for method, line in pairs(methods) do
    if api[method] == nil and method ~= "set_global" and method ~= "config" then
      return ("%d: module has no method or field %s"):format(line, method)
    end
  end
end

local function check_event(module, event)
  if require "couplet.event_names".known(event) or api._events_doc[event]
    or event:sub(1, #module.name + 1) == module.name .. "/" then
    return
  end
  module:log("warn", "hooks %q, which is no event of the server nor declared by a plugin (events_doc)", event)
end

local function error_policy()
  local policy = config.get("*", "plugin_error_policy")
  if policy == "unload" then return tonumber((config.get("*", "plugin_error_limit"))) or 100 end
  return nil
end

local function new_module(host, name, base)
  local module = {
    name = name, host = host, global = host == "*", items = {},
    _owned = {}, _dependents = setmetatable({}, { __mode = "k" }), _error_policy = error_policy(),
    _stats = { calls = 0, errors = 0, seconds = 0, slow = 0 },
    _log = logger.init((host == "*" and "" or host .. ":") .. name),
  }
  if base then module.loaded = false end
  setmetatable(module, { __index = base or api, __tostring = show, __name = "module" })
  module._hook_options = { owner = module }
  module.config, module._forget_config = api._make_config(module)
  return module
end

-- --- calling into a plugin ---

function plugin.module_has_method(env, method)
  return type(rawget(env.module, method)) == "function"
end

function plugin.call_module_method(env, method, ...)
  local fn = rawget(env.module, method)
  if type(fn) ~= "function" then return nil, "module-function-missing" end
  return xpcall(fn, events.explain, ...)
end

-- --- giving everything back ---

local function release(module)
  local left = {}
  for _, fn in ipairs(array.reverse(rawget(module, "_on_unload") or {})) do module:_call("on_unload", fn) end
  module._on_unload = nil
  module:_release_items()
  for kind, handles in pairs(module._owned) do
    if kind ~= "hook" then
      for handle, give_back in pairs(handles) do
        if type(give_back) == "function" then
          local ok, err = pcall(give_back, handle)
          if not ok then left[#left + 1] = kind .. " (" .. tostring(err) .. ")" end
        end
        handles[handle] = nil
      end
    end
  end
  module:_release_hooks()
  module._owned = {}
  if left[1] then log("warn", "%s could not give back: %s", module, table.concat(left, ", ")) end
end

-- --- loading ---

local function fire(host, event, name)
  local bus = bus_of(host)
  if bus then bus.fire_event(event, { module = name, host = host }) end
end

local function ready(env)
  if prosody.is_started then
    local module = env.module
    if plugin.module_has_method(env, "ready") then module:_call("module.ready", rawget(module, "ready")) end
  end
end

-- The instance of a global plugin on one host.
local function load_on_host(host, name, shared, saved)
  if not plugin.module_has_method(shared, "add_host") then return nil, "global-module-already-loaded" end
  local module = new_module(host, name, shared.module)
  module.environment = setmetatable({ module = module }, { __index = shared })
  module.reloading, module.saved_state = saved ~= nil, saved
  put(host, name, module.environment)
  rawget(shared.module, "_host_modules")[module] = true
  local ok, result, why = xpcall(rawget(shared.module, "add_host"), events.explain, module)
  if not ok or result == false then
    put(host, name, nil)
    rawget(shared.module, "_host_modules")[module] = nil
    release(module)
    if not ok then log("error", "plugin %s on %s: %s", name, host, result) end
    return nil, ok and (why or "the plugin refused this host") or result
  end
  module.loaded = true
  return module.environment
end

local function not_found(message)
  return type(message) == "string" and message:find "^no mod_" ~= nil
end

local function load_fresh(host, name, saved)
  local module = new_module(host, name)
  local env = environment.new(module)
  module.environment = env
  module._host_modules = {}
  module.loaded = false
  module.reloading, module.saved_state = saved ~= nil, saved
  local chunk, path, meta = loader.load_code(name, nil, env)
  if not chunk then return nil, path, not_found(path) end
  module.path, module.meta = path, meta
  module.resource_path = path:match "^(.*)/[^/]*$"
  if meta.api then
    if meta.api > 1 then return nil, path .. " is for plugin API " .. meta.api .. "; this server has 1" end
    getmetatable(module).__index = strict_api
    local problem = check_methods(meta.methods)
    if problem then return nil, path .. ":" .. problem end
    module._declared_only, module._check_event = {}, check_event
    environment.strict(env)
  end

  function module.set_global(self)
    if self.host ~= "*" then
      put(self.host, name, nil)
      self.host, self.global = "*", true
      self._log = logger.init(name)
      put("*", name, env)
    end
  end

  put(host, name, env)
  local ok, err = xpcall(chunk, events.explain)
  if ok and plugin.module_has_method(env, "load") then
    ok, err = xpcall(rawget(module, "load"), events.explain)
    if ok and err == false then ok, err = false, "module.load returned false" end
  end
  if not ok then
    put(module.host, name, nil)
    for host_module in pairs(module._host_modules) do release(host_module) end
    release(module)
    return nil, err
  end
  module.loaded = true
  return env
end

local function do_load(host, name, saved)
  if type(name) ~= "string" or name == "" then return nil, "no plugin name" end
  name = name:gsub("^mod_", "")
  local map = modules_of(host)
  if not map then return nil, "unknown-host" end
  if map[name] then return nil, "module-already-loaded" end
  local shared = loaded["*"][name]
  if shared then return load_on_host(host, name, shared, saved) end
  local env, err, missing = load_fresh(host, name, saved)
  if not env then return nil, err, missing end
  if env.module.host == "*" and host ~= "*" and plugin.module_has_method(env, "add_host") then
    fire("*", "module-loaded", name)
    ready(env)
    return load_on_host(host, name, env, saved)
  end
  return env
end

local function option_list(host, key)
  local value = config.rawget(host, key)
  if type(value) == "string" then return { value } end
  if set.is_set(value) then
    local out = {}
    for x in value:items() do out[#out + 1] = x end
    return out
  end
  return type(value) == "table" and value or {}
end

-- Which line of the configuration wants a plugin: -> "file:line", section, option.
local function wanted_by(host, name)
  local words = { modules_enabled = name, component_module = name, authentication = name:match "^auth_(.+)",
    storage = name:match "^storage_(.+)" }
  for _, section in ipairs { host, "*" } do
    for key, word in pairs(words) do
      for _, value in pairs(option_list(section, key)) do
        if value == word then return config.place(section, key), section, key end
      end
    end
  end
end

-- The server goes on without it; a component has nothing else.
local function missing_plugin(host, name, err)
  local place, section, key = wanted_by(host, name)
  local at = place and place .. ": " or ""
  local text
  local instead = key ~= "component_module" and require "couplet.known_options".instead[name]
  if instead then
    text = ("%splugin %s is not needed: %s"):format(at, name, instead)
    if not place or config.once(text) then log("info", "%s", text) end
    return
  end
  if key == "component_module" then
    text = ("%splugin %s of the component %s is not installed: %s; nobody serves %s until it is (plugin_paths names further "
      .. "directories), or the line names another"):format(at, name, host, err, host)
  else
    text = ("%splugin %s%s is not installed: %s"):format(at, name, place and section == "*" and "" or " of " .. host, err)
  end
  if not place or config.once(text) then log(key == "component_module" and "error" or "warn", "%s", text) end
end

function plugin.load(host, name)
  local env, err, missing = do_load(host, name)
  if not env then
    if missing then missing_plugin(host, name, err)
    elseif err ~= "global-module-already-loaded" and err ~= "module-already-loaded" then
      log("error", "plugin %s cannot be loaded on %s: %s", name, host, err)
    end
    return nil, err
  end
  fire(env.module.host, "module-loaded", env.module.name)
  ready(env)
  return env
end

-- --- unloading ---

local do_unload

local function unload_dependents(module)
  local again = {}
  for other in pairs(rawget(module, "_dependents") or {}) do
    if other.loaded and plugin.is_loaded(other.host, other.name) then again[#again + 1] = other end
  end
  return again
end

function do_unload(host, name)
  local map = modules_of(host)
  local env = map and map[name]
  if not env then return nil, "module-not-loaded" end
  local module = env.module
  module.loaded = nil
  for _, other in ipairs(unload_dependents(module)) do
    log("info", "unloading %s with %s", other, module)
    plugin.unload(other.host, other.name)
  end
  for host_module in pairs(rawget(module, "_host_modules") or {}) do do_unload(host_module.host, name) end
  if plugin.module_has_method(env, "unload") then
    local ok, err = plugin.call_module_method(env, "unload")
    if not ok then log("error", "plugin %s on %s: module.unload: %s", name, host, err) end
  end
  put(host, name, nil)
  local base = getmetatable(module).__index
  local hosts_of = type(base) == "table" and rawget(base, "_host_modules")
  if hosts_of then hosts_of[module] = nil end
  release(module)
  fire(host, "module-unloaded", name)
  return true
end

function plugin.unload(host, name)
  return do_unload(host, (name:gsub("^mod_", "")))
end

-- --- reloading ---

local function saved_state(env)
  if not plugin.module_has_method(env, "save") then return {} end
  local ok, value = plugin.call_module_method(env, "save")
  if not ok then return nil, value end
  return value == nil and {} or value
end

function plugin.reload(host, name)
  local env = plugin.get_module(host, name)
  if not env then return nil, "module-not-loaded" end
  local module = env.module
  local base = getmetatable(module).__index
  if type(base) == "table" and rawget(base, "_host_modules") then        -- an instance of a global plugin
    return plugin.reload("*", name)
  end
  local chunk, err = loader.load_code(name, nil, {})
  if not chunk then return nil, err end
  local value
  value, err = saved_state(env)
  if value == nil then
    log("error", "plugin %s on %s: module.save: %s", name, host, err)
    return nil, err
  end
  local dependents = unload_dependents(module)
  module._dependents = {}
  local on_hosts = {}
  for host_module in pairs(rawget(module, "_host_modules") or {}) do
    on_hosts[#on_hosts + 1] = { host = host_module.host, saved = saved_state(host_module.environment) or {} }
  end
  -- Shared tables live on while we change places.
  local held = module._owned.shared     -- luacheck: ignore 231 (held, not used)
  do_unload(host, name)
  local new
  new, err = do_load(host, name, value)
  if not new then
    log("error", "plugin %s on %s did not come back after a reload: %s", name, host, err)
  else
    if plugin.module_has_method(new, "restore") then
      local ok, problem = plugin.call_module_method(new, "restore", value)
      if not ok then log("error", "plugin %s on %s: module.restore: %s", name, host, problem) end
    end
    for _, old in ipairs(on_hosts) do
      if not plugin.is_loaded(old.host, name) then
        local again, problem = do_load(old.host, name, old.saved)
        if not again then
          log("error", "plugin %s on %s did not come back after a reload: %s", name, old.host, problem)
        elseif plugin.module_has_method(again, "restore") then
          again.module:_call("module.restore", rawget(again.module, "restore"), old.saved)
        end
      end
    end
    fire(new.module.host, "module-reloaded", name)
    fire(new.module.host, "module-loaded", name)
    ready(new)
  end
  held = nil
  for _, other in ipairs(dependents) do plugin.reload(other.host, other.name) end
  if not new then return nil, err end
  return new
end

-- --- asking ---

function plugin.get_module(host, name)
  local map = modules_of(host)
  return map and map[name]
end

function plugin.get_modules(host)
  return modules_of(host)
end

function plugin.is_loaded(host, name)
  return plugin.get_module(host, name) ~= nil
end

-- In the order the plugins were loaded.
function plugin.get_items(key, host)
  host = host or "*"
  local out, map = array {}, modules_of(host) or {}
  for _, name in ipairs(order[host] or {}) do
    for _, item in ipairs(map[name] and map[name].module.items[key] or {}) do out:push(item) end
  end
  return out
end

-- --- what a host is to have ---

local function add_all(list, seen, from, skip)
  for _, name in ipairs(from) do
    if not seen[name] and not (skip and skip[name]) then
      seen[name] = true
      list[#list + 1] = name
    end
  end
end

function plugin.get_modules_for_host(host)
  local component = config.get(host, "component_module")
  local disabled = {}
  for _, name in ipairs(option_list("*", "modules_disabled")) do disabled[name] = true end
  for _, name in ipairs(option_list(host, "modules_disabled")) do disabled[name] = true end
  local list, seen, global = {}, {}, {}
  add_all(global, {}, always)
  add_all(global, {}, option_list("*", "modules_enabled"))
  if component then
    local kept = {}
    for _, name in ipairs(global) do
      if inherited:contains(name) then kept[#kept + 1] = name end
    end
    global = kept
  end
  if component and not disabled[component] then add_all(list, seen, { component }) end
  add_all(list, seen, global, disabled)
  add_all(list, seen, option_list(host, "modules_enabled"), disabled)
  return set.new(list), component, list
end

local quiet = set.new(always)

function plugin.load_host(host)
  local _, _, list = plugin.get_modules_for_host(host)
  for _, name in ipairs(list) do
    if not plugin.is_loaded(host, name) and (not quiet:contains(name) or loader.find(name)) then plugin.load(host, name) end
  end
end

function plugin.unload_host(host)
  local names = order[host] or {}
  for i = #names, 1, -1 do
    if names[i] and plugin.is_loaded(host, names[i]) then plugin.unload(host, names[i]) end
  end
  order[host] = nil
end

-- Brings what is loaded in line with the configuration. A plugin some other one depends on, or that was loaded by its
-- manager (auth_, storage_, authz_), stays.
function plugin.reconcile()
  local added, removed = {}, {}
  plugin.configure()
  for host in pairs(prosody.hosts) do
    local wanted, _, list = plugin.get_modules_for_host(host)
    local asked = rawget(prosody.hosts[host], "_enabled_plugins") or wanted
    for name in asked:items() do
      local env = plugin.get_module(host, name)
      if env and not wanted:contains(name) and not unload_dependents(env.module)[1] then
        plugin.unload(host, name)
        removed[#removed + 1] = host .. ":" .. name
      end
    end
    for _, name in ipairs(list) do
      if not plugin.is_loaded(host, name) and not plugin.is_loaded("*", name)
        and (not quiet:contains(name) or loader.find(name)) and plugin.load(host, name) then
        added[#added + 1] = host .. ":" .. name
      end
    end
    prosody.hosts[host]._enabled_plugins = wanted
  end
  return added, removed
end

-- What only the name of a file in a traceback tells of.
local function note(field)
  return function(name)
    for _, map in ipairs(name and plugin.maps() or {}) do
      local stats = map[name] and map[name].module._stats
      if stats then stats[field] = stats[field] + 1 end
    end
  end
end
local note_slow = note "slow"
task.failed = note "errors"

function plugin.configure()
  local paths = config.get("*", "plugin_paths")
  if type(paths) == "string" then paths = { paths } end
  local list = {}
  for _, dir in ipairs(type(paths) == "table" and paths or {}) do
    list[#list + 1] = config.path and config.path(dir) or dir
  end
  local installer = config.get("*", "installer_plugin_path")
  if type(installer) == "string" then list[#list + 1] = config.path and config.path(installer) or installer end
  loader.set_paths(list)
  if prosody.process_type ~= "prosodyctl" then
    local slow, abort = tonumber((config.get("*", "plugin_slow_ms"))) or 100,
      tonumber((config.get("*", "plugin_abort_ms"))) or 5000
    if slow > 0 or abort > 0 then task.watch(slow, abort, note_slow) else task.watch(nil) end
  end
end

-- Declared options are read again before anybody hears of the reload.
local function refresh()
  for _, map in ipairs(plugin.maps()) do
    for _, env in pairs(map) do env.module:_refresh_config() end
  end
end

function plugin.maps()
  local maps = { loaded["*"] }
  for _, host in pairs(prosody.hosts) do maps[#maps + 1] = host.modules end
  return maps
end

local started

function plugin.start()
  alias.install()
  plugin.configure()
  if started then return end
  started = true
  prosody.events.add_handler("host-activated", function(host)
    plugin.load_host(host)
    if prosody.hosts[host] then prosody.hosts[host]._enabled_plugins = (plugin.get_modules_for_host(host)) end
  end)
  prosody.events.add_handler("config-reloaded", refresh, 1e9)
  prosody.events.add_handler("server-started", function()
    for _, map in ipairs(plugin.maps()) do
      for _, env in pairs(map) do ready(env) end
    end
  end, 1e9)
end

return plugin
