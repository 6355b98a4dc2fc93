-- SPDX-License-Identifier: MIT
-- task.lua: every entry into plugin code runs in a pooled coroutine that may wait.
--
--   task.spawn(fn, ...)            runs fn now, until it ends or waits; errors are logged with their traceback
--   task.await(start) -> values    start(done) begins something; returns what done(...) is called with, later or at once
--   task.sleep(seconds)
--   task.together(fn, …) -> result of each         side by side; what they read first of a database is one read, of one state
--   task.queue(handler) -> q       q:push(a, b) calls handler(a, b), one after the other, waits included; q:count()
--   task.new(fn, ...) -> t         like spawn, with t:cancel(), t:status() "running" | "waiting" | "done" | "cancelled"
--   task.ready() -> bool           would await suspend (true), or wait in place?
--   task.in_task() -> bool         is a task running?
--   task.failed = fn(plugin | nil, text)          hears of tasks that ended with an error, after the log
--   task.context() -> n, task.context(n)          a number that the tasks this one starts begin with; 0: none
--   task.coroutine                 Lua's coroutine library for plugins: a wait inside a generator passes through it
--   task.stats                     tasks, errors, blocking;  task.pool() -> idle, created, started
--   task.watch(slow_ms, abort_ms, report?)        logs, and ends, what keeps the server
--
-- Where Lua cannot yield (a gsub callback, a comparator, a chunk being required) await runs the loop in place; each such
-- call site is logged once. Who waits goes on inside the done() that ends the wait, in a task as well: 25 deep at most,
-- then when nobody runs; what its queue still holds comes after the task that woke it.

local clock = require "couplet.clock"
local log = require "couplet.logger".init "task"

local native = require "couplet.core".task

local create, yield, status = coroutine.create, coroutine.yield, coroutine.status
local running, isyieldable, close = coroutine.running, coroutine.isyieldable, coroutine.close
local traceback, unpack, pack, tostring, pcall = debug.traceback, table.unpack, table.pack, tostring, pcall
local current, swap, start, continue, WAIT = native.current, native.swap, native.start, native.continue, native.WAIT
local context = native.context

local task = { stats = { errors = 0, blocking = 0 }, queue = native.queue, context = native.context }
local stats = task.stats
local generators = setmetatable({}, { __mode = "k" })  -- coroutines of plugins that hand waits on
local in_place = {}                     -- task -> slot: it waits in place for its wake-up
local cancelled = setmetatable({}, { __mode = "k" })
local ready, ready_first, ready_last = {}, 1, 0        -- wake-ups and starts put off

local function put_off(...)
  ready_last = ready_last + 1
  local item = pack(...)
  item.context = context()
  ready[ready_last] = item
  native.pending()
end

local function show(err)
  local ok, text = pcall(tostring, err)
  return ok and text or "error object that cannot be shown"
end

local function failed(co, err)
  stats.errors = stats.errors + 1
  local text = traceback(co, show(err))
  close(co)
  if cancelled[co] then return end
  local plugin = text:match "mod_([%w_%-]+)%.lua"
  log("error", "%s%s", plugin and "plugin " .. plugin .. ": " or "", text)
  if task.failed then task.failed(plugin, text) end
end

-- What was put off, once no task runs.
local function run_ready()
  if current() then return end
  while ready_first <= ready_last do
    local item = ready[ready_first]
    ready[ready_first] = nil
    ready_first = ready_first + 1
    local first = item[1]
    if type(first) == "function" then
      context(item.context)
      start(unpack(item, 1, item.n))
      context(0)
    elseif status(first) == "suspended" then
      continue(unpack(item, 1, item.n))
    end
  end
  ready_first, ready_last = 1, 0
end

native.setup { failed = failed, put_off = put_off, ready = run_ready }

function task.spawn(fn, ...)
  start(fn, ...)
end

-- The wait of `co` is over.
local function wake(co, ...)
  local slot = in_place[co]
  if slot then
    slot.values = pack(...)
  elseif status(co) == "suspended" then        -- not cancelled meanwhile
    local gathering = task.gathering         -- what together() gathers is not this one's
    task.gathering = nil
    continue(co, ...)
    task.gathering = gathering
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
  local before = swap(nil)
  if before then complain() end
  while not slot.values do
    if ready_first <= ready_last then run_ready() else clock.once() end
  end
  swap(before)
  return unpack(slot.values, 1, slot.values.n)
end

local function can_yield(self)
  if not isyieldable() then return false end
  local co = running()
  return co == self or generators[co] == true
end

-- Suspends the running task until wake(); may stand inside a generator.
local function suspend()
  local self, slot = current(), {}
  if can_yield(self) then return yield(WAIT) end
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
  local self = current()
  if not self or not can_yield(self) then
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
  local self = current()
  return self ~= nil and can_yield(self)
end

function task.in_task()
  return current() ~= nil
end

local Alarm = { __close = function(alarm) alarm.timer:stop() end }      -- a cancelled sleeper leaves no timer

function task.sleep(seconds)
  local alarm <close> = setmetatable({}, Alarm)
  task.await(function(done)
    alarm.timer = clock.timer(seconds, function() done() end)
  end)
end

-- --- tasks with a handle ---

local Task = {}
Task.__index = Task

local function run_handle(t, fn, ...)
  t.co = running()
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

-- --- several at once ---

-- Whoever can do in one what several ask leaves a function here while they begin: send(answered) calls answered() when all who
-- asked have had their answer. [whoever] = what it likes.
task.gathering = nil

-- One wait instead of one after the other. What the last one has found is what it is when this returns, unless one waited for
-- more than its first answer. An error of one is raised when all have ended.
function task.together(...)
  local n, open, results, failure, finish = select("#", ...), 0, {}, nil, nil
  local outer, gathered = task.gathering, {}
  local function run(fn, i)
    local ok, result = xpcall(fn, traceback)
    if ok then results[i] = result else failure = failure or result end
    open = open - 1
    if finish then finish() end
  end
  for i = 1, n do
    open, task.gathering = open + 1, gathered
    task.spawn(run, (select(i, ...)), i)
    task.gathering = outer
  end
  if open > 0 or gathered[1] then
    task.await(function(done)
      local underway = #gathered
      function finish()
        if open == 0 and underway == 0 then done() end
      end
      for _, send in ipairs(gathered) do
        send(function()
          underway = underway - 1
          finish()
        end)
      end
    end)
  end
  if failure then error(failure, 0) end
  return unpack(results, 1, n)
end

-- --- the coroutine library for plugins ---

local lib = {}
local resume = native.inner
task.coroutine = lib
for name, fn in pairs(coroutine) do lib[name] = fn end
local blocked = setmetatable({}, { __mode = "k" })     -- generators inside which a task waits

function lib.create(fn)
  local co = create(fn)
  generators[co] = true
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
  if current() == running() then error("attempt to yield from outside a coroutine", 2) end
  return yield(...)
end

function lib.isyieldable(...)
  return current() ~= running() and isyieldable(...)
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
  return current() == nil and ready_first > ready_last
end
task.run_ready = run_ready
task.pool = native.pool
setmetatable(stats, { __index = function(_, key)
  if key == "tasks" then return (select(3, native.pool())) end
end })

-- Logs what keeps the server longer than slow_ms, and ends it with an error after abort_ms (0: never); nil: no watch.
-- PLUGIN-API §15. report(plugin | nil, ms, aborted), if given, hears of it as well.
function task.watch(slow_ms, abort_ms, report)
  if not slow_ms and not abort_ms then return native.watch(nil) end
  native.watch(slow_ms or 0, abort_ms or 0, function(ms, text, aborted)
    local plugin = text:match "mod_([%w_%-]+)%.lua"
    log("warn", "%s kept the server for %d ms%s\n%s", plugin and "plugin " .. plugin or "a task", ms,
      aborted and "; aborted" or "", text)
    if report then report(plugin, ms, aborted) end
  end)
end

return task
