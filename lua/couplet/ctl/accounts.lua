-- SPDX-License-Identifier: MIT
-- ctl/accounts: commands about accounts. They run in the server if it is up, else in coupletctl on the same storage.

local commands = require "couplet.commands"
local json_array = require "couplet.util.json".array

-- Without the server its plugins are not there either; the one that lets somebody in without a password must hear of changes.
local TOKENS = "sasl2_fast"

local function account(address)
  local node, host, resource = require "couplet.jid".prepped_split(address)
  if not node or resource then return nil, ("%s is no address of an account: USER@HOST is needed"):format(address) end
  local there = require "couplet.prosody".hosts[host]
  if not there then
    return nil, ("this server has no host %s (VirtualHost \"%s\" in the configuration makes one)"):format(host, host)
  elseif there.type == "component" then
    return nil, ("%s is a component, which has no accounts; those are on hosts that a VirtualHost line begins"):format(host)
  end
  local plugin = require "couplet.plugin"
  if require "couplet.prosody".process_type == "prosodyctl" and plugin.get_modules_for_host(host):contains(TOKENS)
    and not plugin.is_loaded(host, TOKENS) then
    local ok, err = plugin.load(host, TOKENS)
    if not ok then return nil, ("the tokens of %s could not be ended: %s"):format(address, tostring(err)) end
  end
  return node, host
end

local function users() return require "couplet.users" end

local function failure(err) return nil, tostring(err or "failed") end

local function is_no_role(host, name)
  if users().get_role_by_name(name, host) then return nil end
  local names = {}
  for known in pairs(users().get_all_roles(host) or {}) do names[#names + 1] = known end
  table.sort(names)
  return ("there is no role %s on %s; there are %s (custom_roles makes more)"):format(name, host,
    table.concat(names, ", "))
end

local function exists_already(node, host)
  return ("%s@%s exists already; `coupletctl passwd %s@%s` sets a new password"):format(node, host, node, host)
end

local function is_not_there(node, host) return ("there is no account %s@%s"):format(node, host) end

local function create(ctx, node, host, password)
  if not password or password == "" then return nil, "an account needs a password" end
  if users().user_exists(node, host) then return nil, exists_already(node, host) end
  local ok, err
  if ctx.options and ctx.options.role then
    err = is_no_role(host, ctx.options.role)
    if err then return nil, err end
    ok, err = users().create_user_with_role(node, password, host, ctx.options.role)
  else
    ok, err = users().create_user(node, password, host)
  end
  if not ok then return failure(err) end
  return true, ("%s@%s is ready"):format(node, host)
end

-- The text is also what adduser and passwd say when they give up. The exit code follows the answer, for scripts.
commands.declare { name = "user exists", args = "JID", help = "is there such an account (exit code 0) or not (1)", min = 1,
  where = "any",
  run = function(_, address)
    local node, host = account(address)
    if not node then return nil, host end
    local exists = users().user_exists(node, host) and true or false
    return true, (exists and exists_already or is_not_there)(node, host), exists
  end }

commands.declare { name = "adduser", args = "JID [--role=ROLE]", help = "make an account; asks for the password", min = 1,
  max = 2, where = "any", account = false, password = 2, options = { role = true },
  run = function(ctx, address, password)
    local node, host = account(address)
    if not node then return nil, host end
    return create(ctx, node, host, password)
  end }

commands.declare { name = "register", args = "USER HOST PASSWORD", help = "make an account, password on the command line",
  min = 3, where = "any",
  run = function(ctx, user, host, password)
    local node, prepped = account(user .. "@" .. host)
    if not node then return nil, prepped end
    return create(ctx, node, prepped, password)
  end }

commands.declare { name = "passwd", args = "JID", help = "set a new password; asks for it", min = 1, max = 2, where = "any",
  account = true, password = 2, run = function(_, address, password)
    local node, host = account(address)
    if not node then return nil, host end
    if not password or password == "" then return nil, "the password is empty" end
    if not users().user_exists(node, host) then return nil, is_not_there(node, host) end
    local ok, err = users().set_password(node, password, host, nil)
    if not ok then return failure(err) end
    return true, ("%s@%s has a new password"):format(node, host)
  end }

local function delete(node, host)
  if not users().user_exists(node, host) then return nil, is_not_there(node, host) end
  local ok, err = users().delete_user(node, host)
  if not ok then return failure(err) end
  return true, ("%s@%s and its data are gone"):format(node, host)
end

commands.declare { name = "deluser", args = "JID [--yes]", help = "delete an account and its data, after asking", min = 1,
  where = "any", account = true, confirm = "Delete %s and everything stored for it?", options = { yes = true },
  run = function(_, address)
    local node, host = account(address)
    if not node then return nil, host end
    return delete(node, host)
  end }

commands.declare { name = "unregister", args = "USER HOST", help = "delete an account and its data, without asking", min = 2,
  where = "any", run = function(_, user, host)
    local node, prepped = account(user .. "@" .. host)
    if not node then return nil, prepped end
    return delete(node, prepped)
  end }

commands.declare { name = "user list", args = "HOST [TEXT]", help = "accounts of a host, or those with TEXT in their name",
  min = 1, max = 2, where = "any", run = function(ctx, host, part)
    if not require "couplet.prosody".hosts[host] then return nil, "this server has no host " .. host end
    local list = json_array()
    for name in users().users(host) do
      if not part or name:find(part, 1, true) then list[#list + 1] = name end
    end
    table.sort(list)
    for _, name in ipairs(list) do ctx:print("%s@%s", name, host) end
    return true, #list .. (#list == 1 and " account" or " accounts"), list
  end }

local function switch(name, help, enable)
  commands.declare { name = name, args = "JID", help = help, min = 1, where = "any",
    run = function(_, address)
      local node, host = account(address)
      if not node then return nil, host end
      if not users().user_exists(node, host) then return nil, is_not_there(node, host) end
      local ok, err
      if enable then ok, err = users().enable_user(node, host) else ok, err = users().disable_user(node, host, {}) end
      if not ok then return failure(err) end
      return true, ("%s@%s is %s"):format(node, host, enable and "enabled" or "disabled")
    end }
end
switch("user enable", "let a disabled account log in again", true)
switch("user disable", "keep an account, but let nobody log in to it", false)

commands.declare { name = "user role", args = "JID [ROLE]", help = "show or set the role of an account", min = 1, max = 2,
  where = "any", run = function(_, address, role)
    local node, host = account(address)
    if not node then return nil, host end
    if not users().user_exists(node, host) then return nil, is_not_there(node, host) end
    if role then
      local problem = is_no_role(host, role)
      if problem then return nil, problem end
      local ok, err = users().set_user_role(node, host, role)
      if not ok then return failure(err) end
    end
    local now = users().get_user_role(node, host)
    return true, ("%s@%s has the role %s"):format(node, host, type(now) == "table" and now.name or tostring(now))
  end }

-- What mod_sasl2 of the account's host knows.
local function clients_of(address)
  local node, host = account(address)
  if not node then return nil, host end
  local env = require "couplet.plugin".get_module(host, "sasl2")
  if not env then return nil, ("%s remembers no clients: the plugin sasl2 is not loaded there"):format(host) end
  return env, node
end

commands.declare { name = "user clients", args = "JID", help = "clients an account has logged in with", min = 1,
  run = function(ctx, address)
    local env, node = clients_of(address)
    if not env then return nil, node end
    local list, err = env.clients(node)
    if not list then return failure(err) end
    for _, c in ipairs(list) do
      ctx:print("%s  %s  %s%s", c.id, os.date("%Y-%m-%d", c.last), table.concat({ c.software or "?", c.device }, ", "),
        c.resource and "  online as " .. c.resource or "")
    end
    return true, #list .. (#list == 1 and " client" or " clients"), json_array(list)
  end }

commands.declare { name = "user forget-client", args = "JID ID", min = 2,
  help = "log a client out: its session and its token end",
  run = function(_, address, id)
    local env, node = clients_of(address)
    if not env then return nil, node end
    local ok, err = env.forget(node, id:lower())
    if not ok then return failure(err) end
    return true, "the client must log in with a password again"
  end }
