-- SPDX-License-Identifier: MIT
-- config_reader: runs a configuration file in an environment that remembers what was set where. See config.lua.

local core = require "couplet.core"
local system = core.system

local reader = {}

local MAX_DEPTH = 50                    -- of tables
local MAX_INCLUDES = 20                 -- nested
reader.MAX_STEPS = 200                  -- million instructions: a file that never ends must not hang a reload

local inherit = {}                      -- options of "*" -> metatable of its hosts

function reader.section(cfg, name)
  local global = cfg.options["*"]
  if not inherit[global] then inherit[global] = { __index = global } end
  cfg.options[name] = setmetatable({}, inherit[global])
  cfg.places[name] = {}
  return cfg.options[name]
end
setmetatable(inherit, { __mode = "k" })

function reader.empty()
  return { options = { ["*"] = {} }, places = { ["*"] = {} }, begins = {}, again = {},
    order = {}, files = {}, sources = {}, warnings = {} }
end

function reader.resolve(base, path)
  if path:sub(1, 1) == "/" then return path end
  if path:sub(1, 2) == "~/" and os.getenv("HOME") then return os.getenv("HOME") .. path:sub(2) end
  while path:sub(1, 2) == "./" do path = path:sub(3) end
  if path == "" or path == "." then return base end
  return (base:gsub("/+$", "")) .. "/" .. path
end

local function directory_of(path)
  return path:match("^(.*)/[^/]*$") or "."
end

-- Chunks are named <N>, N the file's number: Lua would cut long paths short.
local function with_paths(cfg, text)
  return (tostring(text):gsub("<(%d+)>", function(n) return cfg.files[tonumber(n)] end))
end

local function line_of(cfg, n, line)
  local source = cfg.sources[n]
  if not source then return nil end
  local at = 0
  for text in (source .. "\n"):gmatch("(.-)\r?\n") do
    at = at + 1
    if at == line then return text:match("^%s*(.-)%s*$") end
  end
end

local function explain(cfg, err)
  local text = tostring(err)
  local n, line = text:match("<(%d+)>:(%d+):")
  local shown = n and line_of(cfg, tonumber(n), tonumber(line))
  text = with_paths(cfg, text)
  if shown and shown ~= "" then
    if #shown > 100 then shown = shown:sub(1, 100) .. "..." end
    text = text .. ", in: " .. shown
  end
  return text
end

-- Where in the configuration file are we? (file number, line)
local function here()
  for level = 3, 12 do
    local info = debug.getinfo(level, "Sl")
    if not info then break end
    local n = info.short_src:match("^<(%d+)>$")
    if n and info.currentline > 0 then return tonumber(n), info.currentline end
  end
end

local function warn(cfg, text)
  local n, line = here()
  cfg.warnings[#cfg.warnings + 1] = (n and cfg.files[n] .. ":" .. line .. ": " or "") .. text
end

-- Lua counts an assignment at its last line; the name stands at or above it (below, if it came in a table).
-- Without a key: where the host begins.
function reader.place(cfg, host, key)
  if not key then
    local begin = cfg.begins and cfg.begins[host]
    return begin and cfg.files[begin[1]] .. ":" .. begin[2]
  end
  local place = (cfg.places[host] or {})[key] or host ~= "*" and cfg.places["*"][key]
  if not place then return nil end
  local n, line = place[1], place[2]
  local lines, pattern = {}, "%f[%w_]" .. key:gsub("%W", "%%%0") .. "%f[^%w_]"
  for text in ((cfg.sources[n] or "") .. "\n"):gmatch("(.-)\n") do lines[#lines + 1] = text end
  local first, last, step = line, math.max(1, line - 1000), -1
  if place.table then first, last, step = line, math.min(#lines, line + 1000), 1 end
  for i = first, last, step do
    if lines[i] and lines[i]:gsub("^%s*%-%-.*", ""):find(pattern) then line = i break end
  end
  return cfg.files[n] .. ":" .. line
end

-- What a broken file says in so many words: `key = "text"` on a line of its own, above the first host.
function reader.written(cfg, key)
  local found
  for _, source in ipairs(cfg.sources) do
    for line in source:gmatch("[^\n]+") do
      if line:find("^%s*VirtualHost%f[^%w_]") or line:find("^%s*Component%f[^%w_]") then break end
      local _, text, rest = line:match("^%s*" .. key .. "%s*=%s*([\"'])([^\"'\\]+)%1%s*;?%s*(.*)$")
      if text and (rest == "" or rest:find("^%-%-")) then found = text end
    end
  end
  return found
end

-- --- options already set, used as a word: append to them, read them, set something inside ---

local proxies = setmetatable({}, { __mode = "k" })     -- proxy -> { cfg, section, path }
local proxy_mt = {}

local function proxy(cfg, section, path)
  local p = setmetatable({}, proxy_mt)
  proxies[p] = { cfg = cfg, section = section, path = path }
  return p
end

local function value_of(p)
  local info = proxies[p]
  local value = rawget(info.cfg.options[info.section], info.path[1])
  for i = 2, #info.path do
    if type(value) ~= "table" then return nil end
    value = value[info.path[i]]
  end
  return value
end

-- A copy without proxies.
local function plain(value, depth)
  if proxies[value] then value = value_of(value) end
  if type(value) ~= "table" then return value end
  depth = (depth or 0) + 1
  if depth > MAX_DEPTH then error("a table inside itself, or nested more than " .. MAX_DEPTH .. " deep", 0) end
  if getmetatable(value) ~= nil then return value end
  local copy = {}
  for k, v in next, value do copy[plain(k, depth)] = plain(v, depth) end
  return copy
end

local function put(p, new)
  local info = proxies[p]
  local options, path = info.cfg.options[info.section], info.path
  if #path == 1 then
    options[path[1]] = new
    if not info.cfg.places[info.section][path[1]] then
      local n, line = here()
      info.cfg.places[info.section][path[1]] = n and { n, line }
    end
    return
  end
  if type(options[path[1]]) ~= "table" then options[path[1]] = {} end
  local t = options[path[1]]
  for i = 2, #path - 1 do
    if type(t[path[i]]) ~= "table" then t[path[i]] = {} end
    t = t[path[i]]
  end
  t[path[#path]] = new
end

local methods = {}

function methods:append(more)
  local value = value_of(self)
  if type(value) ~= "table" then value = { value } end
  more = plain(more)
  if type(more) ~= "table" then more = { more } end
  local list = #more
  for i = 1, list do value[#value + 1] = more[i] end
  for k, v in pairs(more) do
    if not (math.type(k) == "integer" and k >= 1 and k <= list) then value[k] = v end
  end
  put(self, value)
  return self
end

function methods:value() return plain(self) end

function methods:values()
  local value = plain(self)
  if type(value) ~= "table" then return value end
  return table.unpack(value)
end

proxy_mt.__call = methods.append
proxy_mt.__tostring = function(p) return tostring(value_of(p)) end
proxy_mt.__len = function(p) return #value_of(p) end
proxy_mt.__concat = function(a, b) return plain(a) .. plain(b) end
proxy_mt.__eq = function(a, b) return value_of(a) == value_of(b) end
proxy_mt.__metatable = "option"
function proxy_mt.__index(p, key)
  if methods[key] then return methods[key] end
  local info = proxies[p]
  local value = value_of(p)
  local inner = type(value) == "table" and value[key]
  if value ~= nil and type(value) ~= "table" then return nil end
  if inner and type(inner) ~= "table" then return inner end
  local path = { table.unpack(info.path) }
  path[#path + 1] = key
  return proxy(info.cfg, info.section, path)
end
function proxy_mt.__newindex(p, key, value)
  local info = proxies[p]
  local path = { table.unpack(info.path) }
  path[#path + 1] = key
  put(proxy(info.cfg, info.section, path), plain(value))
end

-- --- files ---

local function must(value, err)
  if value == nil then error(tostring(err), 0) end
  return value
end

local function read_lines(text)
  local lines = {}
  for line in text:gmatch("([^\n]*)\n?") do lines[#lines + 1] = line end
  if lines[#lines] == "" then lines[#lines] = nil end
  return lines
end

local function at_caller(fn)            -- errors of our functions name the line that called them
  return function(...)
    local results = table.pack(pcall(fn, ...))
    if not results[1] then
      local n, line = here()
      local text = tostring(results[2])
      error((n and not text:find("^<%d+>:") and "<" .. n .. ">:" .. line .. ": " or "") .. text, 0)
    end
    return table.unpack(results, 2, results.n)
  end
end

-- XML hosts are addresses without user and resource.
local function prepared(name)
  if type(name) ~= "string" or name == "" then error("a host needs a name, in quotes", 0) end
  local node, host, resource
  if not name:find("[@/]") then node, host, resource = require "couplet.jid".prepped_split(name) end
  if not host or node or resource then error(("%q is no valid host name"):format(name), 0) end
  return host
end

local standard = {
  _VERSION = _VERSION, assert = assert, error = error, getmetatable = getmetatable, ipairs = ipairs, next = next, pairs = pairs,
  pcall = pcall, print = print, rawequal = rawequal, rawget = rawget, rawlen = rawlen, rawset = rawset, select = select,
  setmetatable = setmetatable, tonumber = tonumber, tostring = tostring, type = type, xpcall = xpcall, load = load,
  dofile = dofile,
  loadfile = loadfile, require = require, math = math, string = string, table = table, utf8 = utf8, os = os, io = io,
  coroutine = coroutine, debug = debug, package = package, collectgarbage = collectgarbage,
}

local run_file

local function environment(cfg, path, depth, lua)
  local section = "*"
  local env, hidden = {}, {}
  local directory = directory_of(path)

  local function set(key, value, from_table)
    if type(key) ~= "string" then error("option names are words, not " .. tostring(key), 0) end
    local places, n, line = cfg.places[section], here()
    value = plain(value)
    if places[key] and value ~= nil then
      warn(cfg, ("option '%s' is set again; it was set at %s"):format(key, reader.place(cfg, section, key) or "?"))
    end
    cfg.options[section][key] = value
    places[key] = value ~= nil and n and { n, line, table = from_table } or nil
  end

  local function set_all(t)
    if type(t) ~= "table" then error("expected a table of options, got " .. type(t), 0) end
    local keys = {}
    for k in pairs(t) do
      if type(k) ~= "string" then error("expected name = value in a host's table, got a value without a name", 0) end
      keys[#keys + 1] = k
    end
    table.sort(keys)
    for _, k in ipairs(keys) do set(k, t[k], true) end
  end

  local function begin(name, component)
    name = prepared(name)
    local known = cfg.options[name]
    if not known then
      known = reader.section(cfg, name)
      cfg.order[#cfg.order + 1] = name
      local n, line = here()
      cfg.begins[name] = n and { n, line }
      if component then known.component_module = "component" else known.defined = true end
    elseif component then
      error(("Component %q is already defined as %s"):format(name,
        rawget(known, "component_module") and "a Component" or "a VirtualHost"), 0)
    elseif rawget(known, "component_module") then
      error(("VirtualHost %q is already defined as a Component"):format(name), 0)
    else
      local n, line = here()
      cfg.again[#cfg.again + 1] = { host = name, place = n and cfg.files[n] .. ":" .. line or cfg.file }
    end
    section = name
    return known
  end

  hidden.VirtualHost = at_caller(function(name)
    begin(name, false)
    return at_caller(function(options)
      set_all(options)
      section = "*"
    end)
  end)
  hidden.Host, hidden.host = hidden.VirtualHost, hidden.VirtualHost

  hidden.Component = at_caller(function(name)
    local known = begin(name, true)
    local function configure(x)
      if type(x) == "string" then
        local n, line = here()
        known.component_module, cfg.places[section].component_module = x, n and { n, line } or nil
        return at_caller(configure)
      end
      set_all(x)
      section = "*"
    end
    return at_caller(configure)
  end)
  hidden.component = hidden.Component

  hidden.Include = at_caller(function(pattern)
    if type(pattern) ~= "string" then error("Include needs a file name, in quotes", 0) end
    if depth >= MAX_INCLUDES then error("files include each other", 0) end
    local full = reader.resolve(directory, pattern)
    if not full:match("[^/]*$"):find("[*?%[]") then
      run_file(cfg, full, depth + 1, lua)
      return
    end
    for _, file in ipairs(must(system.glob(full))) do run_file(cfg, file, depth + 1, lua) end
  end)
  hidden.include = hidden.Include

  local function contents(name)
    if type(name) ~= "string" then error("expected a file name, in quotes", 0) end
    return must(system.read_file(reader.resolve(directory, name), 1 << 20))
  end
  hidden.FileContents = at_caller(contents)
  hidden.FileLine = at_caller(function(name) return read_lines(contents(name))[1] end)
  hidden.FileLines = at_caller(function(name) return read_lines(contents(name)) end)
  hidden.Credential = at_caller(function(name)
    local from = os.getenv("CREDENTIALS_DIRECTORY")
    if not from then error("Credential: no $CREDENTIALS_DIRECTORY (the service manager sets it)", 0) end
    if type(name) ~= "string" or name:find("/") then error("Credential needs a plain name", 0) end
    return must(system.read_file(from .. "/" .. name, 1 << 20))
  end)
  hidden.Secret = at_caller(function(from)
    if type(from) ~= "table" then error('Secret needs { file = … }, { env = … } or { credential = … }', 0) end
    if from.env then return must(os.getenv(from.env), "no environment variable " .. tostring(from.env)) end
    if from.credential then return (hidden.Credential(from.credential):gsub("\n$", "")) end
    return read_lines(contents(from.file))[1]
  end)
  hidden.RunScript = at_caller(function(name)
    if type(name) ~= "string" then error("RunScript needs a file name, in quotes", 0) end
    local script = must(loadfile(reader.resolve(directory, name), "t"))
    return script()
  end)

  local meta, told = {}, {}
  function meta.__index(_, key)
    if hidden[key] then return hidden[key] end
    if type(key) ~= "string" then return nil end
    if key == "Lua" then return lua end
    if key:sub(1, 4) == "ENV_" then return os.getenv(key:sub(5)) end
    if rawget(cfg.options[section], key) ~= nil then return proxy(cfg, section, { key }) end
    if reader.is_map and reader.is_map(key) then return proxy(cfg, section, { key }) end
    if lua[key] ~= nil then
      if not told[key] then warn(cfg, ("'%s' is Lua's: write Lua.%s"):format(key, key)) end          -- once in a file
      told[key] = true
      return lua[key]
    end
    warn(cfg, ("unknown word '%s' (quotes missing?)"):format(key))
    return nil
  end
  function meta.__newindex(_, key, value)
    if hidden[key] or key == "Lua" then error(("'%s' is a word of the configuration language"):format(key), 2) end
    set(key, value)
  end
  meta.__metatable = "configuration"
  return setmetatable(env, meta)
end

function run_file(cfg, path, depth, lua, text)
  if not text then text = must(system.read_file(path, 16 << 20)) end
  local n = #cfg.files + 1
  cfg.files[n], cfg.sources[n] = path, text
  if text:sub(1, 1) == "#" then text = text:gsub("^[^\n]*", "--", 1) end
  local chunk, err = load(text, "=<" .. n .. ">", "t", environment(cfg, path, depth, lua))
  if not chunk then error(err, 0) end
  chunk()
end

-- Options that are tables by nature: `name.part = value` works on them before they are set.
local maps = { limits = true, storage = true, ssl = true, sql = true, log = true, certificate = true, gc = true,
  custom_roles = true,
  archive_expires = true, network_settings = true, http_paths = true, contact_info = true, disco_items = true,
  statistics_config = true }
function reader.is_map(key) return maps[key] end

function reader.parse(path, text, lua)
  local cfg = reader.empty()
  if not text then
    local full, err = system.realpath(path)
    if not full then return nil, err end
    path = full
  end
  cfg.file, cfg.directory = path, directory_of(path)
  local steps = 0
  local hook, mask, count = debug.gethook()
  debug.sethook(function()
    steps = steps + 1
    if steps > reader.MAX_STEPS then error("this file does not come to an end", 2) end
  end, "", 1000000)
  local ok, err = xpcall(run_file, function(e) return e end, cfg, path, 0, lua or standard, text)
  debug.sethook(hook, mask, count)
  if not ok then return nil, explain(cfg, err), cfg end
  for i, w in ipairs(cfg.warnings) do cfg.warnings[i] = with_paths(cfg, w) end
  return cfg
end

return reader
