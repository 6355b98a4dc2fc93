-- SPDX-License-Identifier: MIT
-- Trouble with PostgreSQL: killed, stopped, away, slow, full, read-only, wrong password. The caller gets nil, a text and a
-- condition; the log says once what to do; what was confirmed is there, once; the logic thread never waits;
-- it all ends by itself.

local check = require "check"
local core = require "couplet.core"
local database = require "couplet.storage.database"
local postgres = require "postgres"
local task = require "couplet.task"

local equal, ok = check.equal, check.ok

-- Another process, for those that start at once.
if arg and arg[1] == "starter" then
  local s = database.driver("h", { driver = "postgres", conninfo = arg[2], name = "x", timeout = 20 }):open("data")
  assert(s:set("user" .. arg[3], { tonumber(arg[3]) }))
  assert(s:get("user" .. arg[3])[1] == tonumber(arg[3]))
  database.close()
  io.stdout:write "fine"
  os.exit(0)
end

local pg = postgres.new()
local SLOW = (os.getenv "COUPLET_WRAP" or ""):find "san" and 5 or 1     -- sanitizers and what runs beside them take their time

local lines = {}
core.log.sink(function(level, source, text) lines[#lines + 1] = level .. " " .. source .. ": " .. text end)
local function logged(pattern)
  core.loop.poll()
  local n = 0
  for _, line in ipairs(lines) do
    ok(not line:find(pg.password, 1, true), "a password in the log")
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

local function test(name, fn)
  check.test(name, function()
    lines = {}
    local fine, err = xpcall(function()
      local failure
      together(1, function()
        local good, e = xpcall(fn, debug.traceback)
        if not good then failure = e end
      end)
      if failure then error(failure, 0) end
    end, function(e) return e end)
    database.close()
    if not fine then error(tostring(err) .. "\n" .. table.concat(lines, "\n"), 0) end
  end)
end

-- Writes until told to stop: { confirmed = { text = user }, failed = { text = true } }; and looks how long the loop stood still
-- since calm(), for what tests ask of others blocks it, too.
local loads = 0
local function load(driver, workers)
  loads = loads + 1
  local prefix = loads .. "."
  local data, log = driver:open("data", "map"), driver:open("log", "archive")
  local state = { confirmed = {}, failed = {}, n = 0, running = workers, gap = 0, codes = {} }
  for w = 1, workers do
    task.spawn(function()
      local i = 0
      while not state.stop do
        i = i + 1
        local text = prefix .. w .. "." .. i
        local fine, _, code = log:append("user" .. w, nil, text, nil, "peer" .. i % 3 .. "@x")
        if fine then
          state.confirmed[text] = { "user" .. w, fine }
          state.n = state.n + 1
        else
          state.failed[text] = true
          state.codes[code] = true
        end
        fine = data:set("user" .. w, "last", i)
        if fine then state["last" .. w] = i end
      end
      state.running = state.running - 1
    end)
  end
  task.spawn(function()
    while not state.stop do
      state.before = core.loop.mono()
      task.sleep(0.02)
      state.gap = math.max(state.gap, core.loop.mono() - state.before)
    end
  end)
  return state
end

local function calm(state) state.gap, state.before = 0, core.loop.mono() end

local function stop(state)
  state.stop = true
  eventually(function() return state.running == 0 end)
end

-- Everything confirmed is there under its id, nothing twice, and no value is older than the last one confirmed.
local function kept(driver, state, workers)
  local data, log = driver:open("data", "map"), driver:open("log", "archive")
  local seen = {}
  for w = 1, workers do
    for id, text in log:find("user" .. w) do
      ok(not seen[text], text .. " is there twice")
      seen[text] = id
    end
    ok(data:get("user" .. w, "last") >= (state["last" .. w] or 0))
  end
  for text, c in pairs(state.confirmed) do equal(seen[text], c[2], text) end
end

local runs = 0
local function fresh(more)
  runs = runs + 1
  return database.driver("host" .. runs, pg.options(more))
end

-- Runs fn (blocking, outside) under load, until writes are confirmed again.
local function under_load(driver, fn)
  local state = load(driver, 8)
  eventually(function() return state.n > 50 end)
  fn(state)
  local had = state.n
  eventually(function() return state.n > had + 50 end)
  stop(state)
  kept(driver, state, 8)
  return state
end

local function background(command)
  assert(os.execute("(" .. command .. ") >/dev/null 2>&1 &"))
end

test("the server is killed under load, and started again: what was confirmed is there, once", function()
  local driver = fresh { timeout = 20 * SLOW }             -- its recovery is waited for
  for _ = 1, 2 do
    local state = under_load(driver, function(state)
      pg.signal "KILL"
      background("/usr/bin/python3 tests/postgres.py start " .. pg.dir)
      calm(state)
      local had = state.n
      eventually(function() return state.n > had end)
    end)
    ok(state.gap < 2, "the loop stood still for " .. state.gap)
    equal(state.codes, {}, "the appends waited")
  end
  equal(logged "error store: .*cannot write: the database server does not answer.*is PostgreSQL running" > 0, true)
end)

test("one backend is killed, another ended: no write is lost", function()
  local driver = fresh()
  for _, how in ipairs { "pg_terminate_backend(pid)", "kill" } do
    under_load(driver, function()
      if how == "kill" then
        for pid in pg.query("SELECT pid FROM pg_stat_activity WHERE application_name = 'couplet'"):gmatch "%d+" do
          os.execute("kill -9 " .. pid .. " 2>/dev/null")     -- one may be gone with another
        end
      else
        pg.query("SELECT " .. how .. " FROM pg_stat_activity WHERE application_name = 'couplet'")
      end
    end)
  end
end)

test("a server that stands still for three seconds delays, and blocks nobody", function()
  local driver = fresh()
  local state = under_load(driver, function(state)
    for pid in pg.query("SELECT pid FROM pg_stat_activity WHERE application_name = 'couplet'"):gmatch "%d+" do
      os.execute("kill -STOP " .. pid)
      background("sleep 3; kill -CONT " .. pid)
    end
    calm(state)
    local at = state.n
    task.sleep(0.5)
    ok(state.n <= at + 16, "nothing is confirmed meanwhile")
  end)
  equal(state.failed, {})
  ok(state.gap < 2, "the loop stood still for " .. state.gap)
end)

test("away for longer than requests wait: resource-constraint, at once after the first; then all works again", function()
  local driver = fresh { timeout = SLOW }
  local s = driver:open("data")
  ok(s:set("romeo", { 1 }))
  pg.stop()
  refused("resource-constraint", "does not answer", s:set("romeo", { 2 }))
  local began = core.loop.mono()
  for _ = 1, 20 do
    refused("resource-constraint", "does not answer", s:set("romeo", { 3 }))
    refused("resource-constraint", "does not answer", s:get("juliet"))
  end
  ok(core.loop.mono() - began < 1.5, "at once")
  equal(logged "error store: .*cannot write: the database server does not answer", 1)
  pg.start()
  eventually(function() return s:set("romeo", { 4 }) end)
  equal(s:get("romeo"), { 4 })
  equal(logged "info store: .*writes work again" > 0, true)
end)

test("what a broken connection left behind is ended before anything new is written", function()
  local driver = fresh { timeout = SLOW }
  local m = driver:open("data", "map")
  ok(m:set("romeo", "k", 1))
  local pid = pg.query "SELECT pid FROM pg_stat_activity WHERE application_name = 'couplet' AND query NOT LIKE '%read_only%'"
  pid = pid:match "%d+"
  os.execute("kill -STOP " .. pid)
  local results = {}
  together(2, function(i)
    if i == 1 then
      results[1] = { m:set("romeo", "k", 2) }       -- reaches the backend that stands still
    else
      task.sleep(0.3)
      results[2] = { m:set("romeo", "k", 3) }
    end
  end)
  for i = 1, 2 do equal(results[i][3], "resource-constraint") end
  equal(logged "the work of a broken connection is not over" > 0, true)
  os.execute("kill -CONT " .. pid)
  eventually(function() return m:set("romeo", "k", 4) end)
  task.sleep(0.2)
  equal(m:get("romeo", "k"), 4)
end)

test("wrong password, no such database, wrong encoding: said with advice, and fine once mended", function()
  local function with(more) return { driver = "postgres", conninfo = pg.conninfo(more), name = "x", timeout = 3 * SLOW } end
  pg.query("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0", "postgres")
  local rows = {
    { { password = "guess" }, "refuses the login", "pg_hba" }, { { database = "none" }, "no such database", "createdb" },
    { { database = "latin" }, "not UTF8", "createdb" }, { { port = 1 }, "does not answer", "running" },
    { { username = "nobody" }, "refuses the login", "pg_hba" },
  }
  for _, row in ipairs(rows) do
    lines = {}
    local s = database.driver("h", with(row[1])):open("data")
    local result, message, code = s:get("romeo")
    equal(result, nil)
    ok(code == "internal-server-error" or code == "resource-constraint", code)
    ok(message:find(row[2]), message)
    equal(logged("error store: .*cannot read: .*" .. row[2] .. ".*" .. row[3]) > 0, true)
    database.close()
  end
  ok(not table.concat(lines):find "guess")
  local s = database.driver("h", with { database = "later" }):open("data")
  refused("internal-server-error", "no such database", s:set("romeo", { 1 }))
  pg.query("CREATE DATABASE later TEMPLATE template0", "postgres")
  eventually(function() return s:set("romeo", { 1 }) end)
end)

test("read-only and full: refused, with what fits written; fine again by itself", function()
  local driver = fresh()
  local m, a = driver:open("data", "map"), driver:open("log", "archive")
  ok(m:set("romeo", "k", 1))
  pg.query("ALTER DATABASE couplet SET default_transaction_read_only = on", "postgres")
  pg.query "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'couplet'"
  refused("internal-server-error", "read%-only", m:set("romeo", "k", 2))
  equal(m:get("romeo", "k"), 1)
  equal(logged "error store: .*cannot write: the database is read%-only.*standby", 1)
  pg.query("ALTER DATABASE couplet RESET default_transaction_read_only", "postgres")
  eventually(function() return m:set("romeo", "k", 3) end)

  pg.query [[CREATE FUNCTION couplet.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF length(NEW.value) > 1000 THEN RAISE EXCEPTION 'could not extend file: No space left' USING ERRCODE = '53100'; END IF;
    RETURN NEW; END $$; CREATE TRIGGER full_disk BEFORE INSERT ON couplet.archive FOR EACH ROW EXECUTE FUNCTION couplet.full()]]
  ok(a:append("romeo", nil, "small"))
  local done = {}
  together(60, function(i)
    local fine, _, code = a:append("romeo", nil, i % 5 == 0 and ("x"):rep(2000) or "small" .. i)
    done[i] = fine ~= nil
    if not fine then equal(code, "resource-constraint") end
  end)
  for i = 1, 60 do equal(done[i], i % 5 ~= 0, "item " .. i) end
  equal(logged "error store: .*cannot write: the database server's disk is full.*free space", 1)
  pg.query "DROP TRIGGER full_disk ON couplet.archive; DROP FUNCTION couplet.full"
  ok(a:append("romeo", nil, ("x"):rep(2000)))
end)

test("somebody holds a lock: the write fails after the time-out, reading goes on", function()
  local driver = fresh { timeout = SLOW }
  local m = driver:open("data", "map")
  ok(m:set("romeo", "k", 1))
  background(([[PGPASSWORD="o'Neill \\ 1" psql -X -h %s -p %d -U couplet couplet -c ]]
    .. [["BEGIN; LOCK couplet.keyval IN EXCLUSIVE MODE; SELECT pg_sleep(60)"]]):format(pg.dir, pg.port))
  local held = "SELECT count(*) FROM pg_locks WHERE mode = 'ExclusiveLock' AND relation IS NOT NULL"
  eventually(function() return pg.query(held) ~= "0" end)
  refused("resource-constraint", "took too long", m:set("romeo", "k", 2))
  equal(m:get("romeo", "k"), 1)
  pg.query "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%'"
  eventually(function() return m:set("romeo", "k", 3) end)
  equal(m:get("romeo", "k"), 3)
end)

test("a conflicting write fails alone, single or within a batch; a collision is tried again", function()
  pg.query("CREATE DATABASE alone TEMPLATE template0", "postgres")
  local db = core.store.open { driver = "postgres", place = pg.conninfo { database = "alone" }, schema = { [[
    CREATE TABLE t (a text PRIMARY KEY, b bigint NOT NULL);
    CREATE SEQUENCE tries;
    CREATE FUNCTION collide() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
      IF nextval('tries') < 4 THEN RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001'; END IF;
      RETURN true; END $$]] } }
  local insert = db:statement "INSERT INTO t VALUES (?1, ?2)"
  local batched = db:statement("INSERT INTO t VALUES (?1, ?2) ", "INSERT INTO t SELECT * FROM unnest(?1::text[], ?2::bigint[])")
  local count = db:statement "SELECT count(*) FROM t"
  local colliding = db:statement "INSERT INTO t SELECT ?1, ?2 WHERE collide()"
  local function write(list) return task.await(function(done) db:write(list, done) end) end
  local failed = 0
  together(300, function(i)
    local b = i
    if i % 10 == 0 then b = nil end
    local one, two = insert, batched
    if i % 2 == 0 then one, two = batched, insert end
    local changes, _, code = write { { one, "x" .. i, 1 }, { two, "" .. i, b } }
    if changes then
      equal(changes, 1, "those of the last statement")
    else
      failed = failed + 1
      equal(code, "conflict")
    end
  end)
  equal(failed, 30)
  equal(task.await(function(done) db:read({ { count } }, done) end)[1], 540, "of the failed ones not even the first half")
  failed = 0
  together(300, function(i)
    local changes, _, code = write { { batched, i % 30 == 0 and "x1" or "y" .. i, i } }
    if not changes then
      failed = failed + 1
      equal(code, "conflict")
    end
  end)
  equal(failed, 10)
  refused("internal-server-error", "fit its type", write { { insert, "z", "text" } })
  equal(write { { colliding, "late", 1 } }, 1)
  equal(pg.query("SELECT last_value FROM tries", "alone"), "4")
  db:close()
  check.raises("closed", db.read, db, { { count } }, print)
end)

test("several processes start at once on an empty database; a newer one is refused", function()
  pg.query("CREATE DATABASE new TEMPLATE template0", "postgres")
  local conninfo = pg.conninfo { database = "new" }
  local processes = {}
  for i = 1, 4 do
    processes[i] = io.popen(("%s/bin/lua %s starter '%s' %d 2>&1"):format(os.getenv "COUPLET_BUILD", arg[0],
      (conninfo:gsub("'", "'\\''")), i))
  end
  for i = 1, 4 do
    equal(processes[i]:read "a", "fine")
    processes[i]:close()
  end
  equal(pg.query("SELECT count(*), max(version) FROM couplet.version", "new"), "1|1")
  pg.query("UPDATE couplet.version SET version = 1000", "new")
  local s = database.driver("h", { driver = "postgres", conninfo = conninfo, name = "x", timeout = SLOW }):open("data")
  refused("internal-server-error", "newer version", s:get("user1"))
  pg.query("UPDATE couplet.version SET version = 1", "new")
  eventually(function() return s:get("user1") end)
end)

test("too many waiting writes are refused, not gathered; tables that were dropped are made anew", function()
  local driver = fresh()
  local s = driver:open("data")
  ok(s:set("romeo", { 1 }))
  pg.query "DROP SCHEMA couplet CASCADE"
  eventually(function() return s:set("romeo", { 2 }) end)
  equal(s:get("romeo"), { 2 })
  database.close()
  local db = core.store.open { driver = "postgres", place = pg.conninfo(), schema = { "SELECT 1" }, max_waiting = 10 }
  local sleep = db:statement "SELECT pg_sleep(0.05)::text"
  local fine, no = 0, 0
  together(40, function()
    local changes, _, code = task.await(function(done) db:write({ { sleep } }, done) end)
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
database.close()
pg.close()
check.done()
