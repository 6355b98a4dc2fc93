-- SPDX-License-Identifier: MIT
-- durable.lua: acknowledged means kept. Who keeps a stanza holds it until it is kept; only then is it acknowledged.
--
--   durable.hold() -> release         called while a stanza is handled, in the task that handles it or one it has started:
--                                     the stanza counts as handled (XEP-0198 h) only when its handler has ended and every
--                                     hold is released. release(true): the effect is committed. release(false, why): it
--                                     could not be kept; why is for the log. The second call of a release does nothing.
--                                     Where nobody waits for a stanza, hold() gives a function that does nothing: cheap.
--   durable.waiting() -> boolean      would hold() hold anything?
--
-- For those who acknowledge (couplet.sm):
--   durable.begin(settled, a, b, c) -> ticket what the running task does now, it does for this stanza
--   durable.finish(ticket)            the handler has ended. settled(ok, why, a, b, c) is called once, when it is known whether
--                                     all of it is kept: in finish() if nobody holds
--
-- A writer starts the write in a task of its own and lets delivery go on meanwhile:
--   local release = durable.hold()
--   task.spawn(function()
--     local id, err = store:append(...)         -- tries again for a while if the store is in trouble
--     release(id ~= nil, err)
--   end)
-- Rules: every hold is released in the end, also when the writer fails with an error; a hold taken after the handler has
-- ended and all others are released holds nothing. Names: docs/reliability.md.

local task = require "couplet.task"

local context = task.context

local durable = {}

local tickets = {}                     -- number -> what is being handled
local last = 0

local function nothing() end

local function over(ticket)
  tickets[ticket.number] = nil
  local settled = ticket.settled
  if settled then
    ticket.settled = nil
    settled(not ticket.failed, ticket.why, ticket.a, ticket.b, ticket.c)
  end
end

function durable.begin(settled, a, b, c)
  repeat last = last % 0xffffffff + 1 until not tickets[last]
  local ticket = { number = last, holds = 1, settled = settled, a = a, b = b, c = c }    -- one hold is the handler's own
  tickets[last] = ticket
  context(last)
  return ticket
end

local function let_go(ticket)
  ticket.holds = ticket.holds - 1
  if ticket.holds == 0 then over(ticket) end
end

function durable.finish(ticket)
  if ticket.ended then return end
  ticket.ended = true
  if context() == ticket.number then context(0) end
  let_go(ticket)
end

function durable.waiting()
  local number = context()
  return number ~= 0 and tickets[number] ~= nil
end

function durable.hold()
  local number = context()
  local ticket = number ~= 0 and tickets[number]
  if not ticket then return nothing end
  ticket.holds = ticket.holds + 1
  return function(ok, why)
    local held = ticket
    if not held then return end
    ticket = nil
    if not ok and not held.failed then held.failed, held.why = true, why or "not kept" end
    let_go(held)
  end
end

return durable
