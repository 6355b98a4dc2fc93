-- SPDX-License-Identifier: MIT
-- task.lua: every entry into plugin code runs in a pooled coroutine that may wait.
--
--   task.spawn(fn, ...)            runs fn now, until it ends or waits; errors are logged with their traceback
--   task.await(start) -> values    start(done) begins something; returns what done(...) is called with, later or at once
--   task.sleep(seconds)
--   task.queue(handler) -> q       q:push(a, b) calls handler(a, b), one after the other, waits included; q:count()
--   task.new(fn, ...) -> t         like spawn, with t:cancel(), t:status() "running" | "waiting" | "done" | "cancelled"
--   task.ready() -> bool           would await suspend (true), or wait in place?
--   task.in_task() -> bool         is a task running?
--   task.coroutine                 Lua's coroutine library for plugins: a wait inside a generator passes through it
--   task.stats                     tasks, errors, blocking, pooled
--
-- Where Lua cannot yield (a gsub callback, a comparator, a chunk being required) await runs the loop in place; each such
-- call site is logged once. A wake-up that happens while a task runs is done when that task ends or waits.

local clock = require "couplet.clock"
local log = require "couplet.logger".init "task"

local create, resume, yield, status = coroutine.create, coroutine.resume, coroutine.yield, coroutine.status
local running, isyieldable, close = coroutine.running, coroutine.isyieldable, coroutine.close
local traceback, unpack, pack, select = debug.traceback, table.unpack, table.pack, select

local POOL = 64                         -- idle coroutines kept (about 1 KB each)
local DEPTH = 30                        -- tasks started inside tasks; Lua ends at about 60

local IDLE, WAIT = setmetatable({}, { __name = "idle" }), setmetatable({}, { __name = "wait" })

local task = { stats = { tasks = 0, errors = 0, blocking = 0, pooled = 0 } }
local stats = task.stats
local pool, pooled = {}, 0
local current, depth = nil, 0           -- the task that runs (its outermost coroutine); how many are nested
local managed = setmetatable({}, { __mode = "k" })    -- coroutines that may yield WAIT: ours, and generators of plugins
local in_place = {}                     -- task -> slot: it waits in place for its wake-up
local queue_of = {}                     -- waiting coroutine -> the queue it serves
local cancelled = setmetatable({}, { __mode = "k" })
local ready, ready_first, ready_last = {}, 1, 0        -- wake-ups and starts put off

local function call(fn, ...)
  fn(...)
end

local function body(...)
  call(...)
  while true do call(yield(IDLE)) end
end

local serve, begin_work                 -- below: a queue goes on

-- A task ended (what == IDLE), waits (WAIT), or failed. Returns true, co, false.
local function settle(co, ok, what)
  if what == IDLE then
    if pooled < POOL then
      pooled = pooled + 1
      pool[pooled] = co
    end
    return true
  elseif ok then
    if what == WAIT then return co end
    what = "attempt to yield outside of a coroutine of its own"
  end
  stats.errors = stats.errors + 1
  local text = traceback(co, tostring(what))
  close(co)
  if not cancelled[co] then log("error", "%s", text) end
  local q = queue_of[co]
  if q then
    queue_of[co] = nil
    q.waited = nil
    serve(q)
  end
  return false
end

local run_ready

local function start(fn, ...)
  if depth >= DEPTH then
    ready_last = ready_last + 1
    ready[ready_last] = pack(false, fn, ...)
    return true
  end
  local co
  if pooled > 0 then
    co = pool[pooled]
    pool[pooled] = nil
    pooled = pooled - 1
  else
    co = create(body)
    managed[co] = true
    task.created(co)
  end
  local before = current
  current = co
  depth = depth + 1
  local ok, what = resume(co, fn, ...)
  depth = depth - 1
  current = before
  local state
  if what == IDLE and pooled < POOL then
    pooled = pooled + 1
    pool[pooled] = co
    state = true
  else
    state = settle(co, ok, what)
  end
  if not before and ready_first <= ready_last then run_ready() end
  return state
end

function task.created() end             -- (co): the watch arms new coroutines here

function task.spawn(fn, ...)
  stats.tasks = stats.tasks + 1
  start(fn, ...)
end

local function continue(co, ...)
  local before = current
  current = co
  depth = depth + 1
  local ok, what = resume(co, ...)
  depth = depth - 1
  current = before
  settle(co, ok, what)
end

function run_ready()
  if current then return end
  while ready_first <= ready_last do
    local item = ready[ready_first]
    ready[ready_first] = nil
    ready_first = ready_first + 1
    local co = item[1]
    if not co then
      if item[2] == serve then
        local q = item[3]
        if begin_work(q, item[4], item[5]) then serve(q) end
      else
        start(unpack(item, 2, item.n))
      end
    elseif status(co) == "suspended" then
      continue(co, unpack(item, 2, item.n))
    end
  end
  ready_first, ready_last = 1, 0
end

-- The wait of `co` is over.
local function wake(co, ...)
  local slot = in_place[co]
  if slot then
    slot.values = pack(...)
  elseif current then
    ready_last = ready_last + 1
    ready[ready_last] = pack(co, ...)
  elseif status(co) == "suspended" then        -- not cancelled meanwhile
    continue(co, ...)
    if ready_first <= ready_last then run_ready() end
  end
end

-- --- waiting in place ---

local seen = {}

local function complain()
  for level = 3, 12 do
    local info = debug.getinfo(level, "Sl")
    if not info then return end
    if info.what ~= "C" and not info.short_src:find("couplet/task.lua", 1, true) then
      local site = info.short_src .. ":" .. info.currentline
      if not seen[site] then
        seen[site] = true
        log("warn", "%s", traceback("a wait blocks the server here, because Lua cannot yield: " .. site, level))
      end
      return
    end
  end
end

local function turn_until(slot)
  stats.blocking = stats.blocking + 1
  local before, nested = current, depth
  current = nil
  if before then complain() end
  while not slot.values do
    if ready_first <= ready_last then run_ready() else clock.once() end
  end
  current, depth = before, nested
  return unpack(slot.values, 1, slot.values.n)
end

-- Suspends the running task until wake(); may stand inside a generator.
local function suspend()
  if isyieldable() and managed[running()] then return yield(WAIT) end
  local self, slot = current, {}
  in_place[self] = slot
  local function finish(...)
    in_place[self] = nil
    return ...
  end
  return finish(turn_until(slot))
end

local function check_cancelled(self)
  if cancelled[self] then error("task cancelled", 0) end
end

local function after(self, ...)
  check_cancelled(self)
  return ...
end

function task.await(begin)
  local self = current
  if not self or not isyieldable() or not managed[running()] then
    local slot = {}
    begin(function(...)
      if not slot.values then slot.values = pack(...) end
    end)
    if slot.values then return unpack(slot.values, 1, slot.values.n) end
    return turn_until(slot)
  end
  check_cancelled(self)
  local early, suspended, over
  begin(function(...)
    if over then return end
    over = true
    if suspended then wake(self, ...) else early = pack(...) end
  end)
  if early then return unpack(early, 1, early.n) end
  suspended = true
  return after(self, suspend())
end

function task.ready()
  return current ~= nil and isyieldable() and managed[running()] == true
end

function task.in_task()
  return current ~= nil
end

local Alarm = { __close = function(alarm) alarm.timer:stop() end }      -- a cancelled sleeper leaves no timer

function task.sleep(seconds)
  local alarm <close> = setmetatable({}, Alarm)
  task.await(function(done)
    alarm.timer = clock.timer(seconds, function() done() end)
  end)
end

-- --- queues: one handler, in order ---

local Queue = {}
Queue.__index = Queue

-- Takes what is queued, until nothing is.
local function work(q, a, b)
  q.co = current
  local handler = q.handler
  handler(a, b)
  while q.first <= q.last do
    local i = q.first
    q.first = i + 1
    a, b = q.a[i], q.b[i]
    q.a[i], q.b[i] = nil, nil
    handler(a, b)
  end
  if q.waited then
    queue_of[q.co] = nil
    q.waited = nil
  end
  q.busy = false
end

-- True if the handler failed and the queue is to be served on.
function begin_work(q, a, b)
  q.busy = true
  if depth >= DEPTH then
    ready_last = ready_last + 1
    ready[ready_last] = pack(false, serve, q, a, b)
    return
  end
  stats.tasks = stats.tasks + 1
  local state = start(work, q, a, b)
  if state == true then return end
  if not state then return true end
  if q.busy and q.co == state then      -- a wake-up may have finished it meanwhile
    if status(state) == "dead" then return true end
    q.waited = true
    queue_of[state] = q
  end
end

function serve(q)
  repeat
    local i = q.first
    if i > q.last then
      q.busy = false
      return
    end
    q.first = i + 1
    local a, b = q.a[i], q.b[i]
    q.a[i], q.b[i] = nil, nil
  until not begin_work(q, a, b)
end

function Queue:push(a, b)
  if self.busy then
    local i = self.last + 1
    self.last = i
    self.a[i], self.b[i] = a, b
  elseif begin_work(self, a, b) then
    serve(self)
  end
end

function Queue:count()
  return self.last - self.first + 1 + (self.busy and 1 or 0)
end

function task.queue(handler)
  return setmetatable({ handler = handler, busy = false, first = 1, last = 0, a = {}, b = {} }, Queue)
end

-- --- tasks with a handle ---

local Task = {}
Task.__index = Task

local function run_handle(t, fn, ...)
  t.co = current
  fn(...)
  t.co = nil
  t.state = "done"
  if t.ended then t:ended() end
end

function task.new(fn, ...)
  local t = setmetatable({ state = "running" }, Task)
  task.spawn(run_handle, t, fn, ...)
  if t.co and status(t.co) == "dead" then
    t.state, t.co = "failed", nil
  end
  return t
end

function Task:status()
  if self.co then
    local s = status(self.co)
    if s == "suspended" then return "waiting" end
    if s == "dead" then return "failed" end
  end
  return self.state
end

-- A waiting task ends now (its to-be-closed variables are closed); a running one at its next wait.
function Task:cancel()
  local co = self.co
  self.state, self.co = "cancelled", nil
  if not co then return false end
  cancelled[co] = true
  if status(co) == "suspended" then close(co) end
  return true
end

-- --- the coroutine library for plugins ---

local lib = {}
task.coroutine = lib
for name, fn in pairs(coroutine) do lib[name] = fn end
local blocked = setmetatable({}, { __mode = "k" })     -- generators inside which a task waits

function lib.create(fn)
  local co = create(fn)
  managed[co] = true
  return co
end

local through

local function again(co, ...)
  blocked[co] = nil
  return through(co, resume(co, ...))
end

function through(co, ok, what, ...)
  if what ~= WAIT then return ok, what, ... end
  blocked[co] = true
  return again(co, suspend())
end

function lib.resume(co, ...)
  if blocked[co] then return false, "cannot resume non-suspended coroutine" end
  return through(co, resume(co, ...))
end

function lib.status(co)
  if blocked[co] then return "normal" end
  return status(co)
end

function lib.yield(...)
  if current == running() then error("attempt to yield from outside a coroutine", 2) end
  return yield(...)
end

function lib.isyieldable(...)
  return current ~= running() and isyieldable(...)
end

local function unwrap(co, ok, ...)
  if ok then return ... end
  local err = ...
  if status(co) == "dead" then close(co) end
  if type(err) == "string" then
    local info = debug.getinfo(3, "Sl")
    if info and info.currentline > 0 then err = info.short_src .. ":" .. info.currentline .. ": " .. err end
  end
  error(err, 0)
end

function lib.wrap(fn)
  local co = lib.create(fn)
  return function(...)
    if blocked[co] then error("cannot resume non-suspended coroutine", 2) end
    return unwrap(co, through(co, resume(co, ...)))
  end
end

-- For the harness and the shell.
function task.idle()
  return current == nil and ready_first > ready_last
end
task.run_ready = run_ready

setmetatable(stats, { __index = function(_, k) if k == "pooled_now" then return pooled end end })

return task
