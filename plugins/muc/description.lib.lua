-- SPDX-License-Identifier: MIT
-- muc/description: get(room), set(room, value), for plugins.

return module:require "muc/config".field "description"
