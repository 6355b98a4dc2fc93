-- SPDX-License-Identifier: MIT
-- muc/history: get(room), set(room, value), for plugins.

return module:require "muc/config".field "historylength"
