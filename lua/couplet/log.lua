-- SPDX-License-Identifier: MIT
-- log: where the lines of couplet.logger go, as the option `log` says (known to plugins as core.loggingmanager).
--
--   log.new(source) -> function(level, fmt, ...)     level: "debug", "info", "warn", "error"; fmt as in util.format
--   log.setup(value, directory, { level =, facility = }?)
--                                    opens what the option `log` describes; closes what was open before. The last: where it does
--                                    not say
--   log.reload_logging()             the same with what the configuration says
--   log.reopen()                     after log rotation
--   log.register_sink_type(name, make)      make(settings) -> fn(source, level, text, time)
--   log.quiet(level?)                only errors (or from level on), to standard error: tools
--
-- A line never contains control characters of whoever caused it, nor what turns the direction of writing round (couplet.plain;
-- util.format does the same to each argument). A new line that is left, ours then, goes on indented.

local core = require "couplet.core"
local logger = require "couplet.logger"
local unseen = require "couplet.plain".unseen
local system = core.system

local log = { new = logger.init }

local order = { "debug", "info", "warn", "error" }
local rank = { debug = 1, info = 2, warn = 3, error = 4 }
local sinks = {}                        -- what setup() opened: { fn =, levels =, close =, reopen = }
local types = {}
local directory = "."
local defaults = {}

-- --- text ---

local function escape(c)
  if c == "\n" then return "\n    " end
  if c == "\t" then return c end
  return ("\\%03d"):format(c:byte())
end

local function clean(text)
  if #text <= 16384 and not text:find "[^\32-\126]" then return text end
  if text:find("[%c\x7f]") then text = text:gsub("[%c\x7f]", escape) end
  text = unseen(text)
  if #text > 16384 then text = text:sub(1, 16384) .. "..." end
  return text
end
log.clean = clean

local stamped, stamp = -1, ""
local function timestamp(pattern, now)
  if pattern then return os.date(pattern, now) end
  if now ~= stamped then stamped, stamp = now, os.date("%Y-%m-%d %H:%M:%S", now) end
  return stamp
end

-- --- sinks ---

-- levels: { "warn", "error" }, { min = "info", max = "warn" }, or one level: it and everything above
local function level_set(levels)
  local set = {}
  if type(levels) == "string" then levels = { min = levels } end
  levels = levels or { min = "info" }
  for _, level in ipairs(levels) do if rank[level] then set[level] = true end end
  if levels.min or levels.max then
    local min, max = rank[levels.min] or 1, rank[levels.max] or 4
    for i, level in ipairs(order) do if i >= min and i <= max then set[level] = true end end
  elseif #levels == 0 then
    for _, level in ipairs(order) do set[level] = true end
  end
  return set
end

local colours = { debug = "\27[2m", info = "", warn = "\27[33m", error = "\27[1;31m" }
local priority = { debug = "<7>", info = "<6>", warn = "<4>", error = "<3>" }

local function to_console(settings)
  local out = settings.stdout and io.stdout or io.stderr
  local journal = os.getenv("JOURNAL_STREAM") ~= nil
  local tty = not journal and not os.getenv("NO_COLOR") and system.isatty(settings.stdout and 1 or 2)
  local stamps = settings.timestamps
  if stamps == nil then stamps = not journal end
  local pattern = type(stamps) == "string" and stamps
  return function(source, level, text, now)
    if journal then text = text:gsub("\n", "\n" .. priority[level]) end
    out:write(journal and priority[level] or "", stamps and timestamp(pattern, now) .. " " or "", tty and colours[level] or "",
      level, tty and colours[level] ~= "" and "\27[0m" or "", " ", source, ": ", text, "\n")
    out:flush()
  end
end

local function to_file(settings)
  local path = settings.filename
  if type(path) ~= "string" then error("a log file needs filename = \"…\"", 0) end
  if path:sub(1, 1) ~= "/" then path = directory .. "/" .. path end
  local stamps = settings.timestamps
  local pattern = type(stamps) == "string" and stamps
  local file
  local function open()
    local new, err = io.open(path, "a")
    if not new then return nil, err end
    if file then file:close() end
    file = new
    file:setvbuf("line")
    return true
  end
  local ok, err = open()
  if not ok then error("cannot open log file " .. tostring(err), 0) end
  return function(source, level, text, now)
    file:write(stamps == false and "" or timestamp(pattern, now) .. " ", level, " ", source, ": ", text, "\n")
  end, open, function() file:close() end
end

local function to_syslog(settings)
  local name = settings.syslog_name or settings.name or "couplet"
  system.syslog_open(name, settings.syslog_facility or settings.facility or defaults.facility or "daemon")
  return function(source, level, text)
    system.syslog(level, source .. ": " .. text)
  end, nil, system.syslog_close
end

types.console, types.stdout = to_console, function(s) s.stdout = true return to_console(s) end
types.file, types.syslog = to_file, to_syslog

function log.register_sink_type(name, make)
  types[name] = make
end

local function make(settings)
  local maker = types[settings.to]
  if not maker then error(("log: unknown kind of sink %q"):format(tostring(settings.to)), 0) end
  local write, reopen, close = maker(settings)
  local levels, list = level_set(settings.levels), {}
  for _, level in ipairs(order) do if levels[level] then list[#list + 1] = level end end
  local function fn(source, level, text) write(clean(source), level, clean(text), os.time()) end
  return { fn = fn, reopen = reopen, close = close, levels = list, to = settings.to }
end

local function replace(new)
  for _, sink in ipairs(sinks) do
    logger.remove_sink(sink.fn)
    if sink.close then pcall(sink.close) end
  end
  sinks = new
  for _, sink in ipairs(sinks) do logger.add_simple_sink(sink.fn, sink.levels) end
  for _, level in ipairs(order) do
    if logger.wanted(level) then core.log.level(level) return end
  end
  core.log.level("error")
end

local function by_name(name, levels)
  local kind = name:match("^%*(.+)$")
  return kind and { to = kind, levels = levels } or { to = "file", filename = name, levels = levels }
end

-- The forms of the option, all turned into { to =, levels =, … }.
local function read(value)
  local list = {}
  if type(value) == "string" then return { by_name(value) } end
  if type(value) ~= "table" then return { { to = "console" } } end
  local keys = {}
  for k in pairs(value) do keys[#keys + 1] = k end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for _, k in ipairs(keys) do
    local v = value[k]
    if type(v) == "string" then
      list[#list + 1] = by_name(v, type(k) == "string" and { min = k } or nil)
    elseif type(v) == "table" then
      local settings = {}
      for name, x in pairs(v) do settings[name] = x end
      if type(k) == "string" then settings.levels = settings.levels or { min = k } end
      settings.to = settings.to or settings.filename and "file" or "console"
      list[#list + 1] = settings
    end
  end
  return list
end

-- What cannot be opened is reported through what can; with nothing left, lines go to standard error.
function log.setup(value, base, wanted)
  directory, defaults = base or ".", wanted or {}
  local new, problems = {}, {}
  for _, settings in ipairs(read(value)) do
    if settings.levels == nil then settings.levels = { min = defaults.level or "info" } end
    local ok, sink = pcall(make, settings)
    if ok then new[#new + 1] = sink else problems[#problems + 1] = tostring(sink) end
  end
  if #problems > 0 then new[#new + 1] = make { to = "console", levels = { min = "info" } } end
  replace(new)
  core.log.sink(function(level, source, text) logger.write(source, level, "%s", text) end)
  local complain = log.new("log")
  for _, text in ipairs(problems) do complain("error", "%s; writing to standard error instead", text) end
end

function log.reopen()
  for _, sink in ipairs(sinks) do
    if sink.reopen then
      local ok, err = sink.reopen()
      if not ok then log.new("log")("error", "cannot reopen log file: %s", err) end
    end
  end
end

function log.quiet(level)
  replace { make { to = "console", levels = { min = level or "error" }, timestamps = false } }
end

-- Does anybody at the terminal see errors?
function log.on_console()
  for _, sink in ipairs(sinks) do if sink.to == "console" then return true end end
  return #sinks == 0
end

function log.reload_logging()
  local config = require "couplet.config"
  log.setup(config.get("*", "log"), config.directory(), { level = config.get("*", "debug") == true and "debug" or nil,
    facility = config.get("*", "syslog_facility") })
end

return log
