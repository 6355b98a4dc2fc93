-- SPDX-License-Identifier: MIT
-- helpers.lua: looking at events and upvalues while searching for a fault.
--
--   log_events(bus, name, logger?)  revert_log_events(bus)  log_host_events(host)  show_events(bus) -> text
--   get_upvalue(fn, name)

local logger = require "couplet.logger"

local helpers = {}
local old = setmetatable({}, { __mode = "k" })

local function describe(data)
  if type(data) ~= "table" then return tostring(data) end
  local out = {}
  for k, v in pairs(data) do out[#out + 1] = tostring(k) .. "=" .. tostring(v):sub(1, 200) end
  table.sort(out)
  return "{ " .. table.concat(out, ", ") .. " }"
end

function helpers.log_events(bus, name, log)
  log = log or logger.init(name)
  if old[bus] then return bus end
  local function wrapper(next, event, data)
    log("debug", "fired %s %s", event, describe(data))
    return next(event, data)
  end
  old[bus] = wrapper
  bus.add_wrapper(false, wrapper)
  return bus
end

function helpers.revert_log_events(bus)
  if old[bus] then bus.remove_wrapper(false, old[bus]) end
  old[bus] = nil
end

function helpers.log_host_events(host)
  return helpers.log_events(require "couplet.prosody".hosts[host].events, host)
end

function helpers.revert_log_host_events(host)
  return helpers.revert_log_events(require "couplet.prosody".hosts[host].events)
end

function helpers.show_events(bus, specific)
  local lines = {}
  for event, list in bus.names() do
    if not specific or event == specific then
      lines[#lines + 1] = event
      for _, entry in ipairs(list.entries) do
        local info = debug.getinfo(entry.fn, "S")
        lines[#lines + 1] = ("  %s: %s (%s:%d)"):format(entry.priority, entry.owner and tostring(entry.owner) or "server",
          info.short_src, info.linedefined)
      end
    end
  end
  return table.concat(lines, "\n")
end

function helpers.get_upvalue(fn, want)
  for i = 1, 255 do
    local name, value = debug.getupvalue(fn, i)
    if not name then return nil end
    if name == want then return value end
  end
end

return helpers
