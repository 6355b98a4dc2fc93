-- SPDX-License-Identifier: MIT
-- The way to another server: the order of SRV records, what is looked up, and attempts side by side; DNS and network are paper.

local check = require "check"

local zone, asked = {}, {}
package.loaded["couplet.net.adns"] = { lookup = function(cb, name, kind)
  asked[#asked + 1] = kind .. " " .. name
  local answer = zone[kind .. " " .. name]
  if answer == "timeout" then return cb(nil, "timeout") end
  cb(answer or {})
end }

local clock = require "couplet.clock"
local dial = require "couplet.dial"
local task = require "couplet.task"

local function srv(priority, weight, port, target)
  return { srv = { priority = priority, weight = weight, port = port, target = target } }
end
local function a(...)
  local out = {}
  for i, address in ipairs { ... } do out[i] = { a = address } end
  return out
end

check.test("priorities in order, weights by chance (RFC 2782)", function()
  local function records() return {
    { priority = 20, weight = 0, target = "last" }, { priority = 10, weight = 10, target = "a" },
    { priority = 10, weight = 30, target = "b" }, { priority = 10, weight = 0, target = "zero" },
    { priority = 10, weight = 60, target = "c" },
  } end
  local rows = {           -- what random gives in turn; the order
    { { 0, 0, 0, 0, 0 }, "zero a b c last" },
    { { 100, 40, 10, 0, 0 }, "c b a zero last" },
    { { 41, 11, 1, 0, 0 }, "c b a zero last" },
    { { 10, 0, 30, 60, 0 }, "a zero b c last" },
    { { 11, 1, 1, 1, 0 }, "b a c zero last" },
  }
  for i, row in ipairs(rows) do
    local at, names = 0, {}
    local function random(low, high)
      at = at + 1
      return math.max(low, math.min(high, row[1][at]))
    end
    for _, r in ipairs(dial.order(records(), random)) do names[#names + 1] = r.target end
    check.equal(table.concat(names, " "), row[2], i)
  end
  local first = {}
  for _ = 1, 2000 do
    local name = dial.order(records())[1].target
    first[name] = (first[name] or 0) + 1
  end
  check.ok(first.c > 1000 and first.b > 450 and first.a > 100 and (first.zero or 0) < 100 and not first.last)
end)

local function all(domain)
  local out, next = {}, dial.candidates(domain)
  while true do
    local c, condition = next()
    if not c then return out, condition end
    out[#out + 1] = ("%s %d%s"):format(c.address, c.port, c.tls and " tls" or "")
  end
end

check.test("what is found where", function()
  local x, y, bare = "SRV _xmpp-server._tcp.", "SRV _xmpps-server._tcp.", "plain.example"
  local none, late = "remote-server-not-found", "remote-server-timeout"
  local rows = {
    { { [x .. "a.example"] = { srv(5, 0, 5269, "h1."), srv(1, 0, 5299, "h2") }, ["A h1"] = a "192.0.2.1",
        ["A h2"] = a "192.0.2.2" },
      "a.example", { "192.0.2.2 5299", "192.0.2.1 5269" }, late },
    { { [x .. "a.example"] = { srv(5, 0, 5269, "h1") }, [y .. "a.example"] = { srv(0, 0, 443, "h1") }, ["A h1"] = a "192.0.2.1" },
      "a.example", { "192.0.2.1 443 tls", "192.0.2.1 5269" }, late },
    { { ["A " .. bare] = { { a = "192.0.2.1" }, { a = "192.0.2.2" } }, ["AAAA " .. bare] = { { aaaa = "2001:db8::1" } } },
      bare, { "2001:db8::1 5269", "192.0.2.1 5269", "192.0.2.2 5269" }, late },
    { { [x .. "a.example"] = { srv(0, 0, 0, ".") }, ["A a.example"] = { { a = "192.0.2.1" } } }, "a.example", {}, none },
    { { [x .. "a.example"] = { srv(0, 0, 5269, "") } }, "a.example", {}, none },
    { {}, "a.example", {}, none },
    { { [x .. "a.example"] = "timeout", [y .. "a.example"] = "timeout", ["A a.example"] = { { a = "192.0.2.9" } } },
      "a.example", { "192.0.2.9 5269" }, late },
    { { ["A a.example"] = "timeout", ["AAAA a.example"] = "timeout" }, "a.example", {}, late },
    { { ["A xn--bcher-kva.example"] = { { a = "192.0.2.3" } } }, "bücher.example", { "192.0.2.3 5269" }, late },
    { { ["A a.example"] = { bogus = true, { a = "192.0.2.1" } } }, "a.example", {}, late },
    { {}, "192.0.2.77", { "192.0.2.77 5269" }, late },
    { {}, "[2001:db8::2]", { "2001:db8::2 5269" }, late },
  }
  for i, row in ipairs(rows) do
    zone = row[1]
    task.spawn(function()
      local list, condition = all(row[2])
      check.equal(list, row[3], i)
      check.equal(condition, row[4], i)
    end)
  end
end)

check.test("records and addresses without end are cut", function()
  local many, addresses = {}, {}
  for i = 1, 200 do
    many[i] = srv(i, 0, 5269, "h")
    addresses[i] = { a = "192.0.2." .. i }
  end
  zone = { ["SRV _xmpp-server._tcp.a.example"] = many, ["A h"] = addresses }
  check.equal(#all "a.example", 24 * 8)
end)

-- Attempts --------------------------------------------------------------------------------------------------------------

local function race(list)
  local r = { log = {}, attempts = {} }
  local at = 0
  local now, timers = 0, {}
  local paper = { mono = function() return now end, wall = function() return now end, once = function() end,
    timer = function(seconds, fn)
      local t = { due = now + seconds, fn = fn, stop = function(self) self.due = nil end }
      timers[#timers + 1] = t
      return t
    end }
  local before = clock.use(paper)
  function r.pass(seconds)
    now = now + seconds
    for _, t in ipairs(timers) do
      if t.due and t.due <= now then
        t.due = nil
        t.fn()
      end
    end
  end
  r.race = dial.race {
    next = function()
      at = at + 1
      if list[at] then return { address = list[at] } end
      return nil, "remote-server-timeout", "no way"
    end,
    connect = function(candidate, attempt)
      if candidate.address == "bad" then return nil, "unreachable" end
      r.log[#r.log + 1] = candidate.address
      r.attempts[candidate.address] = attempt
      return { abort = function() r.log[#r.log + 1] = "abort " .. candidate.address end }
    end,
    won = function(_, candidate) r.won = candidate.address end,
    lost = function(condition, text) r.lost = condition .. " " .. text end,
  }
  clock.use(before)
  r.text = function() return table.concat(r.log, ", ") end
  return r, function(fn)
    clock.use(paper)
    fn()
    clock.use(before)
  end
end

check.test("one after the other, a moment apart; the first that is up wins and the others end", function()
  local r, run = race { "bad", "one", "two", "three" }
  run(function()
    check.equal(r.text(), "one")
    r.pass(0.3)
    check.equal(r.text(), "one, two")
    r.attempts.two:up()
    check.equal(r.won, "two")
    check.equal(r.text(), "one, two, abort one")
    r.pass(1)
    check.equal(r.text(), "one, two, abort one")
    r.attempts.one:down "aborted"
    check.equal(r.lost, nil)
  end)
end)

check.test("who is refused does not wait; a winner without a stream gives way to the rest; then it is over, once", function()
  local r, run = race { "one", "two" }
  run(function()
    r.attempts.one:down "refused"
    check.equal(r.text(), "one, two")
    r.attempts.two:up()
    r.race:again "closed"
    check.equal(r.lost, "remote-server-timeout no way: closed")
    r.lost = nil
    r.race:again "closed"
    check.equal(r.lost, nil)
  end)
  r, run = race { "one", "two" }
  run(function()
    r.race:stop()
    check.equal(r.text(), "one, abort one")
    r.pass(1)
    check.equal(r.lost, nil)
  end)
end)

check.done()
