-- SPDX-License-Identifier: MIT
-- The SQLite driver: what every driver must do. Its own troubles: store_trouble_test.lua.

local check = require "check"
local database = require "couplet.storage.database"
local core = require "couplet.core"
local system = core.system
local task = require "couplet.task"
local temp = require "temp"

local dir = temp.dir()

local options = { driver = "sqlite", file = dir .. "/couplet.sqlite", synchronous = "off" }
require "lua.store_conformance"("sqlite", database.driver("sqlite.example", options), database.driver("other.example", options))

check.test("sqlite: data outlive the process's connections", function()
  local store = database.driver("keep.example", options):open("keep")
  store:set("romeo", { 1 })
  database.close()
  check.equal(store:get("romeo"), { 1 })
end)

check.test("sqlite: the file is for the server's user only", function()
  check.equal(system.stat(options.file).mode & 511, 384)
end)

require "lua.store_archive"("sqlite", options)

-- Where an item is, among the new ones or in the indexes, makes no difference.
local settle = require "couplet.storage.settle"
local enough = settle.enough
settle.enough = 1
require "lua.store_conformance"("sqlite, settled at once", database.driver("sqlite2.example", options),
  database.driver("other2.example", options))
require "lua.store_archive"("sqlite, settled at once", { file = dir .. "/settled.sqlite", synchronous = "off" })
settle.enough = enough

local dialect = require "couplet.storage.dialect".sqlite

-- Waits for the numbers of all items that are in none of the indexes, or not in both.
local function unsettled(db)
  return db:read{ { "SELECT count(*) FROM archive_fresh" },
    { "SELECT count(*) FROM archive a WHERE NOT EXISTS (SELECT 1 FROM archive_by_owner o WHERE o.owner = a.owner AND o.id = a.id)"
      .. " OR NOT EXISTS (SELECT 1 FROM archive_by_peer p WHERE p.owner = a.owner AND p.peer = coalesce(a.peer, 0)"
      .. " AND p.id = a.id)" },
    { "SELECT (SELECT count(*) FROM archive_by_owner) + (SELECT count(*) FROM archive_fresh) - (SELECT count(*) FROM archive)" },
    { "SELECT (SELECT count(*) FROM archive_by_peer) + (SELECT count(*) FROM archive_fresh) - (SELECT count(*) FROM archive)" } }
end

check.test("sqlite: items settle in the indexes; what is changed or deleted there too", function()
  local place = { file = dir .. "/settle.sqlite", synchronous = "off" }
  local a = database.driver("settle.example", place):open("archive", "archive")
  local db = database.get(place)
  settle.enough = 3000
  local ids = {}
  for i = 1, 2990 do
    ids[i] = a:new_id()
  end
  local items = {}
  for i, id in ipairs(ids) do
    items[i] = { user = "u" .. i % 7, id = id, with = "p" .. i % 3 .. "@x", xml = "<message/>" }
  end
  task.await(function(done) a:append_all(items, done) end)
  check.equal(unsettled(db), { 2990 })
  check.equal(a:set("u1", ids[1], "new", nil, "elsewhere@x"), true)
  check.equal(a:delete("u2", { ids = { ids[2] } }), 1)
  for i = 1, 11 do a:append("u" .. i % 7, i % 2 == 0 and "key" .. i or nil, "later") end
  local loop_end = core.loop.mono() + 60
  while unsettled(db)[1] > 0 and core.loop.mono() < loop_end do end
  local left, _, missing, _, owners, _, peers = unsettled(db)
  check.equal({ left[1], missing[1], owners[1], peers[1] }, { 0, 0, 0, 0 })
  local seen = 0
  for _ in a:find("u1", { with = "elsewhere@x" }) do seen = seen + 1 end
  check.equal(seen, 1)
  check.equal(a:set("u1", ids[1], "newer", nil, "p0@x"), true)
  check.equal(a:delete("u3"), 429)
  check.equal(a:delete(true, { ["end"] = core.loop.wall() + 1 }), 2990 - 1 + 11 - 429)
  left, _, missing, _, owners, _, peers = unsettled(db)
  check.equal({ left[1], missing[1], owners[1], peers[1] }, { 0, 0, 0, 0 })
  settle.enough = enough
end)

check.test("sqlite: what is asked together is one read, of one state", function()
  local driver = database.driver("together.example", options)
  local one, two = driver:open("one"), driver:open("two", "map")
  one:set("romeo", { a = 1 })
  two:set("romeo", "key", "value")
  local function reads() return database.numbers()[options.file].reads end
  local function get() return one:get "romeo" end
  local function get_key() return two:get("romeo", "key") end
  local function nobody() return (one:get "nobody") end
  local found
  local function ask(...)
    local before, done = reads(), false
    local fns = table.pack(...)
    task.spawn(function()
      found = table.pack(pcall(task.together, table.unpack(fns, 1, fns.n)))
      done = true
    end)
    while not done do core.loop.once() end
    return reads() - before
  end
  check.equal(ask(get, nobody, get_key), 1)
  check.equal(found, { true, { a = 1 }, nil, "value", n = 4 })
  check.equal(ask(), 0)
  check.equal(ask(function() return 7 end), 0)
  check.equal(found, { true, 7, n = 2 })
  check.equal(ask(function() return { get(), get_key() } end, get_key), 2)         -- one goes on alone
  check.equal(found, { true, { { a = 1 }, "value" }, "value", n = 3 })
  check.equal(ask(function() return task.together(get, get) end, get), 2)
  check.equal(ask(get, function() get() error("trouble", 0) end, get_key), 1)
  check.ok(not found[1] and found[2]:find "^trouble")
  check.equal({ task.together(get, get_key) }, { { a = 1 }, "value" })             -- outside of a task, waiting in place
  -- A write under way lies over what is read.
  check.equal(ask(get, function() task.spawn(two.set, two, "romeo", "key", "new") return get_key() end), 0 + 1)
  check.equal(found[3], "new")
end)

check.test("sqlite: a file of the first version is brought up to date", function()
  local place = { file = dir .. "/first.sqlite", synchronous = "off" }
  local old = core.store.open { driver = "sqlite", place = place.file, schema = { dialect.schema[1] }, synchronous = "off" }
  local function run(sql) return task.await(function(done) old:write({ { old:statement(sql) } }, done) end) end
  check.equal(run "INSERT INTO collection VALUES (1, 'first.example', 'archive', 'archive')", 1)
  check.equal(run "INSERT INTO owner VALUES (1, 1, 'romeo'), (2, 1, 'juliet')", 2)
  check.equal(run "INSERT INTO jid VALUES (1, 'a@x'), (2, 'b@x')", 2)
  check.equal(run("INSERT INTO archive VALUES (1048576, 1, 1, NULL, NULL, 'one'), (2097152, 1, 2, NULL, NULL, 'two'), "
      .. "(3145728, 2, NULL, 'k', NULL, 'three')"), 3)
  old:close()
  local a = database.driver("first.example", place):open("archive", "archive")
  local function values(user, query)
    local out = {}
    for _, value in a:find(user, query) do out[#out + 1] = value end
    return table.concat(out, " ")
  end
  check.equal(values("romeo", {}), "one two")
  check.equal(values("romeo", { with = "b@x" }), "two")
  check.equal(values("juliet", {}), "three")
  a:append("romeo", nil, "four", nil, "b@x")
  check.equal(values("romeo", { with = "b@x", reverse = true }), "four two")
  check.equal(a:delete("romeo"), 3)
end)

database.close()
temp.remove(dir)
check.done()
