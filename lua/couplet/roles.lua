-- SPDX-License-Identifier: MIT
-- roles.lua: what a role may (util.roles). PLUGIN-API §11.
--
--   roles.new{ name =, priority =, inherits = { role, … }, permissions = { [permission] = bool }, default = bool } -> role
--   roles.is_role(x)
--   role:may(permission, context?) -> true | false
--   role:set_permission(permission, policy, overwrite?) -> true | false, message      policy: true, false, or nil to forget
--   role:policies() -> iterator (permission, policy), inherited ones included
--   role:clone() -> role        may be changed without changing this one
--   role:includes(name) -> bool: is it, or does it inherit, the role of that name?

local roles = {}

local methods = {}
local role_mt = { __index = methods, __name = "role" }
function role_mt:__tostring() return "role<" .. (self.name or "?") .. ">" end

function roles.is_role(x)
  return getmetatable(x) == role_mt
end

function roles.new(base)
  base = base or {}
  return setmetatable({
    name = base.name, priority = base.priority, default = base.default, inherits = base.inherits or {},
    permissions = base.permissions or {},
  }, role_mt)
end

-- The nearest rule decides: the role's own, then those it inherits, in order.
local function policy(role, permission)
  local own = role.permissions[permission]
  if own ~= nil then return own end
  for _, inherited in ipairs(role.inherits) do
    own = policy(inherited, permission)
    if own ~= nil then return own end
  end
end

function methods:may(permission)
  return policy(self, permission) == true
end

function methods:set_permission(permission, value, overwrite)
  local now = self.permissions[permission]
  if now ~= nil and now ~= value and not overwrite then return false, "policy-already-exists" end
  self.permissions[permission] = value
  return true
end

local function collect(role, into)
  for permission, value in pairs(role.permissions) do
    if into[permission] == nil then into[permission] = value end
  end
  for _, inherited in ipairs(role.inherits) do collect(inherited, into) end
  return into
end

function methods:policies()
  return pairs(collect(self, {}))
end

function methods:clone()
  return roles.new { name = self.name, priority = self.priority, default = self.default, inherits = { self } }
end

function methods:includes(name)
  if self.name == name then return true end
  for _, inherited in ipairs(self.inherits) do
    if inherited:includes(name) then return true end
  end
  return false
end

return roles
