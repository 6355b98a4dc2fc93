-- SPDX-License-Identifier: MIT
-- features.lua: what this server can do, for plugins that ask before they load (core.features).

local set = require "couplet.util.set"

return {
  available = set.new {
    "mod_bookmarks",          -- built-in plugins that exist elsewhere as community ones
    "mod_server_info",
    "mod_flags",
    "mod_cloud_notify",
    "mod_muc",
    "mod_http",
    "permissions",            -- module:may() and module:could()
    "split-c2s-session",      -- resource binding and authentication are separate
    "keyval+",
    "multiple-adhoc-forms",
    "http-server",
    "cron",
    "couplet",
  },
}
