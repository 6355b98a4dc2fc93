-- SPDX-License-Identifier: MIT
-- What holds a stanza back from being acknowledged (couplet.durable).
local check = require "check"
local durable = require "couplet.durable"
local task = require "couplet.task"

-- Handles a "stanza" with fn -> a table that is filled when it is settled.
local function handle(fn)
  local result = {}
  task.spawn(function()
    local ticket = durable.begin(function(ok, why, tag)
      result.n, result.ok, result.why, result.tag = (result.n or 0) + 1, ok, why, tag
    end, "tag")
    fn()
    durable.finish(ticket)
  end)
  return result
end

local function gate()
  local done
  return function() return task.await(function(d) done = d end) end, function(...) return done(...) end
end

check.test("without holds it is settled when the handler ends, with the caller's own values", function()
  check.equal(handle(function() end), { n = 1, ok = true, tag = "tag" })
end)

check.test("a hold lasts until it is released, once", function()
  local release
  local result = handle(function() release = durable.hold() end)
  check.equal(result, {})
  release(true)
  release(false, "late")
  check.equal(result, { n = 1, ok = true, tag = "tag" })
end)

check.test("a release inside the handler does not end it", function()
  local wait, go_on = gate()
  local result = handle(function()
    durable.hold()(true)
    wait()
  end)
  check.equal(result, {})
  go_on()
  check.equal(result.ok, true)
end)

check.test("one that could not be kept spoils all; the first reason counts, and the others are waited for", function()
  local a, b, c
  local result = handle(function() a, b, c = durable.hold(), durable.hold(), durable.hold() end)
  b(false, "disk full")
  a(false, "other")
  check.equal(result, {})
  c(true)
  check.equal(result, { n = 1, ok = false, why = "disk full", tag = "tag" })
end)

check.test("a reason is found for those who give none", function()
  local release
  local result = handle(function() release = durable.hold() end)
  release()
  check.equal(result.why, "not kept")
end)

check.test("tasks started while it is handled hold it too, also after waits", function()
  local wait, go_on = gate()
  local release
  local result = handle(function()
    local first = durable.hold()
    task.spawn(function()
      wait()
      release = durable.hold()
      first(true)
    end)
  end)
  check.equal(result, {})
  go_on()
  check.equal(result, {})
  release(true)
  check.equal(result.ok, true)
end)

check.test("tasks put off, because they are too deep, hold it too", function()
  local depth, releases = 0, {}
  local function down()
    depth = depth + 1
    if depth == 100 then releases[1] = durable.hold() else task.spawn(down) end
  end
  local outer
  local result = handle(function()
    outer = durable.hold()
    down()
  end)
  check.equal(depth, 100)
  outer(true)
  check.equal(result, {})
  releases[1](true)
  check.equal(result.ok, true)
end)

check.test("what runs for nobody holds nothing", function()
  check.equal(durable.waiting(), false)
  durable.hold()(false, "nobody hears")
  local inside
  handle(function() inside = durable.waiting() end)
  check.equal(inside, true)
  check.equal(durable.waiting(), false)
end)

check.test("two that wait do not mix", function()
  local wait1, go1 = gate()
  local wait2, go2 = gate()
  local r1, r2
  local first = handle(function() wait1() r1 = durable.hold() end)
  local second = handle(function() wait2() r2 = durable.hold() end)
  go2()
  go1()
  r1(false, "one")
  check.equal({ first.why, second.n }, { "one" })
  r2(true)
  check.equal(second.ok, true)
end)

check.test("work in a queue is for whoever it says, not for who queued it", function()
  local seen
  local queue = task.queue(function() seen = durable.waiting() end)
  handle(function() queue:push(1) end)
  check.equal(seen, false)
end)

check.test("after it is settled nothing can be held any more", function()
  local wait, go_on = gate()
  local late
  local result = handle(function()
    task.spawn(function()
      wait()
      late = durable.waiting()
      durable.hold()(false, "too late")
    end)
  end)
  check.equal(result.ok, true)
  go_on()
  check.equal({ late, result.n, result.ok }, { false, 1, true })
end)

check.test("a wait in place runs others, who hold nothing of it", function()
  local inside
  local result = handle(function()
    table.sort({ 2, 1 }, function(a, b)                          -- Lua cannot yield in a comparator
      task.await(function(done)
        require "couplet.core".loop.timer(0, function()
          task.spawn(function() inside = durable.waiting() end)
          done()
        end)
      end)
      return a < b
    end)
  end)
  check.equal({ inside, result.ok }, { false, true })
end)

check.done()
