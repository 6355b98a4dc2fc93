-- SPDX-License-Identifier: MIT
-- archiver.lua: writes messages into an archive store. Delivery never waits for it; the acknowledgement does (couplet.durable).
--
--   archiver.new(store, log) -> a
--   a:new_id() -> id, number        known before the message is written, so that it can be delivered with it
--   a:keep({ id =, number =, user =, with =, xml = }, watched?) -> entry | nil        in the task that handles the stanza; nil:
--                                   too many wait. entry.lost = fn(why), if set, is called if it could not be kept in the end
--   a:room()                        waits while the store takes fewer than come: for senders who want no acknowledgement
--   a:pending(id) -> entry | nil    while it is not settled, if it is watched
--   a:flush()                       hands over what was gathered: for those about to read
--   a:close()                       the same, and waits until all is settled; what a store in trouble has not taken is lost
--   a:waiting() -> entries
--
-- What comes in one turn of the loop is one write. A store in trouble is asked again, with growing pauses and one entry at a
-- time, until it works or an entry is GIVE_UP seconds old; the rest waits in memory, up to a bound.

local clock = require "couplet.clock"
local durable = require "couplet.durable"
local task = require "couplet.task"

local BATCH = 200                              -- entries in one write
local ENTRIES_MAX, BYTES_MAX = 50000, 128 * 1024 * 1024
local BUSY = 10000                              -- entries under way from which on senders wait
local GIVE_UP = 120                            -- seconds
local PAUSE, PAUSE_MAX = 0.25, 5

local archiver = {}
local methods = {}
methods.__index = methods

function methods:waiting() return self.count end
function methods:pending(id) return self.entries[id] end

local function settle(self, entry, fine, why)
  self.count, self.bytes = self.count - 1, self.bytes - #entry.xml
  if self.entries[entry.id] then self.entries[entry.id] = nil end
  entry.release(fine, why)
  if not fine and entry.lost then entry.lost(why) end
  if self.count == 0 and self.idle then self.idle() end
  local crowd = self.crowd
  if crowd[1] and self.count < BUSY then
    self.crowd = {}
    for i = 1, #crowd do crowd[i]() end
  end
end

local post, retry

local function trouble(self, batch, why)
  local backlog = self.backlog
  local now = clock.mono()
  for i = 1, #batch do
    backlog[#backlog + 1] = batch[i]
    batch[i].since = now
  end
  if not self.pause then
    self.pause = PAUSE
    local crowd = self.crowd
    self.crowd = {}
    for i = 1, #crowd do crowd[i]() end                -- nobody's chat waits for a disk that is full
    self.log("error", "messages cannot be archived: %s. They are tried again for %d s and not acknowledged meanwhile; see what "
      .. "the log says about the store", why, GIVE_UP)
    self.retry_timer = clock.timer(self.pause, function() return retry(self) end)
  end
end

local function give_up(self, age)
  local old, rest, before = {}, {}, clock.mono() - age
  for _, entry in ipairs(self.backlog) do
    local list = entry.since <= before and old or rest
    list[#list + 1] = entry
  end
  self.backlog = rest
  if not old[1] then return end
  self.log("error", "%d messages could not be archived", #old)
  for _, entry in ipairs(old) do settle(self, entry, false, "the archive cannot be written") end
end

-- The timer's: tries the oldest; if it will not go, the next one has its turn next time.
function retry(self)
  give_up(self, GIVE_UP)
  local first = table.remove(self.backlog, 1)
  if not first then
    self.pause, self.retry_timer = nil, nil
    return
  end
  self.write({ first }, function(fine)
    if not fine then
      table.insert(self.backlog, first)
      self.pause = math.min(self.pause * 2, PAUSE_MAX)
      self.retry_timer = clock.timer(self.pause, function() return retry(self) end)
      return
    end
    settle(self, first, true)
    local backlog = self.backlog
    self.backlog, self.pause, self.retry_timer = {}, nil, nil
    self.log("info", "messages are archived again; %d were waiting", #backlog + 1)
    post(self, backlog)
  end)
end

local function post_one(self, batch)
  self.write(batch, function(fine, why)
    if not fine then return trouble(self, batch, why) end
    for i = 1, #batch do settle(self, batch[i], true) end
  end)
end

function post(self, list)
  if #list <= BATCH then
    if list[1] then post_one(self, list) end
    return
  end
  for i = 1, #list, BATCH do post_one(self, table.move(list, i, math.min(i + BATCH - 1, #list), 1, {})) end
end

function methods:flush()
  local fresh = self.fresh
  if not fresh[1] then return end
  self.fresh = {}
  if self.pause then
    local now = clock.mono()
    for i = 1, #fresh do fresh[i].since = now end
    table.move(fresh, 1, #fresh, #self.backlog + 1, self.backlog)
  else
    post(self, fresh)
  end
end

function methods:keep(entry, watched)
  entry.release = durable.hold()
  self.count, self.bytes = self.count + 1, self.bytes + #entry.xml
  if watched then self.entries[entry.id] = entry end
  if self.count > ENTRIES_MAX or self.bytes > BYTES_MAX then
    settle(self, entry, false, "too much waits for the archive")
    return nil
  end
  local fresh = self.fresh
  local n = #fresh + 1
  fresh[n] = entry
  if n == 1 then
    if self.timer then self.timer:start(0) else self.timer = clock.timer(0, function() self:flush() end) end
  elseif n >= BATCH then
    self:flush()
  end
  return entry
end

function methods:room()
  if self.count < BUSY or self.pause then return end
  self:flush()
  task.await(function(done)
    if self.count < BUSY or self.pause then return done() end
    self.crowd[#self.crowd + 1] = done
  end)
end

function methods:new_id() return self.id() end

function methods:close()
  self:flush()
  if self.pause then give_up(self, 0) end
  if self.count > 0 then
    task.await(function(done)
      self.idle = done
      if self.count == 0 then done() end
    end)
    self.idle = nil
  end
  if self.timer then self.timer:stop() end
  if self.retry_timer then self.retry_timer:stop() end
end

-- For stores that know nothing of all this: one by one, each under its id as key.
local function one_by_one(store)
  local parse = require "couplet.util.xml".parse
  return function(batch, done)
    task.spawn(function()
      local failure
      for _, entry in ipairs(batch) do
        local when = (tonumber(entry.id, 16) >> 20) / 1000
        local ok, id, err = pcall(store.append, store, entry.user, entry.id, parse(entry.xml), when, entry.with)
        if not ok or not id then failure = tostring(not ok and id or err) end
      end
      done(not failure, failure)
    end)
  end
end

local function make_ids()
  local last = 0
  return function()
    last = math.max(math.floor(clock.wall() * 1000) << 20 | math.random(0, 0x7ffff), last + math.random(1, 16))
    return ("%016x"):format(last)
  end
end

function archiver.new(store, log)
  local a = setmetatable({ store = store, log = log, fresh = {}, backlog = {}, entries = {}, crowd = {}, count = 0,
    bytes = 0 }, methods)
  if store.append_all then
    function a.id() return store:new_id() end
    function a.write(batch, done) return store:append_all(batch, done) end
  else
    a.id, a.write = make_ids(), one_by_one(store)
  end
  return a
end

return archiver
