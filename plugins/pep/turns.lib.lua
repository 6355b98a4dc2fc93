-- SPDX-License-Identifier: MIT
-- pep/turns: who comes and goes without end is told the last items of all nodes now and then, not each time: what he sends is
-- one small presence, what he gets, and what is read for it, may be megabytes.
--
--   turns(username, full, fn)      fn runs in a task: now; for who has come too often, later, and only the last one given

local budget = require "couplet.budget"
local jid = require "util.jid"
local task = require "couplet.task"

local COMINGS, SECONDS = 20, 300       -- of one account's resources, to one account of ours
local WAITING_MAX = 5000

local may_come = budget.new(20000, COMINGS, SECONDS)
local waiting, n_waiting = {}, 0       -- account \0 full_jid -> fn

return function(username, full, fn)
  local key, who = username .. "\0" .. jid.bare(full), username .. "\0" .. full
  if waiting[who] then
    waiting[who] = fn
    return
  end
  if may_come(key) then
    task.spawn(fn)
  elseif n_waiting < WAITING_MAX then
    waiting[who], n_waiting = fn, n_waiting + 1
    task.spawn(function()
      repeat task.sleep(SECONDS / COMINGS) until may_come(key)
      local last = waiting[who]
      waiting[who], n_waiting = nil, n_waiting - 1
      last()
    end)
  end
end
