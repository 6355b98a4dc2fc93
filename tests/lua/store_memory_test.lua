-- SPDX-License-Identifier: MIT
-- The memory driver.

local memory = require "couplet.storage.memory"

require "lua.store_conformance"("memory", memory.driver("memory.example"), memory.driver("other.example"))

require "check".done()
