-- SPDX-License-Identifier: MIT
-- util.fsm: state machines.
--
--   new{ default_state =, transitions = { { name =, from = state | { states } | "*", to = }, … },
--        handlers = { [event] = fn }, state_handlers = { [state] = fn }, transition_handlers = { [name] = fn } } -> description
--   description:init(instance?, state?) -> fsm      fsm.state; fsm:NAME(attr?) makes the transition -> true | false, the
--   handler's answer
--
-- Handlers get { instance =, name =, from =, to =, from_attr =, to_attr = }; a transition handler that answers false refuses it.

local description = {}
description.__index = description

local function new(o)
  local self = setmetatable({ default_state = o.default_state, states = {}, names = {}, leaves = o.handlers or {},
    state_handlers = o.state_handlers or {}, transition_handlers = o.transition_handlers or {} }, description)
  for _, t in ipairs(o.transitions or {}) do
    local from = type(t.from) == "table" and t.from or { t.from }
    for _, state in ipairs(from) do
      local known = self.states[state] or {}
      self.states[state] = known
      if known[t.name] then error(("duplicate transition in FSM specification: %s from %s"):format(t.name, state), 2) end
      known[t.name] = t.to
    end
    self.names[t.name] = true
  end
  return self
end

local function target(self, state, name)
  local here, any = self.states[state], self.states["*"]
  return here and here[name] or any and any[name]
end

local function step(fsm, name, attr)
  local machine = getmetatable(fsm).machine
  local to = target(machine, fsm.state, name)
  if not to then
    error(("Invalid state transition: %s cannot %s"):format(tostring(fsm.state), name), 3)
  end
  local event = { instance = fsm, name = name, from = fsm.state, to = to, from_attr = fsm.state_attr, to_attr = attr }
  local handler = machine.transition_handlers[name]
  local result = handler and handler(event)
  if result == false then return false end
  fsm.prev_state, fsm.state, fsm.state_attr = fsm.state, to, attr
  for _, fn in ipairs { machine.state_handlers[to] or false, machine.leaves["entered"] or false } do
    if fn then fn(event) end
  end
  return true, result
end

function description:init(instance, state)
  local names = self.names
  local fsm = instance or {}
  fsm.state = state or self.default_state
  return setmetatable(fsm, { machine = self, __index = function(_, key)
    if names[key] then return function(f, attr) return step(f, key, attr) end end
  end })
end

return { new = new }
