-- SPDX-License-Identifier: MIT
-- mod_storage_sql: storage in the database the option `sql` names: { driver = "SQLite3", database = "file" }. A file without
-- directory is in the data directory. Our tables have names of their own, so they may share a file with another server's.

local config = require "couplet.config"
local database = require "couplet.storage.database"

module:config {
  sql = { type = "table", doc = "{ driver = \"SQLite3\", database = \"couplet.sqlite\" }" },
  sqlite_synchronous = { type = "enum", enum = { "full", "extra", "normal", "off" }, default = "full",
    doc = "as for storage internal" },
  sqlite_busy_timeout = { type = "period", default = 5, doc = "how long another process may hold the database" },
}

local params = module.config.sql or { driver = "SQLite3" }
if params.driver ~= "SQLite3" then
  error(("sql: there is no driver %s; this version has SQLite3"):format(tostring(params.driver)), 0)
end

local file = params.database or "couplet.sqlite"
if not file:find "^/" then file = config.data_path() .. "/" .. file end

module:provides("storage", database.driver(module.host, {
  driver = "sqlite", file = file, synchronous = module.config.sqlite_synchronous,
  busy_timeout = module.config.sqlite_busy_timeout,
}))
