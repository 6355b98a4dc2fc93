-- SPDX-License-Identifier: MIT
-- debug.lua: tracebacks.
--
--   traceback(...)  as debug.traceback;  get_traceback_table(thread?, start?) -> array of { level, info, locals }
--   get_locals_table(thread?, level)

local M = {}

M.traceback = debug.traceback
M.use = function() end

function M.get_locals_table(thread, level)
  local out = {}
  for i = 1, 100 do
    local name, value
    if thread then name, value = debug.getlocal(thread, level, i) else name, value = debug.getlocal(level + 1, i) end
    if not name then break end
    out[i] = { name = name, value = value }
  end
  return out
end

function M.get_traceback_table(thread, start)
  local out = {}
  for level = start or (thread and 0 or 1), 200 do
    local info
    if thread then info = debug.getinfo(thread, level) else info = debug.getinfo(level + 1) end
    if not info then break end
    out[#out + 1] = { level = level, info = info, locals = M.get_locals_table(thread, level + (thread and 0 or 1)) }
  end
  return out
end

return M
