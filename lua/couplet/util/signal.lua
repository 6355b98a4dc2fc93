-- SPDX-License-Identifier: MIT
-- util.signal: signal(name|number, fn|nil), raise(signal), kill(pid, signal). SIGTERM and SIGINT stay the server's: hook the
-- event server-stopping instead.

local core = require "couplet.core"
local task = require "couplet.task"

local signal = {}
local numbers = { SIGHUP = 1, SIGINT = 2, SIGQUIT = 3, SIGKILL = 9, SIGUSR1 = 10, SIGUSR2 = 12, SIGTERM = 15, SIGCHLD = 17,
  SIGCONT = 18 }
for name, number in pairs(numbers) do signal[name] = number end
local watchers = {}

local function name_of(which)
  if numbers[which] then return which end
  for name, number in pairs(numbers) do
    if number == which or name == "SIG" .. tostring(which) then return name end
  end
end

function signal.signal(which, fn)
  local name = name_of(which)
  if not name then return nil, "unknown signal" end
  if name == "SIGTERM" or name == "SIGINT" or name == "SIGKILL" then return nil, name .. " belongs to the server" end
  if watchers[name] then watchers[name]:stop() end
  watchers[name] = fn and core.loop.signal(name, function()
    task.spawn(fn, name)
  end) or nil
  return true
end

signal.raise, signal.kill = core.system.raise, core.system.kill

return signal
