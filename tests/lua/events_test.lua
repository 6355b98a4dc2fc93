-- SPDX-License-Identifier: MIT
-- The bus: order, isolation, coming and going of handlers, wrappers, conditions (PLUGIN-API §3.3, §4, §15).
local check = require "check"
local logger = require "couplet.logger"
local events = require "couplet.events"
local task = require "couplet.task"
local st = require "couplet.stanza"

local lines = {}
logger.add_simple_sink(function(name, level, text) lines[#lines + 1] = level .. " " .. name .. " " .. text end,
  { "warn", "error" })

local function record(log, name, result)
  return function(data) log[#log + 1] = name .. tostring(data) return result end
end

check.test("falling priority, fractions and large ones included; the first result ends it", function()
  local bus, log = events.new(), {}
  bus.add_handler("e", record(log, "zero"))
  bus.add_handler("e", record(log, "half"), 0.5)
  bus.add_handler("e", record(log, "last", "result"), -2 ^ 32)
  bus.add_handler("e", record(log, "never"), -2 ^ 33)
  bus.add_handler("e", record(log, "first"), 2 ^ 32)
  check.equal(bus.fire_event("e", 1), "result")
  check.equal(log, { "first1", "half1", "zero1", "last1" })
  check.equal(bus.fire_event("nobody", 1), nil)
end)

check.test("who watches an event knows whether anybody would be told", function()
  local bus, told = events.new(), {}
  local function last() return table.remove(told) end
  bus.watch("e", function(heard) told[#told + 1] = heard end)
  check.equal(last(), false)
  local fn = function() end
  bus.add_handler("other", fn)
  check.equal(last(), nil)
  bus.add_handler("e", fn)
  check.equal(last(), true)
  bus.remove_handler("e", fn)
  check.equal(last(), false)
  bus.add_handler("e", fn, 0, { once = true })
  check.equal(last(), true)
  bus.fire_event "e"
  check.equal(last(), false)
  for _, event in ipairs { "e", false } do
    bus.add_wrapper(event, fn)
    check.equal(last(), true)
    bus.remove_wrapper(event, fn)
    check.equal(last(), false)
  end
  bus.watch("e", nil)
  bus.add_handler("e", fn)
  check.equal(last(), nil)
end)

check.test("false is a result, nil is none", function()
  local bus = events.new()
  bus.add_handler("e", function() return nil end, 1)
  bus.add_handler("e", function() return false end)
  check.equal(bus.fire_event "e", false)
end)

check.test("the same function again changes its priority", function()
  local bus, log = events.new(), {}
  local a, b = record(log, "a"), record(log, "b")
  bus.add_handler("e", a, 1)
  bus.add_handler("e", b, 2)
  bus.add_handler("e", a, 3)
  bus.fire_event("e", "")
  check.equal(log, { "a", "b" })
  check.equal(bus.count(), 2)
end)

check.test("a handler added while the event runs waits for the next, a removed one is not called any more", function()
  local bus, log = events.new(), {}
  local b = record(log, "b")
  local c = record(log, "c")
  bus.add_handler("e", function()
    bus.remove_handler("e", b)
    bus.add_handler("e", c, -1)
  end, 1)
  bus.add_handler("e", b)
  bus.fire_event("e", "")
  check.equal(log, {})
  bus.fire_event("e", "")
  check.equal(log, { "c" })
  local again = events.new()
  again.add_handler("e", function() again.remove_handler("e", b) again.add_handler("f", c) end, 1)
  again.add_handler("e", b)
  again.add_handler("e", c)
  log[1] = nil
  again.fire_event("e", "")
  check.equal(log, { "c" })
end)

check.test("an error is logged with its traceback and the next handler goes on (§1.9)", function()
  local bus, log = events.new(), {}
  lines = {}
  local failed = {}
  local owner = { _failed = function(_, what, text) failed[#failed + 1] = what .. " " .. text end }
  bus.add_handler("e", function() error("boom") end, 2)
  bus.add_handler("e", function() error({}) end, 1, { owner = owner })
  bus.add_handler("e", record(log, "ok", true))
  check.equal(bus.fire_event("e", ""), true)
  check.equal(log, { "ok" })
  check.equal(#lines, 1)
  check.ok(lines[1]:find "boom" and lines[1]:find "stack traceback" and lines[1]:find "events_test")
  check.ok(failed[1]:find "^e table")
end)

check.test("handlers may wait", function()
  local bus, wake, result = events.new(), nil, nil
  bus.add_handler("e", function() return task.await(function(done) wake = done end) end)
  task.spawn(function() result = bus.fire_event "e" end)
  check.equal(result, nil)
  wake("later")
  check.equal(result, "later")
end)

check.test("deep recursion raises and does not end the process (§15)", function()
  local bus, depth, most = events.new(), 0, 0
  lines = {}
  bus.add_handler("e", function()
    depth = depth + 1
    if depth > most then most = depth end
    bus.fire_event "e"
    depth = depth - 1
  end)
  bus.fire_event "e"
  check.equal(most, 150)
  check.ok(lines[1]:find "more than 150 deep")
  depth = 0
  task.spawn(function() bus.fire_event "e" end)
  check.equal(most, 150)
end)

check.test("wrappers: the last added is outermost, those of all events inside, and next() goes on", function()
  local bus, log = events.new(), {}
  local function wrapper(name)
    return function(next, event, data)
      log[#log + 1] = name .. " " .. event
      local result = next(event, data)
      log[#log + 1] = name .. " out"
      return result
    end
  end
  local a, b, all = wrapper "a", wrapper "b", wrapper "all"
  bus.add_wrapper("e", a)
  bus.add_wrapper("e", b)
  bus.wrappers.add_handler(false, all)
  bus.add_handler("e", function(data) return data end)
  check.equal(bus.fire_event("e", 5), 5)
  check.equal(log, { "b e", "a e", "all e", "all out", "a out", "b out" })
  log = {}
  check.equal(bus.fire_event("unhooked", 5), nil)
  check.equal(log, { "all unhooked", "all out" })
  bus.remove_wrapper("e", b)
  bus.remove_wrapper("e", a)
  bus.remove_wrapper(false, all)
  log = {}
  check.equal(bus.fire_event("e", 5), 5)
  check.equal(log, {})
end)

check.test("a wrapper that does not go on ends the event; one may change event and data", function()
  local bus = events.new()
  bus.add_handler("e", function(data) return data end)
  bus.add_handler("f", function(data) return "f" .. data end)
  bus.add_wrapper("e", function(next, _, data) return next("f", data + 1) end)
  check.equal(bus.fire_event("e", 1), "f2")
  bus.add_wrapper("e", function() return "stopped" end)
  check.equal(bus.fire_event("e", 1), "stopped")
end)

check.test("once", function()
  local bus, log = events.new(), {}
  bus.add_handler("e", record(log, "x"), 0, { once = true })
  bus.fire_event("e", "")
  bus.fire_event("e", "")
  check.equal(log, { "x" })
  check.equal(bus.count(), 0)
end)

check.test("match", function()
  local function stanza(type, child, xmlns)
    local s = st.stanza("iq", { type = type })
    if child then s:tag(child, { xmlns = xmlns }):up() end
    return s
  end
  local rows = {
    { { name = "query" }, stanza("get", "query", "a"), true },
    { { name = "query" }, stanza("get", "other", "a"), false },
    { { xmlns = "a", name = "query" }, stanza("get", "query", "b"), false },
    { { type = "get" }, stanza("get"), true },
    { { type = "" }, stanza(nil), true },
    { { type = { "get", "set" } }, stanza("set"), true },
    { { type = { "get", "set" } }, stanza("result"), false },
    { { has = "{a}x" }, stanza("get", "x", "a"), true },
    { { has = "{a}x" }, stanza("get", "x", "b"), false },
    { { xmlns = "jabber:client" }, stanza("get", "x"), true },
  }
  for i, row in ipairs(rows) do
    local bus, called = events.new(), false
    bus.add_handler("e", function() called = true end, 0, { match = row[1] })
    bus.fire_event("e", { stanza = row[2] })
    check.equal(called, row[3], "row " .. i)
  end
  local bus, called = events.new(), 0
  bus.add_handler("e", function() called = called + 1 end, 0, { match = { from_local = true } })
  bus.add_handler("e", function() called = called + 10 end, 0)
  bus.fire_event("e", { stanza = stanza(), origin = { type = "s2sin" } })
  bus.fire_event("e", { stanza = stanza(), origin = { type = "c2s" } })
  check.equal(called, 21)
  check.raises("unknown match condition", bus.add_handler, "e", print, 0, { match = { nonsense = 1 } })
end)

check.test("a condition that raises is an error of its handler, and of nobody else", function()
  local bus, log = events.new(), {}
  lines = {}
  bus.add_handler("e", record(log, "a"), 1, { match = function() error "cannot tell" end })
  bus.add_handler("e", record(log, "b", true))
  for _ = 1, 200 do check.equal(bus.fire_event("e", ""), true) end
  check.equal({ #log, #lines }, { 200, 200 })
  check.ok(lines[1]:find "cannot tell")
end)

check.test("add_handlers, remove_handlers, get_handlers, debug hook", function()
  local bus, log = events.new(), {}
  local a, b = record(log, "a"), record(log, "b")
  bus.add_handlers { e = a, f = b }
  check.equal(bus.get_handlers "e", { a })
  check.equal(bus.get_handlers "none", nil)
  local old = bus.set_debug_hook(function(fn, event, data)
    log[#log + 1] = "hook " .. event
    return fn(data)
  end)
  bus.fire_event("e", "")
  check.equal(log, { "hook e", "a" })
  bus.set_debug_hook(old)
  bus.remove_handlers { e = a, f = b }
  check.equal(bus.count(), 0)
end)

check.test("what is no function is refused", function()
  check.raises("not a function", events.new().add_handler, "e", nil)
  check.raises("no event name", events.new().add_handler, nil, print)
  local bus = events.new()
  bus.add_handler("e", setmetatable({}, { __call = function(_, data) return data end }))
  check.equal(bus.fire_event("e", 3), 3)
end)

check.done()
