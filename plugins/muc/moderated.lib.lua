-- SPDX-License-Identifier: MIT
-- muc/moderated: get(room), set(room, value), for plugins.

return module:require "muc/config".field "moderated"
