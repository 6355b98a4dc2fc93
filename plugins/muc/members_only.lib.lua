-- SPDX-License-Identifier: MIT
-- muc/members_only: get(room), set(room, value), for plugins.

return module:require "muc/config".field "members_only"
