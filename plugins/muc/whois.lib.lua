-- SPDX-License-Identifier: MIT
-- muc/whois: get(room), set(room, value), for plugins.

return module:require "muc/config".field "whois"
