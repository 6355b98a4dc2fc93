-- SPDX-License-Identifier: MIT
-- mod_auth_anonymous: everybody may log in, under a name that nobody else has (SASL ANONYMOUS, XEP-0175). Such users reach
-- this server only and leave nothing behind, unless options say otherwise.

local new_sasl = require "util.sasl".new
local directory = require "couplet.directory"
local st = require "util.stanza"
local storagemanager = require "core.storagemanager"

module:config {
  allow_anonymous_s2s = { type = "boolean", default = false, doc = "may anonymous users write to other servers?" },
  allow_anonymous_storage = { type = "boolean", default = false, doc = "is what they store (rosters, vCards) kept?" },
}

local host = module.host
local provider = {}

local function none() return nil, "There are no passwords on an anonymous host." end
provider.test_password, provider.get_password, provider.set_password = none, none, none

function provider.create_user() return nil, "Accounts cannot be made on an anonymous host." end
provider.delete_user = provider.create_user

-- An account is there as long as it is connected.
function provider.user_exists(username)
  return directory.user(username .. "@" .. host) and true or nil
end

function provider.is_enabled() return true end

function provider.users()
  local names = {}
  for username in pairs(directory.of_host(host)) do names[username] = true end
  return pairs(names)
end

local profile = { anonymous = function() return true end }

function provider.get_sasl_handler()
  return new_sasl(host, profile)
end

if not module:get_option_boolean("allow_anonymous_s2s", false) then
  module:hook("route/remote", function(event)
    local origin = event.origin
    if origin and origin.type == "c2s" then
      local stanza = event.stanza
      if stanza.attr.type ~= "error" and stanza.attr.type ~= "result" then
        origin.send(st.error_reply(stanza, "cancel", "not-allowed", "Anonymous users may not leave this server"))
      end
    end
    return true
  end, 300)
end

-- The names are never used again, so what was stored under them goes with the last connection.
if not module:get_option_boolean("allow_anonymous_storage", false) then
  module:hook("resource-unbind", function(event)
    local username = event.session.username
    if directory.user(username .. "@" .. host) then return end
    local ok, err = storagemanager.purge(username, host)
    if not ok then module:log("warn", "cannot delete what %s has stored: %s", username, err) end
  end, -100)
end

module:provides("auth", provider)
