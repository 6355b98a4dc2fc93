-- SPDX-License-Identifier: MIT
-- fakehost.lua: a plugin in a host of its own: real buses, router and plugin loader; virtual time, memory stores, clients
-- without sockets.
--
--   local fake = require "fakehost"
--   local host = fake.new { plugins = { "ping" }, options = { ... }, global = { ... } }      name = "example.org" by default
--   local romeo = host:client "romeo@example.org/orchard"
--   romeo:send(st.iq { type = "get", id = "1", to = "example.org" }:tag("ping", { xmlns = "urn:xmpp:ping" }))
--   local reply = romeo:expect { name = "iq", type = "result", id = "1" }
--   romeo:nothing()
--   host:advance(60)              time passes: timers due meanwhile run, in order
--   host:close()                  unloads everything; returns what was left behind (see leaks)
--
-- host:load(plugin, code?)        from the plugin directories, or from a text given here -> environment; raises if it fails
-- host:unload(plugin)  host:reload(plugin, code?)  host:fire(event, data)  host.events  host:module(plugin) -> module
-- host:store(name, type)          a store as a plugin opens it, in a task of its own
-- host:run(fn, ...) -> results    fn in a task, until it has ended (time passes if it sleeps); errors are raised
-- host:configure{ host = {...}, global = {...} }      a new configuration is "reloaded"
-- host:component(name, plugin, options)               one more host, a component
-- host:sent() -> array            stanzas routed to other domains; host:expect_sent(pattern)
-- client:send(stanza | XML)       as if it came from that client
-- client:expect(what) -> stanza   takes the first received that fits: a Lua pattern for its XML, a function, or a table of
--                                 name, xmlns and attributes, with has = "{ns}child"
-- client:received() -> array      all there are, and forgets them;  client:close()
-- fake.logged(pattern, level?)    was a line like this logged? (since the host was made); fake.lines()

local alias = require "couplet.alias"
local clock = require "couplet.clock"
local config = require "couplet.config"
local core = require "couplet.core"
local directory = require "couplet.directory"
local filters = require "couplet.filters"
local hosts = require "couplet.hosts"
local loader = require "couplet.loader"
local logger = require "couplet.logger"
local plugin = require "couplet.plugin"
local prosody = require "couplet.prosody"
local task = require "couplet.task"

local fake = {}

-- --- the log ---

local lines = {}

logger.add_simple_sink(function(name, level, text)
  lines[#lines + 1] = { name = name, level = level, text = text }
  if os.getenv "FAKEHOST_LOG" then io.stderr:write(level, " ", name, ": ", text, "\n") end
end, { "debug", "info", "warn", "error" })

function fake.logged(pattern, level)
  for _, line in ipairs(lines) do
    if (not level or line.level == level) and (line.name .. ": " .. line.text):find(pattern) then return line.text end
  end
  return nil
end

function fake.lines(level)
  local out = {}
  for _, line in ipairs(lines) do
    if not level or line.level == level then out[#out + 1] = line.name .. ": " .. line.text end
  end
  return out
end

function fake.forget_log() lines = {} end

-- --- time ---

local START = 1700000000               -- some time in 2023
local now, timers, serial = START, {}, 0
local real_time = os.time

local Timer = {}
Timer.__index = Timer

function Timer:stop() timers[self] = nil end
function Timer:active() return timers[self] ~= nil end
function Timer:left() return timers[self] and math.max(0, self.at - now) or 0 end

function Timer:start(seconds)
  serial = serial + 1
  self.at, self.serial = now + math.max(0, seconds), serial
  timers[self] = true
end

-- Work that is really under way on other threads: time does not pass meanwhile.
local under_way = 0

local function counted(natives, name)
  local native = natives[name]
  natives[name] = function(...)
    local args = table.pack(...)
    local done = args[args.n]
    args[args.n] = function(...)
      under_way = under_way - 1
      return done(...)
    end
    local results = table.pack(native(table.unpack(args, 1, args.n)))
    under_way = under_way + 1              -- last: a call that raises is not under way
    return table.unpack(results, 1, results.n)
  end
end

counted(core.sasl, "derive")
counted(core.crypto, "pbkdf2")
for name in pairs(core.job) do counted(core.job, name) end

local open_database = core.store.open
function core.store.open(...)
  local db, message = open_database(...)
  if not db then return nil, message end
  local counting = setmetatable({}, { __index = function(self, name)
    self[name] = function(_, ...) return db[name](db, ...) end
    return self[name]
  end })
  counted(counting, "read")
  counted(counting, "write")
  return counting
end

local function earliest(limit)
  local first
  for t in pairs(timers) do
    if t.at <= limit and (not first or t.at < first.at or t.at == first.at and t.serial < first.serial) then first = t end
  end
  return first
end

local function fire(t)
  if t.at > now then now = t.at end
  timers[t] = nil
  local again = t.fn(t)
  if type(again) == "number" and not timers[t] then t:start(again) end
end

local virtual = {
  mono = function() return now - START + 1000 end,
  wall = function() return now end,
  timer = function(seconds, fn)
    local t = setmetatable({ fn = fn }, Timer)
    t:start(seconds)
    return t
  end,
  -- For waits in place: what is really under way first, then the next timer.
  once = function()
    if under_way > 0 then return core.loop.once() end
    core.loop.poll()
    local t = earliest(math.huge)
    if t then fire(t) end
  end,
}

local function use_virtual_time()
  now, timers = START, {}
  clock.use(virtual)
  os.time = function(t)
    if t then return real_time(t) end
    return math.floor(now)
  end
end

local function use_real_time()
  clock.use(nil)
  os.time = real_time
end

function fake.time() return now end

-- --- configuration ---

local function use_config(self)
  local options = { ["*"] = {} }
  for k, v in pairs(self.global) do options["*"][k] = v end
  if options["*"].modules_disabled == nil then       -- what every host has otherwise: a test names what it wants
    options["*"].modules_disabled = { "presence", "message", "iq", "offline", "c2s", "s2s", "s2s_auth_certs" }
  end
  options["*"].plugin_slow_ms = options["*"].plugin_slow_ms or 0
  options["*"].plugin_abort_ms = options["*"].plugin_abort_ms or 0
  if options["*"].storage == nil then options["*"].storage = "memory" end
  for _, name in ipairs(self.order) do
    options[name] = {}
    for k, v in pairs(self.options[name]) do options[name][k] = v end
    options[name].modules_enabled = options[name].modules_enabled or {}
  end
  options["*"].modules_enabled = options["*"].modules_enabled or {}
  config.use { options = options, order = { table.unpack(self.order) }, files = {}, warnings = {}, directory = "/nonexistent",
    places = { ["*"] = {} } }
end

-- --- running ---

-- fn in a task; lets time pass until it has ended.
function fake.run(fn, ...)
  local results
  local limit = now + 1e6
  task.spawn(function(...)
    results = table.pack(xpcall(fn, debug.traceback, ...))
  end, ...)
  local turns = 0
  while not results do
    core.loop.poll()
    task.run_ready()
    if not results and under_way > 0 then
      core.loop.once()
    else
      local t = not results and earliest(limit)
      if t then fire(t) end
    end
    turns = turns + 1
    if turns > 1e6 then error("this never ends", 2) end
  end
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

-- --- clients ---

local Client = {}
Client.__index = Client

local function fits(want, stanza)
  if type(want) == "string" then return tostring(stanza):find(want) ~= nil end
  if type(want) == "function" then return want(stanza) end
  for key, value in pairs(want) do
    if key == "name" then
      if stanza.name ~= value then return false end
    elseif key == "has" then
      if not stanza:has(value) then return false end
    elseif stanza.attr[key] ~= value then
      return false
    end
  end
  return true
end

local function describe(want)
  if type(want) ~= "table" then return tostring(want) end
  local out = {}
  for k, v in pairs(want) do out[#out + 1] = k .. "=" .. tostring(v) end
  table.sort(out)
  return "{ " .. table.concat(out, ", ") .. " }"
end

local function take(list, want, who)
  for i, stanza in ipairs(list) do
    if fits(want, stanza) then return table.remove(list, i) end
  end
  local have = {}
  for i, stanza in ipairs(list) do have[i] = "  " .. tostring(stanza) end
  error(("%s did not receive %s, but:\n%s"):format(who, describe(want), table.concat(have, "\n")), 3)
end

local function as_stanza(x)
  if type(x) ~= "string" then return x end
  local stanza, err = require "couplet.util.xml".parse(x)
  if not stanza then error("bad XML in a test: " .. tostring(err), 3) end
  return stanza
end

function Client:send(x)
  local stanza = as_stanza(x)
  if not x then error("nothing to send", 2) end
  local session = self.session
  fake.run(function()
    if session.type == "c2s_unauthed" or session.type == "c2s_unbound" or session.type == "c2s" or session.type == "component"
      or session.type == "s2sin" then
      stanza = filters.run(session, "stanzas/in", stanza)
      return stanza and prosody.core_process_stanza(session, stanza)
    end
  end)
  return self
end

function Client:expect(want) return take(self.inbox, want, self.jid) end

function Client:received()
  local all = self.inbox
  self.inbox = {}
  return all
end

function Client:nothing()
  if self.inbox[1] then error(self.jid .. " received " .. tostring(self.inbox[1]), 2) end
end

function Client:close(reason)
  self.session:close(reason)
end

local next_id = 0

local function new_session(client, kind)
  next_id = next_id + 1
  local session = { type = kind, base_type = "c2s", id = "c2s" .. next_id, ip = "127.0.0.1", conntime = now, secure = true,
    encrypted = true, version = 1, streamid = "stream" .. next_id }
  session.log = logger.init(session.id)
  function session.send(x)
    if session.destroyed then return false end
    if type(x) ~= "string" then
      x = filters.run(session, "stanzas/out", x)
      if x == nil then return true end
    end
    if type(x) == "string" then client.written[#client.written + 1] = x
    else client.inbox[#client.inbox + 1] = require "couplet.stanza".clone(x) end
    return true
  end
  function session.rawsend(bytes)
    client.written[#client.written + 1] = bytes
    return true
  end
  function session.close(_, reason)
    client.closed, client.close_reason = true, reason
    if session.full_jid and not session.destroyed then
      fake.run(function()
        local host = hosts.get(session.host)
        if host then
          host.events.fire_event("pre-resource-unbind", { session = session, error = reason })
          directory.remove(session)
          host.events.fire_event("resource-unbind", { session = session, error = reason })
        end
      end)
    end
    session.destroyed = true
    return true
  end
  function session.filter(_, data) return data end
  function session.dispatch_stanza(stanza) return prosody.core_process_stanza(session, stanza) end
  return session
end

local Host = {}
Host.__index = Host

-- A client that has bound a resource; without one in the address: one that is only connected.
function Host:client(jid, fields)
  local username, domain, resource = jid:match "^([^@/]+)@([^/]+)/?(.*)$"
  if not username then username, domain, resource = nil, jid, "" end
  local client = setmetatable({ jid = jid, inbox = {}, written = {} }, Client)
  local session = new_session(client, "c2s_unauthed")
  client.session = session
  session.host = domain
  if username then
    session.username, session.type = username, "c2s_unbound"
    if not (fields and fields.role) then session.role = fake.run(require "couplet.users".get_user_role, username, domain) end
  end
  for k, v in pairs(fields or {}) do session[k] = v end
  if resource ~= "" then
    session.resource, session.full_jid, session.type = resource, jid, "c2s"
    fake.run(function()
      local user = directory.add(session)
      user.roster = user.roster or require "couplet.roster".load_roster(username, domain)
      session.roster = user.roster
      hosts.get(domain).events.fire_event("resource-bind", { session = session })
    end)
  end
  return client
end

-- --- the host ---

local codes = {}                        -- plugin -> text given by a test

local real_load_code

local function serve_texts()
  if real_load_code then return end
  real_load_code = loader.load_code
  loader.load_code = function(name, file, env)
    local text = codes[name]
    if text and (file == nil or file == "mod_" .. name .. ".lua") then
      return loader.compile(text, "mod_" .. name .. ".lua", env)
    end
    return real_load_code(name, file, env)
  end
end

function Host:load(name, code, on)
  if code then codes[name] = code end
  local env, err = fake.run(plugin.load, on or self.name, name)
  if not env then error("plugin " .. name .. " did not load: " .. tostring(err), 2) end
  return env
end

function Host:try_load(name, code, on)
  if code then codes[name] = code end
  return fake.run(plugin.load, on or self.name, name)
end

function Host:unload(name, on) return fake.run(plugin.unload, on or self.name, name) end

function Host:reload(name, code)
  if code then codes[name] = code end
  return fake.run(plugin.reload, self.name, name)
end

function Host:module(name)
  local env = plugin.get_module(self.name, name) or plugin.get_module("*", name)
  return env and env.module
end

function Host:fire(event, data)
  return fake.run(function() return self.events.fire_event(event, data) end)
end

function Host:run(fn, ...) return fake.run(fn, ...) end

function Host:store(name, kind)
  local store, err = fake.run(function() return require "couplet.store".open(self.name, name, kind) end)
  if not store then error(err, 2) end
  return setmetatable({}, { __index = function(_, method)
    return function(_, ...) return fake.run(store[method], store, ...) end
  end })
end

function Host:advance(seconds)
  local limit = now + seconds
  core.loop.poll()
  task.run_ready()
  while true do
    local t = earliest(limit)
    if not t then break end
    fire(t)
    core.loop.poll()
    task.run_ready()
  end
  now = limit
end

function Host:configure(new)
  for k, v in pairs(new.host or {}) do self.options[self.name][k] = v end
  for k, v in pairs(new.global or {}) do self.global[k] = v end
  use_config(self)
  fake.run(function() prosody.events.fire_event "config-reloaded" end)
end

function Host:add_host(name, options)
  self.order[#self.order + 1] = name
  self.options[name] = options or {}
  use_config(self)
  local host, err = fake.run(hosts.activate, name)
  if not host then error(err, 2) end
  return host
end

function Host:component(name, module, options)
  local all = { component_module = module or "component" }
  for k, v in pairs(options or {}) do all[k] = v end
  return self:add_host(name, all)
end

function Host:sent()
  local all = self.remote
  self.remote = {}
  return all
end

function Host:expect_sent(want) return take(self.remote, want, "the network") end

local function loaded_count()
  local n = 0
  for _, map in ipairs(plugin.maps()) do
    for _ in pairs(map) do n = n + 1 end
  end
  return n
end

-- What is still there of the plugins: handlers on the server's bus, timers and plugins beyond those of the beginning.
function Host:leaks(before)
  before = before or self.begun
  local out = {}
  local extra = prosody.events.count() - before.handlers
  if extra ~= 0 then out[#out + 1] = extra .. " handlers on the server's bus" end
  local n = 0
  for _ in pairs(timers) do n = n + 1 end
  if n > before.timers then out[#out + 1] = n - before.timers .. " timers" end
  if loaded_count() > before.plugins then out[#out + 1] = loaded_count() - before.plugins .. " plugins" end
  return out
end

local function measure()
  local n = 0
  for _ in pairs(timers) do n = n + 1 end
  return { handlers = prosody.events.count(), timers = n, plugins = loaded_count() }
end

local open                             -- the host made last

function Host:close()
  fake.run(function()
    for i = #self.order, 1, -1 do
      if hosts.get(self.order[i]) then hosts.deactivate(self.order[i]) end
    end
    plugin.unload_host "*"
  end)
  codes = {}
  local left = self:leaks(self.empty)
  use_real_time()
  prosody.is_started = false
  open = nil
  return left
end

function fake.new(o)
  o = o or {}
  if open then open:close() end          -- a test that failed left it
  alias.install()
  serve_texts()
  fake.forget_log()
  require "couplet.storage.memory".forget()
  use_virtual_time()
  local name = o.name or "example.org"
  local self = setmetatable({ name = name, order = { name }, options = { [name] = o.options or {} }, global = o.global or {},
    remote = {} }, Host)
  loader.set_paths(self.global.plugin_paths)
  for other, options in pairs(o.hosts or {}) do
    self.order[#self.order + 1] = other
    self.options[other] = options
  end
  use_config(self)
  prosody.is_started = o.started ~= false
  plugin.start()
  for _, library in ipairs { "router", "sessions", "users", "store" } do require("couplet." .. library) end
  self.empty = measure()
  fake.run(function()
    for _, host in ipairs(self.order) do hosts.activate(host) end
  end)
  self.events = hosts.get(name).events
  self.events.add_handler("route/remote", function(event)
    self.remote[#self.remote + 1] = require "couplet.stanza".clone(event.stanza)
    return true
  end, -1000)
  open = self
  self.begun = measure()
  for _, p in ipairs(o.plugins or {}) do self:load(p) end
  return self
end

return fake
