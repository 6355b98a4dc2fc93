-- SPDX-License-Identifier: MIT
-- Every plugin of ours loads, reloads and unloads on a fake host, and leaves nothing behind (D6, F5).
local check = require "check"
local fake = require "fakehost"

local names = {}
for path in io.popen "ls plugins/mod_*.lua":lines() do names[#names + 1] = path:match "mod_(.+)%.lua$" end

local plugin = require "couplet.plugin"
local component = "service.example.org"        -- where a plugin for components alone goes

-- These are the host's own from the start, or alone on a host of their own.
local begun = { auth_internal_hashed = true, authz_internal = true, storage_memory = true }

for _, name in ipairs(names) do
  check.test(name, function()
    local host = fake.new { global = { data_path = "/nonexistent" } }
    local before = host.events.count()
    local ok, err = xpcall(function()
      local rooms = name:find "^muc" ~= nil
      local place = (rooms or name == "component") and component or host.name
      if place == component then
        host:component(component, rooms and "muc" or name)
        if rooms and name ~= "muc" then assert(host:run(plugin.load, component, name)) end
      elseif not begun[name] then
        host:load(name)
      end
      local again, why = host:run(plugin.reload, place, name)
      if not again then error("did not reload: " .. tostring(why), 0) end
      if begun[name] then return end
      local on = again.module.host
      host:unload(name, on)
      -- what it loaded on its way goes as well
      for _, other in ipairs(names) do
        if not begun[other] and not other:find "^storage_" then
          host:unload(other)
          host:unload(other, "*")
          if rooms then host:unload(other, component) end
        end
      end
      check.equal(host.events.count(), before, "handlers on the host's bus")
    end, debug.traceback)
    local left = host:close()
    if not ok then error(err, 0) end
    check.equal(left, {})
    for _, line in ipairs(fake.lines "error") do
      check.ok(line:find "TLS is not available", line)          -- the fake host has no certificate, and that is told
    end
  end)
end

check.done()
