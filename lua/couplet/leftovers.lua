-- SPDX-License-Identifier: MIT
-- leftovers.lua: nothing of a deleted account is left to whoever takes its name next, however its deletion ended.
--
--   leftovers.begin(username, host)             it is about to be deleted: written down until all of it is gone
--   leftovers.remove(username, host) -> true | nil, message      removes everything that is stored of it
--   leftovers.clear(username, host) -> true | nil, message       the same if it was written down; before the name is given away
--   leftovers.of(host) -> map by username       deletions that were cut short by the end of the process
--   leftovers.none(username, host)              the account is there: its deletion had not begun

local log = require "couplet.logger".init "usermanager"
local store = require "couplet.store"

local leftovers = {}

local NAME = "account_deletions"                 -- map of the host: username -> when it began

local function note(username, host, value)
  local list, ok, err = store.open(host, NAME, "map"), nil, nil
  if list then ok, err = list:set(nil, username, value) end
  if not ok then log("warn", "the deletion of %s@%s cannot be written down: %s", username, host, err or "no store") end
end

function leftovers.begin(username, host) note(username, host, os.time()) end

function leftovers.remove(username, host)
  local ok, err = store.purge(username, host)
  if not ok then return nil, err end
  note(username, host, nil)
  return true
end

function leftovers.clear(username, host)
  local list = store.open(host, NAME, "map")
  if not list then return true end
  local began, err = list:get(nil, username)
  if began then return leftovers.remove(username, host) end
  return not err or nil, err
end

function leftovers.of(host)
  local list = store.open(host, NAME)
  return list and list:get(nil) or {}
end

function leftovers.none(username, host) note(username, host, nil) end

return leftovers
