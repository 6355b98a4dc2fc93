-- SPDX-License-Identifier: MIT
-- mod_authz_internal: who has which role, and what roles may. PLUGIN-API §11. The functions below are those of
-- core.usermanager without the host.
--
-- A role set for an account is kept in the store account_roles: { _default = role, [secondary role] = true }.

local jid = require "util.jid"
local roles = require "util.roles"
local set = require "util.set"
local prosody = require "couplet.prosody"

module:config {
  admins = { type = "set", doc = "accounts that may administer: all of the server, or the host they are named in" },
  default_user_role = { type = "string", default = "prosody:registered", doc = "role of accounts that were given none" },
  custom_roles = { type = "any", doc = "{ { name = \"x:y\", inherits = { \"prosody:registered\" }, priority = 30, allow = {}, "
    .. "deny = {} } }" },
  add_permissions = { type = "table", doc = "{ [role] = { \"plugin:what\" } }" },
  remove_permissions = { type = "table", doc = "{ [role] = { \"plugin:what\" } }" },
  parent_host = { type = "string", doc = "on a component: the host it belongs to" },
  host_user_role = { type = "string", doc = "on a component: role of that host's users" },
  server_user_role = { type = "string", doc = "on a component: role of this server's other users" },
  public_user_role = { type = "string", doc = "on a component: role of everybody else" },
}

local config = require "couplet.config"
local host = module.host
local is_component = module:get_host_type() == "component"

local function addresses(list)
  local out = {}
  if type(list) == "string" then list = { list } end
  local function add(address)
    local prepped = jid.prep(address)
    if prepped then
      out[jid.bare(prepped)] = true
    else
      module:log("error", "admins: %s is no address", address)
    end
  end
  if set.is_set(list) then
    for address in list:items() do add(address) end
  else
    for _, address in ipairs(list or {}) do add(address) end
  end
  return out
end

local operators, host_admins
local function read_admins()
  operators = addresses(config.rawget("*", "admins"))
  host_admins = addresses(config.rawget(host, "admins"))
end
read_admins()
module:hook_global("config-reloaded", read_admins)

--- Roles

local registry = {}        -- by name
local order = {}

local function full_name(name)
  if type(name) == "table" then return name.name end
  return (tostring(name):gsub("^couplet:", "prosody:"))
end

local function register(role)
  if not registry[role.name] then order[#order + 1] = role.name end
  registry[role.name] = role
  return role
end

local function built_in(name, priority, ...)
  return register(roles.new { name = name, priority = priority, inherits = { ... } })
end
local guest = built_in("prosody:guest", 15)
local registered = built_in("prosody:registered", 25, guest)
local member = built_in("prosody:member", 35, registered)
local admin = built_in("prosody:admin", 50, member)
built_in("prosody:operator", 75, admin)

for i, custom in ipairs(module:get_option("custom_roles", {})) do
  local role = type(custom) == "table" and type(custom.name) == "string"
    and roles.new { name = custom.name, priority = custom.priority }
  if not role then
    module:log("error", "custom_roles: number %d has no name", i)
  elseif registry[custom.name] then
    module:log("error", "custom_roles: there is a role %s already", custom.name)
  else
    for _, name in ipairs(custom.inherits or {}) do
      local inherited = registry[full_name(name)]
      if inherited then
        table.insert(role.inherits, inherited)
      else
        module:log("error", "custom_roles: %s inherits the role %s, which is not defined before it", custom.name, name)
      end
    end
    local highest = role.inherits[1] and role.inherits[1].priority or 0
    role.priority = role.priority or highest + 1
    for _, permission in ipairs(custom.allow or {}) do role:set_permission(permission, true) end
    for _, permission in ipairs(custom.deny or {}) do role:set_permission(permission, false) end
    register(role)
  end
end

-- The administrator's word stands over what plugins seed.
for option, policy in pairs { add_permissions = true, remove_permissions = false } do
  for name, list in pairs(module:get_option(option, {})) do
    local role = registry[full_name(name)]
    if role then
      for _, permission in ipairs(list) do role:set_permission(permission, policy, true) end
    else
      module:log("error", "%s: there is no role %s", option, name)
    end
  end
end

function get_role_by_name(name)
  local role = registry[full_name(name)]
  if not role then return nil, "no such role: " .. tostring(name) end
  return role
end

function get_all_roles()
  local out = {}
  for name, role in pairs(registry) do out[name] = role end
  return out
end

function add_default_permission(name, permission, policy)
  local role, err = get_role_by_name(name)
  if not role then
    module:log("warn", "permission %s is for the role %s, which does not exist", permission, tostring(name))
    return nil, err
  end
  if role.permissions[permission] ~= nil then return true end
  return role:set_permission(permission, policy ~= false)
end

--- Roles of accounts

local store, store_map
if not is_component then
  store = module:open_store("account_roles")
  store_map = module:open_store("account_roles", "map")
end

local function by_config(bare)
  if operators[bare] then return registry["prosody:operator"] end
  if host_admins[bare] then return admin end
end

local function default_role()
  local name = module:get_option_string("default_user_role", "prosody:registered")
  return registry[full_name(name)] or registered
end

function get_user_role(username)
  local role = by_config(username .. "@" .. host)
  if role then return role end
  if not store_map then return nil, "not-implemented" end
  local name, err
  if not store_map.has or store_map:has(username) then name, err = store_map:get(username, "_default") end    -- most have none
  if name == nil and err then return nil, err end
  if not name then return default_role() end
  role = registry[full_name(name)]
  if not role then
    module:log("error", "%s has the role %s, which is not defined; it may do nothing", username, name)
    return guest
  end
  return role
end

local function change(username, changes)
  if not store_map then return nil, "not-implemented" end
  return store_map:set_keys(username, changes)
end

function set_user_role(username, name)
  local role, err = get_role_by_name(name)
  if not role then return nil, err end
  if by_config(username .. "@" .. host) then return nil, "the role of an account in `admins` cannot be changed" end
  local ok
  -- The primary role is no secondary one as well.
  ok, err = change(username, { _default = role.name, [role.name] = store_map and store_map.remove })
  if not ok then return nil, err end
  return role
end

function add_user_secondary_role(username, name)
  local role, err = get_role_by_name(name)
  if not role then return nil, err end
  local ok
  ok, err = change(username, { [role.name] = true })
  if not ok then return nil, err end
  return role
end

function remove_user_secondary_role(username, name)
  return change(username, { [full_name(name)] = store_map and store_map.remove })
end

function get_user_secondary_roles(username)
  if not store then return {} end
  local stored, err = store:get(username)
  if not stored and err then return nil, err end
  local out = {}
  for name, value in pairs(stored or {}) do
    if name ~= "_default" and value == true then out[name] = registry[name] end
  end
  return out
end

function user_can_assume_role(username, name)
  name = full_name(name)
  local primary, err = get_user_role(username)
  if not primary then return nil, err end
  if primary:includes(name) then return true end
  local secondary = get_user_secondary_roles(username)
  return secondary ~= nil and secondary[name] ~= nil
end

-- -> array of usernames
function get_users_with_role(name)
  name = full_name(name)
  local found = {}
  if store_map then
    for username, primary in pairs(store_map:get_all("_default") or {}) do
      if full_name(primary) == name then found[username] = true end
    end
    for username in pairs(store_map:get_all(name) or {}) do found[username] = true end
    if name == default_role().name then
      local given = store_map:get_all("_default") or {}
      for username in require "core.usermanager".users(host) do
        if not given[username] then found[username] = true end
      end
    end
  end
  for _, list in ipairs { operators, host_admins } do
    for bare in pairs(list) do
      local node, of = jid.split(bare)
      if of == host and node then found[node] = by_config(bare).name == name or nil end
    end
  end
  local out = {}
  for username in pairs(found) do out[#out + 1] = username end
  table.sort(out)
  return out
end

--- Roles of addresses from elsewhere

local function parent()
  local name = module:get_option_string("parent_host")
  if name then return name end
  name = host:match "^[^.]+%.(.+)$"
  if name and prosody.hosts[name] and prosody.hosts[name].type == "local" then return name end
end

function get_jid_role(address)
  local bare = jid.bare(address)
  local role = by_config(bare)
  if role then return role end
  local from = jid.host(bare)
  if not is_component then
    if from == host and jid.node(bare) then return get_user_role((jid.node(bare))) end
    return nil
  end
  local option, default
  if from == parent() then
    option, default = "host_user_role", "prosody:registered"
  elseif from and prosody.hosts[from] then
    option = "server_user_role"
  else
    option = "public_user_role"
  end
  local name = module:get_option_string(option, default)
  return name and registry[full_name(name)] or nil
end

function set_jid_role()
  return nil, "not-implemented"
end

-- -> array of addresses
function get_jids_with_role(name)
  name = full_name(name)
  local out = {}
  for _, username in ipairs(is_component and {} or get_users_with_role(name)) do out[#out + 1] = username .. "@" .. host end
  for _, list in ipairs { operators, host_admins } do
    for bare in pairs(list) do
      if jid.host(bare) ~= host and by_config(bare).name == name then out[#out + 1] = bare end
    end
  end
  return out
end
