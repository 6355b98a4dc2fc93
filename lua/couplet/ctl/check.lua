-- SPDX-License-Identifier: MIT
-- ctl/check: what is wrong with the loaded configuration.
--
--   check.run() -> array of { level = "error" | "warning" | "note", text = }; a note: known from Prosody, of no effect here
--   check.unknown() -> array of texts: options that nothing reads
--   check.plugin_options(pause?) -> name -> { type =, plugin = }       what the installed plugins read or declare; pause():
--                                                   called between two files, some 350
--   check.similar(word, names) -> the nearest name | nil
--
-- Plugins are read, not run: module:config{…} tables and the names in get_option_…("name") tell what they know.

local config = require "couplet.config"
local known = require "couplet.known_options"
local system = require "couplet.core".system

local check = {}

-- --- spelling ---

local function distance(a, b, limit)
  if math.abs(#a - #b) > limit then return limit + 1 end
  local before, row = {}, {}
  for j = 0, #b do row[j] = j end
  local previous
  for i = 1, #a do
    previous, before, row = before, row, {}
    row[0] = i
    local ca = a:byte(i)
    for j = 1, #b do
      local cost = ca == b:byte(j) and 0 or 1
      local d = math.min(before[j] + 1, row[j - 1] + 1, before[j - 1] + cost)
      if i > 1 and j > 1 and ca == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then d = math.min(d, previous[j - 2] + 1) end
      row[j] = d
    end
  end
  return row[#b]
end

function check.similar(word, names)
  local limit = math.max(1, math.min(3, #word // 4))
  local best, best_distance
  for name in pairs(names) do
    local d = distance(word, name, limit)
    if d <= limit and (not best or d < best_distance or d == best_distance and name < best) then best, best_distance = name, d end
  end
  return best
end

-- --- what plugins know ---

local by_getter = {
  string = "string", number = "number", integer = "integer", boolean = "boolean", period = "period", array = "list", set = "list",
  inherited_set = "list", path = "path", scalar = "any", enum = "string", [""] = "any",
}
local by_declaration = { string = "string", number = "number", integer = "integer", boolean = "boolean", period = "period",
  array = "list", set = "list", list = "list", path = "path", map = "map", table = "map" }

local function written(value)
  if type(value) == "string" then return ("%q"):format(value) end
  if type(value) ~= "table" then return tostring(value) end
  local out = {}
  for i, v in ipairs(value) do out[i] = written(v) end
  return #out > 0 and "{ " .. table.concat(out, ", ") .. " }" or "{ }"
end

local function declared_in(text, found, plugin)
  local at = 1
  while true do
    local _, stop = text:find("module:config%s*%f[{(]", at)
    if not stop then return end
    at = stop + 1
    local block = text:match("^%(?%s*(%b{})", at)
    local chunk = block and load("return " .. block, "=plugin", "t", { math = math })
    local ok, options = pcall(chunk or error)
    if ok and type(options) == "table" then
      for name, d in pairs(options) do
        if type(name) == "string" and type(d) == "table" then
          local kind = not d.enum and by_declaration[d.type] or "any"          -- an enum's values speak for themselves
          found[name] = { type = kind, plugin = plugin, min = d.min, max = d.max, enum = d.enum,
            doc = d.doc, declared = true, default = d.default ~= nil and written(d.default) or nil }
        end
      end
    elseif block then
      for name in block:gmatch("[{,;%s]([%a_][%w_]*)%s*=%s*{") do
        found[name] = found[name] or { type = "any", plugin = plugin }
      end
    end
  end
end

-- What is declared counts more than what is only read; who reads it is kept in any case.
local function merge(found, here, plugin)
  for name, o in pairs(here) do
    local before = found[name]
    local readers = before and before.readers or {}
    readers[plugin] = true
    o.got = o.got or before and before.got
    if not before or o.declared then found[name] = o end
    found[name].readers, found[name].got = readers, o.got
  end
end

-- got: somebody asks for it by get_option, perhaps for a host; else there is one value for each module that declares it.
local function read_plugin(path, found, plugin)
  local text = system.read_file(path, 1 << 20)
  if not text then return "" end
  local here = {}
  declared_in(text, here, plugin)
  for getter, name, behind in text:gmatch "get_option_?([%l_]*)%s*%(?%s*[\"']([%w_]+)[\"']()" do
    if not here[name] then
      here[name] = { type = by_getter[getter] or "any", plugin = plugin,
        default = text:match("^%s*,%s*([^,()\n]+)[,)]", behind) }
    end
    here[name].got = true
  end
  merge(found, here, plugin)
  return text
end

-- The library reads options of its own: config.get(host, "name").
local function read_library(found, pause)
  local here = package.searchpath("couplet.config", package.path)
  for _, pattern in ipairs { "/*.lua", "/*/*.lua" } do
    for _, path in ipairs(system.glob(here:gsub("/[^/]*$", "") .. pattern) or {}) do
      if pause then pause() end
      local text = path:find("/known_options") and "" or read_plugin(path, found, "couplet")
      for name in text:gmatch("config%.r?a?w?get%([^\n\"]-,%s*\"([%w_]+)\"") do
        merge(found, { [name] = { type = "any", plugin = "couplet", got = true } }, "couplet")
      end
    end
  end
end

local function plugin_files()
  local loader = require "couplet.loader"
  local files, directories = {}, loader.directories()
  for i, dir in ipairs(directories) do
    for _, pattern in ipairs { "/mod_*.lua", "/mod_*/mod_*.lua", "/mod_*/mod_*/mod_*.lua", "/*/*.lib.lua", "/mod_*/*.lib.lua",
      "/*/*.lua" } do
      for _, path in ipairs(system.glob(dir .. pattern) or {}) do
        files[#files + 1] = { path = path, name = path:match("mod_([%w_]+)%.lua$") or path:match("mod_([%w_]+)/")
          or path:match("([%w_]+)/[^/]*$"), ours = i == #directories }
      end
    end
  end
  return files
end

-- names: plugin -> { needs = plugins it loads or takes libraries of, global = bool, ours = bool }
function check.plugin_options(pause)
  local found, names = {}, {}
  for _, file in ipairs(plugin_files()) do
    if pause then pause() end
    local text = read_plugin(file.path, found, file.name)
    local plugin = names[file.name] or { needs = {}, ours = true }
    plugin.ours = plugin.ours and file.ours
    for word in text:gmatch "module:depends%s*%(?%s*[\"']([%w_]+)" do plugin.needs[word] = true end
    for word in text:gmatch "module:require%s*%(?%s*[\"']([%w_]+)/" do plugin.needs[word] = true end
    plugin.global = plugin.global or text:find "module:set_global" ~= nil
    if file.path:find("mod_[%w_]+%.lua$") then names[file.name] = plugin end
  end
  read_library(found, pause)
  return found, names
end

-- --- types ---

local function is_list(value)
  if type(value) ~= "table" then return false end
  for k in pairs(value) do if math.type(k) ~= "integer" then return false end end
  return true
end

local function period(value)
  if type(value) == "number" then return value >= 0 end
  if value == false or value == "never" then return true end
  return type(value) == "string" and require "couplet.util.human.io".parse_duration(value) ~= nil
end

local tests = {
  any = function() return true end,
  string = function(v) return type(v) == "string" or type(v) == "number" end,
  path = function(v) return type(v) == "string" end,
  number = function(v) return tonumber(v) ~= nil end,
  integer = function(v) return math.tointeger(tonumber(v)) ~= nil end,
  boolean = function(v) return type(v) == "boolean" or v == "true" or v == "false" or v == 0 or v == 1 end,
  list = function(v) return type(v) ~= "table" and type(v) ~= "boolean" or is_list(v) end,
  map = function(v) return type(v) == "table" end,
  period = period,
}
local words = {
  string = "a text, in quotes", path = "a path, in quotes", number = "a number", integer = "a whole number",
  boolean = "true or false",
  list = "a list, { … }", map = "a table, { name = … }", period = "a time, like \"2 days\" or a number of seconds",
}

local function shown(value)
  if type(value) == "table" then return is_list(value) and "a list" or "a table" end
  return type(value) == "string" and ("%q"):format(value) or tostring(value)
end

local function fits(value, types)
  for t in types:gmatch("[^|]+") do if (tests[t] or tests.any)(value) then return true end end
  return false
end

local function wanted(types)
  local out = {}
  for t in types:gmatch("[^|]+") do out[#out + 1] = words[t] or t end
  return table.concat(out, ", or ")
end

-- --- what is enabled ---

-- host -> plugins it has, with what these need; "*": those of all hosts
local function enabled_plugins(names)
  local modules_for = require "couplet.plugin".get_modules_for_host
  local on = { ["*"] = {} }
  local function add(host, name)
    if on[host][name] then return end
    on[host][name], on["*"][name] = true, true
    for needed in pairs(names[name] and names[name].needs or {}) do add(host, needed) end
  end
  for _, host in ipairs(config.hosts()) do
    on[host] = {}
    for name in modules_for(host):items() do add(host, name) end
  end
  return on
end

-- An option of plugins that are here and not enabled does nothing: -> their names. Where accounts and data are kept is chosen in
-- other ways.
local function sleeping(option, plugins, on, host)
  local list = {}
  for reader in pairs(option.readers) do
    local plugin = plugins[reader]
    if not plugin or reader:find "^auth" or reader:find "^storage_" then return nil end
    -- A global plugin from elsewhere may look at hosts it is not enabled on; ours do not.
    if on[host][reader] or plugin.global and on["*"][reader] and (host == "*" or not plugin.ours) then return nil end
    list[#list + 1] = reader
  end
  table.sort(list)
  return table.concat(list, " or ")
end

-- Nobody but our own plugins and the library reads it. Others may, for reasons of their own, and declare nothing.
local function ours_alone(option, plugins)
  for reader in pairs(option.readers) do
    if reader ~= "couplet" and not (plugins[reader] and plugins[reader].ours) then return false end
  end
  return true
end

-- One value for all hosts: global plugins of ours have declared it, and nobody asks for a host's.
local function one_for_all(option, plugins)
  if option.got or not ours_alone(option, plugins) then return false end
  for reader in pairs(option.readers) do if not (plugins[reader] and plugins[reader].global) then return false end end
  return true
end

-- --- the parts ---

local function range(o)
  if not o.min then return ("at most %s"):format(o.max) end
  return o.max and ("%s to %s"):format(o.min, o.max) or ("%s or more"):format(o.min)
end

local function check_options(add, of_plugins, plugins)
  local names = {}
  for name, o in pairs(known.options) do if not o.none then names[name] = true end end
  for name in pairs(of_plugins) do names[name] = true end
  local on = plugins and enabled_plugins(plugins)
  for host, options in pairs(config.getconfig()) do
    for key, value in next, options do
      local place = config.place(host, key) or config.file()
      local here = place .. ": "
      local option = known.find(key)
      local plugin = of_plugins[key]
      local known_only = not plugin or plugins and ours_alone(plugin, plugins)
      if option and option.none and known_only then
        add("note", here .. ("option '%s' does nothing here: %s"):format(key, option[3]), place)
      elseif not option and not plugin and known.absent(key) then
        add("note", here .. ("option '%s' is for the plugin %s, which is not installed"):format(key, known.absent(key)), place)
      elseif not option and not plugin then
        local near = check.similar(key, names)
        add("warning", here .. ("unknown option '%s'%s"):format(key, near and ("; do you mean '" .. near .. "'?") or ""), place)
      else
        local types = option and option[1] or plugin.type
        if not fits(value, types) then
          add("error", here .. ("option '%s' is %s, but %s is expected"):format(key, shown(value), wanted(types)), place)
        elseif plugin and not option then
          local n = tonumber(value)
          if plugin.enum and type(plugin.enum) == "table" then
            local ok = false
            for _, v in pairs(plugin.enum) do ok = ok or v == value end
            if not ok then
              local list = {}
              for _, v in ipairs(plugin.enum) do list[#list + 1] = tostring(v) end
              add("error", here .. ("option '%s' is %s, but one of these is expected: %s"):format(key, shown(value),
                table.concat(list, ", ")))
            end
          elseif n and (plugin.min and n < plugin.min or plugin.max and n > plugin.max) then
            add("error", here .. ("option '%s' is %s, but %s is allowed"):format(key, shown(value), range(plugin)))
          end
        end
        local below = host ~= "*" and (option and not option.host and known.options[key] and known_only
          or plugin and not option and plugins and one_for_all(plugin, plugins))
        local off = on and on[host] and plugin and (not option or host ~= "*") and sleeping(plugin, plugins, on, host)
        if below then
          add("warning", here .. ("option '%s' belongs above the first VirtualHost; below a host it does nothing"):format(key),
            place)
        elseif off then
          add("warning", here .. ("option '%s' does nothing: the plugin %s is not enabled%s"):format(key, off,
            host ~= "*" and " on " .. host or ""), place)
        end
      end
    end
  end
end

local function check_plugins(add, names)
  local optional = { s2s = true, s2s_auth_certs = true }
  local function one(host, key, name, label, without)            -- without: what then does not work at all
    if type(name) ~= "string" then
      add("error", ("%s: a plugin's name is a text, not %s"):format(config.place(host, key) or config.file(), shown(name)))
    elseif not names[label .. name] and not optional[name] then
      if known.instead[name] and not without then
        return add("note", ("%s: plugin '%s' is not needed: %s"):format(config.place(host, key) or config.file(), name,
          known.instead[name]))
      end
      local near = check.similar(label .. name, names)
      add(without and "error" or "warning", ("%s: plugin '%s' is not installed%s%s"):format(
        config.place(host, key) or config.file(), label .. name, without and ": " .. without or "",
        near and "; do you mean '" .. near:sub(#label + 1) .. "'?" or ""))
    end
  end
  for host, options in pairs(config.getconfig()) do
    local list = rawget(options, "modules_enabled")
    if type(list) == "table" then
      for _, name in ipairs(list) do one(host, "modules_enabled", name, "") end
    end
    local off = rawget(options, "modules_disabled")
    for _, name in ipairs(type(off) == "table" and off or { off }) do
      if not names[name] and not optional[name] then           -- a slip, or from a server that has it
        local near = type(name) == "string" and check.similar(name, names)
        add(near and "warning" or "note", ("%s: modules_disabled names %s, which is not installed%s"):format(
          config.place(host, "modules_disabled") or config.file(), shown(name), near and "; do you mean '" .. near .. "'?" or ""))
      end
    end
    local component = rawget(options, "component_module")
    if component then one(host, "component_module", component, "", "nobody serves " .. host) end
    local auth = rawget(options, "authentication")
    if type(auth) == "string" and auth ~= "internal_plain" then
      one(host, "authentication", auth, "auth_", "nobody can log in")
    end
    local storage = rawget(options, "storage")
    for _, name in pairs(type(storage) == "table" and storage or { storage }) do
      if type(name) == "string" then one(host, "storage", name, "storage_") end
    end
  end
end

local function check_hosts(add)
  for _, begun in ipairs(config.again()) do           -- no more than a note: Debian's files do so
    add("note", ("%s: VirtualHost \"%s\" begins again; what stands here adds to %s"):format(begun.place, begun.host,
      config.place(begun.host) or "?"))
  end
  if #config.hosts() == 0 then
    add("error", config.file() .. ": there is no host; add VirtualHost \"your.domain\"")
  end
  local users
  for _, host in ipairs(config.hosts()) do users = users or config.kind(host) ~= "component" end
  if #config.hosts() > 0 and not users then
    add("warning", config.file() .. ": there is no VirtualHost, so nobody can have an account")
  end
  for _, host in ipairs { "*", table.unpack(config.hosts()) } do
    local admins = config.rawget(host, "admins")
    for _, jid in pairs(type(admins) == "table" and admins or { admins }) do
      if type(jid) ~= "string" or not jid:find "[@.]" then
        add("warning", ("%s: %s in admins is no address like \"user@%s\""):format(config.place(host, "admins") or config.file(),
          shown(jid), host == "*" and "example.org" or host))
      end
    end
    local profile = config.rawget(host, "tls_profile")
    if profile and profile ~= "modern" and profile ~= "intermediate" and profile ~= "old" and profile ~= "legacy" then
      add("error", ("%s: tls_profile is modern, intermediate or old"):format(config.place(host, "tls_profile") or config.file()))
    end
  end
end

-- Services of a host whose TLS has options of its own, besides the two that all have.
local function tls_services(host)
  local list = { "c2s", "s2s" }
  for _, section in ipairs { "*", host } do
    for key, value in next, config.getconfig()[section] do
      local service = type(value) == "table" and key:match "^(.+)_ssl$"
      local option = service and known.find(key)
      if service and service ~= "c2s" and service ~= "s2s" and not (option and option.none) then list[#list + 1] = service end
    end
  end
  table.sort(list)
  return list
end

local function check_certificates(add)
  local certs, said = require "couplet.certs", {}
  for _, e in ipairs(certs.report()) do
    local component = config.kind(e.host) == "component"
    local of = ("certificate of %s %s%s: "):format(component and "component" or "host", e.host,
      e.certificate and " (" .. e.certificate .. ")" or "")
    if e.problem and not e.harmless then
      if e.certificate or not component then
        add(e.missing and "error" or "warning", ("%s: %s%s"):format(e.place or config.file(), of, e.problem))
      end
    elseif e.certificate then
      for _, service in ipairs(tls_services(e.host)) do
        local text, place = certs.trouble(e.host, service)
        if text and not said[place .. text] then
          said[place .. text] = true
          add("warning", ("%s: no TLS on %s: %s"):format(place, e.host, text))
        end
      end
    end
  end
end

local function check_ports(add)
  for key, value in next, config.getconfig()["*"] do
    if key:find("_ports?$") then
      for _, port in ipairs(type(value) == "table" and value or { value }) do
        local n = math.tointeger(tonumber(port))
        if not n or n < 0 or n > 65535 then
          add("error", ("%s: %s: %s is no port number"):format(config.place("*", key) or config.file(), key, shown(port)))
        end
      end
    elseif key:find("_interfaces?$") or key:find("^interfaces?$") then
      for _, address in ipairs(type(value) == "table" and value or { value }) do
        if address ~= "*" and not require "couplet.util.ip".new_ip(tostring(address)) then
          add("error", ("%s: %s: %s is no address; a numeric one, \"*\" or \"::\" is expected"):format(
            config.place("*", key) or config.file(), key, shown(address)))
        end
      end
    end
  end
end

local function check_limits(add)
  local bandwidth = require "couplet.bandwidth"
  for _, host in ipairs { "*", table.unpack(config.hosts()) } do
    local limits = config.rawget(host, "limits")
    for class, limit in pairs(type(limits) == "table" and limits or {}) do
      local function wrong(name, value, expected)
        local place = config.place(host, "limits") or config.file()
        add("error", ("%s: %s is %s, but %s is expected"):format(place, name, shown(value), expected))
      end
      local name = ("limits.%s"):format(class)
      if type(limit) ~= "table" then
        wrong(name, limit, 'a table like { rate = "10kb/s", burst = "2s" }')
      else
        local rate = bandwidth.rate(limit.rate)
        if not rate then
          wrong(name .. ".rate", limit.rate, 'a number of bytes a second, or a text like "10kb/s"')
        elseif limit.burst ~= nil and not bandwidth.burst(limit.burst, rate) then
          wrong(name .. ".burst", limit.burst, 'a time like "2s", or a text like "64kb"')
        end
      end
    end
  end
end

local function check_data(add)
  local data = config.data_path()
  local stat = system.stat(data)
  if stat and stat.type ~= "directory" then
    add("error", ("%s: data_path %s is no directory"):format(config.place("*", "data_path") or config.file(), data))
  end
end

-- Words nobody reads: misspelt, or of a plugin that is not here.
function check.unknown(pause)
  local list, of_plugins = {}, check.plugin_options(pause)
  check_options(function(_, text) if text:find(": unknown option '", 1, true) then list[#list + 1] = text end end,
    of_plugins)
  table.sort(list)
  return list
end

function check.run()
  local findings = {}
  for _, text in ipairs(config.warnings()) do findings[#findings + 1] = { level = "warning", text = text } end
  local function add(level, text) findings[#findings + 1] = { level = level, text = text } end
  require "couplet.plugin".configure()
  local of_plugins, names = check.plugin_options()
  local first = #findings
  check_options(add, of_plugins, names)
  check_plugins(add, names)
  local function line(f) return tonumber(f.text:match(":(%d+): ")) or 0 end
  local sorted = table.move(findings, first + 1, #findings, 1, {})
  table.sort(sorted, function(a, b)
    if line(a) ~= line(b) then return line(a) < line(b) end
    return a.text < b.text
  end)
  table.move(sorted, 1, #sorted, first + 1, findings)
  check_hosts(add)
  check_certificates(add)
  check_ports(add)
  check_limits(add)
  check_data(add)
  return findings
end

return check
