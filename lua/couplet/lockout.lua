-- SPDX-License-Identifier: MIT
-- lockout.lua: guessing is slowed down: after some failures that cost nothing each further one doubles the time that must pass.
--
--   local l = lockout.new(size)          remembers at most twice size keys: an account and an address, an address …
--   l:failed(key, free, longest)         one more failure; free: how many cost nothing; longest: seconds somebody waits at most
--   l:wait(key) -> seconds | nil         it is too early for another try
--   l:forget(key)                        it was right
--   lockout.network(ip) -> text          the address, or for IPv6 its /64: whoever has one address of it has all
--
-- Who has been quiet for as long as the longest wait, a minute at least, begins anew.

local clock = require "couplet.clock"
local recent = require "couplet.recent"

local lockout = {}

local Lockout = {}
Lockout.__index = Lockout

local QUIET_MIN = 60

function lockout.new(size)
  local get, set = recent.new(size)
  return setmetatable({ get = get, set = set }, Lockout)
end

function Lockout:wait(key)
  local entry = self.get(key)
  local left = entry and entry.free_at - clock.mono()
  return left and left > 0 and left or nil
end

function Lockout:failed(key, free, longest)
  local now = clock.mono()
  local entry = self.get(key)
  if not entry or now - entry.last > math.max(longest, QUIET_MIN) then entry = { count = 0, free_at = 0 } end
  entry.count, entry.last = entry.count + 1, now
  local over = entry.count - free
  if over > 0 then entry.free_at = now + math.min(2.0 ^ over, longest) end
  self.set(key, entry)
end

function Lockout:forget(key) self.set(key, nil) end

function lockout.network(ip)
  if not ip:find(":", 1, true) or ip:find("%d+%.%d+%.%d+%.%d+$") then return ip end
  local groups = {}
  for group in (ip:match "^(.-)::" or ip):gmatch "[^:]+" do groups[#groups + 1] = group end
  return table.concat(groups, ":", 1, math.min(4, #groups)) .. "::"
end

return lockout
