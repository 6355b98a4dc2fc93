-- SPDX-License-Identifier: MIT
-- mod_server_info: what is told of this server in a form of disco#info (XEP-0128, XEP-0157): how to reach the people behind it,
-- and fields that the configuration or other plugins add (items "server-info-fields": lists of fields as util.dataforms knows
-- them, each with its value).

local dataforms = require "util.dataforms"

local KINDS = { "abuse", "admin", "feedback", "sales", "security", "status", "support" }

module:config{
  contact_info = { type = "table", doc = 'addresses: { admin = { "mailto:admin@example.net", "xmpp:admin@example.net" }, abuse '
    .. '= …, support = … }. mod_server_contact_info names the administrators if this names nobody' },
  server_info_extensions = { type = "array", default = {},
    doc = 'further fields: { { var = "…", type = "text-single" | "list-multi" | …, name = key of server_info, value = … }, … }' },
  server_info = { type = "table", default = {}, doc = "their values, by name" },
}

local contact = module:get_option("contact_info") or {}
if type(contact) ~= "table" then
  module:log("error", "contact_info must be a table such as { admin = \"mailto:admin@example.net\" }")
  contact = {}
end

local function fields()
  local list = { { var = "FORM_TYPE", type = "hidden", value = "http://jabber.org/network/serverinfo" } }
  for _, kind in ipairs(KINDS) do
    local addresses = contact[kind]
    if type(addresses) == "string" then addresses = { addresses } end
    if type(addresses) == "table" and addresses[1] then
      list[#list + 1] = { var = kind .. "-addresses", name = kind, type = "list-multi", value = addresses }
    end
  end
  local values = module.config.server_info
  for _, source in ipairs { module.config.server_info_extensions, table.unpack(module:get_host_items("server-info-fields")) } do
    for _, field in ipairs(source) do
      local var = type(field) == "table" and (field.var or field.name)
      local value = var and (values[field.name] or values[var] or field.value)
      if value ~= nil and value ~= false then
        list[#list + 1] = { var = var, name = var, type = field.type or "text-single", value = value }
      elseif not var then
        module:log("error", "server_info_extensions: a field is a table such as { var = \"…\", type = \"text-single\" }")
      end
    end
  end
  return list
end

local form
local function update()
  if form then module:remove_item("extension", form) end
  local list = fields()
  form = list[2] and dataforms.new(list):form({}, "result")
  if form then module:add_item("extension", form) end
end
module:handle_items("server-info-fields", update, update, false)
update()
