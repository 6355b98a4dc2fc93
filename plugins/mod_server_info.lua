-- SPDX-License-Identifier: MIT
-- mod_server_info: how to reach the people behind this server (XEP-0157), as a form in disco#info (XEP-0128).

local st = require "util.stanza"

local KINDS = { "abuse", "admin", "feedback", "sales", "security", "status", "support" }

module:config{
  contact_info = { type = "table", doc = 'addresses: { admin = { "mailto:admin@example.net", "xmpp:admin@example.net" }, abuse '
    .. '= …, support = … }' },
}

local contact = module:get_option("contact_info") or {}
if type(contact) ~= "table" then
  module:log("error", "contact_info must be a table such as { admin = \"mailto:admin@example.net\" }")
  contact = {}
end

local form = st.stanza("x", { xmlns = "jabber:x:data", type = "result" })
  :tag("field", { var = "FORM_TYPE", type = "hidden" }):text_tag("value", "http://jabber.org/network/serverinfo"):up()
local any = false
for _, kind in ipairs(KINDS) do
  local addresses = contact[kind]
  if type(addresses) == "string" then addresses = { addresses } end
  if type(addresses) == "table" and addresses[1] then
    any = true
    form:tag("field", { var = kind .. "-addresses", type = "list-multi" })
    for _, address in ipairs(addresses) do form:text_tag("value", address) end
    form:up()
  end
end
if any then module:add_extension(form:reset()) end
