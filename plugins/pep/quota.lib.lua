-- SPDX-License-Identifier: MIT
-- pep/quota: what an account may keep in all its nodes together (pep_max_account_size). What comes in is added up; what goes
-- again is not known until the account is measured anew, which is done when the sum says that it is full.
--
--   quota.has_room(service, bytes) -> bool         may wait

local clock = require "couplet.clock"

local quota = {}

local OVERHEAD = 512                   -- of an item, besides of what is in it
local SLACK = 1 / 256                  -- of the bound: so much comes in before an account is measured for the first time since it
                                       -- was read, because most who come online publish little and at once
local PAUSE = 10                       -- seconds between two measurements of a full account

local function measure(service)
  local sum = 0
  local names = {}
  for name in pairs(service.nodes) do names[#names + 1] = name end
  for _, name in ipairs(names) do
    local store = module:open_store("pep_" .. name, "archive")
    local n, bytes
    if store.measure then n, bytes = store:measure(service.user) end
    sum = sum + (bytes or 0) + (n or 0) * OVERHEAD
  end
  service.kept, service.measured = sum, clock.mono()
end

function quota.has_room(service, bytes)
  local most, more = module.config.pep_max_account_size, bytes + OVERHEAD
  local known = service.kept ~= nil
  if not known then
    service.unmeasured = (service.unmeasured or 0) + more
    if service.unmeasured <= most * SLACK then return true end
    measure(service)
  end
  if service.kept + more > most and known and clock.mono() - service.measured >= PAUSE then measure(service) end
  if service.kept + more > most then return false end
  service.kept = service.kept + more
  return true
end

return quota
