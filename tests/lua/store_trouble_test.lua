-- SPDX-License-Identifier: MIT
-- Trouble with the SQLite database: full disk, locked, damaged, gone, killed. The caller gets nil, a text and a condition; the
-- log says once what to do; nothing is half-written; all goes on by itself when the trouble is over.

local check = require "check"
local core = require "couplet.core"
local database = require "couplet.storage.database"
local task = require "couplet.task"

local equal, ok = check.equal, check.ok

-- The killed writer: this file again, as another process. It prints each item once it is confirmed.
if arg and arg[1] == "writer" then
  local file, from = arg[2], tonumber(arg[3])
  local driver = database.driver("h", { file = file })
  local keyval, archive = driver:open("data", "map"), driver:open("log", "archive")
  io.stdout:setvbuf "no"
  local n = from
  for w = 1, 8 do
    task.spawn(function()
      while true do
        n = n + 1
        local i = n
        assert(keyval:set("user" .. w, "item" .. i, { i, ("x"):rep(300) }))
        assert(archive:append("user" .. w, "item" .. i, "text" .. i))
        io.stdout:write("item" .. i, " ", w, "\n")
      end
    end)
  end
  core.loop.run()
end

local dir = require "temp".dir()

local lines = {}
core.log.sink(function(level, source, text) lines[#lines + 1] = level .. " " .. source .. ": " .. text end)
local function logged(pattern)
  core.loop.poll()
  local n = 0
  for _, line in ipairs(lines) do
    if line:find(pattern) then n = n + 1 end
  end
  return n
end

local function together(n, fn)
  local left, finished, failure = n, nil, nil
  for i = 1, n do
    task.spawn(function()
      local fine, err = xpcall(fn, debug.traceback, i)
      if not fine then failure = err end
      left = left - 1
      if left == 0 and finished then finished() end
    end)
  end
  if left > 0 then task.await(function(done) finished = done end) end
  if failure then error(failure, 0) end
end

-- Repeats until fn says something true: the driver opens a database that failed at most four times a second.
local function eventually(fn)
  local till = core.loop.mono() + 60
  repeat
    local result = fn()
    if result then return result end
    task.sleep(0.05)
  until core.loop.mono() > till
  error("did not recover", 2)
end

local function refused(code, pattern, result, message, got)
  equal(result, nil)
  equal(got, code, message)
  ok(message:find(pattern), message)
end

check.test("a full disk: resource-constraint, nothing half-written, and on it goes", function()
  lines = {}
  local options = { file = dir .. "/full", max_pages = 60 }
  local driver = database.driver("h", options)
  local s, m, a = driver:open("data"), driver:open("data", "map"), driver:open("log", "archive")
  ok(s:set("romeo", { before = 1 }))
  ok(a:append("romeo", "first", "x"))
  local big = ("x"):rep(300000)
  refused("resource-constraint", "full", s:set("romeo", { after = 2, big = big }))
  equal(s:get("romeo"), { before = 1 }, "the failed set has vanished")
  refused("resource-constraint", "full", m:set("romeo", "big", big))
  refused("resource-constraint", "full", a:append("romeo", nil, big))
  -- Of many at once those succeed that fit.
  local done = {}
  together(40, function(i)
    local fine, _, code = m:set("user" .. i, "k", i % 4 == 0 and big or i)
    done[i] = fine
    if not fine then equal(code, "resource-constraint") end
  end)
  for i = 1, 40 do
    local want
    if i % 4 ~= 0 then want = i end
    equal(done[i], want and true, "item " .. i)
    equal(m:get("user" .. i, "k"), want)
  end
  equal(s:get("romeo"), { before = 1 })
  equal(logged "error store: .*the disk is full.*free space", 1, "told once")
  ok(s:set("romeo", nil))
  ok(s:set("romeo", { room = "again" }))
  equal(s:get("romeo"), { room = "again" })
  equal(logged "info store: .*work again" > 0, true)
  database.close()
end)

check.test("a file size limit behaves as a full disk", function()
  -- In a process of its own, for the limit.
  local script = dir .. "/limited.lua"
  local f = assert(io.open(script, "w"))
  f:write(([[
    local database = require "couplet.storage.database"
    local s = database.driver("h", { file = %q }):open("data")
    assert(s:set("a", { 1 }))
    local fine, message, code = s:set("b", { ("x"):rep(600000) })
    assert(fine == nil and code == "resource-constraint", tostring(message) .. tostring(code))
    assert(s:get("a")[1] == 1 and s:get("b") == nil)
    assert(s:set("a", { 2 }))
    assert(s:get("a")[1] == 2)
    database.close()
    io.stdout:write("fine")
    os.exit(0)
  ]]):format(dir .. "/limited"))
  f:close()
  local command = ("ulimit -f 512; %s/bin/lua %s 2>&1"):format(os.getenv "COUPLET_BUILD", script)
  local p = io.popen("bash -c '" .. command .. "'")
  local out = p:read "a"
  p:close()
  ok(out:find "fine", out)
end)

check.test("locked by another process: resource-constraint after the busy time; fine again when it lets go", function()
  lines = {}
  local options = { file = dir .. "/locked", busy_timeout = 0.1 }
  local s = database.driver("h", options):open("data")
  ok(s:set("romeo", { 1 }))
  local p = ok(io.popen("sqlite3 -batch " .. options.file .. " >/dev/null", "w"))
  p:write "BEGIN IMMEDIATE;\n.shell touch "
  p:write(dir .. "/held\n")
  p:flush()
  eventually(function() return io.open(dir .. "/held") end)
  refused("resource-constraint", "locked", s:set("romeo", { 2 }))
  equal(s:get("romeo"), { 1 }, "reading goes on")
  together(20, function(i) refused("resource-constraint", "locked", s:set("user" .. i, { i })) end)
  equal(logged "error store: .*locked by another process.*fuser", 1)
  p:write "ROLLBACK;\n"
  p:close()
  ok(s:set("romeo", { 3 }))
  equal(s:get("romeo"), { 3 })
  equal(logged "work again", 1)
  database.close()
end)

local function overwrite(file, at, bytes)
  local f = assert(io.open(file, "r+b"))
  f:seek("set", at)
  f:write(bytes)
  f:close()
end

check.test("a damaged database: internal-server-error with advice; a backup put in its place is used at once", function()
  lines = {}
  local options = { file = dir .. "/damaged" }
  local s = database.driver("h", options):open("data")
  for i = 1, 200 do ok(s:set("user" .. i, { ("x"):rep(200) })) end
  database.close()
  os.execute("cp " .. options.file .. " " .. dir .. "/backup")
  overwrite(options.file, 4096, ("garbage!"):rep(4096 * 30 // 8))
  refused("internal-server-error", "damaged", s:get("user1"))
  refused("internal-server-error", "damaged", s:set("user1", { 1 }))
  equal(logged "error store: .*cannot read: the database is damaged.*backup", 1)
  equal(logged "error store: .*cannot write: the database is damaged.*backup", 1)
  os.execute("mv " .. dir .. "/backup " .. options.file)
  eventually(function() return s:get("user1") end)
  eventually(function() return s:set("user1", { 2 }) end)
  equal(s:get("user1"), { 2 })
  equal(s:get("user200"), { ("x"):rep(200) })
  database.close()

  lines = {}
  overwrite(options.file, 0, "this is no database at all, whatever it was")
  refused("internal-server-error", "damaged", s:get("user1"))
  refused("internal-server-error", "damaged", s:set("user1", { 1 }))
  os.remove(options.file)
  eventually(function() return s:set("user1", { 3 }) end)
  equal(s:get("user1"), { 3 })
  database.close()
end)

check.test("a file that is replaced while it is open is noticed", function()
  local options = { file = dir .. "/moved" }
  local s = database.driver("h", options):open("data")
  ok(s:set("romeo", { 1 }))
  for _, suffix in ipairs { "", "-wal", "-shm" } do os.remove(options.file .. suffix) end
  equal(s:get("romeo"), nil)
  ok(s:set("romeo", { 2 }))
  equal(s:get("romeo"), { 2 })
  database.close()
  equal(s:get("romeo"), { 2 })
  database.close()
end)

check.test("no directory, or a file of the future: refused, and fine once that is mended", function()
  lines = {}
  local options = { file = dir .. "/later/couplet.sqlite" }
  local s = database.driver("h", options):open("data")
  refused("internal-server-error", "cannot be opened", s:set("romeo", { 1 }))
  refused("internal-server-error", "cannot be opened", s:get("romeo"))
  equal(logged "check that its directory exists" > 0, true)
  os.execute("mkdir " .. dir .. "/later")
  eventually(function() return s:set("romeo", { 1 }) end)
  database.close()
  os.execute("sqlite3 " .. options.file .. " 'PRAGMA user_version = 1000'")
  refused("internal-server-error", "newer version", s:set("romeo", { 2 }))
  os.execute("sqlite3 " .. options.file .. " 'PRAGMA user_version = " .. #require "couplet.storage.dialect".sqlite.schema .. "'")
  eventually(function() return s:set("romeo", { 2 }) end)
  database.close()
end)

check.test("a conflicting write fails alone", function()
  local db = core.store.open { driver = "sqlite", place = dir .. "/alone",
    schema = { "CREATE TABLE t (a PRIMARY KEY, b NOT NULL)" }, synchronous = "off" }
  local insert = db:statement "INSERT INTO t VALUES (?1, ?2)"
  local count = db:statement "SELECT count(*) FROM t"
  local failed = 0
  together(300, function(i)
    local b = i
    if i % 10 == 0 then b = nil end
    local changes, _, code = task.await(function(done) db:write({ { insert, "x" .. i, 1 }, { insert, i, b } }, done) end)
    if changes then
      equal(changes, 1, "those of the last statement")
    else
      failed = failed + 1
      equal(code, "conflict")
    end
  end)
  equal(failed, 30)
  equal(task.await(function(done) db:read({ { count } }, done) end)[1], 540, "of the failed ones not even the first half")
  db:close()
  check.raises("closed", db.read, db, { { count } }, print)
end)

check.test("killed 20 times: everything confirmed is there, whole", function()
  local file = dir .. "/killed"
  local me = arg[0]
  local from, confirmed = 0, {}
  for round = 1, 20 do
    local p = io.popen(("exec sh -c 'echo $$; exec %s/bin/lua %s writer %s %d'"):format(os.getenv "COUPLET_BUILD", me, file,
      from), "r")
    local pid = p:read "n"
    p:read "l"
    local wanted = 20 + round * 7 % 50
    for _ = 1, wanted do
      local item, w = (p:read "l" or ""):match "^(%S+) (%d+)$"
      ok(item, "the writer ended in round " .. round)
      confirmed[item] = w
    end
    os.execute("kill -9 " .. pid)
    for line in p:lines() do               -- confirmed before the signal came
      local item, w = line:match "^(%S+) (%d+)$"
      if item then confirmed[item] = w end
    end
    p:close()
    from = from + 100000
  end
  local driver = database.driver("h", { file = file })
  local keyval, archive = driver:open("data", "map"), driver:open("log", "archive")
  local n = 0
  for item, w in pairs(confirmed) do
    n = n + 1
    local value = keyval:get("user" .. w, item)
    ok(value, item)
    equal(#value[2], 300)
    equal(archive:get("user" .. w, item), "text" .. item:match "%d+")
  end
  ok(n >= 400)
  database.close()
  local p = io.popen("sqlite3 " .. file .. " 'PRAGMA integrity_check'")
  equal(p:read "l", "ok")
  p:close()
end)

check.test("too many waiting writes are refused, not gathered", function()
  local db = core.store.open { driver = "sqlite", place = dir .. "/bounded", schema = { "CREATE TABLE t (a)" }, max_waiting = 10,
    synchronous = "full" }
  local insert = db:statement "INSERT INTO t VALUES (?1)"
  local fine, no = 0, 0
  together(400, function(i)
    local changes, _, code = task.await(function(done) db:write({ { insert, i } }, done) end)
    if changes then
      fine = fine + 1
    else
      equal(code, "resource-constraint")
      no = no + 1
    end
  end)
  ok(fine >= 10 and no > 0)
  db:close()
end)

core.log.sink(nil)
require "temp".remove(dir)
check.done()
