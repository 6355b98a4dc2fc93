-- SPDX-License-Identifier: MIT
-- The PostgreSQL driver, against a server of the test's own: what every driver must do.

local check = require "check"
local database = require "couplet.storage.database"

local pg = require "postgres".new()
local options = pg.options()

require "lua.store_conformance"("postgres", database.driver("pg.example", options), database.driver("other.example", options))

require "lua.store_archive"("postgres", options)

check.test("postgres: data outlive the process's connections", function()
  local store = database.driver("keep.example", options):open("keep")
  store:set("romeo", { 1 })
  database.close()
  check.equal(store:get("romeo"), { 1 })
end)

check.test("postgres: a page costs the same however big the archives of others are, and one's own", function()
  local a = database.driver("pages.example", options):open("archive", "archive")
  for _, user in ipairs { "few", "many" } do
    for i = 1, 3 do check.ok(a:append(user, nil, "text", nil, "peer" .. i)) end
  end
  pg.query [[INSERT INTO couplet.archive (owner, id, peer, type, value)
    SELECT owner, (i::bigint << 20) + 1, peer, type, value FROM generate_series(1, 30000) i,
      (SELECT * FROM couplet.archive WHERE owner = (SELECT id FROM couplet.owner WHERE "user" = 'many') LIMIT 1) a]]
  local function rows_read()
    database.close()                         -- a session's reading is counted when it ends, at the latest
    while pg.query "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'couplet'" ~= "0" do end
    return tonumber(pg.query [[SELECT (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relid = 'couplet.archive'::regclass)
      + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relid = 'couplet.archive'::regclass)]])
  end
  for _, statistics in ipairs { "SELECT 1", "ANALYZE" } do
    pg.query(statistics)
    local before = rows_read()
    local b = database.driver("pages.example", options):open("archive", "archive")
    for i, row in ipairs {
      { { limit = 50 }, "few", 3 }, { { limit = 50, reverse = true }, "few", 3 }, { { limit = 50, start = 20 }, "few", 3 },
      { { limit = 50 }, "many", 50 }, { { limit = 50, reverse = true }, "many", 50 }, { { limit = 50, start = 20 }, "many", 50 },
      { { limit = 50, after = ("%016x"):format((15000 << 20) + 1) }, "many", 50 }, { { limit = 50, with = "peer3" }, "many", 1 },
      { { limit = 100, reverse = true }, "many", 100 },
      { { ids = { ("%016x"):format((15000 << 20) + 1), ("%016x"):format((20 << 20) + 1), "none" } }, "many", 2 },
    } do
      local n = 0
      for _ in b:find(row[2], row[1]) do n = n + 1 end
      check.equal(n, row[3], "row " .. i)
    end
    local rows = rows_read() - before
    check.ok(rows < 1000, ("%s: %d rows read"):format(statistics, rows))
  end
end)

database.close()
pg.close()
check.done()
