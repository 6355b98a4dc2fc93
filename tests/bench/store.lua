-- SPDX-License-Identifier: MIT
-- store.lua: what storage costs. build/bin/lua tests/bench/store.lua [full|normal|off|postgres] [directory]
-- postgres: a server of its own, with fsync; CPU is that of this process, the server's is shown at the end.
--
-- Sets per second and their waits with 1, 16 and 256 tasks that write at once, CPU of the whole process per operation;
-- reads of an account and of a roster; archive appends and pages.

local database = require "couplet.storage.database"
local task = require "couplet.task"

local sync, dir = arg[1] or "full", arg[2]
local temp = require "temp"
local made = not dir and temp.dir()
local file = (dir or made) .. "/bench.sqlite"
local pg = sync == "postgres" and require "postgres".new{ fsync = "on", shared_buffers = "128MB", autovacuum = "on" }
local options = pg and pg.options() or { file = file, synchronous = sync }
local driver = database.driver("bench.example", options)

local now = require "socket".gettime           -- the loop's clocks count milliseconds

local function run(name, workers, seconds, fn)
  local waits, n, left, finished = {}, 0, workers, nil
  local began, cpu = now(), os.clock()
  local till = began + seconds
  for w = 1, workers do
    task.spawn(function()
      local i = 0
      while now() < till do
        i = i + 1
        local start = now()
        fn(w, i)
        n = n + 1
        waits[n] = now() - start
      end
      left = left - 1
      if left == 0 and finished then finished() end
    end)
  end
  if left > 0 then task.await(function(done) finished = done end) end
  local took, used = now() - began, os.clock() - cpu
  table.sort(waits)
  print(("%-34s %4d tasks %9.0f/s  p50 %7.2f ms  p99 %7.2f ms  CPU %6.1f us each"):format(name, workers, n / took,
    waits[n // 2 + 1] * 1000, waits[math.max(1, n * 99 // 100)] * 1000, used / n * 1e6))
end

local accounts, map, roster, archive = driver:open("accounts"), driver:open("data", "map"), driver:open("roster"),
  driver:open("archive", "archive")
local account = { created = 1, updated = 2, iteration_count = 10000, salt = ("s"):rep(36), stored_key = ("k"):rep(40),
  server_key = ("k"):rep(40),
  scram = { ["SHA-256"] = { iteration_count = 10000, salt = ("s"):rep(36), stored_key = ("k"):rep(64),
    server_key = ("k"):rep(64) } } }
local contacts = {}
for i = 1, 50 do
  contacts["contact" .. i .. "@example.org"] = { subscription = "both", groups = { Friends = true }, name = "Contact " .. i }
end
for i = 1, 1000 do
  task.spawn(function() accounts:set("user" .. i, account) end)
end
accounts:set("user0", account)
roster:set("romeo", contacts)
local text = "<message to='juliet@capulet.example' from='romeo@montague.example/orchard' type='chat' id='abc'><body>"
  .. ("x"):rep(300) .. "</body><origin-id xmlns='urn:xmpp:sid:0' id='abc'/></message>"

print(pg and options.name or "synchronous = " .. sync .. ", " .. file)
for _, workers in ipairs { 1, 16, 256 } do
  run("map set", workers, 3, function(w, i) map:set("user" .. w, "key" .. i % 10, i) end)
end
for _, workers in ipairs { 1, 16, 256 } do
  run("keyval set (account)", workers, 3, function(w) accounts:set("user" .. w, account) end)
end
for _, workers in ipairs { 1, 16, 256 } do
  run("archive append (450 bytes)", workers, 3,
    function(w) archive:append("user" .. w % 1000, nil, text, nil, "peer" .. w % 50 .. "@example.org") end)
end
for _, workers in ipairs { 1, 16, 256 } do
  run("append_all of two (450 bytes)", workers, 3, function(w)
    local items = {}
    for i = 1, 2 do items[i] = { user = "user" .. (w + i) % 1000, id = archive:new_id(), xml = text, with = "peer" .. w % 50 } end
    task.await(function(done) archive:append_all(items, done) end)
  end)
end
for _, workers in ipairs { 1, 16 } do
  run("keyval get (account)", workers, 2, function(w, i) accounts:get("user" .. (w * 31 + i) % 1000) end)
  run("map get", workers, 2, function(w, i) map:get("user" .. w, "key" .. i % 10) end)
  run("keyval get (roster of 50)", workers, 2, function() roster:get "romeo" end)
  run("archive page of 50", workers, 2, function(w)
    for _ in archive:find("user" .. w, { limit = 50, reverse = true }) do end
  end)
end
local numbers = database.numbers()[options.name or file]
print(("%d writes in %d commits, largest batch %d, %d checkpoints, WAL %d pages"):format(numbers.writes, numbers.commits,
  numbers.largest_batch, numbers.checkpoints, numbers.wal_pages))
database.close()
if pg then
  local rows, used = tonumber(pg.query "SELECT count(*) FROM couplet.archive"), pg.cpu()
  print(("PostgreSQL: %d archived rows; CPU of the server in all %.1f s"):format(rows, used))
  pg.close()
end
if made then temp.remove(made) end
