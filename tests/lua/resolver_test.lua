-- SPDX-License-Identifier: MIT
-- couplet.core and couplet.resolver live in one process: Debian's libev exports libevent's names, and libunbound must not
-- find them. A look-up through the core's loop would corrupt memory if it did (run under ASan by the test command).
local check = require "check"
local core = require "couplet.core"
local resolver = require "couplet.resolver"

check.test("both modules look a name up in one process", function()
  local r <close> = assert(resolver.new{ servers = { "127.0.0.1@9" } })
  local watcher = core.loop.watch(r:fd(), "r", function() r:process() end)
  local answer
  check.ok(r:lookup("localhost.", 1, function(a, err) answer = a or err core.loop.stop() end))
  local limit = core.loop.timer(10, core.loop.stop)
  core.loop.run()
  limit:stop()
  watcher:stop()
  check.equal(answer and answer[1], "\127\0\0\1")       -- libunbound's own localhost zone
end)

check.test("a cancelled look-up never answers, a closed resolver raises", function()
  local r = assert(resolver.new{ servers = { "127.0.0.1@9" } })
  local id = check.ok(r:lookup("nowhere.example.", 33, function() error("answered") end))
  r:cancel(id)
  r:close()
  check.raises("closed", r.fd, r)
end)

check.done()
