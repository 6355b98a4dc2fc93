-- SPDX-License-Identifier: MIT
-- muc/password: get(room), set(room, value), for plugins.

return module:require "muc/config".field "password"
