-- SPDX-License-Identifier: MIT
-- store_conformance: what every storage driver must do (PLUGIN-API §7, §1 rules 7 and 8).
--
--   require "lua.store_conformance"(name, driver, other)     driver of one host, and of another on the same storage

local check = require "check"
local loop = require "couplet.core".loop
local task = require "couplet.task"

local test, equal, ok = check.test, check.equal, check.ok

local function sorted(iterate)
  local out = {}
  for x in iterate do out[#out + 1] = x end
  table.sort(out)
  return out
end

-- Runs the functions as tasks that wait for each other, and waits for all.
local function together(...)
  local fns = { ... }
  local left, failure, finished = #fns, nil, nil
  for _, fn in ipairs(fns) do
    task.spawn(function()
      local fine, err = xpcall(fn, debug.traceback)
      if not fine then failure = failure or err end
      left = left - 1
      if left == 0 and finished then finished() end
    end)
  end
  if left > 0 then task.await(function(done) finished = done end) end
  if failure then error(failure, 0) end
end

return function(name, driver, other)
  local n = 0
  local function fresh(kind)               -- a store nobody has used
    n = n + 1
    return ok(driver:open("store" .. n, kind)), "store" .. n
  end
  local function rule(what, fn)
    test(name .. ": " .. what, fn)
    test(name .. ", in a task: " .. what, function() together(fn) end)
  end

  rule("a store of an unknown type is unsupported", function()
    local store, err = driver:open("x", "nonsense")
    equal(store, nil)
    equal(err, "unsupported-store")
  end)

  rule("keyval gives back exactly what was set", function()
    local s = fresh()
    equal(s:get("romeo"), nil)
    local bytes = {}
    for i = 0, 255 do bytes[#bytes + 1] = string.char(i) end
    local deep = { x = "bottom" }
    for _ = 1, 60 do deep = { deep } end
    local rows = {
      { a = 1 }, { 1, 2, 3 }, { [1] = "x", [3] = "z", n = 2 }, { t = true, f = false }, { [true] = 1, [false] = 0 },
      { math.maxinteger, math.mininteger, 0, -1, 2 ^ 53, 0.1, -1e300, 1 / 0, -1 / 0, 0.0, 1e15, 3.0 },
      { [0.5] = "half", [-7] = "seven", [2 ^ 70] = "float key", [math.mininteger] = "least" },
      { [""] = "", empty = {}, nested = { { {} }, a = { b = { c = false } } } },
      { table.concat(bytes), [table.concat(bytes)] = "key" }, { utf8 = "Łódź 東京 \u{1F600}" }, { bad = "\xff\xfe\x00\x80" },
      { ["1"] = "string", [1] = "number" }, { ["true"] = "string", [true] = "boolean" },
      { big = ("x"):rep(3 * 1024 * 1024) }, deep,
    }
    for i, row in ipairs(rows) do
      equal(s:set("romeo", row), true, "row " .. i)
      local got = s:get("romeo")
      equal(got, row, "row " .. i)
      for k, v in pairs(row) do equal(math.type(got[k]), math.type(v), "number type in row " .. i) end
      ok(got ~= row, "its own table")
    end
    local many = {}
    for i = 1, 2000 do many["key" .. i] = { i, name = "n" .. i } end
    equal(s:set("romeo", many), true)
    equal(s:get("romeo"), many)
    equal(s:set("romeo", { nan = 0 / 0 }), true)
    local nan = s:get("romeo").nan
    ok(nan ~= nan)
    equal(s:set("romeo", { zero = -0.0 }), true)
    equal(1 / s:get("romeo").zero, -1 / 0)
  end)

  rule("set replaces; nil and the empty table delete", function()
    local s = fresh()
    s:set("romeo", { a = 1, b = 2 })
    s:set("romeo", { b = 3 })
    equal(s:get("romeo"), { b = 3 })
    equal(s:set("romeo", {}), true)
    equal(s:get("romeo"), nil)
    s:set("romeo", { b = 3 })
    equal(s:set("romeo", nil), true)
    equal(s:get("romeo"), nil)
    equal(sorted(s:users()), {})
    equal(s:set("nobody", nil), true)
  end)

  rule("users, names, stores and hosts do not mix", function()
    local s, store = fresh()
    local t = fresh()
    local o = ok(other:open(store))
    local names = { "romeo", "Romeo", "ro%meo", "ro_meo", "r'omeo", "r\"o", "日本", "a b", "ro\0meo" }
    for i, user in ipairs(names) do s:set(user, { i = i }) end
    for i, user in ipairs(names) do equal(s:get(user), { i = i }) end
    equal(t:get("romeo"), nil)
    equal(o:get("romeo"), nil)
    o:set("romeo", { other = true })
    equal(s:get("romeo"), { i = 1 })
    table.sort(names)
    equal(sorted(s:users()), names)
    s:set(nil, { host = 1 })
    equal(s:get(nil), { host = 1 })
    equal(s:get("romeo"), { i = 1 })
    equal(sorted(s:users()), names, "data of the host make no user")
    s:set(nil, nil)
    equal(s:get(nil), nil)
  end)

  rule("what cannot be stored raises and changes nothing", function()
    local s = fresh()
    local m = fresh "map"
    s:set("romeo", { a = 1 })
    check.raises("cannot be stored", s.set, s, "romeo", { f = print })
    check.raises("cannot be stored", s.set, s, "romeo", { [{}] = 1 })
    local circle = {}
    circle[1] = circle
    check.raises("nested", s.set, s, "romeo", circle)
    check.raises("takes a table", s.set, s, "romeo", "text")
    check.raises("keys of type", m.set, m, "romeo", {}, 1)
    check.raises("keys of type", m.set, m, "romeo", nil, 1)
    equal(s:get("romeo"), { a = 1 })
  end)

  rule("values are copies", function()
    local s = fresh()
    local t = { list = { 1 } }
    s:set("romeo", t)
    t.list[1] = 2
    local a, b = s:get("romeo"), s:get("romeo")
    a.list[1] = 3
    equal(b.list[1], 1)
    equal(s:get("romeo").list[1], 1)
  end)

  rule("map and keyval are the same data", function()
    local s, store = fresh()
    local m = ok(driver:open(store, "map"))
    local both = ok(driver:open(store, "keyval+"))
    equal(m:get("romeo", "a"), nil)
    equal(m:set("romeo", "a", { 1 }), true)
    equal(m:set("romeo", 5, false), true)
    equal(m:set("romeo", true, "yes"), true)
    equal(m:set("romeo", "5", "text"), true)
    equal(s:get("romeo"), { a = { 1 }, [5] = false, [true] = "yes", ["5"] = "text" })
    equal(m:get("romeo", 5), false)
    equal(m:get("romeo", "5"), "text")
    equal(m:set_keys("romeo", { a = m.remove, b = 2, [true] = m.remove }), true)
    equal(both:get("romeo"), { b = 2, [5] = false, ["5"] = "text" })
    equal(both:get_key("romeo", "b"), 2)
    equal(both:set_key("romeo", "b", 3), true)
    equal(both:set_keys("romeo", { c = 4, [5] = both.remove }), true)
    equal(m:get("romeo", "c"), 4)
    both:set("juliet", { b = "hers" })
    equal(m:get_all("b"), { romeo = 3, juliet = "hers" })
    equal(both:get_key_from_all("c"), { romeo = 4 })
    equal(sorted(both:items()), { "juliet", "romeo" })
    equal(m:delete_all("b"), true)
    equal(m:get_all("b"), {})
    equal(s:get("juliet"), nil, "the last key gone, the user gone")
    equal(sorted(s:users()), { "romeo" })
    equal(both:delete_key_from_all("c"), true)
    equal(m:set("romeo", "5", nil), true)
    equal(s:get("romeo"), nil)
    equal(m:set("romeo", "never there", nil), true)
  end)

  rule("who has something is told while it is being written, too", function()
    local s, store = fresh()
    local m = ok(driver:open(store, "map"))
    together(function() m:set("romeo", "a", 1) end, function() s:set("juliet", { 1 }) end,
      function() m:set("paris", "a", nil) end, function() equal(sorted(s:users()), { "juliet", "romeo" }) end)
    equal(sorted(s:users()), { "juliet", "romeo" })
  end)

  rule("a set is visible at once, and read-modify-write loses nothing", function()
    local s = fresh()
    local seen
    together(function() s:set("romeo", { n = 0 }) end, function() seen = s:get("romeo") end)
    equal(seen, { n = 0 }, "seen before it is durable")
    local adders = {}
    for i = 1, 50 do
      adders[i] = function()
        for _ = 1, 4 do
          local t = s:get("romeo")
          t.n = t.n + 1
          t["from" .. i] = true
          equal(s:set("romeo", t), true)
        end
      end
    end
    together(table.unpack(adders))
    equal(s:get("romeo").n, 200)
    local m = fresh "map"
    for i = 1, 50 do
      adders[i] = function()
        for _ = 1, 4 do m:set("romeo", "n", (m:get("romeo", "n") or 0) + 1) end
        m:set("romeo", "mine" .. i, i)
      end
    end
    together(table.unpack(adders))
    equal(m:get("romeo", "n"), 200)
    equal(m:get("romeo", "mine50"), 50)
  end)

  rule("sets, removals, lists and reads in any order agree", function()
    local s, store = fresh()
    local m = ok(driver:open(store, "map"))
    local want = {}
    local random = 7
    local function pick(most)
      random = random * 1103515245 + 12345 & 0x7fffffff
      return random // 65536 % most + 1
    end
    local workers = {}
    for w = 1, 8 do
      workers[w] = function()
        for step = 1, 40 do
          local user, what = "user" .. pick(3), pick(6)
          if what == 1 then
            local t = { ["k" .. pick(3)] = step, w = w }
            want[user] = t
            local copy = { table.unpack(t) }
            for k, v in pairs(t) do copy[k] = v end
            s:set(user, copy)
          elseif what == 2 then
            want[user] = nil
            s:set(user, nil)
          elseif what <= 4 then
            local key, value = "k" .. pick(3), pick(4)
            if value == 4 then value = nil end
            want[user] = want[user] or {}
            want[user][key] = value
            if next(want[user]) == nil then want[user] = nil end
            m:set(user, key, value)
          elseif what == 5 then
            local got = s:get(user)
            equal(got, want[user], "get")
          else
            local key = "k" .. pick(3)
            local got = m:get_all(key)
            local all = {}
            for u, t in pairs(want) do all[u] = t[key] end
            equal(got, all, "get_all")
          end
        end
      end
    end
    together(table.unpack(workers))
    for i = 1, 3 do equal(s:get("user" .. i), want["user" .. i], "at the end") end
  end)

  rule("stores() and purge()", function()
    local user = "purged" .. n
    local s, store = fresh()
    local a, log = fresh "archive"
    local o = ok(other:open(store))
    s:set(user, { 1 })
    s:set("stays", { 1 })
    o:set(user, { 1 })
    for i = 1, 3 do a:append(user, nil, "text", i) end
    a:append("stays", nil, "text", 1)
    equal(sorted(driver:stores(user)), { store, log })
    local all, host = {}, {}
    for each in driver:stores(true) do all[each] = true end
    ok(all[store] and all[log])
    s:set(nil, { 1 })
    for each in driver:stores() do host[each] = true end
    ok(host[store] and not host[log])
    local seen = "not read"
    together(function() equal(driver:purge(user), true) end, function() seen = s:get(user) end)
    equal(seen, nil, "gone at once")
    equal(s:get(user), nil)
    equal(sorted(driver:stores(user)), {})
    equal(a:find(user)(), nil)
    equal(s:get("stays"), { 1 })
    equal(a:delete("stays"), 1)
    equal(o:get(user), { 1 })
    s:set(user, { 2 })
    equal(s:get(user), { 2 })
  end)

  --- archives

  local function ids(store, user, query)
    local iterate, total = store:find(user, query)
    if not iterate then return nil, total end
    local out = {}
    for id in iterate do out[#out + 1] = id end
    return out, total
  end

  rule("archive gives back what was appended", function()
    local a = fresh "archive"
    equal(ids(a, "romeo"), {})
    local values = { "text", "\0\xff", "", { name = "message", attr = { to = "x" }, "child", { 1 } }, 42, 1.5, true, false }
    local times = { 100, 100.25, 101, 101, 102.5, 103, 104, 1e9 }
    local made = {}
    for i, v in ipairs(values) do
      made[i] = ok(a:append("romeo", nil, v, times[i], i % 2 == 0 and "juliet@capulet.example" or nil))
      equal(type(made[i]), "string")
    end
    local i = 0
    for id, value, when, with in a:find("romeo") do
      i = i + 1
      equal(id, made[i])
      equal(value, values[i])
      equal(when, times[i])
      equal(with, i % 2 == 0 and "juliet@capulet.example" or nil)
    end
    equal(i, #values)
    local value, when, with = a:get("romeo", made[2])
    equal({ value, when, with }, { values[2], 100.25, "juliet@capulet.example" })
    equal(select(2, a:get("romeo", "unknown")), "item-not-found")
    equal(select(2, a:get("other", made[2])), "item-not-found")
    equal(sorted(a:users()), { "romeo" })
    check.raises("cannot be stored", a.append, a, "romeo", nil, { print })
    equal(#ids(a, "romeo"), #values)
    a:append(nil, nil, "of the host", 1)
    equal(#ids(a, nil), 1)
    a:append("now", nil, "x")
    local at = select(3, a:find("now")())
    ok(math.abs(at - loop.wall()) < 60)
  end)

  rule("archive pages both ways", function()
    local a = fresh "archive"
    local all, appends = {}, {}
    for i = 1, 450 do
      appends[i] = function() all[i] = a:append("romeo", nil, "m" .. i, 1000 + i // 10, i % 3 == 0 and "a@x" or "b@x") end
    end
    together(table.unpack(appends))
    local got, total = ids(a, "romeo", { total = true })
    equal(got, all)
    equal(total, 450)
    local backwards = ids(a, "romeo", { reverse = true })
    for i = 1, 450 do equal(backwards[i], all[451 - i]) end
    for _, size in ipairs{ 1, 7, 200, 201, 449, 450, 451 } do
      local seen, after = {}, nil
      repeat
        local p, t = ids(a, "romeo", { limit = size, after = after, total = true })
        equal(t, 450)
        for _, id in ipairs(p) do seen[#seen + 1] = id end
        after = p[#p]
      until #p < size
      equal(seen, all, "forwards by " .. size)
      seen = {}
      local before
      repeat
        local p = ids(a, "romeo", { limit = size, before = before, reverse = true })
        for _, id in ipairs(p) do table.insert(seen, 1, id) end
        before = p[#p]
      until #p < size
      equal(seen, all, "backwards by " .. size)
    end
    equal(ids(a, "romeo", { after = all[10], before = all[13] }), { all[11], all[12] })
    equal(ids(a, "romeo", { limit = 0, total = true }), {})
    equal(select(2, a:find("romeo", { limit = 0, total = true })), 450)
    equal(select(2, a:find("romeo", { after = "unknown" })), "item-not-found")
    equal(select(2, a:find("romeo", { before = "unknown" })), "item-not-found")
    equal(select(2, a:find("other", { before = all[3] })), "item-not-found")
    equal(a:delete("romeo", { ids = { all[20] } }), 1)
    equal(select(2, a:find("romeo", { after = all[20] })), "item-not-found")
  end)

  rule("archive filters by time, peer, key and ids", function()
    local a = fresh "archive"
    local all = {}
    for i = 1, 20 do all[i] = a:append("romeo", nil, "m" .. i, 1000 + i, i % 2 == 0 and "even@x" or "odd@x") end
    local function range(from, to, step)
      local out = {}
      for i = from, to, step or 1 do out[#out + 1] = all[i] end
      return out
    end
    local rows = {
      { { start = 1005 }, range(5, 20) }, { { ["end"] = 1005 }, range(1, 5) }, { { start = 1005, ["end"] = 1005 }, range(5, 5) },
      { { start = 1004.5, ["end"] = 1006.5 }, range(5, 6) }, { { start = 2000 }, {} }, { { ["end"] = 1 }, {} },
      { { start = 1006, ["end"] = 1005 }, {} }, { { with = "even@x" }, range(2, 20, 2) }, { { with = "none@x" }, {} },
      { { with = "odd@x", start = 1010, limit = 2 }, { all[11], all[13] } },
      { { with = "odd@x", reverse = true, limit = 2 }, { all[19], all[17] } },
      { { ids = { all[3], all[1], "unknown" } }, { all[1], all[3] } }, { { ids = {} }, {} },
      { { with = "even@x", after = all[3], before = all[9] }, { all[4], all[6], all[8] } },
      { { start = 1003, after = all[10] }, range(11, 20) },
    }
    for i, row in ipairs(rows) do equal(ids(a, "romeo", row[1]), row[2], "row " .. i) end
    equal(select(2, a:find("romeo", { with = "even@x", total = true, limit = 1 })), 10)
  end)

  rule("archive keys replace", function()
    local a = fresh "archive"
    equal(a:append("romeo", "k1", "one", 1), "k1")
    equal(a:append("romeo", "k2", "two", 2), "k2")
    equal(a:append("romeo", "k1", "three", 3, "x@y"), "k1")
    equal(a:append("juliet", "k1", "hers", 3), "k1")
    equal(ids(a, "romeo"), { "k2", "k1" })
    equal(a:get("romeo", "k1"), "three")
    equal(ids(a, "romeo", { key = "k2" }), { "k2" })
    equal(ids(a, "romeo", { after = "k2" }), { "k1" })
    local together_ = {}
    for i = 1, 20 do together_[i] = function() a:append("busy", "same", i, 5) end end
    together(table.unpack(together_))
    equal(#ids(a, "busy"), 1)
    equal(a:set("romeo", "k2", { 2 }), true)
    equal(a:get("romeo", "k2"), { 2 })
    equal(a:set("romeo", "k2", "moved", 9, "z@y"), true)
    local value, when, with = a:get("romeo", "k2")
    equal({ value, when, with }, { "moved", 9, "z@y" })
    equal(ids(a, "romeo"), { "k1", "k2" })
    equal(select(2, a:set("romeo", "k9", "x")), "item-not-found")
    local id = a:append("romeo", nil, "plain", 10)
    equal(a:set("romeo", id, "changed", nil, "w@y"), true)
    value, when, with = a:get("romeo", id)
    equal({ value, when, with }, { "changed", 10, "w@y" })
  end)

  rule("archive deletes", function()
    local a = fresh "archive"
    local function fill(user, count)
      local all = {}
      for i = 1, count do all[i] = a:append(user, nil, "m" .. i, 100 + i, i % 2 == 0 and "even@x" or "odd@x") end
      return all
    end
    local all = fill("romeo", 10)
    fill("juliet", 10)
    equal(a:delete("romeo", { ["end"] = 103 }), 3)
    equal(a:delete("romeo", { with = "even@x" }), 4)
    equal(ids(a, "romeo"), { all[5], all[7], all[9] })
    equal(a:delete("romeo", { ids = { all[7], "unknown" } }), 1)
    equal(a:delete("romeo", { before = all[9] }), 1)
    equal(a:delete("romeo"), 1)
    equal(a:delete("romeo"), 0)
    equal(a:delete("juliet", { truncate = 4 }), 6)
    equal(a:delete("juliet", { truncate = 4 }), 0)
    equal(#ids(a, "juliet"), 4)
    local big = {}
    for i = 1, 2100 do big[i] = function() a:append("big", nil, i, i) end end
    together(table.unpack(big))
    equal(a:delete("big", { truncate = 10 }), 2090)
    equal(#ids(a, "big"), 10)
    equal(a:delete(true, { start = 108, ["end"] = 109 }), 2)
    equal(a:delete(true), 12)
    equal(sorted(a:users()), {})
  end)

  rule("archive summarises", function()
    local a = fresh "archive"
    for i = 1, 6 do a:append("romeo", nil, "m" .. i, 86400 * i, i % 2 == 0 and "even@x" or "odd@x") end
    local s = a:summary("romeo", {})
    equal(s.counts, { ["even@x"] = 3, ["odd@x"] = 3 })
    equal(s.earliest, { ["even@x"] = 2 * 86400, ["odd@x"] = 86400 })
    equal(s.latest, { ["even@x"] = 6 * 86400, ["odd@x"] = 5 * 86400 })
    equal(a:summary("romeo", { start = 4 * 86400 }).counts, { ["even@x"] = 2, ["odd@x"] = 1 })
    equal(a:dates("romeo"), { "1970-01-02", "1970-01-03", "1970-01-04", "1970-01-05", "1970-01-06", "1970-01-07" })
    equal(a:dates("nobody"), {})
  end)

  rule("an append is found by whoever looks next", function()
    local a = fresh "archive"
    local found
    together(function() a:append("romeo", "id", "x", 1) end, function() found = ids(a, "romeo") end)
    equal(found, { "id" })
    together(function() a:delete(true) end, function() found = ids(a, "romeo") end)
    equal(found, {})
  end)
end
