-- SPDX-License-Identifier: MIT
-- module/data.lua: stores, statistics, web addresses, permissions. PLUGIN-API §3.7, §3.8.

local api = {}

function api:open_store(name, kind)
  if self.host == "*" then return nil, "global-storage-not-supported" end
  return require "couplet.store".open(self.host, name or self.name, kind)
end

-- --- statistics ---

local kinds = {
  amount = "gauge", counter = "counter", rate = "counter", distribution = "summary", sizes = "summary",
  duration = "summary", times = "summary",
}

function api:metric(kind, name, unit, description, labels, conf)
  local metrics = require "couplet.metrics"
  local names = labels or {}
  local metric = metrics.new(kind, "prosody_mod_" .. self.name .. "/" .. name, unit or "", description, names, conf)
  self._own(self, "metric", metric, function()
    if metrics.remove then metrics.remove(metric) end
  end)
  return metric
end

local clock = require "couplet.clock"

function api:measure(name, kind, conf)
  local family = kinds[kind]
  if not family then error("unknown kind of measurement: " .. tostring(kind), 2) end
  local timed = kind == "duration" or kind == "times"
  local metric = self:metric(family, name, timed and "seconds" or "", (conf and conf.description) or name, { "host" }, conf)
  metric = metric:with_labels(self.host)
  if timed then
    return function()
      local began = clock.mono()
      return function() metric:sample(clock.mono() - began) end
    end
  elseif kind == "amount" then
    return function(value) metric:set(value) end
  elseif family == "counter" then
    return function(n) metric:add(n or 1) end
  end
  return function(value) metric:sample(value) end
end

function api:http_url(app, default_path, mode)
  return require "couplet.http".url(self.host, app or (self.name:gsub("^http_", "")), default_path, mode)
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
