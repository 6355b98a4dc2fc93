-- SPDX-License-Identifier: MIT
-- mod_storage_sql: storage in the database the option `sql` names: { driver = "SQLite3", database = "file" } (a file without
-- directory is in the data directory) or { driver = "PostgreSQL", database =, username =, password =, host =, port = }.
-- Our tables have names, or in PostgreSQL a schema, of their own, so they may share a database with another server's.

local config = require "couplet.config"
local option = require "couplet.storage.option"
local database = require "couplet.storage.database"

module:config {
  sql = { type = "table", doc = "{ driver = \"SQLite3\", database = \"couplet.sqlite\" } or "
    .. "{ driver = \"PostgreSQL\", database =, username =, password =, host =, port = } with "
    .. "further connection parameters of libpq (sslmode, …)" },
  sqlite_synchronous = { type = "enum", enum = { "full", "extra", "normal", "off" }, default = "full",
    doc = "as for storage internal" },
  sqlite_busy_timeout = { type = "period", default = 5, doc = "how long another process may hold the database" },
  sql_timeout = { type = "period", default = 10, min = 1, max = 600,
    doc = "PostgreSQL: how long a statement may take, and for how long a server that is away is waited for" },
}

local options, problem = option.read(module.config.sql, {
  data_path = config.data_path(), synchronous = module.config.sqlite_synchronous,
  busy_timeout = module.config.sqlite_busy_timeout, timeout = module.config.sql_timeout,
})
if not options then
  local place = config.place(config.rawget(module.host, "sql") and module.host or "*", "sql")
  error((place and place .. ": " or "") .. problem, 0)
end

module:provides("storage", database.driver(module.host, options))
