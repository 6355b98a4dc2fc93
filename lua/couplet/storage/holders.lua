-- SPDX-License-Identifier: MIT
-- storage.holders: for which users there is something, where most have nothing: so nothing is read for those.
--
--   local known = holders.new(read)           read() -> iterator of names | nil, message; it may wait, and runs in a task of its own
--   known:may(user) -> boolean                false: there is nothing. Never waits: until the names have been read it is true
--   known:added(user)                         something is about to be written
--   local mark = known:mark(user)             before looking; and if nothing was there:
--   known:none(user, mark)                    nothing is there, unless something was added since
--
-- What another process writes for a user without anything is not seen.

local log = require "couplet.logger".init "storage"
local task = require "couplet.task"

local NAMES_MAX = 200000               -- more are not kept in mind: then everybody may have something

local holders = {}
holders.__index = holders

function holders.new(read)
  local self = setmetatable({ names = {}, count = 0, changes = 0, complete = false }, holders)
  task.spawn(function()
    local users, err = read()
    if not users then
      log("error", "who has something stored cannot be read, so it will be asked each time: %s", err)
      return
    end
    for user in users do self:added(user) end
    self.complete = true
  end)
  return self
end

function holders:may(user)
  local names = self.names
  return not (names and self.complete) or names[user] ~= nil
end

function holders:added(user)
  local names = self.names
  if not names then return end
  if not names[user] then self.count = self.count + 1 end
  self.changes = self.changes + 1
  names[user] = self.changes
  if self.count > NAMES_MAX then self.names = nil end
end

function holders:mark(user)
  return self.names and self.names[user]
end

function holders:none(user, mark)
  local names = self.names
  if names and mark and names[user] == mark then names[user], self.count = nil, self.count - 1 end
end

return holders
