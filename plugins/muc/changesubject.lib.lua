-- SPDX-License-Identifier: MIT
-- muc/changesubject: get(room), set(room, value), for plugins.

return module:require "muc/config".field "changesubject"
