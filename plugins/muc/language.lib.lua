-- SPDX-License-Identifier: MIT
-- muc/language: get(room), set(room, value), for plugins.

return module:require "muc/config".field "language"
