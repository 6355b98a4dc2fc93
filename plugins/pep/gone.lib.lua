-- SPDX-License-Identifier: MIT
-- pep/gone: accounts that are deleted. Their data goes with all other stores; and nobody who gets the name later shall find
-- himself in the lists of others' nodes, which are looked through, account by account, in the background.
--
-- pep: { forget(username), in_memory(username) -> service | nil, get_service(username), all_nodes = store }

local jid = require "util.jid"
local task = require "couplet.task"

local SLICE = 20                       -- accounts looked at before others have their turn

local function names_him(data, who)
  for _, object in pairs(data or {}) do
    if type(object) == "table" then
      for _, list in ipairs { object.affiliations or {}, object.subscribers or {}, object.pending or {} } do
        for other in pairs(list) do
          if jid.bare(other) == who then return true end
        end
      end
    end
  end
  return false
end

return function(pep)
  module:hook_global("user-deleted", function(event)
    local who, ours = event.username .. "@" .. event.host, event.host == module.host
    if ours then pep.forget(event.username) end
    task.spawn(function()
      local names = {}
      for username in pep.all_nodes:users() or function() end do
        if not ours or username ~= event.username then names[#names + 1] = username end
      end
      for i, username in ipairs(names) do
        local service = pep.in_memory(username)
        if not service and names_him(pep.all_nodes:get(username), who) then service = pep.get_service(username) end
        if service then service:forget_person(who) end
        if i % SLICE == 0 then task.sleep(0) end
      end
    end)
  end)
end
