-- SPDX-License-Identifier: MIT
-- How messages get into an archive (couplet.archiver): together, tried again, acknowledged when they are kept.
local check = require "check"
local archiver = require "couplet.archiver"
local clock = require "couplet.clock"
local durable = require "couplet.durable"
local task = require "couplet.task"

local now, timers = 1000, {}

local function use_virtual_time()
  timers = {}
  clock.use {
    mono = function() return now end, wall = function() return 1700000000 + now end, once = function() error "waits" end,
    timer = function(seconds, fn)
      local t = { fn = fn, at = now + seconds }
      function t:stop() self.at = nil end
      function t:start(s) self.at = now + s end
      timers[#timers + 1] = t
      return t
    end,
  }
end

local function advance(seconds)
  local till = now + seconds
  while true do
    local first
    for _, t in ipairs(timers) do
      if t.at and t.at <= till and (not first or t.at < first.at) then first = t end
    end
    if not first then break end
    now, first.at = math.max(now, first.at), nil
    first.fn()
  end
  now = till
end

-- A store that keeps or refuses as it is told.
local function new_store()
  local s = { writes = {}, kept = {}, n = 0 }
  function s:new_id()
    self.n = self.n + 1
    return ("%016x"):format(self.n)
  end
  function s:append_all(items, done)
    self.writes[#self.writes + 1] = #items
    if self.late then
      self.waiting = function(...)
        self.waiting = nil
        if ... then for _, e in ipairs(items) do self.kept[#self.kept + 1] = e.id end end
        done(...)
      end
      return
    end
    if self.refuses then return done(nil, self.refuses, "resource-constraint") end
    for _, e in ipairs(items) do
      if e.poison then return done(nil, "it will not have it", "conflict") end
    end
    for _, e in ipairs(items) do self.kept[#self.kept + 1] = e.id end
    done(true)
  end
  return s
end

local lines

local function new(store)
  use_virtual_time()
  lines = {}
  return archiver.new(store, function(level, fmt, ...) lines[#lines + 1] = level .. " " .. fmt:format(...) end)
end

-- One message, handled as of a client that wants it acknowledged -> { acknowledged = true | false, lost = why }
local function handle(a, poison)
  local out = {}
  task.spawn(function()
    local ticket = durable.begin(function(fine, why) out.acknowledged, out.why = fine, why end)
    out.entry = a:keep({ id = a:new_id(), user = "romeo", with = "juliet@h", xml = "<m/>", poison = poison }, true)
    if out.entry then out.entry.lost = function(why) out.lost = why end end
    durable.finish(ticket)
  end)
  return out
end

check.test("what comes in one turn is one write, and acknowledged when it is kept", function()
  local store = new_store()
  local a = new(store)
  store.late = true
  local messages = {}
  for i = 1, 5 do messages[i] = handle(a) end
  check.equal(store.writes, {})
  advance(0)
  check.equal(store.writes, { 5 })
  check.equal(messages[1].acknowledged, nil)
  check.equal(a:waiting(), 5)
  check.ok(a:pending(messages[3].entry.id))
  store.waiting(true)
  for i = 1, 5 do check.equal(messages[i].acknowledged, true) end
  check.equal({ a:waiting(), a:pending(messages[3].entry.id) }, { 0 })
  check.equal(#store.kept, 5)
end)

check.test("those about to read need not wait for the turn to end", function()
  local store = new_store()
  local a = new(store)
  handle(a)
  a:flush()
  check.equal(store.writes, { 1 })
  a:flush()
  advance(1)
  check.equal(store.writes, { 1 })
end)

check.test("many are more than one write", function()
  local store = new_store()
  local a = new(store)
  for _ = 1, 450 do handle(a) end
  advance(0)
  check.equal(store.writes, { 200, 200, 50 })
end)

check.test("trouble: nothing is acknowledged, it is tried with growing pauses, and all of it is kept when it is over", function()
  local store = new_store()
  local a = new(store)
  store.refuses = "the disk is full"
  local messages = {}
  for i = 1, 3 do messages[i] = handle(a) end
  advance(0)
  check.equal(#lines, 1)
  check.ok(lines[1]:find "^error messages cannot be archived: the disk is full")
  for i = 4, 6 do messages[i] = handle(a) end
  advance(30)
  check.equal(#lines, 1, "said once")
  check.ok(#store.writes > 5 and #store.writes < 15, #store.writes)
  for i = 2, #store.writes do check.equal(store.writes[i], 1, "one at a time") end
  for i = 1, 6 do check.equal(messages[i].acknowledged, nil) end
  store.refuses = nil
  advance(5)
  for i = 1, 6 do check.equal(messages[i].acknowledged, true) end
  check.equal(lines[2], "info messages are archived again; 6 were waiting")
  table.sort(store.kept)
  for i = 1, 6 do check.equal(store.kept[i], messages[i].entry.id) end
  messages[7] = handle(a)
  advance(0)
  check.equal(messages[7].acknowledged, true)
end)

check.test("trouble that lasts: it is given up, not acknowledged, and whoever cares is told", function()
  local store = new_store()
  local a = new(store)
  store.refuses = "gone"
  local first = handle(a)
  advance(60)
  local second = handle(a)
  advance(65)
  check.equal({ first.acknowledged, first.lost }, { false, "the archive cannot be written" })
  check.equal(second.acknowledged, nil)
  check.equal(lines[2], "error 1 messages could not be archived")
  store.refuses = nil
  advance(10)
  check.equal(second.acknowledged, true)
  check.equal(#store.kept, 1)
end)

check.test("one that the store will never take does not keep the others from it", function()
  local store = new_store()
  local a = new(store)
  local bad, good = handle(a, true), handle(a)
  advance(0)
  advance(10)
  check.equal(good.acknowledged, true)
  advance(200)
  check.equal(bad.acknowledged, false)
end)

check.test("what waits is bounded", function()
  local store = new_store()
  local a = new(store)
  store.late = true
  for _ = 1, 50000 do a:keep { id = a:new_id(), user = "u", with = "w", xml = "<m/>" } end
  local refused = handle(a)
  check.equal({ refused.entry, refused.acknowledged, refused.why }, { nil, false, "too much waits for the archive" })
end)

check.test("a release of the plugin in trouble ends it", function()
  local store = new_store()
  local a = new(store)
  store.refuses = "gone"
  local message = handle(a)
  advance(1)
  a:close()
  check.equal({ message.acknowledged, a:waiting() }, { false, 0 })
end)

check.test("any archive store will do", function()
  local kept = {}
  local a = new { append = function(_, user, id, stanza, when, with)
    kept[#kept + 1] = { user, id, stanza.name, when, with }
    return id
  end }
  now = now + 0.5
  local message = handle(a)
  advance(0)
  check.equal(message.acknowledged, true)
  check.equal(kept[1][4], 1700000000 + now)
  kept[1][4] = nil
  check.equal(kept, { { "romeo", message.entry.id, "m", nil, "juliet@h" } })
  local b = new { append = function() error "broken" end }
  message = handle(b)
  advance(200)
  check.equal(message.acknowledged, false)
end)

check.done()
