-- SPDX-License-Identifier: MIT
-- mod_storage_internal: the storage used unless the configuration says otherwise: the SQLite file couplet.sqlite in the
-- data directory.

local config = require "couplet.config"
local database = require "couplet.storage.database"

module:config {
  sqlite_synchronous = { type = "enum", enum = { "full", "extra", "normal", "off" }, default = "full",
    doc = "full: what was acknowledged survives a power failure. normal: a power failure may lose the last seconds, a crash of "
      .. "the server nothing; many times faster on slow disks. off: may damage the file" },
  sqlite_busy_timeout = { type = "period", default = 5, doc = "how long another process may hold the database" },
}

module:provides("storage", database.driver(module.host, {
  driver = "sqlite", file = config.data_path() .. "/couplet.sqlite", synchronous = module.config.sqlite_synchronous,
  busy_timeout = module.config.sqlite_busy_timeout,
}))
