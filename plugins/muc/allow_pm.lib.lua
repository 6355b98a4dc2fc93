-- SPDX-License-Identifier: MIT
-- muc/allow_pm: get(room), set(room, value), for plugins.

return module:require "muc/config".field "allow_pm"
