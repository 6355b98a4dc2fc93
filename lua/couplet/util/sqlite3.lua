-- SPDX-License-Identifier: MIT
-- util.sqlite3: a name; databases are reached through util.sql.

return setmetatable({}, { __index = function(_, key)
  error("util.sqlite3." .. tostring(key) .. ": use util.sql (create_engine) or module:open_store", 2)
end })
