-- SPDX-License-Identifier: MIT
-- directory.lua: who is where. The one place that answers it; routing asks here and never walks a table of sessions.
--
-- A *user* is what the account's connected resources share: { sessions = { [resource] = session }, top_resources = {...},
-- roster = ..., listening = { session, its full_jid, set of nodes, … } }. It exists while at least one resource is bound.
--
-- The keys are spread over many small tables: the collector walks one table in one step, so no step grows with the number of
-- sessions. full_sessions and bare_sessions are the tables plugins know; they read, write and iterate like ordinary ones.

local shard_of = require "couplet.core".directory.shard

local directory = {}
local SHARDS = 1024

-- A table spread over SHARDS tables.
local function sharded()
  local shards = {}
  for i = 1, SHARDS do shards[i] = {} end
  local function iterate()
    local index, key, value = 1, nil, nil
    return function()
      while index <= SHARDS do
        key, value = next(shards[index], key)
        if key ~= nil then return key, value end
        index = index + 1
      end
    end
  end
  local proxy = setmetatable({}, {
    __index = function(_, key) return shards[shard_of(key, SHARDS)][key] end,
    __newindex = function(_, key, value) shards[shard_of(key, SHARDS)][key] = value end,
    __pairs = function() return iterate() end,
  })
  return proxy, shards
end
directory.sharded = sharded

local full_sessions, by_full = sharded()
local bare_sessions, by_bare = sharded()
local counts = { sessions = 0, users = 0 }

directory.full_sessions, directory.bare_sessions = full_sessions, bare_sessions

-- The session bound to this full address, or nil.
function directory.session(full_jid)
  return by_full[shard_of(full_jid, SHARDS)][full_jid]
end

-- The user with this bare address if one of its resources is connected, or nil.
function directory.user(bare_jid)
  return by_bare[shard_of(bare_jid, SHARDS)][bare_jid]
end

-- Enters a session that has username, host, resource and full_jid. Returns its user.
function directory.add(session)
  local bare = session.username .. "@" .. session.host
  local user = directory.user(bare)
  if not user then
    user = { sessions = {} }
    bare_sessions[bare] = user
    counts.users = counts.users + 1
  end
  user.sessions[session.resource] = session
  if not full_sessions[session.full_jid] then counts.sessions = counts.sessions + 1 end
  full_sessions[session.full_jid] = session
  return user
end

-- Takes a session out; one that has been replaced under its address meanwhile takes nobody else with it.
function directory.remove(session)
  local full_jid = session.full_jid
  if not full_jid or directory.session(full_jid) ~= session then return false end
  full_sessions[full_jid] = nil
  counts.sessions = counts.sessions - 1
  local bare = session.username .. "@" .. session.host
  local user = directory.user(bare)
  if user then
    user.sessions[session.resource] = nil
    if not next(user.sessions) then
      bare_sessions[bare] = nil
      counts.users = counts.users - 1
    end
  end
  return true
end

-- Numbers of bound sessions and of users with at least one.
function directory.count() return counts.sessions, counts.users end

-- The table hosts[host].sessions of plugins: username -> user, seen through the directory.
function directory.of_host(host)
  local suffix = "@" .. host
  return setmetatable({}, {
    __index = function(_, username)
      if type(username) == "string" then return directory.user(username .. suffix) end
    end,
    __pairs = function()
      local next_user, state, bare = pairs(bare_sessions)
      local user
      return function()
        repeat
          bare, user = next_user(state, bare)
        until bare == nil or bare:sub(-#suffix) == suffix
        if bare then return bare:sub(1, -#suffix - 1), user end
      end
    end,
  })
end

return directory
