-- SPDX-License-Identifier: MIT
-- The small libraries the runtime stands on (PLUGIN-API §8.1, §9).
local check = require "check"
require "couplet.alias".install()

check.test("cache: least recently used goes", function()
  local cache = require "util.cache"
  local c = cache.new(2)
  c:set("a", 1)
  c:set("b", 2)
  c:get "a"
  c:set("c", 3)
  check.equal({ c:get "a", c:get "b", c:get "c", c:count() }, { 1, nil, 3, 2 })
  c = cache.new(2)
  for i = 1, 3 do c:set(i, i * 10) end
  check.equal({ c:head() }, { 3, 30 })
  check.equal({ c:tail() }, { 2, 20 })
  local order = {}
  for k, v in c:items() do order[#order + 1] = k .. "=" .. v end
  check.equal(order, { "3=30", "2=20" })
  order = {}
  for v in c:values() do order[#order + 1] = v end
  check.equal(order, { 30, 20 })
  c:set(3, nil)
  check.equal(c:count(), 1)
  c:table().x = 5
  check.equal(c:get "x", 5)
  check.ok(c:resize(1))
  check.equal({ c:count(), c:get "x" }, { 1, 5 })
  c:clear()
  check.equal(c:count(), 0)
  check.raises("positive", cache.new, 0)
end)

check.test("cache: on_evict may refuse", function()
  local gone = {}
  local c = require "util.cache".new(2, function(k, v)
    gone[#gone + 1] = k .. v
    return k ~= "keep"
  end)
  c:set("keep", 1)
  c:set("b", 2)
  check.equal(c:set("c", 3), false)
  check.equal({ c:get "keep", c:get "c", #gone }, { 1, nil, 1 })
  c:get "keep"
  check.equal(c:set("c", 3), true)
  check.equal(c:get "b", nil)
end)

check.test("queue", function()
  local q = require "util.queue".new(2)
  check.equal({ q:push "a", q:push "b", q:count() }, { true, true, 2 })
  check.equal({ q:push "c" }, { nil, "queue full" })
  check.equal({ q:peek(), q:pop(), q:pop(), q:pop() }, { "a", "a", "b" })
  local w = require "util.queue".new(2, true)
  for i = 1, 5 do w:push(i) end
  local seen = {}
  for i, x in w:items() do seen[i] = x end
  check.equal(seen, { 4, 5 })
  w:replace(9)
  seen = {}
  for x in w:consume() do seen[#seen + 1] = x end
  check.equal(seen, { 9, 5 })
  check.equal(w:count(), 0)
end)

check.test("throttle and watchdog, by a clock of the test's", function()
  local clock = require "couplet.clock"
  local now, timers = 100, {}
  clock.use {
    mono = function() return now end, wall = function() return now end, once = function() end,
    timer = function(s, fn)
      local t = { at = now + s, fn = fn }
      function t:stop() self.at = nil end
      function t:start(again) self.at = now + again end
      timers[#timers + 1] = t
      return t
    end,
  }
  local t = require "util.throttle".create(10, 5)
  check.ok(t:poll(10))
  check.equal({ t:poll(1) }, { false, 0, 1 })
  now = now + 1
  check.ok(t:peek(2))
  check.equal({ t:poll(5, true) }, { false, 2, 3 })
  check.equal(t:peek(1), false)
  now = now + 100
  check.ok(t:poll(10))
  now = now + 100
  check.ok(t:poll(4))
  now = now + 100
  check.ok(t:poll(5))
  check.equal({ t:poll(6) }, { false, 5, 1 })            -- a silence fills up what is left, and no more
  local barked = 0
  local dog = require "util.watchdog".new(5, function() barked = barked + 1 end)
  dog:reset()
  dog:cancel()
  check.equal(timers[1].at, nil)
  dog:reset(3)
  timers[2].fn()
  check.equal(barked, 1)
  dog:reset()                                            -- one timer, whatever happens to the dog
  check.equal({ timers[2].at, #timers }, { now + 3, 2 })
  local again = require "util.watchdog".new(5, function() return 2 end)
  timers[3].fn()
  check.equal(timers[3].at, now + 2)
  again:reset()
  check.equal({ timers[3].at, #timers }, { now + 5, 3 })
  clock.use(nil)
end)

check.test("datetime", function()
  local dt = require "util.datetime"
  check.equal({ dt.date(0), dt.datetime(0), dt.time(3661), dt.legacy(0) },
    { "1970-01-01", "1970-01-01T00:00:00Z", "01:01:01", "19700101T00:00:00" })
  check.equal(dt.datetime(1.5), "1970-01-01T00:00:01.500000Z")
  local rows = {
    { "1970-01-01T00:00:00Z", 0 }, { "2002-09-10T23:41:07Z", 1031701267 }, { "2024-02-29T12:00:00Z", 1709208000 },
    { "1969-07-21T02:56:15Z", -14159025 }, { "1969-07-20T21:56:15-05:00", -14159025 }, { "19700101T00:00:01", 1 },
    { "1970-01-01T00:00:00.25Z", 0.25 }, { "1970-01-01T01:00:00+01:00", 0 },
    { "2023-02-29T12:00:00Z" }, { "2023-13-01T12:00:00Z" }, { "2023-12-01T25:00:00Z" }, { "2023-12-01" }, { "x" }, { "" },
    { "2023-12-01T12:00:00X" }, { "2023-12-01T12:61:00Z" }, { "1970-01-01T00:00:00.Z" },
  }
  for _, row in ipairs(rows) do check.equal(dt.parse(row[1]), row[2], row[1]) end
  check.equal(dt.parse(dt.datetime(1700000000.125)), 1700000000.125)
  check.equal(dt.parse(nil), nil)
end)

check.test("multitable", function()
  local m = require "util.multitable".new()
  m:set("a", "b", "c", 1)
  m:set("a", "x", "c", 2)
  m:set("z", "b", "c", 3)
  check.equal({ m:get("a", "b", "c"), m:get("a", "b"), m:get("no", "b") }, { 1, { c = 1 } })
  local n = 0
  for _, _, _, v in m:iter("a", nil, nil) do n = n + v end
  check.equal(n, 3)
  local found = m:search(nil, "b", nil)         -- values, without the keys on the way to them
  table.sort(found)
  check.equal(found, { 1, 3 })
  check.equal(m:search("a", "b"), { { c = 1 } })
  check.equal(m:search("no", nil), {})
  check.equal(m:search_add({ 7 }, "a", "x", nil), { 7, 2 })
  m:remove(nil, "b", nil)
  check.equal(m.data, { a = { x = { c = 2 } } })
  m:add("l", 1)
  m:add("l", 2)
  check.equal(m:get "l", { 1, 2 })
  m:remove "l"
  check.equal(m:get "l", nil)
end)

check.test("iterators", function()
  local it = require "util.iterators"
  local function list(f, s, v)
    local out = {}
    for x in f, s, v do out[#out + 1] = x end
    return out
  end
  local t = { "a", "b", "c" }
  check.equal(it.count(it.keys(t)), 3)
  check.equal(list(it.values(t)), t)
  check.equal(list(it.reverse(ipairs(t))), { 3, 2, 1 })
  check.equal(list(it.select(2, ipairs(t))), t)
  check.equal(list(it.unique(it.values { 1, 1, 2 })), { 1, 2 })
  check.equal(list(it.head(2, ipairs(t))), { 1, 2 })
  check.equal(list(it.skip(1, ipairs(t))), { 2, 3 })
  check.equal(list(it.tail(2, ipairs(t))), { 2, 3 })
  check.equal(list(it.tail(5, ipairs(t))), { 1, 2, 3 })
  check.equal(list(it.filter("b", it.values(t))), { "a", "c" })
  check.equal(list(it.filter(function(i) return i > 1 end, ipairs(t))), { 2, 3 })
  check.equal(list(it.ripairs(t)), { 3, 2, 1 })
  check.equal(list(it.range(3)), { 1, 2, 3 })
  check.equal(list(it.range(2, 4)), { 2, 3, 4 })
  check.equal(it.to_array(it.values(t)), t)
  check.equal(it.to_table(pairs { x = 1 }), { x = 1 })
  check.equal(list(it.sorted_pairs { b = 1, a = 2 }), { "a", "b" })
  check.equal(list(it.join(it.range(1, 2)):append(it.range(5, 6)):prepend(it.range(0, 0))), { 0, 1, 2, 5, 6 })
end)

check.test("array", function()
  local array = require "util.array"
  local a = array { 3, 1, 2 }
  check.equal(a:sort(), { 1, 2, 3 })
  check.equal(a:map(function(x) return x * 2 end), { 2, 4, 6 })
  check.equal(a:filter(function(x) return x > 2 end), { 4, 6 })
  check.equal(a .. { 8 }, { 4, 6, 8 })
  check.equal(a + { 8 }, { 4, 6, 8 })
  check.equal(a, { 4, 6 })
  check.equal(array.map(a, tostring), { "4", "6" })
  check.equal(array { 1, 2, 3, 4 }:slice(2, -2), { 2, 3 })
  check.equal(array { 1, 2, 3, 4 }:slice(-2), { 3, 4 })
  check.equal(array { 1, 1, 2 }:unique(), { 1, 2 })
  check.equal(array { { x = 1 }, { y = 1 } }:pluck("x", 0), { 1, 0 })
  check.equal(array { 1, 2 }:reverse():push(0):append { 9 }, { 2, 1, 0, 9 })
  check.equal({ array { 1, 2 }:pop(), array { 1, 2 }:length(), array { 1, "b" }:concat "," }, { 2, 2, "1,b" })
  check.equal(array.collect(ipairs { "x", "y" }), { 1, 2 })
  check.equal(array(pairs { k = 1 }), { "k" })
  check.ok(array { 1, 2 } == array { 1, 2 } and array { 1 } ~= array { 2 })
  check.equal(#array { 1, 2, 3 }:shuffle(), 3)
  check.equal(array { 1, 2 }:random_other(1), 2)
  check.ok(array { 1, 2 }:contains(2))
end)

check.test("set", function()
  local set = require "util.set"
  local a, b = set.new { 1, 2 }, set.new { 2, 3 }
  check.equal(set.union(a, b), set.new { 1, 2, 3 })
  check.ok(a + b == set.new { 3, 2, 1 } and a - b == set.new { 1 })
  check.ok(set.intersection(a, b) == set.new { 2 } and set.xor(a, b) == set.new { 1, 3 })
  check.ok(a / function(x) return x > 1 and x * 10 or nil end == set.new { 20 })
  check.equal({ a:contains(1), a:contains(9), a:contains_set(set.new { 1 }), set.is_set(a), set.is_set {} },
    { true, nil, true, true, false })
  a:add(5)
  a:remove(1)
  a:include(b)
  a:exclude(set.new { 2 })
  a:add_list { 7 }
  local n = 0
  for x in a do n = n + x end
  check.equal(n, 15)
  n = 0
  for x in a:items() do n = n + x end
  check.equal(n, 15)
  check.equal({ a:empty(), set.new():empty(), tostring(set.new { "a" }) }, { false, true, "a" })
  check.ok(a._items[5])
end)

check.test("durations", function()
  local parse = require "util.human.io".parse_duration
  local rows = {
    { "2 days", 172800 }, { "90s", 90 }, { "1w", 604800 }, { "1h 30m", 5400 }, { "5", 5 }, { "1.5 hours", 5400 }, { 7, 7 },
    { "1 month", 2592000 }, { "1y", 31536000 }, { "x" }, { "5 parsecs" }, { "" }, { "-5s" },
  }
  for _, row in ipairs(rows) do check.equal(parse(row[1]), row[2], tostring(row[1])) end
end)

check.test("format never raises", function()
  local format = require "util.format".format
  local rows = {
    { { "plain" }, "plain" }, { { "%s", nil, n = 2 }, "(nil)" }, { { "%d", 5 }, "5" }, { { "%d", 5.5 }, "5.5" },
    { { "%d", "x" }, "[x]" },
    { { "%5d|%-5s|", 42, "ab" }, "   42|ab   |" }, { { "100%" }, "100%" }, { { "%s" }, "(missing %s)" },
    { { "a", "b" }, "a [b]" },
    { { "%q", "a\"b" }, '"a\\"b"' }, { { "%%s" }, "%s" }, { { "%z", 1 }, "[1]" }, { { "%g", 1.5 }, "1.5" },
    { { "%x", 255 }, "ff" },
    { { "%s", true }, "true" }, { { nil, n = 1 }, "nil" }, { { "%s", "a\1b" }, "a\226\144\129b" }, { { "%i", 3 }, "3" },
  }
  for i, row in ipairs(rows) do
    local args = row[1]
    check.equal(format(table.unpack(args, 1, args.n or #args)), row[2], "row " .. i)
  end
  format("%s", setmetatable({}, { __tostring = function() return "x" end }))
  format("%99999999s", "x")
  format("%s %s %s", {}, print, "\255\254")
end)

check.test("small ones", function()
  check.equal(require "util.envload".envload("return x", "=t", { x = 5 })(), 5)
  check.equal(require "util.dependencies".softreq "no.such.library", nil)
  check.equal(require "util.dependencies".softreq "util.set", require "couplet.util.set")
  local function f() local x = 1 return function() return x end end
  check.equal(require "util.helpers".get_upvalue(f(), "x"), 1)
  check.equal({ require "util.xpcall".xpcall(function(x) return x end, print, 3) }, { true, 3 })
  check.ok(#require "util.debug".get_traceback_table() > 1)
  check.ok(require "util.time".now() > 1e9)
  check.ok(require "util.gc".configure { mode = "incremental" })
  local split = require "util.import" ("util.jid", "split")
  check.equal(split, require "couplet.jid".split)
  local session = require "util.session"
  local s = session.set_send(session.set_logger(session.set_id(session.new "c2s_x")))
  check.equal({ s.base_type, s.send "x" }, { "c2s", false })
end)

check.done()
