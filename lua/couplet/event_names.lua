-- SPDX-License-Identifier: MIT
-- event_names.lua: the built-in events (PLUGIN-API §4), so that a misspelt one in a strict plugin does not go unnoticed.
--
--   names.known(event) -> bool

local names = {}

local exact, patterns = {}, {}

local list = [[
server-starting server-started server-stopping server-stopped server-cleanup
config-reloaded reloading-config reopen-log-files logging-reloaded
host-activated host-deactivated hosts-activated host-deactivating
module-loaded module-unloaded module-reloaded module-status/updated store-opened
stats-update stats-updated openmetrics-updated service-added service-removed
c2s-session-updated c2s-read-timeout c2s-ondrain c2s-pre-ondrain c2s-closed stream-features
authentication-attempt authentication-success authentication-failure
advertise-sasl-features advertise-bind-features enable-bind-features
pre-resource-bind resource-bind pre-resource-unbind resource-unbind resource-unavailable presence/initial presence/broadcast
roster-load roster-item-removed
roster-pushed
user-registering user-registered user-deregistered user-deregistered-pending user-password-reset user-password-changed
user-deleted user-enabled user-disabled user-role-changed user-role-added user-role-removed
account-disco-info account-disco-items account-disco-info-node account-disco-items-node
host-disco-info host-disco-items host-disco-info-node host-disco-items-node host-disco-build host-disco-changed
get-account-traits
csi-client-active csi-client-inactive csi-is-stanza-important csi-flushing
smacks-hibernation-start smacks-hibernation-stanza-queued smacks-ack-delayed smacks-hibernation-end
delivery/success delivery/failure cloud_notify/registration cloud_notify/push
archive-should-store archive-message-added carbons-should-copy message/offline/handle message/offline/broadcast
pep-publish-item pubsub-publish-item pep-item-published pep-item-retracted pep-node-purged pep-node-deleted
node-created node-deleted node-purged item-published item-retracted subscription-added subscription-removed
subscription-requested node-config-changed
bookmarks/empty vcard-updated component-authenticated component-disconnected component-read-timeout
s2s-created s2sin-created s2sout-created s2s-connected s2sin-connected s2sout-connected s2sin-established s2sout-established
s2s-destroyed s2sin-destroyed s2sout-destroyed s2s-read-timeout s2sout-pre-connect s2s-check-certificate
s2s-authenticated s2s-stream-features s2s-stream-features-legacy s2sout-stream-features
pre-stanza route/remote message/bare/groupchat
]]
for name in list:gmatch "%S+" do exact[name] = true end
for _, kind in ipairs { "iq", "message", "presence" } do
  for _, target in ipairs { "full", "bare", "host" } do
    exact[kind .. "/" .. target] = true
    exact["pre-" .. kind .. "/" .. target] = true
  end
  exact[kind .. "/self"] = true
end

for pattern in ([[
^item%-added/ ^item%-removed/ ^signal/SIG ^sasl2?/ ^item%-published/ ^pubsub%-summary/
^muc%- ^stanza/ ^iq/%a+/ ^iq%-[a-z]+/%a+/
]]):gmatch "%S+" do patterns[#patterns + 1] = pattern end

function names.known(event)
  if exact[event] then return true end
  for _, pattern in ipairs(patterns) do
    if event:find(pattern) then return true end
  end
  return false
end

return names
