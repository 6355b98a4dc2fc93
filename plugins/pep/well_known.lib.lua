-- SPDX-License-Identifier: MIT
-- pep/well_known: how nodes that everybody's clients use are configured when they are made without options, and the command
-- that puts right what older clients and servers have left (`coupletctl pep repair HOST|USER@HOST`).

local hosts = require "couplet.hosts"
local jid = require "util.jid"
local usermanager = require "core.usermanager"

local well_known = {}

local PRIVATE = { access_model = "whitelist", max_items = "max", send_last_published_item = "never" }   -- XEP-0223, 0402, 0490
local KEYS = { access_model = "open", max_items = 1 }                 -- who writes to me must find my keys, contact or not

local exact = {
  ["eu.siacs.conversations.axolotl.devicelist"] = KEYS,                -- XEP-0384 0.3
  ["urn:xmpp:omemo:2:devices"] = KEYS,
  ["urn:xmpp:omemo:2:bundles"] = { access_model = "open", max_items = "max" },
  ["urn:xmpp:openpgp:0:public-keys"] = KEYS,                           -- XEP-0373
  ["urn:xmpp:vcard4"] = { access_model = "open" },                     -- XEP-0222
  ["urn:xmpp:contacts"] = PRIVATE,                                     -- XEP-0292 §4
  ["urn:xmpp:bookmarks:1"] = PRIVATE,
  ["urn:xmpp:mds:displayed:0"] = PRIVATE,
  ["storage:bookmarks"] = { access_model = "whitelist" },              -- XEP-0048
}
local prefixes = { ["eu.siacs.conversations.axolotl.bundles:"] = KEYS, ["urn:xmpp:openpgp:0:public-keys:"] = KEYS }

function well_known.defaults(node)
  if exact[node] then return exact[node] end
  for prefix, config in pairs(prefixes) do
    if node:sub(1, #prefix) == prefix then return config end
  end
end

-- What a node must not have: its owner cannot have wanted that.
local function wrong(node, config)
  local want = well_known.defaults(node)
  return want and config.access_model ~= want.access_model and { access_model = want.access_model } or nil
end

local function repair(service, print)
  local n, names = 0, {}
  for name in pairs(service.nodes) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local object = service.nodes[name]
    local new = object and wrong(name, object.config)
    if new then
      local before = object.config.access_model
      local ok, err = service:set_node_config(name, true, new)
      print(("%s@%s: %s: %s"):format(service.user, module.host, name,
        ok and before .. " -> " .. new.access_model or "cannot be changed: " .. tostring(err)))
      n = n + (ok and 1 or 0)
    end
  end
  return n
end

well_known.command = {
  section = "pep", name = "repair", args = { { name = "address", type = "string" } },
  desc = "give well-known nodes (keys, bookmarks) the access model they need, of USER@HOST or of all of HOST",
  handler = function(self, address)
    local node, domain = jid.prepped_split(address or "")
    local home = domain and hosts.get(domain)
    local pep = home and home.modules.pep
    if not pep then return false, ("%s has no PEP here"):format(tostring(domain or address)) end
    local accounts, changed = 0, 0
    local function one(username)
      local service, err = pep.get_pep_service(username)
      if not service then return self.session.print(("%s@%s: %s"):format(username, domain, tostring(err))) end
      accounts, changed = accounts + 1, changed + repair(service, self.session.print)
    end
    if node then
      if not usermanager.user_exists(node, domain) then return false, ("there is no account %s@%s"):format(node, domain) end
      one(node)
    else
      for username in pep.users_with_nodes() do one(username) end
    end
    return true, ("accounts with nodes looked at: %d, nodes put right: %d"):format(accounts, changed)
  end,
}

return well_known
