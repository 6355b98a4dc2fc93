-- SPDX-License-Identifier: MIT
-- mod_test_accounts: creates the accounts listed in `test_accounts = { ["romeo@localhost"] = "secret" }` when it is loaded.

local jid = require "util.jid"
local usermanager = require "core.usermanager"

for address, password in pairs(module:get_option("test_accounts") or {}) do
  local username, host = jid.split(address)
  if host == module.host and not usermanager.user_exists(username, host) then
    assert(usermanager.create_user(username, password, host))
  end
end
