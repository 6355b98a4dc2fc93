-- SPDX-License-Identifier: MIT
-- The module object, row by row (PLUGIN-API §2, §3, §15, §16).
local check = require "check"
local fake = require "fakehost"
local prosody = require "couplet.prosody"
local st = require "couplet.stanza"

local host

local function with(name, fn, options)
  check.test(name, function()
    host = fake.new(options)
    local ok, err = xpcall(fn, debug.traceback)
    local left = host:close()
    if not ok then error(err, 0) end
    check.equal(left, {})
  end)
end

-- --- §2 ---

with("globals: own ones stay, others' are seen", function()
  local a = host:load("a", [[
    mine = 1
    found = { type(prosody), couplet == prosody, hosts == prosody.hosts, bare_sessions == prosody.bare_sessions,
      full_sessions == prosody.full_sessions, type(log), type(import), unpack == table.unpack, loadstring == load,
      undefined_thing == nil, string ~= nil, _G.prosody == prosody, type(_G.log) }
    _G.seen_by_others = 2
    same = require "util.jid" == require "prosody.util.jid"
    split, bare = import("util.jid", "split", "bare")
  ]])
  check.equal(a.mine, 1)
  check.equal(rawget(a, "mine"), 1)
  check.equal(_G.mine, nil)
  check.equal(a.found, { "table", true, true, true, true, "function", "function", true, true, true, true, true,
    "function" })
  check.equal({ _G.seen_by_others, host:load("b", "got = seen_by_others").got }, { nil, 2 })
  check.ok(a.same)
  check.equal(a.split, require "couplet.jid".split)
end)

with("type() of a stanza: table for old plugins, userdata for new ones", function()
  local old = host:load("old", [[local st = require "util.stanza" kind = type(st.stanza "a") n = type(1) s = type("") ]])
  local new = host:load("new", "--% api: 1\n" .. [[local st = require "util.stanza" kind = type(st.stanza "a")]])
  check.equal({ old.kind, old.n, old.s }, { "table", "number", "string" })
  check.equal(new.kind, "userdata")
end)

with("print goes to the log", function()
  host:load("p", [[print("hello", 1, nil)]])
  check.ok(fake.logged("hello\t1\tnil", "info"))
end)

with("a library from outside cannot leak globals", function()
  local dir = os.tmpname()
  os.remove(dir)
  os.execute("mkdir -p " .. dir)
  local f = assert(io.open(dir .. "/leaky_lib.lua", "w"))
  f:write "leaked = 1 return { jid = require 'util.jid' }"
  f:close()
  local path = package.path
  package.path = dir .. "/?.lua;" .. path
  local a = host:load("a", [[lib = require "leaky_lib" again = require "prosody.leaky_lib"]])
  package.path = path
  os.execute("rm -r " .. dir)
  check.equal(_G.leaked, nil)
  check.equal(a.leaked, nil)
  check.equal(a.lib, a.again)
  check.equal(a.lib.jid, require "couplet.jid")
  package.loaded.leaky_lib = nil
end)

with("life: file, load, ready; unload", function()
  local a = host:load("a", [[
    order = { "file" }
    function module.load() table.insert(order, "load") end
    function module.ready() table.insert(order, "ready") end
    function module.unload() table.insert(order, "unload") end
  ]])
  check.equal(a.order, { "file", "load", "ready" })
  check.ok(a.module.loaded)
  host:unload "a"
  check.equal(a.order, { "file", "load", "ready", "unload" })
  check.equal(a.module.loaded, nil)
end)

with("ready waits for the server", function()
  local a = host:load("a", [[
    function module.ready() is_ready = true end
    module:on_ready(function() hooked = true end)
  ]])
  check.equal({ a.is_ready, a.hooked }, {})
  host:run(function() prosody.events.fire_event "server-started" end)
  check.equal({ a.is_ready, a.hooked }, { true, true })
end, { started = false })

with("reload hands state over", function()
  local code = [[
    state = { n = 0 }
    function module.save() return { n = state.n } end
    function module.restore(saved) state = saved restored = true end
    was = { module.reloading, module.saved_state }
    version = %d
  ]]
  local a = host:load("a", code:format(1))
  check.equal(a.was, { false, nil })
  a.state.n = 7
  local b = host:reload("a", code:format(2))
  check.ok(a ~= b)
  check.equal({ b.version, b.state.n, b.restored }, { 2, 7, true })
  check.equal(b.was, { true, { n = 7 } })
end)

with("restore is called without save as well", function()
  host:load("a", "")
  local b = host:reload("a", [[function module.restore(saved) got = saved end]])
  check.equal(b.got, {})
end)

with("a reload of a broken file leaves the old plugin", function()
  local a = host:load("a", "x = 1")
  local ok, err = host:reload("a", "x = ")
  check.ok(not ok and err:find "mod_a.lua:1")
  check.equal(host:module "a".environment, a)
end)

with("a plugin that fails to load leaves nothing", function()
  local before = host.events.count()
  local ok, err = host:try_load("a", [[
    module:hook("x", function() end)
    module:add_item("thing", 1)
    module:add_timer(5, function() end)
    error "no"
  ]])
  check.ok(not ok and err:find "no")
  check.equal(host.events.count(), before)
  check.equal(host:module "a", nil)
  check.ok(fake.logged("cannot be loaded", "error"))
  ok, err = host:try_load("nonsuch")
  check.ok(not ok and err:find "no mod_nonsuch.lua in /")
  check.ok(fake.logged("nonsuch.* is not installed: no mod_nonsuch.lua in", "warn"))
end)

with("a plugin that is not there is told once, with its line; a component without one is an error, and answers nobody", function()
  local function places(component)
    local current = require "couplet.config".current()
    current.files, current.sources = { "/c.lua" }, {}
    current.places = { ["*"] = { modules_enabled = { 1, 7 } }, ["example.org"] = { modules_enabled = { 1, 9 } },
      ["gone.example"] = { component_module = { 1, component } } }
  end
  host.global.modules_enabled, host.options[host.name].modules_enabled = { "nonsuch" }, { "mine" }
  host:configure {}
  places(1)
  fake.forget_log()
  for _ = 1, 2 do
    host:try_load "nonsuch"
    host:try_load "mine"
    host:try_load "other"
  end
  local lines = {}
  for _, line in ipairs(fake.lines "warn") do lines[#lines + 1] = line:match "^modulemanager: (.-): no mod_" end
  check.equal(lines, { "/c.lua:7: plugin nonsuch is not installed", "/c.lua:9: plugin mine of example.org is not installed",
    "plugin other of example.org is not installed", "plugin other of example.org is not installed" })
  host.global.modules_enabled, host.options[host.name].modules_enabled = nil, nil
  host:component("gone.example", "nowhere")
  check.ok(fake.logged("plugin nowhere of the component gone.example is not installed: no mod_nowhere.lua in .*; nobody serves",
    "error"))
  places(12)
  fake.forget_log()
  for _ = 1, 2 do host:try_load("nowhere", nil, "gone.example") end
  check.equal(#fake.lines "error", 1)
  check.ok(fake.logged("/c.lua:12: plugin nowhere of the component gone.example", "error"))
  local romeo = host:client "romeo@example.org/orchard"
  for _, stanza in ipairs { "<iq type='get' id='1' to='gone.example'><ping xmlns='urn:xmpp:ping'/></iq>",
    "<message id='1' to='a@gone.example'><body>x</body></message>" } do
    romeo:send(stanza)
    local reply = romeo:expect { id = "1" }
    check.equal({ reply.attr.type, reply:get_child("error").tags[1].name }, { "error", "service-unavailable" })
  end
end)

with("a plugin twice is refused", function()
  host:load("a", "")
  local ok, err = host:try_load "a"
  check.equal({ ok, err }, { nil, "module-already-loaded" })
end)

-- --- §2.4 ---

with("a global plugin with add_host", function()
  host:add_host "second.example"
  local code = [[
    module:set_global()
    hosts_seen = {}
    function module.add_host(m)
      if m.host == "refused.example" then return false, "not this one" end
      table.insert(hosts_seen, m.host)
      m:hook("who", function() return m.host .. " " .. m.name .. " " .. module.host end)
      m:hook_global("global", function() end)
    end
    module:hook("server-event", function() return "global" end)
  ]]
  local env = host:load("g", code)
  check.equal(env.module.host, "example.org")
  local global = require "couplet.plugin".get_module("*", "g")
  check.equal({ global.module.host, global.module.global, env.module.global }, { "*", true, false })
  check.equal(prosody.events.fire_event "server-event", "global")
  check.equal(host:fire "who", "example.org g *")
  host:load("g", nil, "second.example")
  check.equal(prosody.hosts["second.example"].events.fire_event "who", "second.example g *")
  host:add_host "refused.example"
  local ok, err = host:try_load("g", nil, "refused.example")
  check.equal({ ok, err }, { nil, "not this one" })
  check.equal(global.hosts_seen, { "example.org", "second.example" })
  host:unload("g", "second.example")
  check.equal(prosody.hosts["second.example"].events.fire_event "who", nil)
  check.equal(host:fire "who", "example.org g *")
  host:reload("g", code:gsub("m.name", "'new'"))
  check.equal(host:fire "who", "example.org new *")
  host:unload("g", "*")
  check.equal(host:fire "who", nil)
end)

with("a global plugin without add_host", function()
  host:load("g", [[module:set_global() x = 1]])
  check.equal(host:module "g".host, "*")
  local ok, err = host:try_load "g"
  check.equal({ ok, err }, { nil, "global-module-already-loaded" })
end)

with("one plugin on two hosts is two plugins", function()
  host:add_host "second.example"
  local a = host:load("a", "n = {}")
  local b = host:load("a", nil, "second.example")
  check.ok(a.n ~= b.n and a.module ~= b.module)
end)

-- --- §3.1 ---

with("name, host, type, directory, log", function()
  local m = host:load("a", "").module
  check.equal({ m:get_name(), m:get_host(), m:get_host_type(), m.name, m.host, m.global },
    { "a", "example.org", "local", "a", "example.org", false })
  check.equal(m.environment.module, m)
  host:component("c.example.org", "comp", {})
  local c = host:load("comp", "", "c.example.org").module
  check.equal(c:get_host_type(), "component")
  m:log("info", "%s %s %d %q %g", nil, st.stanza "a", 5, "q", 1.5)
  check.ok(fake.logged "example.org:a: %(nil%) <a/> 5 \"q\" 1.5")
  m:log("info", "%d %s %z", "x")
  m:log("warn", "100%")
  m._log("error", "direct")
  check.ok(fake.logged("direct", "error"))
  local ping = host:load "ping".module
  check.ok(ping:get_directory():find "plugins$")
  check.ok(ping:load_resource "mod_ping.lua":read "l":find "SPDX")
  check.equal(ping:load_resource "none", nil)
  check.ok(ping.path:find "mod_ping.lua$")
end)

with("status", function()
  local m = host:load("a", "").module
  local updates = 0
  host.events.add_handler("module-status/updated", function(e) if e.name == "a" then updates = updates + 1 end end)
  m:set_status("info", "fine")
  local kind, text, time = m:get_status()
  check.equal({ kind, text, time }, { "info", "fine", fake.time() })
  m:log_status("error", "bad %s", "thing")
  check.ok(fake.logged("bad thing", "error"))
  check.equal(m:set_status("info", "fine again"), false)
  check.equal(select(2, m:get_status()), "bad thing")
  m:set_status("info", "fine again", true)
  check.equal(select(2, m:get_status()), "fine again")
  m:set_status("core", "x")
  check.equal(m:set_status("nonsense", "x"), false)
  check.equal(updates, 4)
end)

-- --- §3.3 ---

with("hook, unhook, hook_global, hook_tag, fire_event, context", function()
  local m = host:load("a", "").module
  local log = {}
  local function f() log[#log + 1] = "f" end
  m:hook("e", f)
  m:hook("e", function() log[#log + 1] = "early" end, 10)
  m:hook("e", function() return "result" end, -1)
  check.equal(m:fire_event("e", {}), "result")
  check.equal(log, { "early", "f" })
  m:unhook("e", f)
  m:fire_event("e", {})
  check.equal(log, { "early", "f", "early" })
  m:hook_global("g", function() return "global" end)
  check.equal(prosody.events.fire_event "g", "global")
  m:hook_tag("urn:x", "el", function(origin, stanza, event) return origin .. stanza .. type(event) end)
  m:hook_stanza("plain", function(origin) return origin end)
  m:hook_tag(nil, "other", function() return "other" end, 5)
  check.equal(host:fire("stanza/urn:x:el", { origin = "o", stanza = "s" }), "ostable")
  check.equal(host:fire("stanza/plain", { origin = "o" }), "o")
  check.equal(host:fire("stanza/other", {}), "other")
  host:add_host "second.example"
  local there = m:context "second.example"
  check.equal({ there.host, there.name, m.host }, { "second.example", "a", "example.org" })
  there:hook("e2", function() return "there" end)
  check.equal(prosody.hosts["second.example"].events.fire_event "e2", "there")
  check.equal(there:fire_event "e2", "there")
  m:context "*":hook("g2", function() return "server" end)
  check.equal(prosody.events.fire_event "g2", "server")
  host:unload "a"
  check.equal(prosody.events.fire_event "g2", nil)
  check.equal(prosody.hosts["second.example"].events.fire_event "e2", nil)
  check.equal(host:fire("e", {}), nil)
end)

with("object events and wrappers", function()
  local m = host:load("a", "").module
  local bus = require "couplet.events".new()
  local function f() return "f" end
  m:hook_object_event(bus, "e", f)
  check.equal(bus.fire_event "e", "f")
  m:wrap_object_event(bus, "e", function(next, event, data) return next(event, data) .. "!" end)
  check.equal(bus.fire_event "e", "f!")
  m:unhook_object_event(bus, "e", f)
  m:hook_object_event(bus, "e", f)
  m:hook("w", function(data) return data end)
  m:wrap_event("w", function(next, event, data) return next(event, data + 1) end)
  m:wrap_global(false, function(next, event, data) return event == "stop" and "stopped" or next(event, data) end)
  check.equal(host:fire("w", 1), 2)
  check.equal(prosody.events.fire_event "stop", "stopped")
  host:unload "a"
  check.equal(bus.count(), 0)
  check.equal(prosody.events.fire_event "stop", nil)
end)

with("hook with options: priority, match, once, name", function()
  local m = host:load("a", "").module
  local n = 0
  m:hook("e", function() n = n + 1 end, { once = true, name = "counter", priority = 5 })
  m:hook("e", function() n = n + 10 end, { match = { type = "get", from_local = true } })
  local origin = { type = "c2s" }
  host:fire("e", { origin = origin, stanza = st.iq { type = "get", id = "1" } })
  host:fire("e", { origin = origin, stanza = st.iq { type = "set", id = "1" } })
  host:fire("e", { origin = { type = "s2sin" }, stanza = st.iq { type = "get", id = "1" } })
  check.equal(n, 11)
  local f = function() n = n + 100 end
  m:hook("f", f, { once = true })
  m:unhook("f", f)
  host:fire("f", {})
  check.equal(n, 11)
end)

with("an error names the plugin, is counted, and the next handler goes on", function()
  local m = host:load("a", [[module:hook("e", function() error "broken" end, 1)]]).module
  host:load("b", [[module:hook("e", function() return "b" end)]])
  check.equal(host:fire("e", {}), "b")
  check.ok(fake.logged("example.org:a: e: .*broken.*stack traceback", "error"))
  check.equal(m:usage().errors, 1)
end)

with("a slow handler is logged by name, a stuck one aborted, the next goes on (§15)", function()
  local m = host:load("a", [[module:hook("e", function() while true do end end, 1)]]).module
  host:load("b", [[module:hook("e", function() return "b" end)]])
  check.equal(host:fire("e", {}), "b")
  check.ok(fake.logged("plugin a kept the server for %d+ ms\n", "warn"))
  check.ok(fake.logged("plugin a kept the server for %d+ ms; aborted", "warn"))
  check.ok(fake.logged("example.org:a: e: .*aborted", "error"))
  check.equal({ m:usage().errors, m:usage().slow }, { 1, 2 })
end, { global = { plugin_slow_ms = 40, plugin_abort_ms = 100 } })

with("usage is measured by samples", function()
  local m = host:load("a", [[module:hook("e", function() end)]]).module
  for _ = 1, 600 do host.events.fire_event("e", {}) end
  check.ok(m:usage().calls >= 512 and m:usage().seconds > 0)
end)

with("plugin_error_policy = unload", function()
  host:load("a", [[module:hook("e", function() error "broken" end)]])
  for _ = 1, 3 do host:fire("e", {}) end
  host:advance(1)
  check.equal(host:module "a", nil)
end, { global = { plugin_error_policy = "unload", plugin_error_limit = 3 } })

-- --- §3.4 ---

with("depends: exports, once, circles, soft, unload and reload along", function()
  host:try_load("base", "value = 1 function f() return 2 end")
  local a = host:load("a", [[local base = module:depends "base" v = base.value m = base.module f = base.f()]])
  check.equal({ a.v, a.f, a.m.name }, { 1, 2, "base" })
  check.ok(a.module.dependencies.base)
  host:reload("base", "value = 5 function f() return 6 end")
  check.equal(host:module "a".environment.v, 5)
  host:unload "base"
  check.equal(host:module "a", nil)
  local ok, err = host:try_load("c", [[module:depends "nonsuch"]])
  check.ok(not ok and err:find "needs nonsuch")
  local d = host:load("d", [[env, why = module:depends("nonsuch", true)]])
  check.equal(d.env, nil)
  check.ok(d.why:find "no mod_nonsuch")
  host:try_load("x1", [[module:depends "x2"]])
  host:try_load("x2", [[module:depends "x1"]])
  check.equal(host:module "x1", nil)
end)

with("shared tables", function()
  local a = host:load("a", [[t = module:shared "x" g = module:shared "/*/a/y"
    p, q = module:shared("x", "b/z") c = module:shared "my-cache"]])
  local b = host:load("b", [[t = module:shared "a/x" g = module:shared "/*/a/y" z = module:shared "z"]])
  check.ok(a.t == b.t and a.g == b.g and a.p == a.t and a.q == b.z and a.t ~= a.q)
  check.equal(getmetatable(a.c).__mode, "kv")
  a.t.kept = 1
  host:reload "a"
  check.equal(host:module "a".environment.t.kept, 1)
end)

with("items", function()
  local log = {}
  local m = host:load("a", "").module
  local function added(e) log[#log + 1] = "+" .. tostring(e.item) .. (e.source and e.source.name or "") end
  local function removed(e) log[#log + 1] = "-" .. tostring(e.item) end
  m:add_item("k", 1)
  m:handle_items("k", added, removed)
  m:add_item("k", 2)
  check.equal(m:get_host_items "k", { 1, 2 })
  m:remove_item("k", 1)
  check.equal(log, { "+1", "+2a", "-1" })
  local b = host:load("b", [[module:add_item("k", 3)]])
  host:unload "b"
  check.equal(log, { "+1", "+2a", "-1", "+3b", "-3" })
  m:handle_items("k2", added, removed, false)
  m:handle_items("k3", added)                            -- nothing to do when one goes
  m:add_item("k3", 4)
  m:remove_item("k3", 4)
  check.equal({ log[6], log[7] }, { "+4a" })
  check.equal(b.module.items, {})
end)

with("provides", function()
  local p = host:load("warp_test", [[provider = {} module:provides("warp", provider)]])
  check.equal(p.provider.name, "test")
  check.equal(p.module:get_host_items "warp-provider"[1], p.provider)
  local q = host:load("thing_x", [[function f() return 1 end module:provides "thing"]])
  check.equal(q.module:get_host_items "thing-provider"[1].f(), 1)
  check.equal(rawget(q, "name"), "x")
end)

with("features, identities, extensions", function()
  local m = host:load("a", [[module:add_feature "urn:f" module:add_identity("server", "im", "N")
    module:add_extension "form"]]).module
  check.equal(m:get_host_items "feature", { "urn:f" })
  check.equal(m:get_host_items "identity", { { category = "server", type = "im", name = "N" } })
  check.equal(m:get_host_items "extension", { "form" })
end)

-- --- §3.5 ---

with("send_iq: result, error, somebody else's answer, timeout, unload", function()
  local a = host:load("a", [[
    local st = require "util.stanza"
    log = {}
    function ask(to, timeout)
      module:send_iq(st.iq { type = "get", to = to, id = "q" .. #log }:query "urn:x", nil, timeout)
        :next(function(e) log[#log + 1] = e.stanza.attr.type .. " " .. e.stanza.attr.from end,
          function(e) log[#log + 1] = e.condition end)
    end
  ]])
  local romeo, tybalt = host:client "romeo@example.org/r", host:client "tybalt@example.org/t"
  host:run(a.ask, "romeo@example.org/r")
  local iq = romeo:expect { name = "iq", type = "get" }
  check.equal(iq.attr.from, "example.org")
  tybalt:send(st.iq { type = "result", to = "example.org", id = iq.attr.id })
  check.equal(a.log, {})
  romeo:send(st.reply(iq))
  check.equal(a.log, { "result romeo@example.org/r" })
  romeo:send(st.reply(iq))
  check.equal(#a.log, 1)
  host:run(a.ask, "romeo@example.org/r")
  romeo:send(st.error_reply(romeo:expect { name = "iq", type = "get" }, "cancel", "forbidden"))
  check.equal(a.log[2], "forbidden")
  host:run(a.ask, "romeo@example.org/r", 30)
  host:advance(29)
  check.equal(#a.log, 2)
  host:advance(2)
  check.equal(a.log[3], "remote-server-timeout")
  host:run(a.ask, "romeo@example.org/r")
  check.equal(a.module:usage().handles.iq, 1)
  host:unload "a"
  check.equal(a.log[4], "undefined-condition")
  check.raises("wants an iq", function() a.module:send_iq(st.message {}) end)
end, { plugins = { "iq" } })

with("send and broadcast", function()
  local m = host:load("a", "").module
  local romeo = host:client "romeo@example.org/r"
  m:send(st.iq { type = "set", id = "1", to = "romeo@example.org/r", from = "example.org" }:query "urn:x")
  romeo:expect { name = "iq", id = "1" }
  m:broadcast({ "x@far.example", "y@far.example" }, st.message({ from = "example.org" }, "hi"))
  check.equal({ host:expect_sent { name = "message", to = "x@far.example" }.attr.from, #host:sent() }, { "example.org", 1 })
  m:broadcast({ ["z@far.example"] = true }, st.message({ from = "example.org" }, "hi"), pairs)
  host:expect_sent { to = "z@far.example" }
end, { plugins = { "iq" } })

-- --- §3.6 ---

with("timers", function()
  local m = host:load("a", "").module
  local log = {}
  m:add_timer(5, function(now, a, b) log[#log + 1] = now - 1700000000 .. a .. b end, "x", "y")
  local n = 0
  m:add_timer(1, function() n = n + 1 if n < 3 then return 2 end end)
  host:advance(10)
  check.equal(log, { "5.0xy" == log[1] and "5.0xy" or "5xy" })
  check.equal(n, 3)
  local t = m:add_timer(1, function() log[#log + 1] = "stopped?" end)
  t:stop()
  t:disarm()
  local late = m:add_timer(1, function() log[#log + 1] = "late" end)
  late:reschedule(20)
  host:advance(10)
  check.equal(#log, 1)
  host:advance(11)
  check.equal(log[2], "late")
  m:add_timer(1, function() error "timer trouble" end)
  host:advance(2)
  check.ok(fake.logged("timer: .*timer trouble", "error"))
  local never
  m:add_timer(50, function() never = true end)
  host:unload "a"
  host:advance(100)
  check.equal(never, nil)
end)

with("timer callbacks may wait", function()
  local m = host:load("a", [[
    local async = require "util.async"
    module:add_timer(1, function() async.sleep(5) woke = true end)
  ]])
  host:advance(3)
  check.equal(m.environment, m.module and nil)
  local env = host:module "a".environment
  check.equal(env.woke, nil)
  host:advance(4)
  check.equal(env.woke, true)
end)

with("cron: the last run is kept over a reload and a restart", function()
  local code = [[
    runs = {}
    module:cron { name = "tidy", when = "hourly", run = function(task, time) table.insert(runs, time) end }
    module:daily(function() dailies = (dailies or 0) + 1 end)
    module:weekly("w", function() error "weekly trouble" end)
  ]]
  local a = host:load("a", code)
  check.equal(#host:module "a":get_host_items "task", 3)
  host:advance(400)
  check.equal({ #a.runs, a.dailies }, { 1, 1 })
  check.ok(fake.logged("weekly trouble", "error"))
  host:advance(3600)
  check.equal(#a.runs, 2)
  local last = a.runs[2]
  local b = host:reload("a", code)
  host:advance(last + 3599 - fake.time())
  check.equal(#b.runs, 0)
  host:advance(2)
  check.equal(#b.runs, 1)
  host:unload "a"
  host:advance(5 * 3600)
  local c = host:load("a", code)
  host:advance(1)
  check.equal(#c.runs, 1)
  check.raises("hourly, daily or weekly", function() c.module:cron { when = "sometimes", run = print } end)
end)

with("open_store: per host; not for global plugins", function()
  local a = host:load("a", [[
    store = module:open_store()
    map = module:open_store("things", "map")
    bad, why = module:open_store("x", "no-such-type")
    store:set("romeo", { n = 1 })
    map:set("romeo", "k", "v")
  ]])
  check.equal(host:store "a":get "romeo", { n = 1 })
  check.equal(host:store("things", "map"):get("romeo", "k"), "v")
  check.equal({ a.bad, a.why }, { nil, "unsupported-store" })
  host:load("g", [[module:set_global() s, why = module:open_store()]])
  check.equal(host:module "g".environment.why, "global-storage-not-supported")
end)

with("measurements and metrics", function()
  local code = [[
    module:measure("size", "amount")(5)
    module:measure("hits", "rate")(2)
    local stop = module:measure("work", "times")()
    stop()
    module:metric("gauge", "level", "", "how high", { "where" }):with_labels("here"):set(7)
  ]]
  host:load("a", code)
  local render = require "couplet.metrics".render
  local text = host:run(render)
  check.ok(text:find 'couplet_mod_a_size{host="example.org"} 5' and text:find 'couplet_mod_a_hits_total{host="example.org"} 2')
  check.ok(text:find 'couplet_mod_a_level{where="here"} 7' and text:find "couplet_mod_a_work_seconds_count")
  host:add_host "second.example"
  host:load("a", nil, "second.example")
  host:unload "a"
  check.ok(host:run(render):find "couplet_mod_a_level")
  host:unload("a", "second.example")
  check.ok(not host:run(render):find "couplet_mod_a_")
  check.raises("unknown kind", function() host:load("b", "").module:measure("x", "nonsense") end)
end)

with("web addresses", function()
  local m = host:load("http_files", "").module
  check.equal(m:http_url(), "https://example.org:5281/files")
  check.equal(m:http_url("app", "/x"), "https://example.org:5281/x")
  host:configure { host = { http_external_url = "https://web.example/", http_paths = { files = "/f/$host" } } }
  check.equal(m:http_url(), "https://web.example/f/example.org")
  host:configure { host = { http_external_url = false } }
end)

with("a task that fails outside of any handler is counted for the plugin its file names", function()
  local a = host:load("a", [[local spawn = require "couplet.task".spawn
    function fail() require "util.timer".add_task(1, function() spawn(function() error "x" end) end) end]])
  host:run(a.fail)
  host:advance(2)
  check.ok(fake.logged("plugin a: mod_a.lua:2: x", "error"))
  check.equal(a.module:usage().errors, 1)
end)

-- --- §3.8 ---

with("permissions", function()
  local m = host:load("purge", [[
    module:default_permission("prosody:admin", ":purge")
    module:default_permissions("prosody:registered", { ":look", "other:thing" })
  ]]).module
  local function both(action, context) return { host:run(m.may, m, action, context), host:run(m.could, m, action, context) } end
  check.equal(both(":purge", "admin@example.org"), { true, true })
  check.equal(both(":purge", "romeo@example.org/r"), { false, false })
  check.ok(fake.logged "access denied: .*purge:purge")
  check.equal(both(":look", "romeo@example.org"), { true, true })
  check.equal(both("other:thing", "romeo@example.org"), { true, true })
  check.equal(both(":look", "x@far.example"), { false, false })
  local romeo = host:client "admin@example.org/r"
  check.equal(both(":purge", { origin = romeo.session, stanza = st.iq { type = "get", id = "1", from = "admin@example.org/r" } }),
    { true, true })
  check.equal(both(":purge", { actor_jid = "admin@example.org" }), { true, true })
  check.equal(both(":purge", {}), { false, false })
end, { options = { admins = { "admin@example.org" } } })

with("on_ready gives a promise", function()
  local a = host:load("a", [[module:on_ready(function() return 5 end):next(function(v) got = v end)]])
  check.equal(a.got, 5)
end)

-- --- §3.9 ---

with("requires", function()
  host:load("ok", [[module:requires { api = 1, features = { "permissions" } }]])
  local ok, err = host:try_load("a", [[module:requires { features = { "permissions", "warp-drive" } }]])
  check.ok(not ok and err:find "warp%-drive")
  ok, err = host:try_load("b", [[module:requires { api = 99 }]])
  check.ok(not ok and err:find "API 99")
  ok, err = host:try_load("c", "--% requires: warp-drive\n")
  check.ok(not ok and err:find "warp%-drive")
end)

with("declared options and their changes", function()
  local a = host:load("a", [[
    module:config { greeting = { default = "hi", doc = "what to say" },
      size = { type = "integer", default = 5, min = 1, max = 10 },
      mode = { enum = { "x", "y" }, default = "x" }, wait = { type = "period", default = "1 minute" } }
    c = module.config
    module:on_config_change(function(changed) seen = changed end)
  ]])
  check.equal({ a.c.greeting, a.c.size, a.c.mode, a.c.wait }, { "hi", 10, "x", 60 })
  check.ok(fake.logged "size of example.org is above the greatest value 10")
  host:configure { host = { greeting = "hello", mode = "z" } }
  check.equal({ a.c.greeting, a.c.size, a.c.mode }, { "hello", 10, "x" })
  check.equal(a.seen, { greeting = true })
  check.ok(fake.logged "option mode of example.org is \"z\", but one of")
  check.raises("in the configuration file", function() a.c.greeting = "x" end)
end, { options = { size = 50 } })

with("spawn, on_unload, usage", function()
  local a = host:load("a", [[
    log = {}
    local async = require "util.async"
    t = module:spawn(function(x) log[1] = x async.sleep(10) log[2] = "never" end, "began")
    module:spawn(function() error "task trouble" end)
    module:on_unload(function() table.insert(log, "first registered") end)
    module:on_unload(function() table.insert(log, "last registered") end)
    module:hook("x", function() end)
  ]])
  check.equal(a.log, { "began" })
  check.ok(fake.logged("task: .*task trouble", "error"))
  check.equal(a.module:usage().handles, { hook = 1, task = 1 })
  host:unload "a"
  check.equal(a.log, { "began", "last registered", "first registered" })
  host:advance(20)
  check.equal(#a.log, 3)
  local b = host:load("b", [[local async = require "util.async" t = module:spawn(function() async.sleep(1) end)]])
  host:advance(2)
  check.equal(b.module:usage().handles.task, 0)
end)

with("jobs", function()
  local a = host:load("a", [[
    local async = require "util.async"
    function work(kind, args) return async.wait_for(module:job(kind, args)) end
  ]])
  local function work(kind, args) return host:run(a.work, kind, args) end
  check.equal(work("hash", { name = "sha256", data = "abc", hex = true }),
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
  local hex = require "couplet.core".crypto.hex_encode
  check.equal(hex(work("pbkdf2", { name = "sha1", password = "password", salt = "salt", iterations = 2 })),
    "ea6c014dc72d6f8ffd08a22b2ffaa8c54d8f8a2f" and
    hex(require "couplet.core".crypto.pbkdf2_sync("sha1", "password", "salt", 2, 20)))
  -- RFC 7914 §12
  check.equal(hex(work("scrypt", { password = "", salt = "", n = 16, r = 1, p = 1, length = 64 })):sub(1, 32),
    "77d6576238657b203b19ca42c18a0497")
  for _, format in ipairs { "zlib", "gzip", "raw" } do
    local packed = work("deflate", { format = format, data = ("x"):rep(100000) })
    check.ok(#packed < 1000)
    check.equal(work("inflate", { format = format, data = packed }), ("x"):rep(100000))
    check.equal({ work("inflate", { format = format, data = packed, limit = 5000 }) }, { nil, "more data than allowed" })
  end
  check.equal({ work("inflate", { data = "nonsense" }) }, { nil, "not valid compressed data" })
  check.equal({ work("inflate", { data = "" }) }, { nil, "not valid compressed data" })
  check.equal(work("image", { data = "\137PNG\r\n\26\n\0\0\0\13IHDR\0\0\2\128\0\0\1\224" }),
    { type = "image/png", width = 640, height = 480 })
  check.equal(work("image", { data = "GIF89a\10\0\20\0" }), { type = "image/gif", width = 10, height = 20 })
  check.equal(work("image", { data = "\255\216\255\224\0\4xx\255\192\0\17\8\0\20\0\10\3" }),
    { type = "image/jpeg", width = 10, height = 20 })
  check.equal({ work("image", { data = "text" }) }, { nil, "not an image of a kind known here" })
  check.raises("no such kind", work, "nonsense")
  check.equal(a.module:usage().handles.job, 0)
end)

with("unloading leaves nothing (F5)", function()
  local counts = { host.events.count(), prosody.events.count() }
  local code = [[
    module:hook("a", function() end)
    module:hook_global("b", function() end)
    module:hook("c", function() end, { once = true })
    module:wrap_event("a", function(n, e, d) return n(e, d) end)
    module:wrap_global("b", function(n, e, d) return n(e, d) end)
    module:add_timer(5, function() return 5 end)
    module:add_item("k", {})
    module:add_feature "urn:x"
    module:shared "s"
    module:handle_items("k", function() end, function() end)
    module:provides("x", {})
    module:on_config_change(function() end)
    module:events_doc { ["a/b"] = "payload" }
    module:spawn(function() require "util.async".sleep(100) end)
    module:on_ready(function() end)
  ]]
  host:load("a", code)
  for _ = 1, 3 do host:reload "a" end
  local module = host:module "a"
  host:unload "a"
  check.equal({ host.events.count(), prosody.events.count() }, counts)
  check.equal(module._owned, {})
  check.equal(module.items, {})
  check.equal(host:leaks(), {})
end)

-- --- §16 ---

with("strict mode", function()
  local rows = {
    { [[if false then module:no_such_method() end]], ":2: module has no method or field no_such_method" },
    { [[local m = module m:no_such_method()]], "no method or field no_such_method" },
    { [[string.x = 1]], "read%-only" },
    { [[_G.x = 1]], "read%-only" },
    { [[require "util.jid".split = nil]], "read%-only" },
    { [[prosody.hosts = {}]], "read%-only" },
    { [[prosody.hosts["example.org"] = nil]], "read%-only" },
    { [[module:get_option_string("undeclared")]], "not declared" },
  }
  for i, row in ipairs(rows) do
    local ok, err = host:try_load("s" .. i, "--% api: 1\n" .. row[1])
    check.ok(not ok and err:find(row[2]), row[1] .. " -> " .. tostring(err))
  end
  host:load("fine", "--% api: 1\n" .. [[
    module:config { opt = { default = "x" } }
    mine = module:get_option_string("opt", "y") .. module.config.opt .. #prosody.hosts
    for name in pairs(prosody.hosts) do host_seen = name end
    local jid = require "util.jid"
    split = jid.split "a@b/c"
    function module.load() loaded = module.reloading end
  ]])
  check.equal({ host:module "fine".environment.mine, host:module "fine".environment.host_seen }, { "yx0", "example.org" })
  host:load("hooks", "--% api: 1\n" .. [[module:hook("resource-bind", print) module:hook("hooks/own", print)
    module:hook("resuorce-bind", print)]])
  check.ok(fake.logged("resuorce%-bind.*no event of the server", "warn"))
  check.equal(#fake.lines "warn", 1)
  local ok, err = host:try_load("future", "--% api: 7\n")
  check.ok(not ok and err:find "API 7")
end)

check.done()
