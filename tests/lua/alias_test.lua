-- SPDX-License-Identifier: MIT
-- The names plugins know (PLUGIN-API §2.2), hosts and plugin files (§2.1, §13), log functions.
local check = require "check"
local alias = require "couplet.alias"
local fake = require "fakehost"

check.test("every alias that is installed is one object under each spelling", function()
  alias.install()
  for name, target in pairs(alias.names) do
    if package.searchpath(target, package.path) then
      local lib = require(name)
      check.ok(lib == require(target) and lib == require("prosody." .. name) and lib == alias.require(name), name)
    end
  end
  for _, name in ipairs { "util.set", "util.format", "util.array" } do
    check.ok(require(name) == require("couplet." .. name) and alias.require("prosody." .. name) == require(name), name)
  end
end)

check.test("what is not there says where it was looked for", function()
  check.raises("module 'util.nonsuch' not found", alias.require, "util.nonsuch")
  check.raises("module 'nonsuch' not found", require, "prosody.nonsuch")
end)

check.test("plugin files: places, order, headers, resources", function()
  local loader = require "couplet.loader"
  local dir = os.tmpname()
  os.remove(dir)
  local function write(path, text)
    os.execute("mkdir -p '" .. dir .. "/" .. path:match "^(.*)/" .. "'")
    local f = assert(io.open(dir .. "/" .. path, "w"))
    f:write(text)
    f:close()
  end
  local forms = { "mod_a/a/mod_a.lua", "mod_a/mod_a.lua", "a/mod_a.lua", "mod_a.lua", "share/lua/5.4/mod_a.lua",
    "share/lua/5.4/mod_a/mod_a.lua" }
  for i, form in ipairs(forms) do write(i .. "/" .. form, "return " .. i) end
  for i, form in ipairs(forms) do
    loader.set_paths { dir .. "/" .. i .. "/" }
    check.equal(loader.find "a", dir .. "/" .. i .. "/" .. form)
  end
  loader.set_paths { dir .. "/2", dir .. "/1" }
  check.equal(loader.load_code("a", nil, {})(), 2)
  write("c/mod_x.lua", "--% conflicts: mod_muc\nreturn 1")
  write("d/mod_x.lua", "#!/usr/bin/lua\n--% requires: permissions\n--% lua: 5.3, 5.4\n--% api: 1\n\nreturn 2")
  write("e/mod_x.lua", "--% lua: 5.1\nreturn 3")
  loader.set_paths { dir .. "/c", dir .. "/e", dir .. "/d" }
  local chunk, path, meta = loader.load_code("x", nil, {})
  check.equal({ chunk(), path, meta.api, meta.requires }, { 2, dir .. "/d/mod_x.lua", 1, { "permissions" } })
  loader.set_paths { dir .. "/c", dir .. "/e" }
  local none, why = loader.load_code("x", nil, {})
  check.ok(not none and why:find "mod_muc built in" and why:find "for Lua 5.1")
  write("f/mod_y/y.lib.lua", "return 'lib'")
  write("f/mod_y/plain.lua", "return 'plain'")
  write("f/mod_y/data.txt", "text")
  loader.set_paths { dir .. "/f" }
  check.equal(loader.load_code_ext("y", "y", "lib.lua", {})(), "lib")
  check.equal(loader.load_code_ext("y", "plain", "lib.lua", {})(), "plain")
  check.equal(loader.load_resource("y", "data.txt"), "text")
  for _, bad in ipairs { "../y", "/etc/passwd", "" } do check.equal(loader.load_resource("y", bad), nil) end
  write("g/mod_broken.lua", "x = = 1")
  loader.set_paths { dir .. "/g" }
  none, why = loader.load_code("broken", nil, {})
  check.ok(not none and why:find "mod_broken.lua:1")

  -- module:require and its forms
  write("h/mod_main/mod_main.lua", [[
    own = module:require "own"
    same = module:require "own" == own
    util = module:require "other/util"
    pre = module:require "mod_other/util"
    lib = module:require "solo"
    leaked = set_by_lib
  ]])
  write("h/mod_main/own.lib.lua", "set_by_lib = module.name return { name = 'own' }")
  write("h/mod_other/util.lib.lua", "return { name = 'util of ' .. module.name }")
  write("h/mod_solo/solo.lib.lua", "return 'solo'")
  local host = fake.new { global = { plugin_paths = { dir .. "/h" } } }
  local env = host:load "main"
  check.equal({ env.own.name, env.same, env.util.name, env.pre.name, env.lib, env.leaked },
    { "own", true, "util of main", "util of main", "solo", "main" })
  local ok, err = host:try_load("bad", [[module:require "nothere"]])
  check.ok(not ok and err:find "cannot load library nothere")
  if loader.find("adhoc", "adhoc.lib.lua") then
    check.ok(host:load("ad", [[new = module:require "adhoc".new]]).new)
  end
  check.ok(env.module:get_directory():find "mod_main$")
  check.equal(host:close(), {})
  os.execute("rm -r '" .. dir .. "'")
end)

check.test("what a host gets (§13)", function()
  local plugin = require "couplet.plugin"
  local config = require "couplet.config"
  local function use(options)
    config.use { options = options, order = {}, files = {}, warnings = {}, directory = "/", places = { ["*"] = {} } }
  end
  use {
    ["*"] = { modules_enabled = { "roster", "tls", "mam", "smacks" }, modules_disabled = { "offline" } },
    ["a"] = { modules_enabled = { "extra", "roster" }, modules_disabled = { "mam" } },
    ["b"] = {},
    ["c"] = { component_module = "muc", modules_enabled = { "muc_mam" } },
  }
  local function list(host) return (select(3, plugin.get_modules_for_host(host))) end
  check.equal(list "a", { "presence", "message", "iq", "c2s", "s2s", "s2s_auth_certs", "roster", "tls", "smacks", "extra" })
  check.equal(list "b", { "presence", "message", "iq", "c2s", "s2s", "s2s_auth_certs", "roster", "tls", "mam", "smacks" })
  check.equal(list "c", { "muc", "iq", "s2s", "s2s_auth_certs", "tls", "smacks", "muc_mam" })
  local set, component = plugin.get_modules_for_host "c"
  check.ok(set:contains "muc")
  check.equal(component, "muc")
end)

check.test("hosts come and go with their plugins", function()
  local hosts, prosody = require "couplet.hosts", require "couplet.prosody"
  local host = fake.new { hosts = { ["sub.example.org"] = { modules_enabled = { "ping" } },
    ["comp.example.org"] = { component_module = "version" } } }
  local log = {}
  local names = { "host-activated", "host-deactivating", "host-deactivated" }
  for _, event in ipairs(names) do
    prosody.events.add_handler(event, log[event]
      or function(data) log[#log + 1] = event .. " " .. (type(data) == "table" and data.host or data) end)
  end
  check.equal(hosts.get_children "example.org", { "comp.example.org", "sub.example.org" })
  check.equal({ hosts.get "comp.example.org".type, hosts.get "sub.example.org".type }, { "component", "local" })
  check.ok(hosts.get "sub.example.org".modules.ping and hosts.get "comp.example.org".modules.version)
  check.equal(hosts.activate "sub.example.org", nil)
  local closed
  local client = host:client "x@sub.example.org/r"
  client.session.close = function(_, reason) closed = reason.condition end
  host:run(hosts.deactivate, "sub.example.org")
  check.equal(closed, "host-gone")
  check.equal(hosts.get "sub.example.org", nil)
  check.equal(select(2, hosts.deactivate "sub.example.org"), "The host sub.example.org is not activated")
  local added = host:run(hosts.reconcile)
  check.equal(added, { "sub.example.org" })
  host.order, host.options["sub.example.org"] = { "example.org" }, nil
  host:configure {}
  local _, removed = host:run(hosts.reconcile)
  table.sort(removed)
  check.equal(removed, { "comp.example.org", "sub.example.org" })
  check.equal(log, { "host-deactivating sub.example.org", "host-deactivated sub.example.org", "host-activated sub.example.org",
    log[4], log[5], log[6], log[7] })
  for _, event in ipairs(names) do
    for _, entry in ipairs(prosody.events.entries(event)) do
      if not entry.owner and debug.getinfo(entry.fn, "S").short_src:find "alias_test" then
        prosody.events.remove_handler(event, entry.fn)
      end
    end
  end
  host:close()
end)

check.test("a configuration read again loads and unloads plugins", function()
  local plugin = require "couplet.plugin"
  local host = fake.new { options = { modules_enabled = { "ping", "version" } } }
  check.ok(plugin.is_loaded("example.org", "ping"))
  host:configure { host = { modules_enabled = { "version", "time", "nonsuch" } } }
  local added, removed = host:run(plugin.reconcile)
  check.equal(added, { "example.org:time" })
  check.equal(removed, { "example.org:ping" })
  check.ok(plugin.is_loaded("example.org", "version") and not plugin.is_loaded("example.org", "ping"))
  check.ok(fake.logged("plugin nonsuch of example.org is not installed", "warn"))
  check.equal(host:close(), {})
end)

check.test("log functions and sinks", function()
  local logger = require "util.logger"
  local seen = {}
  local function sink(name, level, text) seen[#seen + 1] = name .. " " .. level .. " " .. text end
  logger.add_simple_sink(sink, { "warn", "error" })
  local log = logger.init "me"
  log("debug", "not seen")
  log("warn", "%s is %d", "x", 5)
  log("error", "50% %s", nil)
  check.equal(seen, { "me warn x is 5", seen[2] })
  check.ok(logger.remove_sink(sink))
  log("error", "gone")
  check.equal(#seen, 2)
  check.equal(logger.remove_sink(sink), false)
end)

check.done()
