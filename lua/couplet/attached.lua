-- SPDX-License-Identifier: MIT
-- attached.lua: components of other processes (mod_component) as plugins of other hosts see them: mod_privilege, mod_delegation.
--
--   attached.session(name) -> the session of component `name`, or nil while it is away
--   attached.sender(event, name?) -> the component's name if the stanza of this event comes from a component (from `name`)
--     and says so in its `from`; else nil
--   attached.watch(module, connected, gone?)     connected(name, session) for those that are there and whenever one comes;
--     gone(name) when it goes. As long as the plugin is loaded.

local hosts = require "couplet.hosts"
local router = require "couplet.router"

local attached = {}

function attached.session(name)
  local home = hosts.get(name)
  local component = home and home.type == "component" and home.modules.component
  return component and component.session_of(name) or nil
end

-- `from` is looked at although mod_component did: component_validate_from may be false.
function attached.sender(event, name)
  local origin = event.origin
  if origin.type ~= "component" or origin.base_type ~= "component" or name and origin.host ~= name then return nil end
  local place = router.address(event.stanza.attr.from or origin.host)
  return place and place.host == origin.host and origin.host or nil
end

function attached.watch(module, connected, gone)
  local function on(name)
    local home = hosts.get(name)
    if not home or home.type ~= "component" then return end
    local there = module:context(name)
    there:hook("component-authenticated", function(event) connected(name, event.session) end)
    if gone then there:hook("component-disconnected", function() gone(name) end) end
    local session = attached.session(name)
    if session then connected(name, session) end
  end
  for name in hosts.each() do on(name) end
  module:hook_global("host-activated", on)
end

return attached
