-- SPDX-License-Identifier: MIT
-- mod_mam/mamprefsxml: <prefs/> of XEP-0441 to and from what mamprefs keeps.
--
--   tostanza(prefs) -> <prefs/>        fromstanza(<prefs/>) -> prefs | nil, condition, text

local jid = require "couplet.jid"
local st = require "couplet.stanza"

local XMLNS = "urn:xmpp:mam:2"
local JIDS_MAX = 1000

local policies = { always = true, never = false, roster = "roster" }
local words = { [true] = "always", [false] = "never", roster = "roster" }

local function tostanza(prefs)
  local always, never = st.stanza "always", st.stanza "never"
  for address, wanted in pairs(prefs) do
    if address then (wanted and always or never):text_tag("jid", address) end
  end
  return st.stanza("prefs", { xmlns = XMLNS, default = words[prefs[false]] }):add_child(always):add_child(never)
end

local function fromstanza(element)
  local default = policies[element.attr.default]
  if default == nil then return nil, "bad-request", "default is always, never or roster" end
  local prefs, n = { [false] = default }, 0
  for _, name in ipairs { "always", "never" } do              -- who stands in both is not archived
    local list = element:get_child(name)
    for item in list and list:childtags "jid" or function() end do
      local address = jid.prep(item:get_text() or "")
      if not address then return nil, "jid-malformed", "An address in the list is none" end
      n = n + 1
      if n > JIDS_MAX then return nil, "resource-constraint", ("At most %d addresses"):format(JIDS_MAX) end
      prefs[address] = name == "always"
    end
  end
  return prefs
end

return { tostanza = tostanza, fromstanza = fromstanza }
