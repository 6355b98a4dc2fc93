-- SPDX-License-Identifier: MIT
-- muc/hidden: get(room), set(room, value), for plugins.

return module:require "muc/config".field "hidden"
