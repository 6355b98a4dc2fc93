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

database.close()
pg.close()
check.done()
