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

local function indication(name)
  module:hook(("stanza/%s:%s"):format(CSI, name), function(event)
    local origin = event.origin
    if not origin.username then return nil end         -- before authentication nobody understands it
    origin.state = name
    module:fire_event("csi-client-" .. name, { name = "csi-client-" .. name, origin = origin })
    return true
  end)
end
indication "active"
indication "inactive"

-- §5.2: a resumed stream begins active.
module:hook_global("c2s-session-updated", function(event)
  local session = event.session
  if session.host ~= module.host or session.state ~= "inactive" then return end
  session.state = "active"
  module:fire_event("csi-client-active", { name = "csi-client-active", origin = session })
end)
