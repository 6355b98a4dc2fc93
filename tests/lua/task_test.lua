-- SPDX-License-Identifier: MIT
-- Waiting: tasks, queues, generators, and where Lua cannot yield (PLUGIN-API §1).
local check = require "check"
local logger = require "couplet.logger"
local loop = require "couplet.core".loop
local task = require "couplet.task"

local lines = {}
logger.add_simple_sink(function(name, level, text) lines[#lines + 1] = level .. " " .. name .. " " .. text end,
  { "warn", "error" })

local function until_true(fn)
  local limit = loop.mono() + 60
  while not fn() do
    if loop.mono() > limit then error("waited too long", 2) end
    loop.once()
  end
end

-- A wait that the test ends: wait() suspends, finish(...) wakes.
local function gate()
  local done
  return function() return task.await(function(d) done = d end) end, function(...) return done(...) end
end

check.test("spawn runs at once and returns when the task waits", function()
  local log, wait, finish = {}, gate()
  task.spawn(function(a, b)
    log[#log + 1] = a .. b
    log[#log + 1] = wait()
  end, "x", "y")
  check.equal(log, { "xy" })
  finish("z")
  check.equal(log, { "xy", "z" })
end)

check.test("await hands on every value, nils included, also when the answer comes at once", function()
  local got
  task.spawn(function() got = table.pack(task.await(function(done) done(nil, "e", nil) end)) end)
  check.equal(got, { n = 3, nil, "e" })
  local wait, finish = gate()
  task.spawn(function() got = table.pack(wait()) end)
  finish(1, nil, nil)
  check.equal(got, { n = 3, 1 })
end)

check.test("a second answer is ignored", function()
  local finish, n
  task.spawn(function()
    n = task.await(function(d) finish = d end)
    task.await(function() end)
    n = "twice"
  end)
  finish(1)
  finish(2)
  check.equal(n, 1)
end)

check.test("coroutines are used again", function()
  local first, second
  task.spawn(function() first = coroutine.running() end)
  task.spawn(function() second = coroutine.running() end)
  check.equal(first, second)
end)

check.test("an error ends only its task and is logged with a traceback", function()
  lines = {}
  local errors = task.stats.errors
  task.spawn(function() local function deep() error("boom") end deep() end)
  check.equal(task.stats.errors, errors + 1)
  check.equal(#lines, 1)
  check.ok(lines[1]:find "boom" and lines[1]:find "stack traceback" and lines[1]:find "deep")
end)

check.test("to-be-closed variables of a failed task are closed", function()
  local closed
  task.spawn(function()
    local _ <close> = setmetatable({}, { __close = function() closed = true end })
    error("boom")
  end)
  check.ok(closed)
end)

check.test("a queue handles one after the other, waits included", function()
  local log, wait, finish = {}, gate()
  local q = task.queue(function(a, b)
    log[#log + 1] = "in " .. a .. b
    if a == 1 then wait() end
    log[#log + 1] = "out " .. a
  end)
  q:push(1, "a")
  q:push(2, "b")
  q:push(3, "c")
  check.equal(q:count(), 3)
  check.equal(log, { "in 1a" })
  finish()
  check.equal(log, { "in 1a", "out 1", "in 2b", "out 2", "in 3c", "out 3" })
  check.equal(q:count(), 0)
  q:push(4, "d")
  check.equal(#log, 8)
end)

check.test("a queue goes on behind a handler that fails, before or after a wait", function()
  for _, waits in ipairs { false, true } do
    local log, wait, finish = {}, gate()
    local q = task.queue(function(a)
      if waits and a == 1 then wait() end
      log[#log + 1] = a
      if a < 3 then error("no " .. a) end
    end)
    q:push(1)
    q:push(2)
    q:push(3)
    if waits then finish() end
    check.equal(log, { 1, 2, 3 })
    check.equal(q:count(), 0)
  end
end)

check.test("two queues interleave only at waits", function()
  local log, wait, finish = {}, gate()
  local a = task.queue(function(x) log[#log + 1] = "a" .. x; if x == 1 then wait() end log[#log + 1] = "A" .. x end)
  local b = task.queue(function(x) log[#log + 1] = "b" .. x end)
  a:push(1)
  a:push(2)
  b:push(1)
  finish()
  check.equal(log, { "a1", "b1", "A1", "a2", "A2" })
end)

check.test("who waits goes on inside done(), also where a task calls it", function()
  local log, wait, finish = {}, gate()
  task.spawn(function()
    wait()
    log[#log + 1] = "woken"
    task.sleep(0.001)
    log[#log + 1] = "slept"
  end)
  task.spawn(function()
    log[#log + 1] = "waker"
    finish()
    log[#log + 1] = "goes on"
  end)
  check.equal(log, { "waker", "woken", "goes on" })
  until_true(function() return log[4] == "slept" end)
end)

check.test("what stands in a queue behind who was woken is handled when the waker is over", function()
  local log, wait, finish = {}, gate()
  local q = task.queue(function(a)
    if a == 1 then wait() end
    log[#log + 1] = a
  end)
  for i = 1, 3 do q:push(i) end
  task.spawn(function()
    finish()
    log[#log + 1] = "waker"
  end)
  check.equal(log, { 1, "waker", 2, 3 })
  check.equal(q:count(), 0)
end)

-- Takes turns as muc/pace does: a timer's task lets others go on until its time is over.
check.test("a bound in time holds in a task that lets others go on, one by one", function()
  local fake = require "fakehost"
  local host = fake.new {}
  host:load("turns", "")
  local waiting, turns, now = {}, {}, 0
  for i = 1, 10 do
    task.spawn(function()
      task.await(function(done) waiting[i] = done end)
      now = now + 1                             -- what it does takes a second
    end)
  end
  host:module "turns":add_timer(0, function()
    local till, n = now + 3, 0
    while waiting[1] and now < till do
      table.remove(waiting, 1)()
      n = n + 1
    end
    turns[#turns + 1] = n
    return waiting[1] and 0 or nil
  end)
  host:advance(1)
  check.equal(turns, { 3, 3, 3, 1 })
  check.equal(host:close(), {})
end)

check.test("long chains of tasks waking tasks do not end at Lua's C stack, and none is lost", function()
  lines = {}
  local first, n = nil, 0
  for _ = 1, 20000 do
    local next_one = first
    task.spawn(function()
      task.await(function(done) first = done end)
      n = n + 1
      if next_one then pcall(next_one) end
    end)
  end
  task.spawn(first)
  check.equal(n, 20000)
  check.equal(lines, {})
end)

check.test("long chains of tasks starting tasks do not end at Lua's C stack", function()
  local n = 0
  local function nest(i)
    n = n + 1
    if i < 20000 then task.spawn(nest, i + 1) end
  end
  task.spawn(nest, 1)
  check.equal(n, 20000)
  local queues, count = {}, 0
  for i = 1, 5000 do
    queues[i] = task.queue(function() count = count + 1 if queues[i + 1] then queues[i + 1]:push(1) end end)
  end
  queues[1]:push(1)
  check.equal(count, 5000)
end)

check.test("sleep", function()
  local over
  task.spawn(function() task.sleep(0.01) over = true end)
  check.ok(not over)
  until_true(function() return over end)
end)

check.test("a wait inside a generator passes through it (§1.5)", function()
  local wait, finish = gate()
  local co = task.coroutine
  local log = {}
  task.spawn(function()
    local each = co.wrap(function()
      for i = 1, 3 do
        local x = i == 2 and wait() or i
        co.yield(x)
      end
    end)
    for x in each do log[#log + 1] = x end
    log[#log + 1] = "end"
  end)
  check.equal(log, { 1 })
  finish("two")
  check.equal(log, { 1, "two", 3, "end" })
end)

check.test("generators in generators, with create and resume", function()
  local wait, finish = gate()
  local co, log = task.coroutine, {}
  task.spawn(function()
    local outer = co.create(function(a)
      local inner = co.wrap(function() co.yield(wait() + a) co.yield(2) end)
      co.yield(inner())
      co.yield(inner())
      return "fin"
    end)
    for _ = 1, 3 do log[#log + 1] = select(2, co.resume(outer, 10)) end
    log[#log + 1] = co.status(outer)
  end)
  check.equal(log, {})
  finish(5)
  check.equal(log, { 15, 2, "fin", "dead" })
end)

check.test("another task cannot resume a generator that waits", function()
  local wait, finish = gate()
  local co, got = task.coroutine, nil
  local gen = co.create(function() co.yield(wait()) end)
  task.spawn(function() got = select(2, co.resume(gen)) end)
  check.equal({ co.resume(gen) }, { false, "cannot resume non-suspended coroutine" })
  check.equal(co.status(gen), "normal")
  finish("ok")
  check.equal(got, "ok")
end)

check.test("errors in generators reach the consumer", function()
  local co = task.coroutine
  check.raises("bad", function() co.wrap(function() error("bad") end)() end)
  check.equal({ co.resume(co.create(function() error("bad", 0) end)) }, { false, "bad" })
end)

check.test("yield outside of a generator is an error, not a lost task", function()
  lines = {}
  task.spawn(function() task.coroutine.yield(1) end)
  check.ok(lines[1]:find "from outside a coroutine")
  task.spawn(function() coroutine.yield(1) end)
  check.ok(lines[2]:find "outside of a coroutine")
end)

local function sleeping() task.sleep(0.005) return "x" end

check.test("where Lua cannot yield the wait is in place, and logged once per call site (§1.4)", function()
  lines = {}
  local got, blocking = nil, task.stats.blocking
  task.spawn(function()
    for _ = 1, 2 do
      got = ("a"):gsub("a", function()
        check.ok(not task.ready())
        return sleeping()
      end)
    end
  end)
  check.equal(got, "x")
  check.equal(task.stats.blocking, blocking + 2)
  check.equal(#lines, 1)
  check.ok(lines[1]:find "cannot yield" and lines[1]:find "task_test.lua")
end)

check.test("comparators, metamethods, tostring and require wait in place", function()
  local results = {}
  task.spawn(function()
    local list = { 3, 1, 2 }
    table.sort(list, function(a, b) sleeping() return a < b end)
    results[1] = table.concat(list, ",")
    results[2] = tostring(setmetatable({}, { __tostring = sleeping }))
    package.preload["task_test.waits"] = function() return sleeping() end
    results[3] = require "task_test.waits"
  end)
  check.equal(results, { "1,2,3", "x", "x" })
end)

check.test("a generator inside a callback inside a task", function()
  local co, got = task.coroutine, nil
  task.spawn(function()
    got = ("a"):gsub("a", function() return co.wrap(function() co.yield(sleeping()) end)() end)
  end)
  check.equal(got, "x")
end)

check.test("during a wait in place other tasks go on", function()
  local log, wait, finish = {}, gate()
  task.spawn(function() wait() log[#log + 1] = "other" end)
  loop.timer(0.001, function() finish() end)
  task.spawn(function()
    (" "):gsub(" ", function() task.sleep(0.01) log[#log + 1] = "slept" end)
    log[#log + 1] = "end"
  end)
  check.equal(log, { "other", "slept", "end" })
end)

check.test("waits in place inside waits in place end with an error, not a crash", function()
  local deepest = 0
  local function nest(i)
    if i > deepest then deepest = i end
    if i > 40 then return end
    local _ = (" "):gsub(" ", function()
      loop.timer(0, function() task.spawn(nest, i + 1) end)
      task.sleep(0.001)
    end)
  end
  task.spawn(nest, 1)
  check.ok(deepest >= 5)
  until_true(function() return deepest > 40 end)
end)

check.test("what keeps the server is logged, and aborted (§15)", function()
  lines = {}
  local heard = {}
  task.watch(60, 200, function(_, ms, aborted) heard[#heard + 1] = { ms, aborted } end)
  local function spin() local x = 0 while true do x = x + 1 end end
  local errors = task.stats.errors
  task.spawn(spin)
  check.equal(task.stats.errors, errors + 1)
  check.equal({ heard[1][2], heard[2][2], #heard }, { false, true, 2 })
  check.ok(lines[1]:find "kept the server for %d+ ms" and lines[1]:find "task_test")
  check.ok(lines[3]:find "aborted: kept the server for %d+ ms", lines[3])
  local ok, err                                                 -- in a generator as well
  task.spawn(function() ok, err = pcall(task.coroutine.wrap(spin)) end)
  check.ok(not ok and err:find "aborted")
  heard = {}
  task.spawn(function() task.sleep(0.3) end)                    -- waiting is no crime
  until_true(function() return task.idle() and loop.mono() > 0 end)
  local over
  task.spawn(function() (" "):gsub(" ", function() task.sleep(0.3) end) over = true end)
  check.ok(over)
  check.equal(heard, {})
  task.watch(nil)
end)

check.test("outside of any task a wait is in place and nobody complains", function()
  lines = {}
  check.equal(sleeping(), "x")
  check.equal(lines, {})
  check.ok(not task.ready())
end)

check.test("ready() inside tasks and generators", function()
  local seen = {}
  task.spawn(function()
    seen[1] = task.ready()
    task.coroutine.wrap(function() seen[2] = task.ready() end)()
    coroutine.wrap(function() seen[3] = task.ready() end)()
  end)
  check.equal(seen, { true, true, false })
end)

check.test("a task can be cancelled while it waits", function()
  local wait, finish = gate()
  local closed, over
  local t = task.new(function()
    local _ <close> = setmetatable({}, { __close = function() closed = true end })
    wait()
    over = true
  end)
  check.equal(t:status(), "waiting")
  check.ok(t:cancel())
  check.ok(closed)
  check.equal(t:status(), "cancelled")
  finish()
  check.ok(not over)
  check.equal(task.new(function() end):status(), "done")
  check.equal(task.new(function() error("x") end):status(), "failed")
end)

check.test("a task that cancels itself ends at its next wait", function()
  lines = {}
  local t, after
  local wait, finish = gate()
  t = task.new(function()
    wait()
    t:cancel()
    task.sleep(0)
    after = true
  end)
  finish()
  check.ok(not after)
  check.equal(lines, {})
end)

check.done()
