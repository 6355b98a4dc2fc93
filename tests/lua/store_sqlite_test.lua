-- SPDX-License-Identifier: MIT
-- The SQLite driver: what every driver must do. Its own troubles: store_trouble_test.lua.

local check = require "check"
local database = require "couplet.storage.database"

local dir = os.tmpname()
os.remove(dir)
assert(os.execute("mkdir -m 700 " .. dir))

local options = { driver = "sqlite", file = dir .. "/couplet.sqlite", synchronous = "off" }
require "lua.store_conformance"("sqlite", database.driver("sqlite.example", options), database.driver("other.example", options))

check.test("sqlite: data outlive the process's connections", function()
  local store = database.driver("keep.example", options):open("keep")
  store:set("romeo", { 1 })
  database.close()
  check.equal(store:get("romeo"), { 1 })
end)

check.test("sqlite: the file is for the server's user only", function()
  check.ok(os.execute("test \"$(stat -c %a " .. options.file .. ")\" = 600"))
end)

database.close()
os.execute("rm -r " .. dir)
check.done()
