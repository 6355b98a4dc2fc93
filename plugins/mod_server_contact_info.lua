-- SPDX-License-Identifier: MIT
-- mod_server_contact_info: mod_server_info, and where contact_info names nobody, the administrators' addresses: who loads it
-- by the name Prosody has for it expects that.

local jid = require "util.jid"

module:depends "server_info"

local contact = module:get_option "contact_info"
if contact == nil or type(contact) == "table" and next(contact) == nil then
  local addresses = {}
  for address in module:get_option_inherited_set("admins", {}):items() do
    local bare = jid.prep(address)
    if bare then addresses[#addresses + 1] = "xmpp:" .. bare end
  end
  table.sort(addresses)
  local field = { var = "admin-addresses", type = "list-multi", value = addresses }
  if addresses[1] then module:add_item("server-info-fields", { field }) end
end
