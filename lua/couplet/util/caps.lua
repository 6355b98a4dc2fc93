-- SPDX-License-Identifier: MIT
-- util.caps: the verification string of XEP-0115 §5.1 over a disco#info answer.

local crypto = require "couplet.core".crypto

local caps = {}

-- i;octet ordering and "&lt;" in place of "<" (§5.1: values must not be able to imitate the separator).
local function clean(text)
  return (tostring(text or ""):gsub("<", "&lt;"))
end

local function form_text(x)
  local fields, form_type = {}, ""
  for field in x:childtags("field") do
    local values = {}
    for value in field:childtags("value") do values[#values + 1] = clean(value:get_text()) end
    if field.attr.var == "FORM_TYPE" then
      form_type = values[1] or ""
    else
      table.sort(values)
      table.insert(values, 1, clean(field.attr.var))
      fields[#fields + 1] = table.concat(values, "<") .. "<"
    end
  end
  table.sort(fields)
  return form_type .. "<" .. table.concat(fields)
end

-- query: a <query xmlns='http://jabber.org/protocol/disco#info'/> element.
-- -> base64 of the SHA-1, the string that was hashed
function caps.calculate_hash(query)
  local identities, features, forms = {}, {}, {}
  for _, tag in ipairs(query.tags) do                      -- forms have a namespace of their own
    local attr = tag.attr
    if tag.name == "identity" then
      identities[#identities + 1] = table.concat({ clean(attr.category), clean(attr.type), clean(attr["xml:lang"]),
        clean(attr.name) }, "/") .. "<"
    elseif tag.name == "feature" then
      features[#features + 1] = clean(attr.var) .. "<"
    elseif tag.name == "x" and attr.xmlns == "jabber:x:data" then
      forms[#forms + 1] = form_text(tag)
    end
  end
  table.sort(identities)
  table.sort(features)
  table.sort(forms)
  local text = table.concat(identities) .. table.concat(features) .. table.concat(forms)
  return crypto.base64_encode(crypto.sha1(text)), text
end

return caps
