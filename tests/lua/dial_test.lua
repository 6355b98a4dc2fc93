-- SPDX-License-Identifier: MIT
-- The way to another server: the order of SRV records, what is looked up, and attempts side by side; DNS and network are paper.

local check = require "check"

local clock = require "couplet.clock"
local zone, asked = {}, {}
package.loaded["couplet.net.adns"] = { lookup = function(cb, name, kind)
  asked[#asked + 1] = kind .. " " .. name
  local answer = zone[kind .. " " .. name] or zone[kind]
  if answer == "timeout" then return cb(nil, "timeout") end
  if answer == "silence" then return {} end
  if type(answer) == "number" then           -- seconds until it answers
    clock.timer(answer, function() cb(zone[kind .. " later"]) end)
    return {}
  end
  cb(answer or {})
end, cancel = function(query) query.cancelled = true end }

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
  -- ten thousand choices from a fixed source: who comes first is chosen by weight, who comes second by the weights left
  local seed = 1
  local function fixed(low, high)
    seed = (seed * 1103515245 + 12345) & 0x7fffffff
    return low + (seed >> 8) % (high - low + 1)
  end
  local first, second, n = {}, {}, 10000
  for _ = 1, n do
    local order = dial.order(records(), fixed)
    first[order[1].target] = (first[order[1].target] or 0) + 1
    if order[1].target == "c" then second[order[2].target] = (second[order[2].target] or 0) + 1 end
    check.equal(order[5].target, "last")
  end
  local shares = { { first, "a", n, 0.1 }, { first, "b", n, 0.3 }, { first, "c", n, 0.6 }, { first, "zero", n, 0.01 },
    { second, "a", first.c, 0.25 }, { second, "b", first.c, 0.75 }, { second, "zero", first.c, 0.025 } }
  for i, row in ipairs(shares) do
    local share = (row[1][row[2]] or 0) / row[3]
    check.ok(math.abs(share - row[4]) < 0.02, ("row %d: %s came with %.3f instead of %.3f"):format(i, row[2], share, row[4]))
  end
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

check.test("use_ipv4 = false, use_ipv6 = false: the other family alone", function()
  local config = require "couplet.config"
  local bare = { ["A plain.example"] = { { a = "192.0.2.1" } }, ["AAAA plain.example"] = { { aaaa = "2001:db8::1" } } }
  for name, want in pairs { use_ipv4 = "2001:db8::1 5269", use_ipv6 = "192.0.2.1 5269" } do
    zone = bare
    config.set("*", name, false)
    task.spawn(function() check.equal(all "plain.example", { want }, name) end)
    config.set("*", name, nil)
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

-- Virtual time ----------------------------------------------------------------------------------------------------------

local function paper()
  local p = { now = 0, timers = {} }
  p.clock = { mono = function() return p.now end, wall = function() return p.now end, once = function() end,
    timer = function(seconds, fn)
      local t = { due = p.now + seconds, fn = fn, stop = function(self) self.due = nil end }
      p.timers[#p.timers + 1] = t
      return t
    end }
  function p.pass(seconds)
    local stop = p.now + seconds
    while true do
      local first
      for _, t in ipairs(p.timers) do if t.due and t.due <= stop and (not first or t.due < first.due) then first = t end end
      if not first then break end
      p.now = math.max(p.now, first.due)
      first.due = nil
      first.fn()
    end
    p.now = stop
  end
  function p.run(fn)
    local before = clock.use(p.clock)
    fn()
    clock.use(before)
  end
  return p
end

check.test("DNS is dead: all look-ups together end in time (s2s_lookup_timeout)", function()
  local rows = {
    { "nothing answers", { SRV = "silence", A = "silence", AAAA = "silence" }, 12, "DNS does not answer (timeout)" },
    { "SRV answers, addresses do not", { ["SRV _xmpp-server._tcp.a.example"] = { srv(0, 0, 5269, "h1"), srv(1, 0, 5269, "h2"),
      srv(2, 0, 5269, "h3") }, A = "silence", AAAA = "silence" }, 12, "DNS does not answer (timeout)" },
    { "a server that fails", { SRV = { rcode = 2, status = "ServFail" }, A = { rcode = 2, status = "ServFail" } }, 0,
      "DNS does not answer (ServFail)" },
  }
  for _, row in ipairs(rows) do
    zone = row[2]
    local p = paper()
    p.run(function()
      local condition, text, at
      task.spawn(function()
        local c
        c, condition, text = dial.candidates("a.example", { timeout = 12 })()
        at = p.now
        check.equal(c, nil, row[1])
      end)
      p.pass(60)
      check.equal(condition, "remote-server-timeout", row[1])
      check.equal(text, row[4], row[1])
      check.equal(at, row[3], row[1])
    end)
  end
end)

check.test("no family waits for the other longer than a moment; what comes late has its turn (RFC 8305 3)", function()
  local six, four = { { aaaa = "2001:db8::1" }, { aaaa = "2001:db8::2" } }, { { a = "192.0.2.1" }, { a = "192.0.2.2" } }
  local rows = {           -- seconds until AAAA and A answer; the first address and when; the rest, asked for a second later
    { 0.01, 0.02, "2001:db8::1 0.01", "192.0.2.1 2001:db8::2 192.0.2.2" },
    { 0.04, 0.01, "2001:db8::1 0.04", "192.0.2.1 2001:db8::2 192.0.2.2" },
    { 0.50, 0.01, "192.0.2.1 0.06", "2001:db8::1 192.0.2.2 2001:db8::2" },
    { 0.01, 0.50, "2001:db8::1 0.01", "192.0.2.1 2001:db8::2 192.0.2.2" },
    { "silence", 0.01, "192.0.2.1 0.06", "192.0.2.2" },
    { 0.01, "silence", "2001:db8::1 0.01", "2001:db8::2" },
  }
  for i, row in ipairs(rows) do
    zone = { AAAA = row[1], A = row[2], ["AAAA later"] = six, ["A later"] = four }
    local p = paper()
    p.run(function()
      local first, rest, next = nil, {}, nil
      task.spawn(function()
        next = dial.candidates "a.example"
        first = ("%s %.2f"):format(next().address, p.now)
      end)
      p.pass(1)
      check.equal(first, row[3], i)
      task.spawn(function()
        for c in next do rest[#rest + 1] = c.address end
      end)
      p.pass(60)
      check.equal(table.concat(rest, " "), row[4], i)
    end)
  end
end)

check.test("DNSSEC: what it vouches for, and what it says is forged (RFC 7673, RFC 7712)", function()
  local function secure(list)
    list.secure = true
    return list
  end
  local good = secure { { tlsa = { use = 3, select = 1, match = 1, data = "hash" } } }
  local function way(srv_secure, a_secure, tlsa)
    local records, address = { srv(0, 0, 5269, "h"), srv(1, 0, 5270, "g") }, { { a = "192.0.2.1" } }
    records.secure, address.secure = srv_secure, a_secure
    return { ["SRV _xmpp-server._tcp.a.example"] = records, ["A h"] = address, ["TLSA _5269._tcp.h"] = tlsa }
  end
  local rows = {           -- zone; "address, is the target's name good, TLSA records" of the candidates; the last word
    { way(true, true, good), "192.0.2.1 true 1" },
    { way(true, true, secure {}), "192.0.2.1 true 0" },
    { way(true, true, { { tlsa = { use = 3, select = 1, match = 1, data = "x" } } }), "192.0.2.1 true 0" },
    { way(true, false, good), "192.0.2.1 true 0" },
    { way(false, true, good), "192.0.2.1 false 0" },
    { way(true, true, { bogus = true }), "", "DNS does not answer (TLSA records of h: DNSSEC says the answer is forged)" },
    { way(true, true, "timeout"), "", "DNS does not answer (TLSA records of h: timeout)" },
    { { ["SRV _xmpp-server._tcp.a.example"] = { bogus = true, srv(0, 0, 5269, "h") }, A = { { a = "192.0.2.1" } } }, "",
      "DNSSEC says the SRV records of this domain are forged" },
    { { ["SRV _xmpp-server._tcp.a.example"] = secure { srv(0, 0, 5269, "h") }, ["A h"] = { bogus = true, { a = "192.0.2.1" } } },
      "", "DNS does not answer (DNSSEC says the answer is forged)" },
    -- records somebody keeps from us are not the same as none
    { { ["SRV _xmpp-server._tcp.a.example"] = "timeout", A = secure { { a = "192.0.2.1" } } }, "",
      "DNS does not answer for its SRV records" },
    { { ["SRV _xmpps-server._tcp.a.example"] = { rcode = 2 }, A = secure { { a = "192.0.2.1" } } }, "",
      "DNS does not answer for its SRV records" },
    -- no SRV records: the domain's own host, whose name is no other's
    { { ["A a.example"] = secure { { a = "192.0.2.1" } }, ["TLSA _5269._tcp.a.example"] = good }, "192.0.2.1 false 1" },
  }
  for i, row in ipairs(rows) do
    zone, asked = row[1], {}
    task.spawn(function()
      local out = {}
      local next = dial.candidates("a.example", { dane = true })
      local c, _, text = next()
      while c do
        out[#out + 1] = ("%s %s %d"):format(c.address, c.secure, #(c.tlsa or {}))
        c, _, text = next()
      end
      check.equal(table.concat(out, ", "), row[2], i)
      if row[3] then check.equal(text, row[3], i) end
    end)
  end
  zone, asked = way(true, true, good), {}
  local candidate = dial.candidates "a.example"()
  check.ok(not candidate.tlsa and not candidate.secure)         -- nobody asked for DANE: no question, no answer
  check.ok(not table.concat(asked, " "):find "TLSA")
end)

-- Attempts --------------------------------------------------------------------------------------------------------------

local function race(list)
  local r = { log = {}, attempts = {} }
  local at = 0
  local p = paper()
  local before = clock.use(p.clock)
  r.pass = p.pass
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
  return r, p.run
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

check.test("attempts begin a quarter of a second after each other (RFC 8305 5)", function()
  local r, run = race { "one", "two", "three" }
  run(function()
    r.pass(0.249)
    check.equal(r.text(), "one")
    r.pass(0.002)
    check.equal(r.text(), "one, two")
    r.pass(0.248)
    check.equal(r.text(), "one, two")
    r.attempts.one:down "unreachable"          -- then the next need not wait, and the one after it has its own head start
    check.equal(r.text(), "one, two, three")
    r.pass(60)
    r.attempts.two:down "timeout"
    r.attempts.three:down "timeout"
    check.equal(r.lost, "remote-server-timeout no way: timeout")
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
