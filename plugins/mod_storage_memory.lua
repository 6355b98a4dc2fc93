-- SPDX-License-Identifier: MIT
-- mod_storage_memory: keeps everything in memory; gone when the server stops.

module:provides("storage", require "couplet.storage.memory".driver(module.host))
