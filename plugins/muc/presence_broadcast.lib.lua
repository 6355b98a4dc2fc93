-- SPDX-License-Identifier: MIT
-- muc/presence_broadcast: get(room), set(room, value), for plugins.

return module:require "muc/config".field "presence_broadcast"
