-- SPDX-License-Identifier: MIT
-- logger.lua: named log functions and the sinks they feed (util.logger). couplet.log adds the sinks of the configuration.
--
--   logger.init(name) -> log(level, fmt, ...)        levels debug info warn error; never raises
--   logger.add_sink(fn(name, level, fmt, ...), levels?)          gets format and arguments
--   logger.add_simple_sink(fn(name, level, text), levels?)       gets the finished line
--   logger.remove_sink(fn) -> bool
--   logger.reset()                  no sinks
--   logger.wanted(level) -> bool    is anybody listening?
--
-- Before the first sink is added, warnings and errors go to standard error.

local format = require "couplet.util.format".format

local logger = { levels = { "debug", "info", "warn", "error" } }
local sinks = { debug = {}, info = {}, warn = {}, error = {} }
local any = false

local function early(name, level, fmt, ...)
  if level == "warn" or level == "error" then
    io.stderr:write(level, " ", name, ": ", format(fmt, ...), "\n")
  end
end

local busy = 0

local function write(name, level, fmt, ...)
  if not any then return early(name, level, fmt, ...) end
  local list = sinks[level] or sinks.info
  if not list[1] or busy > 3 then return end       -- a sink that logs does not go round for ever
  busy = busy + 1
  for i = 1, #list do
    local ok, err = pcall(list[i].fn, name, level, fmt, ...)
    if not ok then io.stderr:write("error logger: a log sink failed: ", tostring(err), "\n") end
  end
  busy = busy - 1
end
logger.write = write

function logger.init(name)
  name = tostring(name)
  return function(level, fmt, ...)
    if any then
      local list = sinks[level]
      if list and not list[1] then return end
    end
    return write(name, level, fmt, ...)
  end
end

function logger.make_logger(name, level)
  local log = logger.init(name)
  return function(fmt, ...) return log(level, fmt, ...) end
end

function logger.wanted(level)
  return not any or sinks[level] ~= nil and sinks[level][1] ~= nil
end

local function add(fn, key, levels)
  any = true
  for _, level in ipairs(levels or logger.levels) do
    local list = { table.unpack(sinks[level]) }      -- a copy: sinks may come and go while one runs
    list[#list + 1] = { fn = fn, key = key }
    sinks[level] = list
  end
  return key
end

function logger.add_sink(fn, levels)
  return add(fn, fn, levels)
end

function logger.add_simple_sink(fn, levels)
  return add(function(name, level, fmt, ...) return fn(name, level, format(fmt, ...)) end, fn, levels)
end

function logger.add_level_sink(level, fn)
  return add(fn, fn, { level })
end

function logger.remove_sink(fn)
  local found = false
  for level, list in pairs(sinks) do
    local rest = {}
    for _, sink in ipairs(list) do
      if sink.key == fn then found = true else rest[#rest + 1] = sink end
    end
    sinks[level] = rest
  end
  return found
end

function logger.reset()
  any = false
  for level in pairs(sinks) do sinks[level] = {} end
end

return logger
