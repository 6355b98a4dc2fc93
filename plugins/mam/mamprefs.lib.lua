-- SPDX-License-Identifier: MIT
-- mod_mam/mamprefs: whose messages an account wants archived (XEP-0441).
--
--   prefs.get(username, explicit?) -> { [false] = true|false|"roster", [jid] = true|false }      shared: not to be changed
--                                     explicit: the account uses its archive: with mam_smart_enable that begins it
--   prefs.set(username, prefs) -> true | nil, err
--   prefs.forget(username)
--   prefs.wanted(username, address, own) -> boolean        address: of couplet.router, of the other side; own: bare address

local directory = require "couplet.directory"
local rostermanager = require "couplet.roster"
local recall, remember = require "couplet.recent".new(16384)

local host = module.host
local store = module:open_store("archive_prefs")

local names = { always = true, never = false, roster = "roster", ["true"] = true, ["false"] = false }
local defaults = { [true] = { [false] = true }, [false] = { [false] = false }, roster = { [false] = "roster" } }

local default, smart                   -- of the server; read here, because other plugins use this library too

local function read()
  local policy = module:get_option_enum("default_archive_policy", "always", "never", "roster", true, false, "true", "false")
  if policy == nil then policy = "always" end
  if type(policy) == "string" then policy = names[policy] end
  default, smart = defaults[policy], module:get_option_boolean("mam_smart_enable", false)
end
read()
module:hook_global("config-reloaded", read)

local prefs = {}

local function keep(username, value)
  local user = directory.user(username .. "@" .. host)
  if user then user.archive_prefs = value end
  remember(username, value)
  return value
end

function prefs.forget(username)
  keep(username, nil)
end

function prefs.get(username, explicit)
  local user = directory.user(username .. "@" .. host)
  local known = user and user.archive_prefs
  if not known then
    known = recall(username)
    if user then user.archive_prefs = known end
  end
  if known and not (explicit and known == "none") then
    if known == "none" then return defaults[false] end
    return known == "default" and default or known
  end
  local stored, err = store:get(username)
  if stored then
    if stored[false] == nil then stored[false] = default[false] end
    return keep(username, stored)
  end
  if err then return default end               -- asked again next time
  if smart then
    if not explicit then
      keep(username, "none")
      return defaults[false]
    end
    local chosen = { [false] = default[false] }
    prefs.set(username, chosen)
    return chosen
  end
  keep(username, "default")
  return default
end

function prefs.set(username, value)
  local ok, err = store:set(username, value)
  if not ok then return nil, err end
  keep(username, value)
  return true
end

function prefs.wanted(username, address, own)
  local user = directory.user(own)
  if user and user.archive_prefs == "default" and default[false] == true then return true end      -- nearly everybody
  local p = prefs.get(username)
  local rule = p[address.jid]
  if rule == nil then rule = p[address.bare] end
  if rule == nil then rule = p[false] end
  if rule ~= "roster" then return rule end
  local roster = rostermanager.load_roster(username, host)
  return roster ~= nil and roster[address.bare] ~= nil
end

return prefs
