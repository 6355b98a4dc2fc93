-- SPDX-License-Identifier: MIT
-- resolve.lua: couplet.core's loop and couplet.resolver in one process. Each line of input is a question, "TYPE name"; the answer
-- is a line too. resolve.lua SERVER ANCHORFILE

local core = require "couplet.core"
local dns = require "couplet.util.dns"
local resolver = require "couplet.resolver"

local r = assert(resolver.new { servers = { arg[1] }, anchor_file = arg[2],
  options = { ["do-not-query-localhost:"] = "no", ["infra-host-ttl:"] = "0" } })
local watcher = core.loop.watch(r:fd(), "r", function() r:process() end)
io.stdout:setvbuf "line"

for line in io.lines() do
  local kind, name = line:match "^(%S+) (%S+)$"
  local said
  assert(r:lookup(name, dns.types[kind], function(result, err)
    local answer = result and dns.answer(result)
    local words = { err or answer.status, answer and (answer.bogus and "bogus" or answer.secure and "secure") or "insecure" }
    for _, rr in ipairs(answer or {}) do words[#words + 1] = tostring(rr[kind]) end
    said = table.concat(words, " ")
    core.loop.stop()
  end))
  local limit = core.loop.timer(60, core.loop.stop)
  while not said do core.loop.run() end
  limit:stop()
  print(said)
end
watcher:stop()
r:close()
