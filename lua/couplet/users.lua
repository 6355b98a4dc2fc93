-- SPDX-License-Identifier: MIT
-- users.lua: accounts and their roles (core.usermanager). PLUGIN-API §8.4, §10, §11.
--
-- Accounts are kept by the plugin mod_auth_X the option `authentication` names (default internal_hashed), roles by
-- mod_authz_X of `authorization` (default internal). Everything may wait. Failures are nil, message.
--
--   user_exists(user, host), create_user(user, password, host), create_user_with_role(user, password, host, role),
--   test_password(user, host, password), set_password(user, password, host, resource?), get_password(user, host),
--   delete_user(user, host), get_account_info(user, host), user_is_enabled, enable_user, disable_user(user, host, meta?),
--   users(host) -> iterator, get_provider(host), get_sasl_handler(host, session)
--   get_user_role(user, host), set_user_role(user, host, name), user_can_assume_role, add_user_secondary_role,
--   remove_user_secondary_role, get_user_secondary_roles, get_users_with_role(name, host), get_jid_role(jid, host),
--   set_jid_role(jid, host, name), get_jids_with_role(name, host), get_role_by_name(name, host), get_all_roles(host),
--   is_admin(jid, host?)

local config = require "couplet.config"
local jid = require "couplet.jid"
local leftovers = require "couplet.leftovers"
local prosody = require "couplet.prosody"
local task = require "couplet.task"
local log = require "couplet.logger".init "usermanager"

local users = {}
local hosts = prosody.hosts
local fire = prosody.events.fire_event

--- Providers

local function not_implemented() return nil, "method not implemented" end
local missing = { __index = function() return not_implemented end }

function users.new_null_provider()
  return setmetatable({
    name = "null",
    get_sasl_handler = function() return nil, "no authentication on this host" end,
    users = function() return function() end end,
  }, missing)
end

local null = users.new_null_provider()

local function completed(provider)
  if not getmetatable(provider) then setmetatable(provider, missing) end
  return provider
end

-- What the options of a host name. Accounts with passwords in clear are known to internal_hashed, too.
local function auth_of(host)
  local auth = config.get(host, "authentication")
  if auth == nil and config.get(host, "anonymous_login") then return "anonymous" end
  return auth ~= "internal_plain" and auth or "internal_hashed"
end

-- (Loads and) finds it.
local function choose(host)
  local plugin = require "couplet.plugin"
  local auth = auth_of(host)
  local authz = config.get(host, "authorization") or "internal"
  local h = hosts[host]
  if h.authz_name ~= authz then
    if not plugin.is_loaded(host, "authz_" .. authz) then plugin.load(host, "authz_" .. authz) end
    local env = plugin.get_module(host, "authz_" .. authz)
    if env then
      h.authz, h.authz_name = env, authz
    else
      log("error", "%s: without the plugin authz_%s nobody has a role here", host, authz)
    end
  end
  if h.type ~= "local" then return end
  if not (h.users and h.users.name == auth) then
    h.users = nil
    if not plugin.is_loaded(host, "auth_" .. auth) then plugin.load(host, "auth_" .. auth) end
    for _, item in ipairs(plugin.get_items("auth-provider", host)) do
      if item.name == auth then h.users = completed(item) end
    end
    if not h.users then
      local place, own = config.place(host, "authentication"), config.rawget(host, "authentication") ~= nil
      local text = place and ("%s: without the plugin auth_%s nobody can log in%s"):format(place, auth,
        own and " on " .. host or "") or ("%s: without the plugin auth_%s nobody can log in here"):format(host, auth)
      if not place or config.once(text) then log("error", "%s", text) end
    end
  end
end

function users.initialize_host(host)
  local h = hosts[host]
  if not h then return nil, "unknown-host" end
  local bus = h.events
  bus.add_handler("item-added/auth-provider", function(event)
    if event.item.name == auth_of(host) then h.users = completed(event.item) end
  end)
  bus.add_handler("item-removed/auth-provider", function(event)
    if h.users == event.item then h.users = nil end
  end)
  -- A reloaded authz plugin is another environment.
  bus.add_handler("module-loaded", function(event)
    local wanted = config.get(host, "authorization") or "internal"
    if event.module == "authz_" .. wanted then
      h.authz, h.authz_name = h.modules[event.module], wanted
    end
  end, 1e9)
  choose(host)
  return true
end

prosody.events.add_handler("host-activated", function(host)                     -- before the plugins of the host
  users.initialize_host(host)
end, 100)
prosody.events.add_handler("config-reloaded", function()
  for host in pairs(hosts) do choose(host) end
end, 1e8)

local function provider_of(host)
  local h = hosts[host]
  return h and h.users or null
end

function users.get_provider(host)
  return provider_of(host)
end

local function authz_of(host)
  local h = hosts[host]
  return h and h.authz
end

--- Accounts

local function sessions_of(username, host)
  local user = hosts[host] and hosts[host].sessions[username]
  local out = {}
  for _, session in pairs(user and user.sessions or {}) do out[#out + 1] = session end
  return out
end

-- Priorities of what follows a change, so that nobody slips in between: 300 what lets somebody in without a password is void
-- (mod_sasl2_fast), 250 who is about to log in is turned away (mod_c2s), 200 sessions end, all but the one that did it.
local function close_sessions(name, condition, text)
  prosody.events.add_handler(name, function(event)
    for _, session in ipairs(sessions_of(event.username, event.host)) do
      if not event.resource or session.resource ~= event.resource then session:close { condition = condition, text = text } end
    end
  end, 200)
end
close_sessions("user-password-changed", "reset", "Your password was changed")
close_sessions("user-disabled", "not-authorized", "This account has been disabled")
close_sessions("user-deleted", "not-authorized", "This account has been deleted")

function users.user_exists(username, host)
  if not hosts[host] then return false end
  return provider_of(host).user_exists(username)
end

function users.test_password(username, host, password)
  return provider_of(host).test_password(username, password)
end
function users.validate_credentials(host, username, password)          -- an older spelling
  return provider_of(host).test_password(username, password)
end

function users.get_password(username, host)
  return provider_of(host).get_password(username)
end

function users.set_password(username, password, host, resource)
  local ok, err = provider_of(host).set_password(username, password)
  if not ok then return nil, err end
  log("info", "password of %s@%s changed", username, host)
  fire("user-password-changed", { username = username, host = host, resource = resource })
  return ok
end

-- A name is given to one at a time, and when nothing is left of an account that had it before.
local changing = {}                              -- "username@host" of accounts that are being made or deleted

local Reserved = { __close = function(reserved) changing[reserved.address] = nil end }

local function reserve(username, host)
  local address = username .. "@" .. host
  if changing[address] then return nil, "the account is just being made or deleted" end
  changing[address] = true
  return setmetatable({ address = address }, Reserved)
end

-- make(provider) -> true | nil, message
local function create(username, host, make)
  local reserved <close>, err = reserve(username, host)
  if not reserved then return nil, err end
  local provider = provider_of(host)
  if provider.user_exists(username) then return nil, "the account exists already" end
  local free
  free, err = leftovers.clear(username, host)
  if not free then return nil, err end
  return make(provider)
end

function users.create_user(username, password, host)
  return create(username, host, function(provider) return provider.create_user(username, password) end)
end

-- Sessions end, then everything goes that is stored.
local function delete(username, host)
  leftovers.begin(username, host)
  local ok, err = provider_of(host).delete_user(username)
  if not ok then
    leftovers.none(username, host)
    return nil, err
  end
  log("info", "account %s@%s deleted", username, host)
  fire("user-deleted", { username = username, host = host })
  local removed
  removed, err = leftovers.remove(username, host)
  if not removed then return nil, "the account is gone, but not all of its data: " .. tostring(err) end
  return ok
end

-- No moment in which the account exists without its role: it is made without a password first.
function users.create_user_with_role(username, password, host, role_name)
  local authz = authz_of(host)
  if not authz then return nil, "no authorisation on this host" end
  if not authz.get_role_by_name(role_name) then return nil, "no such role: " .. tostring(role_name) end
  return create(username, host, function(provider)
    local ok, err = provider.create_user(username, nil)
    if not ok then return nil, err end
    ok, err = authz.set_user_role(username, role_name)
    if not ok then
      provider.delete_user(username)
      return nil, err
    end
    if password ~= nil then
      ok, err = provider.set_password(username, password)
      if not ok then
        delete(username, host)
        return nil, err
      end
    end
    ok, err = provider.enable(username)
    if not ok and err ~= "method not implemented" then return nil, err end
    return true
  end)
end

function users.delete_user(username, host)
  local reserved <close>, err = reserve(username, host)
  if not reserved then return nil, err end
  return delete(username, host)
end

local function finish_deletions(host)
  for username in pairs(leftovers.of(host)) do
    local reserved <close> = reserve(username, host)           -- whoever has it removes them
    if reserved then
      local there, trouble = provider_of(host).user_exists(username)
      if there then
        leftovers.none(username, host)
      elseif not trouble then
        log("info", "removing what is left of %s@%s", username, host)
        local ok, err = leftovers.remove(username, host)
        if not ok then log("error", "what is left of %s@%s cannot be removed: %s", username, host, err) end
      end
    end
  end
end

prosody.events.add_handler("server-started", function()
  for host, h in pairs(hosts) do
    if h.type == "local" then task.spawn(finish_deletions, host) end         -- a large archive takes its time
  end
end)

function users.get_account_info(username, host)
  return provider_of(host).get_account_info(username)
end

function users.user_is_enabled(username, host)
  local provider = provider_of(host)
  local enabled, err = provider.is_enabled(username)
  if enabled == nil and err == "method not implemented" then
    local info = provider.get_account_info(username)
    if info and info.enabled ~= nil then return info.enabled end
    return provider.user_exists(username)
  end
  return enabled, err
end

function users.enable_user(username, host)
  local ok, err = provider_of(host).enable(username)
  if not ok then return nil, err end
  log("info", "account %s@%s enabled", username, host)
  fire("user-enabled", { username = username, host = host })
  return ok
end

function users.disable_user(username, host, meta)
  local ok, err = provider_of(host).disable(username, meta)
  if not ok then return nil, err end
  log("info", "account %s@%s disabled", username, host)
  fire("user-disabled", { username = username, host = host, meta = meta })
  return ok
end

local function iterator(iterate, ...)
  if iterate then return iterate, ... end
  return function() end
end

function users.users(host)
  return iterator(provider_of(host).users())
end

function users.get_sasl_handler(host, session)
  return provider_of(host).get_sasl_handler(session)
end

--- Roles

local no_authz = "no authorisation on this host"

-- The function of that name of the host's authz plugin.
local function ask(host, name, ...)
  local authz = authz_of(host)
  if not authz then return nil, no_authz end
  local fn = authz[name]
  if not fn then return nil, "method not implemented" end
  return fn(...)
end

local function role_name(role)
  return type(role) == "table" and role.name or role
end

function users.get_user_role(username, host)
  return ask(host, "get_user_role", username)
end

local role_changes = 0

-- [+] Reads a role before it is wanted; what is returned gives it as it is when that is called. Both may wait, the second seldom.
function users.user_role_ahead(username, host)
  local before, role = role_changes, users.get_user_role(username, host)
  return function()
    if role_changes ~= before then role = users.get_user_role(username, host) end
    return role
  end
end

function users.set_user_role(username, host, name)
  local before = users.get_user_role(username, host)
  local role, err = ask(host, "set_user_role", username, role_name(name))
  if not role then return nil, err end
  role_changes = role_changes + 1
  log("info", "%s@%s has the role %s now", username, host, role.name)
  for _, session in ipairs(sessions_of(username, host)) do session.role = role end
  for session in pairs(require "couplet.sessions".unbound) do          -- who has logged in and is about to bind a resource
    if session.username == username and session.host == host then session.role = role end
  end
  fire("user-role-changed", { username = username, host = host, role = role, previous_role = before })
  return role
end

function users.user_can_assume_role(username, host, name)
  return ask(host, "user_can_assume_role", username, role_name(name))
end

function users.add_user_secondary_role(username, host, name)
  local role, err = ask(host, "add_user_secondary_role", username, role_name(name))
  if not role then return nil, err end
  fire("user-role-added", { username = username, host = host, role_name = role.name, role = role })
  return true
end

function users.remove_user_secondary_role(username, host, name)
  local ok, err = ask(host, "remove_user_secondary_role", username, role_name(name))
  if not ok then return nil, err end
  fire("user-role-removed", { username = username, host = host, role_name = role_name(name) })
  return true
end

function users.get_user_secondary_roles(username, host)
  return ask(host, "get_user_secondary_roles", username)
end

function users.get_users_with_role(name, host)
  return ask(host, "get_users_with_role", role_name(name))
end

function users.get_jid_role(address, host)
  return ask(host, "get_jid_role", address)
end

function users.set_jid_role(address, host, name)
  return ask(host, "set_jid_role", address, role_name(name))
end

function users.get_jids_with_role(name, host)
  return ask(host, "get_jids_with_role", role_name(name))
end

function users.get_role_by_name(name, host)
  return ask(host, "get_role_by_name", name)
end

function users.get_all_roles(host)
  return ask(host, "get_all_roles")
end

-- Of the host; without one, or "*": of the whole server.
function users.is_admin(address, host)
  local bare = jid.bare(address)
  if not bare then return false end
  if not host or host == "*" then
    for name in pairs(hosts) do
      local role = users.get_jid_role(bare, name)
      if role and role:includes "prosody:operator" then return true end
    end
    return false
  end
  local role = users.get_jid_role(bare, host)
  return role ~= nil and role:includes "prosody:admin"
end

--- Older spellings: sets of role names

function users.get_roles(address, host)
  local role = users.get_jid_role(jid.bare(address), host or jid.host(address))
  return role and { [role.name] = true } or {}
end

function users.get_user_roles(username, host)
  local role = users.get_user_role(username, host)
  local out = role and { [role.name] = true } or {}
  for name in pairs(users.get_user_secondary_roles(username, host) or {}) do out[name] = true end
  return out
end

function users.set_user_roles(username, host, names)
  local best
  for name, value in pairs(names) do
    if value == true then
      local role, err = users.get_role_by_name(name, host)
      if not role then return nil, err end
      if not best or (role.priority or 0) > (best.priority or 0) then best = role end
    end
  end
  if not best then return nil, "no roles" end
  return users.set_user_role(username, host, best.name)
end

return users
