-- SPDX-License-Identifier: MIT
-- storage.holders: for which users there is something, where most have nothing: so nothing is read for those.
--
--   local known = holders.new(read)           read(most) -> iterator of at most so many names | nil, message; in a task of its
--                                             own, so it may wait
--   known:may(user) -> boolean                false: there is nothing. Never waits: until the names have been read it is true
--   holders.has(shared, under_way, user, read, of) -> boolean        known:may of a store: its holders are made when somebody
--                                             asks first, and kept in shared; read(of, most); under_way: a set of users
--   known:added(user)                         something is about to be written
--   local mark = known:mark(user)             before looking; and if nothing was there:
--   known:none(user, mark)                    nothing is there, unless something was added since
--
-- The names are read again now and then, while somebody asks: what another process has written, or what was in a file that was
-- put in the place of the old one, is seen after some minutes.

local core = require "couplet.core"
local log = require "couplet.logger".init "storage"
local task = require "couplet.task"

local mono = core.loop.mono

local NAMES_MAX = 200000               -- more are not kept in mind: then everybody may have something

local holders = { again = 300 }        -- seconds after which they are read anew
holders.__index = holders

local function read_names(self)
  self.read_at = mono()
  local gathering = task.gathering
  task.gathering = nil                 -- who asks does not wait for this
  task.spawn(function()
    local users, err = self.read(NAMES_MAX + 1)
    if not users then
      log("error", "who has something stored cannot be read: %s", err)
      return
    end
    for user in users do self:added(user) end
    self.complete = true
  end)
  task.gathering = gathering
end

function holders.new(read)
  local self = setmetatable({ read = read, names = {}, count = 0, changes = 0, complete = false }, holders)
  read_names(self)
  return self
end

function holders:may(user)
  local names = self.names
  if not names then return true end
  if mono() - self.read_at > holders.again then read_names(self) end
  return not self.complete or names[user] ~= nil
end

function holders.has(shared, under_way, user, read, of)
  local known = shared.holders
  if not known then
    known = holders.new(function(most) return read(of, most) end)
    shared.holders = known
    for name in pairs(under_way) do known:added(name) end
  end
  return known:may(user)
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
