-- SPDX-License-Identifier: MIT
-- muc/persistent: get(room), set(room, value), for plugins.

return module:require "muc/config".field "persistent"
