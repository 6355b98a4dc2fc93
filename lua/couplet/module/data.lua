-- SPDX-License-Identifier: MIT
-- module/data.lua: stores, statistics, web addresses, permissions. PLUGIN-API §3.7, §3.8.

local api = {}

function api:open_store(name, kind)
  if self.host == "*" then return nil, "global-storage-not-supported" end
  return require "couplet.store".open(self.host, name or self.name, kind)
end

-- --- statistics ---

-- A family may belong to the plugin's instances on several hosts; it goes with the last.
local holders = {}

local function hold(self, name)
  if self._owned.metric and self._owned.metric[name] then return end
  holders[name] = (holders[name] or 0) + 1
  self._own(self, "metric", name, function()
    holders[name] = holders[name] - 1
    if holders[name] == 0 then
      holders[name] = nil
      require "couplet.metrics".get_metric_registry():remove(name)
    end
  end)
end

local function metric_name(self, name)
  return "mod_" .. self.name .. "_" .. name
end

function api:metric(kind, name, unit, description, labels, conf)
  name = "couplet_" .. metric_name(self, name)
  local family = require "couplet.metrics".metric(kind, name, unit, description, labels, conf)
  hold(self, family.name or name)
  return family
end

function api:measure(name, kind, conf)
  local metrics = require "couplet.metrics"
  name = metric_name(self, name)
  local fn, family = metrics.measure(kind, name, conf, "host", self.host)
  hold(self, family and family.name or "couplet_" .. name)
  return fn
end

-- The public address of one of the plugin's web apps, as the options http_external_url, http_host, http_paths say.
function api:http_url(app, default_path)
  app = app or (self.name:gsub("^http_", ""))
  local paths = self:get_option("http_paths")
  local path = type(paths) == "table" and paths[app] or default_path or "/" .. app
  path = path:gsub("%$(%w+)", { host = self.host })
  local base = self:get_option_string("http_external_url")
  if not base then
    local host = self:get_option_string("http_host", self.host)
    local port = self:get_option_array("https_ports", { 5281 })[1]
    if port then
      base = "https://" .. host .. (port == 443 and "" or ":" .. port)
    else
      port = self:get_option_array("http_ports", { 5280 })[1]
      if not port then return "http://disabled.invalid/" end
      base = "http://" .. host .. (port == 80 and "" or ":" .. port)
    end
  end
  return (base:gsub("/+$", "")) .. "/" .. (path:gsub("^/+", ""))
end

-- --- permissions: the rules are mod_authz_*'s ---

local function full(self, permission)
  if permission:sub(1, 1) == ":" then return self.name .. permission end
  return permission
end

function api:default_permission(role, permission)
  local host = require "couplet.prosody".hosts[self.host]
  local authz = host and host.authz
  if not authz or not authz.add_default_permission then return nil, "no authorisation on this host" end
  return authz.add_default_permission(role, full(self, permission))
end

function api:default_permissions(role, list)
  for _, permission in ipairs(list) do self:default_permission(role, permission) end
end

local function role_of(self, context)
  local hosts, users, jid = require "couplet.prosody".hosts, require "couplet.users", require "couplet.jid"
  local actor
  if type(context) == "string" then
    actor = context
  elseif type(context) == "table" or type(context) == "userdata" then
    local session = context.origin or context.session
    if session and session.type == "c2s" and session.host == self.host then return session.role end
    actor = context.actor_jid or context.stanza and context.stanza.attr.from
      or session and session.full_jid
  end
  if not actor then return nil, "nobody to ask about" end
  local node, host = jid.split(actor)
  if host == self.host and hosts[host] and node then return users.get_user_role(node, host), nil, actor end
  return users.get_jid_role(jid.bare(actor), self.host), nil, actor
end

function api:could(action, context)
  local role = role_of(self, context)
  if not role then return false end
  return role:may(full(self, action), context) == true
end

function api:may(action, context)
  local role, why, actor = role_of(self, context)
  local name = full(self, action)
  if not role then
    self:log("warn", "access denied: %s has no role for %s on %s (%s)", actor or "somebody", name, self.host, why or "unknown")
    return false
  end
  if role:may(name, context) then return true end
  self:log("debug", "access denied: %s may not %s", role.name, name)
  return false
end

return api
