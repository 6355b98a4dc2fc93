-- SPDX-License-Identifier: MIT
-- util.presence: select_top_resources(user) -> array of the sessions with the highest priority that is not negative.
--   recalc_resource_map(user) keeps them in user.top_resources.

local presence = {}

function presence.select_top_resources(user)
  local best, out = 0, {}
  for _, session in pairs(user.sessions) do
    local priority = session.presence and session.priority
    if priority then
      if priority > best then best, out = priority, {} end
      if priority == best then out[#out + 1] = session end
    end
  end
  return out
end

function presence.recalc_resource_map(user)
  if user then
    local top = presence.select_top_resources(user)
    user.top_resources = top[1] and top or nil
  end
end

return presence
