-- SPDX-License-Identifier: MIT
-- gc.lua: settings of the collector. configure{ mode = "incremental", threshold = %, speed = % } -> bool

local function configure(user)
  if user.mode == "generational" then
    collectgarbage("generational", user.minor_threshold or 20, user.major_threshold or 50)
  elseif user.mode == nil or user.mode == "incremental" then
    collectgarbage("incremental", user.threshold or 105, user.speed or 500, user.step_size or 13)
  else
    return false
  end
  return true
end

return { configure = configure, set = {} }
