-- SPDX-License-Identifier: MIT
-- init: start, reload, stop.
--
--   init.start{ config = path, root = bool } -> exit code       the server; returns when it has stopped
--   init.load(path) -> true | nil, message                      the configuration and the `prosody` table, no more: tools
--   init.find_config(path?) -> path | nil, message
--   init.reload() -> true | nil, message                        = prosody.reload_config()
--   init.stop(reason?, code?)                                   = prosody.shutdown()

local collector = require "couplet.collector"
local core = require "couplet.core"
local config = require "couplet.config"
local logging = require "couplet.log"
local prosody = require "couplet.prosody"
local log = logging.new "couplet"
local loop, system = core.loop, core.system

local init = {}

local STOP_SECONDS = 9                  -- after a signal the process ends by itself, whatever happens
local POLITE_SECONDS = 4                -- what handlers of server-stopping get
local FLUSH_SECONDS = 2                 -- what connections get for their last bytes

-- --- where the configuration is ---

function init.find_config(path)
  path = path or os.getenv("COUPLET_CONFIG")
  if path then
    if not system.stat(path) then return nil, path .. ": no such file" end
    return path
  end
  for _, try in ipairs { "/etc/couplet/config.lua", "config.lua" } do
    if system.stat(try) then return try end
  end
  return nil, "no configuration: give --config FILE, or make /etc/couplet/config.lua"
end

local function plugin_directory()
  local from = os.getenv("COUPLET_PLUGINS")
  if from then return from end
  local here = debug.getinfo(1, "S").source:match("^@(.*)/[^/]*$") or "."
  for _, try in ipairs { here .. "/plugins", here .. "/../../plugins" } do
    if system.stat(try) then return system.realpath(try) end
  end
  return here .. "/plugins"
end

-- -> true | nil, message, what the broken file said so far
function init.load(path)
  local ok, err, part = config.load(path)
  if not ok then return nil, err, part end
  prosody.config_file = config.file()
  prosody.version = core.version
  local plugins = plugin_directory()
  prosody.paths = {
    source = plugins:gsub("/[^/]*$", ""), config = config.directory(), plugins = plugins, data = config.data_path(),
    certs = require "couplet.certs".directory(),
    installer = config.path(config.get("*", "installer_plugin_path") or "custom_plugins",
      config.data_path()),
  }
  return true
end

-- Having become that user: are our own files still in reach? -> true | nil, text
function init.may_read(user)
  if system.access(prosody.paths.plugins, "rx") then return true end
  return nil, ("user %s cannot read Couplet's files in %s: let others enter the directories above it, or install Couplet"):format(
    user, prosody.paths.source)
end

-- Names plugins know.
function init.libraries()
  require "couplet.alias".install()
end

-- --- the process ---

local function fail(fmt, ...)
  error({ start = fmt:format(...) }, 0)
end

local function placed(key)
  local place = config.place("*", key)
  return place and (" (%s, %s)"):format(key, place) or ""
end

local function drop_root(opts)
  if system.uid() ~= 0 then return end
  local user, group, key
  for _, k in ipairs { "user", "couplet_user", "prosody_user" } do
    if config.get("*", k) then user, key = config.get("*", k), k break end
  end
  for _, k in ipairs { "group", "couplet_group", "prosody_group" } do group = group or config.get("*", k) end
  if not user and not opts.root and not config.get("*", "run_as_root") then          -- whose data it is
    local stat = system.stat(config.data_path())
    local owner = stat and stat.uid ~= 0 and system.user(stat.uid)
    if owner then
      user, key = owner.name, "data_path"
      log("info", "giving root up: becoming %s, who owns %s", user, config.data_path())
    end
  end
  if user and user ~= "root" then
    local who = system.user(user)
    if not who then fail("no such user: %s%s", user, placed(key)) end
    local data = config.data_path()
    if not system.stat(data) and system.mkdir(data, 0x1e8) then system.chown(data, who.uid, who.gid) end
    local ok, err = system.become(user, group)
    if not ok then fail("cannot become %s: %s%s", user, err, placed(key)) end
    ok, err = init.may_read(user)
    if not ok then fail("%s", err) end
    system.environment("HOME", who.home)
    system.environment("USER", who.name)
    return
  end
  if opts.root or config.get("*", "run_as_root") then
    log("warn", "running as root; set user = \"couplet\" to give that up after start")
    return
  end
  fail("Couplet does not run as root by accident: set user = \"couplet\" (it gives root up at start), or run_as_root = true")
end

local function limits()
  local mask = config.get("*", "umask")
  mask = tonumber(type(mask) == "number" and ("%d"):format(mask) or mask or "027", 8)
  if not mask then fail("umask is an octal number in quotes, like \"027\"%s", placed("umask")) end
  system.umask(mask)
  local _, hard = system.rlimit("NOFILE")
  if hard then system.rlimit("NOFILE", hard, hard) end
end

local function writable(path, key)
  local stat = system.stat(path)
  if not stat then
    local parent = path:match("^(.*)/[^/]*$")
    if parent ~= "" and not system.stat(parent) then system.mkdir(parent, 0x1e8) end
    local ok, err = system.mkdir(path, 0x1e8)
    if not ok then
      fail("cannot make the data directory: %s%s. Make it and give it to this user (%s), or set data_path", err, placed(key),
        (system.user(system.uid()) or {}).name or system.uid())
    end
  elseif stat.type ~= "directory" then
    fail("%s is no directory%s. Set data_path to one", path, placed(key))
  elseif not system.access(path, "rwx") then
    fail("cannot write to the data directory %s%s. Give it to this user (chown -R %s %s), or set data_path", path, placed(key),
      (system.user(system.uid()) or {}).name or system.uid(), path)
  end
end

-- Their locks are held as long as there is anything to do. They go before the process: `coupletctl stop` sees its connection
-- end with that, in an order of the kernel's choice, and whoever starts the next server then must not find them.
local locks = {}

local function pidfiles()
  local data = config.data_path()
  local fd, err = system.pidfile(data .. "/couplet.pid")
  if not fd then fail("another Couplet uses this data directory: %s", err) end
  locks[1] = fd
  local path = config.get("*", "pidfile")
  if type(path) == "string" then
    path = config.path(path, data)
    fd, err = system.pidfile(path)
    if fd then
      prosody.pidfile, locks[2] = path, fd
    else
      log("warn", "no pid file: %s%s", err, placed("pidfile"))
    end
  end
end

-- --- signals and the service manager ---

local function seconds_between_signs()
  local usec, pid = tonumber(os.getenv("WATCHDOG_USEC")), tonumber(os.getenv("WATCHDOG_PID"))
  if usec and usec > 0 and (not pid or pid == system.pid()) then return usec / 1e6 / 2 end
end

local watchers = {}                     -- referenced, so that they live as long as the process

local function signals()
  local task = require "couplet.task"
  local fd, err = system.on_stop(STOP_SECONDS)
  if not fd then fail("cannot watch signals: %s", err) end
  watchers[#watchers + 1] = loop.watch(fd, "r", function()
    local name = system.stop_signal()
    init.stop("Received " .. (name or "a signal"), 0)
  end)
  watchers[#watchers + 1] = loop.signal("SIGHUP", function()
    task.spawn(function()
      log("info", "SIGHUP: reading the configuration, opening log files anew")
      init.reload()
      prosody.reopen_logfiles()
    end)
  end)
  for _, name in ipairs { "SIGUSR1", "SIGUSR2" } do
    watchers[#watchers + 1] = loop.signal(name, function()
      task.spawn(function() prosody.events.fire_event("signal/" .. name, { signal = name }) end)
    end)
  end
  local every = seconds_between_signs()
  if every then
    watchers[#watchers + 1] = loop.timer(every, function()
      system.notify("WATCHDOG=1")
      return every
    end)
  end
end

-- --- reload ---

local function equal(a, b)
  if a == b then return true end
  if type(a) ~= "table" or type(b) ~= "table" then return false end
  for k, v in next, a do if not equal(v, rawget(b, k)) then return false end end
  for k in next, b do if rawget(a, k) == nil then return false end end
  return true
end

-- host -> set of options that are not what they were
local function differences(old, new)
  local changed = {}
  local function section(name)
    local a, b = old[name] or {}, new[name] or {}
    for _, pair in ipairs { { a, b }, { b, a } } do
      for k in next, pair[1] do
        if not equal(rawget(a, k), rawget(b, k)) then
          changed[name] = changed[name] or {}
          changed[name][k] = true
        end
      end
    end
  end
  for name in pairs(old) do section(name) end
  for name in pairs(new) do section(name) end
  return changed
end

local reloading = false

function init.reload()
  if reloading then return nil, "a reload is under way" end
  local old = config.current()
  local new, err = config.parse(old.file)
  if not new then
    log("error", "the configuration stays as it was: %s", err)
    return nil, err
  end
  reloading = true
  -- our clock counts in ms, cut off
  system.notify(("RELOADING=1\nMONOTONIC_USEC=%d"):format(math.floor(loop.mono() * 1e6) + 1000))
  local ok, problem = xpcall(function()
    prosody.events.fire_event("reloading-config")
    config.use(new)
    for _, text in ipairs(config.warnings()) do log("warn", "%s", text) end
    local changed = differences(old.options, new.options)
    local global = changed["*"]
    if global and (global.log or global.debug or global.syslog_facility) then
      logging.reload_logging()
      prosody.events.fire_event("logging-reloaded")
    end
    if changed["*"] and changed["*"].gc then collector.setup(config.get("*", "gc")) end
    require "couplet.hosts".reconcile()
    require "couplet.plugin".reconcile()
    local certs = require "couplet.certs"
    certs.reload()
    certs.warn()
    require "couplet.ports".reconcile()
    prosody.events.fire_event("config-reloaded", { changed = changed })
  end, debug.traceback)
  reloading = false
  system.notify("READY=1")
  if not ok then
    log("error", "reload: %s", problem)
    return nil, tostring(problem):match("^[^\n]*")
  end
  log("info", "configuration read anew: %s", new.file)
  return true
end

-- --- stopping ---

local stopping = false
local stopped_with = 0

-- Runs fn as a task; goes on when it has ended or its time is over.
local function within(seconds, fn)
  local task = require "couplet.task"
  task.await(function(done)
    local over = false
    local function once()
      if not over then
        over = true
        done()
      end
    end
    local timer = loop.timer(seconds, once)
    task.spawn(function()
      local ok, err = xpcall(fn, debug.traceback)
      if not ok then log("error", "while stopping: %s", err) end
      timer:stop()
      once()
    end)
  end)
end

local function close_sessions(reason)
  local list = {}
  for _, session in pairs(require "couplet.directory".full_sessions) do list[#list + 1] = session end
  for _, session in ipairs(list) do
    if not session.destroyed and session.close then
      pcall(session.close, session, { condition = "system-shutdown", text = reason })
    end
  end
end

local function connections()
  local stats = core.net.stats and core.net.stats()
  return stats and (stats.connections or stats.open) or 0
end

local function stop(reason, code)
  log("info", "stopping: %s", reason)
  system.stop_within(STOP_SECONDS)
  system.notify("STOPPING=1")
  within(POLITE_SECONDS, function()
    require "couplet.ports".close()
    prosody.events.fire_event("server-stopping", { reason = reason, code = code })
    close_sessions(reason)
  end)
  within(FLUSH_SECONDS, function()
    local task = require "couplet.task"
    while connections() > 0 do task.sleep(0.02) end
  end)
  within(1, function()
    prosody.events.fire_event("server-stopped", { reason = reason, code = code })
    prosody.events.fire_event("server-cleanup", { reason = reason, code = code })
  end)
  require "couplet.control".close()
  if prosody.pidfile then system.unlink(prosody.pidfile) end
  stopped_with = code
  loop.stop()
end

function init.stop(reason, code)
  if stopping then return end
  stopping = true
  reason, code = reason or "Shutting down", code or 0
  prosody.shutdown_reason, prosody.shutdown_code = reason, code
  -- a moment later: whoever asked gets an answer first
  loop.timer(0.01, function() require "couplet.task".spawn(stop, reason, code) end)
end

-- --- starting ---

local function boot()
  local started = loop.mono()
  local hosts, ports, certs = require "couplet.hosts", require "couplet.ports", require "couplet.certs"
  require "couplet.router"
  require "couplet.users"              -- gives each host its accounts before its plugins are loaded
  certs.start()
  require "couplet.plugin".start()
  prosody.events.fire_event("server-starting")
  hosts.load()
  if next(prosody.hosts) == nil then
    fail("%s names no host: add VirtualHost \"your.domain\"", config.file())
  end
  local wanted = ports.open()
  if #ports.open_doors() == 0 then
    if wanted > 0 then fail("none of the ports could be opened; the lines above say why") end
    log("warn", "no port is open")
  end
  local ok, err = require "couplet.control".open()
  if not ok then log("error", "no control socket, coupletctl will not reach this server: %s", err) end
  prosody.is_started = true
  prosody.events.fire_event("server-started")
  certs.warn()
  watchers[#watchers + 1] = loop.timer(86400, function()
    certs.warn()
    return 86400
  end)
  log("info", "Couplet %s is up: %d host(s), %.0f ms", prosody.version, #config.hosts(), (loop.mono() - started) * 1000)
  system.notify("READY=1\nSTATUS=up")
  loop.timer(0.05, function()             -- a moment later, and a file at a time: whoever wants something comes first
    local task = require "couplet.task"
    task.spawn(function()
      local function pause() task.sleep(0) end
      for _, text in ipairs(require "couplet.ctl.check".unknown(pause)) do log("warn", "%s", text) end
    end)
  end)
end

function init.start(opts)
  local path, err = init.find_config(opts.config)
  if not path then
    io.stderr:write("couplet: ", err, "\n")
    return 1
  end
  local ok
  ok, err = init.load(path)
  if not ok then
    io.stderr:write("couplet: ", logging.clean(err), "\n")
    return 1
  end
  local problem
  local function attempt(fn, ...)
    local good, e = xpcall(fn, function(x) return type(x) == "table" and x.start and x or debug.traceback(x) end, ...)
    if not good then problem = type(e) == "table" and e.start or tostring(e) end
    return good
  end
  prosody.process_type = "prosody"
  prosody.opts, prosody.arg = opts, opts.arg or {}
  prosody.start_time = os.time()
  prosody.reload_config, prosody.shutdown = init.reload, init.stop
  function prosody.reopen_logfiles()
    logging.reopen()
    prosody.events.fire_event("reopen-log-files")
  end
  local function prepare()
    drop_root(opts)
    limits()
    writable(config.data_path(), "data_path")
    logging.reload_logging()
    for _, text in ipairs(config.warnings()) do log("warn", "%s", text) end
    collector.setup(config.get("*", "gc"))
    pidfiles()
    init.libraries()
    core.net.setup { io_threads = config.get("*", "io_threads"), max_connections = config.get("*", "max_connections") }
    signals()
  end
  if attempt(prepare) then
    require "couplet.task".spawn(function()
      if not attempt(boot) then loop.stop() end
    end)
    if not problem then loop.run() end
  end
  if problem then
    log("error", "not started: %s", problem)
    if not logging.on_console() then io.stderr:write("couplet: ", logging.clean(problem), "\n") end
    return 1
  end
  loop.finish()
  log("info", "stopped")
  for _, fd in ipairs(locks) do system.close(fd) end
  return stopped_with
end

return init
