-- SPDX-License-Identifier: MIT
-- Promises and async tools (PLUGIN-API §9), error objects (§8.1, §14), timers.
local check = require "check"
local fake = require "fakehost"
require "couplet.alias".install()
local promise, async, errors = require "util.promise", require "util.async", require "util.error"
local timer = require "util.timer"
local st = require "util.stanza"
local task = require "couplet.task"

local host = fake.new {}

local function deferred()
  local resolve, reject
  local p = promise.new(function(a, b) resolve, reject = a, b end)
  return p, resolve, reject
end

check.test("next, catch, finally; chains, values, promises as results", function()
  local p, resolve = deferred()
  local log = {}
  p:next(function(v) log[#log + 1] = v return v + 1 end)
    :next(function(v) log[#log + 1] = v return promise.resolve(v * 10) end)
    :next(function(v) log[#log + 1] = v error("oops", 0) end)
    :next(function() log[#log + 1] = "skipped" end)
    :finally(function() log[#log + 1] = "finally" end)
    :catch(function(e) log[#log + 1] = e return "recovered" end)
    :next(function(v) log[#log + 1] = v end)
  check.equal(log, {})
  resolve(1)
  resolve(99)
  check.equal(log, { 1, 2, 20, "finally", "oops", "recovered" })
end)

check.test("settled ones call at once, rejections pass through next without handler", function()
  local got
  promise.reject "r":next(function() end):next(nil, function(e) got = e end)
  check.equal(got, "r")
  promise.resolve(5):next():next(function(v) got = v end)
  check.equal(got, 5)
  promise.new(function() error("inside", 0) end):catch(function(e) got = e end)
  check.equal(got, "inside")
  check.ok(promise.is_promise(promise.resolve()) and not promise.is_promise {})
  local p = promise.resolve(1)
  check.equal(promise.resolve(p), p)
end)

check.test("all, all_settled, race, any, join, try", function()
  local a, ra = deferred()
  local b, rb, jb = deferred()
  local log = {}
  promise.all { a, b, 3, k = a }:next(function(v) log.all = v end)
  promise.all_settled { a, b }:next(function(v) log.settled = v end)
  promise.race { a, b }:next(function(v) log.race = v end)
  promise.any { promise.reject "x", b }:next(function(v) log.any = v end)
  promise.join(function(x, y, z) return x .. y .. z end, a, b, "c"):next(function(v) log.join = v end)
  rb "b"
  check.equal({ log.race, log.all }, { "b", nil })
  ra "a"
  check.equal(log, { all = { "a", "b", 3, k = "a" }, race = "b", any = "b", join = "abc",
    settled = { { status = "fulfilled", value = "a" }, { status = "fulfilled", value = "b" } } })
  promise.all { promise.resolve(1), promise.reject "no" }:catch(function(e) log.failed = e end)
  check.equal(log.failed, "no")
  promise.all {}:next(function(v) log.empty = v end)
  check.equal(log.empty, {})
  promise.try(function() error("t", 0) end):catch(function(e) log.try = e end)
  promise.try(function() return 7 end):next(function(v) log.try2 = v end)
  check.equal({ log.try, log.try2 }, { "t", 7 })
  jb "late"
end)

check.test("callbacks run in a task: they may wait", function()
  local log = {}
  promise.resolve():next(function()
    check.ok(async.ready())
    async.sleep(5)
    return "slept"
  end):next(function(v) log[1] = v end)
  check.equal(log, {})
  host:advance(5)
  check.equal(log, { "slept" })
end)

check.test("wait_for", function()
  local p, resolve = deferred()
  local log = {}
  task.spawn(function()
    log[1] = async.wait_for(p)
    log[2], log[3] = async.wait_for(promise.reject "bad")
    log[4] = async.wait(promise.resolve "now")
  end)
  resolve "v"
  check.equal(log, { "v", nil, "bad", "now" })
end)

check.test("waiter", function()
  local wait, done = async.waiter(2)
  local over
  task.spawn(function() wait() over = true end)
  done()
  check.ok(not over)
  done()
  check.ok(over)
  check.raises("too many times", done)
  local w2, d2 = async.waiter()
  d2()
  task.spawn(function() w2() over = "at once" end)
  check.equal(over, "at once")
  local _, d3 = async.waiter(1, true)
  d3()
  d3()
end)

check.test("guarder", function()
  local guard = async.guarder()
  local log = {}
  local function work(name, id)
    task.spawn(function()
      local exit = guard(id)
      log[#log + 1] = name .. " in"
      async.sleep(1)
      log[#log + 1] = name .. " out"
      exit()
      exit()
    end)
  end
  work("a", "x")
  work("b", "x")
  work("c", "y")
  check.equal(log, { "a in", "c in" })
  host:advance(1)
  host:advance(1)
  check.equal(log, { "a in", "c in", "a out", "b in", "c out", "b out" })
  task.spawn(function() guard(nil, function() log[1] = "within" end) end)
  check.equal(log[1], "within")
end)

check.test("runner: in order, with watchers", function()
  local log = {}
  local r = async.runner(function(x)
    log[#log + 1] = "in " .. x
    if x == "fail" then error("bad", 0) end
    if x == "wait" then async.sleep(1) end
    log[#log + 1] = "out " .. x
  end, {
    error = function(_, e) log[#log + 1] = "error " .. e:match "^%a+" end,
    waiting = function() log[#log + 1] = "waiting" end,
    ready = function() log[#log + 1] = "ready" end,
  }, "data")
  check.equal(r.data, "data")
  r:run "a"
  r:run "wait"
  r:enqueue "b"
  r:run "fail"
  check.equal(log, { "in a", "out a", "ready", "in wait", "waiting" })
  host:advance(1)
  check.equal(log, { "in a", "out a", "ready", "in wait", "waiting", "out wait", "in b", "out b", "in fail", "error bad",
    "ready" })
  local any = async.runner()
  any:run(function() log = "ran" end)
  check.equal(log, "ran")
end)

-- What each row logs, and in which order, is what Prosody's own util.async and util.promise make of it.
check.test("who waits goes on inside the timer's done() or resolve(), as on Prosody", function()
  local rows = {
    { "a waiter", function(say, at)
      local wait, done = async.waiter()
      at(function() say "timer" done() say "timer over" end)
      wait()
      say "goes on"
    end, "timer, goes on, timer over" },
    { "the second of two", function(say, at)
      local wait, done = async.waiter(2)
      at(function() done() say "one" done() say "two" end)
      wait()
      say "goes on"
    end, "one, goes on, two" },
    { "a promise, in the order of those who wait for it", function(say, at)
      local p, resolve = deferred()
      p:next(function() say "first" end)
      task.spawn(function() say(async.wait_for(p) .. " goes on") end)
      p:next(function() say "last" end)
      at(function() say "timer" resolve "x" say "timer over" end)
    end, "timer, first, x goes on, last, timer over" },
    { "a promise that is rejected", function(say, at)
      local p, _, reject = deferred()
      at(function() say "timer" reject "x" say "timer over" end)
      say(select(2, async.wait_for(p)) .. " goes on")
    end, "timer, x goes on, timer over" },
    { "the rest of a runner's queue comes later", function(say, at)
      local wait, done
      local r = async.runner(function(x)
        if x == "a" then wait, done = async.waiter() wait() end
        say(x)
      end)
      r:run "a"
      r:run "b"
      r:run "c"
      at(function() say "timer" done() say "timer over" end)
    end, "timer, a, timer over, b, c" },
    { "a guard", function(say, at)
      local guard, wait, done = async.guarder(), async.waiter()
      task.spawn(function() local exit = guard() wait() say "a out" exit() say "a over" end)
      task.spawn(function() local exit = guard() say "b in" exit() end)
      at(function() done() say "timer over" end)
    end, "a out, b in, a over, timer over" },
    { "an error of who was woken is not the timer's", function(say, at)
      local wait, done = async.waiter()
      at(function() done() say "timer over" end)
      wait()
      error "bad"
    end, "timer over" },
  }
  host:load("times", "")
  local module = host:module "times"
  local ways = {
    add_timer = function(fn) module:add_timer(1, fn) end,
    add_task = function(fn) timer.add_task(1, fn) end,
  }
  for way, at in pairs(ways) do
    for _, row in ipairs(rows) do
      local log = {}
      task.spawn(row[2], function(x) log[#log + 1] = x end, at)
      host:advance(2)
      check.equal(table.concat(log, ", "), row[3], row[1] .. ", " .. way)
    end
  end
  host:unload "times"
end)

check.test("timers by id", function()
  local log = {}
  local id = timer.add_task(5, function(_, _, param) log[#log + 1] = param return #log < 3 and 1 or nil end, "p")
  host:advance(10)
  check.equal(log, { "p", "p", "p" })
  check.equal(timer.stop(id), false)
  id = timer.add_task(5, function() log[#log + 1] = "late" end)
  check.ok(timer.reschedule(id, 20))
  host:advance(10)
  check.equal(#log, 3)
  host:advance(10)
  check.equal(log[4], "late")
  id = timer.add_task(5, function() log[#log + 1] = "never" end)
  check.ok(timer.stop(id))
  timer.add_task(1, function() error "timer" end)
  host:advance(10)
  check.equal(#log, 4)
end)

check.test("error objects", function()
  local e = errors.new { type = "cancel", condition = "item-not-found", text = "No such thing", extra = { x = 1 } }
  check.ok(errors.is_error(e) and errors.is_err(e) and not errors.is_error {})
  check.equal({ e.type, e.condition, e.text, tostring(e), e.extra.x },
    { "cancel", "item-not-found", "No such thing", "No such thing", 1 })
  check.ok(e.instance_id)
  check.equal(errors.new(e), e)
  check.equal({ errors.new "forbidden".type, errors.new "forbidden".condition, tostring(errors.new "forbidden") },
    { "auth", "forbidden", "forbidden" })
  check.equal({ errors.new "free text".condition, errors.new "free text".text }, { "undefined-condition", "free text" })
  local mine = errors.init("my-mod", "urn:x", {
    short = { "wait", "resource-constraint", "Too much" },
    long = { type = "modify", condition = "bad-request", text = "Bad" },
  })
  local s = mine.new("short", { id = "ctx" })
  check.equal({ s.type, s.condition, s.text, s.source, s.instance_id, s.extra },
    { "wait", "resource-constraint", "Too much", "my-mod", "ctx", { namespace = "urn:x", condition = "short" } })
  check.equal({ mine.coerce(true, 5) }, { true, 5 })
  local ok, err = mine.coerce(nil, "long")
  check.equal({ ok, err.condition }, { nil, "bad-request" })
  ok, err = mine.wrap(function() return nil, "unknown" end)()
  check.equal({ ok, err.text }, { nil, "unknown" })
  ok, err = errors.coerce(nil, "item-not-found")
  check.equal({ ok, err.condition }, { nil, "item-not-found" })
  check.equal({ errors.coerce(nil, err) }, { nil, err })
  local from = errors.from_stanza(st.error_reply(st.iq { type = "get", id = "1", from = "a@b", to = "c@d" }, "wait",
    "resource-constraint", "later"))
  check.equal({ from.type, from.condition, from.text, from.source }, { "wait", "resource-constraint", "later", "c@d" })
  check.ok(st.error_reply(st.iq { type = "get", id = "1" }, s):get_error())
end)

host:close()
check.done()
