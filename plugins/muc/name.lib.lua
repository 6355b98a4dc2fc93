-- SPDX-License-Identifier: MIT
-- muc/name: get(room), set(room, value), for plugins.

return module:require "muc/config".field "name"
