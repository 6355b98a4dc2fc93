-- SPDX-License-Identifier: MIT
-- mod_csi: clients say whether somebody is looking at them (XEP-0352). What is made of it is up to others, such as
-- mod_csi_simple, which hear csi-client-active and csi-client-inactive { name, origin }. session.state says it as well.

local st = require "couplet.stanza"

local CSI = "urn:xmpp:csi:0"

module:hook("stream-features", function(event)
  if event.origin.type == "c2s_unbound" or event.origin.type == "c2s" then
    event.features:add_child(st.stanza("csi", { xmlns = CSI }))
  end
end)

local function set(session, name)
  session.state = name
  module:fire_event("csi-client-" .. name, { name = "csi-client-" .. name, origin = session })
end

for _, name in ipairs { "active", "inactive" } do
  module:hook(("stanza/%s:%s"):format(CSI, name), function(event)
    if not event.origin.username then return nil end           -- before authentication nobody understands it
    set(event.origin, name)
    return true
  end)
end

-- Along with a resource (XEP-0386).
module:hook("advertise-bind-features", function(event) event.features:tag("feature", { var = CSI }):up() end)
module:hook("enable-bind-features", function(event)
  if event.request:get_child("inactive", CSI) then set(event.session, "inactive") end
end)

-- §5.2: a resumed stream begins active.
module:hook_global("c2s-session-updated", function(event)
  local session = event.session
  if session.host ~= module.host or session.state ~= "inactive" then return end
  set(session, "active")
end)
