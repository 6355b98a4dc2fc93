-- SPDX-License-Identifier: MIT
-- store_archive: what the message archive asks of its store beyond the interface of all drivers (storage/archive.lua).
--
--   require "lua.store_archive"(name, options)     options of couplet.storage.database

local check = require "check"
local database = require "couplet.storage.database"
local task = require "couplet.task"

local equal, ok = check.equal, check.ok

return function(name, options)
  local function append_all(store, items)
    return task.await(function(done) store:append_all(items, done) end)
  end

  local function texts(store, user, query)
    query = query or {}
    query.raw = true
    local out = {}
    for id, text in store:find(user, query) do out[#out + 1] = id .. " " .. text end
    return out
  end

  check.test(name .. ": ids are made before the write, rise, and are no neighbours", function()
    local a = database.driver("more.example", options):open("ids", "archive")
    local last, steps = "", {}
    for i = 1, 1000 do
      local id = a:new_id()
      ok(#id == 16 and id > last)
      if i > 1 then steps[tonumber(id, 16) - tonumber(last, 16)] = true end
      last = id
    end
    local n = 0
    for _ in pairs(steps) do n = n + 1 end
    ok(n > 5, "uneven steps")
    ok(math.abs((tonumber(last, 16) >> 20) / 1000 - require "couplet.core".loop.wall()) < 60)
    equal(a:new_id(1000):sub(1, 11), "000000f4240")
  end)

  check.test(name .. ": many items at once, all or none, and the same again changes nothing", function()
    local a = database.driver("more.example", options):open("all", "archive")
    local items, want = {}, {}
    for i = 1, 20 do
      items[i] = { user = "user" .. i % 2, id = a:new_id(), xml = "<m n='" .. i .. "'/>", with = "peer" .. i % 3 }
      if i % 2 == 0 then want[#want + 1] = items[i].id .. " " .. items[i].xml end
    end
    equal(append_all(a, items), true)
    equal(texts(a, "user0"), want)
    equal(append_all(a, items), true)
    equal(texts(a, "user0"), want, "a write tried again")
    equal(#texts(a, "user0", { with = "peer1" }), 3)
    equal(a:get("user0", items[2].id).attr.n, "2")
    local bytes = 0
    for i = 2, 20, 2 do bytes = bytes + #items[i].xml end
    local n, size = a:measure "user0"
    equal({ n, size }, { 10, bytes })
    equal({ a:measure "nobody" }, { 0, 0 })
    bytes = 0
    for i, length in ipairs { 7, 127, 128, 16383, 16384 } do
      local xml = "<é>" .. ("x"):rep(length - 4)
      bytes = bytes + length
      append_all(a, { { user = "long", id = a:new_id(), xml = xml, with = "peer1" } })
      equal({ a:measure "long" }, { i, bytes })
    end
    local found
    local waiting = { user = "user0", id = a:new_id(), xml = "<late/>", with = "peer1" }
    a:append_all({ waiting }, function() end)
    task.spawn(function() found = #texts(a, "user0") end)
    while not found do require "couplet.core".loop.once() end
    equal(found, 11, "found by whoever looks next")
  end)

  check.test(name .. ": a number that is taken, and names that are gone, lose nothing", function()
    local driver, other = database.driver("more.example", options), database.driver("another.example", options)
    local a, b = driver:open("taken", "archive"), other:open("taken", "archive")
    local first = { user = "romeo", id = a:new_id(), xml = "<first/>", with = "juliet@h" }
    equal(append_all(a, { first }), true)
    local free = { user = "romeo", id = a:new_id(), xml = "<free/>", with = "juliet@h" }
    local second = { user = "romeo", id = first.id, xml = "<second/>", with = "juliet@h" }
    equal(append_all(b, { second, free }), true)
    equal(texts(a, "romeo"), { first.id .. " <first/>" }, "whose number it was keeps it")
    local found = texts(b, "romeo")
    table.sort(found)
    equal(found, { second.id .. " <second/>", free.id .. " <free/>" })
    driver:purge "romeo"
    database.get(options):write{ { "DELETE FROM jid WHERE jid = ?1", "juliet@h" } }
    first.id = a:new_id()
    equal(append_all(a, { first }), true)
    equal(texts(a, "romeo", { with = "juliet@h" }), { first.id .. " <first/>" })
  end)

  check.test(name .. ": what is written for an account that is gone never reaches whoever has its number now", function()
    local driver = database.driver("more.example", options)
    local a = driver:open("numbers", "archive")
    local function item(user, xml) return { user = user, id = a:new_id(), xml = xml, with = "juliet@h" } end
    equal(append_all(a, { item("mercutio", "<before/>") }), true)
    local learns = database.get(options).dialect.enter_known
    while learns and a.shared.owners.set.mercutio == true do require "couplet.core".loop.once() end
    equal(append_all(a, { item("mercutio", "<known/>") }), true)
    equal(#texts(a, "mercutio"), 2)
    driver:purge "mercutio"
    equal(database.get(options):write{ { "UPDATE jid SET jid = ?1 WHERE jid = ?2", "else@h", "juliet@h" } }, 1)
    local taker = driver:open("numbers2", "archive")
    equal(append_all(taker, { { user = "tybalt", id = a:new_id(), xml = "<his/>", with = "paris@h" } }), true)
    local late = item("mercutio", "<late/>")
    equal(append_all(a, { late }), true)
    equal(#texts(taker, "tybalt"), 1)
    equal(texts(a, "mercutio", { with = "juliet@h" }), { late.id .. " <late/>" })
    driver:purge "mercutio"
  end)

  check.test(name .. ": who has nothing is known without reading, in keyval stores, too", function()
    local other = database.driver("more.example", options):open("has", "map")
    ok(other:set("old", "key", "from before"))
    database.get(options).keyvals["more.example"].has = nil        -- so it is another process's
    local a = database.driver("more.example", options):open("has", "keyval+")
    ok(a:has "nobody", "it does not wait, so it does not know yet")
    repeat require "couplet.core".loop.once() until not a:has "nobody"
    ok(a:has "old")
    local written
    task.spawn(function() written = a:set_key("late", "key", 1) end)
    ok(a:has "late", "before it is written")
    repeat require "couplet.core".loop.once() until written
    ok(a:set("late", nil))
    ok(a:has "late", "nobody has looked")

    local asked
    task.spawn(function()
      task.together(function() return database.driver("more.example", options):open("has too", "map"):has "nobody" end)
      asked = true
    end)
    ok(asked, "who asks along with others waits as little")
  end)

  check.test(name .. ": who has nothing is known without reading", function()
    local other = database.driver("more.example", options):open("has", "archive")
    ok(other:append("old", nil, { "from before" }))
    local a = database.driver("more.example", options):open("has", "archive")
    local function known(user) return not a:has(user) end
    ok(a:has "nobody", "it does not wait, so it does not know yet")
    repeat require "couplet.core".loop.once() until known "nobody"
    ok(a:has "old")
    equal(texts(a, "nobody"), {})

    local written = 0
    a:append_all({ { user = "late", id = a:new_id(), xml = "<m/>", with = "p" } }, function() written = written + 1 end)
    task.spawn(function() ok(other:append("soon", "key", { 1 })) written = written + 1 end)
    ok(a:has "late" and a:has "soon", "before it is written")
    repeat require "couplet.core".loop.once() until written == 2

    for _, user in ipairs { "old", "late", "soon" } do a:delete(user) end
    ok(a:has "old", "nobody has looked")
    equal(#texts(a, "old", { with = "p" }), 0)
    equal(#texts(a, "old", { limit = 0 }), 0)
    ok(a:has "old", "something else may be there")
    equal(#texts(a, "old"), 0)
    ok(known "old")

    -- what came another way is seen when the names are read again
    local holders = require "couplet.storage.holders"
    local shared = database.get(options).archives["more.example\0has"]
    local holds = shared.holders
    shared.holders = nil                           -- so this append is not noticed
    ok(other:append("elsewhere", nil, { 1 }))
    shared.holders = holds
    ok(known "elsewhere")
    local again = holders.again
    holders.again = -1                             -- at each look, also within one turn of the loop
    while not a:has "elsewhere" do require "couplet.core".loop.once() end
    holders.again = again

    -- what is added while somebody looks is not overlooked
    local looked
    local function count()
      local n = 0
      for _ in a:find "late" do n = n + 1 end
      return n
    end
    task.spawn(function() looked = count() end)
    task.spawn(function() ok(a:append("late", nil, { 2 })) written = written + 1 end)
    repeat require "couplet.core".loop.once() until looked and written == 3
    ok(a:has "late")
    equal(count(), 1)
  end)

  check.test(name .. ": what is old goes, of one store alone", function()
    local driver = database.driver("more.example", options)
    local a, b = driver:open("old", "archive"), driver:open("kept", "archive")
    for i = 1, 600 do
      task.spawn(function() a:append("user" .. i % 7, nil, i, 1000 + i) end)
      task.spawn(function() b:append("user" .. i % 7, nil, i, 1000 + i) end)
    end
    a:append("now", nil, "x")
    equal(a:delete(true, { ["end"] = 1590 }), 590)
    equal(a:delete(true, { ["end"] = 1590 }), 0)
    local n = 0
    for i = 0, 6 do for _ in a:find("user" .. i) do n = n + 1 end end
    equal(n, 10)
    n = 0
    for i = 0, 6 do for _ in b:find("user" .. i) do n = n + 1 end end
    equal(n, 600)
  end)
end
