-- SPDX-License-Identifier: MIT
-- sparse.lua: a keyval store in which few accounts have anything. Their names are known, so nothing is read for the others; what
-- was used lately stays in memory.
--
--   local data = sparse.new(store, size, log)     reads the names: may wait. size: tables kept in memory
--   data.has(username) -> boolean                 false: there is nothing. Never waits
--   data.get(username) -> table | nil, err        not to be changed
--   data.set(username, table | nil) -> true | nil, err      seen at once; waits until it is kept
--   data.forget(username)                         the account is gone
--   data.tell(set, suffix) -> boolean             set has, from now on, name and suffix of each account that has something;
--                                                 tell(nil): no more, and they leave it. false: it is not known who has
--
-- What another process writes is seen for accounts that had something, once their table has left the memory.

local recent = require "couplet.recent"

local sparse = {}

local NAMES_MAX = 200000               -- more are not kept in mind: then everybody may have something

local function read_names(store, log)
  local users, err = store:users()
  if not users then
    log("error", "who has something stored cannot be read, so it will be asked each time: %s", err)
    return false
  end
  local names, n = {}, 0
  for username in users do
    names[username], n = true, n + 1
    if n > NAMES_MAX then return false end
  end
  return names
end

function sparse.new(store, size, log)
  local names = read_names(store, log)
  local recall, keep = recent.new(size)        -- username -> table, or false: nothing
  local data = {}
  local told, behind                           -- the set, and what is behind a name there

  local function note(username, there)
    if not names then return end
    names[username] = there
    if told then told[username .. behind] = there end
  end

  local function tell_all(there)
    for username in pairs(told and names or {}) do told[username .. behind] = there end
  end

  function data.tell(set, suffix)
    if not names then return false end
    tell_all(nil)
    told, behind = set, suffix
    tell_all(true)
    return true
  end

  function data.has(username) return not names or names[username] == true end

  function data.get(username)
    if names and not names[username] then return nil end
    local value = recall(username)
    if value == nil then
      local stored, err = store:get(username)
      if err then
        log("error", "cannot be read for %s: %s", username, err)
        return nil, err
      end
      value = recall(username)                 -- it may have been changed meanwhile
      if value == nil then
        value = stored or false
        keep(username, value)
      end
    end
    return value or nil
  end

  function data.set(username, value)
    note(username, true)
    keep(username, value or false)
    local ok, err = store:set(username, value)
    if not ok then
      keep(username, nil)
      return nil, err
    end
    return true
  end

  function data.forget(username)
    keep(username, nil)
    note(username, nil)
  end

  return data
end

return sparse
