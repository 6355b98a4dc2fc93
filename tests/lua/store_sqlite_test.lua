-- SPDX-License-Identifier: MIT
-- The SQLite driver: what every driver must do. Its own troubles: store_trouble_test.lua.

local check = require "check"
local database = require "couplet.storage.database"
local system = require "couplet.core".system
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

database.close()
temp.remove(dir)
check.done()
